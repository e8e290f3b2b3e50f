"""The roles of products in the lake's permissions: what is there against what documents say, and putting it right.

Who has a product's roles is decided by its document alone: whoever was put into a role by hand is told as drift and
taken out by the next apply. Names the lake has no user or group for wait, and are given their role by the apply that
follows when they exist. Who may do what with a role is in `spec.roles`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import Connection

from tulle.catalog import query_log
from tulle.control.workspace import Workspace
from tulle.errors import NotFound, Problem
from tulle.events import ACCESS_ROLES_CHANGED, Event
from tulle.lake.access import people
from tulle.lake.access.decide import make_built_in
from tulle.lake.access.overview import Overview, overview
from tulle.serving.package import products_of
from tulle.spec.product import DataProduct
from tulle.spec.roles import PRODUCT, ROLES, Role, reads_logs, role_name, roles_of
from tulle.state import log, products
from tulle.state.db import in_turn

Verb = Literal["make", "allow", "detach", "join", "leave", "attach", "strip"]


@dataclass(frozen=True, slots=True)
class GrantChange:
    """One thing to do for a role. `whom` is a user, a group, or a policy that the role has and should not.

    Users join and leave the role's group; its policy is attached to further groups, and stripped from whoever else
    was given it.
    """

    verb: Verb
    role: Role
    sentence: str
    whom: str = ""
    kind: people.Holder = "group"


def today() -> str:
    """The day by which people and agreements are in place."""
    return datetime.now(UTC).date().isoformat()


def look(workspace: Workspace) -> Overview:
    """What is there now."""
    with workspace.database.read() as cx:
        return overview(cx)


def logs(workspace: Workspace) -> Mapping[str, Sequence[str]]:
    """By product, the repositories in which queries of its services are kept.

    The log of a service that was another product's once is no product's: it tells what that one answered, too.
    """
    found: dict[str, list[str]] = {}
    kept = query_log.logs(workspace.lake)
    made_by = products_of(workspace.database) if kept else {}
    for service, repository in sorted(kept.items()):
        if len(owners := made_by.get(service, frozenset())) == 1:
            found.setdefault(next(iter(owners)), []).append(repository)
    return found


def changes(
    there: Overview,
    product: DataProduct,
    others: Mapping[str, DataProduct],
    logs: Mapping[str, Sequence[str]],
) -> tuple[GrantChange, ...]:
    """What has to be done for the roles of a product; nothing when all is as its document says."""
    roles = roles_of(product, others, today(), logs.get(product.name, ()))
    return tuple(c for role in roles for c in _changes(there, role))


def _changes(there: Overview, role: Role) -> Iterator[GrantChange]:
    name = role.name
    own = there.held_by("group", name)
    if name not in there.groups or name not in there.policies or name not in own:
        yield GrantChange("make", role, f"make role '{name}': {role.says}")
    elif there.policies[name] != list(role.statements):
        yield GrantChange("allow", role, f"role '{name}' may now {_may(role)}")
    for policy in sorted(own - {name}):
        yield GrantChange("detach", role, f"role '{name}' has policy '{policy}' no longer", policy)
    wanted = {user for user in map(there.user_called, role.users) if user is not None}
    members = there.members.get(name, set())
    for user in sorted(wanted - members):
        yield GrantChange("join", role, f"give role '{name}' to user '{user}'", user)
    for user in sorted(members - wanted):
        yield GrantChange("leave", role, f"take role '{name}' from user '{user}'", user)
    holders = set(there.holders.get(name, ())) - {("group", name)}
    groups = {("group", group) for group in role.groups if group in there.groups}
    for _, group in sorted(groups - holders):
        yield GrantChange("attach", role, f"give role '{name}' to group '{group}'", group)
    for kind, holder in sorted(holders - groups):
        told = f"take role '{name}' from {kind} '{holder}'"
        yield GrantChange("strip", role, told, holder, "user" if kind == "user" else "group")


def _may(role: Role) -> str:
    return role.says.replace("everything", "do everything", 1)


def waiting(there: Overview, product: DataProduct, others: Mapping[str, DataProduct]) -> tuple[str, ...]:
    """Whom a product's roles are for and who does not exist in the lake yet, in sentences."""
    found: list[str] = []
    for role in roles_of(product, others, today()):
        users = [name for name in role.users if there.user_called(name) is None]
        found += [f"role '{role.name}' waits for '{u}': no user of the lake is called that" for u in users]
        groups = [name for name in role.groups if name not in there.groups]
        found += [f"role '{role.name}' waits for group '{g}', which the lake does not have" for g in groups]
    return tuple(found)


# ── doing it ─────────────────────────────────────────────────────────────────────────────────────────────


def carry_out(cx: Connection, product: str, wanted: Sequence[GrantChange], *, actor: str = "") -> None:
    """Do all of it in the caller's transaction, and record it in the trail; done again it changes nothing."""
    if not wanted:
        return
    in_turn(cx, "access")  # nobody is given a policy while being removed
    make_built_in(cx)
    for change in wanted:
        _do(cx, change)
    data = {"changes": [change.sentence for change in wanted]}
    log.append(cx, Event(ACCESS_ROLES_CHANGED, product, data), actor=actor)


def _do(cx: Connection, change: GrantChange) -> None:
    name, whom = change.role.name, change.whom
    match change.verb:
        case "make":
            if not _is_there(people.get_policy, cx, name):
                people.add_policy(cx, name, change.role.statements)
            if not _is_there(people.get_group, cx, name):
                people.add_group(cx, name, change.role.says)
            people.set_policy(cx, name, change.role.statements)
            people.attach(cx, name, "group", name)
        case "allow":
            people.set_policy(cx, name, change.role.statements)
        case "detach":
            _gone(people.detach, cx, whom, "group", name)
        case "join":
            people.add_member(cx, name, whom)
        case "leave":
            _gone(people.remove_member, cx, name, whom)
        case "attach":
            people.attach(cx, name, "group", whom)
        case "strip":
            _gone(people.detach, cx, name, change.kind, whom)


def _is_there(find: Callable[[Connection, str], object], cx: Connection, name: str) -> bool:
    try:
        find(cx, name)
    except NotFound:
        return False
    return True


def _gone(remove: Callable[..., None], *arguments: Any) -> None:
    try:
        remove(*arguments)
    except NotFound:
        return  # somebody else did it


def remove_roles(cx: Connection, product: DataProduct, *, actor: str = "") -> None:
    """Take away the roles of a product that ends, from whoever has them; done again it changes nothing."""
    in_turn(cx, "access")
    gone = []
    for role in roles_of(product, {}):
        for find, remove in (
            (people.get_group, people.delete_group),
            (people.get_policy, people.delete_policy),
        ):
            if _is_there(find, cx, role.name):
                remove(cx, role.name)
                gone.append(role.name)
    if gone:
        told = [f"role '{name}' is taken away" for name in dict.fromkeys(gone)]
        log.append(cx, Event(ACCESS_ROLES_CHANGED, product.name, {"changes": told}), actor=actor)


def taken_with(workspace: Workspace, name: str) -> dict[str, tuple[GrantChange, ...]]:
    """What a product's people lose when it ends, by the product whose agreement names theirs.

    Nothing to do is in it too, where none of them has the role: that agreement says so all the same.
    """
    applied = {item.product.name: item.product for item in products.applied(workspace.database)}
    without = {key: product for key, product in applied.items() if key != name}
    there, found = look(workspace), {}
    for key, product in without.items():
        if not any(f"{PRODUCT}{name}" in agreement.consumers for agreement in product.agreements):
            continue
        after = roles_of(product, without, today())
        lost: list[GrantChange] = []
        for before, role in zip(roles_of(product, applied, today()), after, strict=True):
            stay = {there.user_called(user) for user in role.users}
            gone = {user for user in map(there.user_called, before.users) if user is not None} - stay
            for user in sorted(gone & there.members.get(role.name, set())):
                told = (
                    f"take role '{role.name}' from user '{user}', one of the people of '{name}', which ends"
                )
                lost.append(GrantChange("leave", role, told, user))
        found[key] = tuple(lost)
    return found


def taken_names(there: Overview, new: Iterable[DataProduct]) -> Iterator[Problem]:
    """Groups and policies that somebody made and that are called as a role of a product that is not applied yet is.

    Taking them over would give the role to whoever is in the group, and give away what else they were for.
    """
    for product in new:
        for role in ROLES:
            name = role_name(product.name, role)
            kinds = [k for k, known in (("group", there.groups), ("policy", there.policies)) if name in known]
            if kinds:
                yield Problem(
                    f"{' and '.join(kinds)} '{name}' of the lake was made by somebody, and a role of product "
                    f"'{product.name}' would be called so",
                    product.place,
                    f"name the product differently, or delete it: `lakectl auth groups delete --id {name}`, "
                    f"`lakectl auth policies delete --id {name}`",
                )


def end_what_ended(workspace: Workspace) -> int:
    """Take roles from those whose agreement, or time with the product, is over by what was applied; how many.

    The one change that nobody has to apply: access ends on the day it was agreed to.
    """
    applied = [item.product for item in products.applied(workspace.database)]
    others = {product.name: product for product in applied}
    there, kept, count = look(workspace), logs(workspace), 0
    for product in applied:
        ever = {role.name: role for role in roles_of(product, others)}
        found = changes(there, product, others, kept)
        over = [c for c in found if c.verb in {"leave", "strip"} and _was_meant(there, ever, c)]
        if over:
            with workspace.database.write() as cx:
                carry_out(cx, product.name, over, actor="tulle")
            count += len(over)
    return count


def follow_logs(workspace: Workspace) -> int:
    """Let people of products read the logs that their services have by now, and none that is gone; how many roles.

    This, too, nobody has to apply: who has a role is as it was.
    """
    applied = [item.product for item in products.applied(workspace.database)]
    others = {product.name: product for product in applied}
    there, kept, count = look(workspace), logs(workspace), 0
    for product in applied:
        without = {role.name: role for role in roles_of(product, others)}
        found = [
            change
            for change in changes(there, product, others, kept)
            if change.verb == "allow" and _differs_by_logs(there, without[change.role.name])
        ]
        if found:
            with workspace.database.write() as cx:
                carry_out(cx, product.name, found, actor="tulle")
            count += len(found)
    return count


def _differs_by_logs(there: Overview, without: Role) -> bool:
    """Whether a role is as documents say, but for which logs it reads."""
    said = there.policies[without.name]
    return [one for one in said if not reads_logs(one)] == [dict(one) for one in without.statements]


def _was_meant(there: Overview, ever: Mapping[str, Role], change: GrantChange) -> bool:
    role = ever[change.role.name]
    return change.whom in role.groups or change.whom in set(map(there.user_called, role.users))


# ── telling it ───────────────────────────────────────────────────────────────────────────────────────────


def as_plain(workspace: Workspace, product: DataProduct, applied: Iterable[DataProduct]) -> dict[str, Any]:
    """The roles of an applied product: what each may do, who has it, who waits, what is not as it should be."""
    there, others = look(workspace), {other.name: other for other in applied}
    kept = logs(workspace)
    roles = [
        {
            "name": role.name,
            "says": role.says,
            "users": sorted(there.members.get(role.name, ())),
            "groups": sorted(h for _, h in there.holders.get(role.name, ()) if h != role.name),
            "statements": [dict(statement) for statement in role.statements],
        }
        for role in roles_of(product, others, today(), kept.get(product.name, ()))
    ]
    return {
        "product": product.name,
        "roles": roles,
        "waiting": list(waiting(there, product, others)),
        "differs": [change.sentence for change in changes(there, product, others, kept)],
    }
