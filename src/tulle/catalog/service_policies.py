"""What the gateway does with a service's requests, as its page shows it: each policy in its order, and who says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from tulle.config import Settings
from tulle.errors import TulleError
from tulle.gateway.policies.automated import MeshPolicies, Target
from tulle.gateway.policies.entry import Policy
from tulle.gateway.policies.kind import known_kinds
from tulle.gateway.policies.listed import policies_in, written_of
from tulle.gateway.policies.showing import policy_shown
from tulle.gateway.service_policies import said_at_deployment
from tulle.serving.package import Package
from tulle.spec.environment import production
from tulle.state.db import Database


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """One policy: what it does, its settings as they are written, the requests it is for, and who says so."""

    kind: str
    summary: str
    settings: str
    operations: tuple[str, ...]
    said_by: str
    opens: bool = False  # it says who may call


@dataclass(frozen=True, slots=True)
class PoliciesView:
    """Those in force where consumers are, in the order in which a request meets them; or why that is not known."""

    rows: tuple[PolicyRow, ...] = ()
    problem: str = ""

    @property
    def opening(self) -> tuple[str, ...]:
        """The kinds that say who may call, instead of what the service says."""
        return tuple(dict.fromkeys(one.kind for one in self.rows if one.opens))


def policies_view(
    settings: Settings,
    database: Database,
    service: str,
    declared: Sequence[Mapping[str, Any]],
    chosen: Package | None,
    *,
    domain: str,
    tags: Sequence[str],
) -> PoliciesView:
    """Of the environment of consumers; `chosen` is the package that answers, else the newest."""
    plain, by = declared, "its file"
    if chosen is not None:
        plain, by = chosen.manifest.policies, f"version {chosen.version}"
    if (said := said_at_deployment(database).get((service, ""))) is not None:
        plain, by = said, "its deployment"
    place = production(settings).name
    try:
        own = policies_in(written_of(plain), place)
        target = Target(service, place, domain, tuple(tags))
        joined = MeshPolicies(settings.policies).joined_from(target, own)
        return PoliciesView(tuple(_row(policy, _who(settings, name, by)) for policy, name in joined))
    except (
        TulleError
    ) as exc:  # of what is recorded, or of mesh.yaml; the rest of the page is right all the same
        return PoliciesView(problem=exc.message)


def _who(settings: Settings, set_: str, own: str) -> str:
    if not set_:
        return own
    return f"the mesh, {set_}{', for all' if settings.policies[set_].mandatory else ''}"


def _row(policy: Policy, said_by: str) -> PolicyRow:
    said = {name: value for name, value in policy_shown(policy).items() if name in policy.settings}
    written = yaml.safe_dump(said, sort_keys=False, default_flow_style=None, allow_unicode=True)
    operations = tuple(str(one) for one in policy.operations)
    kind = known_kinds().get(policy.kind)
    shown = written.strip() if policy.settings else ""
    return PolicyRow(policy.kind, kind.summary, shown, operations, said_by, kind.opens is not None)
