"""What an input port's source has to give now, gathered before anything is changed: new rows, and rows put aside.

Everything lands in files of the run's own folder first. So a source that has nothing new changes nothing, and a
source that breaks off half way leaves nothing behind. What the next reading must know is remembered with the data.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tulle.config import Settings
from tulle.engine.engine import ColumnType
from tulle.errors import Invalid, NotFound, Place, Problem
from tulle.lake.repository import Repository
from tulle.pipeline.convert import arrow_type, columns_of
from tulle.pipeline.drifting import Settled, settle
from tulle.pipeline.environment import connections_of
from tulle.pipeline.ingest import ROW_GROUP_ROWS
from tulle.pipeline.keep import ORDER, REJECTED_SUFFIX, Gathered, only_new
from tulle.pipeline.make import Making
from tulle.pipeline.record import Record, read_record
from tulle.pipeline.sources import http, local, sql
from tulle.pipeline.sources.cursor import Cursor, Fresh
from tulle.pipeline.sources.files import is_plain, puts_aside
from tulle.pipeline.sources.fitting import Rejects, value_as
from tulle.pipeline.sources.reading import Ask, Opener, Reading
from tulle.pipeline.table import data_at
from tulle.spec.source import FILE, HTTP, SQL, Source, SourceColumn
from tulle.state.connections import Connection, Connections, open_connections
from tulle.state.db import Database

_LIKE_BEFORE = (
    "on_drift",
    "on_bad_rows",
    "requests_per_second",
    "load",
)  # say nothing of which rows there are


@dataclass(frozen=True, slots=True)
class Sources:
    """What sources need that is outside of a product: settings, and the connections of one environment."""

    settings: Settings
    connections: Connections
    environment: str

    @classmethod
    def of(cls, settings: Settings, database: Database, branch: str) -> Sources:
        """Those of the environment whose branch that is."""
        return cls(settings, open_connections(settings, database), connections_of(database, settings, branch))

    def gathered(
        self, making: Making, repository: Repository, branch: str, *, full: bool, over: str = ""
    ) -> Making:
        """The job with what its source gives now. Raises what a source raises; nothing is changed then.

        `over`: what is published, where the branch has what a failed run had made: Repaired when that does not hold.
        """
        port = making.job.port
        assert port is not None
        assert port.source is not None
        if is_plain(port.source):
            return making.with_files()
        return _Gathering(self, making, repository, branch, full=full, over=over).gathered()

    def connection(self, source: Source) -> Connection | None:
        """The connection a source names, None when it names none. NotFound; Invalid when it leads to something else."""
        if not source.connection:
            return None
        try:
            found = self.connections.get(source.connection, self.environment)
        except NotFound as exc:
            problem = Problem(exc.message, source.place, exc.hint)
            raise NotFound(exc.message, hint=exc.hint, problems=[problem]) from exc
        if found.kind != source.type:
            message = (
                f"connection '{found.name}' is of kind {found.kind}, and the source is of type {source.type}"
            )
            hint = f"name a connection of kind {source.type}: `tulle connection list`"
            raise Invalid(message, hint=hint, problems=[Problem(message, source.place, hint)])
        return found


def _rows(count: int) -> str:
    return "row does not fit and is" if count == 1 else "rows do not fit and are"


def _opener(kind: str) -> Opener:
    if kind in {FILE, HTTP, SQL}:
        return {FILE: local.opened, HTTP: http.opened, SQL: sql.opened}[kind]
    from tulle.pipeline.sources import store  # noqa: PLC0415  opens object stores

    return store.opened


def source_digest(source: Source) -> str:
    """Equal when what was read before is still part of what would be read."""
    value = {k: v for k, v in json.loads(source.digest_text()).items() if k not in _LIKE_BEFORE}
    value["grows"] = source.load != "full"
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


class _Gathering:
    def __init__(
        self,
        sources: Sources,
        making: Making,
        repository: Repository,
        branch: str,
        *,
        full: bool,
        over: str,
    ) -> None:
        self.sources, self.making = sources, making
        assert making.job.port is not None
        assert making.job.port.source is not None
        self.port, self.source = making.job.port, making.job.port.source
        self.before = read_record(repository, branch, making.job.name)
        present = data_at(repository, branch, making.job.name)
        known = self.before is not None and present is not None and self.before.identity == present.identity
        self.before = self.before if known and not full else None
        self.goes_on = self._goes_on()
        self.published = read_record(repository, over, making.job.name) if over else self.before
        self.folder = making.folder / "gathered" / making.job.name
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.rows_file, self.rejected_file = self.folder / "rows.parquet", self.folder / "rejected.parquet"
        self.rejects = Rejects(keep=puts_aside(self.source), run=making.run_id, target=self.rejected_file)
        self.put_aside = 0
        there = data_at(repository, branch, f"{making.job.name}{REJECTED_SUFFIX}")
        self.rejected_before = there.relation.files if there and self.goes_on else ()
        self.settled: Settled | None = None

    def _goes_on(self) -> Mapping[str, Any]:
        """What was remembered, empty when everything is read again."""
        before: Record | None = self.before
        if self.source.load == "full" or before is None:
            return {}
        return before.remembered if before.remembered.get("source") == source_digest(self.source) else {}

    def _unpublished(self) -> frozenset[str]:
        """The files that were read, but not for what is published."""
        published = self.published.remembered.get("files", {}) if self.published else {}
        found: Mapping[str, str] = self.goes_on.get("files", {})
        return frozenset(name for name, digest in found.items() if published.get(name) != digest)

    def gathered(self) -> Making:
        said = self.goes_on.get("cursor")
        since = Cursor.of(said) if isinstance(said, Mapping) else None
        fresh = Fresh(self.source, since) if self.source.cursor else None
        product = self.making.code.product
        label = str(Path(product.place.file).parent) if product.place else product.folder.name
        ask = Ask(
            port=self.port,
            source=self.source,
            connection=self.sources.connection(self.source),
            since=since,
            before=self.before.types() if self.before else (),
            rejects=self.rejects,
            settings=self.sources.settings,
            folder=self.folder / "fetched",
            product_folder=product.folder,
            product_label=label,
            say=self.making.say,
            files=dict(self.goes_on.get("files", {})),
            unpublished=self._unpublished(),
        )
        with _opener(self.source.type)(ask) as reading, contextlib.closing(self.rejects):
            count = self._write(reading, fresh)
            self.rejects.end(reading.label)
            self.put_aside = self.rejects.count
            # By a cursor rows are read that were read before, and a row put aside does not move it.
            if self.put_aside and self.source.cursor and self.rejected_before:
                self.put_aside = only_new(self.making.engine, self.rejected_file, self.rejected_before)
            remembered = {
                **({"cursor": fresh.cursor.as_dict()} if fresh and fresh.cursor else {}),
                **reading.remembered,
            }
        return self._made(count, remembered, reading.label)

    def _made(self, count: int, remembered: dict[str, Any], label: str) -> Making:
        assert self.settled is not None
        digest = hashlib.sha256(json.dumps([[c.name, c.type] for c in self.settled.columns]).encode())
        with self.rows_file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
        digest.update(str(self.put_aside).encode())
        identity = digest.hexdigest()
        if self.goes_on:
            known = str(self.goes_on.get("identity", ""))
            nothing = not count and not self.put_aside and not self.settled.widened
            identity = known if nothing else hashlib.sha256(f"{known}{identity}".encode()).hexdigest()
        remembered |= {"source": source_digest(self.source), "identity": identity}
        said = f"{count:,} new rows of {label}" if self.goes_on else label
        if self.put_aside:
            self.making.say(f"{self.making.job.name}: {self.put_aside:,} {_rows(self.put_aside)} put aside")
        gathered = Gathered(
            rows=self.rows_file,
            count=count,
            columns=self.settled.columns,
            goes_on=bool(self.goes_on),
            widened=self.settled.widened,
            rejected=self.rejected_file if self.put_aside else None,
            put_aside=self.put_aside,
            remembered=remembered,
        )
        return replace(
            self.making,
            gathered=gathered,
            versions={"files": {"identity": identity, "files": said[:500]}},
        )

    # ── rows ─────────────────────────────────────────────────────────────────────────────────────────────

    def _write(self, reading: Reading, fresh: Fresh | None) -> int:
        """Write the new rows in the data set's columns; how many there are."""
        count, started = 0, 0
        writer: pq.ParquetWriter | None = None
        try:
            for batch in chain(reading.batches(), self._empty()):
                rows = self._fitted(batch, reading.label)
                rows = fresh.filter(rows) if fresh is not None else rows
                if self.source.load == "merge":
                    self._demand_key(rows)
                    order = pa.array(range(started, started + rows.num_rows), pa.int64())
                    rows = rows.append_column(pa.field(ORDER, pa.int64()), order)
                    started += rows.num_rows
                if writer is None:
                    writer = pq.ParquetWriter(self.rows_file, rows.schema, compression="zstd")
                if rows.num_rows:
                    writer.write_batch(rows, row_group_size=ROW_GROUP_ROWS)
                count += rows.num_rows
        finally:
            if writer is not None:
                writer.close()
        if writer is None:
            hint = "declare the 'columns' of the source, so that no rows can be kept too"
            raise Invalid(
                f"{reading.label} has no rows, and nobody says which columns they would have", hint=hint
            )
        return count

    def _empty(self) -> Iterator[pa.RecordBatch]:
        """No rows, where a source gave not even that and it is known which columns they would have."""
        if self.settled is None:
            known = [ColumnType(c.name, c.type) for c in self.source.columns]
            columns = known or (self.before.types() if self.before else ())
            if columns:
                yield pa.RecordBatch.from_pylist([], schema=_schema(columns))

    def _demand_key(self, rows: pa.RecordBatch) -> None:
        for name in self.source.key:
            if name not in rows.schema.names:
                raise Invalid(f"the key '{name}' is no column of the source", hint="see 'key' of the source")
            if rows.column(name).null_count:
                hint = "leave such rows out, or name another key"
                raise Invalid(
                    f"rows have no value in the key '{name}', so nothing tells them apart", hint=hint
                )

    def _fitted(self, batch: pa.RecordBatch, label: str) -> pa.RecordBatch:
        """A batch in the columns of the data set; they are settled by the first one."""
        found = columns_of(batch.schema)
        before = self.settled.columns if self.settled else (self.before.types() if self.before else ())
        settled = settle(before, found, self.source.on_drift, label, self.source.place)
        if self.settled is None:
            self.settled = settled
            if settled.dropped:
                self.making.say(
                    f"{self.making.job.name}: left out, as it is new: {', '.join(settled.dropped)}"
                )
        elif settled.widened:
            hint = "declare the 'columns' of the source"
            raise Invalid(f"{label}: the columns differ from one part to the next", hint=hint)
        if settled.cast:
            batch = self._cast(batch, settled, label)
        there = set(batch.schema.names)
        schema = _schema(self.settled.columns)
        arrays = [
            self._as_before(batch.column(field.name), field, label)
            if field.name in there
            else pa.nulls(batch.num_rows, field.type)
            for field in schema
        ]
        return pa.record_batch(arrays, schema=schema)

    def _as_before(self, column: pa.Array, field: pa.Field, label: str) -> pa.Array:
        """A column in the wider type it has; not every whole number is a double."""
        try:
            return column.cast(field.type)
        except pa.ArrowInvalid:
            message = f"column '{field.name}' has values that are no {field.type}, as it was before"
            hint = "declare the column's type, or run with --full once, which begins anew"
            problem = Problem(message, self.source.place, hint)
            raise Invalid(f"{label}: {message}", hint=hint, problems=[problem]) from None

    def _cast(self, batch: pa.RecordBatch, settled: Settled, label: str) -> pa.RecordBatch:
        """Rows whose values fit the columns there were; the others are put aside."""
        wanted = {c.name: SourceColumn(c.name, c.type) for c in settled.columns if c.name in settled.cast}
        kept: list[dict[str, Any]] = []
        for row in batch.to_pylist():
            reasons, fitted = [], dict(row)
            for name, column in wanted.items():
                try:
                    fitted[name] = value_as(row[name], column)
                except (ValueError, TypeError):
                    reasons.append(
                        f"column '{name}' is '{str(row[name])[:60]}', which is no {column.type} as before"
                    )
            if reasons:
                self.rejects.add(reasons, Place(label), row)
            else:
                kept.append(fitted)
        fields = [
            pa.field(f.name, arrow_type(wanted[f.name].type)) if f.name in wanted else f for f in batch.schema
        ]
        return pa.RecordBatch.from_pylist(kept, schema=pa.schema(fields))


def _schema(columns: Any) -> pa.Schema:
    return pa.schema([pa.field(c.name, arrow_type(c.type)) for c in columns])
