"""The certificates of a connection that signs in by OAuth2: read from the file when it is set, and kept with it.

Of the file the certificates alone are taken. Knows nothing of who trusts them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificates

from tulle.errors import Invalid
from tulle.pipeline.sources.client_credentials import OAUTH2
from tulle.state.connections import Connection

_LARGEST: Final = 1_000_000  # bytes of the file; those of a whole machine are some 250,000


def with_certificates(connection: Connection) -> Connection:
    """It, with those of its option `ca_file` where it signs in by OAuth2; as it is where it has some or names none.

    Invalid, naming the file, where that has no certificates that can be read.
    """
    file = connection.options.get("ca_file", "")
    if not file or connection.certificates or connection.options.get("auth") != OAUTH2:
        return connection
    try:
        return replace(connection, certificates=_read(Path(file)))
    except (OSError, ValueError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else str(exc)
        raise Invalid(
            f"the 'ca_file' of connection '{connection.name}' cannot be read: {file[:200]}: {why}",
            hint="it is read when the connection is set, on the machine of the control plane: put certificates (PEM)"
            " there and set the connection again",
        ) from None


def _read(path: Path) -> str:
    """ValueError, OSError."""
    if path.exists() and not path.is_file():
        raise ValueError("it is no file")
    with path.open("rb") as opened:
        text = opened.read(_LARGEST + 1)
    if len(text) > _LARGEST:
        raise ValueError(f"it has more than {_LARGEST:,} bytes")
    try:
        found = load_pem_x509_certificates(text)
    except ValueError:
        raise ValueError("it has no certificates") from None
    return "".join(one.public_bytes(Encoding.PEM).decode() for one in found)
