"""The page that compares two generations of a service: which there are, and what both can be asked.

Comparing runs packages, which the mesh's API does, for who may, with the reader's own key.
"""

from __future__ import annotations

from dataclasses import dataclass

from tulle.errors import NotFound, did_you_mean
from tulle.serving import generation, package
from tulle.serving.answers import questions_of
from tulle.state.db import Database


@dataclass(frozen=True, slots=True)
class ComparePage:
    """What the page begins with; `questions` are the saved queries of both versions."""

    service: str
    versions: tuple[str, ...]  # newest first
    left: str
    right: str
    questions: int


def compare_page(database: Database, service: str, left: str = "", right: str = "") -> ComparePage:
    """The page; without names, what answers is compared with the newest other version. NotFound."""
    known = {one.version: one for one in package.packages(database, service)}
    if not known:
        raise NotFound(f"service '{service}' has no package yet", hint=f"`tulle service package {service}`")
    for name in (left, right):
        if name and name not in known:
            hint = did_you_mean(name, known) or f"known: {', '.join(known)}"
            raise NotFound(f"service '{service}' has no version '{name[:100]}'", hint=hint)
    versions = tuple(reversed(known))
    found = generation.find(database, service)
    active = found.active_version if found else None
    left = left or next((name for name in (active, *versions) if name in known and name != right), right)
    right = right or next((name for name in versions if name != left), left)
    asked = {
        (question.endpoint, question.name)
        for name in (left, right)
        for question in questions_of(known[name].manifest.endpoints)
    }
    return ComparePage(service, versions, left, right, len(asked))
