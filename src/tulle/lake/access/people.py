"""Users, groups, policies and access keys as they are recorded: functions on rows, inside the caller's transaction.

Knows nothing of what is allowed.
"""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import Column, Connection, Select, Table, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from tulle.errors import AlreadyExists, Invalid, NotFound, did_you_mean
from tulle.lake.access.policy import Policy, parse
from tulle.state.db import now
from tulle.state.tables import (
    access_keys,
    api_passwords,
    group_members,
    groups,
    policies,
    policy_attachments,
    users,
)

_NAME = re.compile(r"[\w+=,.@-][\w+=,.@ -]{0,254}\Z")
_KEY_CHARACTERS = string.ascii_uppercase + "234567"
_SECRET_CHARACTERS = string.ascii_letters + string.digits + "+/"

Holder = Literal["user", "group"]


@dataclass(frozen=True, slots=True)
class User:
    """Somebody, or some program, that has permissions."""

    id: str
    friendly_name: str
    email: str
    created_at: float


@dataclass(frozen=True, slots=True)
class Group:
    """A group of users."""

    id: str
    description: str
    created_at: float


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A key of a user; `secret` is there once, when it is made."""

    id: str
    user: str
    created_at: float
    secret: str = field(default="", repr=False)
    expires_at: float | None = None


def has_any(cx: Connection) -> bool:
    """Whether there is a policy or a group: not so in a new mesh."""
    return any(cx.execute(select(table.c.id).limit(1)).first() is not None for table in (policies, groups))


def has_keys(cx: Connection) -> bool:
    """Whether there is an access key."""
    return cx.execute(select(access_keys.c.id).limit(1)).first() is not None


def add_user(cx: Connection, id_: str, friendly_name: str = "", email: str = "") -> User:
    """Record a user. AlreadyExists."""
    user = User(_named(id_, "user"), friendly_name, email, now())
    values = {"id": id_, "friendly_name": friendly_name, "email": email, "created_at": user.created_at}
    _add(cx, users, values, f"user '{id_}'")
    return user


def get_user(cx: Connection, id_: str) -> User:
    """A user. NotFound, with the nearest name."""
    return _user(_get(cx, users, id_, "user"))


def list_users(cx: Connection, prefix: str = "", after: str = "", limit: int | None = None) -> list[User]:
    """Users by name."""
    return [_user(row) for row in cx.execute(_page(select(users), users.c.id, prefix, after, limit))]


def delete_user(cx: Connection, id_: str) -> None:
    """Remove a user with keys, memberships and attachments. NotFound."""
    _get(cx, users, id_, "user")
    for table, column in ((access_keys, "user_id"), (api_passwords, "user_id"), (group_members, "user_id")):
        cx.execute(delete(table).where(table.c[column] == id_))
    _detach_all(cx, "user", id_)
    cx.execute(delete(users).where(users.c.id == id_))


def add_group(cx: Connection, id_: str, description: str = "") -> Group:
    """Record a group. AlreadyExists."""
    group = Group(_named(id_, "group"), description, now())
    values = {"id": id_, "description": description, "created_at": group.created_at}
    _add(cx, groups, values, f"group '{id_}'")
    return group


def get_group(cx: Connection, id_: str) -> Group:
    """A group. NotFound, with the nearest name."""
    return _group(_get(cx, groups, id_, "group"))


def list_groups(cx: Connection, prefix: str = "", after: str = "", limit: int | None = None) -> list[Group]:
    """Groups by name."""
    return [_group(row) for row in cx.execute(_page(select(groups), groups.c.id, prefix, after, limit))]


def delete_group(cx: Connection, id_: str) -> None:
    """Remove a group; its members stay. NotFound."""
    _get(cx, groups, id_, "group")
    cx.execute(delete(group_members).where(group_members.c.group_id == id_))
    _detach_all(cx, "group", id_)
    cx.execute(delete(groups).where(groups.c.id == id_))


def add_member(cx: Connection, group: str, user: str) -> None:
    """Put a user into a group; again does nothing. NotFound."""
    get_group(cx, group)
    get_user(cx, user)
    where = (group_members.c.group_id == group, group_members.c.user_id == user)
    if cx.execute(select(group_members).where(*where)).first() is None:
        cx.execute(insert(group_members).values(group_id=group, user_id=user))


def remove_member(cx: Connection, group: str, user: str) -> None:
    """Take a user out of a group. NotFound."""
    where = (group_members.c.group_id == group, group_members.c.user_id == user)
    if not cx.execute(delete(group_members).where(*where)).rowcount:
        raise NotFound(f"'{user}' is not in group '{group}'")


def members(
    cx: Connection, group: str, prefix: str = "", after: str = "", limit: int | None = None
) -> list[User]:
    """The users of a group. NotFound."""
    get_group(cx, group)
    query = select(users).join(group_members, group_members.c.user_id == users.c.id)
    query = _page(query.where(group_members.c.group_id == group), users.c.id, prefix, after, limit)
    return [_user(row) for row in cx.execute(query)]


def groups_of(
    cx: Connection, user: str, prefix: str = "", after: str = "", limit: int | None = None
) -> list[Group]:
    """The groups of a user. NotFound."""
    get_user(cx, user)
    query = select(groups).join(group_members, group_members.c.group_id == groups.c.id)
    query = _page(query.where(group_members.c.user_id == user), groups.c.id, prefix, after, limit)
    return [_group(row) for row in cx.execute(query)]


def add_policy(cx: Connection, id_: str, statements: Any) -> Policy:
    """Record a policy. AlreadyExists, Invalid."""
    policy = parse(id_, statements, now())
    plain = [statement.as_dict() for statement in policy.statements]
    values = {"id": id_, "statements": plain, "created_at": policy.created_at}
    _add(cx, policies, values, f"policy '{id_}'")
    return policy


def set_policy(cx: Connection, id_: str, statements: Any) -> Policy:
    """Replace a policy's statements. NotFound, Invalid."""
    policy = parse(id_, statements, get_policy(cx, id_).created_at)
    plain = [statement.as_dict() for statement in policy.statements]
    cx.execute(update(policies).where(policies.c.id == id_).values(statements=plain))
    return policy


def get_policy(cx: Connection, id_: str) -> Policy:
    """A policy. NotFound, with the nearest name."""
    return _policy(_get(cx, policies, id_, "policy"))


def list_policies(
    cx: Connection, prefix: str = "", after: str = "", limit: int | None = None
) -> list[Policy]:
    """Policies by name."""
    return [_policy(row) for row in cx.execute(_page(select(policies), policies.c.id, prefix, after, limit))]


def delete_policy(cx: Connection, id_: str) -> None:
    """Remove a policy from whoever has it. NotFound."""
    _get(cx, policies, id_, "policy")
    cx.execute(delete(policy_attachments).where(policy_attachments.c.policy_id == id_))
    cx.execute(delete(policies).where(policies.c.id == id_))


def attach(cx: Connection, policy: str, kind: Holder, holder: str) -> None:
    """Give a policy to a user or group; again does nothing. NotFound."""
    get_policy(cx, policy)
    _holder(cx, kind, holder)
    if cx.execute(select(policy_attachments).where(*_attached(policy, kind, holder))).first() is None:
        values = {"policy_id": policy, "holder_kind": kind, "holder_id": holder}
        cx.execute(insert(policy_attachments).values(**values))


def detach(cx: Connection, policy: str, kind: Holder, holder: str) -> None:
    """Take a policy away again. NotFound."""
    if not cx.execute(delete(policy_attachments).where(*_attached(policy, kind, holder))).rowcount:
        raise NotFound(f"policy '{policy}' is not attached to {kind} '{holder}'")


def policies_of(
    cx: Connection, kind: Holder, holder: str, prefix: str = "", after: str = "", limit: int | None = None
) -> list[Policy]:
    """The policies attached to a user or group itself. NotFound."""
    _holder(cx, kind, holder)
    query = select(policies).join(policy_attachments, policy_attachments.c.policy_id == policies.c.id)
    query = query.where(policy_attachments.c.holder_kind == kind, policy_attachments.c.holder_id == holder)
    return [_policy(row) for row in cx.execute(_page(query, policies.c.id, prefix, after, limit))]


def effective_policies(cx: Connection, user: str) -> list[Policy]:
    """The policies of a user and of the user's groups, by name. NotFound."""
    found = {policy.id: policy for policy in policies_of(cx, "user", user)}
    for group in groups_of(cx, user):
        found |= {policy.id: policy for policy in policies_of(cx, "group", group.id)}
    return [found[id_] for id_ in sorted(found)]


def add_key(
    cx: Connection, user: str, encrypt: Callable[[str, str], bytes], *, expires_at: float | None = None
) -> AccessKey:
    """Make a key for a user; `encrypt(secret, purpose)` makes the form that is stored. NotFound."""
    get_user(cx, user)
    if expires_at is not None and expires_at <= now():
        raise Invalid("the key would have expired before it is made")
    id_ = "AKIAJ" + "".join(secrets.choice(_KEY_CHARACTERS) for _ in range(14)) + "Q"
    secret = "".join(secrets.choice(_SECRET_CHARACTERS) for _ in range(40))
    made = AccessKey(id_, user, now(), secret, expires_at)
    cx.execute(
        insert(access_keys).values(
            id=id_,
            user_id=user,
            secret=encrypt(secret, id_),
            created_at=made.created_at,
            expires_at=expires_at,
        )
    )
    return made


def find_key(cx: Connection, id_: str) -> tuple[AccessKey, bytes] | None:
    """A key that has not expired, and its encrypted secret; None for any other."""
    row = cx.execute(select(access_keys).where(access_keys.c.id == id_)).first()
    if row is None or (row.expires_at is not None and row.expires_at <= now()):
        return None
    return _key(row), bytes(row.secret)


def keys_of(
    cx: Connection, user: str, prefix: str = "", after: str = "", limit: int | None = None
) -> list[AccessKey]:
    """A user's keys, without their secrets. NotFound."""
    get_user(cx, user)
    query = select(access_keys).where(access_keys.c.user_id == user)
    query = _page(query, access_keys.c.id, prefix, after, limit)
    return [_key(row) for row in cx.execute(query)]


def get_key(cx: Connection, user: str, id_: str) -> AccessKey:
    """A key of a user, without its secret. NotFound."""
    get_user(cx, user)
    where = (access_keys.c.id == id_, access_keys.c.user_id == user)
    row = cx.execute(select(access_keys).where(*where)).first()
    if row is None:
        raise NotFound(f"user '{user}' has no access key '{id_}'")
    return _key(row)


def delete_key(cx: Connection, user: str, id_: str) -> None:
    """Remove a key. NotFound."""
    where = (access_keys.c.id == id_, access_keys.c.user_id == user)
    if not cx.execute(delete(access_keys).where(*where)).rowcount:
        raise NotFound(f"user '{user}' has no access key '{id_}'")


def _add(cx: Connection, table: Table, values: dict[str, Any], what: str) -> None:
    if cx.execute(select(table.c.id).where(table.c.id == values["id"])).first() is not None:
        raise AlreadyExists(f"{what} exists")
    try:
        cx.execute(insert(table).values(**values))
    except IntegrityError:  # somebody else was as quick
        raise AlreadyExists(f"{what} exists") from None


def _get(cx: Connection, table: Table, id_: str, word: str) -> Any:
    row = cx.execute(select(table).where(table.c.id == id_)).first()
    if row is None:
        known: Sequence[str] = cx.execute(select(table.c.id)).scalars().all()
        raise NotFound(f"there is no {word} '{id_}'", hint=did_you_mean(id_, known))
    return row


def _holder(cx: Connection, kind: Holder, holder: str) -> None:
    _get(cx, users if kind == "user" else groups, holder, kind)


def _attached(policy: str, kind: Holder, holder: str) -> tuple[Any, ...]:
    return (
        policy_attachments.c.policy_id == policy,
        policy_attachments.c.holder_kind == kind,
        policy_attachments.c.holder_id == holder,
    )


def _detach_all(cx: Connection, kind: Holder, holder: str) -> None:
    where = (policy_attachments.c.holder_kind == kind, policy_attachments.c.holder_id == holder)
    cx.execute(delete(policy_attachments).where(*where))


def _page(query: Select[Any], column: Column[str], prefix: str, after: str, limit: int | None) -> Select[Any]:
    query = query.order_by(column)
    if prefix:
        query = query.where(column >= prefix, column < prefix + "\U0010ffff")
    if after:
        query = query.where(column > after)
    return query if limit is None else query.limit(limit)


def _named(id_: str, word: str) -> str:
    if not isinstance(id_, str) or not _NAME.match(id_):
        raise Invalid(
            f"'{id_}' cannot be the name of a {word}", hint="1 to 255 letters, digits and + = , . @ - _"
        )
    return id_


def _key(row: Any) -> AccessKey:
    return AccessKey(row.id, row.user_id, row.created_at, expires_at=row.expires_at)


def _user(row: Any) -> User:
    return User(row.id, row.friendly_name, row.email, row.created_at)


def _group(row: Any) -> Group:
    return Group(row.id, row.description, row.created_at)


def _policy(row: Any) -> Policy:
    return parse(row.id, row.statements, row.created_at)
