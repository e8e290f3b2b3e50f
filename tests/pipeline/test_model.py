"""Python models: what they may do, and how what goes wrong inside them is told."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.pipeline.conftest import World

from tulle.config import Warehouse
from tulle.engine.duck import DuckEngine
from tulle.engine.engine import Relation
from tulle.errors import Invalid, LimitExceeded, NotFound, Place
from tulle.pipeline.convert import columns_of, in_mesh_types
from tulle.pipeline.job import PYTHON, Job
from tulle.pipeline.model import ModelRun, call_model

SHARED = (("_shared", "def double(x):\n    return 2 * x\n\ndef fail():\n    raise KeyError('deep')\n"),)


class Setting:
    """One Python model with one input."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        file = folder / "in.parquet"
        pq.write_table(pa.table({"n": [1, 2, 3]}), file)
        engine = DuckEngine(Warehouse(threads=1, memory="200MB"), folder / "spill")
        self.said: list[str] = []
        self.path = folder / "transform" / "out.py"
        self.job = Job("out", PYTHON, ("rows",), path=self.path, place=Place("p/transform/out.py", 1))
        self.run = ModelRun(
            "r1",
            self.job,
            engine,
            {"rows": Relation("rows", (str(file),))},
            folder / "models",
            self.said.append,
        )

    def call(self, body: str) -> pa.Table:
        self.path.parent.mkdir(exist_ok=True)
        text = "inputs = ['rows']\ndef model(run):\n" + textwrap.indent(textwrap.dedent(body), "    ")
        self.path.write_text(text)
        return call_model(replace(self.job, text=text), SHARED, self.run)


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path)


def test_reading_reporting_returning(setting: Setting) -> None:
    table = setting.call(
        """
        import _shared
        run.log("two\\nlines")
        run.metric("rows", run.read("rows").num_rows)
        total = run.sql("SELECT sum(n) AS s FROM rows;").to_pylist()[0]["s"]
        frame = run.read_pandas("rows")
        frame["n"] = frame["n"].map(_shared.double)
        run.metric("total", total)
        return frame
        """
    )
    assert table.to_pylist() == [{"n": 2}, {"n": 4}, {"n": 6}]
    assert setting.said == setting.run.logged == ["two", "lines"]
    assert [(m.name, m.value) for m in setting.run.metrics] == [("rows", 3.0), ("total", 6.0)]
    import sys

    assert "_shared" not in sys.modules


@pytest.mark.parametrize(
    ("body", "line", "message"),
    [
        ("x = 1\nreturn 1 / 0", 4, "ZeroDivisionError: division by zero"),
        ("raise ValueError", 3, "ValueError"),
        ("raise SystemExit(3)", 3, "SystemExit: 3"),
        ("import nothing_here", 3, "ModuleNotFoundError: No module named 'nothing_here'"),
        ("import pyarrow.compute as pc\nreturn pc.add('a', 1)", 4, "ArrowNotImplementedError"),
        ("return run.read('other')", 3, "the model reads 'other', which is not among its inputs"),
        ("return run.sql('SELECT * FROM other')", 3, "unknown data set 'other'"),
        ("return run.sql('DROP TABLE rows')", 3, "expected one SELECT, found DROP"),
        ("return run.sql('SELECT m FROM rows')", 3, 'Referenced column "m" not found'),
        ("run.metric('x', float('nan'))", 3, "expected a finite number"),
    ],
)
def test_what_goes_wrong_is_told_at_the_users_line(
    setting: Setting, body: str, line: int, message: str
) -> None:
    with pytest.raises((Invalid, NotFound)) as caught:
        setting.call(body)
    problem = caught.value.problems[0]
    assert str(problem.place) == f"p/transform/out.py:{line}"
    assert message in problem.message
    assert caught.value.message.startswith(f"p/transform/out.py:{line}: ")
    assert problem.source_line is not None
    assert problem.source_line.strip() == body.split("\n")[line - 3]


def test_a_shared_module_is_named_when_it_fails(setting: Setting, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Invalid) as caught:
        setting.call("import _shared\n_shared.fail()")
    assert str(caught.value.problems[0].place) == "p/transform/_shared.py:5"
    assert "KeyError: 'deep'" in caught.value.message
    assert "Traceback" in capfd.readouterr().err  # all of it is in the log


@pytest.mark.parametrize(("body", "what"), [("pass", "nothing"), ("return [1]", "a value of type list")])
def test_a_model_must_return_rows(setting: Setting, body: str, what: str) -> None:
    with pytest.raises(Invalid, match=rf"model\(\) returned {what}") as caught:
        setting.call(body)
    assert "pyarrow.Table" in str(caught.value.hint)


def test_running_out_of_memory(setting: Setting) -> None:
    with pytest.raises(LimitExceeded, match="ran out of memory"):
        setting.call("raise MemoryError")


def test_a_model_is_saved_with_the_data_and_replaced_with_it(world: World) -> None:
    pytest.importorskip("sklearn")
    text = """
    import numpy as np
    import pyarrow as pa
    from sklearn.linear_model import LogisticRegression

    inputs = ["sales"]

    def model(run):
        rows = pa.table({"a": np.arange(20.0), "b": np.arange(20.0)[::-1]})
        label = (np.arange(20) > 9).astype(int)
        fitted = LogisticRegression().fit(np.column_stack([rows["a"], rows["b"]]), label)
        run.save_model("NAME", fitted, features=["a", "b"], sample=rows, metrics={"auc": AUC}, baseline={"auc": 0.6})
        return run.read("sales")
    """

    def write(name: str, auc: float) -> None:
        world.mesh.sales("transform/train.py", text.replace("NAME", name).replace("AUC", str(auc)))

    write("big", 0.9)
    run = world.run("sales")
    assert (run.status, run.error) == ("succeeded", None)
    step = next(s for s in run.steps if s.name == "train")
    assert step.models == ("big",)
    assert [(m.name, m.value) for m in step.metrics] == [("auc", 0.9)]
    repository = world.lake.repository("sales")
    names = {e.path.removeprefix("models/big/") for e in repository.entries("main", "models/")}
    assert {"model.joblib", "signature.json", "sample.parquet"} <= names

    write("big", 0.5)
    worse = world.run("sales")
    assert worse.status == "failed"
    assert worse.error is not None
    assert "auc" in worse.error["message"]
    assert worse.error["problems"][0]["place"]["line"] == 11
    assert repository.resolve("main") == run.commit_id

    write("other", 0.9)
    assert world.run("sales").status == "succeeded"
    assert {e.path.split("/")[1] for e in repository.entries("main", "models/")} == {"other"}
    (world.mesh.folder / "products/shop/sales/transform/train.py").unlink()
    assert world.run("sales").status == "succeeded"
    assert list(repository.entries("main", "models/")) == []


def test_polars_comes_in_and_goes_out(setting: Setting) -> None:
    eager = setting.call(
        """
        import polars as pl
        rows = run.read_polars("rows")
        return rows.with_columns(word=pl.lit("x"), half=pl.col("n") / 2)
        """
    )
    assert in_mesh_types(eager, "out.py", {}).to_pylist()[0] == {"n": 1, "word": "x", "half": 0.5}
    lazy = setting.call(
        """
        import polars as pl
        rows = run.scan_polars("rows")
        assert isinstance(rows, pl.LazyFrame)
        return rows.filter(pl.col("n") > 1).select(pl.col("n").sum().alias("total"))
        """
    )
    assert in_mesh_types(lazy, "out.py", {"total": "integer"}).to_pylist() == [{"total": 5}]


def test_polars_types_become_those_of_the_mesh(setting: Setting) -> None:
    table = setting.call(
        """
        import datetime as dt
        from decimal import Decimal
        import polars as pl
        return pl.DataFrame(
            {
                "day": [dt.date(2024, 1, 2)],
                "at": [dt.datetime(2024, 1, 2, 3, tzinfo=dt.UTC)],
                "price": pl.Series([Decimal("1.50")], dtype=pl.Decimal(10, 2)),
                "kind": pl.Series(["a"], dtype=pl.Categorical),
                "bytes": [b"x"],
                "small": pl.Series([1], dtype=pl.UInt8),
            }
        )
        """
    )
    made = in_mesh_types(table, "out.py", {})
    assert {c.name: c.type for c in columns_of(made.schema)} == {
        "day": "date",
        "at": "timestamp",
        "price": "decimal(10,2)",
        "kind": "string",
        "bytes": "binary",
        "small": "integer",
    }


def test_a_view_is_scanned_by_polars_too(setting: Setting) -> None:
    below = setting.run._relations["rows"]
    setting.run._relations["rows"] = Relation(
        "rows", sql="SELECT n * 10 AS n FROM below", over=(replace(below, name="below"),)
    )
    table = setting.call("return run.scan_polars('rows').tail(1)")
    assert table.to_pylist() == [{"n": 30}]
