"""By which ways the parts of a service may be called: as its policies say, else as its `access` does.

For the gateway, which opens them, and for documents and examples, which tell callers what to send. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tulle.errors import Invalid
from tulle.gateway.policies.entry import METHODS, Operation, Policy, split
from tulle.gateway.policies.kind import Registry, known_kinds
from tulle.serving.access import Access
from tulle.serving.ways_in import WayIn, ways_of


def access_where(
    policies: Sequence[Policy], held: Sequence[int], usual: Access, registry: Registry | None = None
) -> Access:
    """The ways in where the policies at these positions hold."""
    known = registry or known_kinds()
    said: list[Access] = []
    for position in held:
        found = known.opening(policies[position].kind, policies[position].settings)
        said += [] if found is None else [found]
    if not said:
        return usual
    return Access(
        contracts=any(access.contracts for access in said),
        api_keys=next((access.api_keys for access in said if access.api_keys is not None), None),
        public=next((access.public for access in said if access.public is not None), None),
        jwt=next((access.jwt for access in said if access.jwt is not None), None),
    )


def accesses(policies: Sequence[Policy], usual: Access, registry: Registry | None = None) -> list[Access]:
    """The ways into each part of a service, the widest part last."""
    known = registry or known_kinds()
    if all(known.carried_out(policy.kind).opens is None for policy in policies):
        return [usual]
    return [access_where(policies, held, usual, known) for _, held in split(policies)]


@dataclass(frozen=True, slots=True)
class WaysIn:
    """What callers send, by parts of a service: the first part that a request is one of decides, the last is all."""

    parts: tuple[tuple[Operation, tuple[WayIn, ...]], ...]

    @property
    def usual(self) -> tuple[WayIn, ...]:
        """Where no policy names the operation."""
        return self.parts[-1][1]

    def at(self, method: str, path: str, base: str = "") -> tuple[WayIn, ...]:
        """Of an operation of a document, its path below the service's address `base`, or with that before it."""
        below = path.removeprefix(base) if base and path.startswith(f"{base.rstrip('/')}/") else path
        asked = _operation(method, below)
        return next(ways for part, ways in self.parts if part.covers(asked))

    def all(self) -> tuple[WayIn, ...]:
        """Every one of them, those that are usual first."""
        found = dict.fromkeys(self.usual)
        for _, ways in self.parts:
            found |= dict.fromkeys(ways)
        return tuple(found)


def ways_in(policies: Sequence[Policy], usual: Access, registry: Registry | None = None) -> WaysIn:
    """What callers send by these policies, else by what `usual` says. Invalid where they cannot be carried out."""
    known = registry or known_kinds()
    said = [known.ways(policy.kind, policy.settings) for policy in policies]
    return WaysIn(
        tuple(
            (part, tuple(dict.fromkeys(way for n in held for way in said[n])) or ways_of(usual))
            for part, held in split(policies)
        )
    )


_ODD: Final = "odd"  # in place of what a document writes as a part of a path and no policy can


def _operation(method: str, path: str) -> Operation:
    method = "GET" if method == "HEAD" else method
    asked = method if method in METHODS else ""
    try:
        return Operation(asked, path)
    except Invalid:
        parts = (_ODD if "{" in part or "}" in part else part for part in path.split("/"))
    try:
        return Operation(asked, "/".join(parts))
    except Invalid:
        return Operation(asked)
