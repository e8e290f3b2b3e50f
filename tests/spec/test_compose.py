"""Component types composed of several: one that is written stands for many, each checked and told like its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tulle.config import Settings
from tulle.errors import Invalid
from tulle.spec.capability import Registry, add_file, builtin_registry, load_registry
from tulle.spec.conformance import examine
from tulle.spec.load import load_document
from tulle.spec.mesh import load_mesh
from tulle.spec.oam import read_product
from tulle.spec.product import Component, DataProduct

TABLE = """\
capability: published-table
description: A data set with a port that offers it and a promise that it is fresh
properties:
  columns: {type: array, items: {type: object}, description: the columns of the table}
  owner_note: {type: string, description: what consumers should know}
  fresh_within: {type: string, description: how old it may become}
required: [columns]
defaults: {owner_note: as it is}
compose:
- name: ${name}
  type: data-set
  properties: {description: 'The table ${name}: ${owner_note}', columns: '${columns}'}
- name: ${name} files
  type: output-port
  properties: {description: 'Files of ${name}', data_set: '${name}'}
- name: ${name} is fresh
  type: service-level-asset
  when: fresh_within
  properties: {description: 'Not older than ${fresh_within}', dimension: Freshness}
example: |
  - name: orders
    type: published-table
    properties:
      fresh_within: 1 day
      columns: [{name: id, type: integer, key: true}]
"""
PRODUCT = """\
apiVersion: core.oam.dev/v1beta1
kind: DataProduct
spec:
  components:
  - {name: shop, type: domain}
  - {name: Sold Orders, type: data-product, properties: {definition: what was sold}}
  - name: orders
    type: published-table
    properties:
      fresh_within: {value: 1 day}
      columns: [{name: id, type: integer, key: true}]
  - {name: till, type: input-port, properties: {description: the till}}
"""


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """The built-in types, and a composed one of a mesh."""
    (tmp_path / "capabilities").mkdir()
    (tmp_path / "capabilities/published-table.yaml").write_text(TABLE)
    return load_registry(Settings(folder=tmp_path))


def product(registry: Registry, text: str = PRODUCT) -> DataProduct:
    return read_product(load_document(text, name="product.yaml"), registry)


def test_one_component_stands_for_several(registry: Registry) -> None:
    made = product(registry)
    (data_set,), (port,), (level,) = made.data_sets, made.output_ports, made.service_level_assets
    assert (data_set.name, data_set.description) == ("orders", "The table orders: as it is")
    assert data_set.key == ("id",)
    assert (port.title, port.data_set) == ("orders files", "orders")
    assert level.description == "Not older than 1 day"
    assert [c.type for c in made.components][:4] == [
        "domain",
        "data-product",
        "published-table",
        "input-port",
    ]
    without = product(registry, PRODUCT.replace("      fresh_within: {value: 1 day}\n", ""))
    assert without.service_level_assets == ()
    assert without.digest != made.digest


@pytest.mark.parametrize(
    ("old", "new", "place", "told"),
    [
        ("type: integer, key", "type: number, key", "product.yaml:11:34", "number"),
        (
            "name: id",
            "nmae: id",
            "product.yaml:11:18",
            "unknown property 'nmae' in 'columns[0]' in data-set 'orders'",
        ),
        ("fresh_within:", "fresh_withn:", "product.yaml:10:7", "unknown property 'fresh_withn'"),
        ("      columns: [{name: id, type: integer, key: true}]\n", "", "product.yaml:9:5", "'columns'"),
    ],
)
def test_what_is_wrong_in_a_part_is_told_where_it_was_written(
    registry: Registry, old: str, new: str, place: str, told: str
) -> None:
    assert old in PRODUCT
    with pytest.raises(Invalid) as failure:
        product(registry, PRODUCT.replace(old, new))
    first = failure.value.problems[0]
    assert told in first.message
    assert str(first.place) == place


def test_nothing_in_a_text_is_evaluated(registry: Registry) -> None:
    hostile = "note ${columns} {{7*7}} ${name} $(id)"
    made = product(registry, PRODUCT.replace("fresh_within: {value: 1 day}", f"owner_note: '{hostile}'"))
    assert made.data_sets[0].description == f"The table orders: {hostile}"


def test_types_may_be_composed_of_composed_types(tmp_path: Path, registry: Registry) -> None:
    twice = (
        "capability: twin-tables\ndescription: Two tables alike\n"
        "properties: {columns: {type: array, description: columns of both}}\n"
        "compose:\n- {name: '${name}_a', type: published-table, properties: {columns: '${columns}'}}\n"
        "- {name: '${name}_b', type: published-table, properties: {columns: '${columns}'}}\n"
        "example: '- {name: x, type: twin-tables, properties: {columns: [{name: id, type: integer}]}}'\n"
    )
    (tmp_path / "capabilities/a-twin.yaml").write_text(twice)  # read before what it is made of
    made = product(
        load_registry(Settings(folder=tmp_path)),
        PRODUCT.replace("published-table", "twin-tables").replace("      fresh_within: {value: 1 day}\n", ""),
    )
    assert [d.name for d in made.data_sets] == ["orders_a", "orders_b"]


@pytest.mark.parametrize(
    ("old", "new", "line", "told"),
    [
        (
            "type: output-port",
            "type: output-prt",
            14,
            "a part is of the type 'output-prt', which does not exist",
        ),
        ("'${columns}'", "'${colums}'", 12, "'${colums}' is filled by no property"),
        ("when: fresh_within", "when: fresh", 18, "a part depends on 'fresh', which is no property"),
        ("required: [columns]", "required: [colums]", 7, "unknown property 'colums' in 'required'"),
        ("description: A data set", "extends: data-set\ndescription: A data set", 10, "either extends"),
        ("example: |", "skeleton: |", 1, "has no 'example'"),
        ("type: data-set", "type: published-table", 11, "composed of itself"),
    ],
)
def test_a_definition_that_does_not_hold_is_told_at_its_place(
    tmp_path: Path, old: str, new: str, line: int, told: str
) -> None:
    assert old in TABLE
    path = tmp_path / "published-table.yaml"
    path.write_text(TABLE.replace(old, new))
    with pytest.raises(Invalid) as failure:
        add_file(builtin_registry(), path)
    (problem,) = failure.value.problems
    assert told in problem.message
    assert problem.place is not None
    assert problem.place.line == line


def test_neither_extended_nor_composed_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("capability: x\ndescription: nothing\n")
    with pytest.raises(Invalid) as failure:
        add_file(builtin_registry(), path)
    assert "neither 'extends' nor 'compose'" in failure.value.problems[0].message


def test_the_conformance_kit_covers_it_and_the_hooks_of_its_parts(registry: Registry) -> None:
    assert [f.check for f in examine(registry, "published-table") if not f.passed] == []
    there: set[str] = set()

    def provision(component: Component, _product: DataProduct) -> None:
        there.add(component.name)

    registry.hook("output-port", "provision", provision)
    found = {f.check: f.passed for f in examine(registry, "published-table", hooks=True)}
    assert found["what is provisioned can be taken away"] is False
    registry.hook("output-port", "destroy", lambda component, _product: there.discard(component.name))
    found = {f.check: f.passed for f in examine(registry, "published-table", hooks=True)}
    assert found["the hook provision answers twice alike"]
    assert all(found.values())
    assert there == set()


def test_references_between_products_find_the_ports_of_parts(tmp_path: Path, registry: Registry) -> None:
    (tmp_path / "mesh.yaml").write_text("name: test\n")
    home = tmp_path / "products/shop/sold-orders"
    home.mkdir(parents=True)
    (home / "product.yaml").write_text(PRODUCT)
    reader = tmp_path / "products/shop/reader"
    reader.mkdir()
    (reader / "product.yaml").write_text(
        PRODUCT.replace("Sold Orders", "Reader").replace(
            "{name: till, type: input-port, properties: {description: the till}}",
            "{name: in, type: input-port, properties: "
            "{description: x, associated_output_port: orders files, product: sold-orders, data_set: taken}}",
        )
    )
    mesh = load_mesh(tmp_path, registry)
    assert [p.name for p in mesh.upstream("reader")] == ["sold-orders"]
