"""The graph of a product's code: order, digests, and every problem with its place, all at once."""

from __future__ import annotations

import pytest
from tests.pipeline.conftest import Mesh

from tulle.errors import Invalid, NotFound
from tulle.pipeline.graph import ProductCode, load_code
from tulle.spec.capability import builtin_registry
from tulle.spec.load import load_document
from tulle.spec.oam import read_product


def code(mesh: Mesh, product: str = "sales") -> ProductCode:
    spec = mesh.spec()
    return load_code(spec.product(product), spec=spec)


def problems(mesh: Mesh, product: str = "sales") -> list[str]:
    prefix = "products/shop/sales/" if product == "sales" else "products/people/features/"
    return [str(p).replace(prefix, "") for p in code(mesh, product).problems]


def test_jobs_stand_after_their_inputs(mesh: Mesh) -> None:
    mesh.sales("transform/a_first.sql", "SELECT * FROM z_last")
    mesh.sales("transform/z_last.py", 'inputs = ["sales"]\ndef model(run):\n    return run.read("sales")\n')
    found = code(mesh)
    assert [(j.name, j.kind, j.inputs) for j in found.jobs] == [
        ("till_rows", "ingest", ()),
        ("sales", "sql", ("till_rows",)),
        ("z_last", "python", ("sales",)),
        ("a_first", "sql", ("z_last",)),
    ]
    assert found.problems == ()
    found.require_valid()
    (port, features) = code(mesh, "features").jobs
    assert (port.name, port.kind, port.upstream) == ("sold", "port", ("sales", "sales"))
    assert features.inputs == ("sold",)


def test_the_digest_follows_all_that_matters(mesh: Mesh) -> None:
    digests = [code(mesh).digest, code(mesh).digest]
    assert digests[0] == digests[1]
    mesh.sales("data/sales.csv", "other rows")  # data is no code
    assert code(mesh).digest == digests[0]
    for path, text in [
        ("transform/sales.sql", "SELECT id, customer, day, amount FROM till_rows WHERE id > 0"),
        ("checks/c.yaml", "checks: [{data_set: sales, type: row_count, min: 1}]"),
        ("checks/c.yaml", "checks: [{data_set: sales, type: row_count, min: 2}]"),
        ("transform/_shared.py", "x = 1"),
    ]:
        mesh.sales(path, text)
        digests.append(code(mesh).digest)
    assert len(set(digests[1:])) == 5


def test_checks_come_from_declarations_and_files(mesh: Mesh) -> None:
    mesh.sales("checks/c.yaml", "checks: [{data_set: sales, type: row_count, min: 1}]")
    names = [check.name for check in code(mesh).checks_of("sales")]
    assert names == [
        "id is part of the key",
        "customer is required",
        "id is the key",
        "the number of rows is at least 1",
    ]
    assert code(mesh).job("sales").file == "products/shop/sales/transform/sales.sql"
    with pytest.raises(NotFound, match="'sale'") as caught:
        code(mesh).job("sale")
    assert caught.value.hint == "did you mean 'sales'?"


def test_unknown_inputs_are_placed(mesh: Mesh) -> None:
    mesh.sales("transform/sales.sql", "SELECT id, customer, day, amount\nFROM till_row")
    mesh.sales("transform/more.py", "inputs = [\n  'till_rows', 'sale']\ndef model(run): ...\n")
    assert sorted(problems(mesh)) == [
        "transform/more.py:2:16: 'inputs' names the unknown data set 'sale' (did you mean 'sales'?)",
        "transform/sales.sql:2:6: unknown data set 'till_row' (did you mean 'till_rows'?)",
    ]
    with pytest.raises(Invalid, match="2 problems"):
        code(mesh).require_valid()


def test_circles_are_named(mesh: Mesh) -> None:
    mesh.sales("transform/a.sql", "SELECT * FROM c")
    mesh.sales("transform/b.sql", "SELECT * FROM a")
    mesh.sales("transform/c.sql", "SELECT * FROM b")
    mesh.sales("transform/self.sql", "SELECT * FROM self")
    found = problems(mesh)
    assert len(found) == 2
    rounds = {"a → b → c → a", "b → c → a → b", "c → a → b → c"}
    assert any(around in p for p in found for around in rounds)
    assert any("self → self" in p for p in found)
    assert len(code(mesh).jobs) == 6


def test_twice_made_and_never_made(mesh: Mesh) -> None:
    mesh.sales("transform/till_rows.sql", "SELECT 1 AS a")
    mesh.sales(
        "product.yaml",
        (mesh.folder / "products/shop/sales/product.yaml")
        .read_text()
        .replace("name: sales\n    type: data-set", "name: slaes\n    type: data-set")
        .replace("data_set: sales}", "data_set: slaes}"),
    )
    mesh.features("product.yaml", "")
    file = mesh.folder / "products/shop/sales/product.yaml"
    product = read_product(load_document(file, name="product.yaml"), builtin_registry(), file=file)
    messages = [p.message for p in load_code(product).problems]
    assert messages == [
        "data set 'till_rows' is made twice",
        "data set 'slaes' is declared, but nothing makes it",
    ]
    assert "did you mean 'sales'?" in str(load_code(product).problems[1].hint)


def test_a_product_that_is_only_documented_has_no_problems(mesh: Mesh) -> None:
    (mesh.folder / "products/people/features/transform/features.sql").unlink()
    text = (mesh.folder / "products/people/features/product.yaml").read_text()
    mesh.features("product.yaml", text[: text.index("  - name: from sales")])
    assert problems(mesh, "features") == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("def model(run): ...", "transform/m.py:1: the model does not say what it reads"),
        ("inputs = []", "transform/m.py:1: there is no function 'model'"),
        (
            "inputs = [x]\ndef model(run): ...",
            "transform/m.py:1:10: 'inputs' must be a list of names in quotes",
        ),
        ("inputs = open('x')\ndef model(run): ...", "transform/m.py:1:10: 'inputs' must be a list"),
        ("inputs = []\ndef model(): ...", "transform/m.py:2:1: 'model' must take exactly one argument"),
        ("inputs = []\ndef model(run)\n  pass", "transform/m.py:2:15: not Python: expected ':'"),
        ("inputs: list[str] = ['nothing']\ndef model(run): ...", "unknown data set 'nothing'"),
        ("x = '\0'", "transform/m.py"),
    ],
)
def test_python_is_read_not_run(mesh: Mesh, text: str, problem: str) -> None:
    mesh.sales("transform/m.py", text)
    assert problem in problems(mesh)[0]


def test_files_that_are_no_models(mesh: Mesh) -> None:
    mesh.sales("transform/Not A Name.sql", "SELECT 1 AS a")
    mesh.sales("transform/README.md", "SELECT")
    (mesh.folder / "products/shop/sales/transform/binary.sql").write_bytes(b"\xff\xfe")
    found = problems(mesh)
    assert len(found) == 2
    assert "'Not A Name' is no name for a data set" in found[0]
    assert "binary.sql:1:1: byte 0xff is not UTF-8" in found[1]


def test_reserved_names(mesh: Mesh) -> None:
    mesh.sales("transform/models.sql", "SELECT 1 AS a")
    mesh.sales("transform/publish.sql", "SELECT 1 AS a")
    assert problems(mesh) == [
        "transform/models.sql:1: a data set cannot be named 'models' (trained models of the product lie in that folder)",
        "transform/publish.sql:1: a data set cannot be named 'publish' (that is the name of a run's last step)",
    ]


def test_types_are_followed_through_sql(mesh: Mesh) -> None:
    mesh.sales("transform/sales.sql", "SELECT id, custmer AS customer, day, amount\nFROM till_rows")
    (found,) = problems(mesh)
    assert found.startswith("transform/sales.sql:1:12:")
    assert "custmer" in found

    mesh.sales(
        "transform/sales.sql", "SELECT CAST(id AS VARCHAR) AS id, customer, day AS dya, amount FROM till_rows"
    )
    assert [p.partition(" (")[0].removeprefix("product.yaml:") for p in problems(mesh)] == [
        "12:9: column 'id' of data set 'sales' is declared as integer, but transform/sales.sql gives string",
        "14:9: data set 'sales' declares column 'day', but transform/sales.sql gives none",
    ]


def test_types_are_followed_across_products(mesh: Mesh) -> None:
    mesh.features("transform/features.sql", "SELECT customer, sum(amuont) AS total FROM sold GROUP BY 1")
    (found,) = problems(mesh, "features")
    assert "transform/features.sql:1:22" in found
    assert "amuont" in found


def test_a_check_knows_the_columns(mesh: Mesh) -> None:
    mesh.sales("checks/c.yaml", "checks: [{data_set: till_rows, type: unique, columns: [idd]}]")
    assert problems(mesh) == [
        "checks/c.yaml:1:10: check 'idd is unique': data set 'till_rows' has no column 'idd' (did you mean 'id'?)"
    ]
