"""Policies of a version of an API that could never hold there, though each is fine by itself. Pure.

Those that bound the way to a service's workers are that service's own; and one for operations that the version's
OpenAPI document does not have is for no request, so what it was to protect would lie open. Knows nothing of what
services and the sets of the mesh say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tulle.gateway.apis.declared import ApiVersion
from tulle.gateway.policies.kind import known_kinds
from tulle.gateway.policies.listed import Written
from tulle.gateway.policies.unmet import Misplaced, unmet


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
    declared = [(one.method, one.path) for one in version.operations]
    yield from unmet(declared, written, "the OpenAPI document")
