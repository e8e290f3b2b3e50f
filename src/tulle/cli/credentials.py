"""Credentials of applications, kept by the one who made them: `.tulle/credentials/<application>.json`, mode 0600.

The mesh itself keeps only hashes; these files are the command line's own note, as a cloud's CLI keeps one.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tulle.config import Settings
from tulle.errors import Invalid, NotFound, did_you_mean


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
