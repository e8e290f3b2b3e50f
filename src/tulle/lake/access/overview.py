"""Who has what, all at once: groups with members and policies, for those who compare it with what should be.

Four queries whatever the number of groups; functions of `people` change things.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, select

from tulle.state.tables import group_members, groups, policies, policy_attachments, users


@dataclass(frozen=True)
class Overview:
    """What is recorded now. `holders` of a policy are pairs of user or group, and its name."""

    users: Mapping[str, str]  # with their addresses
    groups: frozenset[str]
    policies: Mapping[str, Any]  # their statements in lakeFS's form
    members: Mapping[str, Set[str]]
    holders: Mapping[str, Set[tuple[str, str]]]

    def held_by(self, kind: str, holder: str) -> Set[str]:
        """The policies attached to a user or group itself."""
        return self._held.get((kind, holder), frozenset())

    def user_called(self, name: str) -> str | None:
        """The user with that name, or the only one with that address; None when there is none."""
        if name in self.users:
            return name
        found = self._with_address.get(name.casefold(), ())
        return found[0] if len(found) == 1 else None

    @cached_property
    def _held(self) -> Mapping[tuple[str, str], Set[str]]:
        found: dict[tuple[str, str], set[str]] = defaultdict(set)
        for policy, holders in self.holders.items():
            for holder in holders:
                found[holder].add(policy)
        return found

    @cached_property
    def _with_address(self) -> Mapping[str, Sequence[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for user, address in self.users.items():
            if address:
                found[address.casefold()].append(user)
        return found


def overview(cx: Connection) -> Overview:
    """Everything that is recorded of users, groups and policies, without keys."""
    members: dict[str, set[str]] = defaultdict(set)
    for member in cx.execute(select(group_members)):
        members[member.group_id].add(member.user_id)
    holders: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for held in cx.execute(select(policy_attachments)):
        holders[held.policy_id].add((held.holder_kind, held.holder_id))
    return Overview(
        {row.id: row.email or "" for row in cx.execute(select(users.c.id, users.c.email))},
        frozenset(cx.execute(select(groups.c.id)).scalars()),
        {row.id: row.statements for row in cx.execute(select(policies.c.id, policies.c.statements))},
        members,
        holders,
    )
