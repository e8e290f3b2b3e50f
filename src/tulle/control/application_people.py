"""Whom to write to about an application: its contact and its owners, as far as these are mail addresses.

An address is somebody's word, so it is taken apart strictly, and only domains that mesh.yaml names are written to: a
mesh is no way to send mail to strangers. Sends nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from tulle.config import Settings
from tulle.control.workspace import Workspace
from tulle.errors import NotFound, Problem, did_you_mean
from tulle.gateway.applications import About
from tulle.lake.access import people
from tulle.spec.load import load_document
from tulle.spec.mesh import MESH_FILE

# Plain ones alone: no quotes, no comments, no names beside them, nothing that could be two addresses or a header.
_ADDRESS: Final = re.compile(
    r"(?=.{3,254}\Z)[A-Za-z0-9_%+-]+(\.[A-Za-z0-9_%+-]+)*@(?P<domain>([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63})\Z",
    re.IGNORECASE,
)
_LONGEST_LOCAL: Final = 64


def contact_problems(settings: Settings) -> list[Problem]:
    """What is wrong with how mesh.yaml has people written to, with its place."""
    name = settings.contact_channel
    channel = settings.alerts.get(name)
    if not name or (channel is not None and channel.type == "apprise"):
        return []
    document = load_document(settings.folder / MESH_FILE, name=MESH_FILE)
    able = [one for one, of in settings.alerts.items() if of.type == "apprise"]
    hint = did_you_mean(name, able) or "write it under `alerts:`, with `type: apprise`"
    told = f"'{name[:63]}' is no channel of type apprise, so nobody is written to"
    return [document.problem(told, ("contact_channel",), hint=hint)]


def addresses_of(workspace: Workspace, about: About) -> tuple[str, ...]:
    """The addresses of an application's people that may be written to, each once; none where nobody is written to."""
    settings = workspace.settings
    if not settings.contact_channel:
        return ()
    domains = {one.lower() for one in settings.contact_domains}
    said = (_checked(text) for text in (about.contact, *_of_owners(workspace, about)))
    return tuple(dict.fromkeys(one for one in said if one and one.rpartition("@")[2].lower() in domains))


def _of_owners(workspace: Workspace, about: About) -> Iterator[str]:
    """Of each owner the address that the lake knows, else the name itself, which may be one."""
    for owner in about.owners:
        try:
            with workspace.database.read() as connection:
                known = people.get_user(connection, owner).email
        except NotFound:
            known = ""
        yield known or owner


def _checked(text: str) -> str:
    """The one plain address that a text is, or nothing."""
    stripped = text.strip().removeprefix("mailto:")
    local = stripped.partition("@")[0]
    return stripped if _ADDRESS.match(stripped) and len(local) <= _LONGEST_LOCAL else ""
