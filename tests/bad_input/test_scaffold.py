"""Names and files that no product can be made of: what is wrong is said, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.bad_input.conftest import ORDERS, tulle, written

ODCS = "apiVersion: v3.0.2\nkind: DataContract\nid: x\nversion: 1.0.0\nstatus: active\n"


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if ".tulle" not in path.parts}


# The words after `tulle new product`, the exit code, and what is said.
WORDS: dict[str, tuple[list[str], int, str]] = {
    "no name": ([], 2, "Missing argument 'NAME'"),
    "no domain": (["bills"], 2, "Missing option '--domain'"),
    "a name that is taken": (["orders", "--domain", "sales"], 1, "products/sales/orders exists already"),
    "capitals": (["Bills", "--domain", "sales"], 1, "for example bills"),
    "a path": (["../evil", "--domain", "sales"], 1, "'../evil' is no name for a product"),
    "an option": (["--domain", "sales", "--", "-rf"], 1, "'-rf' is no name for a product"),
    "another alphabet": (["naïve", "--domain", "sales"], 1, "for example naive"),
    "a name without end": (["b" * 500, "--domain", "sales"], 1, f"'{'b' * 60}…' is no name for a product"),
    "a domain that is a path": (["bills", "--domain", "../../x"], 1, "'../../x' is no name for a domain"),
    "no domain's name": (["bills", "--domain", ""], 1, "use 1 to 63 lower-case letters, digits and hyphens"),
    "a domain of two words": (["bills", "--domain", "Sales Team"], 1, "write 'sales-team'"),
    "a domain without end": (["bills", "--domain", "s" * 5000], 1, f"'{'s' * 60}…' is no name for a domain"),
    "a kind nobody knows": (
        ["bills", "--domain", "sales", "--kind", "agregate"],
        2,
        "'agregate' is not one of",
    ),
    "a product nobody has": (
        ["bills", "--domain", "sales", "--kind", "aggregate", "--from", "ordrs"],
        1,
        "did you mean 'orders'?",
    ),
    "a source of a source": (["bills", "--domain", "sales", "--from", "orders"], 1, "use the kind aggregate"),
    "a connection nobody made": (
        ["bills", "--domain", "sales", "--from-table", "shop", "public.orders"],
        1,
        "there is no connection 'shop'",
    ),
    "two origins": (
        ["bills", "--domain", "sales", "--from", "orders", "--from-table", "shop", "orders"],
        1,
        "a product is made of one thing",
    ),
    "a contract that is not there": (
        ["bills", "--domain", "sales", "--from-odcs", "no.yaml"],
        1,
        "no file no.yaml",
    ),
    "a project that is not there": (
        ["bills", "--domain", "sales", "--from-dbt", "nowhere"],
        1,
        "no file nowhere",
    ),
}


@pytest.mark.parametrize("kind", WORDS)
def test_words_that_make_no_product(folder: Path, kind: str) -> None:
    words, code, said = WORDS[kind]
    before = files(folder)
    tulle(folder, "new", "product", *words).refuses(said, code=code)
    assert files(folder) == before


CONTRACTS: dict[str, tuple[str | bytes, str]] = {
    "nothing": ("", ":1:1: the document is empty, expected a mapping"),
    "half a list": ("a: [1\n", ":1:4: the list that starts here with '[' is not closed"),
    "bytes": (b"\xff\xfe\x00", ":1:1: byte 0xff is not UTF-8"),
    "a version nobody wrote": (
        "apiVersion: v9.9.9\nkind: DataContract\n",
        "'apiVersion' is the text 'v9.9.9'",
    ),
    "a schema that is a word": (
        f"{ODCS}schema: hello\n",
        ":6:9: 'schema' is the text 'hello', expected a list",
    ),
    "a type nobody knows": (
        f"{ODCS}schema:\n- name: t\n  properties:\n  - {{name: a, logicalType: strung}}\n",
        "did you mean 'string'?",
    ),
}


@pytest.mark.parametrize("kind", CONTRACTS)
def test_a_contract_that_is_none(folder: Path, kind: str) -> None:
    content, said = CONTRACTS[kind]
    contract = written(folder, "contract.yaml", content)
    before = files(folder)
    words = ["--domain", "sales", "--from-odcs", str(contract)]
    tulle(folder, "new", "product", "bills", *words).refuses("contract.yaml", said)
    assert files(folder) == before


def test_names_of_a_contract_become_names_of_files_only_in_the_product(folder: Path) -> None:
    hostile = f"{ODCS}schema:\n- name: ../../t\n  properties:\n  - {{name: 'a; DROP', logicalType: string}}\n"
    contract = written(folder, "contract.yaml", hostile)
    before = files(folder)
    assert (
        tulle(folder, "new", "product", "bills", "--domain", "sales", "--from-odcs", str(contract)).code == 0
    )
    made = files(folder) - before
    assert made
    assert all(path.is_relative_to(folder / "products/sales/bills") for path in made)
    assert tulle(folder, "validate").code == 0


PROJECTS: dict[str, tuple[str, str | bytes, str]] = {
    "no project": ("dbt/models/a.sql", "SELECT 1", "dbt_project.yml is missing"),
    "half a project": ("dbt/dbt_project.yml", "name: [", "this is not YAML that can be read"),
    "an empty project": ("dbt/dbt_project.yml", "", "dbt_project.yml is no mapping of names to values"),
}


@pytest.mark.parametrize("kind", PROJECTS)
def test_a_project_that_is_none(folder: Path, kind: str) -> None:
    file, content, said = PROJECTS[kind]
    written(folder, file, content)
    before = files(folder)
    words = ["--domain", "sales", "--from-dbt", str(folder / "dbt")]
    tulle(folder, "new", "product", "bills", *words).refuses("cannot be taken over", said)
    assert files(folder) == before


@pytest.mark.parametrize("text", ["", "{", "[]", '{"nodes": 3}', '{"nodes": {"model.x": 3}}', "models: 7\n"])
def test_a_manifest_that_describes_nothing(folder: Path, text: str) -> None:
    manifest = written(folder, "target/manifest.json", text)
    before = files(folder)
    words = ["--domain", "sales", "--from-dbt", str(manifest)]
    tulle(folder, "new", "product", "bills", *words).refuses("manifest.json")
    assert files(folder) == before


RECORDS = {
    "half of it": ("template: [a", "the list that starts here with '[' is not closed"),
    "another one": ("template: nope\n", "'answers' is missing"),
    "nothing": ("", "the document is empty"),
}


@pytest.mark.parametrize("kind", RECORDS)
def test_what_a_template_left_behind_is_spoilt(folder: Path, kind: str) -> None:
    content, said = RECORDS[kind]
    written(folder, f"{ORDERS}/.tulle-template.yaml", content)
    document = (folder / ORDERS / "product.yaml").read_text()
    tulle(folder, "product", "update-template", "orders").refuses(".tulle-template.yaml", said)
    assert (folder / ORDERS / "product.yaml").read_text() == document


def test_a_mesh_is_not_made_over_another(folder: Path) -> None:
    before = (folder / "mesh.yaml").read_text()
    tulle(folder, "init", str(folder)).refuses("mesh.yaml exists already")
    tulle(folder, "init", str(folder / "mesh.yaml")).refuses("is a file", code=2)
    assert (folder / "mesh.yaml").read_text() == before


def test_where_no_mesh_is(tmp_path: Path) -> None:
    for words in (["validate"], ["plan"], ["run"], ["new", "product", "bills", "--domain", "sales"]):
        tulle(tmp_path, *words).refuses(
            "is not a mesh: it has no mesh.yaml", "make a mesh here with 'tulle init'"
        )
    assert list(tmp_path.iterdir()) == []
