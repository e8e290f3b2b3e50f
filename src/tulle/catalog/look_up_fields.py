"""The fields of a look-up's form: from the properties of a services file, and back. Pure.

An empty field is a property that is not said. A property that means the same as before is given back as it was
written, so that a list stays a list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tulle.errors import Invalid
from tulle.serving.keyed_rows import CONNECTION
from tulle.spec.load import load_document, plain_value
from tulle.spec.write import inline

Pair = tuple[str, str]
TEXTS = (
    "product",
    "data_set",
    "version",
    "missing_key",
    "no_match",
    "several",
    "event_time",
    "max_age",
    "too_old",
)
NUMBERS = ("most_rows",)
PAIRS = ("key", "columns", "defaults", "order_by")
STORE_TEXTS = ("connection", "table", "keys", "form", "unavailable")
STORE_NUMBERS = ("timeout", "connections")
STORE_FIELDS = (*STORE_TEXTS, *STORE_NUMBERS)
DESCENDING = "largest first"


@dataclass(frozen=True, slots=True)
class Filled:
    """What stands in the fields: text by name, and lists of pairs, of which the second may be empty.

    Pairs are: of `key` a column and what requests call it, of `columns` a column and what answers call it, of
    `defaults` a name and a value, of `order_by` a column and whether the largest come first, of `types` a column and
    its type.
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    pairs: Mapping[str, Sequence[Pair]] = field(default_factory=dict)


def fields_of(raw: Mapping[str, Any]) -> Filled:
    """A look-up as it is written, as fields."""
    source = raw.get("source", "")
    store = source if isinstance(source, Mapping) else {}
    texts = {name: _text(raw.get(name)) for name in (*TEXTS, *NUMBERS)}
    texts |= {name: _text(store.get(name)) for name in STORE_FIELDS}
    texts["source"] = CONNECTION if store else _text(source)
    defaults, types, ordered = raw.get("defaults"), store.get("types"), raw.get("order_by")
    order = [str(one) for one in (ordered if isinstance(ordered, list) else ())]
    pairs: dict[str, Sequence[Pair]] = {
        name: [(column, sent if sent != column else "") for sent, column in _named(raw.get(name))]
        for name in ("key", "columns")
    }
    pairs["defaults"] = [(name, inline(value)) for name, value in _mapping(defaults).items()]
    pairs["types"] = [(name, str(kind)) for name, kind in _mapping(types).items()]
    pairs["order_by"] = [(one.removeprefix("-"), DESCENDING if one.startswith("-") else "") for one in order]
    return Filled(texts, pairs)


def _mapping(said: Any) -> Mapping[str, Any]:
    """What is written where a mapping is expected: the text it is of need not be valid."""
    return said if isinstance(said, Mapping) else {}


def as_raw(filled: Filled, had: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The properties that were filled in, and what is wrong with fields; `had` is how they were written."""
    said: dict[str, Any] = {name: value for name in TEXTS if (value := _given(filled, name))}
    said |= {name: plain_value(value) for name in NUMBERS if (value := _given(filled, name))}
    problems: dict[str, str] = {}
    for name in (*PAIRS, "types"):
        problems |= _wrong_pairs(name, _pairs(filled, name))
    for name in ("key", "columns"):
        if pairs := _pairs(filled, name):
            named = [(sent or column, column) for column, sent in pairs]
            old = had.get(name)
            said[name] = old if _named(old) == named else _written(named, old, is_key=name == "key")
    if defaults := _pairs(filled, "defaults"):
        said["defaults"] = {name: _value(text) for name, text in defaults}
    if order := _pairs(filled, "order_by"):
        said["order_by"] = [f"-{column}" if way == DESCENDING else column for column, way in order]
    source = _given(filled, "source")
    if source == CONNECTION:
        store, old = _store(filled), had.get("source")
        said["source"] = old if store == old else store or CONNECTION  # in the order in which it is written
    elif source:
        said["source"] = source
    return said, problems


def _store(filled: Filled) -> dict[str, Any]:
    store: dict[str, Any] = {name: value for name in STORE_TEXTS if (value := _given(filled, name))}
    if types := _pairs(filled, "types"):
        store["types"] = dict(types)
    store |= {name: plain_value(value) for name in STORE_NUMBERS if (value := _given(filled, name))}
    return store


def _wrong_pairs(name: str, pairs: Sequence[Pair]) -> dict[str, str]:
    """What is wrong with a list: a second part without its first one, a name that is given twice."""
    if any(not first for first, _ in pairs):
        return {name: "a line has no column" if name != "defaults" else "a value has no name"}
    names = [second or first if name in {"key", "columns"} else first for first, second in pairs]
    twice = next((one for one in names if names.count(one) > 1), None)
    if twice is not None:
        return {name: f"'{twice}' is given twice"}
    if name == "types" and any(not kind for _, kind in pairs):
        return {name: "a column has no type"}
    return {}


def _given(filled: Filled, name: str) -> str:
    return filled.texts.get(name, "").strip()


def _pairs(filled: Filled, name: str) -> list[Pair]:
    """The lines in which something stands."""
    lines = [(first.strip(), second.strip()) for first, second in filled.pairs.get(name, ())]
    return [one for one in lines if one[0] or one[1]]


def _named(said: Any) -> list[Pair]:
    """Pairs of what it is called and the column, of a key or of columns in any of their forms."""
    match said:
        case str():
            return [(said, said)]
        case Mapping():
            return [(str(name), str(column)) for name, column in said.items()]
        case list():
            return [(str(name), str(name)) for name in said]
        case _:
            return []


def _written(named: Sequence[Pair], old: Any, *, is_key: bool) -> Any:
    """The shortest form that says it; a mapping stays one."""
    if isinstance(old, Mapping) or any(name != column for name, column in named):
        return dict(named)
    columns = [column for _, column in named]
    return columns[0] if is_key and len(columns) == 1 and not isinstance(old, list) else columns


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else inline(value)


def _value(text: str) -> Any:
    """A value as it is written in the file: text in quotes is text whatever it looks like."""
    if text[:1] in {"'", '"'}:
        try:
            return load_document(f"- {text}").value[0]
        except Invalid:
            return text
    return plain_value(text)
