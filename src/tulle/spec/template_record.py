"""What a product was made from, and how later changes of its template are taken over.

`tulle new product` leaves a record beside product.yaml: the template, what was answered, and the texts as they were
made. From these, the files as they are and the files as the template makes them now, an update is a three-way merge:
what only one side changed is taken, what both changed differently is marked in the file. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from tulle.spec.document import Document, refuse
from tulle.spec.schemas import entity, text
from tulle.spec.validate import Schema, validate
from tulle.spec.write import dump

RECORD_FILE = ".tulle-template.yaml"
MINE, THEIRS, END = "<<<<<<< yours", "=======", ">>>>>>> the template's"
_NOTE = "# What this product was made from; `tulle product update-template` reads it. Keep it under version control.\n"
_SCHEMA = Schema(
    entity(
        ["template", "answers", "generated"],
        template=text("what the product was made from"),
        answers={
            "type": "object",
            "description": "what was answered",
            "additionalProperties": {"type": "string"},
        },
        generated={
            "type": "object",
            "description": "the texts as they were made, by path",
            "additionalProperties": {"type": "string"},
            "propertyNames": {
                "pattern": r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9]+)*(/[A-Za-z0-9_-]+(\.[A-Za-z0-9]+)*){0,5}$",
                "x-expected": "a path inside of the product's folder",
            },
        },
    )
)


@dataclass(frozen=True, slots=True)
class Record:
    """What a product was made from."""

    template: str
    answers: Mapping[str, str]
    generated: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Update:
    """What becomes of one file."""

    path: str
    text: str
    sentence: str
    conflicts: tuple[int, ...] = ()  # the lines where both sides disagree


def recorded(template: str, answers: Mapping[str, str], files: Mapping[str, str]) -> str:
    """The text of the record."""
    return _NOTE + dump({"template": template, "answers": dict(answers), "generated": dict(files)})


def read_record(document: Document) -> Record:
    """The record a document holds. Invalid, with every problem, when it is none."""
    refuse(document.name, validate(document, _SCHEMA))
    value: dict[str, Any] = document.value
    return Record(value["template"], value["answers"], value["generated"])


def updates(record: Record, mine: Mapping[str, str], now: Mapping[str, str]) -> Iterator[Update]:
    """What changes in the files (`mine`) when the template that makes `now` is taken over.

    A file its owner has removed stays away; one the template no longer makes stays. Data is its owner's alone.
    """
    for path, theirs in now.items():
        base = record.generated.get(path)
        here = mine.get(path)
        if theirs in (base, here) or path.startswith("data/"):
            continue
        if here is None:
            if base is None:
                yield Update(path, theirs, "is new")
            continue
        merged, conflicts = merge(base or "", here, theirs)
        if conflicts:
            times = "a place" if len(conflicts) == 1 else f"{len(conflicts)} places"
            yield Update(path, merged, f"conflicts in {times}", conflicts)
        elif merged != here:
            yield Update(path, merged, "is changed")


def merge(base: str, mine: str, theirs: str) -> tuple[str, tuple[int, ...]]:
    """Both changes of `base` in one text, and the lines at which a conflict is marked."""
    lines: list[str] = []
    conflicts: list[int] = []
    for before, left, right in _regions(_lines(base), _lines(mine), _lines(theirs)):
        if right in (left, before):
            lines += left
        elif left == before:
            lines += right
        else:
            conflicts.append(len(lines) + 1)
            lines += [f"{MINE}\n", *_ended(left), f"{THEIRS}\n", *_ended(right), f"{END}\n"]
    return "".join(lines), tuple(conflicts)


def _lines(content: str) -> list[str]:
    return content.splitlines(keepends=True)


def _ended(lines: list[str]) -> list[str]:
    return [line if line.endswith("\n") else f"{line}\n" for line in lines]


def _regions(
    base: list[str], mine: list[str], theirs: list[str]
) -> Iterator[tuple[list[str], list[str], list[str]]]:
    """The three texts cut at what all of them share: what lies between, and what is shared, in turn."""
    at = (0, 0, 0)
    for start, end, left, right in _shared(base, mine, theirs):
        yield base[at[0] : start], mine[at[1] : left], theirs[at[2] : right]
        same = base[start:end]
        yield same, same, same
        at = (end, left + end - start, right + end - start)
    yield base[at[0] :], mine[at[1] :], theirs[at[2] :]


def _shared(base: list[str], mine: list[str], theirs: list[str]) -> Iterator[tuple[int, int, int, int]]:
    """Runs of lines that are the same in all three: begin and end in the base, begin in the others."""
    left = SequenceMatcher(None, base, mine, autojunk=False).get_matching_blocks()
    right = SequenceMatcher(None, base, theirs, autojunk=False).get_matching_blocks()
    i = j = 0
    while i < len(left) and j < len(right):
        one, two = left[i], right[j]
        start, end = max(one.a, two.a), min(one.a + one.size, two.a + two.size)
        if start < end:
            yield start, end, one.b + start - one.a, two.b + start - two.a
        if one.a + one.size < two.a + two.size:
            i += 1
        else:
            j += 1
