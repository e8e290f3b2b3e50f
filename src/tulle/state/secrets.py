"""Secrets at rest: encrypted with a key that lies beside the database, in a file of its owner alone.

AES-256-GCM; what a secret is for is bound to it, so that one cannot be put in another's place. Knows nothing of
what the secrets open.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tulle.errors import Broken, Unavailable

KEY_BYTES = 32
_NONCE_BYTES = 12


class Secrets:
    """Encrypts and decrypts with the key of one mesh."""

    __slots__ = ("_cipher", "_file", "_key")

    def __init__(self, key: bytes, file: Path) -> None:
        self._key = key
        self._cipher = AESGCM(key)
        self._file = file

    def __repr__(self) -> str:
        """Never the key."""
        return f"Secrets({self._file})"

    def encrypt(self, text: str, purpose: str) -> bytes:
        """The secret as it may be stored."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, text.encode(), purpose.encode())

    def decrypt(self, data: bytes, purpose: str) -> str:
        """The secret itself. Broken when it was encrypted with another key, or for something else."""
        try:
            return self._cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], purpose.encode()).decode()
        except (InvalidTag, ValueError):
            raise Broken(
                f"a secret cannot be decrypted with {self._file}: it was encrypted with another key",
                hint="put back the key file that belongs to this database, or make new credentials",
            ) from None

    def derived(self, purpose: str) -> bytes:
        """A key of 32 bytes for another use, from which this one cannot be told."""
        return hmac.digest(self._key, purpose.encode(), hashlib.sha256)


def open_secrets(file: Path, *, make: bool = True) -> Secrets:
    """The secrets of a mesh whose key is in `file`; the key is made on first use, for its owner alone.

    With `make` false it must be there: something is encrypted with it already. Two processes making it at the
    same time agree on one. Unavailable when the file cannot be used.
    """
    try:
        return Secrets(_checked(file.read_bytes(), file), file)
    except FileNotFoundError:
        if not make:
            raise Unavailable(
                f"the key file {file} is missing, and the database has secrets encrypted with it",
                hint="put back the file that belongs to this database",
            ) from None
    except OSError as exc:
        raise Unavailable(
            f"the key file {file} cannot be read: {exc.strerror}",
            hint="let its owner run this, and nobody else read it",
        ) from exc
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    beside = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(secrets.token_bytes(KEY_BYTES))
            out.flush()
            os.fsync(out.fileno())
        os.link(beside, file)  # fails when somebody was first
    except FileExistsError:
        pass
    finally:
        beside.unlink()
    _sync_folder(file.parent)  # what is encrypted with it must not outlive it
    return Secrets(_checked(file.read_bytes(), file), file)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _checked(key: bytes, file: Path) -> bytes:
    if len(key) != KEY_BYTES:
        raise Unavailable(
            f"the key file {file} has {len(key)} bytes, a key has {KEY_BYTES}",
            hint="put back the file that belongs to this database",
        )
    return key
