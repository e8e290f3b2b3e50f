"""`tulle test`: of one product, of several, of all; and never of none in silence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.control.conftest import fill
from tests.pipeline.conftest import Mesh

from tulle.cli.main import cli
from tulle.errors import Invalid

TEST = """\
- name: {name}
  model: {model}
  given: {{{given}: [{{customer: ann, amount: 1}}]}}
  expect: [{{customer: {expected}, total: 1}}]
"""


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    return fill(Mesh(tmp_path / "mesh"))


def tulle(mesh: Mesh, *words: str) -> Result:
    return CliRunner().invoke(cli, ["--mesh", str(mesh.folder), "test", *words])


def _tests(mesh: Mesh, *expected: str) -> None:
    items = [
        TEST.format(name=f"test {n}", model="features", given="sold", expected=one)
        for n, one in enumerate(expected)
    ]
    mesh.features("tests/some.yaml", "".join(["tests:\n", *items]))


def test_of_one_of_several_and_of_all(mesh: Mesh) -> None:
    _tests(mesh, "ann")
    for words, names in (
        ([], {"sales", "features"}),
        (["features"], {"features"}),
        (["features", "sales"], {"sales", "features"}),
    ):
        done = tulle(mesh, *words, "--json")
        assert done.exit_code == 0, done.output
        assert set(json.loads(done.output)) == names
    assert tulle(mesh, "features", "sales", "--select", "features").exit_code == 2


def test_all_that_failed_are_named(mesh: Mesh) -> None:
    _tests(mesh, *["bob"] * 12)
    failed = tulle(mesh).exception
    assert isinstance(failed, Invalid)
    named = "; ".join(f"features: test {n}" for n in range(10))
    assert failed.message == f"12 tests failed: {named}; and 2 more"


def test_documents_with_problems_are_no_tests_that_passed(mesh: Mesh) -> None:
    mesh.sales("product.yaml", "a: b: c")
    failed = tulle(mesh).exception
    assert isinstance(failed, Invalid)
    assert failed.message == "nothing is tested: the mesh's documents have problems"
    assert str(failed.problems[0].place).startswith("products/shop/sales/product.yaml")
