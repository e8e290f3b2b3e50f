"""Policies: what their statements allow and deny, in lakeFS's form. Pure.

    {"effect": "allow", "action": ["fs:Read*"], "resource": "arn:lakefs:fs:::repository/sales/*"}

An action and a resource are globs; a resource may hold `${user}` and may be a list, written as JSON in the text
as lakeFS's clients do. What nothing allows is denied, and what something denies is denied whatever allows it.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from tulle.errors import Invalid

MAX_STATEMENTS = 100
_ACTION = re.compile(r"(\*|[a-z]+:[A-Za-z*?]+)\Z")
MAX_RESOURCES = 1000  # of one statement
_RESOURCE = re.compile(r"(\*|arn:lakefs:[^\x00-\x1f\x7f]*)\Z")


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a policy. `networks` are those a caller must be in, none for any."""

    effect: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    networks: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """In lakeFS's form."""
        resource = self.resources[0] if len(self.resources) == 1 else json.dumps(list(self.resources))
        value: dict[str, Any] = {"effect": self.effect, "action": list(self.actions), "resource": resource}
        if self.networks:
            value["condition"] = {"IpAddress": {"SourceIp": list(self.networks)}}
        return value


@dataclass(frozen=True, slots=True)
class Policy:
    """A named list of statements."""

    id: str
    statements: tuple[Statement, ...]
    created_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether something is allowed, and why."""

    allowed: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Rules:
    """The statements that hold for one user, with the policy each is of. `conditional`: where from matters."""

    user: str
    rules: tuple[tuple[str, Statement], ...] = ()
    conditional: bool = False

    def decide(self, action: str, resources: Sequence[str], client: str = "") -> Decision:
        """Whether the user may do `action` on what any of `resources` names."""
        allowed_by = ""
        for policy, statement in self.rules:
            if statement.effect == "allow" and allowed_by:
                continue
            if not any(_matches(pattern, action) for pattern in statement.actions):
                continue
            if not any(_matches(p, resource) for p in statement.resources for resource in resources):
                continue
            # Of whom it is not known where they call from, neither is it known that a deny does not hold.
            if statement.networks and not _is_in(
                client, statement.networks, unknown=statement.effect == "deny"
            ):
                continue
            if statement.effect == "deny":
                return Decision(False, f"policy '{policy}' denies it")
            allowed_by = policy
        if allowed_by:
            return Decision(True, f"policy '{allowed_by}' allows it")
        return Decision(False, "no policy of the user allows it")

    def decide_below(self, action: str, beginnings: Sequence[str]) -> Decision:
        """Whether the user may do `action` on everything whose name begins with one of `beginnings`.

        Names of the same things, as in `decide`. A deny that could touch any of it refuses all of it.
        """
        allowed_by = ""
        for policy, statement in self.rules:
            if not any(_matches(pattern, action) for pattern in statement.actions):
                continue
            if statement.effect == "deny":
                if any(_overlaps(p, beginning) for p in statement.resources for beginning in beginnings):
                    return Decision(False, f"policy '{policy}' denies part of it")
            elif not statement.networks and any(
                _covers(p, beginning) for p in statement.resources for beginning in beginnings
            ):
                allowed_by = allowed_by or policy
        if allowed_by:
            return Decision(True, f"policy '{allowed_by}' allows it")
        return Decision(False, "no policy of the user allows all of it")

    def decide_shown(self, action: str, hidden: Sequence[str], shown: Sequence[str]) -> Decision:
        """Whether what begins with one of `hidden` may come to begin with one of `shown`, too.

        It may where `action` is allowed on no more of the second than of the first. Both are names of the same
        things, as in `decide`. What is too involved to compare is refused.
        """
        for policy, rest in self._left(action, shown, "allow"):
            if not any(rest.is_in(other) for _, other in self._left(action, hidden, "allow")):
                return Decision(False, f"policy '{policy}' allows it of the one, none of the other")
        for policy, rest in self._left(action, hidden, "deny"):
            if not any(rest.is_in(other) for _, other in self._left(action, shown, "deny")):
                return Decision(False, f"policy '{policy}' denies it of the other alone")
        return Decision(True, "the policies say the same of both")

    def _left(self, action: str, beginnings: Sequence[str], effect: str) -> Iterator[tuple[str, _Rest]]:
        for policy, statement in self.rules:
            if statement.effect == effect and any(_matches(p, action) for p in statement.actions):
                for pattern in statement.resources:
                    for beginning in beginnings:
                        for left in _left_of(pattern, beginning):
                            yield policy, _Rest(left, statement.networks)


@dataclass(frozen=True, slots=True)
class _Rest:
    """What is left of a pattern when a name's beginning was matched, and from where it holds."""

    pattern: str
    networks: tuple[str, ...]

    def is_in(self, other: _Rest) -> bool:
        """Whether the other matches all that this matches: where it cannot be seen, no."""
        if other.networks and other.networks != self.networks:
            return False
        fixed = other.pattern.rstrip("*")
        return self.pattern == other.pattern or (
            fixed != other.pattern and not set(fixed) & {"*", "?"} and self.pattern.startswith(fixed)
        )


def _left_of(pattern: str, beginning: str) -> set[str]:
    """All that may be left of a pattern when its first part has matched the beginning of a name."""
    lefts = _without_stars({pattern})
    for c in beginning:
        fitting = [left for left in lefts if left[:1] in {"*", "?", c}]
        lefts = _without_stars({left if left[0] == "*" else left[1:] for left in fitting})
    return lefts


def _without_stars(lefts: set[str]) -> set[str]:
    """These, and what is left of each when stars at its beginning match nothing."""
    found = set(lefts)
    for left in lefts:
        stars = len(left) - len(left.lstrip("*"))
        found.update(left[number:] for number in range(1, stars + 1))
    return found


def _covers(pattern: str, beginning: str) -> bool:
    """Whether a pattern matches whatever begins so: its last star takes what follows the beginning."""
    return pattern.endswith("*") and _matches(pattern, beginning)


def _overlaps(pattern: str, beginning: str) -> bool:
    """Whether a pattern could match something that begins so."""
    fixed = re.split(r"[*?]", pattern, maxsplit=1)[0]
    if fixed == pattern:
        return pattern.startswith(beginning)
    return fixed.startswith(beginning) or beginning.startswith(fixed)


def rules_for(user: str, policies: Iterable[Policy]) -> Rules:
    """What holds for a user with these policies."""
    pairs = []
    for policy in policies:
        for statement in policy.statements:
            names = tuple(name.replace("${user}", user) for name in statement.resources)
            pairs.append((policy.id, replace(statement, resources=names)))
    return Rules(user, tuple(pairs), any(statement.networks for _, statement in pairs))


def parse(id_: str, statements: Any, created_at: float = 0.0) -> Policy:
    """A policy from plain values. Invalid, naming the statement."""
    if not re.match(r"[\w+=,.@-]{1,127}\Z", id_):
        raise Invalid(
            f"'{id_}' cannot be the name of a policy", hint="1 to 127 letters, digits and + = , . @ - _"
        )
    if not isinstance(statements, Sequence) or isinstance(statements, str) or not statements:
        raise Invalid(f"policy '{id_}' has no statement")
    if len(statements) > MAX_STATEMENTS:
        raise Invalid(
            f"policy '{id_}' has {len(statements)} statements, at most {MAX_STATEMENTS} are allowed"
        )
    found = tuple(_statement(id_, number, value) for number, value in enumerate(statements, start=1))
    return Policy(id_, found, created_at)


def _statement(policy: str, number: int, value: Any) -> Statement:
    where = f"statement {number} of policy '{policy}'"
    if not isinstance(value, Mapping):
        raise Invalid(f"{where} is no mapping")
    effect = value.get("effect")
    if not isinstance(effect, str) or effect not in {"allow", "deny"}:
        raise Invalid(f"{where}: effect is {effect!r}", hint="allow or deny")
    actions = value.get("action")
    if not isinstance(actions, Sequence) or isinstance(actions, str) or not actions:
        raise Invalid(f"{where} has no list of actions")
    for action in actions:
        if not isinstance(action, str) or not _ACTION.match(action):
            raise Invalid(
                f"{where}: {action!r} is no action", hint="for example fs:ReadObject, fs:List* or *"
            )
    return Statement(
        effect,
        tuple(actions),
        _resources(where, value.get("resource")),
        _networks(where, value.get("condition")),
    )


def _resources(where: str, value: Any) -> tuple[str, ...]:
    found = [value]
    if isinstance(value, str) and value.startswith("["):
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            raise Invalid(f"{where}: resource is no JSON list: {value[:60]}") from None
    if not found:
        raise Invalid(f"{where} has no resource")
    if len(found) > MAX_RESOURCES:
        raise Invalid(f"{where} has {len(found)} resources, at most {MAX_RESOURCES} are allowed")
    for item in found:
        if not isinstance(item, str) or not _RESOURCE.match(item) or len(item) > 2048:
            raise Invalid(
                f"{where}: {str(item)[:200]!r} is no resource",
                hint="for example arn:lakefs:fs:::repository/sales/* or *",
            )
    return tuple(found)


def _networks(where: str, condition: Any) -> tuple[str, ...]:
    if condition is None or condition == {}:
        return ()
    try:
        (operator, tests), *others = condition.items()
        (key, values), *more = tests.items()
    except (AttributeError, ValueError):
        raise Invalid(f"{where}: the condition cannot be read") from None
    if others or more:
        raise Invalid(f"{where} has several conditions", hint="one is known: IpAddress with SourceIp")
    if (operator, key.lower()) != ("IpAddress", "sourceip"):
        raise Invalid(f"{where}: condition '{operator}' is not known", hint="IpAddress with SourceIp is")
    values = [values] if isinstance(values, str) else values
    if not isinstance(values, list) or not values:  # none would be a condition that holds for everybody
        raise Invalid(f"{where}: the condition names no network", hint="for example 10.0.0.0/8")
    for value in values:
        if not isinstance(value, str) or not _is_network(value):
            raise Invalid(f"{where}: {value!r} is no network", hint="for example 10.0.0.0/8")
    return tuple(values)


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _is_in(client: str, networks: Sequence[str], *, unknown: bool) -> bool:
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return unknown
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    return any(address in ipaddress.ip_network(network, strict=False) for network in networks)


@lru_cache(4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    # The first place where a part fits is as good as any later one, so nothing is ever tried twice: a pattern
    # of many stars costs no more than its length times that of the text.
    first, *parts = (re.escape(part).replace(r"\?", ".") for part in re.split(r"\*+", pattern))
    if not parts:
        return re.compile(first + r"\Z", re.DOTALL)
    middle = "".join(f"(?>.*?{part})" for part in parts[:-1])
    return re.compile(f"{first}{middle}.*{parts[-1]}\\Z", re.DOTALL)


def _matches(pattern: str, text: str) -> bool:
    if pattern in {"*", text}:
        return True
    return ("*" in pattern or "?" in pattern) and bool(_compiled(pattern).match(text))
