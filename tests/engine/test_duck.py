"""DuckDB as our engine: right types, clear errors, and a locked door."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tulle.config import Warehouse
from tulle.engine.duck import DuckEngine
from tulle.engine.engine import ColumnType, Relation
from tulle.errors import Invalid, LimitExceeded


def test_query_reads_the_files_behind_a_name(engine: DuckEngine, purchases: Relation) -> None:
    table = engine.query(
        "SELECT customer_id, sum(amount) AS s FROM purchases GROUP BY 1 ORDER BY 1;", [purchases]
    )
    assert table.to_pylist() == [{"customer_id": "a", "s": 1}, {"customer_id": "b", "s": 5}]
    assert engine.sample(purchases, 2).num_rows == 2


def test_write_keeps_order_and_gives_the_meshs_own_types(
    engine: DuckEngine, purchases: Relation, tmp_path: Path
) -> None:
    sql = """SELECT customer_id, sum(amount) AS total, CAST(1 AS FLOAT) AS f, DATE '2020-01-01' AS d,
             CAST(1.5 AS DECIMAL(9,2)) AS m, now() AS at, true AS ok, 'x'::BLOB AS raw, NULL AS nothing
             FROM purchases GROUP BY 1 ORDER BY 1 DESC -- a comment at the end"""
    target = tmp_path / "out" / "part.parquet"
    written = engine.write(sql, [purchases], target)
    assert written.rows == 2
    assert written.bytes == target.stat().st_size
    types = {c.name: c.type for c in written.columns}
    assert types == {
        "customer_id": "string",
        "total": "integer",
        "f": "double",
        "d": "date",
        "m": "decimal(9,2)",
        "at": "timestamp",
        "ok": "boolean",
        "raw": "binary",
        "nothing": "integer",
    }
    table = pq.read_table(target)
    assert table["customer_id"].to_pylist() == ["b", "a"]
    arrow = {field.name: str(field.type) for field in table.schema}
    assert arrow["total"] == "int64"  # not DuckDB's HUGEINT, which Parquet would hold as a double
    assert arrow["at"] == "timestamp[us]"
    assert arrow["m"] == "decimal128(9, 2)"
    metadata = pq.ParquetFile(target).metadata
    assert metadata.row_group(0).column(0).compression == "ZSTD"


def test_no_rows_still_give_a_file_with_columns(
    engine: DuckEngine, purchases: Relation, tmp_path: Path
) -> None:
    target = tmp_path / "none.parquet"
    assert engine.write("SELECT * FROM purchases WHERE false", [purchases], target).rows == 0
    assert engine.query("SELECT * FROM x", [Relation("x", (str(target),))]).num_rows == 0


def test_files_of_different_columns_are_one_relation_where_it_says_so(
    engine: DuckEngine, tmp_path: Path
) -> None:
    for number, row in enumerate(({"a": "old"}, {"a": "new", "b": "x", "c": 3})):
        pq.write_table(pa.Table.from_pylist([row]), tmp_path / f"{number}.parquet")
    files = [str(tmp_path / f"{number}.parquet") for number in range(2)]
    columns = tuple(ColumnType(name, "string") for name in ("a", "b"))
    both = Relation("t", tuple(files), columns, is_mixed=True)
    assert engine.query("FROM t ORDER BY a", [both]).to_pylist() == [
        {"a": "new", "b": "x", "c": 3},
        {"a": "old", "b": None, "c": None},
    ]
    older = Relation("t", tuple(files[:1]), columns, is_mixed=True)
    assert engine.query("FROM t", [older]).to_pylist() == [{"a": "old", "b": None}]


def test_describe_needs_no_data(engine: DuckEngine) -> None:
    relation = Relation("p", columns=(ColumnType("a", "string"), ColumnType("m", "decimal(10,2)")))
    assert engine.describe("SELECT a, sum(m) AS s FROM p GROUP BY a", [relation]) == (
        ColumnType("a", "string"),
        ColumnType("s", "decimal(38,2)"),
    )


def test_an_unknown_column_is_named_with_its_place(
    engine: DuckEngine, purchases: Relation, tmp_path: Path
) -> None:
    sql = "SELECT customer_id,\n       amonut\nFROM purchases"
    for run in (
        lambda: engine.describe(sql, [purchases], file="m.sql"),
        lambda: engine.write(sql, [purchases], tmp_path / "x.parquet", file="m.sql"),
        lambda: engine.query("/**/" + sql, [purchases], file="m.sql"),
    ):
        with pytest.raises(Invalid, match="amonut") as caught:
            run()
        (problem,) = caught.value.problems
        assert problem.place is not None
        assert (problem.place.line, problem.place.column) == (2, 8)
        assert "amount" in str(problem.hint)


def test_a_value_that_does_not_convert_leaves_no_file(
    engine: DuckEngine, purchases: Relation, tmp_path: Path
) -> None:
    target = tmp_path / "x.parquet"
    with pytest.raises(Invalid, match=r"m\.sql.*Could not convert string 'a'"):
        engine.write(
            "SELECT CAST(customer_id AS INTEGER) AS n FROM purchases", [purchases], target, file="m.sql"
        )
    assert not target.exists()


def test_columns_a_data_set_cannot_hold_are_refused(
    engine: DuckEngine, purchases: Relation, tmp_path: Path
) -> None:
    with pytest.raises(Invalid) as caught:
        engine.write(
            "SELECT [1] AS l, 1 AS a, 2 AS A FROM purchases", [purchases], tmp_path / "x", file="m.sql"
        )
    messages = [problem.message for problem in caught.value.problems]
    assert messages == [
        "column 'l' has type INTEGER[], which a data set cannot hold",
        "two columns are named 'A'",
    ]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '{other}'",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM read_text('{other}')",
        "COPY purchases TO '{other}.copy'",
        "ATTACH '{other}.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET threads = 8",
        "SET enable_external_access = true",
        "SET allowed_paths = ['/etc/passwd']",
        "RESET lock_configuration",
    ],
)
def test_the_door_is_locked_whatever_the_statement(
    engine: DuckEngine, purchases: Relation, tmp_path: Path, sql: str
) -> None:
    other = tmp_path / "other.parquet"
    other.write_bytes(Path(purchases.files[0]).read_bytes())
    with pytest.raises(Invalid, match=r"disabled (by|through) configuration|locked"):
        engine.query(sql.format(other=other), [purchases])
    assert not Path(f"{other}.copy").exists()


def test_a_python_variable_is_not_a_table(engine: DuckEngine, purchases: Relation) -> None:
    secret = engine.query("SELECT 1 AS a", [])
    with pytest.raises(Invalid, match="secret"):
        engine.query("SELECT * FROM secret", [purchases])
    assert secret.num_rows == 1


def test_memory_and_spill_are_bounded(tmp_path: Path) -> None:
    engine = DuckEngine(Warehouse(threads=1, memory="12MB", temp_disk="1MB"), tmp_path / "spill")
    with pytest.raises(LimitExceeded, match="more than its warehouse allows") as caught:
        engine.query("SELECT x, md5(x::VARCHAR) AS h FROM range(1200000) t(x) ORDER BY h", [], file="m.sql")
    assert "mesh.yaml" in str(caught.value.hint)


def test_bounds_that_are_no_size_are_refused(tmp_path: Path) -> None:
    engine = DuckEngine(Warehouse(memory="much"), tmp_path)
    with pytest.raises(Invalid, match="bounds are not usable") as caught:
        engine.query("SELECT 1", [])
    assert "2GB" in str(caught.value.hint)


def test_a_kept_database_knows_a_name_only_for_its_statement(tmp_path: Path, purchases: Relation) -> None:
    with DuckEngine(Warehouse(threads=1), tmp_path / "spill").kept(tmp_path / "room") as engine:
        assert engine.query("SELECT count(*) AS n FROM purchases", [purchases]).to_pylist() == [{"n": 3}]
        with pytest.raises(Invalid, match="purchases"):
            engine.query("SELECT * FROM purchases", [])
        other = Relation("purchases", columns=(ColumnType("x", "integer"),))
        assert engine.query("SELECT * FROM purchases", [other]).column_names == ["x"]


def test_a_kept_engine_reads_the_file_that_is_there_now(tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    rows = Relation("rows", (str(file),))
    with DuckEngine(Warehouse(threads=1), tmp_path / "spill").kept(tmp_path / "room") as engine:
        for number in (1, 2):
            file.unlink(missing_ok=True)
            pq.write_table(pa.table({"n": [number]}), file)
            assert engine.query("SELECT n FROM rows", [rows]).to_pylist() == [{"n": number}]
        file.unlink()  # as a collection does: whoever reads it already reads on
        assert engine.query("SELECT n FROM rows", [rows]).to_pylist() == [{"n": 2}]


def test_threads_share_a_kept_database(tmp_path: Path) -> None:
    files = []
    for number in range(8):
        file = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table({"x": [number]}), file)
        files.append(str(file))
    target = tmp_path / "made"
    with (
        DuckEngine(Warehouse(threads=2), tmp_path / "spill").kept(tmp_path / "room") as engine,
        ThreadPoolExecutor(8) as pool,
    ):

        def work(number: int) -> tuple[int, int]:
            relation = Relation("t", (files[number % 8],))
            made = engine.write("SELECT x + 100 AS x FROM t", [relation], target / f"{number}.parquet")
            (row,) = engine.query("SELECT * FROM t", [relation]).to_pylist()
            return made.rows, row["x"]

        assert list(pool.map(work, range(64))) == [(1, number % 8) for number in range(64)]
    assert [pq.read_table(target / f"{n}.parquet")["x"].to_pylist() for n in (0, 9)] == [[100], [101]]


def test_a_file_on_another_disk_is_read_all_the_same(
    tmp_path: Path, purchases: Relation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_arguments: object, **_more: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    with DuckEngine(Warehouse(threads=1), tmp_path / "spill").kept(tmp_path / "room") as engine:
        monkeypatch.setattr(os, "link", link)
        written = engine.write("SELECT * FROM purchases", [purchases], tmp_path / "copy.parquet")
        assert written.rows == 3
    assert pq.read_table(tmp_path / "copy.parquet").num_rows == 3
