"""The signature of a package: who built it, and that not a byte of it was changed since.

Ed25519 over the manifest, which names every file by its digest. A mesh signs with a key derived from its own; it trusts
itself, and the meshes whose keys `trusted_keys` of mesh.yaml names.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tulle.config import Settings
from tulle.errors import Broken, Denied
from tulle.serving.manifest import MANIFEST, SIGNATURE
from tulle.state.secrets import open_secrets

_PURPOSE = "the signatures of packages"
_WHAT = b"tulle package\0"


class Seal(msgspec.Struct, frozen=True):
    """The contents of signature.json; hexadecimal."""

    public_key: str
    signature: str
    algorithm: str = "ed25519"


def public_key(settings: Settings) -> str:
    """What others check this mesh's packages by, hexadecimal."""
    return _key(settings).public_key().public_bytes_raw().hex()


def seal(folder: Path, settings: Settings) -> None:
    """Sign the package in a folder, whose manifest is complete."""
    key = _key(settings)
    signature = key.sign(_WHAT + (folder / MANIFEST).read_bytes()).hex()
    made = Seal(key.public_key().public_bytes_raw().hex(), signature)
    (folder / SIGNATURE).write_bytes(msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n")


def check_seal(folder: Path, trusted: Collection[str]) -> str:
    """By whose key the package in a folder is signed.

    Broken when it was changed since, Denied when that key is not trusted or there is none.
    """
    try:
        found = msgspec.json.decode((folder / SIGNATURE).read_bytes(), type=Seal)
    except FileNotFoundError:
        raise Denied(
            "the package is not signed, so nobody knows who built it", hint="build it again, which signs it"
        ) from None
    except (msgspec.MsgspecError, UnicodeError, RecursionError, OSError) as exc:
        raise Broken(f"the package's {SIGNATURE} cannot be read: {exc}") from exc
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(found.public_key))
        key.verify(bytes.fromhex(found.signature), _WHAT + (folder / MANIFEST).read_bytes())
    except (InvalidSignature, ValueError):
        raise Broken(
            "the package was changed after it was signed", hint="take it from where it was built"
        ) from None
    if found.public_key not in trusted:
        raise Denied(
            f"the package is signed with the key {found.public_key}, which this mesh does not trust",
            hint="if you do, put it into `trusted_keys:` of mesh.yaml",
        )
    return found.public_key


def _key(settings: Settings) -> Ed25519PrivateKey:
    secrets = open_secrets(settings.state_folder / "secret.key")
    return Ed25519PrivateKey.from_private_bytes(secrets.derived(_PURPOSE))
