"""Filling the stores of a service from the lake: what each is to hold, by the look-ups that read it; what came of it.

What look-ups of a package read is what a store gets: their keys and the columns that they take, and no others. Who may
have a store filled is said by its connection. What came of it last is written down beside the mesh's state, and what
the store holds is said by the store itself. A store that cannot be filled keeps what is in it.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tulle.config import Settings
from tulle.engine.duck import DuckEngine
from tulle.engine.engine import quoted
from tulle.errors import Conflict, Invalid, NotFound, TulleError
from tulle.lake.repository import Lake
from tulle.pipeline.sources.address import demand_fillable, environment_of
from tulle.pipeline.table import data_at
from tulle.serving import fill_postgres, fill_redis, live
from tulle.serving.fill_marker import Marker
from tulle.serving.fill_rows import Filled, FillRows
from tulle.serving.finder import FinderEntry
from tulle.serving.index import Column
from tulle.serving.keyed_rows import FORBIDDEN, HASH, Store
from tulle.serving.live import Failed, entries_of
from tulle.serving.package import LakeSource, Package

if TYPE_CHECKING:
    from tulle.state.connections import Connection

FILLS = "fills"
TABLE = "table"
Told = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Fill:
    """One store that look-ups of a package read and the lake fills."""

    owner: str  # the product whose service it is
    product: str
    data_set: str
    ref: str  # whose commits it follows
    store: Store
    key: tuple[Column, ...]  # with the names of the data set, as all columns here
    columns: tuple[Column, ...]
    is_unique: bool
    endpoints: tuple[str, ...] = ()

    @property
    def form(self) -> str:
        """How rows lie there: as rows of a table, as JSON, or as hashes."""
        return TABLE if self.store.table else self.store.form

    @property
    def where(self) -> str:
        """The store, in words."""
        return f"{self.store.connection}: {self.store.place}"


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What came of filling a store last. Times are seconds since 1970; no commit: it was never filled."""

    commit: str = ""
    identity: str = ""
    rows: int = 0  # that the store holds
    written: int = 0  # of them, with the last commit
    is_whole: bool = False  # all were written: there was nothing to compare with
    filled_at: float = 0.0
    seconds: float = 0.0
    columns: tuple[str, ...] = ()
    failed: Failed | None = None


def fills_of(chosen: Package, endpoint: str = "") -> list[Fill]:
    """The stores that a package wants filled, or one endpoint of it. Invalid where two look-ups of one disagree."""
    found: dict[tuple[str, str], Fill] = {}
    for raw in chosen.manifest.endpoints:
        for entry in entries_of(raw):
            if not entry.is_filled or entry.store is None:
                continue
            made = fill_of(chosen, str(raw["name"]), entry, entry.store)
            place = (entry.store.connection, entry.store.place)
            found[place] = both(found[place], made) if place in found else made
    return [one for one in found.values() if not endpoint or endpoint in one.endpoints]


def fill_of(chosen: Package, endpoint: str, entry: FinderEntry, store: Store) -> Fill:
    """The store that one look-up reads."""
    wish = entry.wish
    assert wish is not None
    types = store.types
    key = tuple(Column(name, types[name]) for name in wish.key_columns)
    others = (name for name in wish.reads if name not in wish.key_columns)
    columns = tuple(Column(name, types[name]) for name in others)
    is_unique = entry.several == FORBIDDEN or (bool(store.keys) and store.form == HASH)
    ref = chosen.manifest.ref
    return Fill(
        chosen.product, entry.product, entry.data_set, ref, store, key, columns, is_unique, (endpoint,)
    )


def both(one: Fill, other: Fill) -> Fill:
    """The store that two look-ups read. Invalid where they disagree."""
    for what, left, right in (
        ("of different data sets", (one.product, one.data_set), (other.product, other.data_set)),
        ("by different keys", one.key, other.key),
        ("in different forms", one.form, other.form),
    ):
        if left != right:
            raise Invalid(
                f"'{one.where}' is to hold rows {what}: for '{one.endpoints[0]}' and for '{other.endpoints[0]}'",
                hint="name another table, or other keys, for one of them",
            )
    columns = tuple(dict.fromkeys((*one.columns, *other.columns)))
    endpoints = (*one.endpoints, *other.endpoints)
    return replace(one, columns=columns, endpoints=endpoints, is_unique=one.is_unique or other.is_unique)


# ── what is written down ─────────────────────────────────────────────────────────────────────────────────


def record_of(settings: Settings, fill: Fill) -> Path:
    """Where it is written down what came of filling a store."""
    text = msgspec.json.encode([environment_of(fill.ref), fill.store.connection, fill.store.place])
    return settings.state_folder / FILLS / f"{hashlib.blake2b(text, digest_size=10).hexdigest()}.json"


def read_done(settings: Settings, fill: Fill) -> Done:
    """What came of filling a store last."""
    try:
        return msgspec.json.decode(record_of(settings, fill).read_bytes(), type=Done)
    except (OSError, msgspec.MsgspecError):
        return Done()


# ── doing it ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Filling:
    """What filling needs; `told` is told how many rows are done, of how many."""

    settings: Settings
    lake: Lake
    connection: Callable[[str, str], Connection]  # by name and environment
    told: Told = field(default=lambda _done, _of: None)

    def fill(self, fill: Fill, commit: str = "") -> Done:
        """Fill one store from the data set at a commit, the published one without. The failure is written down too."""
        record = record_of(self.settings, fill)
        record.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _alone(record, fill):
            before, wanted = read_done(self.settings, fill), commit
            try:
                wanted = self.lake.repository(fill.product).resolve(commit or fill.ref)
                done = self._filled(fill, wanted)
            except TulleError as exc:
                failed = Failed(wanted, exc.message, time.time())
                live.write(record, msgspec.structs.replace(before, failed=failed))
                raise
            live.write(record, done)
        return done

    def _filled(self, fill: Fill, commit: str) -> Done:
        began = time.time()
        details = self.connection(fill.store.connection, environment_of(fill.ref))
        demand_fillable(details, fill.owner)
        data = data_at(self.lake.repository(fill.product), commit, fill.data_set)
        if data is None:
            raise NotFound(f"product '{fill.product}' has no data set '{fill.data_set}' at {commit[:12]}")
        scratch = record_of(self.settings, fill).with_suffix(".scratch")
        shutil.rmtree(scratch, ignore_errors=True)  # of one that was killed: nobody else is here
        scratch.mkdir()
        opened = fill_postgres.opened if fill.store.table else fill_redis.opened
        try:
            engine = DuckEngine(self.settings.warehouse, scratch / "spill")
            with engine.kept(scratch / "room") as engine, opened(details, fill.store.place) as target:
                there = target.marker()
                known = self._known(fill, commit, engine, scratch)
                wanted = _wanted(fill, commit, data.identity, there, known)
                rows = self._rows(fill, wanted, engine, scratch)
                number = rows.check()
                is_same = there is not None and _alike(there, wanted)
                if is_same and there is not None and there.identity == wanted.identity:
                    target.say(wanted)
                    written, is_whole = 0, False
                else:
                    is_whole = not (is_same and there is not None and rows.since(there.commit))
                    written = sum(rows.count())
                    target.fill(rows, wanted, there, self.told)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        now = time.time()
        return Done(
            commit=commit,
            identity=data.identity,
            rows=number,
            written=written,
            is_whole=is_whole,
            filled_at=now,
            seconds=round(now - began, 3),
            columns=tuple(wanted.types),
        )

    def _known(self, fill: Fill, commit: str, engine: DuckEngine, scratch: Path) -> Mapping[str, str]:
        """The columns of the data set with their types. Invalid where those that are read are not as packaged."""
        source = LakeSource(self.lake, commit)
        relation = source.relation(fill.product, fill.data_set, scratch / "known", commit)
        described = engine.describe(f"SELECT * FROM {quoted(relation.name)}", [relation])  # noqa: S608
        known = {column.name: column.type for column in described}
        for column in (*fill.key, *fill.columns):
            if known.get(column.name) != column.type:
                now = f"is {known[column.name]} now" if column.name in known else "is gone"
                raise Invalid(
                    f"column '{column.name}' of '{fill.data_set}' {now}, the service was packaged with {column.type}",
                    hint="package and deploy the service again",
                )
        return known

    def _rows(self, fill: Fill, wanted: Marker, engine: DuckEngine, scratch: Path) -> FillRows:
        columns = tuple(Column(name, kind) for name, kind in wanted.types.items() if name not in wanted.key)
        filled = Filled(fill.product, fill.data_set, wanted.commit, fill.key, columns, fill.is_unique)
        source = LakeSource(self.lake, wanted.commit)
        repository = self.lake.repository(fill.product)
        return FillRows(filled, engine, repository, source, scratch)


def _wanted(fill: Fill, commit: str, identity: str, there: Marker | None, known: Mapping[str, str]) -> Marker:
    """What a store is to say; columns that others wanted stay. Conflict where it holds something else."""
    columns = {column.name: column.type for column in (*fill.key, *fill.columns)}
    if there is not None:
        if (there.product, there.data_set, there.form) != (fill.product, fill.data_set, fill.form):
            raise Conflict(
                f"'{fill.where}' holds data set '{there.data_set}' of '{there.product}' ({there.form})",
                hint="name another table, or other keys",
            )
        if there.ref != fill.ref:
            raise Conflict(
                f"'{fill.where}' holds what is published at '{there.ref}', and this is of '{fill.ref}'",
                hint="let the connections of two environments lead to databases of their own",
            )
        columns |= {name: known[name] for name in there.types if name in known and name not in columns}
    return Marker(
        product=fill.product,
        data_set=fill.data_set,
        ref=fill.ref,
        commit=commit,
        identity=identity,
        key=tuple(column.name for column in fill.key),
        types=columns,
        form=fill.form,
    )


def _alike(there: Marker, wanted: Marker) -> bool:
    """Whether rows of both look the same, so that those of few keys may be replaced."""
    return (there.key, dict(there.types)) == (wanted.key, dict(wanted.types))


@contextmanager
def _alone(record: Path, fill: Fill) -> Iterator[None]:
    """Nobody else on this machine fills the store meanwhile. Conflict."""
    with record.with_suffix(".lock").open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            hint = "wait until it is done: `tulle features status` tells when"
            raise Conflict(f"'{fill.where}' is being filled already", hint=hint) from None
        yield


def told_of(fill: Fill, done: Done) -> Mapping[str, Any]:
    """What is told of a store that was filled."""
    return {
        "endpoints": list(fill.endpoints),
        "store": fill.where,
        "product": fill.product,
        "data_set": fill.data_set,
        "commit": done.commit,
        "rows": done.rows,
        "written": done.written,
        "whole": done.is_whole,
        "seconds": done.seconds,
    }


def all_told(found: Sequence[tuple[Fill, Done]]) -> list[Mapping[str, Any]]:
    """The same of several."""
    return [told_of(fill, done) for fill, done in found]
