"""Keeps the certificates of a mesh's parts in files that Envoy and the workers read, made anew long before they end.

One file a part holds its certificate and key together, so that one rename changes both; one file holds the roots that
are trusted. All are readable by their owner alone, and written as Envoy reads secrets (SDS). Knows nothing of who the
parts are and of what is done with the files.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from tulle.errors import LimitExceeded, Unavailable
from tulle.gateway.envoy_values import Json, typed
from tulle.gateway.private_file import replace_private
from tulle.gateway.trust.authority import Authorities, Authority, Lives, issuer
from tulle.gateway.trust.certificate import Facts, Pair
from tulle.gateway.trust.held import Held, read_held
from tulle.gateway.trust.identity import Identity
from tulle.gateway.trust.transport import BUNDLE, FOLDER

_SECRET: Final = "envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105  a type's name
_Stamp = tuple[int, int]
LOOK_SECONDS: Final = 5.0  # between looks at files, as long as nothing else is wanted
_SPREAD_SECONDS: Final = 1.0  # between the roots and what is signed by a new one


class CertificateFiles:
    """The files of one mesh, in `state_folder`/run/trust."""

    def __init__(self, state_folder: Path, authorities: Authorities) -> None:
        self._folder = state_folder / FOLDER
        self._authorities = authorities
        self._seen: dict[str, tuple[_Stamp, Held]] = {}
        self.changes = 0  # how many files were written
        self._looked: tuple[object, float] | None = None  # what was wanted then, and when again

    def keep(self, mesh: str, wanted: Collection[Identity], at: float) -> tuple[str, ...]:
        """Write what is missing, due, damaged or signed by an authority that was replaced; the names written.

        `mesh` is the mesh's name, for the first authority. The roots come first: nobody meets a certificate whose root
        is not known yet. Raises LimitExceeded when the disk is full, Unavailable when files cannot be written; what is
        there stays.
        """
        known = self._authorities.keep(mesh, at)
        asked = frozenset(wanted), issuer(known, at).id, tuple((o.id, o.intermediate) for o in known)
        if self._looked is not None and self._looked[0] == asked and 0 < self._looked[1] - at <= LOOK_SECONDS:
            return ()
        with plain_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            signing, written = self._spread(known, at)
            for identity in sorted(wanted, key=lambda one: one.file_name):
                held = self._held(identity.file_name)
                if (
                    held is None
                    or held.facts.uri != identity.uri
                    or not held.certificate.endswith(signing.intermediate)
                    or _is_due(held.facts, at, self._authorities.lives)
                ):
                    pair = self._authorities.issue(identity, at, by=signing.id)
                    content = _secret(identity.file_name, tls_certificate=_texts(pair))
                    replace_private(self._path(identity.file_name), content)
                    written.append(identity.file_name)
        self.changes += len(written)
        self._looked = asked, at + (_SPREAD_SECONDS if BUNDLE in written else LOOK_SECONDS)
        return tuple(written)

    def has(self, identity: Identity) -> bool:
        """Whether there is a file for a part."""
        return self._path(identity.file_name).exists()

    def held(self, identity: Identity) -> Held | None:
        """The certificate of a part with its key; None when there is none."""
        return self._held(identity.file_name)

    def forget(self, but: Collection[Identity]) -> None:
        """Remove the certificates of all parts that are not among `but`."""
        kept = {BUNDLE, *(one.file_name for one in but)}
        for file in self._folder.glob("*.json") if self._folder.is_dir() else ():
            if file.stem not in kept:
                file.unlink(missing_ok=True)
                self._seen.pop(file.stem, None)

    def _spread(self, known: Sequence[Authority], at: float) -> tuple[Authority, list[str]]:
        """Write which roots are trusted; who signs now, and what was written."""
        trusted = [one for one in known if one.trusted_until is None or at < one.trusted_until]
        signing = issuer(known, at)
        content = _secret(
            BUNDLE,
            validation_context={"trusted_ca": {"inline_string": "".join(one.root for one in trusted)}},
        )
        try:
            before = self._path(BUNDLE).read_bytes()
        except FileNotFoundError:
            before = b""
        if before == content:
            return signing, []
        replace_private(self._path(BUNDLE), content)
        # Who signs must have been known for a while, also when nobody was here to make that known in time.
        roots = _roots_in(before)
        longer = (one for one in trusted if one.issues_from <= at and one.root in roots)
        return next(longer, signing), [BUNDLE]

    def _held(self, name: str) -> Held | None:
        path = self._path(name)
        try:
            found = path.stat()
        except FileNotFoundError:
            return None
        stamp = (found.st_mtime_ns, found.st_ino)
        if name not in self._seen or self._seen[name][0] != stamp:
            held = read_held(path)
            if held is None:
                return None
            self._seen[name] = (stamp, held)
        return self._seen[name][1]

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"


def _is_due(about: Facts, at: float, lives: Lives) -> bool:
    """Whether a certificate is to be made anew at a time; also where the clock was put back before it begins."""
    return not about.holds(at) or at - (about.ends_at - lives.leaf) >= lives.renewed_after


def _secret(name: str, **content: Any) -> bytes:
    resource = typed(_SECRET, name=name, **content)
    version = hashlib.sha256(msgspec.json.encode(resource)).hexdigest()[:16]
    return msgspec.json.encode({"version_info": version, "resources": [resource]})


def _texts(pair: Pair) -> Json:
    return {
        "certificate_chain": {"inline_string": pair.certificate},
        "private_key": {"inline_string": pair.key},
    }


def _roots_in(content: bytes) -> str:
    try:
        (secret,) = msgspec.json.decode(content)["resources"]
        return str(secret["validation_context"]["trusted_ca"]["inline_string"])
    except (ValueError, LookupError, TypeError):
        return ""


@contextlib.contextmanager
def plain_errors(folder: Path) -> Iterator[None]:
    """Say what the operating system's refusal to write in `folder` means for the user."""
    try:
        yield
    except OSError as exc:
        if exc.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise LimitExceeded(
                f"disk full: the files in {folder} could not be written ({exc.strerror})",
                hint="free some disk space; what is there stays in use, `tulle trust show` tells until when",
            ) from exc
        raise Unavailable(
            f"the files in {folder} could not be read or written: {os.fspath(exc.filename or folder)} "
            f"({exc.strerror or exc})",
            hint=f"check who owns {folder} and whether something else is in its place",
        ) from exc
