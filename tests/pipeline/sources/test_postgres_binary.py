"""PostgreSQL's binary rows: every value of every type is what the server itself writes as text."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from tulle.errors import Invalid, Unavailable
from tulle.pipeline.convert import Misfit
from tulle.pipeline.sources import postgres
from tulle.pipeline.sources.address import made
from tulle.pipeline.sources.fitting import Fitting, Rejects, canonical
from tulle.pipeline.sources.postgres_binary import Chunk, Columns, Sent, chunks, sent
from tulle.spec.source import SourceColumn

TYPES = """
CREATE TYPE mood AS ENUM ('glad', 'sad');
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN cents AS numeric(9,2) CHECK (value > -1000000);
"""
# For each type: values with the edges it has.
VALUES = {
    "smallint": ["-32768", "32767", "0"],
    "integer": ["-2147483648", "2147483647", "7"],
    "bigint": ["-9223372036854775808", "9223372036854775807", "-1"],
    "oid": ["4294967295", "0"],
    "real": ["0.1", "3.4028235e38", "NaN", "-Infinity"],
    "double precision": ["0.1", "-1e-307", "1.7976931348623157e308", "NaN", "Infinity", "-0", "123456789"],
    "boolean": ["true", "false"],
    "numeric(12,2)": ["0.01", "-9999999999.99", "9999999999.99", "10000.00", "0", "5000", "0.50", "NaN"],
    "numeric(18,18)": ["0.123456789012345678", "-0.000000000000000001", "0.0001"],
    "numeric(18,0)": ["999999999999999999", "-100000000", "10000", "1"],
    "numeric(5,5)": ["0.00001", "0.99999", "-0.1"],
    "numeric(38,10)": ["1234567890123456789012345678.0123456789", "-0.0000000001"],
    "cents": ["12.34", "-0.01"],
    "date": [
        "2000-01-01",
        "1999-12-31",
        "0001-01-01",
        "9999-12-31",
        "10000-01-01",
        "0044-03-15 BC",
        "4713-02-28 BC",
        "5874897-12-31",
        "infinity",
        "-infinity",
    ],
    "timestamp": [
        "2000-01-01 00:00:00",
        "1999-12-31 23:59:59.999999",
        "0001-01-01 00:00:00",
        "9999-12-31 23:59:59.999999",
        "0044-03-15 12:00:00.5 BC",
        "294276-12-31 23:59:59",
        "infinity",
        "-infinity",
    ],
    "timestamptz": ["2020-03-29 01:30:00+01", "0044-03-15 12:00:00+00 BC", "infinity", "9999-12-31 23:59:59+00"],
    "bytea": ["\\x", "\\x00ff5c", "\\x" + "ab" * 500],
    "text": ["", " blanks ", "ü\n\"'\\,", "\\N", "x" * 5000],
    "varchar(9)": ["", "abc"],
    "char(5)": ["a", "", "abcde"],
    '"char"': ["x", ""],
    "name": ["orders"],
    "json": ['{"a":  1}', "[]", '"\\u00fc"'],
    "jsonb": ['{"a":  1}'],
    "uuid": ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
    "inet": ["10.0.0.1", "10.0.0.0/8"],
    "interval": ["1 year 2 days 03:04:05.6", "-1 mon"],
    "time": ["12:30:59.5"],
    "timetz": ["12:30:59+02"],
    "text[]": ['{a,NULL,"b c"}', "{}"],
    "integer[]": ["{{1,2},{3,4}}"],
    "int4range": ["[1,5)"],
    "point": ["(1,2)"],
    "money": ["12.34"],
    "bit(5)": ["10101"],
    "mood": ["glad", "sad"],
    "pair": ["(1,x)", "(,)"],
}  # fmt: skip


@pytest.fixture
def types(pg: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(pg, autocommit=True) as cx:
        cx.execute(TYPES)
        yield cx


def session_of(url: str) -> Any:
    return postgres.session(made("db", "prod", "sql", url, {}, {}))


def fitting(
    columns: tuple[SourceColumn, ...], tmp_path: Path, *, keep: bool = False
) -> tuple[Fitting, Rejects]:
    rejects = Rejects(keep=keep, run="r", target=tmp_path / "rejected.parquet")
    return Fitting(columns, "t", rejects), rejects


def test_each_type_is_read_as_the_server_writes_it(
    types: psycopg.Connection[Any], pg: str, tmp_path: Path
) -> None:
    names = {kind: f"c{number}" for number, kind in enumerate(VALUES)}
    types.execute(f"CREATE TABLE t (n int, {', '.join(f'{name} {kind}' for kind, name in names.items())})")
    rows = max(map(len, VALUES.values()))
    for row in range(rows):
        values = [None if row >= len(found) else found[row] for found in VALUES.values()]
        types.execute(f"INSERT INTO t VALUES ({row}, {', '.join(['%s'] * len(values))})", values)
    types.execute("INSERT INTO t (n) VALUES (-1)")
    with session_of(pg) as session:
        for kind, name in names.items():
            # As it is, against all of it as text, value by value.
            asked = f'SELECT "{name}" FROM t ORDER BY n'
            (column,) = session.columns(asked)
            there = session._described(asked)[0]
            natural = sent(column, there.type_code, column.type)
            with session._opened.cursor().copy(
                f"COPY (SELECT {natural.asked(name)}, {Sent(column, 0).asked(name)} FROM t ORDER BY n) TO STDOUT (FORMAT binary)"
            ) as copy:
                (chunk,) = list(chunks(copy))
            text = SourceColumn("text")
            found = Columns(chunk, (natural, Sent(text, 0)))
            written, wanted = found.texts().to_pydict().values()
            if natural.oid != 701:  # a double's text is any that reads back the same
                assert written == wanted, kind
            assert wanted[: len(VALUES[kind]) + 1].count(None) == 1, kind
            fits = [i for i, value in enumerate(wanted) if value is None or _fits(value, column)]
            if len(fits) < len(wanted):
                with pytest.raises((Misfit, pa.ArrowInvalid)):
                    found.arrays()
            few = Columns(_chosen(chunk, fits), (natural, Sent(text, 0))).arrays()
            again = pa.array([wanted[i] for i in fits], pa.string())
            exact = again if column.type == "string" else canonical(again, column)
            assert few[0].type == exact.type, kind
            few[0].validate(full=True)
            assert repr(few[0].to_pylist()) == repr(exact.to_pylist()), kind


def _fits(text: str, column: SourceColumn) -> bool:
    try:
        if column.type != "string":
            canonical(pa.array([text], pa.string()), column)
    except (Misfit, pa.ArrowInvalid):
        return False
    return True


def _chosen(chunk: Chunk, rows: list[int]) -> Chunk:
    """Some rows of a chunk."""
    starts = chunk.starts
    pieces = [bytes(chunk.data[starts[row] : starts[row + 1]]) for row in rows]
    header = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
    (made_,) = list(chunks([header, *pieces]))
    return made_


def test_texts_may_be_written_in_any_way(types: psycopg.Connection[Any], pg: str, tmp_path: Path) -> None:
    types.execute("CREATE TABLE t (n text, raw text, id uuid)")
    types.execute(
        "INSERT INTO t VALUES (' 31', 'caf\u00e9', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'), ('0x1F', '\\xzz', NULL)"
    )
    columns = (SourceColumn("n", "integer"), SourceColumn("raw", "binary"), SourceColumn("id", "binary"))
    fits, rejects = fitting(columns, tmp_path, keep=True)
    with session_of(pg) as session:
        batches = list(session.batches("SELECT n, raw, id FROM t", fits))
    assert pa.Table.from_batches(batches).to_pylist() == [
        {"n": 31, "raw": "caf\u00e9".encode(), "id": b"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"}
    ]
    assert rejects.count == 1  # Arrow would read 0x1F


def test_decimals_of_every_size(types: psycopg.Connection[Any], pg: str, tmp_path: Path) -> None:
    chance = random.Random(4)
    kinds = [(p, chance.randint(0, p)) for p in range(1, 19)]
    types.execute(f"CREATE TABLE t ({', '.join(f'c{p} numeric({p},{s})' for p, s in kinds)})")
    rows = [
        [chance.randint(-(10**p) + 1, 10**p - 1) // 10 ** chance.randint(0, p) for p, _ in kinds]
        for _ in range(200)
    ]
    with types.cursor().copy("COPY t FROM STDIN") as copy:
        for row in rows:
            copy.write_row([f"{value}e-{s}" for value, (_, s) in zip(row, kinds, strict=True)])
    with session_of(pg) as session:
        columns = session.columns("SELECT * FROM t")
        made_, _ = fitting(columns, tmp_path)
        table = pa.Table.from_batches(session.batches("SELECT * FROM t", made_))
    assert [c.type for c in columns] == [f"decimal({p},{s})" for p, s in kinds]
    for column, (_p, scale) in zip(zip(*rows, strict=True), kinds, strict=True):
        found = table.column(f"c{_p}").to_pylist()
        assert [int(value.scaleb(scale)) for value in found] == list(column)


def test_many_chunks_and_rows_that_do_not_fit(
    types: psycopg.Connection[Any], pg: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tulle.pipeline.sources.postgres_binary.ROWS_AT_ONCE", 10)
    types.execute(
        "CREATE TABLE t AS SELECT n AS id, CASE WHEN n % 25 = 0 THEN 'infinity' ELSE date '2020-01-01' + n END AS day "
        "FROM generate_series(1, 100) n"
    )
    with session_of(pg) as session:
        made_, rejects = fitting(session.columns("SELECT * FROM t"), tmp_path, keep=True)
        batches = list(session.batches("SELECT * FROM t", made_))
    assert [batch.num_rows for batch in batches] == [10, 10, 9, 10, 9, 10, 10, 9, 10, 9]
    assert rejects.count == 4
    rejects.close()


def test_a_reader_that_stops_does_not_wait_for_the_rest(
    types: psycopg.Connection[Any], pg: str, tmp_path: Path
) -> None:
    statement = "SELECT n, pg_sleep(CASE WHEN n > 150000 THEN 600 ELSE 0 END)::text AS s FROM generate_series(1, 200000) n"
    with session_of(pg) as session:
        made_, _ = fitting(session.columns(statement), tmp_path)
        rows = session.batches(statement, made_)
        assert next(rows).num_rows == 100_000
        rows.close()


@pytest.mark.parametrize(
    "messages",
    [
        [b"not what it should be, at all"],
        [],
        [
            b"PGCOPY\n\xff\r\n\x00" + bytes(8),
            b"\x00\x02\x00\x00\x00\x04\x00\x00\x00\x01",
        ],  # two columns are said
        [
            b"PGCOPY\n\xff\r\n\x00" + bytes(8),
            b"\x00\x01\x00\x00\x00\x08" + bytes(8),
        ],  # an integer of eight bytes
        [b"PGCOPY\n\xff\r\n\x00" + bytes(8), b"\x00\x01\x7f\xff\xff\xff\x00"],  # a length beyond the end
        [
            b"PGCOPY\n\xff\r\n\x00" + bytes(8),
            b"\x00\x01\x00\x00\x00\x04\x00\x00\x00\x01\x00",
        ],  # something left
    ],
)
def test_what_is_no_row_is_told(messages: list[bytes]) -> None:
    kind = Sent(SourceColumn("n", "integer"), 23)
    with pytest.raises(Unavailable, match="does not send rows as PostgreSQL does"):
        for chunk in chunks(messages):
            Columns(chunk, (replace(kind),)).arrays()


def test_text_that_is_not_utf_8_is_told(pg: str, tmp_path: Path) -> None:
    name = f"ascii{random.randrange(10**9)}"
    with psycopg.connect(pg, autocommit=True) as cx:
        cx.execute(f"CREATE DATABASE {name} ENCODING SQL_ASCII LOCALE 'C' TEMPLATE template0")
        try:
            url = pg.replace(pg.partition("@/")[2].partition("?")[0], name)
            with psycopg.connect(url, autocommit=True) as other:
                other.execute("CREATE TABLE t (note bytea)")
                other.execute("INSERT INTO t VALUES ('\\xfc')")
                other.execute("ALTER TABLE t ALTER note TYPE text USING encode(note, 'escape')")
                other.execute(r"UPDATE t SET note = E'\374'")
            with pytest.raises(Invalid, match="invalid byte sequence") as told, session_of(url) as session:
                made_, _ = fitting(session.columns("SELECT * FROM t"), tmp_path)
                list(session.batches("SELECT * FROM t", made_))
            assert "LATIN1" in str(told.value.hint)
        finally:
            cx.execute(f"DROP DATABASE {name} WITH (FORCE)")
