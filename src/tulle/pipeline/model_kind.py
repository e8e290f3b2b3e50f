"""How the rows of a model are kept: all made anew each time, added to, or only looked up; written in its file.

An SQL model says it in comments at its top (`-- kind: incremental`), a Python model in constants (`kind =
"incremental"`). Reads text, executes nothing; what is wrong comes back as problems.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tulle.errors import Place, Problem, did_you_mean

TABLE, INCREMENTAL, VIEW, SNAPSHOT = "table", "incremental", "view", "snapshot"
APPEND, MERGE, PARTITION, WINDOW = "append", "merge", "partition", "window"
GRAINS = ("hour", "day", "week", "month")
THIS = "this"  # what a model calls the rows its data set has already

_KINDS = (TABLE, INCREMENTAL, VIEW, SNAPSHOT)
_LISTS = frozenset({"key", "partition", "tags"})
_WORDS: Mapping[str, str] = {
    "kind": "table, incremental, view or snapshot",
    "strategy": "append, merge, partition or window; mostly it follows from what else is said",
    "key": "the columns that tell rows apart: a new row replaces the one with its key",
    "partition": "the columns whose values tell parts apart: new rows replace all of their part",
    "time_column": "the column that says to which window a row belongs",
    "grain": "hour, day, week or month: how long a window is",
    "start": "the day the first window begins, such as 2024-01-01",
    "lookback": "how many windows before the last are made again, for what comes late",
    "rebuild": "never: changed code goes on from what is there, instead of beginning anew",
    "updated_at": "the column that says when a row came to be as it is (snapshot)",
    "deletes": "close or keep: what becomes of a row that is not there any more (snapshot)",
    "tags": "words to select by",
}
_LINE = re.compile(r"--\s*([A-Za-z_]+)\s*:\s*(.*?)\s*$")
_COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


@dataclass(frozen=True, slots=True)
class ModelKind:
    """How a data set's rows are kept. What does not apply is empty."""

    kind: str = TABLE
    strategy: str = ""
    key: tuple[str, ...] = ()
    partition: tuple[str, ...] = ()
    time_column: str = ""
    grain: str = ""
    start: str = ""
    lookback: int = 0
    rebuild: bool = True
    updated_at: str = ""
    deletes: str = "close"
    tags: tuple[str, ...] = ()

    @property
    def grows(self) -> bool:
        """Whether a run goes on from what the last one left."""
        return self.kind in {INCREMENTAL, SNAPSHOT}

    @property
    def first(self) -> datetime:
        """When the first window begins."""
        return floor(datetime.fromisoformat(self.start).replace(tzinfo=UTC), self.grain)

    def windows(
        self, done: tuple[tuple[datetime, datetime], ...], now: datetime
    ) -> Iterator[tuple[datetime, datetime]]:
        """The times up to the last full window that are not `done` yet, in order."""
        at, end = self.first, floor(now, self.grain)
        for since, until in done:
            if at < min(since, end):
                yield at, min(since, end)
            at = max(at, until)
        if at < end:
            yield at, end


def floor(at: datetime, grain: str) -> datetime:
    """The beginning of the window that holds a time (UTC)."""
    day = at.replace(hour=0, minute=0, second=0, microsecond=0)
    if grain == "hour":
        return at.replace(minute=0, second=0, microsecond=0)
    if grain == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if grain == "month" else day


def back(at: datetime, grain: str, number: int) -> datetime:
    """The beginning of the window so many windows before the one that begins at `at`."""
    if grain != "month":
        return at - number * {"hour": timedelta(hours=1), "day": timedelta(days=1)}.get(
            grain, timedelta(weeks=1)
        )
    months = at.year * 12 + at.month - 1 - number
    return at.replace(year=months // 12, month=months % 12 + 1)


def joined(spans: list[tuple[datetime, datetime]]) -> tuple[tuple[datetime, datetime], ...]:
    """Spans of time in order, those that touch or overlap as one."""
    found: list[tuple[datetime, datetime]] = []
    for since, until in sorted(spans):
        if found and since <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], until))
        else:
            found.append((since, until))
    return tuple(found)


def read_header(text: str, file: str) -> tuple[ModelKind, list[Problem]]:
    """What the comments before an SQL statement say, and what is wrong with it."""
    said: dict[str, tuple[str, Place]] = {}
    problems: list[Problem] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("--"):
            break
        match = _LINE.match(line.strip())
        if match is None:
            continue
        word, place = match[1], Place(file, number, line.index(match[1]) + 1)
        if word in said:
            problems.append(Problem(f"'{word}' is said twice", place, "keep one of them", line))
        elif word in _WORDS:
            said[word] = match[2], place
        elif difflib.get_close_matches(word.lower(), _WORDS, 1, 0.75):
            problems.append(Problem(f"unknown setting '{word}'", place, did_you_mean(word, _WORDS), line))
    kind, wrong = _read(said, Place(file, 1))
    return kind, [*problems, *wrong]


def read_constants(tree: ast.Module, file: str) -> tuple[ModelKind, list[Problem]]:
    """What the constants of a Python model say, and what is wrong with it."""
    said: dict[str, tuple[str, Place]] = {}
    problems: list[Problem] = []
    for node in tree.body:
        if not isinstance(node, ast.Assign) or len(node.targets) != 1:
            continue
        (target,) = node.targets
        if not isinstance(target, ast.Name) or target.id not in _WORDS:
            continue
        place = Place(file, node.lineno, node.col_offset + 1)
        try:
            value = ast.literal_eval(node.value)
        except (ValueError, TypeError):
            hint = "it is read without running the file: write a plain value"
            problems.append(Problem(f"'{target.id}' is no plain value", place, hint))
            continue
        words = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        said[target.id] = words, place
    kind, wrong = _read(said, Place(file, 1))
    return kind, [*problems, *wrong]


_CHOICES: Mapping[str, tuple[str, ...]] = {
    "kind": _KINDS,
    "strategy": (APPEND, MERGE, PARTITION, WINDOW),
    "grain": GRAINS,
    "rebuild": ("never", "auto"),
    "deletes": ("close", "keep"),
}


def _read(said: Mapping[str, tuple[str, Place]], whole: Place) -> tuple[ModelKind, list[Problem]]:
    problems: list[Problem] = []
    values: dict[str, Any] = {}
    for word, (text, place) in said.items():
        try:
            values[word] = _value(word, text)
        except ValueError as exc:
            hint = did_you_mean(text, _CHOICES[word]) if word in _CHOICES else _WORDS[word]
            problems.append(Problem(f"'{word}' is '{text}', expected {exc}", place, hint))
    if problems:
        return ModelKind(), problems
    kind = ModelKind(**values)
    if kind.kind == INCREMENTAL and not kind.strategy:
        told = ((WINDOW, kind.time_column), (MERGE, kind.key), (PARTITION, kind.partition))
        kind = replace(kind, strategy=next((strategy for strategy, what in told if what), ""))
    return kind, [_at(problem, said, whole) for problem in _fit(kind)]


def _value(word: str, text: str) -> Any:
    """What a setting's text means. ValueError with what was expected."""
    if word in _CHOICES:
        if text not in _CHOICES[word]:
            raise ValueError(", ".join(_CHOICES[word]))
        return text == "auto" if word == "rebuild" else text
    if word == "lookback":
        if not text.isdigit() or len(text) > 4:
            raise ValueError("a number of windows")
        return int(text)
    if word == "start":
        try:
            return datetime.fromisoformat(text).date().isoformat()
        except ValueError:
            raise ValueError("a day such as 2024-01-01") from None
    names = tuple(name.strip() for name in text.strip("[]").split(",") if name.strip())
    if not names or (word != "tags" and not all(map(_COLUMN.fullmatch, names))):
        raise ValueError("names of columns")
    if word in _LISTS:
        return names
    if len(names) != 1:
        raise ValueError("one column")
    return names[0]


_NEEDS = {WINDOW: ("time_column", "grain", "start"), MERGE: ("key",), PARTITION: ("partition",)}
_FITS = {
    TABLE: {"tags"},
    VIEW: {"tags"},
    SNAPSHOT: {"tags", "key", "updated_at", "deletes"},
    INCREMENTAL: {
        "tags",
        "strategy",
        "key",
        "partition",
        "time_column",
        "grain",
        "start",
        "lookback",
        "rebuild",
    },
}


def _fit(kind: ModelKind) -> Iterator[tuple[str, str, str]]:
    """What does not go together: the setting it is about, the message, the hint."""
    plain = ModelKind()
    for word in _WORDS:
        if word == "kind" or getattr(kind, word) == getattr(plain, word):
            continue
        if word not in _FITS[kind.kind]:
            which = " and ".join(k for k in _KINDS if word in _FITS[k])
            yield word, f"'{word}' says nothing of a {kind.kind}", f"it is for {which} models"
    if kind.kind == SNAPSHOT and not kind.key:
        yield "kind", "a snapshot needs to know what tells rows apart", "write -- key: <columns>"
    if kind.kind != INCREMENTAL:
        return
    if not kind.strategy:
        hint = "write -- key: … (new rows replace), -- time_column: … with grain and start, or -- strategy: append"
        yield "kind", "an incremental model must say how new rows go with those that are there", hint
    for word in _NEEDS.get(kind.strategy, ()):
        if not getattr(kind, word):
            yield "kind", f"strategy '{kind.strategy}' needs '{word}'", f"{word}: {_WORDS[word]}"


def _at(found: tuple[str, str, str], said: Mapping[str, tuple[str, Place]], whole: Place) -> Problem:
    word, message, hint = found
    return Problem(message, said[word][1] if word in said else whole, hint)
