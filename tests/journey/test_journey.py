"""The example of a grocer's year on four made-up months: grown, broken, repaired, changed, released, rolled back.

Runs are carried out in this process. `examples/journey/run` does the same with the commands, on all of the data.
"""

from __future__ import annotations

import importlib.util
import shutil
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.journey import tiny

from tulle.config import Warehouse
from tulle.control import apply, environments, product_release, promotion
from tulle.control.check_mesh import check_mesh
from tulle.control.order import in_order
from tulle.control.workspace import Workspace
from tulle.engine.duck import DuckEngine
from tulle.errors import Denied
from tulle.pipeline import promotion as record
from tulle.pipeline import run as runs
from tulle.pipeline.columns import derive_columns
from tulle.pipeline.execute import execute
from tulle.pipeline.graph import load_code
from tulle.pipeline.try_model import try_models
from tulle.server.app import open_workspace
from tulle.spec.mesh import load_settings

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/journey"


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("deliver", path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


class Grocer:
    """The mesh in a folder, its data delivered from made-up tables, its runs in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "mesh"
        shutil.copytree(EXAMPLE, self.folder, ignore=shutil.ignore_patterns(".tulle", "data", "__pycache__"))
        self.source = tiny.write(folder / "source")
        self.delivery = module(self.folder / "deliver.py").Delivery(self.source, self.folder, 100)
        self.delivery.base()
        self.workspace: Workspace = open_workspace(load_settings(self.folder))

    def apply(self) -> None:
        apply.apply_plan(self.workspace)

    def change(self, name: str) -> None:
        shutil.copytree(self.folder / "changes" / name, self.folder, dirs_exist_ok=True)

    def names(self) -> list[str]:
        return in_order(list(self.workspace.spec().products), self.workspace.settings.products_folder)

    def run(self, product: str, environment: str = "main") -> runs.Run:
        database, lake = self.workspace.database, self.workspace.lake
        run_id = runs.request(database, product, environment=environment)
        return execute(database, lake, self.workspace.spec(), run_id)

    def run_all(self) -> dict[str, str]:
        return {name: self.run(name).status for name in self.names()}

    def rows(self, product: str, data_set: str, ref: str = "main") -> pa.Table:
        repository = self.workspace.lake.repository(product)
        return pa.concat_tables([pq.read_table(f) for f in repository.files(ref, f"{data_set}/")])

    def asked(self, query: str) -> Any:
        """One value of the tables everything is made from."""
        with duckdb.connect() as connection:
            for name in tiny.TABLES:
                connection.execute(f"CREATE VIEW {name} AS FROM '{self.source / name}.parquet'")
            return connection.sql(query).fetchone()

    def failed(self, product: str) -> str:
        """A run that must fail; everything it says."""
        before = self.workspace.lake.repository(product).resolve("main")
        run = self.run(product)
        assert run.status == "failed"
        assert self.workspace.lake.repository(product).resolve("main") == before
        problems = [
            f"{p['place']['file']}:{p['place']['line']}: {p['message']}"
            for p in run.error["problems"]
            if p["place"]
        ]
        checks = [f"{c.name}: {c.message}" for step in run.steps for c in step.checks if c.stops]
        return "\n".join(problems + checks)


@pytest.fixture(scope="module")
def grocer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grocer]:
    """The first two months published."""
    made = Grocer(tmp_path_factory.mktemp("journey"))
    made.apply()
    for month in ("2017-01", "2017-02"):
        made.delivery.month(month)
        found = made.run_all()
        assert set(found.values()) <= {"succeeded", "unchanged"}, found
    yield made
    made.workspace.database.close()


def test_the_mesh_is_valid_and_says_that_its_data_is_simulated(grocer: Grocer) -> None:
    assert check_mesh(grocer.workspace).problems == ()
    spec = grocer.workspace.spec()
    assert {p.domain for p in spec.products} == {"sales", "customer", "marketing", "promotion"}
    assert all(
        "imulated data" in (grocer.folder / f"products/{p.domain}/{p.name}/product.yaml").read_text()
        for p in spec.products
    )
    assert all(load_code(p, spec=spec).problems == () for p in spec.products)


@pytest.mark.parametrize("product", ["transactions", "household-months", "promotion-lift"])
def test_the_models_pass_their_tests(grocer: Grocer, product: str, tmp_path: Path) -> None:
    spec = grocer.workspace.spec()
    code = load_code(spec.product(product), spec=spec)
    derived, _ = derive_columns(code.jobs, code.product, spec, code.macros)
    with DuckEngine(Warehouse(threads=1), tmp_path / "spill").kept(tmp_path / "room") as engine:
        tried = try_models(code, engine, derived, tmp_path)
    assert tried
    assert [one for one in tried if not one.passed] == []


def test_months_add_up_and_those_that_are_there_are_not_made_again(grocer: Grocer) -> None:
    sold = grocer.rows("transactions", "transactions")
    assert sorted(set(sold["month"].to_pylist())) == ["2017-01", "2017-02"]
    until = "transaction_timestamp < TIMESTAMP '2017-03-01 05:00:00'"
    (count, sales) = grocer.asked(
        f"SELECT count(*), CAST(sum(sales_value) AS DECIMAL(12, 2)) FROM transactions WHERE {until}"
    )
    spent = grocer.rows("household-months", "household_months")["spent"].to_pylist()
    assert (sold.num_rows, sum(sold["sales_value"].to_pylist()), sum(spent)) == (count, sales, sales)
    lines = sum(grocer.rows("promotion-lift", "promotion_weeks")["lines"].to_pylist())
    planned = "store_id IN (SELECT store_id FROM promotions)"
    assert (lines,) == grocer.asked(f"SELECT count(*) FROM transactions WHERE {until} AND {planned}")
    repository = grocer.workspace.lake.repository("transactions")
    january, both = (set(repository.files(ref, "transactions/")) for ref in ("main~1", "main"))
    assert january < both  # its file is the very same
    assert set(grocer.run_all().values()) == {"unchanged"}


def test_a_month_that_must_not_come_is_stopped_and_repaired(grocer: Grocer) -> None:
    good = grocer.rows("transactions", "transactions").num_rows
    grocer.delivery.month("2017-03", "types")
    said = grocer.failed("transactions")
    assert "transactions-2017-03.csv:4:" in said
    assert "'two'" in said
    grocer.delivery.month("2017-03", "rows")
    said = grocer.failed("transactions")
    assert "store_id is known in assortment.stores.store_id" in said
    assert "basket_id, product_id is the key: 1 row repeats" in said
    assert grocer.run("household-months").status == "unchanged"
    assert grocer.rows("transactions", "transactions").num_rows == good
    grocer.delivery.month("2017-03")
    assert grocer.run("transactions").status == "succeeded"
    until = "transaction_timestamp < TIMESTAMP '2017-04-01 04:00:00'"
    assert (grocer.rows("transactions", "transactions").num_rows,) == grocer.asked(
        f"SELECT count(*) FROM transactions WHERE {until}"
    )


def promoted(grocer: Grocer, version: str) -> None:
    """Bring a release of the transactions to production: Dana asks, Olga agrees, a run of its own makes the data."""
    workspace = grocer.workspace
    environments.ensure_branches(workspace, "transactions")
    assert grocer.run("transactions", "dev").status in {"succeeded", "unchanged"}
    product_release.make(workspace, "transactions", by="dana")
    asked = promotion.promote(workspace, "transactions", version, to="prod", by="dana")
    assert asked.status == "waiting"
    agreed = promotion.decide(workspace, asked.id, by="olga")
    assert agreed.run_id is not None
    deadline = time.monotonic() + 120
    while not runs.get(workspace.database, agreed.run_id).ended:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    record.settle(workspace.database, workspace.lake)
    assert record.in_force(workspace.database, "transactions", "main") == version


def test_a_breaking_change_is_refused_then_released_beside_the_old_and_taken_back(grocer: Grocer) -> None:
    promoted(grocer, "1.0.0")
    before = grocer.rows("transactions", "transactions")
    grocer.change("refused")
    steps = "\n".join(
        f"{step.sentence} {step.details}" for step in apply.current_plan(grocer.workspace)[0].steps
    )
    assert "column 'coupon_match_discount' is removed" in steps
    assert "product 'household-months' reads it by input port 'sales' and uses the column" in steps
    assert "promotion-lift" not in steps  # it reads the data set, not that column
    with pytest.raises(Denied, match="refused for 1 reason"):
        grocer.apply()

    grocer.change("2.0.0")
    grocer.apply()
    promoted(grocer, "2.0.0")
    lines = grocer.rows("transactions", "receipt_lines")
    assert "coupon_match_discount" not in lines.column_names
    assert lines.num_rows == before.num_rows == grocer.rows("transactions", "transactions").num_rows
    old = sum(before["coupon_discount"].to_pylist()) + sum(before["coupon_match_discount"].to_pylist())
    assert sum(lines["coupon_discount"].to_pylist()) == old > Decimal(0)
    (port,) = [p for p in grocer.workspace.spec().product("transactions").output_ports if p.deprecated]
    assert (port.sunset, port.replaced_by, port.version) == ("2036-06-30", "Receipt lines", "1.0.0")

    promotion.rollback(grocer.workspace, "transactions", to="1.0.0", environment="prod", by="olga")
    repository = grocer.workspace.lake.repository("transactions")
    assert list(repository.files("main", "receipt_lines/")) == []
    assert grocer.rows("transactions", "transactions", "release-1.0.0").equals(before)
    assert list(repository.files("release-2.0.0", "receipt_lines/")) != []
    promotion.rollback(grocer.workspace, "transactions", to="2.0.0", environment="prod", by="olga")
    assert list(repository.files("main", "receipt_lines/")) != []
