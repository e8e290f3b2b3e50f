"""Policies of the mesh for many services at once: which of them hold for one, and how they join its own.

They are named sets, which the settings of the mesh hold (`config.PolicySet`). They come before a service's own where
both are of one place in the order; what can hold once only, and who may call, is then as the mesh says. A service may
do without a set (policy `without`) unless the set is mandatory. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tulle.config import PolicySet
from tulle.errors import Invalid, did_you_mean
from tulle.gateway.policies.entry import Policy
from tulle.gateway.policies.kind import Kind, Parts, Registry, known_kinds
from tulle.gateway.policies.listed import Written, parse_policies, policies_in
from tulle.gateway.policies.order import AFTER, BEFORE, KNOWN, stretches

WITHOUT: Final = "without"
_PLACES: Final = {"first": 0, "credentials": 2, "limits": 4, "route": 6, "processor": 7}
_FREE: Final = {BEFORE: 1, KNOWN: 3, AFTER: 5}


@dataclass(frozen=True, slots=True)
class Target:
    """A service in an environment, by its name, and the product it belongs to.

    `behind`: it is an API that this service answers for. What the mesh demands of the service it then demands of the
    API too, which is another way to it; the policies of its workers the service has by itself.
    """

    service: str
    environment: str
    domain: str = ""
    tags: tuple[str, ...] = ()
    behind: Target | None = None


class MeshPolicies:
    """The sets of one mesh, read once.

    One that is no list of policies is in the way of those alone that it holds for: whoever joins it to one of them is
    told, by Invalid with every problem.
    """

    def __init__(self, sets: Mapping[str, PolicySet], registry: Registry | None = None) -> None:
        self._sets = sets
        self._registry = registry or known_kinds()
        self._mandatory: MeshPolicies | None = None  # those of the sets, made when they are asked for
        self._lists: dict[str, tuple[Written, ...]] = {}
        self._wrong: dict[str, Invalid] = {}
        for name, one in sets.items():
            text, place = json.dumps(one.policies), f"mesh.yaml, policies.{name}"
            try:
                self._lists[name] = parse_policies(
                    text, name=place, registry=self._registry, is_recorded=True
                )
            except Invalid as exc:
                self._wrong[name] = exc

    def __bool__(self) -> bool:
        return bool(self._sets)

    def sets_for(self, target: Target, left_out: Collection[str] = ()) -> tuple[str, ...]:
        """The names of the sets that hold for a service, in their order."""
        return tuple(
            name
            for name, one in self._sets.items()
            if (is_for(one, target) and (one.mandatory or name not in left_out))
            or (one.mandatory and target.behind is not None and is_for(one, target.behind))
        )

    def joined(self, target: Target, own: Sequence[Policy]) -> tuple[Policy, ...]:
        """What holds for a service: the mesh's policies and its own, in an order that can be carried out.

        Invalid where a set that holds for it cannot be read.
        """
        return tuple(policy for policy, _ in self.joined_from(target, own))

    def joined_from(self, target: Target, own: Sequence[Policy]) -> tuple[tuple[Policy, str], ...]:
        """What holds for a service, each with the set of the mesh that it is of; empty: its own."""
        of_mesh = {
            name: [
                one for one in policies_in(self._list(name), target.environment) if self._is_for(one, target)
            ]
            for name in self.sets_for(target, left_out_by(own))
        }
        kinds = {kind.name: kind for policies in of_mesh.values() for kind in self._kinds(policies)}
        asks = any(kind.phase == "credentials" for kind in kinds.values())
        kept = [
            policy
            for policy, kind in zip(own, self._kinds(own), strict=True)
            if not (kind.once and kind.name in kinds) and not (asks and kind.phase == "credentials")
        ]
        placed = [
            (place, policy, name)
            for name, policies in (*of_mesh.items(), ("", kept))
            for place, policy in self._placed(policies)
        ]
        return tuple((policy, name) for _, policy, name in sorted(placed, key=lambda one: one[0]))

    def demanded(self, target: Target, before: Sequence[Policy]) -> tuple[Policy, ...]:
        """What held for a service at another time, with what the mesh demands of it now."""
        if self._mandatory is None:
            sets = {name: one for name, one in self._sets.items() if one.mandatory}
            self._mandatory = MeshPolicies(sets, self._registry)
        if not self._mandatory or not (held := self._mandatory.joined(target, ())):
            return tuple(before)
        return self._mandatory.joined(target, [one for one in before if one not in held])

    def _list(self, name: str) -> tuple[Written, ...]:
        if (wrong := self._wrong.get(name)) is not None:
            first = wrong.problems[0].message if wrong.problems else wrong.message
            told = f"set '{name}' of mesh.yaml cannot be read: {first}"
            raise Invalid(told, hint="mend it there, then `tulle gateway reload`", problems=wrong.problems)
        return self._lists[name]

    def _is_for(self, policy: Policy, target: Target) -> bool:
        return not (target.behind is not None and self._registry.carried_out(policy.kind).of_workers)

    def _kinds(self, policies: Sequence[Policy]) -> list[Kind]:
        return [self._registry.carried_out(policy.kind) for policy in policies]

    def _placed(self, policies: Sequence[Policy]) -> Iterator[tuple[int, Policy]]:
        kinds = self._kinds(policies)
        for policy, kind, stretch in zip(policies, kinds, stretches(kinds), strict=True):
            is_free = kind.phase not in _PLACES and stretch is not None
            yield (_FREE[stretch] if is_free and stretch is not None else _PLACES[kind.phase]), policy


def is_for(one: PolicySet, target: Target) -> bool:
    """Whether a set is for a service; what it does not name it does not ask."""
    return (
        (not one.services or target.service in one.services)
        and (not one.environments or target.environment in one.environments)
        and (not one.domains or target.domain in one.domains)
        and (not one.tags or bool(set(one.tags) & set(target.tags)))
    )


def left_out_by(policies: Sequence[Policy]) -> frozenset[str]:
    """The sets of the mesh that a service's own list does without."""
    return frozenset(name for one in policies if one.kind == WITHOUT for name in one.settings["sets"])


def wrongly_left_out(sets: Mapping[str, PolicySet], policies: Sequence[Policy]) -> Iterator[tuple[str, str]]:
    """What a list does without and cannot: why, and what to do."""
    for name in sorted(left_out_by(policies)):
        if name not in sets:
            hint = did_you_mean(name, sets) or "mesh.yaml has none of that name"
            yield f"there is no set of policies '{name}'", hint
        elif sets[name].mandatory:
            yield f"the policies '{name}' of the mesh are mandatory", "ask who keeps mesh.yaml"


def register(registry: Registry) -> None:
    """Make the kind known by which a service does without a set."""
    registry.add(
        Kind(
            WITHOUT,
            "The service does without policies that the mesh has for many.",
            {
                "sets": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": 50,
                    "uniqueItems": True,
                    "items": {"type": "string"},
                    "description": "names of sets of policies in mesh.yaml that are not mandatory",
                }
            },
            "route",
            lambda settings: frozenset(settings["sets"]),
            render=lambda _names, _spot: Parts(),
            required=("sets",),
            example="policy: without\nsets: [branding]",
            whole=True,
        )
    )
