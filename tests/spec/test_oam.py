"""The document around the components, and their two forms."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.spec.conftest import HEAD, a_product, problems_of

from tulle.errors import Invalid, Place
from tulle.spec.capability import builtin_registry
from tulle.spec.load import load_document
from tulle.spec.oam import read_product

A_NAME = "a name in kebab-case of 3 to 63 characters, such as customer-features"
SEED = Path(__file__).parent / "seed_product.yaml"


def messages(text: str) -> list[str]:
    return [p.message for p in problems_of("", text)]


def test_a_small_document() -> None:
    product = a_product()
    assert (product.name, product.title, product.domain) == ("purchases", "purchases", "sales")
    assert (product.classification, product.certified, product.product_type) == ("internal", False, "")


@pytest.mark.parametrize("text", ["", "- a\n", "just text\n", "{}\n"])
def test_what_is_no_document_at_all(text: str) -> None:
    assert messages(text)


def test_the_envelope() -> None:
    found = messages("apiVersion: v1\nkin: DataProduct\nmetadata: {name: A b}\nspec: {componets: []}\n")
    assert found == [
        "'apiVersion' is the text 'v1', expected 'core.oam.dev/v1beta1'",
        "unknown property 'kin'",
        f"'name' in 'metadata' is the text 'A b', expected {A_NAME}",
        "the document has no components",
        "unknown property 'componets' in 'spec'",
    ]


def test_components_in_both_places() -> None:
    assert "'components' is given twice: here and under 'spec'" in messages(HEAD + "components: []\n")


def test_an_unknown_type_is_read_as_the_one_it_resembles() -> None:
    found = problems_of("  - {name: p, type: output-prt, properties: {descripton: x}}\n")
    assert [(p.message, p.hint) for p in found] == [
        ("unknown component type 'output-prt'", "did you mean 'output-port'?"),
        ("unknown property 'descripton' in output-prt 'p'", "did you mean 'description'?"),
    ]
    (found,) = problems_of("  - {name: p, type: zzz}\n")
    assert found.hint
    assert found.hint.startswith("known: ")


def test_components_that_are_none() -> None:
    found = problems_of("  - 5\n  - {type: data-set}\n  - {name: 7, type: 8}\n  - {name: x}\n")
    assert [p.place.line for p in found if p.place] == [7, 8, 9, 9, 10]


def test_properties_may_be_empty_missing_or_a_placeholder() -> None:
    for written in ("", ", properties: ", ", properties: {}", ", properties: ..."):
        head = HEAD.replace("{name: sales, type: domain}", f"{{name: sales, type: domain{written}}}")
        assert a_product("", head).domain == "sales"
    found = problems_of("  - {name: d, type: data-set, properties: ...}\n")
    assert [p.message for p in found] == ["'description' is missing in data-set 'd'"]
    found = problems_of("  - {name: d, type: data-set, properties: [a]}\n")
    assert "'properties' in 'spec.components[2]' is a list of 1 entry, expected a mapping" in found[0].message


def test_the_value_form_keeps_the_place_of_the_value() -> None:
    text = "  - name: d\n    type: data-set\n    properties:\n      description:\n        value: 7\n"
    text += "      tags: {value: [a, 1]}\n"
    found = problems_of(text)
    assert [p.place for p in found] == [Place("product.yaml", 11, 16), Place("product.yaml", 12, 25)]


def test_only_a_lone_value_is_unwrapped() -> None:
    text = "  - {name: d, type: data-set, properties: {description: {value: x, note: y}}}\n"
    assert "is a mapping, expected text" in problems_of(text)[0].message


def test_a_300_line_document_is_quick() -> None:
    column = (
        "      - {name: c%d, type: string, description: What the column means, required: true, pii: none}\n"
    )
    text = "  - name: d\n    type: data-set\n    properties:\n      description: x\n      columns:\n"
    text = HEAD + text + "".join(column % n for n in range(290))
    registry = builtin_registry()
    spent = []
    for _ in range(5):
        started = time.perf_counter()
        product = read_product(load_document(text), registry)
        spent.append(time.perf_counter() - started)
    assert len(product.data_sets[0].columns) == 290
    assert min(spent) < 0.5  # measured 0.013 s; a bound that only a change of order breaks


_LINES = SEED.read_text().splitlines(keepends=True)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_document_is_never_more_than_invalid(data: st.DataObject) -> None:
    """Lines dropped, doubled, swapped, or with a word replaced: a product, or Invalid with places."""
    lines = list(_LINES)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(lines) - 1))
        match data.draw(st.sampled_from(["drop", "double", "indent", "replace"])):
            case "drop" if len(lines) > 1:
                del lines[at]
            case "double":
                lines.insert(at, lines[at])
            case "indent":
                lines[at] = " " * data.draw(st.integers(1, 6)) + lines[at]
            case _:
                word = data.draw(
                    st.sampled_from(["[]", "{}", "no", "5", "''", "~", "{value: {value: 1}}", "x" * 300])
                )
                lines[at] = lines[at].split(":")[0].rstrip("\n") + f": {word}\n"
    problems = _problems("".join(lines))
    assert all(p.place and p.message for p in problems)


def _problems(text: str) -> tuple[object, ...]:
    try:
        read_product(load_document(text, name="f"), builtin_registry())
    except Invalid as error:
        assert error.problems, error.message
        return error.problems
    return ()
