"""The form of a key under which a row lies in a store of keys and values: 'customer:{customer_id}'.

Two keys never have one text: where a value holds what divides it from the next, so that both could be read in another
way, there is no such key. Pure: knows nothing of any store.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec

from tulle.errors import Invalid, did_you_mean
from tulle.serving.index import normal_key
from tulle.serving.keyed_rows import KeyedRows
from tulle.spec.columns import TYPE_WORDS, parse_type

_PLACE = re.compile(r"\{([^{}]*)\}")
_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class KeyForm:
    """`between` is what stands before, between and after the values; `order` the position of each in a key."""

    between: tuple[str, ...]
    order: tuple[int, ...]
    types: tuple[str, ...]  # of the key, in its own order

    def text(self, key: Sequence[Any]) -> str | None:
        """The text of a key; None for one that could be read in another way."""
        values = [_text(value) for value in normal_key(key, self.types)]
        parts = [self.between[0]]
        for number, position in enumerate(self.order):
            value, behind = values[position], self.between[number + 1]
            if number + 1 < len(self.order) and (value + behind).find(behind) != len(value):
                return None
            parts += (value, behind)
        return "".join(parts)


def key_form(text: str, key: Mapping[str, str]) -> KeyForm:
    """The form that `text` tells; `key` are the columns of the key with their types. Invalid, with a hint."""
    between = tuple(_PLACE.split(text)[::2])
    names = _PLACE.findall(text)
    example = ":".join(f"{{{name}}}" for name in key)
    hint = f"such as 'row:{example}'"
    if any(sign in part for part in between for sign in "{}"):
        raise Invalid(f"the keys '{text[:80]}' have a bracket that belongs to no column", hint=hint)
    for name in names:
        if name not in key:
            message = f"the keys '{text[:80]}' name '{name[:80]}', which is no column of the key"
            raise Invalid(message, hint=did_you_mean(name, key) or hint)
        if names.count(name) > 1:
            raise Invalid(f"the keys '{text[:80]}' name '{name}' twice", hint=hint)
    missing = [name for name in key if name not in names]
    if missing:
        raise Invalid(f"the keys '{text[:80]}' do not name '{missing[0]}', a column of the key", hint=hint)
    if not all(between[1:-1]):
        raise Invalid(f"the keys '{text[:80]}' have two columns with nothing between them", hint=hint)
    columns = list(key)
    return KeyForm(between, tuple(columns.index(name) for name in names), tuple(key.values()))


def check_keys(rows: KeyedRows) -> None:
    """Refuse a look-up in keys that are not made of its key's columns, or whose types say nothing. Invalid."""
    said = rows.store
    assert said is not None
    if said.table:
        raise Invalid("a source has a table or keys, and this one both", hint="leave 'table' or 'keys' out")
    for name, kind in said.types.items():
        if parse_type(kind) is None:
            raise Invalid(f"column '{name}' has the type '{kind}', which is none", hint=f"write {TYPE_WORDS}")
    unknown = [column for _, column in rows.key if column not in said.types]
    if unknown:
        message = f"column '{unknown[0]}' of the key has no type"
        raise Invalid(
            message, hint=did_you_mean(unknown[0], said.types) or "say it among the source's `types`"
        )
    key_form(said.keys, {column: said.types[column] for _, column in rows.key})


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Decimal):
        return f"{value:f}"
    return _encoder.encode(value).decode().strip('"')
