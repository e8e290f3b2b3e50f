"""Columns that were followed once: taken again as long as nothing that decides them is another, and only then."""

from __future__ import annotations

import json

import pytest
from tests.pipeline.conftest import SALES, Mesh

from tulle.engine.duck import Describing
from tulle.pipeline.columns import Derived, derive_columns
from tulle.pipeline.columns_file import _MOST, ColumnsFile
from tulle.pipeline.graph import load_code


class Followed:
    """Which statements the engine was asked about."""

    def __init__(self, mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
        self.mesh, self.asked = mesh, 0
        followed = Describing.columns

        def columns(engine, sql, *, file=""):
            self.asked += 1
            return followed(engine, sql, file=file)

        monkeypatch.setattr(Describing, "columns", columns)

    def derive(self, product: str = "sales") -> tuple[Derived, int]:
        """The columns, and how many statements the engine was asked about for them."""
        spec = self.mesh.spec()
        self.asked = 0
        code = load_code(spec.product(product), spec=spec)
        asked = self.asked
        derived, _ = derive_columns(code.jobs, code.product, spec, code.macros)
        return derived, asked


@pytest.fixture
def followed(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> Followed:
    mesh.spec().settings.state_folder.mkdir()
    return Followed(mesh, monkeypatch)


def test_the_second_time_nothing_is_followed(followed: Followed) -> None:
    first, asked = followed.derive()
    assert asked == 1
    assert [c.type for c in first["sales"] or ()] == ["integer", "string", "date", "decimal(10,2)"]
    assert followed.derive() == (first, 0)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("transform/sales.sql", "SELECT id, customer, day, amount FROM till_rows WHERE id > 0"),
        ("macros/m.sql", "CREATE MACRO double(x) AS x * 2;"),
        ("product.yaml", SALES.replace("amount, type: 'decimal(10,2)'", "amount, type: 'decimal(11,2)'")),
        ("product.yaml", SALES.replace("{name: customer}", "{name: customer, type: integer}")),
    ],
)
def test_what_decides_them_has_them_followed_again(followed: Followed, path: str, text: str) -> None:
    before, _ = followed.derive()
    mended = path == "product.yaml" and "decimal(11" in text
    followed.mesh.sales(path, text)
    after, asked = followed.derive()
    assert asked == 1
    assert followed.derive() == (after, 0)
    assert (after == before) == (path != "product.yaml")
    assert mended == (("amount", "decimal(11,2)") in [(c.name, c.type) for c in after["sales"] or ()])


def test_another_products_declaration_has_them_followed_again(followed: Followed) -> None:
    followed.derive("features")
    assert followed.derive("features")[1] == 0
    followed.mesh.sales(
        "product.yaml", SALES.replace("{name: customer, type: string", "{name: customer, type: integer")
    )
    derived, asked = followed.derive("features")
    assert asked == 1
    assert derived["features"][0].type == "integer"  # type: ignore[index]


def test_what_is_wrong_is_told_each_time(followed: Followed) -> None:
    followed.mesh.sales("transform/sales.sql", "SELECT id, custmer AS customer, day, amount FROM till_rows")
    spec = followed.mesh.spec()
    for _ in range(2):
        code = load_code(spec.product("sales"), spec=spec)
        assert [problem.message for problem in code.problems]
        assert not (spec.settings.run_folder / "columns").exists()


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"%s": 1}', '{"%s": {"sales": [["id"]]}}', '{"%s": {"sales": 3}}']
)
def test_a_file_that_is_damaged_counts_as_none(followed: Followed, text: str) -> None:
    first, _ = followed.derive()
    (file,) = (followed.mesh.spec().settings.run_folder / "columns").iterdir()
    (digest,) = json.loads(file.read_text())
    file.write_text(text.replace("%s", digest))
    assert followed.derive() == (first, 1)
    assert followed.derive() == (first, 0)


def test_a_mesh_nothing_was_written_for_is_left_alone(followed: Followed) -> None:
    state = followed.mesh.spec().settings.state_folder
    state.rmdir()
    assert followed.derive()[1] == 1
    assert not state.exists()


def test_a_few_are_kept(followed: Followed) -> None:
    spec = followed.mesh.spec()
    kept = ColumnsFile(spec, "sales")
    for number in range(_MOST + 3):
        kept.put(str(number), {"sales": None})
    kept = ColumnsFile(spec, "sales")
    assert kept.get("2") is None
    assert kept.get("3") == {"sales": None}
