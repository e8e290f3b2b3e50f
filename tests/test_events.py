"""docs/reference/events.md is held to the code: every event is there, with the fields it is made with, and who is told."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tulle import events

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/reference/events.md").read_text()
KINDS: dict[str, str] = {
    name: value for name, value in vars(events).items() if isinstance(value, str) and name.isupper()
}
ROWS = {
    kind: (when, set(re.findall(r"`([a-z_]+)`", fields)), fields)
    for kind, when, fields in re.findall(
        r"^\| `([a-z_]+\.[a-z_]+)` \| [^|]+ \| ([^|]+) \| ([^|]*) \|$", PAGE, re.MULTILINE
    )
}
OF_A_CONTRACT = {
    *("contract", "client_id", "application", "kind", "service", "product", "version", "environment"),
    *("tier", "state", "until"),
}
# Of the first, further fields are those that were changed; the others are made by one function, of one mapping.
SEVERAL = {events.SERVICE_CHANGED, events.STEP_STARTED, events.STEP_FINISHED, events.STEPS_KEPT}
# Whoever follows events reads kinds there and makes none, but for the scheduler, which makes one.
FOLLOWERS = {
    "observe/incidents.py": set[str](),
    "control/contract_notices.py": set[str](),
    "control/profiles.py": set[str](),
    "pipeline/scheduler.py": {"DATA_LATE"},
}


def test_every_event_is_told_once() -> None:
    assert sorted(ROWS) == sorted(KINDS.values())
    told = re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \|", PAGE, re.MULTILINE)
    assert len(told) == len(set(told))
    assert all(when.strip() for when, _, _ in ROWS.values())


@dataclass(frozen=True)
class Module:
    """A module that has to do with events: the kinds that it names, and the words that are written in it."""

    tree: ast.Module
    kinds: frozenset[str]
    words: frozenset[object]


@cache
def modules() -> dict[str, Module]:
    home = ROOT / "src/tulle"
    found = {}
    for file in sorted(home.rglob("*.py")):
        text = file.read_text()
        if "events" not in text or file.name == "events.py":
            continue
        tree = ast.parse(text)
        nodes = tuple(ast.walk(tree))
        kinds = {kind for node in nodes if isinstance(node, ast.expr) and (kind := kind_of(node))}
        words: set[object] = {node.value for node in nodes if isinstance(node, ast.Constant)}
        words |= {node.arg for node in nodes if isinstance(node, ast.keyword)}
        if kinds:
            found[str(file.relative_to(home))] = Module(tree, frozenset(kinds), frozenset(words))
    return found


def kind_of(node: ast.expr) -> str | None:
    """The event that a name or `events.NAME` means."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "events":
        return KINDS.get(node.attr)
    return KINDS.get(node.id) if isinstance(node, ast.Name) else None


class NotSeen(Exception):
    """What a mapping holds is not written down where it is used."""


def keys(node: ast.expr, within: ast.AST) -> set[str]:
    """The names of a mapping that is written down."""
    match node:
        case ast.Name():
            if found := set().union(*assigned(node.id, within)):
                return found
        case ast.IfExp():
            return keys(node.body, within) | keys(node.orelse, within)
        case ast.Dict():
            pairs = zip(node.keys, node.values, strict=True)
            return set().union(
                *({ast.literal_eval(key)} if key is not None else keys(value, within) for key, value in pairs)
            )
    raise NotSeen


def assigned(name: str, within: ast.AST) -> Iterator[set[str]]:
    """The names that a variable is given in a function, one assignment after another."""
    for one in ast.walk(within):
        if isinstance(one, ast.Assign):
            target, value = one.targets[0], one.value
        elif isinstance(one, ast.AnnAssign | ast.AugAssign) and one.value is not None:
            target, value = one.target, one.value
        else:
            continue
        match target:
            case ast.Name(id=said) if said == name:
                yield keys(value, within)
            case ast.Subscript(value=ast.Name(id=said), slice=ast.Constant(value=key)) if said == name:
                yield {str(key)}


def made() -> Iterator[tuple[str, str, set[str]]]:
    """Each place where an event is made with fields that are to be seen: the event, the place, the fields."""
    for name, module in modules().items():
        for function in ast.walk(module.tree):
            if not isinstance(function, ast.FunctionDef):
                continue
            for call in ast.walk(function):
                if isinstance(call, ast.Call):
                    with suppress(NotSeen):
                        for kind, fields in fields_of(call, function):
                            yield kind, f"{name}:{call.lineno}", fields


def fields_of(call: ast.Call, function: ast.FunctionDef) -> Iterator[tuple[str, set[str]]]:
    """The event that a call makes, where it makes one."""
    what = ast.unparse(call.func).split(".")[-1]
    if what == "Event" and call.args and (kind := kind_of(call.args[0])) is not None:
        yield kind, keys(call.args[2], function) if len(call.args) > 2 else set()
    elif what == "_changed" and len(call.args) > 1 and (kind := kind_of(call.args[1])) is not None:
        yield kind, {one.arg for one in call.keywords if one.arg}


def test_events_have_the_fields_that_they_are_made_with() -> None:
    found: dict[str, set[str]] = {}
    for kind, place, fields in made():
        if kind not in SEVERAL:
            assert fields <= ROWS[kind][1], (place, kind)
            found.setdefault(kind, set()).update(fields)
    assert {kind: fields for kind, fields in found.items() if ROWS[kind][1] != fields} == {}
    assert len(found) > 55  # the others are made by a function of their module


def test_a_field_that_is_told_is_written_where_the_event_is_made() -> None:
    """Also where it is made in several steps: the name stands in a module that makes it."""
    for name, kind in KINDS.items():
        making = [
            module
            for file, module in modules().items()
            if kind in module.kinds and (file not in FOLLOWERS or name in FOLLOWERS[file])
        ]
        assert making, kind
        fields = set(ROWS[kind][1])
        if kind.startswith("contract.") or kind == events.TERMS_ACCEPTED:
            fields |= OF_A_CONTRACT
        assert fields - set().union(*(module.words for module in making)) == set(), kind


def test_those_who_follow_events_are_told_of_with_what_they_follow() -> None:
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| [^|]+ \|$", PAGE.split("## Products")[0], re.MULTILINE)
    told = [set(re.findall(r"`([a-z_]+\.[a-z_]+)`", which)) for _, which in rows]
    assert modules()["observe/incidents.py"].kinds in told
    assert modules()["control/contract_notices.py"].kinds - {events.API_CHANGED} in told
    assert {events.API_CHANGED} in told
    home = ROOT / "src/tulle"
    begin = {
        str(file.relative_to(home)) for file in home.rglob("*.py") if "followers.begin(" in file.read_text()
    }
    assert begin == FOLLOWERS.keys()  # whoever comes to them is to be told of, too
