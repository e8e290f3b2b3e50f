"""Who finds which API: the one answer for every door, page and search.

Whoever may not see an API meets it as what is not there. Knows people and products, and nothing of how anybody came in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tulle.errors import NotFound, did_you_mean
from tulle.gateway.apis import records
from tulle.gateway.apis.declared import ApiDeclared
from tulle.gateway.apis.records import RemovedApi
from tulle.lake.access import Access, people
from tulle.serving import generation
from tulle.state import products
from tulle.state.db import Database

NOBODY: Final = ""  # who reads without having signed in


class Sight:
    """Who sees what in one mesh. Safe to share between threads."""

    def __init__(self, database: Database, access: Access) -> None:
        self._database = database
        self._access = access
        self._apis = records.Followed(database)

    def sees(self, user: str | None, product: str, visibility: str, visible_to: Sequence[str] = ()) -> bool:
        """Whether `user` finds an API of `product`; None is the mesh's token, which finds all, `NOBODY` a stranger.

        `visible_to` are domains (`domain:…`) and roles (`role:…`), as `ApiDeclared` has them.
        """
        if user is None or visibility == "public":
            return True
        if user == NOBODY:
            return False
        return self.belongs(user, product) or any(self._matches(user, one) for one in visible_to)

    def demand(self, user: str | None, name: str) -> None:
        """Refuse the name of an API or a service that somebody does not find. NotFound, as where there is none."""
        if user is not None and name not in (known := self.names(user)):
            raise NotFound(
                f"there is no API '{name}'", hint=did_you_mean(name, known) or "`tulle api list` shows them"
            )

    def names(self, user: str) -> frozenset[str]:
        """What somebody may ask for: APIs that they find, and services, but where an API of the name says otherwise."""
        services = {name for item in products.applied(self._database) for name in item.services or ()}
        services |= {one.service for one in generation.everywhere(self._database)}
        return frozenset((services | {one.name for one in self._apis.look()}) - self.hidden(user))

    def hidden(self, user: str | None) -> frozenset[str]:
        """The names that somebody may not know: of APIs that are not for them, or were not while they were there."""
        if user is None:
            return frozenset()
        found: list[ApiDeclared | RemovedApi] = [one.declared for one in self._apis.look()]
        found += records.removed(self._database)
        return frozenset(
            one.name for one in found if not self.sees(user, one.product, one.visibility, one.visible_to)
        )

    def belongs(self, user: str, product: str) -> bool:
        """Whether somebody is of a product's people: whoever may read what it is made of."""
        if user == NOBODY:
            return False
        resource = self._access.resource_repository(product)
        return self._access.decide(user, "fs:ReadRepository", resource).allowed

    def may_change(self, user: str | None, product: str, branch: str) -> bool:
        """Whether somebody may change what a product publishes on a branch: its owners."""
        if user is None:
            return True
        if user == NOBODY:
            return False
        resource = self._access.resource_branch(product, branch)
        return self._access.decide(user, "fs:CreateCommit", resource).allowed

    def _matches(self, user: str, whom: str) -> bool:
        kind, _, name = whom.partition(":")
        if kind == "domain":
            known = products.applied(self._database)
            return any(
                item.product.domain == name and self.belongs(user, item.product.name) for item in known
            )
        try:
            groups = self._access.read(lambda cx: people.groups_of(cx, user))
        except NotFound:
            return False
        return any(group.id == name for group in groups)
