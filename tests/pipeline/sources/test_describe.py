"""A product made of a table of a real database: what it is told, and that it validates, tests and runs at once."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from click.testing import CliRunner
from tests.pipeline.sources.conftest import Shop
from tests.pipeline.sources.mariadb import PASSWORD, MariaDb
from tests.spec.test_odcs import REGISTRY

from tulle.cli.main import cli
from tulle.errors import TulleError
from tulle.pipeline.sources.address import made as connection
from tulle.pipeline.sources.describe import described
from tulle.spec.table_scaffold import from_table

POSTGRES = """
CREATE SCHEMA sales;
CREATE TABLE sales.orders (
  shop int, "order" bigint, "Net Amount" numeric(10,2) NOT NULL, open_amount numeric, note text, raw bytea,
  extra jsonb, updated_at timestamptz NOT NULL, PRIMARY KEY ("order", shop));
COMMENT ON TABLE sales.orders IS 'Every order, once';
COMMENT ON COLUMN sales.orders."Net Amount" IS 'What was
paid, with ''quotes'': and # signs';
INSERT INTO sales.orders VALUES (1, 7, 10.25, 1.5, 'ü', '\\x00', '{}', '2020-01-01 12:00+00');
"""


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    (tmp_path / "mesh.yaml").write_text("name: test\nwarehouse: {threads: 1, memory: 256MB}\n")
    return tmp_path


def tulle(mesh: Path, *arguments: str) -> str:
    result = CliRunner().invoke(cli, ["--mesh", str(mesh), *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def made(shop: Shop, address: str, table: str, password: str = "", **options: str) -> dict[str, Any]:
    """The components of a product made of a table, by type; it is valid, and a run publishes its rows."""
    shop.connect("db", "sql", address, {"password": password} if password else {}, **options)
    found = described(shop.connections.get("db", "prod"), table)
    for path, text in from_table(found, REGISTRY, name="orders", domain="shop", connection="db").items():
        (shop.product / path).parent.mkdir(exist_ok=True)
        (shop.product / path).write_text(text)
    shop.good()
    text = (shop.product / "product.yaml").read_text()
    return {c["type"]: c["properties"] for c in yaml.safe_load(text)["spec"]["components"]}


def test_a_table_of_postgresql(shop: Shop, pg: str) -> None:
    with psycopg.connect(pg, autocommit=True) as cx:
        cx.execute(POSTGRES)
    found = made(shop, pg, "sales.orders")
    assert found["data-set"]["description"] == "Every order, once"
    columns = {column["name"]: column for column in found["data-set"]["columns"]}
    assert columns["order"] == {
        "name": "order",
        "type": "integer",
        "physical_type": "bigint",
        "required": True,
        "key": True,
    }
    assert columns["net_amount"] == {
        "name": "net_amount",
        "type": "decimal(10,2)",
        "physical_type": "numeric(10,2)",
        "description": "What was paid, with 'quotes': and # signs (there: Net Amount)",
        "required": True,
    }
    assert "set the type" in columns["open_amount"]["description"]
    source = found["input-port"]["source"]
    assert (source["load"], source["key"], source["cursor"]) == ("merge", ["order", "shop"], "updated_at")
    assert {"name": "open_amount", "type": "decimal(38,10)"} in source["columns"]
    (row,) = shop.rows()
    assert (row["order"], row["net_amount"], row["raw"]) == (7, Decimal("10.25"), b"\x00")


def test_a_table_of_mariadb(shop: Shop, mariadb: MariaDb, my: str) -> None:
    mariadb.change(
        "shop",
        "CREATE TABLE orders (id int PRIMARY KEY, big bigint unsigned, flag bit(1) COMMENT 'Paid?', "
        "last_update timestamp NOT NULL) COMMENT='Orders of the shop';\n"
        "INSERT INTO orders VALUES (1, 2, b'1', '2020-01-01')",
    )
    found = made(shop, my, "orders", PASSWORD, user="reader")
    assert found["data-set"]["description"] == "Orders of the shop"
    names = {
        c["name"]: (c["type"], c["physical_type"], c.get("description")) for c in found["data-set"]["columns"]
    }
    assert names["big"] == ("decimal(20,0)", "bigint(20) unsigned", None)
    assert names["flag"] == ("boolean", "bit(1)", "Paid?")
    assert found["input-port"]["source"]["cursor"] == "last_update"
    assert shop.rows()[0]["flag"] is True


def test_from_the_command_line(mesh: Path) -> None:
    with closing(sqlite3.connect(mesh / "shop.db")) as cx:
        cx.execute(
            "CREATE TABLE orders (id INTEGER, day DATE NOT NULL, amount DECIMAL(10,2), PRIMARY KEY (id))"
        )
    tulle(mesh, "connection", "set", "db", "--kind", "sql", "--address", f"sqlite:///{mesh}/shop.db")
    tulle(mesh, "new", "product", "my-orders", "--domain", "sales", "--from-table", "db", "orders")
    assert "1 product(s) are valid" in tulle(mesh, "validate")
    assert "✓ my_orders: a row that comes in is there" in tulle(mesh, "test", "my-orders")
    text = (mesh / "products/sales/my-orders/product.yaml").read_text()
    found = {c["type"]: c["properties"] for c in yaml.safe_load(text)["spec"]["components"]}
    assert found["input-port"]["source"] == {"type": "sql", "connection": "db", "table": "orders"}
    assert "no column is seen to tell when a row was changed" in found["input-port"]["description"]
    assert [c["name"] for c in found["data-set"]["columns"] if c.get("key")] == ["id"]
    with pytest.raises(TulleError, match="no such table: nothing"):
        tulle(mesh, "new", "product", "other", "--domain", "sales", "--from-table", "db", "nothing")
    assert not (mesh / "products/sales/other").exists()
    # Later changes of the table are taken over.
    with closing(sqlite3.connect(mesh / "shop.db")) as cx:
        cx.execute("ALTER TABLE orders ADD COLUMN channel TEXT")
    assert "product.yaml" in tulle(mesh, "product", "update-template", "my-orders")
    assert "name: channel" in (mesh / "products/sales/my-orders/product.yaml").read_text()


@pytest.mark.parametrize(
    ("kind", "address", "table", "says"),
    [
        ("sql", "sqlite:////nowhere.db", "orders", "there is no file /nowhere.db"),
        ("sql", "sqlite:////nowhere.db", "orders; DROP TABLE orders", "is no name of a table"),
        ("http", "https://api.example.org", "orders", "leads to no database"),
    ],
)
def test_what_does_not_work(kind: str, address: str, table: str, says: str) -> None:
    with pytest.raises(TulleError, match=says):
        described(connection("db", "prod", kind, address, {}, {}), table)
