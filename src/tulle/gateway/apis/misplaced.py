"""Policies of a version of an API that could never hold there, though each is fine by itself. Pure.

Those that bound the way to a service's workers are that service's own; and one for operations that the version's
OpenAPI document does not have is for no request, so what it was to protect would lie open. Knows nothing of what
services and the sets of the mesh say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tulle.errors import Invalid, did_you_mean
from tulle.gateway.apis.declared import ApiVersion
from tulle.gateway.policies.entry import Operation
from tulle.gateway.policies.kind import known_kinds
from tulle.gateway.policies.listed import Written


@dataclass(frozen=True, slots=True)
class Misplaced:
    """Where it is below a list, why it cannot hold there, and what to do."""

    steps: tuple[str | int, ...]
    message: str
    hint: str | None


def misplaced(version: ApiVersion, written: Sequence[Written]) -> Iterator[Misplaced]:
    """What is so in a version's own list, in any environment that its file names."""
    for number, one in enumerate(written):
        places = {place: said.target or version.target for place, said in version.environments.items()}
        here = [target for place, target in places.items() if one.is_in(place)]
        if (
            not one.environments or set(one.environments) - places.keys()
        ):  # consumers', which a file need not name
            here.append(version.target)
        services = [target.service for target in here if target.service]
        yield from at_workers(services[0], [one], number) if services else ()
    yield from undeclared(version, written)


def at_workers(service: str, written: Sequence[Written], first: int = 0) -> Iterator[Misplaced]:
    """Those of a list that are of the workers of the service that answers; positions count from `first`."""
    known = known_kinds()
    for number, one in enumerate(written, first):
        kind = one.policy.kind
        if kind in known and known.carried_out(kind).of_workers:
            message = f"'{kind}' is of the workers of '{service}', not of an API over them"
            yield Misplaced((number, "policy"), message, "list it in the file of that service")


def undeclared(version: ApiVersion, written: Sequence[Written]) -> Iterator[Misplaced]:
    """Operations of a list that are none of the version's document, where no others pass."""
    if version.allows_undeclared or not version.operations:
        return
    declared = [(f"{one.method} {one.path}", _operation(one.method, one.path)) for one in version.operations]
    for number, one in enumerate(written):
        for position, asked in enumerate(one.policy.operations):
            if any(known is None or asked.meet(known) is not None for _, known in declared):
                continue
            names = [name if asked.method else known.path for name, known in declared if known is not None]
            yield Misplaced(
                (number, "operations", position),
                f"the OpenAPI document has no operation '{asked}', so this is for no request",
                did_you_mean(str(asked), dict.fromkeys(names)),
            )


def _operation(method: str, path: str) -> Operation | None:
    """As policies name one; None for what they have no words for."""
    try:
        return Operation(method, path)
    except Invalid:
        return None
