"""Changing single properties of a YAML text and nothing else of it: other lines, comments and styles stay.

Works on the text, by the places that the parser tells of. What came of it is read again, and returned only when it
says what was wanted and, everywhere else, what it had said. Knows nothing of what the properties mean.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from tulle.errors import Invalid
from tulle.spec.document import Path
from tulle.spec.load import load_document
from tulle.spec.write import inline

_IN = 2  # spaces that what is inside is further in
_BOM = "\ufeff"


def amend(text: str, path: Path, wanted: Mapping[str, Any], *, order: Sequence[str] = ()) -> str:
    """The text whose mapping at `path` holds `wanted`; what holds that already is left as it is written.

    A new property goes behind the last one that stands before it in `order`, or else to the end. Invalid when the
    text is none, or is written in a way that cannot be changed piece by piece (an alias, for one).
    """
    begin = _BOM if text.startswith(_BOM) else ""
    plain = text.removeprefix(_BOM)
    before = load_document(plain)
    if not isinstance(before.at(path), Mapping):
        raise _by_hand()
    try:
        made = _mapping(plain, path, wanted, order)
        after = load_document(made)
    except (Invalid, IndexError, yaml.YAMLError):
        raise _by_hand() from None
    found = after.at(path)
    if not isinstance(found, Mapping) or not _same(after.value, _with(before.value, path, wanted)):
        raise _by_hand()
    if any(json.dumps(found[name]) != json.dumps(value) for name, value in wanted.items()):
        raise _by_hand()  # the order within one is what was wanted, too
    return begin + made


def _by_hand() -> Invalid:
    return Invalid(
        "it is written in a way that can only be changed in the text",
        hint="aliases, and several entries in one line, are changed by hand",
    )


def _same(one: Any, other: Any) -> bool:
    """Whether two values are equal, 1 and true told apart."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _with(value: Any, path: Path, inner: Any) -> Any:
    """A value in which another one is at `path`."""
    if not path:
        return inner
    twin: Any = list(value) if isinstance(value, list) else dict(value)
    twin[path[0]] = _with(value[path[0]], path[1:], inner)
    return twin


# ── mappings ─────────────────────────────────────────────────────────────────────────────────────────────


def _mapping(text: str, path: Path, wanted: Mapping[str, Any], order: Sequence[str]) -> str:
    had: Mapping[str, Any] = load_document(text).at(path)
    for name, value in wanted.items():  # first what is new: what is left must not be empty in between
        if name not in had:
            text = _added(text, path, name, value, order)
    for name, value in wanted.items():
        if name in had and json.dumps(had[name]) != json.dumps(value):
            text = _replaced(text, path, name, had[name], value)
    for name in had:
        if name not in wanted:
            text = _removed(text, path, name)
    return text


def _added(text: str, path: Path, name: str, value: Any, order: Sequence[str]) -> str:
    node = _node(text, path)
    pairs = node.value
    if not pairs:
        at = node.start_mark.index + 1
        return f"{text[:at]}{inline(name)}: {inline(value)}{text[at:]}"
    names = [key.value for key, _ in pairs]
    first = [place for place, one in enumerate(names) if one in _before(name, order)]
    place = max(first, default=len(pairs) - 1)
    end = _end_of_pair(text, pairs[place])
    if node.flow_style:
        return f"{text[:end]}, {inline(name)}: {inline(value)}{text[end:]}"
    indent = pairs[0][0].start_mark.column
    end = _line_end(text, end)
    return f"{text[:end]}\n{' ' * indent}{inline(name)}:{_behind(value, indent)}{text[end:]}"


def _before(name: str, order: Sequence[str]) -> Sequence[str]:
    return order[: order.index(name)] if name in order else ()


def _replaced(text: str, path: Path, name: str, had: Any, value: Any) -> str:
    inner = (*path, name)
    if isinstance(had, Mapping) and isinstance(value, Mapping) and had and value and _goes_on(had, value):
        return _mapping(text, inner, value, ())
    key, node = next(pair for pair in _node(text, path).value if pair[0].value == name)
    is_block = isinstance(node, yaml.CollectionNode) and not node.flow_style
    if isinstance(had, list) and isinstance(value, list) and is_block and value:
        return _list(text, inner, had, value)
    start, end = node.start_mark.index, _end(text, node)
    between = text[key.end_mark.index : start]
    if is_block and "#" in between:  # why it is so stands behind the key
        indent = key.start_mark.column + _IN
        return f"{text[: _line_start(text, start)]}{' ' * indent}{inline(value)}{text[end:]}"
    if is_block or start == end:
        return f"{text[: key.end_mark.index]}: {inline(value)}{text[end:]}"
    return f"{text[:start]}{inline(value)}{text[end:]}"


def _goes_on(had: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    """Whether what stays keeps its order, with what is new behind it."""
    stays = [name for name in had if name in value]
    return list(value)[: len(stays)] == stays


def _removed(text: str, path: Path, name: str) -> str:
    node = _node(text, path)
    place = next(i for i, (key, _) in enumerate(node.value) if key.value == name)
    start = node.value[place][0].start_mark.index
    end = _end_of_pair(text, node.value[place])
    behind = node.value[place + 1][0].start_mark.index if place + 1 < len(node.value) else None
    line = _line_start(text, start)
    if not node.flow_style and not text[line:start].strip(" "):
        return text[:line] + text[_line_end(text, end) + 1 :]
    if behind is not None:
        return text[:start] + text[behind:]
    if not node.flow_style:
        raise _by_hand()
    return text[: _end_of_pair(text, node.value[place - 1]) if place else start] + text[end:]


# ── lists ────────────────────────────────────────────────────────────────────────────────────────────────


def _list(text: str, path: Path, had: Sequence[Any], wanted: Sequence[Any]) -> str:
    """A list in lines: what both begin and end with stays, new entries are put in before old ones go."""
    same = [json.dumps(one) == json.dumps(other) for one, other in zip(had, wanted, strict=False)]
    begin = same.index(False) if False in same else len(same)
    rest = min(len(had), len(wanted)) - begin
    back = [json.dumps(had[-n]) == json.dumps(wanted[-n]) for n in range(1, rest + 1)]
    end = back.index(False) if False in back else len(back)
    new = wanted[begin : len(wanted) - end]
    for place, value in enumerate(new, begin):
        text = _put_in(text, path, place, value)
    for place in reversed(range(begin + len(new), len(had) - end + len(new))):
        text = _taken_out(text, path, place)
    return text


def _put_in(text: str, path: Path, place: int, value: Any) -> str:
    items = _node(text, path).value
    dash = _dash(text, items[0])
    indent = dash - _line_start(text, dash)
    entry = f"- {_entry(value, indent + _IN)}"
    if not place:
        return f"{text[:dash]}{entry}\n{' ' * indent}{text[dash:]}"
    end = _line_end(text, _end(text, items[place - 1]))
    return f"{text[:end]}\n{' ' * indent}{entry}{text[end:]}"


def _taken_out(text: str, path: Path, place: int) -> str:
    item = _node(text, path).value[place]
    dash = _dash(text, item)
    line = _line_start(text, dash)
    if text[line:dash].strip(" "):
        raise _by_hand()
    return text[:line] + text[_line_end(text, _end(text, item)) + 1 :]


def _dash(text: str, item: yaml.Node) -> int:
    return text.rindex("-", 0, item.start_mark.index)


def _entry(value: Any, indent: int) -> str:
    """An entry of a list in lines; a mapping has a line for each of its properties."""
    if not isinstance(value, Mapping) or not value:
        return inline(value)
    lines = [f"{inline(name)}:{_behind(one, indent)}" for name, one in value.items()]
    return f"\n{' ' * indent}".join(lines)


def _behind(value: Any, indent: int) -> str:
    """What stands behind the colon of a key that is so far in: a list of mappings in lines of its own."""
    if not isinstance(value, list) or not value or not all(isinstance(one, Mapping) for one in value):
        return f" {inline(value)}"
    inner = indent + _IN
    return "".join(f"\n{' ' * inner}- {_entry(one, inner + _IN)}" for one in value)


# ── places in the text ───────────────────────────────────────────────────────────────────────────────────


def _node(text: str, path: Path) -> Any:
    node: Any = yaml.compose(text, Loader=yaml.CSafeLoader)
    for step in path:
        if isinstance(node, yaml.SequenceNode):
            node = node.value[int(step)]
        else:
            node = next(value for key, value in node.value if key.value == step)
    return node


def _end(text: str, node: Any) -> int:
    """Where the last thing of a node ends: the parser's mark of what is in lines is where the next one begins."""
    start, end = node.start_mark.index, node.end_mark.index
    if isinstance(node, yaml.ScalarNode) or node.flow_style or not node.value:
        return int(start + len(text[start:end].rstrip()))
    last = node.value[-1]
    return _end_of_pair(text, last) if isinstance(node, yaml.MappingNode) else _end(text, last)


def _end_of_pair(text: str, pair: Any) -> int:
    key, value = pair
    return max(int(key.end_mark.index), _end(text, value))


def _line_start(text: str, place: int) -> int:
    return text.rfind("\n", 0, place) + 1


def _line_end(text: str, place: int) -> int:
    end = text.find("\n", place)
    return len(text) if end < 0 else end
