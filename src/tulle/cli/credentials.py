"""Credentials kept by the one who made them, in files of mode 0600, as a cloud's CLI keeps them.

Those of applications lie in `.tulle/credentials/<application>.json`, of which the mesh itself keeps only hashes; a
person's access key lies where it is asked for, written as lakectl reads it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tulle.config import Settings
from tulle.errors import AlreadyExists, Invalid, NotFound, did_you_mean


def folder(settings: Settings) -> Path:
    """Where the notes are."""
    return settings.state_folder / "credentials"


def save(settings: Settings, credentials: dict[str, Any]) -> Path:
    """Keep an application's credentials; the file."""
    folder(settings).mkdir(parents=True, exist_ok=True, mode=0o700)
    target = folder(settings) / f"{credentials['name']}.json"
    beside = target.with_suffix(".new")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        json.dump(credentials, file, indent=1)
    beside.replace(target)
    return target


def forget(settings: Settings, application: str) -> None:
    """Remove the note of an application."""
    (folder(settings) / f"{application}.json").unlink(missing_ok=True)


def saved_credentials(settings: Settings, application: str | None) -> dict[str, Any]:
    """The kept credentials of one application, or of the only one there is."""
    notes = {path.stem: path for path in folder(settings).glob("*.json")} if folder(settings).is_dir() else {}
    if application is None:
        if len(notes) != 1:
            which = (
                "there are several: --app " + " | ".join(sorted(notes))
                if notes
                else "`tulle app create` makes one"
            )
            raise Invalid("which application calls is not said", hint=which)
        application = next(iter(notes))
    if application not in notes:
        raise NotFound(
            f"no credentials of application '{application}' are kept here",
            hint=did_you_mean(application, notes) or "`tulle app create` makes one",
        )
    return dict(json.loads(notes[application].read_text()))


def headers_of(
    settings: Settings, application: str | None, *, bearer: str | None, anonymous: bool
) -> dict[str, str]:
    """What a call of a service is sent with: a kept application's credentials unless something else is said."""
    if sum((application is not None, bearer is not None, anonymous)) > 1:
        raise Invalid("--app, --bearer and --anonymous exclude one another")
    if anonymous:
        return {}
    if bearer is None:
        kept = saved_credentials(settings, application)
        return {"client_id": kept["client_id"], "client_secret": kept["client_secret"]}
    try:
        text = (sys.stdin.read() if bearer == "-" else Path(bearer).read_text(encoding="utf-8")).strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise Invalid(f"{bearer} cannot be read: {exc}") from None
    if not text or not text.isascii() or not text.isprintable():
        raise Invalid(f"{bearer} holds no key or token")
    return {"authorization": f"Bearer {text}"}


@contextmanager
def new_key_file(file: Path, endpoint: str) -> Iterator[Callable[[str, str], None]]:
    """A new file for an access key, and what writes the key's id and secret into it; gone again if nothing did.

    `endpoint` is the URL of the API, ending in /api/v1. AlreadyExists.
    """
    import yaml

    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise AlreadyExists(
            f"{file} exists already", hint="a key is written to a file of its own; name another one"
        ) from None
    written = False

    def write(key: str, secret: str) -> None:
        nonlocal written
        value = {
            "credentials": {"access_key_id": key, "secret_access_key": secret},
            "server": {"endpoint_url": endpoint},
        }
        yaml.safe_dump(value, out, sort_keys=True)
        written = True

    try:
        with os.fdopen(handle, "w") as out:
            yield write
    finally:
        if not written:
            file.unlink()
