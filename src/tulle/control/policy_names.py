"""What policies name and what is there: tiers, callers, groups of users, connections, plugins, a service's operations.

A tier that nobody offers, an application's name in place of its id, an operation that is not there and a plugin that
cannot be made are wrong. What may come later is only told where it is missing. Knows nothing of files.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from tulle.config import Settings
from tulle.control.workspace import Workspace
from tulle.errors import NotFound, TulleError, did_you_mean, nearest
from tulle.gateway import applications, offer, service_keys
from tulle.gateway.policies.kind import Named, known_kinds
from tulle.gateway.policies.listed import Written
from tulle.gateway.policies.unmet import Misplaced, unmet
from tulle.gateway.processing.plugin_child import GROUP, installed
from tulle.gateway.processing.plugin_trial import Trials
from tulle.lake.access import people
from tulle.serving.operations import operations
from tulle.serving.service import Service
from tulle.spec.tier import Offer, mesh_tiers
from tulle.state.connections import open_connections

_USER: Final = "user:"
_MOST_TOLD: Final = 50  # of one list and sort: a list may name a great many
_MOST_COMPARED: Final = 2000  # applications that a misspelt id is held against
_WORDS: Final[
    Mapping[str, tuple[str, str]]
] = {  # by what is named, why it is told, and what to do where there is none
    "tier": ("there is no tier '{}'", "say it under `tiers`"),
    "group": ("there is no group '{}'", "make it before somebody is to be in it"),
    "connection": ("there is no connection '{}'", "`tulle connection set` makes one"),
    "plugin": (
        "no installed package brings the policy '{}'",
        f"install one that has it in the entry points '{GROUP}'",
    ),
}
_ELSEWHERE: Final = re.compile("(token|introspection|ldap):.")  # named by whom the mesh cannot ask


class PolicyNames:
    """What there is in a mesh, read when it is first asked for."""

    def __init__(self, workspace: Workspace, settings: Settings | None = None) -> None:
        self._workspace = workspace
        self.settings = settings or workspace.settings
        self._trials = Trials()

    def unknown(self, written: Sequence[Written], tiers: Collection[str]) -> Iterator[Misplaced]:
        """What a list names that is not there; `tiers` are those that its callers may be under."""
        wrong, doubtful = 0, 0
        for one in self._found(written, tiers):
            wrong, doubtful = wrong + (not one.is_doubtful), doubtful + one.is_doubtful
            if (doubtful if one.is_doubtful else wrong) <= _MOST_TOLD:
                yield one

    def _found(self, written: Sequence[Written], tiers: Collection[str]) -> Iterator[Misplaced]:
        known = known_kinds()
        for number, one in enumerate(written):
            for named in known.named(one.policy.kind, one.policy.settings):
                if (found := self._unknown(named, tiers)) is not None:
                    message, hint, is_doubtful = found
                    yield Misplaced((number, *named.path), message, hint, is_doubtful)
            if one.policy.kind == "custom" and (bad := self._trials.problem(one.policy.settings)) is not None:
                yield Misplaced((number, "plugin"), bad.message, bad.hint)

    def tiers_of(self, offered: Offer) -> frozenset[str]:
        """The tiers that callers of who offers this may be under: its own, and by a product's contracts the mesh's."""
        return frozenset(tier.name for tier in offered.tiers) | self._tiers_of_mesh

    def tiers_recorded(self, name: str) -> frozenset[str]:
        """The same of a service or an API as its product was applied last."""
        return self.tiers_of(self._offers.get(name, Offer()))

    @cached_property
    def tiers(self) -> frozenset[str]:
        """Every tier of the mesh and of what is applied."""
        return self._tiers_of_mesh.union(*(self.tiers_of(one) for one in self._offers.values()))

    def _unknown(self, named: Named, tiers: Collection[str]) -> tuple[str, str | None, bool] | None:
        name = named.name
        if named.what == "client":
            return self._unknown_client(name)
        known = tiers if named.what == "tier" else self._known(named.what)
        if name in known:
            return None
        message, otherwise = _WORDS[named.what]
        hint = did_you_mean(name, known) or otherwise
        return message.format(name), hint, named.what != "tier"

    def _known(self, what: str) -> Sequence[str]:
        match what:
            case "group":
                return self._groups
            case "connection":
                return self._connections
            case _:
                return self._plugins

    def _unknown_client(self, name: str) -> tuple[str, str | None, bool] | None:
        if name.startswith(_USER):
            user = name.removeprefix(_USER)
            if self._is_user(user):
                return None
            return f"there is no user '{user}'", f"`tulle user create {user}` makes one", True
        if _ELSEWHERE.match(name) or name in self._keys or name in self._ids:
            return None
        if (id_ := self._applications.get(name)) is not None:
            return f"'{name}' is the name of an application, whose id is '{id_}'", f"write '{id_}'", False
        few = len(self._ids) <= _MOST_COMPARED
        near = nearest(name, [*self._ids, *self._applications]) if few else None
        hint = "write an id as `tulle app list` or `tulle api key list` has it, or such as token:<name>"
        if near is not None:
            hint = f"did you mean '{self._applications.get(near, near)}'?"
        return f"no application and no key has the id '{name}'", hint, True

    @cached_property
    def _tiers_of_mesh(self) -> frozenset[str]:
        try:
            return frozenset(tier.name for tier in mesh_tiers(self.settings))
        except TulleError:  # which is told of mesh.yaml
            return frozenset(str(one.get("name")) for one in self.settings.tiers)

    @cached_property
    def _offers(self) -> dict[str, Offer]:
        with self._workspace.database.read() as cx:
            return dict(offer.offers(cx))

    @cached_property
    def _applications(self) -> dict[str, str]:
        return dict(applications.client_ids(self._workspace.database, ""))

    @cached_property
    def _ids(self) -> frozenset[str]:
        return frozenset(self._applications.values())

    @cached_property
    def _keys(self) -> Collection[str]:
        return service_keys.labels(self._workspace.database).keys()

    @cached_property
    def _connections(self) -> Sequence[str]:
        stamps = open_connections(self.settings, self._workspace.database).stamps()
        return sorted({name for name, _ in stamps})

    @cached_property
    def _plugins(self) -> Sequence[str]:
        return installed()

    @cached_property
    def _groups(self) -> Sequence[str]:
        with self._workspace.database.read() as cx:
            return [group.id for group in people.list_groups(cx)]

    def _is_user(self, name: str) -> bool:
        try:
            with self._workspace.database.read() as cx:
                people.get_user(cx, name)
        except NotFound:
            return False
        return True


def unmet_of_service(
    service: Service, written: Sequence[Written], further: Iterable[Mapping[str, Any]] = ()
) -> Iterator[Misplaced]:
    """Operations of a list that are neither a service's, as its file has it, nor those of `further` endpoints."""
    endpoints: list[tuple[str, str]] = [(one.name, one.type) for one in service.endpoints]
    endpoints += [(str(one.get("name")), str(one.get("type"))) for one in further]
    yield from unmet(operations(endpoints), written, f"service '{service.name}'", that=" that it answers")
