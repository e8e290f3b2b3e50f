"""Lists of policies held against who may call where they are in force: of those that do nothing there it is told.

With the sets of the mesh, which may say otherwise who calls. What does something in one environment is fine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from tulle.config import Settings
from tulle.control.workspace import Workspace
from tulle.errors import Invalid
from tulle.gateway import service_keys
from tulle.gateway.apis.declared import ApiVersion
from tulle.gateway.apis.load import Loaded
from tulle.gateway.in_force import target_named
from tulle.gateway.policies.automated import MeshPolicies, Target
from tulle.gateway.policies.idle import idle, words_of
from tulle.gateway.policies.kind import Need, known_kinds
from tulle.gateway.policies.listed import Written, written_of
from tulle.gateway.policies.unmet import Misplaced
from tulle.serving.access import Access
from tulle.serving.service import Service
from tulle.spec.environment import places, production
from tulle.spec.product import DataProduct

Held = Iterable[
    tuple[Target, Access]
]  # where a list is in force, and who may call there by what is said beside it


def idle_in_set(written: Sequence[Written]) -> Iterator[Misplaced]:
    """Of a set of the mesh that says itself who may call; without that, services say it, each for itself."""
    known = known_kinds()
    policies = [one.policy for one in written]
    if all(known.carried_out(one.kind).opens is None for one in policies):
        return
    for number, need in idle(policies, Access(contracts=False)):
        yield _told(number, policies[number].kind, need)


class IdlePolicies:
    """The sets of a mesh and what its deployments say of who may call."""

    def __init__(self, workspace: Workspace, settings: Settings | None = None) -> None:
        self._settings = settings or workspace.settings
        self._said = service_keys.said_at_deployment(workspace.database)
        self._sets = MeshPolicies(self._settings.policies)

    def of_service(
        self, service: Service, product: DataProduct | None, written: Sequence[Written]
    ) -> Iterator[Misplaced]:
        """Of a list in the file of a service, in the environments of the mesh."""
        held = [
            (target_named(service.name, name, product), access)
            for name, place in places(self._settings).items()
            for access in {service.access, self._said.get((service.name, place), service.access)}
        ]
        yield from self.at(held, written)

    def of_version(self, loaded: Loaded, version: ApiVersion, product: DataProduct) -> Iterator[Misplaced]:
        """Of the list of an API's version, where it is declared."""
        usual = production(self._settings).name
        held = []
        for name in dict.fromkeys([usual, *version.environments]):
            said = version.environments.get(name)
            leads = said.target if said is not None and said.target is not None else version.target
            behind = target_named(leads.service, name, product) if leads.service else None
            target = target_named(loaded.api.name, name, product, loaded.api.tags, behind)
            held.append((target, version.access))
        yield from self.at(held, written_of(version.policies))

    def at(self, held: Held, written: Sequence[Written]) -> Iterator[Misplaced]:
        """What of a list does nothing wherever it is in force; nothing is told of one that cannot be carried out."""
        done: dict[tuple[int, Need], bool] = {}
        try:
            for target, access in held:
                for what, is_idle in self._here(target, access, written):
                    done[what] = done.get(what, True) and is_idle
        except Invalid:
            return
        for (number, need), is_idle in done.items():
            if is_idle:
                yield _told(number, written[number].policy.kind, need)

    def _here(
        self, target: Target, access: Access, written: Sequence[Written]
    ) -> Iterator[tuple[tuple[int, Need], bool]]:
        known = known_kinds()
        numbers = {id(one.policy): n for n, one in enumerate(written) if one.is_in(target.environment)}
        own = [one.policy for one in written if one.is_in(target.environment)]
        joined = self._sets.joined(target, own)
        found = {
            (numbers[id(joined[n])], need) for n, need in idle(joined, access) if id(joined[n]) in numbers
        }
        for policy in joined:
            if (number := numbers.get(id(policy))) is not None:
                for need in known.needs(policy.kind, policy.settings):
                    yield (number, need), (number, need) in found


def _told(number: int, kind: str, need: Need) -> Misplaced:
    message, hint = words_of(kind, need)
    return Misplaced((number, *(need.path or ("policy",))), message, hint, need.is_doubtful)
