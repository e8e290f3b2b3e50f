"""What turns one plain value into another, as a short list of edits that can be kept and applied again.

Made for translating between standards without loss: what a translation cannot say is the difference between what
it makes and what was there. Entries of lists are named by what tells them apart (`{name: purchases}`) wherever
that is possible, so edits still find their place after somebody changed the rest. Pure; values are what JSON has.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Edit = dict[str, Any]

# What tells the entries of a list apart, tried in this order.
_IDENTITIES = (
    ("type", "name"),
    ("id",),
    ("name",),
    ("property",),
    ("username",),
    ("channel",),
    ("server",),
    ("role",),
    ("synonym",),
    ("url",),
    ("value",),
)


def same(left: Any, right: Any) -> bool:
    """Whether two values are the same to a reader of JSON: 1 is not true, and 1.0 is not 1."""
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and bool(left == right)


def difference(have: Any, want: Any) -> list[Edit]:
    """The edits that turn `have` into `want`; none when they are the same."""
    edits: list[Edit] = []
    _differ(have, want, [], edits)
    return edits


def _differ(have: Any, want: Any, at: list[Any], edits: list[Edit]) -> None:
    if same(have, want):
        return
    if isinstance(have, Mapping) and isinstance(want, Mapping):
        edits.extend({"at": [*at, key], "drop": True} for key in sorted(have) if key not in want)
        for key in sorted(want):  # the order of keys means nothing, so the edits do not depend on it
            if key not in have:
                edits.append({"at": [*at, key], "value": want[key]})
            else:
                _differ(have[key], want[key], [*at, key], edits)
        return
    if isinstance(have, list) and isinstance(want, list):
        identity = next((i for i in _IDENTITIES if _tells_apart(have, i) and _tells_apart(want, i)), None)
        if identity and _differ_entries(have, want, at, identity, edits):
            return
    edits.append({"at": at, "value": want})


def _differ_entries(
    have: list[Any], want: list[Any], at: list[Any], identity: tuple[str, ...], edits: list[Edit]
) -> bool:
    """Edits of a list entry by entry; False where the entries that stay have another order."""
    before = {_name(entry, identity): entry for entry in have}
    after = {_name(entry, identity): entry for entry in want}
    if [name for name in before if name in after] != [name for name in after if name in before]:
        return False
    for name, entry in before.items():
        if name not in after:
            edits.append({"at": [*at, _step(entry, identity)], "drop": True})
    for position, (name, entry) in enumerate(after.items()):
        if name not in before:
            edits.append({"at": [*at, _step(entry, identity)], "value": entry, "position": position})
    for name, entry in after.items():
        if name in before:
            _differ(before[name], entry, [*at, _step(entry, identity)], edits)
    return True


def _tells_apart(entries: list[Any], identity: tuple[str, ...]) -> bool:
    names = [_name(entry, identity) for entry in entries if isinstance(entry, Mapping)]
    return len(names) == len(entries) == len(set(names)) and None not in names


def _name(entry: Mapping[str, Any], identity: tuple[str, ...]) -> str | None:
    if any(not isinstance(entry.get(key), str | int | float | bool) for key in identity):
        return None
    return json.dumps([entry[key] for key in identity])


def _step(entry: Mapping[str, Any], identity: tuple[str, ...]) -> dict[str, Any]:
    return {key: entry[key] for key in identity}


def apply_edits(value: Any, edits: Iterable[Any]) -> tuple[Any, list[Edit]]:
    """`value` with the edits applied, and the edits whose place is no longer there (or that are none)."""
    value, lost = copy.deepcopy(value), []
    for edit in edits:
        if not _is_edit(edit):
            lost.append({"at": [], "value": edit})
        elif not edit["at"]:
            value = copy.deepcopy(edit.get("value"))
        elif not _apply(value, edit):
            lost.append(edit)
    return value, lost


def _is_edit(edit: Any) -> bool:
    return (
        isinstance(edit, Mapping) and isinstance(edit.get("at"), list) and ("drop" in edit or "value" in edit)
    )


def _apply(value: Any, edit: Mapping[str, Any]) -> bool:
    *path, last = edit["at"]
    for step in path:
        key = _find(value, step)
        if key is None:
            return False
        value = value[key]
    key = _find(value, last)
    if edit.get("drop"):
        if key is None:
            return True  # it is gone already
        del value[key]
        return True
    new = copy.deepcopy(edit["value"])
    if key is not None:
        value[key] = new
    elif isinstance(value, dict) and isinstance(last, str):
        value[last] = new
    elif isinstance(value, list) and isinstance(last, Mapping) and isinstance(edit.get("position"), int):
        value.insert(edit["position"], new)
    else:
        return False
    return True


def _find(value: Any, step: Any) -> Any:
    """The key or index that a step leads to, or None."""
    if isinstance(value, dict):
        return step if isinstance(step, str) and step in value else None
    if isinstance(value, list) and isinstance(step, Mapping) and step:
        return _index(value, step)
    return None


def _index(entries: Sequence[Any], step: Mapping[str, Any]) -> int | None:
    for index, entry in enumerate(entries):
        if isinstance(entry, Mapping) and all(k in entry and same(entry[k], v) for k, v in step.items()):
            return index
    return None
