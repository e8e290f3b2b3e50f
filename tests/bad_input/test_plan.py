"""Plans that were spoilt, that are another's or that are old: nothing of them is carried out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.bad_input.conftest import ORDERS, Built, tulle

from tulle.state import products

DOCUMENT = f"{ORDERS}/product.yaml"


@pytest.fixture
def planned(built: Built) -> Iterator[tuple[Built, Path]]:
    """A change that is planned, the plan in a file; the change is taken back afterwards, and was never applied."""
    before = products.applied_product(built.workspace.database, "orders").product.digest
    with built.spoilt(DOCUMENT) as document, built.spoilt("plan.json") as plan:
        document.write_text(document.read_text().replace("One row an order", "One row for an order"))
        assert tulle(built.folder, "plan", "--out", str(plan)).code == 0
        yield built, plan
    assert products.applied_product(built.workspace.database, "orders").product.digest == before


def changed(**values: Any) -> Callable[[str], str]:
    return lambda text: json.dumps({**json.loads(text), **values})


def without(name: str) -> Callable[[str], str]:
    return lambda text: json.dumps({key: value for key, value in json.loads(text).items() if key != name})


PLANS: dict[str, tuple[Callable[[str], str | bytes], str]] = {
    "nothing": (lambda _: "", "is not JSON"),
    "half of it": (lambda text: text[:40], "is not JSON"),
    "a list": (lambda _: "[]", "is not a plan"),
    "null": (lambda _: "null", "is not a plan"),
    "bytes": (lambda _: b"\xff\xfe", "is not a plan: it is not text"),
    "another document": (lambda _: '{"steps": []}', "is not a plan"),
    "a sentence changed": (lambda text: text.replace("orders", "ordrs", 1), "its digest does not fit"),
    "a digest of its own": (changed(digest="0" * 64), "its digest does not fit"),
    "a later format": (changed(format=99), "is a plan of format 99, this version reads 1"),
    "no steps": (without("steps"), "is not a whole plan"),
    "steps of words": (changed(steps="all"), "is not a whole plan"),
    "steps of numbers": (changed(steps=[3]), "is not a whole plan"),
}


@pytest.mark.parametrize("kind", PLANS)
def test_a_plan_that_is_none(planned: tuple[Built, Path], kind: str) -> None:
    built, plan = planned
    spoil, said = PLANS[kind]
    content = spoil(plan.read_text())
    plan.write_bytes(content if isinstance(content, bytes) else content.encode())
    tulle(built.folder, "apply", str(plan)).refuses("plan.json", said)


def test_a_plan_that_is_no_longer_the_plan(planned: tuple[Built, Path]) -> None:
    built, plan = planned
    document = built.folder / DOCUMENT
    document.write_text(document.read_text().replace("One row for an order", "One row per order"))
    tulle(built.folder, "apply", str(plan)).refuses(
        "the document of product 'orders' changed", "`tulle plan`"
    )


def test_a_digest_that_is_not_the_plan_s(planned: tuple[Built, Path]) -> None:
    built, _ = planned
    tulle(built.folder, "apply", "--plan", "0" * 12).refuses("the plan is no longer '000000000000', it is")


# What is said to commands about what is applied, and what they answer.
WORDS: dict[str, tuple[str, str, int]] = {
    "a plan that is not there": ("apply nowhere.json", "there is no plan file 'nowhere.json'", 1),
    "a product for a plan": ("apply orders", "there is no plan file 'orders'", 1),
    "a plan nobody carried out": ("plans nope", "no plan 'nope' was carried out", 1),
    "fewer than none": ("plans --limit -1", "-1 is not in the range", 2),
    "a product nobody has": ("destroy ordrs", "did you mean 'orders'?", 1),
    "roles of nobody": ("grants ordrs", "did you mean 'orders'?", 1),
    "a product others read": (
        "destroy orders --yes",
        "product 'orders' is relied on and is not destroyed",
        1,
    ),
}


@pytest.mark.parametrize("kind", WORDS)
def test_words_that_cannot_be_meant(built: Built, kind: str) -> None:
    words, said, code = WORDS[kind]
    tulle(built.folder, *words.split()).refuses(said, code=code)


@pytest.mark.parametrize("answer", ["", "n\n", "orders\n", "BIG-SPENDERS\n"])
def test_nothing_is_destroyed_by_another_answer(built: Built, answer: str) -> None:
    said = tulle(built.folder, "destroy", "big-spenders", "--data", given=answer)
    assert said.code != 0
    assert {item.product.name for item in products.applied(built.workspace.database)} == {
        "orders",
        "big-spenders",
    }
