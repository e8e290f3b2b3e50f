"""Fields of the forms in which parts of a services file are filled in, and what is wrong with them, by field. Pure.

What the parts mean is known to their own modules; here is what their forms have in common.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tulle.errors import Conflict, Invalid, Problem
from tulle.spec.load import Schema, load_document, plain_value, validate
from tulle.spec.write import inline

LONGEST_JSON = 100_000  # characters of a field that holds JSON


@dataclass(frozen=True, slots=True)
class Typed:
    """What stands in the fields: text by name, and lists of lines, each of one text or more."""

    texts: Mapping[str, str] = field(default_factory=dict)
    lines: Mapping[str, Sequence[Sequence[str]]] = field(default_factory=dict)

    def given(self, name: str) -> str:
        """A text without what is around it; empty where nothing is said."""
        return self.texts.get(name, "").strip()

    def rows(self, name: str, width: int) -> list[tuple[str, ...]]:
        """The lines in which something stands, each with so many texts."""
        padded = (
            [*(cell.strip() for cell in line), *[""] * width][:width] for line in self.lines.get(name, ())
        )
        return [tuple(line) for line in padded if any(line)]


@dataclass(frozen=True, slots=True)
class PartForm:
    """What a form begins with: of which part, and its digest, empty for one that is new."""

    kind: str
    endpoint: int
    number: int
    title: str
    typed: Typed
    digest: str = ""
    of: str = ""  # what the part is of: the kind of its endpoint
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def is_new(self) -> bool:
        """Whether it is to be one more."""
        return not self.digest


@dataclass(frozen=True, slots=True)
class Changed:
    """What came of a form: the new text, or what is wrong by field; with "" what is of none."""

    text: str = ""
    problems: Mapping[str, str] = field(default_factory=dict)


def digest_of(raw: Any) -> str:
    """What tells a part from another state of it."""
    return hashlib.sha256(json.dumps(raw, sort_keys=True).encode()).hexdigest()


def demand_same(raw: Any, digest: str) -> None:
    """Conflict when a part is not the one that was looked at."""
    if digest_of(raw) != digest:
        raise Conflict("it was changed in the text meanwhile", hint="open it again, and change that")


def told_by_field(said: Mapping[str, Any], schema: Schema, known: Mapping[str, str]) -> dict[str, str]:
    """What a schema says of each property, `known` left out: each stands in a line of its own, which tells which."""
    names = list(said)
    document = load_document("\n".join(f"{inline(name)}: {inline(said[name])}" for name in names) or "{}")
    found: dict[str, str] = {}
    for problem in validate(document, schema):
        name = names[problem.place.line - 1] if problem.place and names else ""
        if name not in known:
            found.setdefault(name, _sentence(problem, name))
    return found


def _sentence(problem: Problem, name: str) -> str:
    message = problem.message.removeprefix(f"'{name}' ")
    return f"{message} ({problem.hint})" if problem.hint else message


def json_of(text: str) -> Any:
    """What a field of JSON says. Invalid, with the place, when it is none."""
    if len(text) > LONGEST_JSON:
        raise Invalid(f"{len(text):,} characters, at most {LONGEST_JSON:,}")
    try:
        return json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as exc:
        raise Invalid(f"this is no JSON: {exc.msg}, line {exc.lineno}, column {exc.colno}") from None
    except RecursionError:
        raise Invalid("this is too deep") from None


def _no_constant(name: str) -> Any:
    raise Invalid(f"{name} is no JSON")


def value_of(text: str) -> Any:
    """A value as it is written in the file: `365`, `[a, b]`, `{id: $input.id}`, text; in quotes text in any case."""
    if text[:1] in {"'", '"', "[", "{"}:
        try:
            return load_document(f"- {text}").value[0]
        except Invalid:
            return text
    return plain_value(text)
