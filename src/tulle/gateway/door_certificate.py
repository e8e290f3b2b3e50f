"""The certificate that the gateway shows to its callers: one's own from files, or one that the mesh makes and renews.

Envoy watches one file with certificate and key together, so that one rename changes both and no connection is lost.
What cannot be used is refused with its reason before Envoy sees it, and what was shown before stays. Knows nothing of
what runs, and nothing of the certificates by which parts of the mesh meet (`gateway.trust`).
"""

from __future__ import annotations

import hashlib
import socket
import stat
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tulle.config import GatewayTls, Settings
from tulle.errors import Invalid, TulleError
from tulle.gateway.envoy_values import CERTIFICATE, FOLDER, typed
from tulle.gateway.local_authority import covers, ends_at, issue, make_authority
from tulle.gateway.private_file import replace_private
from tulle.gateway.trust.certificate import Pair
from tulle.gateway.trust.certificate_files import plain_errors
from tulle.state.db import now

HOME: Final = "tls"  # of .tulle/
SHOWN: Final = f"{HOME}/gateway.pem"  # what callers are shown, without the key
HOSTS: Final = f"{HOME}/hosts.json"  # by which the APIs in force are called
AUTHORITY: Final = f"{HOME}/authority.pem"  # what signed it where the mesh made it: what callers may trust
_AUTHORITY_KEY: Final = f"{HOME}/authority.key"
DAY: Final = 86_400.0
LEAF_SECONDS: Final = 90 * DAY
LOOK_SECONDS: Final = 2.0  # between looks at files that may have been replaced
_MOST_HOSTS: Final = 100  # of APIs in a certificate that the mesh makes: every caller gets all of it
_SECRET: Final = "envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105  a type's name
_SMALLEST_RSA: Final = 2048
_ODD_EXTENSIONS: Final = (x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
_CURVES: Final = ("secp256r1", "secp384r1", "secp521r1")


@dataclass(frozen=True, slots=True)
class Shown:
    """What is told of the certificate in use: whom it is for, from when to when (seconds since the epoch)."""

    names: tuple[str, ...]
    issuer: str
    begins_at: float
    ends_at: float
    self_signed: bool
    trouble: str = ""  # why what should be in its place is not
    uncovered: tuple[
        str, ...
    ] = ()  # hosts of APIs in force that it is not for, so that no caller believes it there

    @property
    def advice(self) -> str:
        """What to do about hosts that it is not for."""
        return _advice(is_made=self.self_signed)

    def state(self, at: float) -> str:
        """`valid`; `late` where it should have been renewed; `ended`."""
        if not self.begins_at <= at < self.ends_at:
            return "ended"
        left, whole = self.ends_at - at, self.ends_at - self.begins_at
        return "late" if left < min(whole / 4, 14 * DAY) else "valid"


class DoorCertificate:
    """The certificate of one mesh's gateway. For one process at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._state = settings.state_folder
        self._looked: float | None = None
        self._taken: object = None  # what the files were when they were taken

    def keep(self, at: float | None = None) -> bool:
        """See to it that Envoy has a certificate that holds; whether another one was put in its place.

        Where there is no TLS it does nothing. Invalid, when one's own files cannot be used: what was shown before goes
        on. LimitExceeded when the disk is full, Unavailable when files cannot be written.
        """
        tls, at = self._settings.gateway_tls, now() if at is None else at
        if tls is None or (self._looked is not None and 0 <= at - self._looked < LOOK_SECONDS):
            return False
        with plain_errors(self._state / HOME):
            (self._state / HOME).mkdir(parents=True, exist_ok=True, mode=0o700)
            (self._state / FOLDER).mkdir(parents=True, exist_ok=True, mode=0o700)
            changed = self._keep_made(tls, at) if tls.self_signed else self._keep_given(tls, at)
        self._looked = at
        return changed

    def of_hosts(self, hosts: Iterable[str]) -> None:
        """By which hosts the APIs in force are called: the next `keep` has them in the certificate, where it may.

        LimitExceeded and Unavailable as `keep`.
        """
        if self._settings.gateway_tls is None:
            return
        found = tuple(sorted(set(hosts)))
        if found == hosts_of_apis(self._state):
            return
        with plain_errors(self._state / HOME):
            (self._state / HOME).mkdir(parents=True, exist_ok=True, mode=0o700)
            replace_private(self._state / HOSTS, msgspec.json.encode(found))
        self._looked = None

    def prepare(self) -> None:
        """Before Envoy starts. Raises what `keep` raises, unless there is one from before that holds still."""
        if self._settings.gateway_tls is None:
            _secret_file(self._state).unlink(missing_ok=True)  # no key stays where none is used
            return
        try:
            self.keep()
        except TulleError:
            before = shown(self._settings)
            if before is None or before.state(now()) == "ended":
                raise

    def _keep_made(self, tls: GatewayTls, at: float) -> bool:
        names = names_of(self._settings, tls)
        wanted = (*names, *_hosts_below(names, hosts_of_apis(self._state)))
        held = read_pair(self._state)
        if held is not None and _is_good(held.certificate, wanted, at) and (self._state / AUTHORITY).exists():
            if not (self._state / SHOWN).exists():  # somebody removed it; Envoy has what it needs
                replace_private(self._state / SHOWN, held.certificate.encode())
            return False
        authority = self._authority(names, at)
        made = issue(authority, wanted, at, LEAF_SECONDS)
        self._show(made)
        return True

    def _authority(self, names: tuple[str, ...], at: float) -> Pair:
        """What signs. Another one only where that of before has ended, is lost, or may not sign these names."""
        try:
            known = Pair((self._state / AUTHORITY).read_text(), (self._state / _AUTHORITY_KEY).read_text())
            if covers(known, names, at + LEAF_SECONDS):
                return known
        except (OSError, ValueError):  # lost, or no text
            pass
        made = make_authority(self._settings.name, names, at)
        replace_private(self._state / _AUTHORITY_KEY, made.key.encode())
        replace_private(self._state / AUTHORITY, made.certificate.encode())
        return made

    def _keep_given(self, tls: GatewayTls, at: float) -> bool:
        files = given_files(self._settings, tls)
        found = tuple(_stamp(one) for one in files)
        if self._taken == found and _secret_file(self._state).exists():
            return False
        pair = usable(*files, at)
        self._taken = found
        held = read_pair(self._state)
        if held is not None and held == pair and (self._state / SHOWN).exists():
            return False
        self._show(pair)
        return True

    def _show(self, pair: Pair) -> None:
        replace_private(self._state / SHOWN, pair.certificate.encode())
        replace_private(_secret_file(self._state), _secret(pair))


def names_of(settings: Settings, tls: GatewayTls) -> tuple[str, ...]:
    """Whom a certificate that the mesh makes is for: this machine by all its usual names, and those that were asked."""
    own = socket.gethostname().lower()
    usual = ("localhost", "127.0.0.1", "::1", *((own,) if _is_name(own) else ()))
    more = (settings.host, *((tls.host,) if tls.host else ()), *tls.names)
    return tuple(dict.fromkeys((*usual, *more)))


def hosts_of_apis(state_folder: Path) -> tuple[str, ...]:
    """By which hosts the APIs in force are called, as they were told last."""
    try:
        return msgspec.json.decode((state_folder / HOSTS).read_bytes(), type=tuple[str, ...])
    except (OSError, msgspec.MsgspecError):
        return ()


def not_for(settings: Settings, hosts: Collection[str]) -> str:
    """In one sentence, at which of these hosts callers will not believe the gateway, and what to do; or nothing."""
    tls = settings.gateway_tls
    if tls is None:
        return ""
    held = None if tls.self_signed else read_pair(settings.state_folder)
    if held is None and not tls.self_signed:
        return ""
    lacking = _lacking(settings, tls, hosts, held.certificate if held is not None else "")
    if not lacking:
        return ""
    return f"the gateway's certificate is not for {', '.join(lacking)}: {_advice(is_made=tls.self_signed)}"


def would_lack(settings: Settings, hosts: Collection[str]) -> tuple[tuple[str, ...], str]:
    """Of these hosts those that the certificate of the settings is not for, by name, and what to do about them.

    One's own is read from its file, whether or not anything is shown by now. Invalid where it cannot be.
    """
    tls = settings.gateway_tls
    if tls is None or not hosts:
        return (), ""
    text = "" if tls.self_signed else _read(given_files(settings, tls)[0], "certificate")
    try:
        lacking = _lacking(settings, tls, hosts, text)
    except (ValueError, *_ODD_EXTENSIONS):
        told = f"gateway_tls.certificate: {tls.certificate} holds no certificate"
        raise Invalid(told, hint="expected PEM") from None
    return lacking, _advice(is_made=tls.self_signed)


def _lacking(settings: Settings, tls: GatewayTls, hosts: Collection[str], given: str) -> tuple[str, ...]:
    wanted = tuple(sorted(set(hosts)))
    if tls.self_signed:
        names = names_of(settings, tls)
        names = (*names, *_hosts_below(names, wanted))
    else:
        names = names_in(x509.load_pem_x509_certificates(given.encode())[0])
    return tuple(host for host in wanted if not _is_for(names, host))


def _advice(*, is_made: bool) -> str:
    if is_made:
        return f"name it in gateway_tls.names, and give callers .tulle/{AUTHORITY} anew"
    return "put a certificate in place that is for it"


def _hosts_below(names: tuple[str, ...], hosts: tuple[str, ...]) -> tuple[str, ...]:
    """The hosts that a certificate needs beside `names`, and that who may sign those may sign as well.

    Others would need another authority, which every caller would have to trust anew.
    """
    plain = (name.removeprefix("*.") for name in names)
    ends = tuple(f".{name}" for name in plain if _is_name(name) and not name.rpartition(".")[2].isdigit())
    return tuple(host for host in hosts if not _is_for(names, host) and host.endswith(ends))[:_MOST_HOSTS]


def _is_for(names: tuple[str, ...], host: str) -> bool:
    """Whether callers believe a certificate of these names at a host; `*` stands for one part of it."""
    return host in names or f"*.{host.partition('.')[2]}" in names


def given_files(settings: Settings, tls: GatewayTls) -> tuple[Path, Path]:
    """Certificate and key as `mesh.yaml` names them."""
    return settings.folder / tls.certificate, settings.folder / tls.key


def usable(certificate: Path, key: Path, at: float) -> Pair:
    """One's own certificate and key. Invalid, naming the file, where Envoy or callers could not use them."""
    chain_text, key_text = _read(certificate, "certificate"), _read(key, "key")
    if stat.S_IMODE(key.stat().st_mode) & 0o007:
        raise Invalid(
            f"gateway_tls.key: {key} may be read by everybody", hint=f"chmod 600 {key}, and make a new key"
        )
    try:
        chain = x509.load_pem_x509_certificates(chain_text.encode())
    except ValueError:
        raise Invalid(
            f"gateway_tls.certificate: {certificate} holds no certificate", hint="expected PEM"
        ) from None
    try:
        private = serialization.load_pem_private_key(key_text.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Invalid(
            f"gateway_tls.key: {key} holds no key that can be read", hint="expected PEM without a passphrase"
        ) from None
    is_good = (isinstance(private, rsa.RSAPrivateKey) and private.key_size >= _SMALLEST_RSA) or (
        isinstance(private, ec.EllipticCurvePrivateKey) and private.curve.name in _CURVES
    )
    if not is_good:
        raise Invalid(
            f"gateway_tls.key: {key} is of a kind that the gateway cannot use",
            hint=f"RSA of {_SMALLEST_RSA} bits at least, or an elliptic curve: P-256, P-384, P-521",
        )
    try:
        public, names = chain[0].public_key(), names_in(chain[0])
    except (ValueError, TypeError, UnsupportedAlgorithm, *_ODD_EXTENSIONS) as exc:
        raise Invalid(
            f"gateway_tls.certificate: {certificate} is malformed: {' '.join(str(exc).split())[:200]}",
            hint="let who signed it make it anew",
        ) from None
    if private.public_key() != public:
        raise Invalid(
            f"gateway_tls: {certificate} is not the certificate of the key in {key}",
            hint="its own certificate comes first in the file, those that signed it after it",
        )
    if not names:
        raise Invalid(
            f"gateway_tls.certificate: {certificate} is for no name", hint="callers look for subjectAltName"
        )
    begins, ends = chain[0].not_valid_before_utc.timestamp(), chain[0].not_valid_after_utc.timestamp()
    if not begins <= at < ends:
        told = "has ended" if at >= ends else "does not hold yet"
        raise Invalid(f"gateway_tls.certificate: {certificate} {told}", hint="put a newer one in its place")
    return Pair(chain_text, key_text)


def shown(settings: Settings) -> Shown | None:
    """What callers are shown now, and what is wrong with what they should be; None without TLS or before it began."""
    tls = settings.gateway_tls
    held = read_pair(settings.state_folder) if tls is not None else None
    if tls is None or held is None:
        return None
    leaf = x509.load_pem_x509_certificates(held.certificate.encode())[0]
    trouble = ""
    if not tls.self_signed:
        try:
            usable(*given_files(settings, tls), now())
        except Invalid as exc:
            trouble = exc.message
    names = names_in(leaf)
    return Shown(
        names,
        leaf.issuer.rfc4514_string(),
        leaf.not_valid_before_utc.timestamp(),
        leaf.not_valid_after_utc.timestamp(),
        tls.self_signed,
        trouble,
        tuple(host for host in hosts_of_apis(settings.state_folder) if not _is_for(names, host)),
    )


def names_in(leaf: x509.Certificate) -> tuple[str, ...]:
    """Names and addresses that a certificate is for."""
    try:
        known = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return (
        *known.get_values_for_type(x509.DNSName),
        *map(str, known.get_values_for_type(x509.IPAddress)),
    )


def read_pair(state_folder: Path) -> Pair | None:
    """Certificate and key in the file that Envoy watches; None when there is none, or it is damaged."""
    try:
        (secret,) = msgspec.json.decode(_secret_file(state_folder).read_bytes())["resources"]
        texts = secret["tls_certificate"]
        chain = str(texts["certificate_chain"]["inline_string"])
        x509.load_pem_x509_certificates(chain.encode())
        return Pair(chain, str(texts["private_key"]["inline_string"]))
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _is_good(certificate: str, names: tuple[str, ...], at: float) -> bool:
    leaf = x509.load_pem_x509_certificates(certificate.encode())[0]
    begins = leaf.not_valid_before_utc.timestamp()
    return set(names_in(leaf)) == set(names) and begins <= at and ends_at(certificate) - at > LEAF_SECONDS / 3


def _read(file: Path, what: str) -> str:
    try:
        return file.read_text(encoding="ascii")
    except (OSError, ValueError) as exc:
        said = exc.strerror if isinstance(exc, OSError) else "it is no PEM text"
        raise Invalid(f"gateway_tls.{what}: {file} cannot be read: {said}") from None


def _stamp(file: Path) -> object:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _secret_file(state_folder: Path) -> Path:
    return state_folder / FOLDER / f"{CERTIFICATE}.json"


def _secret(pair: Pair) -> bytes:
    texts: dict[str, Any] = {
        "certificate_chain": {"inline_string": pair.certificate},
        "private_key": {"inline_string": pair.key},
    }
    resource = typed(_SECRET, name=CERTIFICATE, tls_certificate=texts)
    version = hashlib.sha256(msgspec.json.encode(resource)).hexdigest()[:16]
    return msgspec.json.encode({"version_info": version, "resources": [resource]})


def _is_name(host: str) -> bool:
    return bool(host) and len(host) <= 64 and all(c.isascii() and (c.isalnum() or c in "-.") for c in host)
