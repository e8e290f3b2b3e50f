"""What a product's services declare: equal declarations are told alike, in whatever process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tulle.control.declared_services import declared_as_plain, service_changes
from tulle.serving.service import load_service

NAMES = [f"set_{number}" for number in range(8)]


def declared(*names: str) -> dict[str, object]:
    sources = [{"product": "sales", "data_set": name, "key": ["id"], "columns": None} for name in names]
    return {"prices": {"look": {"type": "lookup", "model": "", "sources": sources}}}


def sentences() -> list[str]:
    """What is told of sources that went and came."""
    changes = service_changes(declared(*NAMES[:4]), declared(*NAMES[4:]))
    return [change.sentence for change in changes]


def test_sources_that_go_and_come_are_told_in_one_order() -> None:
    found = sentences()
    assert [sentence.split("'")[-2] for sentence in found] == NAMES
    assert found[0] == "service prices: endpoint look: it no longer answers from data set 'set_0'"
    other = subprocess.run(
        [sys.executable, "-c", "from tests.control.test_declared_services import *; print(sentences())"],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stdout.strip() == str(found)  # the digest of a plan depends on it


def told(before: str, after: str) -> list[tuple[str, bool]]:
    """The changes from one endpoint `it` to another, and whether each may break callers."""

    def plain(properties: str) -> dict[str, object]:
        text = f"service: abc\nendpoints:\n- {{name: it, {properties}}}\n"
        return declared_as_plain([load_service(text, name="s.yaml")])

    changes = service_changes(plain(before), plain(after))
    return [(c.sentence.removeprefix("service abc: endpoint it: "), c.breaking) for c in changes]


LOOKUP = "type: lookup, data_set: sales, key: id, columns: [a, b]"
JOINED = "type: lookup, lookups: [{data_set: sales, key: id, columns: [a]}, {data_set: sales, key: x, columns: [b]}]"
_GONE = [
    ("it no longer answers from data set 'sales'", True),
    ("the key of 'sales' is x (was id)", True),
    ("of 'sales' it gives no longer a", True),
]
QUERY = "type: query, sql: 'SELECT a FROM sales WHERE a = $x', parameters: {x: {type: integer}}"


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        (LOOKUP, LOOKUP, []),
        (JOINED, JOINED, []),
        (
            "type: predict, model: m",
            "type: predict, model: m, show_features: {features: [b, a]}",
            [("answers may tell a, b (were none)", False)],
        ),
        (
            "type: predict, model: m, show_features: {features: [b, a]}",
            "type: predict, model: m, show_features: {features: [a]}",
            [("answers may tell a (were a, b)", True)],
        ),
        (JOINED, JOINED.replace("{data_set: sales, key: id, columns: [a]}, ", ""), _GONE),
        (
            JOINED.replace("key: x", "key: x, missing_key: ignore"),
            JOINED,
            [("of 'sales', 'missing_key' is error (was ignore)", True)],
        ),
        (
            "type: lookup, lookups: [{data_set: sales, key: id, columns: [a]}]",
            JOINED,
            [("it answers from data set 'sales', by x, which has to be sent", True)],
        ),
        (
            "type: lookup, lookups: [{data_set: sales, key: id, columns: [a]}]",
            JOINED.replace("key: x", "key: {id: x}"),
            [("it answers from data set 'sales'", False)],
        ),
        (LOOKUP, LOOKUP + ", no_match: default", [("of 'sales', 'no_match' is default (was error)", False)]),
        (LOOKUP + ", no_match: default", LOOKUP, [("of 'sales', 'no_match' is error (was default)", True)]),
        (LOOKUP, LOOKUP + ", several: all", [("of 'sales', 'several' is all (was forbidden)", True)]),
        (
            LOOKUP + ", event_time: t, max_age: 1 day",
            LOOKUP + ", event_time: t, max_age: 2 days, too_old: ignore",
            [
                ("of 'sales', 'too_old' is ignore (was keep)", True),
                ("of 'sales', 'max_age_seconds' is 172800 (was 86400)", False),
            ],
        ),
        (
            LOOKUP + ", defaults: {a: 1}",
            LOOKUP,
            [("of 'sales', 'defaults' is nothing (was {'a': 1})", False)],
        ),
        (LOOKUP, LOOKUP.replace("[a, b]", "{a: c, b: b}"), []),  # callers see no difference
        (LOOKUP, LOOKUP.replace("[a, b]", "{z: a, b: b}"), [("of 'sales' it gives no longer a", True)]),
        (
            LOOKUP,
            LOOKUP.replace("key: id", "key: {number: id}"),
            [("the key of 'sales' is number (was id)", True)],
        ),
        (
            "type: function, file: a.py",
            "type: function, file: b.py",
            [("the function is b.py: it (was a.py: it)", False)],
        ),
        (QUERY, QUERY.replace("a = $x", "a > $x"), [("the SQL is another one", False)]),
        (
            QUERY,
            QUERY.replace("{type: integer}", "{type: integer, default: 1}"),
            [("parameter 'x' is integer, which may be left out", False)],
        ),
        (QUERY, QUERY.replace("{type: integer}", "{}"), [("parameter 'x' is string", True)]),
        (
            QUERY,
            QUERY.replace("a = $x", "a = $x AND b = $y").replace("integer}", "integer}, y: {default: 1}"),
            [("the SQL is another one", False), ("parameter 'y' is taken", False)],
        ),
        (
            QUERY.replace("integer}", "integer}, y: {}"),
            QUERY,
            [("parameter 'y' is no longer taken", True)],
        ),
        (
            "type: compose, steps: [{name: a, value: 1}], output: $a",
            "type: compose, steps: [{name: a, value: 2}], output: $a, input: {x: {}}",
            [
                ("its steps, or what it makes of them, are others", False),
                ("parameter 'x' is taken, and needed", True),
            ],
        ),
        (LOOKUP, "type: function, file: a.py", [("it is of type function (was lookup)", True)]),
    ],
)
def test_what_callers_may_miss_is_breaking(before: str, after: str, changes: list[tuple[str, bool]]) -> None:
    assert told(before, after) == changes


def test_a_query_answers_from_what_its_sql_names() -> None:
    text = f"service: abc\nendpoints:\n- {{name: it, {QUERY}, data_sets: {{sales: {{product: shop, data_set: sold}}}}}}\n"
    (endpoint,) = declared_as_plain([load_service(text, name="s.yaml")])["abc"].values()
    assert [(source["product"], source["data_set"]) for source in endpoint["sources"]] == [("shop", "sold")]


def test_who_may_call_is_told_and_a_way_that_closes_breaks_callers() -> None:
    def said(access: str) -> dict[str, object]:
        text = f"service: sold\n{access}endpoints:\n- {{name: a, type: lookup, data_set: x, key: y}}\n"
        return declared_as_plain([load_service(text, name="s.yaml")])

    usual = said("")
    opened = said("access: {contracts: true, public: {limit: 5/1s}}\n")
    keyed = said("access: {api_keys: true, jwt: {issuer: i, scopes: [s], jwks_uri: 'https://i/k'}}\n")
    assert usual == said("access: {contracts: true}\n")
    (more,) = service_changes(usual, opened)
    assert (
        more.sentence == "service sold: it may be called by contracts, public (5/1s for all) (was contracts)"
    )
    assert not more.breaking
    (other,) = service_changes(opened, keyed)
    assert "by api_keys, jwt (i, s) (was contracts, public" in other.sentence
    assert other.breaking
    (back,) = service_changes(keyed, usual)
    assert back.breaking


def test_other_policies_of_the_gateway_are_told() -> None:
    def said(policies: str) -> dict[str, object]:
        text = f"service: sold\n{policies}endpoints:\n- {{name: a, type: lookup, data_set: x, key: y}}\n"
        return declared_as_plain([load_service(text)])

    none = said("")
    limited = said("policies: [{policy: rate-limit, limits: 5/1s}]\n")
    faster = said("policies: [{policy: rate-limit, limits: 9/1s}]\n")
    assert [c.sentence for c in service_changes(none, limited)] == [
        "service sold: its policies are rate-limit (were none)"
    ]
    assert [c.sentence for c in service_changes(limited, faster)] == [
        "service sold: its policies have other settings: rate-limit"
    ]
    assert [c.sentence for c in service_changes(limited, none)] == [
        "service sold: its policies are none (were rate-limit)"
    ]
    assert list(service_changes(limited, limited)) == []


def test_whose_tokens_open_a_service_is_part_of_what_is_declared() -> None:
    def plain(more: str) -> str:
        jwt = f"{{issuer: 'https://a/', jwks_uri: 'https://a/keys'{more}}}"
        text = f"service: abc\naccess: {{jwt: {jwt}}}\nendpoints:\n- {{name: it, {LOOKUP}}}\n"
        return str(declared_as_plain([load_service(text, name="s.yaml")]))

    assert "jwt (https://a/)'" in plain("")
    assert "jwt (https://a/) of applications with a contract'" in plain(", contract: true")
