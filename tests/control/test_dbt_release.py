"""A product built by dbt is released, promoted and rolled back like any other: its project is code of the release."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.control.released import Team
from tests.pipeline.conftest import Mesh
from tests.pipeline.test_dbt import CLIENTS, HOME, ORDERS, PAYMENTS, PRODUCT, store

from tulle.control import apply, environments, product_release, promotion
from tulle.pipeline import promotion as record
from tulle.pipeline import release

MESH = f"""
name: test
warehouse: {{threads: 1, memory: 256MB}}
hook_environments: {{dbt: {CLIENTS}}}
environments:
  dev: {{fallback: prod}}
  prod: {{schedules: false}}
"""

pytestmark = pytest.mark.system


class Store(Team):
    """A mesh whose one product is a dbt project with seeds, a snapshot, an incremental model and tests."""

    def __init__(self, folder: Path) -> None:
        self.mesh = Mesh(folder)
        store(self.mesh)
        self.mesh.write("mesh.yaml", MESH)
        self.version("1.0.0")
        self.open()
        apply.apply_plan(self.workspace)
        environments.ensure_branches(self.workspace, "store")

    def version(self, version: str) -> None:
        said = f"definition: what the store sells, version: {version}"
        self.mesh.write(f"{HOME}/product.yaml", PRODUCT.replace("definition: what the store sells", said))

    def release(self, version: str) -> None:
        self.version(version)
        run = self.run("dev", "store")
        assert run.status == "succeeded", run.error
        product_release.make(self.workspace, "store", by="ann")

    def promote(self, version: str) -> record.Promotion:
        done = self.wait(promotion.promote(self.workspace, "store", version, to="prod", by="ann"))
        assert (done.status, done.message) == ("done", "")
        return done

    def rows(self, data_set: str, *columns: str) -> list[tuple[object, ...]]:
        """What is published of a data set."""
        import pyarrow.parquet as pq

        files = self.workspace.lake.repository("store").files("main", f"{data_set}/")
        tables = [pq.read_table(file, columns=list(columns)) for file in files]
        return sorted(tuple(map(str, row.values())) for table in tables for row in table.to_pylist())


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Store]:
    if not (CLIENTS / "bin/python").exists():
        pytest.skip("the clients' environment is not made: `make test` makes it")
    made = Store(tmp_path / "mesh")
    yield made
    made.workspace.database.close()


@pytest.mark.timeout(600)
def test_a_dbt_project_is_released_promoted_and_rolled_back(shop: Store) -> None:
    workspace, mesh = shop.workspace, shop.mesh
    log = ("payment_id",)
    shop.release("1.0.0")
    shop.promote("1.0.0")
    assert shop.rows("customers", "name", "spent") == [("ann", "10.50"), ("bob", "0.00")]
    # What is edited in the folder changes nothing in production; what arrives does, and dbt's state goes on from it.
    model = mesh.folder / HOME / "dbt/models/customers.sql"
    doubled = model.read_text().replace("sum(o.amount)", "2 * sum(o.amount)")
    model.write_text(doubled)
    mesh.write(f"{HOME}/data/payments.csv", f"{PAYMENTS}3,3,cash,500\n")
    assert shop.run("main", "store").status == "succeeded"
    assert shop.rows("customers", "name", "spent") == [("ann", "10.50"), ("bob", "5.00")]
    assert shop.rows("payment_log", *log) == [("1",), ("2",), ("3",)]
    last = workspace.lake.repository("store").resolve("main")

    shop.release("1.1.0")
    shop.promote("1.1.0")
    mesh.write(f"{HOME}/data/payments.csv", f"{PAYMENTS}3,3,cash,500\n4,2,cash,200\n")
    returned = ORDERS.replace("3,2,2024-01-03,placed", "3,2,2024-01-03,returned")
    mesh.write(f"{HOME}/data/orders.csv", returned)
    assert shop.run("main", "store").status == "succeeded"
    assert shop.rows("customers", "name", "spent") == [("ann", "25.00"), ("bob", "10.00")]
    assert len(shop.rows("order_states", "order_id", "status")) == 4
    # Code, data and what dbt remembers of them go back together: the next run makes good what is missing since.
    done = promotion.rollback(workspace, "store", to="1.0.0", by="bob", note="counted twice")
    assert (done.status, done.commit_id) == ("done", last)
    assert shop.rows("customers", "name", "spent") == [("ann", "10.50"), ("bob", "5.00")]
    assert shop.rows("payment_log", *log) == [("1",), ("2",), ("3",)]
    assert len(shop.rows("order_states", "order_id", "status")) == 3
    run = shop.run("main", "store")
    assert run.status == "succeeded", run.error
    assert shop.rows("customers", "name", "spent") == [("ann", "12.50"), ("bob", "5.00")]
    assert shop.rows("payment_log", *log) == [("1",), ("2",), ("3",), ("4",)]
    assert len(shop.rows("order_states", "order_id", "status")) == 4
    assert shop.run("main", "store").status == "unchanged"


@pytest.mark.timeout(600)
def test_a_dbt_test_that_fails_keeps_a_promotion_out(shop: Store) -> None:
    shop.release("1.0.0")
    # All files of the project are code of it, what input ports read is not.
    made = release.get(shop.workspace.database, "store", "1.0.0").statement["files"]
    project = shop.mesh.folder / HOME
    there = {file.relative_to(project).as_posix() for file in (project / "dbt").rglob("*") if file.is_file()}
    assert {name for name in made if name.startswith("product/dbt/")} == {f"product/{path}" for path in there}
    assert not any(name.startswith("product/data/") for name in made)

    before = shop.workspace.lake.repository("store").resolve("main")
    odd = ORDERS.replace("2,1,2024-01-02,shipped", "2,1,2024-01-02,odd")
    shop.mesh.write(f"{HOME}/data/orders.csv", odd)
    failed = shop.wait(promotion.promote(shop.workspace, "store", "1.0.0", to="prod", by="ann"))
    assert failed.status == "failed"
    assert "accepted_values_orders_status" in failed.message
    assert record.in_force(shop.workspace.database, "store", "main") is None
    assert shop.workspace.lake.repository("store").resolve("main") == before
