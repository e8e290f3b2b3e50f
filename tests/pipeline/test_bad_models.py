"""Models that are wrong, each told at its place with what to do next, and nothing published by any of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.pipeline.conftest import SALES, Mesh, World

from tulle.pipeline.graph import load_code

HERE = "products/shop/sales/transform"

# File, text, what is said first, and a part of the hint.
WRONG = {
    "no SQL": (
        "a.sql",
        "SELECT id,\nFROM FROM till_rows",
        "a.sql:2:6: ",
        "",
    ),
    "never closed": (
        "a.sql",
        "SELECT (id\nFROM till_rows",
        "a.sql:2:1: ",
        "",
    ),
    "two statements": (
        "a.sql",
        "SELECT 1 AS a;\nDROP TABLE x",
        "a.sql:1: expected one SELECT, found 2 statements",
        "",
    ),
    "nothing": ("a.sql", "-- only words\n", "a.sql:1: expected one SELECT, found no statement", ""),
    "no reading": (
        "a.sql",
        "DELETE FROM till_rows",
        "a.sql:1: expected one SELECT, found DELETE",
        "a model only reads",
    ),
    "an unknown name": (
        "a.sql",
        "SELECT id\nFROM till_row",
        "a.sql:2:6: unknown data set 'till_row'",
        "did you mean 'till_rows'?",
    ),
    "an unknown column": (
        "a.sql",
        "SELECT\n  custmer\nFROM till_rows",
        'a.sql:2:3: Referenced column "custmer" not found in FROM clause!',
        "customer",
    ),
    "a file": (
        "a.sql",
        "SELECT * FROM '/etc/passwd'",
        "a.sql:1:15: '/etc/passwd' would read a file",
        "input port",
    ),
    "a function that reads": (
        "a.sql",
        "SELECT * FROM read_csv('/etc/passwd')",
        "a.sql:1:15: the table function 'read_csv' may not be used",
        "input ports",
    ),
    "a circle": (
        "till_rows2.sql",
        "SELECT * FROM till_rows2",
        "data sets are made from each other",
        "elsewhere",
    ),
    "two of one name": (
        "sales.py",
        "inputs = []\ndef model(run): ...",
        "data set 'sales' is made twice",
        "makes it",
    ),
    "a kind there is not": (
        "a.sql",
        "-- kind: tabel\nSELECT id FROM till_rows",
        "a.sql:1:4: 'kind' is 'tabel', expected table, incremental, view, snapshot",
        "did you mean 'table'?",
    ),
    "no key": (
        "a.sql",
        "-- kind: incremental\n-- strategy: merge\nSELECT id FROM till_rows",
        "a.sql:1:4: strategy 'merge' needs 'key'",
        "a new row replaces",
    ),
    "a list as a column": (
        "a.sql",
        "SELECT [id] AS ids FROM till_rows",
        "a.sql: column 'ids' has type BIGINT[], which a data set cannot hold",
        "cast it",
    ),
    "two columns of one name": (
        "a.sql",
        "SELECT id, customer AS ID FROM till_rows",
        "a.sql: two columns are named 'ID'",
        "name them apart",
    ),
    "no Python": ("a.py", "inputs = []\ndef model(run)\n  pass", "a.py:2:15: not Python: expected ':'", ""),
    "no inputs": ("a.py", "def model(run): ...", "a.py:1: the model does not say what it reads", "inputs = "),
    "a Python view": (
        "a.py",
        "inputs = []\nkind = 'view'\ndef model(run): ...",
        "a Python model cannot be a view",
        "SQL",
    ),
}


@pytest.mark.parametrize(("file", "text", "said", "hint"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_told_before_anything_runs(
    mesh: Mesh, file: str, text: str, said: str, hint: str
) -> None:
    mesh.sales(f"transform/{file}", text)
    spec = mesh.spec()
    found = load_code(spec.product("sales"), spec=spec).problems
    told = [problem for problem in found if said in str(problem)]
    assert told, list(map(str, found))
    assert hint in str(told[0].hint or "")
    assert told[0].place is not None
    assert told[0].place.file.startswith("products/shop/sales/")


# What only shows when it runs: file, text, place, what is said.
FAILING = {
    "a value that does not fit": (
        "a.sql",
        "SELECT id,\n  CAST(customer AS INTEGER) AS n\nFROM till_rows",
        "a.sql:2:3",
        "Could not convert string 'ann'",
    ),
    "an error inside": (
        "a.py",
        "def model(run):\n    return 1 / 0",
        "a.py:3",
        "ZeroDivisionError: division by zero",
    ),
    "an end inside": ("a.py", "def model(run):\n    raise SystemExit(3)", "a.py:3", "SystemExit: 3"),
    "an error while it is loaded": (
        "a.py",
        "import no_such_module\ndef model(run): ...",
        "a.py:2",
        "No module named",
    ),
    "nothing is returned": ("a.py", "def model(run):\n    pass", "a.py:1", "model() returned nothing"),
    "nonsense is returned": (
        "a.py",
        "def model(run):\n    return {'a': [1]}",
        "a.py:1",
        "model() returned a value of type dict",
    ),
    "a column that cannot be kept": (
        "a.py",
        "import pyarrow as pa\ndef model(run):\n    return pa.table({'a': [[1]]})",
        "a.py",
        "column 'a' has type list",
    ),
    "an input it did not name": (
        "a.py",
        "def model(run):\n    return run.read('till')",
        "a.py:3",
        "the model reads 'till', which is not among its inputs",
    ),
}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A mesh with published sales, for all that fails later."""
    mesh = Mesh(tmp_path_factory.mktemp("bad") / "mesh")
    mesh.sales("product.yaml", SALES)
    mesh.sales("data/sales.csv", "id,customer,day,amount\n1,ann,01.02.2020,10.50\n")
    mesh.sales("transform/sales.sql", "SELECT id, customer, day, amount FROM till_rows\n")
    world = World(mesh)
    assert world.run("sales").status == "succeeded"
    yield world
    world.database.close()


@pytest.mark.parametrize(("file", "text", "place", "said"), FAILING.values(), ids=FAILING)
def test_what_fails_while_it_runs_is_told_at_its_line(
    published: World, file: str, text: str, place: str, said: str
) -> None:
    before = published.lake.repository("sales").resolve("main")
    text = f"inputs = ['till_rows']\n{text}" if file.endswith(".py") else text
    model = published.mesh.sales(f"transform/{file}", text)
    try:
        run = published.run("sales")
    finally:
        model.unlink()
    assert run.status == "failed"
    assert said in str(run.error), run.error
    (problem,) = run.error["problems"]
    found = ":".join(str(part) for part in problem["place"].values() if part)
    assert found.startswith(f"{HERE}/{place}")
    assert published.lake.repository("sales").resolve("main") == before
