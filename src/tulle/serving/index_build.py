"""Building an index: a data set's rows rendered and sorted by the engine, and written in one go.

The engine renders, because it does so twenty times as quickly as Python, and sorts within its bounds, so rows need not
fit into memory. Only keys that JSON writes with escapes, or that are too long, are rendered here: `index.key_of` says
what a key is, and what the engine makes must be that to the byte.
"""

# ruff: noqa: S608  composing SQL is this module's work; every name goes through `quoted`, every value `literal`
from __future__ import annotations

import itertools
import operator
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lmdb
import msgspec

from tulle.engine.engine import Relation, literal, quoted
from tulle.errors import Invalid, LimitExceeded, Problem
from tulle.serving.index import LONGEST_KEY, Column, Form, kept_of, key_of, normal_key, several_of
from tulle.serving.keyed_rows import ALL, FORBIDDEN

if TYPE_CHECKING:
    from tulle.engine.duck import DuckEngine  # a worker imports this module and needs no engine

SHOWN_KEYS = 3
_BATCH = 50_000
_ROOM = 1 << 36  # of addresses, not of disk: the file grows only as needed
_MORE_ROOM = 1 << 42
_ESCAPED = r'[\x00-\x1f"\\]'  # what JSON writes in more than one way
_EXPONENTS_FROM = 7  # digits after the point from which Python writes a small decimal with an exponent


@dataclass(frozen=True, slots=True)
class Wish:
    """What an index is to hold. Columns have the names of requests and answers; `sources` those of the data set."""

    key: tuple[Column, ...]
    columns: tuple[Column, ...]
    form: Form
    # Of names that are others in the data set. A key and a value may have one name and stand for two columns.
    key_sources: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    several: str = FORBIDDEN
    most_rows: int = 1
    order_by: tuple[str, ...] = ()
    event_time: str = ""

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The columns of the data set that make the key."""
        return tuple(self.key_sources.get(column.name, column.name) for column in self.key)

    @property
    def reads(self) -> tuple[str, ...]:
        """Every column of the data set that is read, those of the key first, each once."""
        ordered = (name.removeprefix("-") for name in self.order_by)
        values = (self.source(column.name) for column in self.columns)
        since = (self.event_time,) if self.event_time else ()
        return tuple(dict.fromkeys((*self.key_columns, *values, *ordered, *since)))

    def source(self, name: str) -> str:
        """The column of the data set that the name of a value stands for."""
        return self.sources.get(name, name)


def build_index(path: Path, engine: DuckEngine, relation: Relation, wish: Wish, *, what: str) -> int:
    """Write the index of a relation to `path` and return its number of rows.

    `what` names the data set in errors. Raises Invalid, naming keys and counts, when a key is null, or not unique
    where that is forbidden; LimitExceeded when there is no room for it.
    """
    _check_keys(engine, relation, wish, what)
    for room in (_ROOM, _MORE_ROOM):
        try:
            return _written(path, room, engine, relation, wish, what)
        except lmdb.MapFullError:
            path.unlink(missing_ok=True)
        except lmdb.Error as exc:
            raise LimitExceeded(
                f"the index of {what} cannot be written: {exc}", hint="is there room left on the disk?"
            ) from exc
    raise Invalid(f"{what} is too large for an index")


def _written(path: Path, room: int, engine: DuckEngine, relation: Relation, wish: Wish, what: str) -> int:
    writing = _Writing(wish, what)
    environment = lmdb.open(str(path), subdir=False, map_size=room, lock=False, sync=False, metasync=False)
    try:
        with environment.begin(write=True) as transaction, transaction.cursor() as cursor:
            with engine.batches(_statement(relation, wish), [relation], rows=_BATCH) as batches:
                for batch in batches:
                    cursor.putmulti(writing.taken(batch), append=True)
            cursor.putmulti(writing.last(), append=True)
            cursor.putmulti(writing.apart())
        writing.refuse_repeated()
        environment.sync(True)
    except BaseException:
        environment.close()
        path.unlink(missing_ok=True)
        raise
    environment.close()
    return writing.rows


# ── what the engine renders ──────────────────────────────────────────────────────────────────────────────


def _statement(relation: Relation, wish: Wish) -> str:
    """One row an entry, in the order of keys: the key (null when it is rendered here), the key's values, the row."""
    names = [quoted(name) for name in wish.key_columns]
    parts = [rendered_value(name, column.type) for name, column in zip(names, wish.key, strict=True)]
    key = "'[' || " + " || ',' || ".join(parts) + " || ']'"
    plain = [f"octet_length(encode({key})) <= {LONGEST_KEY}"]
    for name, column in zip(names, wish.key, strict=True):
        if column.type == "string":
            plain.append(f"NOT regexp_matches(CAST({name} AS VARCHAR), {literal(_ESCAPED)})")
        elif column.type.startswith("decimal") and _scale(column.type) >= _EXPONENTS_FROM:
            plain.append("false")
    values = ", ".join(f"{name} AS k{i}" for i, name in enumerate(names))
    ordered = [_order(relation.name, name) for name in wish.order_by]
    order = ["key", *ordered, *(("row",) if wish.several != FORBIDDEN else ())]
    return (
        f"SELECT CASE WHEN {' AND '.join(plain)} THEN encode({key}) END AS key, {values}, "
        f"encode({rendered_row(wish)}) AS row FROM {quoted(relation.name)} ORDER BY {', '.join(order)}"
    )


def rendered_row(wish: Wish) -> str:
    """The expression of a row, with the time since when it holds before it where that is wanted."""
    rendered = []
    for column in wish.columns:
        value = rendered_value(quoted(wish.source(column.name)), column.type)
        default = msgspec.json.encode(wish.defaults.get(column.name)).decode()
        name = msgspec.json.encode(column.name).decode() + ":" if wish.form == "object" else ""
        rendered.append(f"{literal(name)} || coalesce({value}, {literal(default)})")
    opening, closing = ("{", "}") if wish.form == "object" else ("[", "]")
    row = f"'{opening}' || " + " || ',' || ".join(rendered or ["''"]) + f" || '{closing}'"
    if not wish.event_time:
        return row
    micros = f"epoch_us(CAST({quoted(wish.event_time)} AS TIMESTAMP))"
    return f"coalesce(CAST({micros} AS VARCHAR), '') || '|' || {row}"


def rendered_value(name: str, kind: str) -> str:
    """A column's value as JSON writes it; null where it is null, or a double that is no number."""
    match kind.partition("(")[0]:
        case "integer" | "decimal" | "boolean":
            text = f"CAST({name} AS VARCHAR)"  # of a fraction, without the digit before the point
            return rf"regexp_replace({text}, '^(-?)[.]', '\10.')" if _is_fraction(kind) else text
        case "double":
            # A column of single precision is the double that it is, as whoever reads the data set has it.
            return f"CASE WHEN isfinite({name}) THEN CAST(CAST({name} AS DOUBLE) AS VARCHAR) END"
        case "date":
            return f"""'"' || CAST({name} AS VARCHAR) || '"'"""
        case "timestamp":
            moment = f"CAST({name} AS TIMESTAMP)"
            micros = f"CASE WHEN epoch_us({moment}) % 1000000 <> 0 THEN strftime({moment}, '.%f') ELSE '' END"
            return f"""'"' || strftime({moment}, '%Y-%m-%dT%H:%M:%S') || {micros} || 'Z"'"""
        case "binary":
            return f"""'"' || base64({name}) || '"'"""
        case _:
            return f"CAST(to_json({name}) AS VARCHAR)"


def _order(relation: str, name: str) -> str:
    """The order by a column; with its relation, as the statement's own columns have names too."""
    column, descending = name.removeprefix("-"), name.startswith("-")
    return f"{quoted(relation)}.{quoted(column)} {'DESC' if descending else 'ASC'} NULLS LAST"


def _scale(kind: str) -> int:
    return int(kind.rstrip(")").partition(",")[2] or 0)


def _is_fraction(kind: str) -> bool:
    width, _, scale = kind.partition("(")[2].rstrip(")").partition(",")
    return bool(scale) and int(width) == int(scale)


def _check_keys(engine: DuckEngine, relation: Relation, wish: Wish, what: str) -> None:
    missing = " OR ".join(f"{quoted(name)} IS NULL" for name in wish.key_columns)
    sql = f"SELECT count(*) FILTER (WHERE {missing}) AS missing FROM {quoted(relation.name)}"
    (row,) = engine.query(sql, [relation]).to_pylist()
    if row["missing"]:
        word = "row has" if row["missing"] == 1 else "rows have"
        names = ", ".join(wish.key_columns)
        raise Invalid(
            f"{what}: {row['missing']} {word} no value in the key ({names})",
            hint="leave such rows out, and check it: {type: not_null}",
        )


# ── what is written ──────────────────────────────────────────────────────────────────────────────────────

Item = tuple[bytes, bytes]


@dataclass(slots=True)
class _Group:
    """The rows of one key: how many there are, and those that are kept; `at` as `kept_of` has it."""

    key: bytes
    most: int
    at: int | None
    rows: list[bytes] = field(default_factory=list)
    number: int = 0

    def add(self, rows: Sequence[bytes]) -> None:
        room = self.most - len(self.rows)
        self.rows = (
            kept_of([*self.rows, *rows], self.most, self.at) if self.at else [*self.rows, *rows[:room]]
        )
        self.number += len(rows)

    def entry(self) -> Item:
        return self.key, self.rows[0] if self.number == 1 else several_of(self.rows, self.number)


class _Writing:
    """Turns what the engine renders into entries; a key's rows may come in two batches."""

    def __init__(self, wish: Wish, what: str) -> None:
        self.wish, self.what = wish, what
        self.rows = 0
        self._types = [column.type for column in wish.key]
        self._most = wish.most_rows if wish.several == ALL else 1
        self._at = time.time_ns() // 1000 if wish.event_time else None
        self._open: _Group | None = None
        self._apart: dict[bytes, _Group] = {}
        self._repeated: list[tuple[bytes, int]] = []  # the first few
        self._repeats = 0

    def taken(self, batch: Any) -> Iterator[Item]:
        """The entries of a batch, but for its last key, which may go on in the next one."""
        self.rows += batch.num_rows
        keys, rows = batch.column("key").to_pylist(), batch.column("row").to_pylist()
        whole = len(keys)
        if keys and keys[-1] is None:  # those that are rendered here come last
            whole = keys.index(None)
            self._take_apart(batch.slice(whole), rows[whole:])
        pairs = zip(keys[:whole], rows[:whole], strict=True)
        if whole and not any(map(operator.eq, keys[: whole - 1], keys[1:whole])):  # as nearly always
            first = next(pairs)
            if self._open is None or self._open.key != first[0]:
                yield from self.last()
                self._open = self._group(first[0])
            self._open.add([first[1]])
            if whole > 1:
                yield self._entry(self._open)
                yield from itertools.islice(pairs, whole - 2)
                self._open = self._group(keys[whole - 1])
                self._open.add([rows[whole - 1]])
            return
        for key, group in itertools.groupby(pairs, _first):
            if self._open is None or self._open.key != key:
                if self._open is not None:
                    yield self._entry(self._open)
                self._open = self._group(key)
            self._open.add([row for _, row in group])

    def _group(self, key: bytes) -> _Group:
        return _Group(key, self._most, self._at)

    def last(self) -> list[Item]:
        """The entry of the last key."""
        return [] if self._open is None else [self._entry(self._open)]

    def apart(self) -> list[Item]:
        """The entries of keys that are rendered here."""
        return sorted(map(self._entry, self._apart.values()))

    def refuse_repeated(self) -> None:
        """Invalid when keys repeat and may not."""
        if not self._repeats or self.wish.several != FORBIDDEN:
            return
        names = ", ".join(self.wish.key_columns)
        examples = ", ".join(f"{_readable(key)} ({number} rows)" for key, number in self._repeated)
        more = f" and {self._repeats - SHOWN_KEYS:,} more" if self._repeats > SHOWN_KEYS else ""
        message = f"{self.what}: the key ({names}) is not unique: {examples}{more}"
        raise Invalid(
            message,
            problems=[Problem(message)],
            hint="name more key columns, make one row a key and check it ({type: unique}), "
            "or say with `several:` which row counts",
        )

    def _take_apart(self, batch: Any, rows: Sequence[bytes]) -> None:
        columns = [batch.column(f"k{i}").to_pylist() for i in range(len(self._types))]
        for values, row in zip(zip(*columns, strict=True), rows, strict=True):
            key = key_of(normal_key(values, self._types))
            self._apart.setdefault(key, self._group(key)).add([row])

    def _entry(self, group: _Group) -> Item:
        if group.number > 1:
            self._repeats += 1
            if self._repeats <= SHOWN_KEYS:
                self._repeated.append((group.key, group.number))
        return group.entry()


def _first(pair: Item) -> bytes:
    return pair[0]


def _readable(key: bytes) -> str:
    if key.startswith(b"\0"):
        return "a long key"
    values = msgspec.json.decode(key)
    return ", ".join(repr(value) for value in values)
