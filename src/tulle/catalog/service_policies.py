"""What the gateway does with the requests of a service or an API, as its page shows it: each policy, who says it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import yaml

from tulle.config import Settings
from tulle.errors import TulleError
from tulle.gateway.in_force import InForce
from tulle.gateway.policies.entry import Policy
from tulle.gateway.policies.kind import known_kinds
from tulle.gateway.policies.showing import policy_shown


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

    def without_settings(self) -> PoliciesView:
        """What they do, and not how: for people outside. What is wrong with them is not theirs to know either."""
        problem = "something of what is recorded is wrong" if self.problem else ""
        return PoliciesView(tuple(replace(one, settings="") for one in self.rows), problem)


def policies_view(
    settings: Settings, held: Callable[[], InForce], own: str, otherwise: str = "its deployment"
) -> PoliciesView:
    """What `held` gives; `own` is who says those that the mesh does not, where it is not a deployment.

    What cannot be read, of what is recorded or of mesh.yaml, is told: the rest of the page is right all the same.
    """
    try:
        found = held()
        by = otherwise if found.said_otherwise else own
        return PoliciesView(tuple(_row(policy, _who(settings, name, by)) for policy, name in found.policies))
    except TulleError as exc:
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
