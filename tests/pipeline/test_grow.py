"""Models that go on from what is there: incremental ones, snapshots; and views, macros, seeds."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.pipeline.conftest import ROWS, World

from tulle.config import Warehouse
from tulle.engine.duck import DuckEngine
from tulle.errors import from_dict
from tulle.pipeline import carry, grow
from tulle.pipeline import run as runs
from tulle.pipeline.execute import execute
from tulle.pipeline.record import read_record

HEAD = "id,customer,day,amount\n"
APPENDED = "-- kind: incremental\n-- strategy: append\n"
KEYED = "-- kind: incremental\n-- key: customer\n"
DAILY = "-- kind: incremental\n-- time_column: day\n-- grain: day\n-- start: 2020-02-01\n"


def step(run: runs.Run, name: str) -> runs.Step:
    return next(each for each in run.steps if each.name == name)


def till(world: World, rows: str) -> None:
    world.mesh.sales("data/sales.csv", HEAD + rows)


def run_with(world: World, **options: Any) -> runs.Run:
    run_id = runs.request(world.database, "sales", options=options)
    return execute(world.database, world.lake, world.mesh.spec(), run_id)


def declare(world: World, name: str, columns: str) -> None:
    file = world.mesh.folder / "products/shop/sales/product.yaml"
    text = f"""
  - name: {name}
    type: data-set
    properties: {{description: {name}, columns: [{columns}]}}
"""
    file.write_text(file.read_text().rstrip("\n") + text)


# ── rows that are added ──────────────────────────────────────────────────────────────────────────────────


def test_what_is_there_stays_and_what_is_new_comes_to_it(world: World) -> None:
    declare(world, "seen", "{name: id, type: integer}, {name: n, type: integer}")
    sql = "SELECT id, (SELECT count(*) FROM this) AS n FROM till_rows WHERE id NOT IN (SELECT id FROM this)"
    world.mesh.sales("transform/seen.sql", APPENDED + sql)
    assert step(world.run("sales"), "seen").rows == 3
    till(world, "3,ann,03.02.2020,1\n4,eve,04.02.2020,7\n")
    assert step(world.run("sales"), "seen").rows == 4
    assert world.rows("sales", "seen") == [
        {"id": 1, "n": 0},
        {"id": 2, "n": 0},
        {"id": 3, "n": 0},
        {"id": 4, "n": 3},
    ]
    assert len(world.lake.repository("sales").files("main", "seen/")) == 2
    assert step(world.run("sales"), "seen").status == "unchanged"
    till(world, "4,eve,04.02.2020,8\n")
    again = world.run("sales")
    assert (step(again, "seen").status, step(again, "seen").rows) == ("succeeded", 4)
    assert len(world.lake.repository("sales").files("main", "seen/")) == 2, "no rows, no file"
    run_with(world, full=True)
    assert world.rows("sales", "seen") == [{"id": 4, "n": 0}]


def test_changed_code_begins_anew_unless_it_must_not(world: World) -> None:
    world.mesh.sales("transform/log.sql", APPENDED + "SELECT id FROM till_rows")
    world.run("sales")
    world.mesh.sales("transform/log.sql", APPENDED + "SELECT id + 0 AS id FROM till_rows")
    world.run("sales")
    assert [row["id"] for row in world.rows("sales", "log")] == [1, 2, 3]
    world.mesh.sales("transform/log.sql", APPENDED + "-- rebuild: never\nSELECT id + 10 AS id FROM till_rows")
    world.run("sales")
    assert [row["id"] for row in world.rows("sales", "log")] == [1, 2, 3, 11, 12, 13]
    run_with(world, full=True)
    assert len(world.rows("sales", "log")) == 9, "what cannot be made again is not thrown away"


def test_data_changed_by_hand_is_made_anew(world: World) -> None:
    world.mesh.sales("transform/log.sql", APPENDED + "SELECT id FROM till_rows")
    world.run("sales")
    repository = world.lake.repository("sales")
    file = repository.files("main", "sales/")[0]
    with open(file, "rb") as stream:  # noqa: PTH123
        repository.put("main", "log/mine.parquet", stream.read())
    repository.commit("main", "by hand")
    till(world, "9,zoe,01.02.2020,1\n")
    world.run("sales")
    assert world.rows("sales", "log") == [{"id": 9}]


def test_a_failed_run_forgets_its_rows_and_what_it_remembered(world: World) -> None:
    world.mesh.sales("transform/log.sql", APPENDED + "SELECT id FROM till_rows")
    world.run("sales")
    world.mesh.sales("checks/c.yaml", "checks: [{data_set: log, type: row_count, max: 3}]")
    till(world, "4,eve,04.02.2020,7\n")
    assert world.run("sales").status == "failed"
    assert len(world.rows("sales", "log")) == 3
    world.mesh.sales("checks/c.yaml", "checks: [{data_set: log, type: row_count, max: 4}]")
    assert world.run("sales").status == "succeeded"
    assert [row["id"] for row in world.rows("sales", "log")] == [1, 2, 3, 4]


def test_many_files_become_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grow, "MOST_FILES", 2)
    world.mesh.sales("transform/log.sql", APPENDED + "SELECT id FROM till_rows")
    counts = []
    for number in range(4):
        till(world, f"{number},ann,01.02.2020,1\n")
        world.run("sales")
        counts.append(len(world.lake.repository("sales").files("main", "log/")))
    assert counts == [1, 2, 1, 2]
    assert [row["id"] for row in world.rows("sales", "log")] == [0, 1, 2, 3]


# ── rows that are replaced ───────────────────────────────────────────────────────────────────────────────


def test_a_new_row_replaces_the_one_with_its_key(world: World) -> None:
    sql = "SELECT customer, sum(amount) AS total FROM till_rows GROUP BY customer"
    world.mesh.sales("transform/totals.sql", KEYED + sql)
    world.run("sales")
    till(world, "4,bob,04.02.2020,7\n5,eve,04.02.2020,1\n")
    world.run("sales")
    totals = {row["customer"]: str(row["total"]) for row in world.rows("sales", "totals")}
    assert totals == {"ann": "11.75", "bob": "7.00", "eve": "1.00"}


def test_rows_without_a_key_of_their_own_are_refused(world: World) -> None:
    world.mesh.sales("transform/totals.sql", KEYED + "SELECT customer, id FROM till_rows")
    run = world.run("sales")
    assert run.status == "failed"
    assert run.error is not None
    assert "rows without a customer of their own: customer ann, n 2" in str(run.error["problems"])


def test_a_part_is_replaced_as_a_whole(world: World) -> None:
    head = "-- kind: incremental\n-- partition: day\n"
    world.mesh.sales("transform/byday.sql", head + "SELECT day, id FROM till_rows")
    world.run("sales")
    till(world, "8,ann,01.02.2020,1\n9,ann,01.02.2020,1\n")
    world.run("sales")
    assert sorted((row["day"].day, row["id"]) for row in world.rows("sales", "byday")) == [
        (1, 8),
        (1, 9),
        (2, 2),
        (3, 3),
    ]


def test_other_columns_cannot_be_put_to_those_that_are_there(world: World) -> None:
    world.mesh.sales("transform/log.sql", APPENDED + "-- rebuild: never\nSELECT id FROM till_rows")
    world.run("sales")
    text = APPENDED + "-- rebuild: never\nSELECT id, customer FROM till_rows"
    world.mesh.sales("transform/log.sql", text)
    run = world.run("sales")
    assert run.status == "failed"
    assert run.error is not None
    assert "new: customer string" in str(run.error["problems"])


# ── windows ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def today(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Say what time it is for runs."""

    class Clock(dt.datetime):
        at = dt.datetime(2020, 2, 3, 12, tzinfo=dt.UTC)

        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:
            return cls.at

    monkeypatch.setattr(carry, "datetime", Clock)
    return Clock


WINDOW_SQL = "SELECT day, id FROM till_rows WHERE day >= window_start() AND day < window_end()"


def test_every_window_is_made_once_it_has_ended(world: World, today: Any) -> None:
    world.mesh.sales("transform/daily.sql", DAILY + WINDOW_SQL)
    world.run("sales")
    assert [row["id"] for row in world.rows("sales", "daily")] == [1, 2]
    assert step(world.run("sales"), "daily").status == "unchanged"
    today.at = dt.datetime(2020, 2, 4, 0, tzinfo=dt.UTC)
    assert step(world.run("sales"), "daily").status == "succeeded"
    assert [row["id"] for row in world.rows("sales", "daily")] == [1, 2, 3]
    record = read_record(world.lake.repository("sales"), "main", "daily")
    assert record is not None
    assert record.remembered == {"windows": [["2020-02-01T00:00:00+00:00", "2020-02-04T00:00:00+00:00"]]}


def test_what_comes_late_is_taken_by_looking_back_or_by_making_a_time_again(world: World, today: Any) -> None:
    world.mesh.sales("transform/daily.sql", DAILY + "-- lookback: 1\n" + WINDOW_SQL)
    world.run("sales")
    till(world, ROWS.removeprefix(HEAD) + "7,late,02.02.2020,1\n8,later,01.02.2020,1\n")
    world.run("sales")
    assert [row["id"] for row in world.rows("sales", "daily")] == [1, 2, 7]
    run = run_with(world, window=["2020-02-01", "2020-02-02"])
    assert run.status == "succeeded", run.error
    assert sorted(row["id"] for row in world.rows("sales", "daily")) == [1, 2, 7, 8]
    assert step(world.run("sales"), "daily").status == "unchanged"


def test_before_the_first_window_there_are_no_rows(world: World, today: Any) -> None:
    today.at = dt.datetime(2019, 1, 1, tzinfo=dt.UTC)
    world.mesh.sales("transform/daily.sql", DAILY + WINDOW_SQL)
    assert world.run("sales").status == "succeeded"
    assert world.rows("sales", "daily") == []


def test_rows_outside_of_their_window_are_refused(world: World, today: Any) -> None:
    world.mesh.sales("transform/daily.sql", DAILY + "SELECT day, id FROM till_rows")
    run = world.run("sales")
    assert run.error is not None
    assert "WHERE day >= window_start() AND day < window_end()" in str(run.error)


@pytest.mark.parametrize("window", ["2020", ["x", "y"], ["2020-01-02", "2020-01-01"], ["2020-01-01"]])
def test_a_window_that_is_none_is_told(world: World, window: Any) -> None:
    run = run_with(world, window=window)
    assert run.status == "failed"
    assert "window" in str(run.error)


# ── snapshots ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_snapshot_keeps_every_version(world: World, today: Any) -> None:
    head = "-- kind: snapshot\n-- key: id\n"
    world.mesh.sales("transform/history.sql", head + "SELECT id, amount FROM till_rows")
    world.run("sales")
    today.at = dt.datetime(2020, 2, 5, tzinfo=dt.UTC)
    till(world, "1,ann,01.02.2020,10.50\n2,bob,02.02.2020,4\n9,eve,02.02.2020,1\n")
    world.run("sales")
    first, then = dt.datetime(2020, 2, 3, 12), dt.datetime(2020, 2, 5)  # noqa: DTZ001
    found = sorted(
        (row["id"], str(row["amount"]), row["valid_from"].replace(tzinfo=None), row["valid_to"])
        for row in world.rows("sales", "history")
        if row["valid_to"] is None
    )
    assert found == [(1, "10.50", first, None), (2, "4.00", then, None), (9, "1.00", then, None)]
    closed = {
        (row["id"], row["valid_to"].replace(tzinfo=None))
        for row in world.rows("sales", "history")
        if row["valid_to"] is not None
    }
    assert closed == {(2, then), (3, then)}
    assert step(world.run("sales"), "history").status == "unchanged"
    run_with(world, full=True)
    assert len(world.rows("sales", "history")) == 5, "history is not thrown away"


KEYS = st.dictionaries(st.integers(0, 4), st.integers(0, 3), max_size=5)


@settings(max_examples=15, deadline=None)
@given(st.lists(KEYS, min_size=1, max_size=4))
def test_a_snapshot_can_be_read_as_of_every_time(
    tmp_path_factory: pytest.TempPathFactory, states: list[dict[int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("snapshot")
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tulle.engine.engine import ColumnType, Relation
    from tulle.pipeline.columns import VERSIONS
    from tulle.pipeline.model_kind import ModelKind

    way = ModelKind(kind="snapshot", key=("k",))
    columns = (ColumnType("k", "integer"), ColumnType("v", "integer"), *VERSIONS)
    there = None
    own = DuckEngine(Warehouse(threads=1, memory="200MB"), folder / "spill")
    with own.kept(folder / "room") as engine:
        for number, state in enumerate(states):
            new = folder / f"new-{number}.parquet"
            schema = pa.schema([("k", pa.int64()), ("v", pa.int64())])
            pq.write_table(pa.Table.from_pylist([{"k": k, "v": v} for k, v in state.items()], schema), new)
            at_ = dt.datetime(2020, 1, 1 + number, tzinfo=dt.UTC)
            given = [Relation("_new", (str(new),)), *([there] if there else [])]
            targets = []
            for part, sql in enumerate(grow._versions(way, ["k", "v"], at_, is_first=there is None)):
                targets.append(folder / f"old-{number}-{part}.parquet")
                engine.write(sql, given, targets[-1])
            there = Relation("_old", tuple(map(str, targets)), columns)
        for number, state in enumerate(states):
            assert there is not None
            at = f"TIMESTAMP '2020-01-{1 + number:02d}'"
            sql = f"SELECT k, v FROM _old WHERE valid_from <= {at} AND coalesce(valid_to > {at}, true)"
            rows = engine.query(sql, [there]).to_pylist()
            assert sorted((row["k"], row["v"]) for row in rows) == sorted(state.items())


# ── views, macros, seeds ─────────────────────────────────────────────────────────────────────────────────


def test_a_view_keeps_no_rows_and_is_read_like_a_table(world: World) -> None:
    world.mesh.sales("transform/big.sql", "-- kind: view\nSELECT * FROM till_rows WHERE amount > 2")
    world.mesh.sales("transform/who.sql", "SELECT customer, count(*) AS n FROM big GROUP BY ALL ORDER BY 1")
    world.mesh.sales("checks/c.yaml", "checks: [{data_set: big, type: row_count, min: 2, max: 2}]")
    first = world.run("sales")
    assert first.status == "succeeded"
    assert {step.name: (step.kind, step.rows) for step in first.steps if step.name in {"big", "who"}} == {
        "big": ("view", 2),  # as its check counted
        "who": ("sql", 2),
    }
    assert world.rows("sales", "who") == [{"customer": "ann", "n": 1}, {"customer": "bob", "n": 1}]
    assert world.lake.repository("sales").files("main", "big/") == []
    again = world.run("sales")
    assert again.status == "unchanged"
    (kept,) = [step for step in again.steps if step.name == "big"]
    assert (kept.kind, kept.rows) == ("view", None)
    till(world, "1,ann,01.02.2020,10\n2,ann,01.02.2020,10\n")
    assert world.run("sales").status == "succeeded"
    assert world.rows("sales", "who") == [{"customer": "ann", "n": 2}]
    world.mesh.sales("checks/c.yaml", "checks: [{data_set: big, type: row_count, min: 3}]")
    assert world.run("sales").status == "failed"


def test_a_table_that_becomes_a_view_leaves_no_rows_behind(world: World) -> None:
    world.mesh.sales("transform/big.sql", "SELECT * FROM till_rows")
    world.run("sales")
    world.mesh.sales("transform/big.sql", "-- kind: view\nSELECT * FROM till_rows")
    run = world.run("sales")
    assert run.status == "succeeded"
    assert [s.rows for s in run.steps if s.name == "big"] == [None]  # nobody counted, and that is not 0
    assert world.lake.repository("sales").files("main", "big/") == []


def test_a_view_cannot_be_handed_out(world: World) -> None:
    world.mesh.sales("transform/sales.sql", "-- kind: view\nSELECT id, customer, day, amount FROM till_rows")
    run = world.run("sales")
    assert run.error is not None
    assert "hands out 'sales', a view, which keeps no rows" in str(run.error["problems"])


def test_macros_are_for_models_checks_and_each_other(world: World) -> None:
    world.mesh.sales(
        "macros/money.sql",
        "-- half of it; rounded\nCREATE MACRO half(x) AS x / 2;\nCREATE MACRO quarter(x) AS half(half(x));\n",
    )
    world.mesh.sales("transform/q.sql", "SELECT id, quarter(40) AS q FROM till_rows ORDER BY id")
    world.mesh.sales("checks/c.sql", "-- data_set: till_rows\nSELECT * FROM till_rows WHERE half(id) > 2")
    run = world.run("sales")
    assert run.status == "succeeded", run.error
    assert {row["q"] for row in world.rows("sales", "q")} == {10.0}
    world.mesh.sales("macros/money.sql", "CREATE MACRO half(x) AS x / 2;\nCREATE MACRO quarter(x) AS x / 8;")
    assert step(world.run("sales"), "q").status == "succeeded"
    assert {row["q"] for row in world.rows("sales", "q")} == {5.0}
    world.mesh.sales("macros/money.sql", "CREATE MACRO half(x) AS x * 2;\nCREATE MACRO quarter(x) AS x / 8;")
    assert world.run("sales").status == "failed", "a check is another one when its macros are"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("DROP TABLE x", "macros/m.sql:1: expected CREATE MACRO"),
        ("CREATE MACRO a(x) AS x;\n\nCOPY y TO 'z';", "macros/m.sql:3: expected CREATE MACRO"),
        ("CREATE MACRO a() AS 1; CREATE MACRO A() AS 2", "macros/m.sql:1: the macro 'a' is already there"),
        ("CREATE MACRO window_start() AS 1", "the macro 'window_start' is already there"),
        ("CREATE MACRO a(x AS 1", "macros/m.sql:1: the macro 'a': syntax error"),
        ("CREATE MACRO a() AS 1;\n\nCREATE MACRO b(at)\nAS at - 1;", "macros/m.sql:4: the macro 'b': syntax"),
    ],
)
def test_a_macro_file_that_is_none(world: World, text: str, said: str) -> None:
    world.mesh.sales("macros/m.sql", text)
    run = world.run("sales")
    assert run.status == "failed"
    assert run.error is not None
    assert said in " | ".join(str(problem) for problem in from_dict(run.error).problems) + str(run.error)


def test_a_seed_is_typed_as_it_is_declared(world: World) -> None:
    declare(world, "codes", "{name: code, type: string, key: true}, {name: rate, type: 'decimal(4,2)'}")
    world.mesh.sales("seeds/codes.csv", "code,rate\n007,1.50\n010,2\n")
    world.mesh.sales("transform/rated.sql", "SELECT code, rate FROM codes ORDER BY code")
    run = world.run("sales")
    assert run.status == "succeeded", run.error
    assert [(row["code"], str(row["rate"])) for row in world.rows("sales", "rated")] == [
        ("007", "1.50"),
        ("010", "2.00"),
    ]


def test_a_python_model_may_add_and_replace(world: World) -> None:
    model = (
        "kind = 'incremental'\nkey = ['customer']\ninputs = ['till_rows']\n"
        "def model(run):\n    return run.sql('SELECT customer, count(*) AS n FROM till_rows GROUP BY ALL')\n"
    )
    world.mesh.sales("transform/counts.py", model)
    assert world.run("sales").status == "succeeded"
    till(world, "4,bob,04.02.2020,7\n5,bob,04.02.2020,1\n")
    assert world.run("sales").status == "succeeded"
    assert world.rows("sales", "counts") == [{"customer": "ann", "n": 2}, {"customer": "bob", "n": 2}]
