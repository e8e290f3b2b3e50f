"""New meshes and products are valid at once, and their models make what their documents promise."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from tulle.config import Settings
from tulle.errors import AlreadyExists, Invalid, NotFound
from tulle.quality.check import read_checks
from tulle.serving.service import load_services
from tulle.spec.mesh import load_mesh, load_settings
from tulle.spec.product import PRODUCT_TYPES, DataProduct
from tulle.spec.skeleton import mesh_files, product_files


def write(folder: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


@pytest.fixture
def new_mesh(tmp_path: Path) -> Settings:
    write(tmp_path, mesh_files("My first: mesh's"))
    return load_settings(tmp_path, {})


def new(settings: Settings, name: str, *, domain: str = "sales", **more: str) -> DataProduct:
    files = product_files(name, domain=domain, settings=settings, **more)
    write(settings.products_folder / domain / name, files)
    return load_mesh(settings).product(name)


def rows_of(product: DataProduct, upstream: DataProduct | None = None) -> list[tuple[str, ...]]:
    """Run the product's one model and check names and types of its columns; the rows."""
    (data_set,) = product.data_sets
    (port,) = product.input_ports
    connection = duckdb.connect()
    if port.source:
        assert port.source.columns
        kinds = {c.name: {"string": "varchar"}.get(c.type, c.type) for c in port.source.columns}
        read = f"read_csv('{product.folder / port.source.path}', columns={kinds})"
        connection.execute(f'create table "{port.data_set}" as from {read}')
    elif upstream:
        (taken,) = upstream.data_sets
        columns = ", ".join(f'"{c.name}" {c.type.replace("string", "varchar")}' for c in taken.columns)
        connection.execute(f'create table "{port.data_set}" ({columns})')
        values = ", ".join("'a'" if c.type == "string" else "null" for c in taken.columns)
        connection.execute(f'insert into "{port.data_set}" values ({values}), ({values})')
    found = connection.execute((product.folder / "transform" / f"{data_set.name}.sql").read_text())
    words = {"VARCHAR": "string", "BIGINT": "integer", "DATE": "date"}
    made = [(c[0], words.get(str(c[1]), str(c[1]).lower())) for c in found.description]
    assert made == [(c.name, c.type) for c in data_set.columns]
    rows = found.fetchall()
    keys = [tuple(row[i] for i, c in enumerate(data_set.columns) if c.key) for row in rows]
    assert len(set(keys)) == len(rows)
    connection.close()
    return rows


def test_a_new_mesh(new_mesh: Settings) -> None:
    assert new_mesh.name == "My first meshs"
    assert load_mesh(new_mesh).products == ()
    assert ".tulle/" in mesh_files("x")[".gitignore"]


@pytest.mark.parametrize("kind", PRODUCT_TYPES)
def test_a_new_product_of_each_kind(kind: str, new_mesh: Settings) -> None:
    product = new(new_mesh, "my-orders", kind=kind)
    assert (product.product_type, product.domain, product.title) == (kind, "sales", "My orders")
    assert len(rows_of(product)) == (7 if kind == "source-aligned" else 4)
    checks, problems = read_checks(product.folder / "checks", "checks")
    assert len(checks) == 2
    assert not problems
    services = load_services(product)
    assert [s.name for s in services] == (["my-orders"] if kind == "consumer-aligned" else [])


@pytest.mark.parametrize("kind", ["aggregate", "consumer-aligned"])
def test_a_new_product_that_takes_from_another(kind: str, new_mesh: Settings) -> None:
    upstream = new(new_mesh, "orders")
    product = new(new_mesh, "per-order", domain="marketing", kind=kind, upstream="orders")
    assert [p.name for p in load_mesh(new_mesh).upstream("per-order")] == ["orders"]
    assert rows_of(product, upstream) == [("a", 2)]
    assert not read_checks(product.folder / "checks", "checks")[1]
    load_services(product)


@pytest.mark.parametrize("name", ["null", "true", "123", "models", "orders-raw", "1e5", "x-" + "y" * 61])
def test_names_that_yaml_or_the_repository_would_misread(name: str, new_mesh: Settings) -> None:
    product = new(new_mesh, name, domain="no")
    assert (product.name, product.domain) == (name, "no")
    assert len(rows_of(product)) == 7


def test_an_upstream_with_names_that_sql_reserves(new_mesh: Settings) -> None:
    upstream = new(new_mesh, "orders")
    text = upstream.file.read_text().replace("- name: orders", "- name: order")
    text = text.replace("data_set: orders\n", "data_set: order\n").replace("{name: order_id", "{name: group")
    upstream.file.write_text(text)
    (upstream.folder / "transform" / "orders.sql").rename(upstream.folder / "transform" / "order.sql")
    product = new(new_mesh, "counted", kind="aggregate", upstream="orders")
    assert rows_of(product, load_mesh(new_mesh).product("orders")) == [("a", 2)]
    same = new(new_mesh, "order", kind="aggregate", upstream="orders")
    assert same.input_ports[0].data_set == "order_in"


def test_an_upstream_without_columns_or_port(new_mesh: Settings) -> None:
    upstream = new(new_mesh, "orders")
    text = upstream.file.read_text()
    bare = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("      - {name: "))
    upstream.file.write_text(
        bare.replace("description: One row an order\n      columns:\n", "description: x\n")
    )
    product = new(new_mesh, "counted", kind="consumer-aligned", upstream="orders")
    assert [c.name for c in product.data_sets[0].columns] == ["entries"]
    assert load_services(product) == ()
    upstream.file.write_text(
        text.replace("type: output-port", "type: data-sharing-agreement")
        .replace("      data_set: orders\n", "")
        .replace("      protocol: files\n", "")
    )
    (new_mesh.products_folder / "sales" / "counted" / "product.yaml").unlink()
    with pytest.raises(NotFound, match="'orders' has no output port"):
        new(new_mesh, "more", kind="aggregate", upstream="orders")


@pytest.mark.parametrize(
    ("arguments", "error", "message", "hint"),
    [
        ({"name": "My Orders"}, Invalid, "'My Orders' is no name for a product", "my-orders"),
        ({"name": "ab"}, Invalid, "'ab' is no name for a product", "3 to 63"),
        ({"name": "../../x"}, Invalid, "is no name for a product", "3 to 63"),
        ({"domain": "../x"}, Invalid, "'../x' is no name for a domain", "write 'x'"),
        ({"domain": ""}, Invalid, "'' is no name for a domain", "letters"),
        ({"kind": "source"}, Invalid, "there is no kind of product 'source'", "source-aligned"),
        (
            {"upstream": "orders"},
            Invalid,
            "a source-aligned product takes its data from a source",
            "aggregate",
        ),
        ({"kind": "aggregate", "upstream": "order"}, NotFound, "no product 'order'", "'orders'"),
        ({"name": "orders"}, AlreadyExists, "already: products/sales/orders", "another name"),
    ],
)
def test_what_is_refused(
    arguments: dict[str, str], error: type[Exception], message: str, hint: str, new_mesh: Settings
) -> None:
    new(new_mesh, "orders")
    wanted = {"name": "new-one", "domain": "hr", **arguments}
    with pytest.raises(error, match=message) as caught:
        product_files(wanted.pop("name"), settings=new_mesh, **wanted)  # type: ignore[arg-type]
    assert hint in str(caught.value.hint)  # type: ignore[attr-defined]
