"""A test query of a services file as the fields of a form, and what was filled in back in the text.

What the form does not change stays as it is written. Pure: texts and plain values in and out; knows nothing of what
an endpoint answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tulle.catalog.part_fields import (
    Changed,
    PartForm,
    Typed,
    demand_same,
    digest_of,
    json_of,
    told_by_field,
)
from tulle.catalog.service import pretty
from tulle.errors import Invalid, NotFound
from tulle.serving.kinds import KINDS
from tulle.spec.amend import amend
from tulle.spec.load import Schema, load_document, plain_value
from tulle.spec.write import inline

NEW = -1
MOST = 1000  # of an endpoint, made from data at once
_WORDS = {
    name: next(
        word for word in kind.schema["properties"]["test_queries"]["items"]["required"] if word != "name"
    )
    for name, kind in KINDS.items()
}
_SCHEMAS = {
    name: Schema(
        {"type": "object", "properties": kind.schema["properties"]["test_queries"]["items"]["properties"]}
    )
    for name, kind in KINDS.items()
}


def form_of(text: str, endpoint: int, number: int) -> PartForm:
    """The form of a test query in a text; with `NEW` of one more. NotFound, Invalid."""
    whole, word, raw = _found(text, endpoint, number)
    name = str(whole.get("name", endpoint))
    typed = Typed(
        {
            "name": str(raw.get("name", "")),
            "sent": pretty(raw.get(word, [{}] if word == "rows" else {})),
            "expect": pretty(raw["expect"]) if "expect" in raw else "",
            "tolerance": inline(raw["tolerance"]) if "tolerance" in raw else "",
            "endpoint": name,
        }
    )
    title = f"Test query of {name}" if raw else f"One more test query of {name}"
    return PartForm("query", endpoint, number, title, typed, digest_of(raw) if raw else "", whole["type"])


def change(text: str, endpoint: int, number: int, typed: Typed, digest: str) -> Changed:
    """The text with a test query as it was filled in. Conflict when it is not the one that was looked at."""
    whole, word, raw = _found(text, endpoint, number)
    if raw:
        demand_same(raw, digest)
    said: dict[str, Any] = {"name": typed.given("name")} if typed.given("name") else {}
    problems: dict[str, str] = {} if said else {"name": "it is needed"}
    for field, property_ in (("sent", word), ("expect", "expect")):
        if field == "expect" and not typed.given(field):
            continue
        try:
            said[property_] = json_of(typed.given(field))
        except Invalid as exc:
            problems[field] = exc.message
    if typed.given("tolerance"):
        said["tolerance"] = plain_value(typed.given("tolerance"))
    wrong = told_by_field(said, _SCHEMAS[whole["type"]], problems)
    problems |= {"sent" if name == word else name: told for name, told in wrong.items()}
    if problems:
        return Changed(problems=problems)
    path = ("endpoints", endpoint)
    if raw:
        order = ("name", word, "expect", "tolerance")
        return Changed(amend(text, (*path, "test_queries", number), said, order=order))
    return Changed(_with(text, path, whole, [*_queries(whole), said]))


def add(text: str, endpoint: int, made: Sequence[Mapping[str, Any]]) -> Changed:
    """The text with test queries that were made from data, under names that none has yet. Invalid, NotFound."""
    whole, word, _ = _found(text, endpoint, NEW)
    had = _queries(whole)
    if len(made) + len(had) > MOST:
        raise Invalid(f"{len(made) + len(had):,} test queries of an endpoint, at most {MOST:,}")
    taken = {str(one.get("name")) for one in had if isinstance(one, Mapping)}
    fresh = []
    for one in made:
        if told_by_field(one, _SCHEMAS[whole["type"]], {}) or not {"name", word} <= set(one):
            raise Invalid(f"these are no test queries of an endpoint of the kind '{whole['type']}'")
        name, again = str(one["name"]), 2
        while name in taken:
            name, again = f"{one['name']} ({again})", again + 1
        taken.add(name)
        fresh.append({**one, "name": name})
    return Changed(_with(text, ("endpoints", endpoint), whole, [*had, *fresh]))


def take_out(text: str, endpoint: int, number: int, digest: str) -> str:
    """The text without a test query. Conflict when it is not the one that was looked at."""
    whole, _, raw = _found(text, endpoint, number)
    if not raw:
        raise _gone()
    demand_same(raw, digest)
    rest = [one for place, one in enumerate(_queries(whole)) if place != number]
    return _with(text, ("endpoints", endpoint), whole, rest)


def _with(text: str, path: tuple[str | int, ...], whole: Mapping[str, Any], queries: Sequence[Any]) -> str:
    rest = {name: value for name, value in whole.items() if name != "test_queries"}
    return amend(text, path, {**whole, "test_queries": list(queries)} if queries else rest)


def _found(text: str, endpoint: int, number: int) -> tuple[Mapping[str, Any], str, Mapping[str, Any]]:
    """An endpoint as it is written, what its queries hold, and the query; empty for one that is new."""
    document = load_document(text, name="the file")
    whole = document.at(("endpoints", endpoint)) if endpoint >= 0 else None
    if isinstance(whole, Mapping) and isinstance(whole.get("type"), str) and whole["type"] in KINDS:
        word = _WORDS[whole["type"]]
        if number == NEW:
            return whole, word, {}
        queries = _queries(whole)
        raw = queries[number] if 0 <= number < len(queries) else None
        if isinstance(raw, Mapping) and raw:
            return whole, word, raw
    raise _gone()


def _queries(whole: Mapping[str, Any]) -> Sequence[Any]:
    """The test queries of an endpoint. Invalid where what is written is no list."""
    said = whole.get("test_queries")
    if said is not None and not isinstance(said, list):
        raise Invalid("'test_queries' is no list in the text", hint="mend it there")
    return said or ()


def _gone() -> NotFound:
    return NotFound("there is no such test query in the text any more", hint="open it again")
