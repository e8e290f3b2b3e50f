"""What the gateway is told of a generation: how long it may take, and what may be asked twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.gateway.conftest import current_policy
from tests.serving.conftest import Mesh

from tulle.deploy.generations import managed
from tulle.errors import Broken
from tulle.gateway import service_keys
from tulle.serving import generation
from tulle.serving.access import Access, Keys
from tulle.serving.needs import Needs, needs_of
from tulle.state.db import now


class Product:
    """A product with one function."""

    name = "high-value-customers"

    def __init__(self, folder: Path) -> None:
        self.folder = folder


@pytest.mark.parametrize(
    ("more", "needs"),
    [
        ("", Needs(45.0, may_repeat=False)),
        ("retry: true", Needs(45.0)),
        ("timeout: 120, retry: true", Needs(135.0)),
        ("timeout: 1, retry: true", Needs(30.0)),
    ],
)
def test_a_function_has_the_time_it_may_take(mesh: Mesh, tmp_path: Path, more: str, needs: Needs) -> None:
    (tmp_path / "functions").mkdir()
    (tmp_path / "functions/f.py").write_text("def it():\n    return 1\n")
    properties = f"type: function, file: f.py, {more}".removesuffix(", ")
    text = f"service: abc\nendpoints:\n- {{name: it, {properties}}}\n"
    built = mesh.build(text, product=Product(tmp_path))
    assert needs_of(mesh.unpacked(built)) == needs


FAST = "{name: a, call: it, timeout: 2}"


@pytest.mark.parametrize(
    ("steps", "needs"),
    [
        (f"[{FAST}]", Needs(30.0)),
        ("[{name: a, call: it}]", Needs(55.0)),  # what the function may take, and a little more
        ("[{name: a, call: it, timeout: 20, retry: 2}]", Needs(65.0)),
        ("[{name: a, call: it, timeout: 20}, {name: b, call: it, timeout: 30}]", Needs(55.0)),
        (
            "[{name: p, parallel: [{name: a, call: it, timeout: 20}, {name: b, call: it, timeout: 40}]}]",
            Needs(45.0),
        ),
        (
            "[{name: p, switch: [{steps: [{name: a, call: it, timeout: 50}]}, {steps: [{name: v, value: 1}]}]}]",
            Needs(55.0),
        ),
        ("[{name: l, value: [1, 2]}, {name: m, map: $l, call: it, timeout: 10, most: 33}]", Needs(55.0)),
        (
            "[{name: g, retry: 1, steps: [{name: a, call: it, timeout: 20}, {name: b, call: it, timeout: 10}]}]",
            Needs(65.0),
        ),
        (
            "[{name: l, value: [1]}, {name: g, timeout: 15, map: $l, most: 30, steps: [{name: a, call: it}]}]",
            Needs(65.0),
        ),
        ("[{name: a, call: it, timeout: 600, retry: 5}, {name: b, call: it, timeout: 600}]", Needs(3600.0)),
    ],
)
def test_a_composition_has_the_time_of_its_steps(
    mesh: Mesh, tmp_path: Path, steps: str, needs: Needs
) -> None:
    (tmp_path / "functions").mkdir()
    (tmp_path / "functions/f.py").write_text("def it():\n    return 1\n")
    text = (
        "service: abc\nendpoints:\n- {name: it, type: function, file: f.py, timeout: 35, retry: true}\n"
        f"- {{name: all, type: compose, steps: {steps}, output: 1}}\n"
    )
    built = mesh.build(text, product=Product(tmp_path))
    found = needs_of(mesh.unpacked(built))
    assert found.may_repeat
    assert found.seconds == max(50.0, needs.seconds)  # the function alone may take 50


def test_lookups_have_the_usual_ones(lookups_folder: Path, tmp_path: Path) -> None:
    assert needs_of(lookups_folder) == Needs()
    with pytest.raises(Broken):
        needs_of(tmp_path)


def test_who_may_call_goes_from_the_file_through_the_package_to_the_gateway(mesh: Mesh) -> None:
    lookup = (
        "{name: a, type: lookup, product: customer-features, data_set: customer_features, key: customer_id}"
    )
    text = f"service: told\naccess: {{api_keys: {{limit: 7/1s}}}}\nendpoints:\n- {lookup}\n"
    built = mesh.build(text)
    needs = needs_of(mesh.unpacked(built))
    assert needs.access == Access(contracts=False, api_keys=Keys("7/1s"))
    generation.request(mesh.database, "told", built.version)
    made = service_keys.create(mesh.database, "told", label="x").key
    found = generation.deployment(mesh.database, "told")
    service = managed(mesh.settings, found, found.desired, needs, now())
    policy = current_policy(mesh.database, [service])
    assert [(c.client_id, str(c.limit)) for c in policy.contracts] == [(made.id, "7/1s")]
    # a package that says nothing has the digest it always had
    usual = mesh.build(text.replace("access: {api_keys: {limit: 7/1s}}\n", ""))
    assert usual.manifest.access == {}
    assert usual.digest != built.digest
