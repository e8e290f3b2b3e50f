"""The page about services: its example is read, and it tells every property."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from dataikuapi import APINodeClient

from tulle.catalog.query_log import FEEDBACK, OUTCOME_COLUMNS, TRAFFIC
from tulle.control import service_drift
from tulle.control.service_drift import DRIFT, OUTCOMES
from tulle.serving import log_traffic
from tulle.serving.access import ACCESS_SCHEMA
from tulle.serving.asked import MOST_CALLS, MOST_ENTRIES
from tulle.serving.compose_declared import ComposeSpec
from tulle.serving.declared import FunctionSpec
from tulle.serving.finder import NO_KEY, NO_MATCH, NOT_FOUND, OUTSIDE_MAX_AGE, PRESENT, SEVERAL
from tulle.serving.function_code import signature_of
from tulle.serving.kinds import KINDS
from tulle.serving.log_declared import LOG_SCHEMA
from tulle.serving.log_rows import FEEDBACK_SCHEMA, SCHEMA
from tulle.serving.overlay import load_overlay
from tulle.serving.query_declared import QuerySpec
from tulle.serving.service import load_service
from tulle.serving.step_form import AT_ONCE, DEPTH, MOST_ITEMS

PAGES = Path(__file__).parents[2] / "docs/reference"
PAGE = (PAGES / "services.md").read_text()

YAML = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_example_of_annotations_is_read(tmp_path: Path) -> None:
    (text,) = [one for one in YAML if one.startswith("overlay:")]
    (tmp_path / "it.openapi.yaml").write_text(text)
    actions = load_overlay(tmp_path / "it.openapi.yaml", "it").actions
    assert [action.remove for action in actions] == [False, True]


def test_the_example_of_an_http_step_is_read() -> None:
    (step,) = [one for one in YAML if one.startswith("- name: rate")]
    text = "service: rates\nendpoints:\n- name: it\n  type: compose\n  input: {currency: {}, day: {}}\n  steps:\n"
    text += "".join(f"  {line}\n" for line in step.splitlines()) + "  output: $rate\n"
    (compose,) = load_service(text, name="example").endpoints
    assert isinstance(compose, ComposeSpec)
    assert list(compose.problems([])) == []


def test_the_example_of_a_group_is_read() -> None:
    (step,) = [one for one in YAML if one.startswith("- name: offers")]
    text = "service: many\nendpoints:\n- name: it\n  type: compose\n  input: {customers: {type: list}}\n  steps:\n"
    text += "".join(f"  {line}\n" for line in step.splitlines()) + "  output: $offers\n"
    (compose,) = load_service(text, name="example").endpoints
    assert isinstance(compose, ComposeSpec)
    assert list(compose.problems(["profile", "returns"])) == []


def test_the_bounds_of_steps_are_told() -> None:
    for told in (f"{MOST_ENTRIES:,} entries", f"{MOST_CALLS} calls at a time", f"at most {MOST_ITEMS:,}"):
        assert told in PAGE
    assert (DEPTH, AT_ONCE) == (3, 8)  # in words: three times, eight at a time


def test_the_example_is_read() -> None:
    whole = [one for one in YAML if one.startswith("service:") and "endpoints:" in one]
    first, second, third, fourth, *_ = whole
    service = load_service(first, name="example")
    assert [endpoint.type for endpoint in service.endpoints] == ["predict", "lookup"]
    (endpoint,) = load_service(second, name="example").endpoints
    (query,) = load_service(third, name="example").endpoints
    assert isinstance(query, QuerySpec)
    assert query.reads("sales") == (("sales", "customers"), ("geography", "countries"))
    composed = load_service(fourth, name="example").endpoints
    (compose,) = (endpoint for endpoint in composed if isinstance(endpoint, ComposeSpec))
    assert list(compose.problems([endpoint.name for endpoint in composed if endpoint is not compose])) == []
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    parameters, _, told = signature_of(code, "baskets.py", "total", None)
    assert isinstance(endpoint, FunctionSpec)
    assert ([p.name for p in parameters], told) == (["prices", "discount"], "The price of a basket.")


@pytest.mark.parametrize("kind", KINDS)
def test_every_property_is_told(kind: str) -> None:
    told = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE))))
    properties = KINDS[kind].schema["properties"]
    lists = (properties.get(name, {}).get("items", {}) for name in ("enrich", "steps"))
    inner = {name for one in lists for name in one.get("properties", {})} - {"name"}
    assert {*properties, *inner} - {"test_queries"} <= told
    assert "`test_queries`" in PAGE


def test_every_word_of_an_answer_is_told() -> None:
    for word in (PRESENT, NOT_FOUND, OUTSIDE_MAX_AGE, NO_MATCH, NO_KEY, SEVERAL):
        assert f"`{word}`" in PAGE or f'"{word}"' in PAGE


def test_every_property_and_column_of_the_log_is_told() -> None:
    told = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE))))
    assert {*LOG_SCHEMA["properties"], *SCHEMA.names} <= told
    (example,) = re.findall(r"^```yaml\n(log: .*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    log = load_service(f"service: shop\n{example}", name="example").log
    assert (log.usual.sample, log.usual.leave_out, log.keep_days) == (0.1, ("postcode",), 90)
    assert (log.of("price").sample, log.of("other").sample, log.most_bytes >> 30) == (0, 0.1, 20)


def columns_told(of: str) -> list[str]:
    """The columns that the page tells of a data set beside the log, in its order."""
    (table,) = re.findall(rf"^\| column of `{of}` \|.*\n\|---\|---\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    return [name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])]


@pytest.mark.parametrize(
    ("of", "names"),
    [
        (TRAFFIC, log_traffic.SCHEMA.names),
        (FEEDBACK, FEEDBACK_SCHEMA.names),
        (OUTCOMES, list(OUTCOME_COLUMNS)),
        (DRIFT, service_drift.SCHEMA.names),
    ],
)
def test_every_column_of_what_is_kept_beside_the_log_is_told(of: str, names: list[str]) -> None:
    assert columns_told(of) == names


def test_every_way_in_is_told_and_its_example_read() -> None:
    told = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE))))
    ways = ACCESS_SCHEMA["properties"]
    assert {*ways, *ways["jwt"]["properties"]} <= told
    (example,) = re.findall(r"^```yaml\n(service: orders\naccess:.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    access = load_service(example, name="example").access
    assert access.ways() == ("contracts", "api_keys", "jwt")


def test_every_call_of_the_stock_client_is_told_with_the_path_it_asks() -> None:
    page = (PAGES / "api-nodes.md").read_text()
    row = re.compile(r"^\| `(\w+)` \| `POST /<endpoint>/([a-z-]+)`", re.MULTILINE)
    told = dict(row.findall(page))
    calls = {name: call for name, call in vars(APINodeClient).items() if not name.startswith("_")}
    asked = {
        name: re.findall(r'"POST", "[^"/]+/([a-z-]+)"', inspect.getsource(call))
        for name, call in calls.items()
    }
    assert {name: [path] for name, path in told.items()} == asked
