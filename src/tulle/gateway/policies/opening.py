"""By which ways the parts of a service may be called: as its policies say, else as its `access` does. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from tulle.gateway.policies.entry import Policy, split
from tulle.gateway.policies.kind import Registry, known_kinds
from tulle.serving.access import Access


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
