"""The token of a mesh's API: made once, kept in `.tulle/token` (mode 0600), sent as a bearer token.

Who can read that file may change the mesh; nobody else on the machine can.
"""

from __future__ import annotations

import hmac
import os
import secrets

from tulle.config import Settings


def read_token(settings: Settings) -> str:
    """The mesh's token, made on first use; two processes making it at the same time agree on one."""
    path = settings.state_folder / "token"
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        pass
    settings.state_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    # A name of this call alone: the threads of one process share its id.
    beside = settings.state_folder / f"token.{secrets.token_hex(8)}"
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(secrets.token_urlsafe(32))
    try:
        os.link(beside, path)  # fails when somebody was first
    except FileExistsError:
        pass
    finally:
        beside.unlink()
    return path.read_text().strip()


def is_token(settings: Settings, header: str | None) -> bool:
    """Whether an Authorization header carries the mesh's token."""
    scheme, _, value = (header or "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(
        value.strip().encode(), read_token(settings).encode()
    )
