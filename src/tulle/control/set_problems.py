"""What a service's or an API's own policies and the sets of the mesh cannot be together, told before it is applied.

Each list may be right by itself, and the two in one order not: what has to come first in the one comes last in the
other. Knows nothing of what is in force.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tulle.config import Settings
from tulle.errors import Invalid, Problem
from tulle.gateway.apis.load import Loaded
from tulle.gateway.in_force import target_named
from tulle.gateway.policies.automated import MeshPolicies, Target
from tulle.gateway.policies.listed import conflict, policies_in, written_of
from tulle.serving.service import Service
from tulle.spec.environment import production
from tulle.spec.product import DataProduct


class SetProblems:
    """The sets of a mesh, held against the lists of its products."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        try:
            self._sets = MeshPolicies(settings.policies)
        except Invalid:  # they are wrong themselves, which is told of mesh.yaml
            self._sets = MeshPolicies({})

    def of_service(self, service: Service, product: DataProduct) -> Iterator[Problem]:
        """What is wrong with a service's list in the environments of the mesh."""
        for place in self._settings.environments:
            target = target_named(service.name, place, product)
            if (wrong := self._wrong(target, service.policies)) is not None:
                yield Problem(wrong[0], service.place, wrong[1])
                return

    def of_api(self, loaded: Loaded, product: DataProduct) -> Iterator[Problem]:
        """What is wrong with the lists of an API's versions where they are declared."""
        usual = production(self._settings).name
        for number, version in enumerate(loaded.api.versions):
            for place in dict.fromkeys([usual, *version.environments]):
                said = version.environments.get(place)
                leads = said.target if said is not None and said.target is not None else version.target
                behind = target_named(leads.service, place, product) if leads.service else None
                target = target_named(loaded.api.name, place, product, loaded.api.tags, behind)
                if (wrong := self._wrong(target, version.policies)) is not None:
                    yield loaded.problem(wrong[0], "versions", number, hint=wrong[1])
                    break

    def demand(self, target: Target, own: Sequence[Mapping[str, Any]], whose: str) -> None:
        """Refuse a list that cannot be joined for a target. Invalid; `whose` it is is told."""
        if (wrong := self._wrong(target, own)) is not None:
            raise Invalid(f"{whose}: {wrong[0]}", hint=wrong[1])

    def _wrong(self, target: Target, own: Sequence[Mapping[str, Any]]) -> tuple[str, str] | None:
        """Why a list cannot be joined with the sets for a target, and what to do; None also where it is wrong alone."""
        if not self._sets:
            return None
        try:
            policies = policies_in(written_of(own), target.environment)
            if conflict(policies) is not None:
                return None
            joined = self._sets.joined_from(target, policies)
            wrong = conflict([policy for policy, _ in joined])
        except Invalid:
            return None
        if wrong is None:
            return None
        position, message, hint = wrong
        name = joined[position][1] or next(name for _, name in joined if name)
        told = f"its policies cannot be joined with set '{name}' of mesh.yaml in '{target.environment}': {message}"
        return told, hint
