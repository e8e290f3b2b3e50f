"""The page about services: its example is read, and it tells every property."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tulle.serving.finder import NO_KEY, NO_MATCH, NOT_FOUND, OUTSIDE_MAX_AGE, PRESENT, SEVERAL
from tulle.serving.kinds import KINDS
from tulle.serving.service import load_service

PAGE = (Path(__file__).parents[2] / "docs/reference/services.md").read_text()


def test_the_example_is_read() -> None:
    (example,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    service = load_service(example, name="example")
    assert [endpoint.type for endpoint in service.endpoints] == ["predict", "lookup"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_property_is_told(kind: str) -> None:
    told = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE))))
    properties = KINDS[kind].schema["properties"]
    inner = properties.get("enrich", {}).get("items", {}).get("properties", {})
    assert {*properties, *inner} - {"test_queries"} <= told
    assert "`test_queries`" in PAGE


def test_every_word_of_an_answer_is_told() -> None:
    for word in (PRESENT, NOT_FOUND, OUTSIDE_MAX_AGE, NO_MATCH, NO_KEY, SEVERAL):
        assert f"`{word}`" in PAGE or f'"{word}"' in PAGE
