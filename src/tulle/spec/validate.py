"""A document against a JSON Schema: every error at once, in sentences, each at its place.

Beyond the schema itself, annotations help the sentences: `x-expected` says in words what a value must be
(where a pattern or several alternatives would otherwise be shown), `x-example` is a value that would do (where one in
quotes would be no better than without), `x-instead` maps words people try to the right ones, and `description` explains
a missing property. Knows nothing of products; every slice that reads
YAML brings its own schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import jsonschema_rs

from tulle.errors import Problem, did_you_mean, nearest
from tulle.spec.document import Document, Path, shown

_TYPE_WORDS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "nothing",
}
_YAML_1_1_BOOLEANS = {"yes", "no", "on", "off", "y", "n"}
# `{type: decimal(10,2)}` is `{type: "decimal(10", "2)": null}` to YAML.
_CUT_START, _CUT_END = re.compile(r"[a-z]+\([0-9]+"), re.compile(r"[0-9]+\)")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_WITH_UNIT = re.compile(r"-?[0-9]+(\.[0-9]+)? ?[A-Za-z%]{1,12}")
_LONGEST_REPAIRED = 60  # characters of a value that a hint says again
_MOST_ERRORS = 500  # a document with more is beyond reading


class Schema:
    """A JSON Schema (draft 2020-12), compiled once for many validations."""

    __slots__ = ("definition", "validator")

    def __init__(self, definition: Mapping[str, Any]) -> None:
        self.definition = definition
        # A schema may come from a mesh's own files: it may not fetch others, and a pattern may not take
        # exponential time (this engine is linear and knows no look-around).
        self.validator = jsonschema_rs.Draft202012Validator(
            dict(definition),
            validate_formats=True,
            retriever=_no_fetching,
            pattern_options=jsonschema_rs.RegexOptions(),
        )

    def part(self, path: list[str | int]) -> Any:
        """The subschema (or keyword's value) at a schema path, None where there is none."""
        value: Any = self.definition
        for step in path:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                return None
        return value


def _no_fetching(uri: str) -> Any:
    raise ValueError(f"'{uri}' is outside this schema")


def validate(
    document: Document, schema: Schema | Mapping[str, Any], root: Path = (), *, where: str = ""
) -> list[Problem]:
    """Check the part of `document` at `root` against `schema`; an empty list means valid.

    `where` names the part in messages ("input-port 'Purchases log'"). Pass a compiled `Schema` when the same
    one is used often.
    """
    compiled = schema if isinstance(schema, Schema) else Schema(schema)
    telling = _Telling(document, compiled, tuple(root), where)
    errors = list(islice(_all_leaves(compiled, document.at(root)), _MOST_ERRORS))
    found = [problem for error in telling.worth_telling(errors) for problem in telling.problems(error)]
    unique = {(problem.place, problem.message): problem for problem in found}
    return sorted(unique.values(), key=lambda p: (p.place.line, p.place.column) if p.place else (0, 0))


def _all_leaves(schema: Schema, value: Any) -> Iterator[Any]:
    for error in schema.validator.iter_errors(value):
        yield from _leaves(error)


def _leaves(error: Any) -> Iterator[Any]:
    """An error, or for alternatives (anyOf, oneOf) the errors of the one that was most likely meant."""
    if error.kind.name not in {"anyOf", "oneOf"} or not hasattr(error.kind, "context"):
        yield error
        return
    branches = [branch for branch in error.kind.context if branch]
    at = list(error.instance_path)
    fitting = [b for b in branches if not any(_same_place(e, at) and e.kind.name in _WHOLE for e in b)]
    if not fitting:
        yield error
        return
    best = min(fitting, key=lambda b: (sum(e.kind.name in {"const", "enum"} for e in b), len(b)))
    choices = [e for e in best if e.kind.name == "const"]
    if choices and len(fitting) > 1:  # no alternative has this `type:`; say which ones there are
        place = list(choices[0].instance_path)
        options = [
            e.kind.expected_value
            for b in fitting
            for e in b
            if e.kind.name == "const" and list(e.instance_path) == place
        ]
        if len(options) >= len(fitting):
            yield _Choice(choices[0], list(dict.fromkeys(options)))
            return
    for leaf in best:
        yield from _leaves(leaf)


_WHOLE = {"type", "const", "enum", "pattern", "format"}  # keywords that say the value as a whole does not fit


def _same_place(error: Any, path: list[str | int]) -> bool:
    return list(error.instance_path) == path


class _Choice:
    """Several alternatives that want different constants at the same place, told as one enum."""

    def __init__(self, error: Any, options: list[Any]) -> None:
        self.instance_path = error.instance_path
        self.schema_path = error.schema_path
        self.instance = error.instance
        self.message = error.message
        self.kind = _ChoiceKind(options)


class _ChoiceKind:
    name = "enum"

    def __init__(self, options: list[Any]) -> None:
        self.options = options


class _Telling:
    """Turns schema errors into Problems of one document."""

    def __init__(self, document: Document, schema: Schema, root: Path, where: str) -> None:
        self.document = document
        self.schema = schema
        self.root = root
        self.where = where

    def worth_telling(self, errors: list[Any]) -> list[Any]:
        """Leave out 'x is missing' where an unknown property beside it is plainly a misspelt x."""
        misspelt = set()
        for error in errors:
            if error.kind.name in {"additionalProperties", "unevaluatedProperties"}:
                known = self._known_properties(error)
                for name in error.kind.unexpected[:_MOST_ERRORS]:
                    misspelt.add((tuple(error.instance_path), nearest(name, known)))
        return [
            e
            for e in errors
            if e.kind.name != "required" or (tuple(e.instance_path), e.kind.property) not in misspelt
        ]

    def problems(self, error: Any) -> Iterator[Problem]:
        """The Problems of one schema error."""
        path = (*self.root, *error.instance_path)
        match error.kind.name:
            case "additionalProperties" | "unevaluatedProperties":
                known = self._known_properties(error)
                for name in error.kind.unexpected[:_MOST_ERRORS]:
                    if _CUT_END.fullmatch(name) and _cut_value(error.instance):
                        continue  # told at the value it was cut from
                    message = f"unknown property '{shown(name)}'{self._context(error.instance_path)}"
                    hint = did_you_mean(name, known)
                    if " " in name and error.instance[name] is None:  # {a: some text, and more of it}
                        hint = "inside { } a comma ends the value; put the text in quotes"
                    yield self.document.problem(message, (*path, name), key=True, hint=hint)
            case "required":
                yield self._missing(error, path)
            case "propertyNames":
                yield self._bad_name(error, path)
            case _:
                expected, hint = self._expected(error)
                found = _found(error.instance)
                message = f"{self._subject(error.instance_path)} is {found}, expected {expected}"
                yield self.document.problem(message, path, hint=self._repair(error, path) or hint)

    def _missing(self, error: Any, path: Path) -> Problem:
        name = error.kind.property
        schema = self.schema.part([*error.schema_path[:-1], "properties", name])
        if schema is None and not error.instance_path:  # of alternatives, which only say what they need
            schema = self.schema.part(["properties", name])
        text = schema.get("description") if isinstance(schema, Mapping) else None
        # The key that holds the mapping is what a reader looks for; an entry of a list has none.
        by_key = bool(path) and isinstance(path[-1], str)
        message = f"'{name}' is missing{self._context(error.instance_path)}"
        return self.document.problem(message, path, key=by_key, hint=f"{name}: {text}" if text else None)

    def _bad_name(self, error: Any, path: Path) -> Problem:
        names = self.schema.part([*error.schema_path[: error.schema_path.index("propertyNames") + 1]])
        words = names.get("x-expected") if isinstance(names, Mapping) else None
        bad = str(error.kind.error.instance)
        message = f"the name '{shown(bad)}'{self._context(error.instance_path)} is not allowed"
        return self.document.problem(
            message, (*path, bad), key=True, hint=f"expected {words}" if words else None
        )

    def _known_properties(self, error: Any) -> list[str]:
        properties = self.schema.part([*error.schema_path[:-1], "properties"])
        return list(properties) if isinstance(properties, Mapping) else []

    def _subject(self, path: list[str | int]) -> str:
        """Name the value: the last key with its list position, then what it is in."""
        steps = list(path)
        if not steps:
            return self.where or "the document"
        cut = len(steps) - 1
        while cut > 0 and isinstance(steps[cut], int):
            cut -= 1
        return f"'{_dotted(steps[cut:])}'{self._context(steps[:cut])}"

    def _context(self, path: list[str | int]) -> str:
        parts = [f"'{_dotted(list(path))}'"] if path else []
        if self.where:
            parts.append(self.where)
        return "".join(f" in {part}" for part in parts)

    def _expected(self, error: Any) -> tuple[str, str | None]:
        """What the schema wants in words, and a hint where the words are not enough."""
        kind, holder = error.kind, self.schema.part(error.schema_path[:-1])
        words = holder.get("x-expected") if isinstance(holder, Mapping) else None
        if kind.name in {"anyOf", "oneOf"}:
            branches = [words_of(b) for b in self.schema.part(error.schema_path) or ()]
            return words or " or ".join(dict.fromkeys(branches)), None
        if kind.name == "enum":
            shown = ", ".join(_literal(option) for option in kind.options[:12])
            shown += ", …" if len(kind.options) > 12 else ""
            hint = None
            if isinstance(error.instance, str):
                match = nearest(error.instance, [o for o in kind.options if isinstance(o, str)])
                hint = f"did you mean '{match}'?" if match else None
            return words or f"one of {shown}", hint
        return words or _EXPECTED.get(kind.name, _by_message)(error), _instead(error, holder)

    def _repair(self, error: Any, path: Path) -> str | None:
        """How to write what was meant, for the traps YAML sets."""
        expected, value, raw = _types_of(error, self.schema), error.instance, self.document.raw(path)
        holder = self.schema.part(error.schema_path[:-1])
        if not isinstance(holder, Mapping):
            holder = {}
        if expected and "x-example" in holder:
            return f"for example {holder['x-example']}"
        if not isinstance(value, str):
            helps = "string" in expected and raw and re.search(holder.get("pattern", ""), raw)
            if "array" in expected and isinstance(value, dict):
                return "write a list: each entry begins with a dash, or all stand in [ ]"
            return f"put it in quotes: '{raw}'" if helps else None
        if _CUT_START.fullmatch(value):
            beside = self.document.at(path[:-1])
            rest = next((key for key in beside if _CUT_END.fullmatch(str(key))), "…)")
            return f"inside {{ }} a comma ends the value; put it in quotes: '{value},{rest}'"
        return _repaired_text(value, expected, holder.get("required", ()))


def _repaired_text(value: str, expected: set[str], required: Sequence[str]) -> str | None:
    """A hint where text was written and another type was wanted; `required` are members of a mapping."""
    if "boolean" in expected and value.lower() in _YAML_1_1_BOOLEANS:
        return "write true or false; yes, no, on and off are text"
    if "boolean" in expected and value.lower() in {"true", "false"}:
        return "write true or false without quotes"
    if {"integer", "number"} & expected and _NUMBER.fullmatch(value):
        return "write the number without quotes"
    if {"integer", "number"} & expected and _WITH_UNIT.fullmatch(value):
        return "write the number alone, without a unit"
    return _in_brackets(value, expected, required)


def _in_brackets(value: str, expected: set[str], required: Sequence[str]) -> str | None:
    """A text as the only entry of the list, or the only member of the mapping, that was wanted."""
    if not 0 < len(value) <= _LONGEST_REPAIRED or "'" in value:
        return None
    if "array" in expected and "string" not in expected:
        return f"write a list: ['{value}']"
    if expected == {"object"} and len(required) == 1:
        return f"write a mapping: {{{required[0]}: '{value}'}}"
    return None


def _cut_value(value: Any) -> bool:
    """Whether a value of the mapping was cut in two by the comma in its brackets."""
    return any(isinstance(v, str) and _CUT_START.fullmatch(v) for v in value.values())


def _instead(error: Any, holder: Any) -> str | None:
    """Our word for a word of another system, from the annotation `x-instead`: {their word: ours}."""
    words = holder.get("x-instead") if isinstance(holder, Mapping) else None
    if not words or not isinstance(error.instance, str):
        return None
    stem = error.instance.lower().split("(")[0].strip()
    if ours := words.get(stem):
        return f"write '{ours}'"
    match = nearest(stem, set(words.values()))
    return f"did you mean '{match}'?" if match else None


def _types_of(error: Any, schema: Schema) -> set[str]:
    """The JSON types that would have been right where `error` is."""
    if error.kind.name == "type":
        holders = [schema.part(error.schema_path[:-1])]
    elif error.kind.name in {"anyOf", "oneOf"}:
        holders = list(schema.part(error.schema_path) or ())
    else:
        return set()
    types: set[str] = set()
    for holder in holders:
        named = holder.get("type", ()) if isinstance(holder, Mapping) else ()
        types |= {named} if isinstance(named, str) else set(named)
    return types


def words_of(schema: Any) -> str:
    """What a schema wants, in words."""
    if not isinstance(schema, Mapping):
        return "a value"
    if "x-expected" in schema:
        return str(schema["x-expected"])
    if "const" in schema:
        return _literal(schema["const"])
    if "enum" in schema:
        return "one of " + ", ".join(_literal(option) for option in schema["enum"][:12])
    types = schema.get("type", ())
    names = [types] if isinstance(types, str) else list(types)
    return " or ".join(_TYPE_WORDS.get(name, name) for name in names) or "a value"


def _type_words(error: Any) -> str:
    return " or ".join(_TYPE_WORDS.get(name, name) for name in error.kind.types)


def _by_message(error: Any) -> str:
    """Keywords rare enough to be told in the validator's own words."""
    return f"something else: {error.message[:200]}"


_EXPECTED: dict[str, Callable[[Any], str]] = {
    "type": _type_words,
    "const": lambda e: _literal(e.kind.expected_value),
    "pattern": lambda e: f"text that matches {e.kind.pattern}",
    "format": lambda e: f"a {e.kind.format}",
    "minimum": lambda e: f"at least {e.kind.limit}",
    "maximum": lambda e: f"at most {e.kind.limit}",
    "exclusiveMinimum": lambda e: f"more than {e.kind.limit}",
    "exclusiveMaximum": lambda e: f"less than {e.kind.limit}",
    "minLength": lambda e: "some text" if e.kind.limit == 1 else f"at least {e.kind.limit} characters",
    "maxLength": lambda e: f"at most {e.kind.limit} characters",
    "minItems": lambda e: f"at least {_counted(e.kind.limit)}",
    "maxItems": lambda e: f"at most {_counted(e.kind.limit)}",
    "minProperties": lambda e: f"at least {_counted(e.kind.limit)}",
    "maxProperties": lambda e: f"at most {_counted(e.kind.limit)}",
    "uniqueItems": lambda _: "each entry only once",
    "falseSchema": lambda _: "nothing here",
}


def _counted(count: int) -> str:
    return "1 entry" if count == 1 else f"{count} entries"


def _literal(value: Any) -> str:
    return f"'{value}'" if isinstance(value, str) else json.dumps(value)


def _found(value: Any) -> str:
    """A value in a few words."""
    match value:
        case None:
            return "empty"
        case bool():
            return "true" if value else "false"
        case str():
            return f"the text '{shown(value)}'" if value else "empty text"
        case int() | float():
            return f"the number {shown(str(value))}"
        case list():
            return f"a list of {_counted(len(value))}" if value else "an empty list"
        case _:
            return "a mapping" if value else "an empty mapping"


def _dotted(path: list[str | int]) -> str:
    """A path in the way one says it: `columns[2].type`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return shown(text.removeprefix("."), 120)
