"""The first user of a mesh, and `.tulle/lakectl.yaml`, by which stock clients act as it; for its owner alone."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import yaml
from sqlalchemy import Connection

from tulle.errors import NotFound
from tulle.events import ACCESS_USER_CREATED
from tulle.lake.access import people
from tulle.lake.access.decide import Access

ADMINISTRATOR = "admin"
FILE = "lakectl.yaml"


def ensure_administrator(access: Access, folder: Path, endpoint: str) -> Path:
    """Make the user `admin` with a key, and the file with it in `folder`; returns the file.

    `endpoint` is the URL of the API, ending in /api/v1. Done again it changes nothing, but writes the file anew
    when the endpoint is another one, or the file's key is not one of this database any more.
    """
    file = folder / FILE
    known = _read(file)
    key = access.key(known[0]) if known else None
    if known and key is not None and key.user == ADMINISTRATOR and key.secret == known[1]:
        if known[2] != endpoint:
            _write(file, known[0], known[1], endpoint)
        return file
    if access.read(_administrator) is None:
        access.change("", ACCESS_USER_CREATED, f"user/{ADMINISTRATOR}", _make)
    made = access.create_key(ADMINISTRATOR, ADMINISTRATOR)
    _write(file, made.id, made.secret, endpoint)
    return file


def _administrator(cx: Connection) -> people.User | None:
    try:
        return people.get_user(cx, ADMINISTRATOR)
    except NotFound:
        return None


def _make(cx: Connection) -> None:
    if _administrator(cx) is None:  # asked again inside: another process may be as new
        people.add_user(cx, ADMINISTRATOR)
        people.add_member(cx, "Admins", ADMINISTRATOR)


def _read(file: Path) -> tuple[str, str, str] | None:
    try:
        value = yaml.safe_load(file.read_text())
        credentials, server = value["credentials"], value["server"]
        return (
            str(credentials["access_key_id"]),
            str(credentials["secret_access_key"]),
            str(server["endpoint_url"]),
        )
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return None


def _write(file: Path, key: str, secret: str, endpoint: str) -> None:
    value = {
        "credentials": {"access_key_id": key, "secret_access_key": secret},
        "server": {"endpoint_url": endpoint},
    }
    beside = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w") as out:
            yaml.safe_dump(value, out, sort_keys=True)
            out.flush()
            os.fsync(out.fileno())
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)
