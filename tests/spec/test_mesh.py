"""A mesh folder: settings with places, products connected, everything wrong at once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.spec.conftest import WriteProduct

from tulle.config import Warehouse
from tulle.errors import Invalid, NotFound, Place, Problem
from tulle.spec.mesh import find_mesh, load_mesh, load_settings
from tulle.spec.template_text import MESH


def problems_of(mesh: Path) -> list[Problem]:
    with pytest.raises(Invalid) as caught:
        load_mesh(mesh)
    return list(caught.value.problems)


# ── settings ────────────────────────────────────────


def test_settings(mesh: Path) -> None:
    (mesh / "mesh.yaml").write_text("name: acme\ngateway_port: 9000\nwarehouses:\n  sales: {threads: 4}\n")
    settings = load_settings(mesh, {"TULLE_DESCRIPTION": "ours"})
    assert (settings.name, settings.gateway_port, settings.description) == ("acme", 9000, "ours")
    assert settings.warehouse_of("sales") == Warehouse(threads=4)
    assert settings.folder == mesh.resolve()
    (mesh / "mesh.yaml").write_text("# all defaults\n")
    assert load_settings(mesh, {}).name == "mesh"


def test_every_wrong_setting_at_its_place(mesh: Path) -> None:
    (mesh / "mesh.yaml").write_text(
        "name: 5\n"
        "gatway_port: 1\n"
        "control_plane_port: 8000\n"
        "description:\n"
        "warehouses:\n"
        "  sales: {thread: 2, memory: 1GB}\n"
        "  hr: {threads: 0}\n"
        "warehouse: 3\n"
        "trusted_proxies: [127.0.0.1, 10.0.0.300]\n"
    )
    with pytest.raises(Invalid) as caught:
        load_settings(mesh, {})
    found = caught.value.problems
    assert [p.place.line for p in found if p.place] == [1, 2, 3, 4, 6, 7, 8, 9]
    assert found[-1].message == "'trusted_proxies' has '10.0.0.300', which is no address or network"
    assert found[1].message == "unknown setting 'gatway_port'"
    assert found[1].hint == "did you mean 'gateway_port'?"
    assert found[1].place == Place("mesh.yaml", 2, 1)
    assert found[4].place == Place("mesh.yaml", 6, 11)
    assert found[4].message == "unknown setting 'thread' in 'warehouses.sales'"


def test_settings_that_are_none(mesh: Path) -> None:
    (mesh / "mesh.yaml").write_text("- a\n")
    with pytest.raises(Invalid) as caught:
        load_settings(mesh, {})
    assert caught.value.problems[0].message == "mesh.yaml must be a mapping of settings to values"
    (mesh / "mesh.yaml").write_text("a: b: c\n")
    with pytest.raises(Invalid):
        load_settings(mesh, {})


def test_a_wrong_environment_variable_has_no_place(mesh: Path) -> None:
    with pytest.raises(Invalid) as caught:
        load_settings(mesh, {"TULLE_GATEWAY_PORT": "name"})
    (problem,) = caught.value.problems
    assert problem.message.startswith("TULLE_GATEWAY_PORT is 'name'")
    assert problem.place is None


def test_the_mesh_is_found_from_below(mesh: Path) -> None:
    below = mesh / "products" / "sales"
    below.mkdir(parents=True)
    assert find_mesh(below) == mesh.resolve()


def test_no_mesh(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"there is no mesh\.yaml") as caught:
        find_mesh(tmp_path)
    assert "tulle init" in (caught.value.hint or "")
    with pytest.raises(NotFound, match="is not a mesh"):
        load_settings(tmp_path)
    (tmp_path / "mesh.yml").write_text("")
    with pytest.raises(NotFound) as caught:
        load_settings(tmp_path)
    assert caught.value.hint == "rename mesh.yml to mesh.yaml"


# ── products ────────────────────────────────────────


def test_products_in_order_and_their_neighbours(mesh: Path, write_product: WriteProduct) -> None:
    write_product("aaa", takes=["bbb", "ccc"])
    write_product("bbb", domain="hr", takes=["ccc"])
    write_product("ccc")
    spec = load_mesh(mesh)
    assert [p.name for p in spec.products] == ["aaa", "bbb", "ccc"]
    assert [p.name for p in spec.order()] == ["ccc", "bbb", "aaa"]
    assert [p.name for p in spec.upstream("aaa")] == ["bbb", "ccc"]
    port = spec.product("bbb").input_ports[0]
    assert (port.product, port.associated_output_port, port.data_set) == ("ccc", "port-of-ccc", "ccc")
    found = spec.source_of(port)
    assert found
    assert (found[0].name, found[1].title) == ("ccc", "Port of ccc")
    assert spec.product("aaa").folder == mesh.resolve() / "products" / "sales" / "aaa"
    assert spec.product("aaa").place == Place("products/sales/aaa/product.yaml", 7, 5)
    with pytest.raises(NotFound, match="no product 'aab'") as caught:
        spec.product("aab")
    assert caught.value.hint == "did you mean 'aaa'?"


def test_an_empty_mesh(mesh: Path) -> None:
    spec = load_mesh(mesh)
    assert spec.products == spec.order() == ()
    with pytest.raises(NotFound) as caught:
        spec.product("x")
    assert "tulle new product" in (caught.value.hint or "")


def test_problems_of_all_files_at_once(mesh: Path, write_product: WriteProduct) -> None:
    write_product("aaa", more="  - {name: x, type: output-prt}\n")
    write_product("bbb", takes=["aaa"])  # what is broken is not called missing
    write_product("ccc").write_text("a: b: c")
    (mesh / "products" / "product.yaml").write_text("")
    (mesh / "products" / "sales" / "ddd").mkdir()
    (mesh / "products" / "sales" / "ddd" / "product.yml").write_text("")
    found = problems_of(mesh)
    assert [p.message for p in found[:2]] == [
        "products/product.yaml is not read",
        "products/sales/ddd/product.yml is not read",
    ]
    assert {p.place.file for p in found if p.place} == {
        "products/sales/aaa/product.yaml",
        "products/sales/ccc/product.yaml",
    }


def test_what_a_new_mesh_suggests_in_comments_is_right(tmp_path: Path) -> None:
    text = MESH.replace("$name", "m")
    said = re.sub(r"^# (?=(?:  )*[a-z_]+: ?[\[{]|[a-z]+:$)", "", text, flags=re.MULTILINE)
    (tmp_path / "mesh.yaml").write_text(said)
    settings = load_settings(tmp_path, {})
    assert settings.warehouses["sales"].threads == 4
    assert settings.object_stores == ("s3://my-bucket/prefix/",)
    assert (settings.environments["dev"].fallback, settings.environments["prod"].after) == ("prod", "dev")
