"""Who finds which API: the one answer for every door, page and search.

Whoever may not see an API meets it as what is not there. Knows people and products, and nothing of how anybody came in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from tulle.errors import NotFound, did_you_mean
from tulle.gateway.apis import records
from tulle.gateway.apis.declared import ApiDeclared
from tulle.gateway.apis.records import RemovedApi
from tulle.lake.access import Access, people
from tulle.serving import generation
from tulle.spec.roles import PUBLISHED
from tulle.state import products
from tulle.state.db import Database

NOBODY: Final = ""  # who reads without having signed in


class Sight:
    """Who sees what in one mesh. Safe to share between threads."""

    def __init__(self, database: Database, access: Access) -> None:
        self._database = database
        self._access = access

    def of(self, user: str | None) -> View:
        """What somebody sees; None is the mesh's token, which finds all, `NOBODY` a stranger."""
        return View(self, user)

    def sees(self, user: str | None, product: str, visibility: str, visible_to: Sequence[str] = ()) -> bool:
        """Whether `user` finds an API of `product`, as `View.sees` tells of many."""
        return self.of(user).sees(product, visibility, visible_to)

    def demand(self, user: str | None, name: str) -> None:
        """Refuse the name of an API or a service that somebody does not find. NotFound, as where there is none."""
        if user is None or self._may_ask_for(user, name):
            return
        known = self.names(user)
        if name not in known:
            raise NotFound(
                f"there is no API '{name}'", hint=did_you_mean(name, known) or "`tulle api list` shows them"
            )

    def _may_ask_for(self, user: str, name: str) -> bool:
        """Whether there is an API of the name that they find: for most, there is no need to look at all others."""
        found = records.declared(self._database, name)
        return found is not None and self.sees(user, found.product, found.visibility, found.visible_to)

    def names(self, user: str) -> frozenset[str]:
        """What somebody may ask for: APIs that they find, and services, but where an API of the name says otherwise."""
        services = set(products.declared_services(self._database))
        services |= {one.service for one in generation.everywhere(self._database)}
        apis = {one.name for one in records.followed(self._database)}
        return frozenset((services | apis) - self.hidden(user))

    def hidden(self, user: str | None) -> frozenset[str]:
        """The names that somebody may not know: of APIs that are not for them, or were not while they were there."""
        if user is None:
            return frozenset()
        view = self.of(user)
        found: list[ApiDeclared | RemovedApi] = [one.declared for one in records.followed(self._database)]
        found += records.removed(self._database)
        return frozenset(
            one.name for one in found if not view.sees(one.product, one.visibility, one.visible_to)
        )

    def belongs(self, user: str, product: str) -> bool:
        """Whether somebody is of a product's people: its owners and developers, and whoever may do their work.

        To read what it is made of makes nobody one of them: users usually may, and its consumers.
        """
        if user == NOBODY:
            return False
        resource = self._access.resource_branch(product, PUBLISHED)
        return self._access.decide(user, "fs:CreateBranch", resource).allowed

    def may_change(self, user: str | None, product: str, branch: str) -> bool:
        """Whether somebody may change what a product publishes on a branch: its owners."""
        if user is None:
            return True
        if user == NOBODY:
            return False
        resource = self._access.resource_branch(product, branch)
        return self._access.decide(user, "fs:CreateCommit", resource).allowed

    def domains(self) -> Mapping[str, Sequence[str]]:
        """The products of each domain, by name."""
        return products.domains(self._database)

    def roles(self, user: str) -> frozenset[str]:
        """The groups of somebody, none of whom is not there."""
        try:
            return frozenset(group.id for group in self._access.read(lambda cx: people.groups_of(cx, user)))
        except NotFound:
            return frozenset()


class View:
    """What one person sees, for as long as one question takes: named domains and roles are looked at once."""

    def __init__(self, sight: Sight, user: str | None) -> None:
        self._sight = sight
        self._user = user
        self._products: Mapping[str, Sequence[str]] | None = None  # by domain
        self._domains: dict[str, bool] = {}  # whether they are of its people
        self._roles: frozenset[str] | None = None

    def sees(self, product: str, visibility: str, visible_to: Sequence[str] = ()) -> bool:
        """Whether they find an API of `product`.

        `visible_to` are domains (`domain:…`) and roles (`role:…`), as `ApiDeclared` has them.
        """
        if self._user is None or visibility == "public":
            return True
        if self._user == NOBODY:
            return False
        user = self._user
        return self._sight.belongs(user, product) or any(self._matches(user, one) for one in visible_to)

    def _matches(self, user: str, whom: str) -> bool:
        kind, _, name = whom.partition(":")
        if kind == "domain":
            if name not in self._domains:
                if self._products is None:
                    self._products = self._sight.domains()
                of = self._products.get(name, ())
                self._domains[name] = any(self._sight.belongs(user, one) for one in of)
            return self._domains[name]
        if self._roles is None:
            self._roles = self._sight.roles(user)
        return name in self._roles
