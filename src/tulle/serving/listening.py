"""Sockets to answer on. Knows nothing of what is answered."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Final

from tulle.errors import AlreadyExists, Invalid

BACKLOG: Final = 2048  # callers that are not let in yet


def open_socket(path: Path) -> socket.socket:
    """Listen on a unix socket only this user may use; a stale one is replaced.

    Relative paths stay relative, as a socket's address holds no more than 107 bytes. AlreadyExists when
    another process answers there.
    """
    if len(os.fsencode(path)) > 107:
        raise Invalid(
            f"the socket path '{path}' is longer than 107 bytes", hint="give it relative to the folder"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listening.bind(str(path))
    finally:
        os.umask(mask)
    listening.listen(BACKLOG)
    listening.setblocking(False)
    return listening


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise AlreadyExists(f"'{path}' exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
        trial.settimeout(1)
        try:
            trial.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise AlreadyExists(f"another process answers on '{path}'", hint="stop it first")
