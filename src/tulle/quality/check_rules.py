"""What a check may not say although its form is right: bounds that exclude everything, conditions nobody can read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from tulle.errors import Problem
from tulle.quality import history_kinds as _history_kinds  # noqa: F401  its kinds register themselves
from tulle.quality.condition import read_condition
from tulle.quality.kind import age_of
from tulle.quality.row_kinds import share_of
from tulle.spec.document import Document

Path = tuple[str | int, ...]
_WHOLE = 100  # percent
_BOUNDED = {"range", "row_count", "length", "unique_share"}


def rule_problems(document: Document, item: Mapping[str, Any], path: Path) -> list[Problem]:
    """What a JSON Schema cannot say of a check."""
    problems = [*_bounds(document, item, path), *_conditions(document, item, path)]
    if "as_of" in item:
        try:
            datetime.fromisoformat(item["as_of"])
        except ValueError:
            message = f"'as_of' is '{item['as_of']}', which is no day"
            problems.append(document.problem(message, (*path, "as_of")))
    if "max_age" in item:
        try:
            age_of(item["max_age"])
        except OverflowError:
            problems.append(
                document.problem(f"'max_age' is '{item['max_age']}', longer than time", (*path, "max_age"))
            )
    share = str(item.get("allow", ""))
    if share.endswith("%") and float(share.rstrip("% ")) > _WHOLE:
        problems.append(document.problem(f"'allow' is '{share}', more than all rows", (*path, "allow")))
    if item["type"] == "volume" and ("max_change" in item) == ("max_z" in item):
        problems.append(document.problem("a check 'volume' needs either 'max_change' or 'max_z'", path))
    if item["type"] == "pattern" and (why := _pattern_problem(item["pattern"])):
        hint = "patterns are RE2: no lookaround and no backreferences"
        problems.append(document.problem(f"'pattern' cannot be used: {why}", (*path, "pattern"), hint=hint))
    return problems


def _bounds(document: Document, item: Mapping[str, Any], path: Path) -> Iterator[Problem]:
    if item["type"] not in _BOUNDED:
        return
    low, high = item.get("min"), item.get("max")
    if low is None and high is None:
        yield document.problem(f"a check '{item['type']}' needs 'min', 'max' or both", path)
    if low is None or high is None:
        return
    if item["type"] == "unique_share":
        if share_of(low) > share_of(high):
            yield document.problem(f"'min' is {low}, which is more than 'max', {high}", (*path, "min"))
    elif isinstance(low, str) is not isinstance(high, str):
        yield document.problem("'min' and 'max' must both be numbers or both be dates", path)
    elif low > high:
        yield document.problem(f"'min' is {low}, which is more than 'max', {high}", (*path, "min"))


def _conditions(document: Document, item: Mapping[str, Any], path: Path) -> Iterator[Problem]:
    for name in ("where", "expression"):
        if name in item:
            condition = read_condition(item[name])
            if condition.problem:
                yield document.problem(f"'{name}': {condition.problem}", (*path, name), hint=condition.hint)


def _pattern_problem(pattern: str) -> str:
    """Why RE2 does not take a regular expression; empty when it does."""
    import pyarrow as pa  # noqa: PLC0415  heavy, and few checks have patterns
    import pyarrow.compute as pc  # noqa: PLC0415

    try:
        pc.match_substring_regex(pa.array(["x"]), pattern)
    except pa.ArrowInvalid as exc:
        return str(exc).removeprefix("Invalid regular expression: ")
    return ""
