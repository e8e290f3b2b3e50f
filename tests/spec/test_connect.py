"""Products connected through their ports."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.spec.conftest import WriteProduct

from tulle.errors import Invalid, Place, Problem
from tulle.spec.capability import builtin_registry
from tulle.spec.connect import Loaded, connect
from tulle.spec.load import load_document
from tulle.spec.mesh import load_mesh
from tulle.spec.oam import read_product


def one(mesh: Path) -> Problem:
    with pytest.raises(Invalid) as caught:
        load_mesh(mesh)
    (only,) = caught.value.problems
    return only


def test_a_taken_name_names_both_places(mesh: Path, write_product: WriteProduct) -> None:
    write_product("aaa")
    write_product("aaa", domain="hr")
    found = one(mesh)
    # hr comes first by path, so the one in sales is the second
    assert found.message == "the product name 'aaa' is already taken at products/hr/aaa/product.yaml:3:18"
    assert found.place == Place("products/sales/aaa/product.yaml", 3, 18)


def test_a_missing_product(mesh: Path, write_product: WriteProduct) -> None:
    write_product("purchases")
    write_product("features", takes=["purchase"])
    found = one(mesh)
    assert (
        found.message == "input-port 'From purchase' takes from the product 'purchase', which does not exist"
    )
    assert found.hint == "did you mean 'purchases'?"
    assert found.place == Place("products/sales/features/product.yaml", 12, 43)


def test_a_missing_port(mesh: Path, write_product: WriteProduct) -> None:
    write_product("aaa")
    file = write_product("bbb", takes=["aaa"])
    text = file.read_text()
    file.write_text(text.replace("port: Port of aaa", "port: Prot of aaa"))
    found = one(mesh)
    assert (found.message, found.hint) == (
        "product 'aaa' has no output port 'Prot of aaa'",
        "did you mean 'Port of aaa'?",
    )
    file.write_text(text.replace("product: aaa, ", "").replace("port: Port of aaa", "port: Prot of aaa"))
    assert one(mesh).message == "no product of the mesh has an output port 'Prot of aaa'"


def test_a_port_without_product_must_be_unique(mesh: Path, write_product: WriteProduct) -> None:
    shared = "  - {name: Shared, type: output-port, properties: {description: x, data_set: NAME}}\n"
    write_product("aaa", more=shared.replace("NAME", "aaa"))
    file = write_product("ccc", takes=["aaa"])
    file.write_text(
        file.read_text().replace(
            "product: aaa, associated_output_port: Port of aaa", "associated_output_port: shared"
        )
    )
    assert load_mesh(mesh).product("ccc").input_ports[0].product == "aaa"
    write_product("bbb", more=shared.replace("NAME", "bbb"))
    found = one(mesh)
    assert found.message == "several products have an output port 'shared': aaa, bbb"
    assert found.hint == "say which one is meant, for example product: aaa"


def test_a_port_without_data_set(mesh: Path, write_product: WriteProduct) -> None:
    upstream = write_product("aaa")
    upstream.write_text(
        "\n".join(line for line in upstream.read_text().splitlines() if "data-set" not in line)
    )
    file = write_product("bbb", takes=["aaa"])
    assert load_mesh(mesh).product("bbb").input_ports[0].data_set == ""  # documented only
    file.write_text(
        file.read_text().replace(
            "properties: {description: x,", "properties: {description: x, data_set: rows,"
        )
    )
    assert one(mesh).message == "the output port 'Port of aaa' of 'aaa' offers no data set to take"


def test_names_inside_a_product(mesh: Path, write_product: WriteProduct) -> None:
    write_product("aaa")
    file = write_product("bbb", takes=["aaa"])
    text = file.read_text()
    file.write_text(text.replace("{name: bbb, type: data-set", "{name: aaa, type: data-set"))
    found = one(mesh)
    assert (
        found.message
        == "the rows of input-port 'From aaa' have the name of the product's own data set: 'aaa'"
    )
    assert found.hint == "give them a name of their own, such as data_set: aaa_in"
    again = text.splitlines(keepends=True)[-3:]
    file.write_text(text + "".join(again).replace("From aaa", "Again from aaa"))
    assert (
        one(mesh).message
        == "the rows of input-port 'Again from aaa' have the name of those of 'From aaa': 'aaa'"
    )


def test_circles_are_shown(mesh: Path, write_product: WriteProduct) -> None:
    write_product("aaa", takes=["ccc"])
    write_product("bbb", takes=["aaa"])
    write_product("ccc", takes=["bbb"])
    write_product("ddd", takes=["ccc"])
    found = one(mesh)
    assert found.message == "products may not take from each other in a circle: bbb → ccc → aaa → bbb"
    assert found.place
    assert found.place.file == "products/sales/bbb/product.yaml"


def test_a_product_may_not_take_from_itself(mesh: Path, write_product: WriteProduct) -> None:
    file = write_product("aaa", takes=["aaa"])
    file.write_text(
        file.read_text().replace(
            "properties: {description: x,", "properties: {description: x, data_set: rows,"
        )
    )
    assert one(mesh).message == "the product takes its own output port: aaa → aaa"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12, unique=True))
def test_circles_are_found_if_and_only_if_there_are_any(edges: list[tuple[int, int]]) -> None:
    """Against the standard library: a circle is reported exactly when no order exists."""
    from graphlib import CycleError, TopologicalSorter

    names = [f"p{n:02}" for n in range(6)]
    takes = {name: [names[b] for a, b in edges if names[a] == name] for name in names}
    _, problems = connect([_loaded(name, takes[name]) for name in names])
    try:
        tuple(TopologicalSorter(takes).static_order())
        circular = False
    except CycleError:
        circular = True
    assert any(" → " in problem.message for problem in problems) is circular


_REGISTRY = builtin_registry()


def _loaded(name: str, takes: list[str]) -> Loaded:
    components = [
        {"name": "d", "type": "domain"},
        {"name": name, "type": "data-product", "properties": {"definition": "x"}},
        {"name": "port", "type": "output-port", "properties": {"description": "x"}},
        *(
            {
                "name": f"from {other}",
                "type": "input-port",
                "properties": {"description": "x", "product": other, "associated_output_port": "port"},
            }
            for other in takes
        ),
    ]
    value = {"apiVersion": "core.oam.dev/v1beta1", "kind": "DataProduct", "spec": {"components": components}}
    document = load_document(str(value))  # Python's repr of such values is YAML
    return Loaded(document, read_product(document, _REGISTRY))
