"""Training sets: for entities at moments in time, the features that an endpoint's look-ups would have given then.

One statement, made of the same definition that the endpoint answers from: keys, names, defaults, policies, order, age.
A row counts from its event time on, and always where it has none; without an event time, a look-up gives what the data
set holds. Of an entity that the endpoint would refuse or ignore there is no row. A decimal becomes a double where a
model gets it, as it does when it is looked up. The engine joins, so neither side need fit into memory. Pure: text in,
text out.
"""

# ruff: noqa: S608  composing SQL is this module's work; every name goes through `quoted`, every value `literal`
from __future__ import annotations

import decimal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from tulle.engine.engine import Relation, literal, quoted
from tulle.errors import Invalid, did_you_mean
from tulle.serving.finder import FinderEntry
from tulle.serving.index import Column
from tulle.serving.index_build import Wish, rendered_row
from tulle.serving.keyed_rows import ALL, DEFAULT, ERROR, FIRST, FORBIDDEN, IGNORE

ENTITIES = "entities"
Parts = Sequence[Sequence[Relation]]
_NUMBER = "_tulle_row"  # of an entity
_AT = "_tulle_at"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a training set is made of; `known` are the columns of the entities with their types."""

    known: Mapping[str, str]
    time: str
    is_model: bool  # the features are for a model, which gets decimals as doubles


def relation_of(number: int) -> str:
    """By what name the statement reads the rows of a look-up."""
    return f"look_up_{number}"


def training_sql(look_ups: Sequence[FinderEntry], asked: Asked) -> str:
    """The statement of a training set. Invalid for entities that lack a key or the time, and for several rows."""
    _demand(look_ups, asked)
    features = _features(look_ups, asked)
    at = f"CAST({quoted(asked.time)} AS TIMESTAMP) AS {_AT}"
    parts = [f"e AS (SELECT *, row_number() OVER () AS {_NUMBER}, {at} FROM {quoted(ENTITIES)})"]
    for number, entry in enumerate(look_ups):
        parts += _LookUp(number, entry, asked).parts()
    joins = " ".join(f"JOIN o{n} USING ({_NUMBER})" for n in range(len(look_ups)))
    skipped = {n: f"o{n}.skipped" for n in range(len(look_ups))}
    wanted, columns = [], []
    for name, covering in features.items():
        value, unset = "NULL", "true"
        for n in reversed(covering):
            value = f"CASE WHEN NOT {skipped[n]} THEN o{n}.{quoted(name)} ELSE {value} END"
        unset = " AND ".join(skipped[n] for n in covering)
        wanted.append(f"NOT ({unset})")
        columns.append(f"{value} AS {quoted(name)}")
    for n, entry in enumerate(look_ups):
        # It is asked only for features that those before it did not give.
        missing = [
            " AND ".join(["true", *(skipped[b] for b in covering if b < n)])
            for name, covering in features.items()
            if n in covering and name in {column.name for column in entry.columns}
        ]
        if missing:
            is_asked = " OR ".join(f"({each})" for each in missing)
            wanted.append(f"NOT (o{n}.refused AND NOT {skipped[n]} AND ({is_asked}))")
    own = ", ".join(f"e.{quoted(name)}" for name in asked.known)
    where = " AND ".join([f"e.{_AT} IS NOT NULL", *wanted])
    return (
        f"WITH {', '.join(parts)} SELECT {', '.join([own, *columns])} FROM e {joins} "
        f"WHERE {where} ORDER BY {_NUMBER}"
    )


def parts_of(
    look_ups: Sequence[FinderEntry], asked: Asked, relations: Sequence[Relation], parts: int
) -> Parts:
    """The relations, entities first, in so many parts that have nothing to do with one another; one, if they do.

    A key's rows are all in one part, so each is joined by itself, and the engine holds no more than a part at a time.
    """
    keys = {tuple(entry.key) for entry in look_ups}
    same = len(keys) == 1 and all(asked.known.get(c.name) == c.type for c in next(iter(keys)))
    if parts <= 1 or not same:
        return [relations]
    types = [column.type for column in look_ups[0].key]
    sides = [[column.name for column in look_ups[0].key], *(_wish(entry).key_columns for entry in look_ups)]
    digests = [_digest(names, types) for names in sides]
    return [
        [_part(side, digest, part, parts) for side, digest in zip(relations, digests, strict=True)]
        for part in range(parts)
    ]


def _digest(names: Sequence[str], types: Sequence[str]) -> str:
    """What tells the part of a key: of its values in one width, as files may hold the same number in several."""
    cast = (
        f"CAST({quoted(name)} AS {_SQL.get(kind, kind.upper())})"
        for name, kind in zip(names, types, strict=True)
    )
    return f"hash({', '.join(cast)})"


def _part(relation: Relation, digest: str, part: int, parts: int) -> Relation:
    whole = replace(relation, name=f"whole_{relation.name}")
    sql = f"SELECT * FROM {quoted(whole.name)} WHERE {digest} % {parts} = {part}"
    return Relation(relation.name, sql=sql, over=(whole,))


def _features(look_ups: Sequence[FinderEntry], asked: Asked) -> dict[str, list[int]]:
    """The features that are looked up, and by which look-ups; what the entities have is as if a caller sent it."""
    found: dict[str, list[int]] = {}
    for number, entry in enumerate(look_ups):
        for column in entry.columns:
            if column.name not in asked.known:
                found.setdefault(column.name, []).append(number)
            elif not asked.is_model and not _is_key(entry, column):
                raise Invalid(
                    f"the entities have a column '{column.name}', and so has what is looked up",
                    hint="name one of them otherwise: `columns: {name: column}` of the look-up does",
                )
    return found


def _is_key(entry: FinderEntry, column: Column) -> bool:
    wish = _wish(entry)
    return wish.key_sources.get(column.name, column.name) == wish.source(column.name) and column in entry.key


def _demand(look_ups: Sequence[FinderEntry], asked: Asked) -> None:
    if not look_ups:
        raise Invalid("the endpoint looks nothing up, so there are no features to put together")
    kind = asked.known.get(asked.time)
    if kind is None:
        hint = did_you_mean(asked.time, asked.known)
        raise Invalid(f"the entities have no column '{asked.time}' that tells the time", hint=hint)
    if kind not in {"timestamp", "date"}:
        raise Invalid(f"column '{asked.time}' of the entities is {kind}, not a date or a time")
    for entry in look_ups:
        if entry.several == ALL:
            raise Invalid(
                f"the look-up in '{entry.data_set}' gives several rows of a key, and features are of one",
                hint="`several: first` with `order_by` says which",
            )
        for column in entry.key:
            found = asked.known.get(column.name)
            if found is None:
                hint = did_you_mean(column.name, asked.known) or "rename it in a model of your own"
                raise Invalid(
                    f"the entities have no column '{column.name}', by which rows are found", hint=hint
                )
            if found.partition("(")[0] != column.type.partition("(")[0]:
                message = f"column '{column.name}' of the entities is {found}, the key is {column.type}"
                raise Invalid(message)


def _wish(entry: FinderEntry) -> Wish:
    if entry.wish is None:
        raise Invalid(
            f"the package does not say what its index of '{entry.data_set}' holds",
            hint="it was built by an earlier version of Tulle: package the service again",
        )
    return entry.wish


class _LookUp:
    """The parts of the statement that find the rows of one look-up."""

    def __init__(self, number: int, entry: FinderEntry, asked: Asked) -> None:
        self.n, self.entry, self.asked = number, entry, asked
        self.wish = _wish(entry)
        self.keys = [f"k{i}" for i in range(len(entry.key))]
        self.order = [f"x{i} {_direction(name)}" for i, name in enumerate(self.wish.order_by)]
        if entry.several != FORBIDDEN:
            self.order.append("rendered")

    def parts(self) -> Iterable[str]:
        """Candidates, the one of them that counts for each entity, and what the policies make of that."""
        yield f"c{self.n} AS NOT MATERIALIZED ({self._candidates()})"
        first = bool(self.wish.order_by) and self.wish.order_by[0] == f"-{self.wish.event_time}"
        if not self.wish.event_time:
            yield from self._of_key()
        elif self.entry.several == FIRST and first:
            yield from self._as_of()
        else:
            yield from self._any_order()
        yield f"o{self.n} AS ({self._outcome()})"

    def _candidates(self) -> str:
        columns = [f"{quoted(name)} AS k{i}" for i, name in enumerate(self.wish.key_columns)]
        columns += [f"{self._value(column)} AS v{i}" for i, column in enumerate(self.entry.columns)]
        columns += [f"{quoted(name.removeprefix('-'))} AS x{i}" for i, name in enumerate(self.wish.order_by)]
        if self.entry.several != FORBIDDEN:
            columns.append(f"encode({rendered_row(self.wish)}) AS rendered")
        if self.wish.event_time:
            columns.append(f"CAST({quoted(self.wish.event_time)} AS TIMESTAMP) AS since")
        else:
            columns.append("CAST(NULL AS TIMESTAMP) AS since")
        return f"SELECT {', '.join(columns)} FROM {quoted(relation_of(self.n))}"

    def _value(self, column: Column) -> str:
        """A column as it is looked up: a double that is no number is null."""
        name = quoted(self.wish.source(column.name))
        if column.type == "double":
            return f"CASE WHEN isfinite({name}) THEN CAST({name} AS DOUBLE) END"
        if column.type.startswith("decimal") and self.asked.is_model:
            return f"CAST(CAST({name} AS VARCHAR) AS DOUBLE)"  # rounded once, as reading its digits is
        return name

    def _of_key(self) -> Iterable[str]:
        keys = ", ".join(self.keys)
        order = f"ORDER BY {', '.join(self.order)}" if self.order else ""
        if self.entry.several == FORBIDDEN:
            joined = f"e JOIN c{self.n} c ON {self._same('c')}"
            yield f"f{self.n} AS (SELECT e.{_NUMBER}, c.*, 1 AS number FROM {joined})"
            return
        yield (
            f"m{self.n} AS (SELECT *, count(*) OVER (PARTITION BY {keys}) AS number FROM c{self.n} "
            f"QUALIFY row_number() OVER (PARTITION BY {keys} {order}) = 1)"
        )
        yield f"f{self.n} AS (SELECT e.{_NUMBER}, m.* FROM e JOIN m{self.n} m ON {self._same('m')})"

    def _as_of(self) -> Iterable[str]:
        # Only the few rows that share key and time are put in order: the engine does that in memory.
        keys, rest = ", ".join(self.keys), ", ".join(self.order[1:])
        yield (
            f"d{self.n} AS (SELECT {keys}, since FROM c{self.n} WHERE since IS NOT NULL "
            f"GROUP BY {keys}, since HAVING count(*) > 1)"
        )
        yield (
            f"t{self.n} AS (SELECT * FROM c{self.n} ANTI JOIN d{self.n} USING ({keys}, since) "
            f"WHERE since IS NOT NULL UNION ALL "
            f"(SELECT * FROM c{self.n} SEMI JOIN d{self.n} USING ({keys}, since) "
            f"QUALIFY row_number() OVER (PARTITION BY {keys}, since ORDER BY {rest}) = 1))"
        )
        yield (
            f"s{self.n} AS (SELECT * FROM c{self.n} WHERE since IS NULL "
            f"QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {rest}) = 1)"
        )
        yield (
            f"a{self.n} AS (SELECT e.{_NUMBER}, t.* FROM e ASOF JOIN t{self.n} t "
            f"ON {self._same('t')} AND e.{_AT} >= t.since)"
        )
        yield (
            f"f{self.n} AS (SELECT *, 1 AS number FROM a{self.n} UNION ALL "
            f"SELECT e.{_NUMBER}, s.*, 1 AS number FROM e JOIN s{self.n} s ON {self._same('s')} "
            f"ANTI JOIN a{self.n} USING ({_NUMBER}))"
        )

    def _any_order(self) -> Iterable[str]:
        order = f"ORDER BY {', '.join(self.order)}" if self.order else ""
        if self.entry.several == FORBIDDEN:
            joined = f"e JOIN c{self.n} c ON {self._same('c')} AND (c.since IS NULL OR c.since <= e.{_AT})"
            yield f"f{self.n} AS (SELECT e.{_NUMBER}, c.*, 1 AS number FROM {joined})"
            return
        yield (
            f"f{self.n} AS (SELECT e.{_NUMBER}, c.*, count(*) OVER (PARTITION BY e.{_NUMBER}) AS number "
            f"FROM e JOIN c{self.n} c ON {self._same('c')} AND (c.since IS NULL OR c.since <= e.{_AT}) "
            f"QUALIFY row_number() OVER (PARTITION BY e.{_NUMBER} {order}) = 1)"
        )

    def _same(self, other: str) -> str:
        pairs = zip(self.entry.key, self.keys, strict=True)
        return " AND ".join(f"e.{quoted(column.name)} = {other}.{key}" for column, key in pairs)

    def _outcome(self) -> str:
        entry, found = self.entry, "f.number IS NOT NULL"
        unsent = " OR ".join(f"e.{quoted(column.name)} IS NULL" for column in entry.key)
        skipped = "false" if entry.missing_key == DEFAULT else f"({unsent})"
        old = "false"
        if entry.max_age_seconds:
            since = f"e.{_AT} - INTERVAL {int(entry.max_age_seconds)} SECOND"
            old = f"({found} AND (f.since IS NULL OR f.since < {since}))"
        refused = []
        if entry.no_match != DEFAULT:
            refused.append(f"(f.number IS NULL AND NOT ({unsent}))")
        if entry.several in {ERROR, IGNORE}:
            refused.append("f.number > 1")
        if entry.too_old in {ERROR, IGNORE}:
            refused.append(old)
        takes_row = f"({found} AND NOT {old})" if entry.too_old == DEFAULT else f"({found})"
        values = []
        for i, column in enumerate(entry.columns):
            value = f"CASE WHEN {takes_row} THEN f.v{i} END"
            if (default := entry.defaults.get(column.name)) is not None:
                value = f"coalesce({value}, {self._default(column, default)})"
            values.append(f"{value} AS {quoted(column.name)}")
        refusal = f"coalesce({' OR '.join(refused)}, false)" if refused else "false"
        return (
            f"SELECT e.{_NUMBER}, {skipped} AS skipped, {refusal} AS refused, {', '.join(values)} "
            f"FROM e LEFT JOIN f{self.n} f USING ({_NUMBER})"
        )

    def _default(self, column: Column, value: object) -> str:
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        kind = column.type
        if kind.startswith("decimal"):
            if self.asked.is_model:
                kind = "double"
            elif -int(decimal.Decimal(text).as_tuple().exponent) > int(
                kind.rstrip(")").partition(",")[2] or 0
            ):
                raise Invalid(f"the default {text} of '{column.name}' has more digits than {kind} holds")
        return f"CAST({literal(text)} AS {_SQL.get(kind, kind.upper())})"


_SQL = {"string": "VARCHAR", "integer": "BIGINT", "binary": "BLOB"}


def _direction(name: str) -> str:
    return ("DESC" if name.startswith("-") else "ASC") + " NULLS LAST"
