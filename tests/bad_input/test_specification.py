"""Documents nobody can mean: each answer names the file, the line, the value and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.bad_input.conftest import ORDERS, SPENDERS, replaced, tulle, written

DOCUMENT = f"{ORDERS}/product.yaml"

TAKES = """\
  - name: x
    type: input-port
    properties: {{description: x, product: {0}, associated_output_port: Files port of {0}, data_set: b}}
"""

FILES: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", ":1:1: the document is empty, expected a mapping with apiVersion, kind and components"),
    "a word": ("hello\n", ":1:1: the document is the text 'hello'"),
    "a list": ("- a\n- b\n", ":1:1: the document is a list of 2 entries"),
    "Latin-1": ("name: gesäubert\n".encode("latin-1"), ":1:10: byte 0xe4 is not UTF-8"),
    "UTF-16": ("name: x\n".encode("utf-16"), ":1:1: byte 0xff is not UTF-8"),
    "NUL": (b"\0" * 300, ":1:1: found a NUL character"),
    "Parquet": (b"PAR1" + bytes(range(256)) * 9, "is not UTF-8"),
    "a bomb of aliases": (
        "a: &a [1,1,1,1,1,1,1,1,1]\n"
        + "".join(f"{c}: &{c} [{','.join(['*' + chr(ord(c) - 1)] * 9)}]\n" for c in "bcdefghi"),
        "more than 200,000 values, aliases followed",
    ),
    "an alias of itself": ("a: &a\n  b: *a\n", ":2:6: '*a' is inside the value it refers to"),
    "deep": ("[" * 5000 + "]" * 5000, "nested deeper than 50 levels"),
    "a tag that runs": (
        "a: !!python/object/apply:os.system ['touch hurt']\n",
        "the tag '!!python/object/apply:os.system' is not allowed",
    ),
    "components as a mapping": (
        "apiVersion: core.oam.dev/v1beta1\nkind: DataProduct\nmetadata: {name: orders}\nspec:\n  components: {a: b}\n",
        ":5:15: 'components' in 'spec' is a mapping, expected a list of components",
    ),
    "components of words": (
        "apiVersion: core.oam.dev/v1beta1\nkind: DataProduct\nmetadata: {name: orders}\nspec:\n  components: [a, 1]\n",
        "'components[1]' in 'spec' is the number 1, expected a mapping",
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_no_document(folder: Path, kind: str) -> None:
    content, said = FILES[kind]
    path = written(folder, DOCUMENT, content)
    tulle(folder, "validate").refuses(f"{DOCUMENT}:", said)
    assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode())
    assert not (folder / "hurt").exists()
    assert not Path("hurt").exists()


def test_nothing_is_planned_or_applied_of_what_is_not_valid(folder: Path) -> None:
    written(folder, DOCUMENT, "hello\n")
    for command in ("plan", "apply"):
        tulle(folder, command).refuses(":1:1: the document is the text 'hello'")
    assert "not applied" in tulle(folder, "grants", "orders").text


# What is replaced in the document, by what, and what is said of it.
VALUES: dict[str, tuple[str, str, str]] = {
    "a name that is a path": (
        "name: orders  ",
        "name: ../../etc",
        "'../../etc', expected a name in kebab-case",
    ),
    "a name that is SQL": ("name: orders  ", 'name: "o; DROP TABLE x" ', "expected a name in kebab-case"),
    "a name of 500 letters": ("name: orders  ", f"name: {'o' * 500} ", f"'{'o' * 60}…', expected a name"),
    "a name of another alphabet": ("name: orders  ", "name: ördérs ", "'ördérs', expected a name"),
    "a column that is SQL": (
        "{name: ordered_on, type: date, description",
        "{name: 'a\"; DROP TABLE x --', type: date, description",
        "expected a name of letters, digits and underscores, such as customer_id",
    ),
    "a column without a name": (
        "{name: ordered_on, type: date, description",
        "{name: '', type: date, description",
        "'name' in 'columns[2]' in data-set 'orders' is empty text",
    ),
    "a column twice": (
        "{name: ordered_on, type: date, description",
        "{name: ORDER_ID, type: date, description",
        "upper and lower case count as the same",
    ),
    "a type nobody knows": (
        "type: date, description",
        "type: datetime2, description",
        "did you mean 'date'?",
    ),
    "a type that is a list": (
        "type: date, description",
        "type: [date], description",
        "is a list of 1 entry, expected",
    ),
    "a decimal too wide": (
        "'decimal(10,2)', description",
        "'decimal(99,2)', description",
        "write 'decimal(18,2)'",
    ),
    "a decimal turned round": (
        "'decimal(10,2)', description",
        "'decimal(2,10)', description",
        "the scale of 'decimal(2,10)' is larger than its precision",
    ),
    "values of another type": (
        "Who ordered, required",
        "Who ordered, enum: [1], required",
        "'enum' of column 'customer_id': '1' is no string",
    ),
    "a bound of another type": (
        "Who ordered, required",
        "Who ordered, min: 3, required",
        "'min' of column 'customer_id': '3' is no string",
    ),
    "bounds turned round": (
        "What was paid, ",
        "What was paid, min: 9, max: 3, ",
        "'max' (3) is less than 'min' (9)",
    ),
    "a pattern that is none": (
        "Who ordered, required",
        "Who ordered, pattern: '[a', required",
        "'[a' is no regular expression",
    ),
    "an objective out of reach": (
        "objective: 80",
        "objective: 180",
        "is the number 180, expected at most 100",
    ),
    "a window beyond time": (
        "window_days: 20",
        "window_days: 99999999999999999999",
        "expected at most 3660",
    ),
    "a cron that never fires": (
        "version: 0.1.0",
        "version: 0.1.0\n      schedule: {cron: '0 0 30 2 *'}",
        "cron '0 0 30 2 *' never fires",
    ),
    "a version that is a number": ("version: 0.1.0", "version: 1.0", "put it in quotes: '1.0'"),
    "its own output": (
        "  # What comes in.",
        TAKES.format("orders"),
        "the product takes its own output port: orders → orders",
    ),
    "a circle": (
        "  # What comes in.",
        TAKES.format("big-spenders"),
        "products may not take from each other in a circle: orders → big-spenders → orders",
    ),
}


@pytest.mark.parametrize("kind", VALUES)
def test_a_value_that_cannot_be_meant(folder: Path, kind: str) -> None:
    old, new, said = VALUES[kind]
    replaced(folder, DOCUMENT, old, new)
    tulle(folder, "validate").refuses(f"{DOCUMENT}:", said)


@pytest.mark.parametrize(
    "where", ["products", "products/finance", "products/finance/bills/2026", "products/a/b/c/d"]
)
def test_a_document_that_is_not_where_products_are(folder: Path, where: str) -> None:
    written(folder, f"{where}/product.yaml", (folder / DOCUMENT).read_text())
    tulle(folder, "validate").refuses(
        f"{where}/product.yaml is not read", "a product lies at products/<domain>/<product>/product.yaml"
    )


def test_a_name_that_is_taken_names_both_places(folder: Path) -> None:
    written(folder, "products/finance/orders/product.yaml", (folder / DOCUMENT).read_text())
    tulle(folder, "validate").refuses("is already taken at products/finance/orders/product.yaml:6:9")


def test_a_document_that_is_gone_is_missed_where_it_is_used(folder: Path) -> None:
    (folder / DOCUMENT).unlink()
    tulle(folder, "validate").refuses(
        f"{SPENDERS}/product.yaml:", "takes from the product 'orders', which does not exist"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("capability show output-prt", "did you mean 'output-port'?"),
        ("capability test nope.yaml", "there is no file nope.yaml"),
        ("export odcs nope", "there is no product 'nope' in the mesh"),
        ("export odps ordrs", "did you mean 'orders'?"),
        ("import odcs nope.yaml", "there is no file nope.yaml"),
        ("import odps nope.yaml", "there is no file nope.yaml"),
    ],
)
def test_a_word_that_names_nothing(folder: Path, words: str, said: str) -> None:
    tulle(folder, *words.split()).refuses(said)


EXAMPLE = "description: x\nexample: |\n  - {name: a, type: x-port, properties: {description: x}}\n"
CAPABILITIES: dict[str, tuple[str, str]] = {
    "nothing": ("", ":1:1: the document is empty, expected a mapping"),
    "no name": (f"extends: output-port\n{EXAMPLE}", "'capability' is missing"),
    "a path": (f"capability: ../x\nextends: output-port\n{EXAMPLE}", "'../x', expected a name in kebab-case"),
    "a case of nothing": (
        f"capability: x-port\nextends: output-prt\n{EXAMPLE}",
        "did you mean 'output-port'?",
    ),
    "a case of itself": (
        f"capability: x-port\nextends: x-port\n{EXAMPLE}",
        "name a type that is there without it",
    ),
    "composed of itself": (
        f"capability: x-port\ncompose:\n- {{name: a, type: x-port}}\n{EXAMPLE}",
        "capability 'x-port' is composed of itself",
    ),
    "a hole nothing fills": (
        f"capability: x-port\ncompose:\n- {{name: '${{nope}}', type: output-port}}\n{EXAMPLE}",
        "'${nope}' is filled by no property",
    ),
    "the name of another": (
        f"capability: output-port\nextends: input-port\n{EXAMPLE}",
        "is already registered by built-in",
    ),
    "a property of no type": (
        f"capability: x-port\nextends: output-port\nproperties: {{a: {{type: strng}}}}\n{EXAMPLE}",
        "x.yaml:3:17: the property 'a' is described by no JSON Schema: 'type' is 'strng'",
    ),
    "a file for a schema": (
        f"capability: x-port\nextends: output-port\nproperties: {{a: {{$ref: 'file:///etc/passwd'}}}}\n{EXAMPLE}",
        "x.yaml:3:17: the property 'a' is described by no JSON Schema",
    ),
}


@pytest.mark.parametrize("kind", CAPABILITIES)
def test_a_capability_that_cannot_be_meant(folder: Path, kind: str) -> None:
    content, said = CAPABILITIES[kind]
    written(folder, "capabilities/x.yaml", content)
    answer = tulle(folder, "validate")
    answer.refuses("capabilities/x.yaml:", said)
    assert "root:" not in answer.text
