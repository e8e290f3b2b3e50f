"""A look-up of a services file as the fields of a form, and what was filled in back in the text.

The text that comes of it is the one a person would write: what the form does not change, comments and all, stays as
it is. What is wrong is told by field. Pure: texts and plain values in and out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tulle.catalog.look_up_fields import NUMBERS, PAIRS, TEXTS, Filled, as_raw, fields_of
from tulle.catalog.part_fields import Changed, digest_of, told_by_field
from tulle.errors import Conflict, Invalid, NotFound
from tulle.serving.declared import LOOKUP_SCHEMA, PREDICT_SCHEMA
from tulle.serving.keyed_rows import CONNECTION, NEEDED_TOGETHER
from tulle.serving.service import ENDPOINT_NAME
from tulle.spec.amend import amend
from tulle.spec.load import Schema, load_document

NEW = -1  # the number of a look-up that is not there yet
OWN = ("name", "description")  # of a lookup endpoint, beside those of its look-up
_ENRICH: Mapping[str, Any] = PREDICT_SCHEMA["properties"]["enrich"]["items"]["properties"]
_NAME = {"type": "string", "pattern": ENDPOINT_NAME, "x-expected": "lower-case letters, digits and hyphens"}
_LISTED: Mapping[str, Any] = LOOKUP_SCHEMA["properties"]["lookups"]["items"]["properties"]
_ROWS: Mapping[str, Any] = {**LOOKUP_SCHEMA["properties"], "name": _NAME, "description": {"type": "string"}}
_STORE: Mapping[str, Any] = _ENRICH["source"]["anyOf"][1]["properties"]
# Properties stand in the order in which people tell of them.
_ORDER = (
    *(
        "name",
        "type",
        "description",
        "product",
        "data_set",
        "source",
        "version",
        "key",
        "columns",
        "defaults",
    ),
    *("missing_key", "no_match", "several", "order_by", "most_rows", "event_time", "max_age", "too_old"),
)

_WHOLE = {
    name: Schema({"type": "object", "properties": dict(one)})
    for name, one in (("lookup", _ROWS), ("lookups", _LISTED), ("enrich", _ENRICH), ("store", _STORE))
}


@dataclass(frozen=True, slots=True)
class LookUpForm:
    """What the form of a look-up begins with; `digest` is of how it was written, empty for one that is new."""

    endpoint: int
    number: int
    title: str
    is_endpoint: bool
    filled: Filled
    choices: Mapping[str, tuple[str, ...]]
    digest: str
    is_of_lookup: bool = False  # what is found is the answer, not a feature

    @property
    def is_new(self) -> bool:
        """Whether it is to be one more."""
        return self.number == NEW


def form_of(text: str, endpoint: int, number: int) -> LookUpForm:
    """The form of a look-up in a text; with `NEW` of one more of a prediction. NotFound, Invalid."""
    whole, raw = _found(text, endpoint, number)
    listed = _listed(whole)
    is_endpoint = not listed
    name = str(whole.get("name", endpoint))
    title = (
        f"Rows of {name}" if is_endpoint else f"Look-up of {name}" if raw else f"One more look-up of {name}"
    )
    schema = {"": _ROWS, "lookups": _LISTED}.get(listed, _ENRICH)
    choices = {key: tuple(one["enum"]) for key, one in {**schema, **_STORE}.items() if "enum" in one}
    filled = fields_of(raw)
    if is_endpoint:
        filled = Filled({**filled.texts, **{key: str(raw.get(key, "")) for key in OWN}}, filled.pairs)
    digest = digest_of(raw) if raw else ""
    is_of_lookup = whole["type"] == "lookup"
    return LookUpForm(endpoint, number, title, is_endpoint, filled, choices, digest, is_of_lookup)


def change(text: str, endpoint: int, number: int, filled: Filled, digest: str) -> Changed:
    """The text with a look-up as it was filled in. Conflict when it is not the one that was looked at."""
    whole, raw = _found(text, endpoint, number)
    _demand_same(raw, digest)
    listed = _listed(whole)
    is_endpoint = not listed
    said, problems = as_raw(filled, raw)
    if is_endpoint:
        said |= dict(_own(filled, raw))
    problems = {**_problems(said, listed), **problems}
    if problems:
        return Changed(problems=problems)
    known = {*TEXTS, *PAIRS, *NUMBERS, "source", *(OWN if is_endpoint else ())}
    wanted = {name: value for name, value in raw.items() if name not in known} | said
    path: tuple[str | int, ...] = ("endpoints", endpoint)
    if is_endpoint:
        return Changed(amend(text, path, wanted, order=_ORDER))
    if number != NEW:
        return Changed(amend(text, (*path, listed, number), wanted, order=_ORDER))
    ordered = {name: wanted[name] for name in _ORDER if name in wanted}
    return Changed(_with_list(text, path, whole, [*_those(whole), ordered]))


def _own(filled: Filled, raw: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and description; what is the same but for space around it stays as it is written."""
    for name in OWN:
        if said := filled.texts.get(name, "").strip():
            had = str(raw.get(name, ""))
            yield name, had if had.strip() == said else said


def take_out(text: str, endpoint: int, number: int, digest: str) -> str:
    """The text without a look-up of several. Conflict, Invalid for the only one of a lookup endpoint."""
    whole, raw = _found(text, endpoint, number)
    _demand_same(raw, digest)
    if not raw:
        raise _gone()
    rest = [one for place, one in enumerate(_those(whole)) if place != number]
    if whole["type"] == "lookup" and (not _listed(whole) or not rest):
        raise Invalid("a lookup endpoint has one look-up", hint="take the endpoint out in the text")
    return _with_list(text, ("endpoints", endpoint), whole, rest)


def _with_list(
    text: str, path: tuple[str | int, ...], whole: Mapping[str, Any], look_ups: Sequence[Mapping[str, Any]]
) -> str:
    listed = _listed(whole)
    rest = {name: value for name, value in whole.items() if name != listed}
    wanted = {**whole, listed: list(look_ups)} if look_ups else rest
    return amend(text, path, wanted, order=("name", "type", "description", "model", listed))


def _listed(whole: Mapping[str, Any]) -> str:
    """The property that has the look-ups of an endpoint in a list; empty for a lookup endpoint that is its only one."""
    if whole["type"] == "predict":
        return "enrich"
    return "lookups" if "lookups" in whole else ""


def _found(text: str, endpoint: int, number: int) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """An endpoint as it is written, and its look-up; empty for one that is new."""
    document = load_document(text, name="the file")
    whole = document.at(("endpoints", endpoint)) if endpoint >= 0 else None
    if isinstance(whole, Mapping) and whole.get("type") in {"lookup", "predict"}:
        listed = _listed(whole)
        if not listed:
            return whole, whole
        if number == NEW:
            return whole, {}
        raw = document.at(("endpoints", endpoint, listed, number)) if number >= 0 else None
        if isinstance(raw, Mapping):
            return whole, raw
    raise _gone()


def _gone() -> NotFound:
    return NotFound("there is no such look-up in the text any more", hint="open it again")


def _those(whole: Mapping[str, Any]) -> Sequence[Any]:
    """The look-ups of an endpoint that has them in a list. Invalid where what is written is no list."""
    listed = _listed(whole)
    said = whole.get(listed)
    if said is not None and not isinstance(said, list):
        raise Invalid(f"'{listed}' is no list in the text", hint="mend it there")
    return said or ()


def _demand_same(raw: Mapping[str, Any], digest: str) -> None:
    if raw and digest_of(raw) != digest:
        raise Conflict("the look-up was changed in the text meanwhile", hint="open it again, and change that")


# ── what is wrong ────────────────────────────────────────────────────────────────────────────────────────


def _problems(said: Mapping[str, Any], listed: str) -> dict[str, str]:
    """What is wrong with what was filled in, by field."""
    found = {name: "it is needed" for name in ("data_set", "key") if name not in said}
    if not listed and "name" not in said:
        found["name"] = "it is needed"
    for name, needs in NEEDED_TOGETHER.items():
        if name in said and (missing := [one for one in needs if one not in said]):
            found[name] = f"it means nothing without {_title(missing[0])}"
    store = said.get("source")
    in_words = store is None or isinstance(store, Mapping) or store == CONNECTION
    rest = {name: value for name, value in said.items() if name != "source" or not in_words}
    found |= told_by_field(rest, _WHOLE[listed or "lookup"], found)
    if isinstance(store, Mapping):
        found |= dict(_of_store(store))
        found |= told_by_field(store, _WHOLE["store"], found)
    elif store == CONNECTION:
        found["connection"] = "it is needed: the name of a connection of the mesh"
    return found


def _of_store(store: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a store needs beside its connection: a table of PostgreSQL, or keys of Redis with their types."""
    if "connection" not in store:
        yield "connection", "it is needed: the name of a connection of the mesh"
    if "table" not in store and "keys" not in store:
        yield "table", "a table (PostgreSQL) or keys (Redis) are needed"
    if "keys" in store and "types" not in store:
        yield "types", "keys of Redis need the types of their columns"
    for name in ("types", "form"):
        if name in store and "keys" not in store:
            yield name, "it means nothing without keys"


def _title(name: str) -> str:
    return {"event_time": "the event time", "max_age": "an age", "several": "several matches"}.get(name, name)
