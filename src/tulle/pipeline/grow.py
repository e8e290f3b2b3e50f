"""Models that go on from what is there: incremental ones and snapshots.

Rows are never changed in place: a file whose rows are replaced is written anew without them, every other file
stays. What was done is remembered in the data set's record, so a run that fails forgets it with its rows.
"""

# ruff: noqa: S608  composing SQL is this module's work; every name goes through `quoted`, every value `literal`
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tulle.engine.engine import ColumnType, Engine, Relation, literal, quoted
from tulle.errors import Invalid, Problem
from tulle.pipeline.columns import VALID_FROM, VALID_TO, VERSIONS, adjusted, this_columns
from tulle.pipeline.data_files import DataFiles
from tulle.pipeline.job import Job
from tulle.pipeline.model_kind import APPEND, MERGE, SNAPSHOT, THIS, WINDOW, ModelKind, back, joined
from tulle.spec.product import DataSet

MOST_FILES = 64  # more of them are made one: every file costs a look
_NEW, _OLD = "_new", "_old"

Span = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class Grown:
    """What a data set has afterwards, and what is to be remembered."""

    rows: int
    columns: tuple[ColumnType, ...]
    remembered: Mapping[str, Any]
    said: str


@dataclass(frozen=True, slots=True)
class Growing:
    """A model and what it goes on from. `columns` are those of the rows that are there, None to begin anew."""

    job: Job
    engine: Engine
    relations: Sequence[Relation]
    declared: DataSet | None
    files: DataFiles
    run: str
    at: datetime  # the run's time
    columns: tuple[ColumnType, ...] | None = None
    remembered: Mapping[str, Any] | None = None
    window: Span | None = None  # make this time again

    @property
    def way(self) -> ModelKind:
        """How the rows are kept."""
        return self.job.way

    @property
    def this(self) -> Relation:
        """The rows that are there."""
        if self.columns is not None:
            return Relation(THIS, tuple(self.files.present.values()), self.columns)
        return Relation(THIS, columns=this_columns(self.job, self.declared))

    @property
    def known(self) -> list[Relation]:
        """What the model may read."""
        return [*self.relations, self.this] if self.job.reads_this else list(self.relations)


def window_macros(span: Span | None) -> tuple[str, ...]:
    """What `window_start()` and `window_end()` mean."""
    if span is None:
        return ()
    names = ("window_start", "window_end")
    return tuple(f"{name}() AS {_literal(at)}" for name, at in zip(names, span, strict=True))


# ── incremental ──────────────────────────────────────────────────────────────────────────────────────────


def due(growing: Growing, now: datetime) -> list[Span]:
    """The windows to make: what was never made, and what may have come late."""
    way = growing.way
    if growing.window is not None:
        return [growing.window]
    done = spans(growing.remembered) if growing.columns is not None else ()
    found = list(way.windows(done, now))
    if way.lookback and done:
        since = max(way.first, back(done[-1][1], way.grain, way.lookback))
        found.append((since, done[-1][1]))
    return [span for span in joined(found) if span[0] < span[1]]


def spans(remembered: Mapping[str, Any] | None) -> tuple[Span, ...]:
    """The windows that were made."""
    told = (remembered or {}).get("windows", ())
    return tuple((datetime.fromisoformat(a), datetime.fromisoformat(b)) for a, b in told)


def incremental(growing: Growing) -> Grown:
    """Add what is new. Raises Invalid when the rows do not fit those that are there."""
    going = _Going(growing)
    if growing.way.strategy != WINDOW:
        going.step(None)
        return going.end({})
    todo = due(growing, growing.at)
    done = list(spans(growing.remembered)) if growing.columns is not None else []
    if not todo and growing.columns is None:
        todo = [(growing.way.first, growing.way.first)]  # nothing is due yet: no rows, but columns
    for span in todo:
        going.step(span)
        done.append(span)
    told = [[a.isoformat(), b.isoformat()] for a, b in joined([s for s in done if s[0] < s[1]])]
    return going.end({"windows": told})


class _Going:
    """Files that stay, and files that are new, from one step to the next."""

    def __init__(self, growing: Growing) -> None:
        self.growing = growing
        self.files = growing.files
        self.columns = growing.columns
        self.keep = list(growing.files.present) if growing.columns is not None else []
        self.made: dict[Path, int] = {}  # new files and their rows
        self.steps = self.changed = 0

    def step(self, span: Span | None) -> None:
        """Make the rows of one window, or all there are, and put them in the place of those they replace."""
        growing, job = self.growing, self.growing.job
        engine = growing.engine.knowing(window_macros(span))
        found = adjusted(engine.describe(job.text, growing.known, file=job.file), growing.declared)
        _refuse_other_columns(job, self.columns, found)
        types = {column.name: column.type for column in found}
        fresh = self._new("")
        written = engine.write(job.text, growing.known, fresh, file=job.file, types=types)
        self.columns = written.columns
        self.made[fresh] = written.rows
        new = Relation(_NEW, (str(fresh),))
        _refuse_rows(growing, engine, new, span)
        if growing.way.strategy != APPEND:
            self._replace(engine, new, _condition(growing.way, span))
        self.changed += written.rows
        self.steps += 1

    def _replace(self, engine: Engine, new: Relation, condition: str) -> None:
        """Of the files that stay, those with rows that are replaced are written anew without them."""
        kept = []
        for path in self.keep:
            old = Relation(_OLD, (self.files.present[path],))
            query = f"SELECT count(*) AS n FROM {_OLD} WHERE {condition}"
            (row,) = engine.query(query, [old, new]).to_pylist()
            if not row["n"]:
                kept.append(path)
                continue
            rest = self._new("-rest")
            sql = f"SELECT * FROM {_OLD} WHERE NOT coalesce(({condition}), false)"
            self.made[rest] = engine.write(sql, [old, new], rest).rows
        self.keep = kept

    def _new(self, word: str) -> Path:
        return self.files.new(f"part-{self.growing.run}-{len(self.made):04d}{word}.parquet")

    def end(self, remembered: Mapping[str, Any]) -> Grown:
        """Give the files their place."""
        if self.columns is None:
            raise Invalid(f"'{self.growing.job.name}' has no columns")
        for file in [file for file, rows in self.made.items() if not rows]:
            if len(self.made) + len(self.keep) > 1:  # one has to stay, to say what the columns are
                self.files.drop(file)
                del self.made[file]
        rows = self.files.rows(self.keep) + sum(self.made.values())
        if len(self.made) + len(self.keep) > MOST_FILES:
            self._make_one()
        self.files.settle(self.keep)
        return Grown(rows, self.columns, remembered, f"{self.changed:,} new, {rows:,} in all")

    def _make_one(self) -> None:
        files = [*(self.files.present[path] for path in self.keep), *map(str, self.made)]
        earlier, self.keep = list(self.made), []
        one = self._new("-all")
        made = self.growing.engine.write(f"SELECT * FROM {_OLD}", [Relation(_OLD, tuple(files))], one)
        for file in earlier:
            self.files.drop(file)
        self.made = {one: made.rows}


def _condition(way: ModelKind, span: Span | None) -> str:
    """Which rows that are there are replaced."""
    if way.strategy == WINDOW:
        assert span is not None
        since, until = (_literal(at) for at in span)
        return f"{quoted(way.time_column)} >= {since} AND {quoted(way.time_column)} < {until}"
    columns = way.key if way.strategy == MERGE else way.partition
    same = " AND ".join(f"n.{quoted(c)} IS NOT DISTINCT FROM {_OLD}.{quoted(c)}" for c in columns)
    names = ", ".join(map(quoted, columns))
    return f"EXISTS (SELECT 1 FROM (SELECT DISTINCT {names} FROM {_NEW}) AS n WHERE {same})"


def _literal(at: datetime) -> str:
    return f"CAST({literal(at.strftime('%Y-%m-%d %H:%M:%S'))} AS TIMESTAMP)"


def _refuse_other_columns(job: Job, there: Sequence[ColumnType] | None, found: Sequence[ColumnType]) -> None:
    if there is None or {(c.name, c.type) for c in there} == {(c.name, c.type) for c in found}:
        return
    before, now = ({f"{c.name} {c.type}" for c in columns} for columns in (there, found))
    gone, come = ", ".join(sorted(before - now)), ", ".join(sorted(now - before))
    said = "; ".join(
        text for text in (f"gone: {gone}" if gone else "", f"new: {come}" if come else "") if text
    )
    hint = "`tulle run --full` makes all rows anew"
    problem = Problem(f"the model gives other columns than the rows that are there ({said})", job.place, hint)
    raise Invalid(f"'{job.name}' cannot go on from what is there", hint=hint, problems=[problem])


def _refuse_rows(growing: Growing, engine: Engine, new: Relation, span: Span | None) -> None:
    """Rows that would not be found again: without a key, twice, or outside of their window."""
    way = growing.way
    if way.strategy == MERGE or way.kind == SNAPSHOT:
        names = ", ".join(map(quoted, way.key))
        nulls = " OR ".join(f"{quoted(c)} IS NULL" for c in way.key)
        query = (
            f"SELECT {names}, count(*) AS n FROM {_NEW} GROUP BY ALL HAVING count(*) > 1 OR {nulls} LIMIT 3"
        )
        found = engine.query(query, [new]).to_pylist()
        what = f"rows without a {', '.join(way.key)} of their own"
        hint = "a new row replaces the one with its key: give one row a key"
    elif way.strategy == WINDOW:
        assert span is not None
        condition = _condition(way, span)
        query = (
            f"SELECT {quoted(way.time_column)} FROM {_NEW} WHERE NOT coalesce(({condition}), false) LIMIT 3"
        )
        found = engine.query(query, [new]).to_pylist()
        what = f"rows outside of the window {span[0]:%Y-%m-%d %H:%M} to {span[1]:%Y-%m-%d %H:%M}"
        column = way.time_column
        hint = f"write WHERE {column} >= window_start() AND {column} < window_end()"
    else:
        return
    if found:
        some = "; ".join(", ".join(f"{name} {value}" for name, value in row.items()) for row in found)
        problem = Problem(f"{what}: {some}", growing.job.place, hint)
        raise Invalid(f"'{growing.job.name}' gives {what}", hint=hint, problems=[problem])


# ── snapshots ────────────────────────────────────────────────────────────────────────────────────────────


def snapshot(growing: Growing, scratch: Path) -> Grown:
    """Every version of every row: when it came to be as it is, and until when it was.

    Slowly changing dimensions of the second type; what is open has no `valid_to`.
    """
    job, way, engine = growing.job, growing.way, growing.engine
    found = adjusted(engine.describe(job.text, growing.known, file=job.file), growing.declared)
    own = [column.name for column in found]
    if taken := [name for name in own if name.lower() in {VALID_FROM, VALID_TO}]:
        hint = "a snapshot adds them itself; name yours differently"
        problem = Problem(f"the model gives a column '{taken[0]}'", job.place, hint)
        raise Invalid(f"'{job.name}' cannot be a snapshot", hint=hint, problems=[problem])
    fresh = scratch / f"{job.name}.parquet"
    types = {column.name: column.type for column in found}
    engine.write(job.text, growing.known, fresh, file=job.file, types=types)
    try:
        new = Relation(_NEW, (str(fresh),))
        _refuse_rows(growing, engine, new, None)
        columns = (*found, *VERSIONS)
        if growing.columns is not None:
            _refuse_other_columns(job, growing.columns, columns)
        relations = [new]
        if growing.columns is not None:
            relations.append(Relation(_OLD, tuple(growing.files.present.values()), columns))
        made: dict[Path, int] = {}
        # One statement each, and nothing is sorted: what one of them needs of memory is given back before the next.
        for sql in _versions(way, own, growing.at, is_first=growing.columns is None):
            target = growing.files.new(f"part-{growing.run}-{len(made):04d}.parquet")
            kinds = {c.name: c.type for c in columns}
            written = engine.write(sql, relations, target, file=job.file, types=kinds)
            made[target] = written.rows
    finally:
        fresh.unlink(missing_ok=True)
    for target in [target for target, rows in made.items() if not rows]:
        if len(made) > 1:  # one has to stay, to say what the columns are
            growing.files.drop(target)
            del made[target]
    growing.files.settle()
    rows = sum(made.values())
    return Grown(rows, written.columns, {}, f"{rows:,} versions of rows")


def _versions(way: ModelKind, own: Sequence[str], at: datetime, *, is_first: bool) -> tuple[str, ...]:
    """Statements that give all versions together: those that were closed, those that were open, new ones."""
    names = [quoted(name) for name in own]
    same = " AND ".join(f"n.{quoted(k)} = c.{quoted(k)}" for k in way.key)
    values = [quoted(name) for name in own if name not in way.key]
    differs = " OR ".join(f"n.{v} IS DISTINCT FROM c.{v}" for v in values) or "false"
    now, first = _literal(at), f"n.{quoted(way.key[0])}"
    since = f"CAST(n.{quoted(way.updated_at)} AS TIMESTAMP)" if way.updated_at else now
    # A change that claims to be older than what it changes begins when it was seen.
    begins = f"CASE WHEN c.{VALID_FROM} IS NULL OR {since} > c.{VALID_FROM} THEN {since} ELSE {now} END"
    ended = now if way.deletes == "close" else "NULL"
    ours, theirs = (", ".join(f"{side}.{name}" for name in names) for side in "cn")
    current = f"(SELECT * FROM {_OLD} WHERE {VALID_TO} IS NULL)"
    if is_first:
        columns = f"{theirs}, {since} AS {VALID_FROM}, CAST(NULL AS TIMESTAMP) AS {VALID_TO}"
        return (f"SELECT {columns} FROM {_NEW} AS n",)
    return (
        f"SELECT {', '.join(names)}, {VALID_FROM}, {VALID_TO} FROM {_OLD} WHERE {VALID_TO} IS NOT NULL",
        f"""
SELECT {ours}, c.{VALID_FROM},
  CASE WHEN {first} IS NULL THEN {ended} WHEN {differs} THEN {begins} END AS {VALID_TO}
FROM {current} AS c LEFT JOIN {_NEW} AS n ON {same}
""",
        f"""
SELECT {theirs}, {begins} AS {VALID_FROM}, CAST(NULL AS TIMESTAMP) AS {VALID_TO}
FROM {_NEW} AS n LEFT JOIN {current} AS c ON {same} WHERE c.{quoted(way.key[0])} IS NULL OR {differs}
""",
    )
