"""Quality rules of a data contract (ODCS 3.2) as checks, and checks as such rules.

A rule that can be carried out becomes a check that keeps the rule as it was written, so that the contract can be
written again without loss; whoever changes the check changes the rule. What cannot be carried out (words for people,
other tools' rules, SQL of another dialect) is left in the contract. Pure; what a contract says is never trusted: each
check made of it is read as one from a file would be.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tulle.engine.engine import literal, quoted
from tulle.engine.statement import bare
from tulle.quality.check import ERROR, WARN, Check, check_names, parse_checks
from tulle.spec.odcs_tables import data_set as data_set_component
from tulle.spec.part import Part, data_set_name
from tulle.spec.write import dump

Plain = dict[str, Any]

FILE = "checks/contract.yaml"
ENGINE = "tulle"  # of rules that only Tulle can carry out
_WARNINGS = {"info", "low", "minor", "notice", "warn", "warning"}
_TAG = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
_OPERATORS = {
    "mustBe": "{0} = {1}",
    "mustNotBe": "{0} <> {1}",
    "mustBeGreaterThan": "{0} > {1}",
    "mustBeGreaterOrEqualTo": "{0} >= {1}",
    "mustBeLessThan": "{0} < {1}",
    "mustBeLessOrEqualTo": "{0} <= {1}",
    "mustBeBetween": "{0} BETWEEN {1} AND {2}",
    "mustNotBeBetween": "{0} NOT BETWEEN {1} AND {2}",
}
_HOLDER = re.compile(r"\$?\{\s*(table|object|schema|model|column|property|field)\s*\}")
_COUNTED = re.compile(r"SELECT count\(\*\) FROM \(\n(.*)\n\)", re.DOTALL)
_WHOLE = re.compile(r"\^\(\?:(.*)\)\$", re.DOTALL)


class _Left(Exception):
    """A rule that no check is made of, and why."""


@dataclass(frozen=True, slots=True)
class Table:
    """A data set of a contract: its entry in `schema`, and what it and its columns are called here, in their order."""

    entry: Plain
    name: str
    columns: tuple[tuple[str, str, Plain], ...]  # name, type, entry


@dataclass(frozen=True, slots=True)
class TakenRules:
    """A contract without the rules that became checks; `checks` as FILE holds them; `left` says why others did not."""

    contract: Plain
    checks: tuple[Plain, ...]
    left: tuple[str, ...]

    def text(self, *, to_begin_with: bool = False) -> str:
        """The checks as FILE; `to_begin_with` they only warn, since rows that are a sample may not meet them."""
        head = "# Made of the quality rules of a data contract.\n"
        if not to_begin_with:
            return head + dump({"checks": list(self.checks)})
        head += "# They only warn as long as the rows are the sample: take 'severity: warn' out when yours are there.\n"
        return head + dump({"checks": [_warning(check) for check in self.checks]})


def _warning(check: Plain) -> Plain:
    first = {key: check[key] for key in ("data_set", "type", "name")}
    return {**first, "severity": WARN, **{k: v for k, v in check.items() if k not in {*first, "severity"}}}


def tables(contract: Mapping[str, Any]) -> list[Table]:
    """The data sets of a contract, as reading it names them."""
    names: set[str] = set()
    taken: set[str] = set()
    found = []
    for entry in contract.get("schema") or ():
        made = data_set_component(entry, names, taken)
        name = data_set_name(Part((), made["name"], made["type"], "data-set", made["properties"]))
        inner = [p for p in entry.get("properties") or () if isinstance(p, dict)]
        columns = made["properties"].get("columns", ())
        named = tuple((c["name"], c["type"], p) for c, p in zip(columns, inner, strict=True))
        found.append(Table(entry, name, named))
    return found


# ── rules as checks ──────────────────────────────────────────────────────────────────────────────────────


def take_rules(contract: Mapping[str, Any]) -> TakenRules:
    """Make checks of the rules of a contract that can be carried out. The contract must be a valid one."""
    twin: Plain = copy.deepcopy(dict(contract))
    listed = tables(twin)
    known = {table.name: [name for name, _, _ in table.columns] for table in listed}
    checks: list[Plain] = []
    left: list[str] = []
    names: dict[str, set[str]] = {}
    for table in listed:
        for holder, column in [(table.entry, ""), *((entry, name) for name, _, entry in table.columns)]:
            stay = []
            for at, rule in enumerate(holder.get("quality") or ()):
                where = f"{table.name}.{column}" if column else table.name
                try:
                    made = _made(rule, table, column, known)
                    made["name"] = _free(made["name"], names.setdefault(table.name, set()))
                    kept = {"at": at, **({"column": column} if column else {}), "rule": rule}
                    checks.append({**made, "contract": kept})
                except _Left as why:
                    stay.append(rule)
                    left.append(f"{where}: {_called(rule)}: {why}")
            if "quality" in holder and not stay and holder["quality"]:
                del holder["quality"]
            elif "quality" in holder:
                holder["quality"] = stay
    return TakenRules(twin, tuple(checks), tuple(left))


def _called(rule: Mapping[str, Any]) -> str:
    return str(rule.get("name") or rule.get("metric") or rule.get("id") or rule.get("type") or "a rule")[:100]


def _free(name: str, taken: set[str]) -> str:
    free, n = name, 1
    while free in taken:
        n += 1
        free = f"{name[:190]} ({n})"
    taken.add(free)
    return free


def _made(rule: Mapping[str, Any], table: Table, column: str, known: Mapping[str, Sequence[str]]) -> Plain:
    """A rule as a check that holds. Raises _Left."""
    made = {"data_set": table.name, **_said(rule), **_of(rule, table, column)}
    (check,) = _read(made)
    for problem in check_names([check], known):
        raise _Left(problem.message)
    return {"data_set": made.pop("data_set"), "type": made.pop("type"), "name": check.name, **made}


def _read(made: Plain) -> list[Check]:
    checks, problems = parse_checks(dump({"checks": [made]}), FILE)
    for problem in problems:
        raise _Left(problem.message)
    return checks


def _said(rule: Mapping[str, Any]) -> Plain:
    said: Plain = {}
    if name := str(rule.get("name") or "").strip():
        said["name"] = name[:200]
    if rule.get("description"):
        said["description"] = str(rule["description"])
    if str(rule.get("severity", "")).lower() in _WARNINGS:
        said["severity"] = WARN
    if tags := [tag for tag in rule.get("tags") or () if isinstance(tag, str) and _TAG.fullmatch(tag)]:
        said["tags"] = tags
    return said


def _of(rule: Mapping[str, Any], table: Table, column: str) -> Plain:
    kind = rule.get("type") or "library"
    if kind == "text":
        raise _Left("it is written for people")
    if kind == "custom":
        return _own(rule)
    if kind == "sql":
        return _of_query(rule, table, column)
    metric = rule.get("metric")
    if metric == "rowCount":
        return _of_rows(rule, table)
    allowed = _allowed(rule)
    if metric == "duplicateValues":
        return _of_duplicates(rule, table, column, allowed)
    if not column:
        raise _Left("it does not say which column it is about")
    if metric == "nullValues":
        made, fails = {"type": "not_null", "columns": [column]}, f"{quoted(column)} IS NULL"
    elif metric == "missingValues":
        made, fails = _missing(rule, table, column)
    elif metric == "invalidValues":
        made, fails = _invalid(rule, column)
    else:
        raise _Left(
            "what it measures is not known" if metric is None else f"the metric '{metric}' is not known"
        )
    if allowed is not None:
        return {**made, **allowed}
    return _measured(rule, table, f"count(*) FILTER (WHERE {fails})")


def _own(rule: Mapping[str, Any]) -> Plain:
    says = rule.get("implementation")
    if rule.get("engine") != ENGINE or not isinstance(says, dict):
        raise _Left(f"it is one for {str(rule.get('engine'))[:60]}")
    if says.get("type") == "suite" or {"data_set", "contract"} & says.keys():
        raise _Left("a program is not part of a contract")
    return dict(says)


def _of_query(rule: Mapping[str, Any], table: Table, column: str) -> Plain:
    text = bare(str(rule["query"]))
    allowed = _allowed(rule)
    if (match := _COUNTED.fullmatch(text)) and allowed is not None:
        return {"type": "sql", "sql": match[1], **allowed}

    def named(match: re.Match[str]) -> str:
        if match[1] in {"table", "object", "schema", "model"}:
            return quoted(table.name)
        if not column:
            raise _Left(f"it names a {match[1]}, and is about none")
        return quoted(column)

    return _judged_query(rule, _HOLDER.sub(named, text))


def _judged_query(rule: Mapping[str, Any], query: str) -> Plain:
    """A row where what a query measures is not as it must be."""
    sign, numbers = _must(rule)
    holds = _OPERATORS[sign].format("found", *map(literal, numbers))
    sql = f"SELECT found FROM (\n{query}\n) AS measured(found)\nWHERE NOT coalesce({holds}, false)"  # noqa: S608
    return {"type": "sql", "sql": sql}


def _measured(rule: Mapping[str, Any], table: Table, figure: str) -> Plain:
    if _in_percent(rule):
        figure = f"coalesce(100.0 * {figure} / nullif(count(*), 0), 0)"
    return _judged_query(rule, f"SELECT {figure} FROM {quoted(table.name)}")  # noqa: S608  names are quoted


def _of_rows(rule: Mapping[str, Any], table: Table) -> Plain:
    sign, numbers = _must(rule)
    if _in_percent(rule):
        raise _Left("a number of rows is no share")
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
        raise _Left("a number of rows is expected")
    low = math.ceil(numbers[0])
    bounds = {
        "mustBe": {"min": low, "max": low},
        "mustBeGreaterThan": {"min": math.floor(numbers[0]) + 1},
        "mustBeGreaterOrEqualTo": {"min": low},
        "mustBeLessThan": {"max": low - 1},
        "mustBeLessOrEqualTo": {"max": math.floor(numbers[0])},
        "mustBeBetween": {"min": low, "max": math.floor(numbers[-1])},
    }.get(sign)
    if bounds is None or (sign == "mustBe" and numbers[0] != low):
        return _measured(rule, table, "count(*)")
    return {"type": "row_count", **bounds}


def _of_duplicates(rule: Mapping[str, Any], table: Table, column: str, allowed: Plain | None) -> Plain:
    named = _arguments(rule, {"properties"}).get("properties") or ([column] if column else [])
    if not isinstance(named, list) or not named or not all(isinstance(one, str) for one in named):
        raise _Left("it does not say which columns it is about")
    theirs = {str(entry.get("name")): name for name, _, entry in table.columns}
    columns = [theirs.get(str(one), str(one)) for one in named]
    if allowed is not None:
        return {"type": "unique", "columns": columns, **allowed}
    keys = ", ".join(map(quoted, columns))
    there = " AND ".join(f"{quoted(one)} IS NOT NULL" for one in columns)
    some = f"FILTER (WHERE {there})"
    return _measured(rule, table, f"(count(*) {some} - count(DISTINCT ({keys})) {some})")


def _missing(rule: Mapping[str, Any], table: Table, column: str) -> tuple[Plain, str]:
    listed = _arguments(rule, {"missingValues"}).get("missingValues")
    if not isinstance(listed, list) or not all(
        isinstance(v, str | int | float | bool | None) for v in listed
    ):
        raise _Left("it does not say which values stand for missing ones")
    name, words = quoted(column), [str(value) for value in listed if value is not None]
    kind = next(kind for one, kind, _ in table.columns if one == column)
    text = name if kind == "string" else f"CAST({name} AS VARCHAR)"
    there = [f"{name} IS NOT NULL"] if None in listed or not words else []
    if words:
        there.append(f"coalesce({text} NOT IN ({', '.join(map(literal, words))}), true)")
    expression = " AND ".join(there)
    return {"type": "expression", "expression": expression}, f"NOT ({expression})"


def _invalid(rule: Mapping[str, Any], column: str) -> tuple[Plain, str]:
    said = _arguments(rule, {"validValues", "pattern"})
    name, parts, made = quoted(column), [], []
    if (values := said.get("validValues")) is not None:
        if (
            not isinstance(values, list)
            or not values
            or not all(isinstance(v, str | int | float) for v in values)
        ):
            raise _Left("it does not say which values are valid")
        made.append({"type": "accepted_values", "column": column, "values": values})
        parts.append(f"{name} NOT IN ({', '.join(map(literal, values))})")
    if (pattern := said.get("pattern")) is not None:
        whole = _as_whole(str(pattern))
        made.append({"type": "pattern", "column": column, "pattern": whole})
        parts.append(f"NOT regexp_full_match({name}, {literal(whole)})")
    fails = " OR ".join(parts)
    if not made:
        raise _Left("it does not say what is valid")
    if len(made) == 1:
        return made[0], fails
    return {"type": "expression", "expression": f"coalesce(NOT ({fails}), true)"}, fails


def _as_whole(pattern: str) -> str:
    """A pattern that is looked for, as one that the whole value matches."""
    if match := _WHOLE.fullmatch(pattern):
        return match[1]
    if (
        pattern.startswith("^")
        and pattern.endswith("$")
        and not pattern.endswith("\\$")
        and "|" not in pattern
    ):
        return pattern[1:-1]
    return f"(?s:.*)(?:{pattern})(?s:.*)"


def _arguments(rule: Mapping[str, Any], known: set[str]) -> Mapping[str, Any]:
    found = rule.get("arguments") or {}
    if unknown := sorted(found.keys() - known):
        raise _Left(f"its argument '{unknown[0]}' is not known")
    return dict(found)


def _must(rule: Mapping[str, Any]) -> tuple[str, list[Any]]:
    sign = next((sign for sign in _OPERATORS if sign in rule), None)
    if sign is None:
        raise _Left("it does not say what must be")
    numbers = list(rule[sign]) if isinstance(rule[sign], list) else [rule[sign]]
    if len(numbers) != (2 if sign.endswith("Between") else 1) or any(
        not isinstance(number, str | int | float) or (isinstance(number, float) and not math.isfinite(number))
        for number in numbers
    ):
        raise _Left(f"'{sign}' is no plain value")
    return sign, numbers


def _in_percent(rule: Mapping[str, Any]) -> bool:
    unit = str(rule.get("unit") or "rows").lower()
    if unit not in {"rows", "row", "percent", "%"}:
        raise _Left(f"its unit '{unit[:30]}' is not known")
    return unit in {"percent", "%"}


def _allowed(rule: Mapping[str, Any]) -> Plain | None:
    """How many rows may fail, as checks say it; None where it has to be measured."""
    sign, numbers = _must(rule)
    if any(isinstance(number, str | bool) for number in numbers):
        return None
    most: float | None = numbers[-1]
    if sign == "mustBe" and most == 0:
        return {}
    if sign == "mustBeLessThan" and not _in_percent(rule):
        most = math.ceil(numbers[0]) - 1
    elif not (sign == "mustBeLessOrEqualTo" or (sign == "mustBeBetween" and numbers[0] <= 0)):
        most = None
    if most is None or most < 0:
        return None
    if _in_percent(rule):
        text = format(most, "f").rstrip("0").rstrip(".") if isinstance(most, float) else str(most)
        return {"allow": f"{text}%"}
    return {"allow": math.floor(most)} if most >= 1 else {}


# ── checks as rules ──────────────────────────────────────────────────────────────────────────────────────

_DESCRIBING = (
    *("id", "authoritativeDefinitions", "businessImpact", "customProperties", "dimension", "method"),
    *("schedule", "scheduler"),
)


def with_rules(contract: Mapping[str, Any], checks: Sequence[Check]) -> Plain:
    """A contract with the checks of its data sets as quality rules, beside those it has."""
    twin: Plain = copy.deepcopy(dict(contract))
    for table in tables(twin):
        mine = [check for check in checks if check.data_set == table.name]
        rules = sorted((_rule(check, table) for check in mine), key=lambda found: found[1])
        entries = {name: entry for name, _, entry in table.columns}
        for column, at, rule in rules:
            listed = entries.get(column, table.entry).setdefault("quality", [])
            listed.insert(min(at, len(listed)), rule)
    return twin


def _rule(check: Check, table: Table) -> tuple[str, int, Plain]:
    """A check as a rule: the column it stands with, its place there, and what it says."""
    if check.contract and (rule := check.contract.get("rule")):
        column = str(check.contract.get("column", ""))
        if _unchanged(check, rule, table, column):
            return column, int(check.contract.get("at", 0)), dict(rule)
        column, written = _written(check)
        return column, _LAST, {**{k: rule[k] for k in _DESCRIBING if k in rule}, **written}
    column, written = _written(check)
    return column, _LAST, written


_LAST = 1_000_000


def _unchanged(check: Check, rule: Mapping[str, Any], table: Table, column: str) -> bool:
    try:
        made = {"data_set": table.name, **_said(rule), **_of(rule, table, column)}
        (again,) = _read(made)
    except (_Left, KeyError, TypeError, StopIteration):
        return False
    return replace(again, name=check.name) == check


def _written(check: Check) -> tuple[str, Plain]:
    said: Plain = {"name": check.name}
    if check.description:
        said["description"] = check.description
    if check.severity != ERROR:
        said["severity"] = "warning"
    if check.tags:
        said["tags"] = list(check.tags)
    if check.kind in {"python", "suite"}:
        what = f"{check.name}: judged by a program"
        return "", {**said, "type": "text", "description": check.description or what}
    for column, rule in _in_their_words(check):
        return column, {**said, **rule}
    says = {"type": check.kind, **check.settings}
    says |= {key: value for key, value in (("where", check.where), ("allow", check.allow)) if value}
    return "", {**said, "type": "custom", "engine": ENGINE, "implementation": says}


def _in_their_words(check: Check) -> Iterator[tuple[str, Plain]]:
    """The column and the rule, where the standard has words for the check."""
    if check.where:
        return
    says, most = check.settings, _at_most(check)

    def metric(name: str, column: str, **arguments: Any) -> tuple[str, Plain]:
        told = {"arguments": arguments} if arguments else {}
        return column, {"type": "library", "metric": name, **told, **most}

    match check.kind:
        case "not_null" if len(says["columns"]) == 1:
            yield metric("nullValues", says["columns"][0])
        case "unique" if len(says["columns"]) == 1:
            yield metric("duplicateValues", says["columns"][0])
        case "unique":
            yield metric("duplicateValues", "", properties=list(says["columns"]))
        case "accepted_values":
            yield metric("invalidValues", says["column"], validValues=list(says["values"]))
        case "pattern":
            yield metric("invalidValues", says["column"], pattern=f"^(?:{says['pattern']})$")
        case "row_count":
            yield "", {"type": "library", "metric": "rowCount", **_row_bounds(says)}
        case "sql":
            query = f"SELECT count(*) FROM (\n{bare(says['sql'])}\n)"  # noqa: S608  it is told, not run
            yield "", {"type": "sql", "query": query, **most}


def _at_most(check: Check) -> Plain:
    if not check.allow:
        return {"mustBe": 0}
    if check.allow.endswith("%"):
        share = float(check.allow.rstrip("% "))
        return {"mustBeLessOrEqualTo": int(share) if share.is_integer() else share, "unit": "percent"}
    return {"mustBeLessOrEqualTo": int(check.allow)}


def _row_bounds(says: Mapping[str, Any]) -> Plain:
    low, high = says.get("min"), says.get("max")
    if low is None:
        return {"mustBeLessOrEqualTo": high}
    if high is None:
        return {"mustBeGreaterOrEqualTo": low}
    if low == high:
        return {"mustBe": low}
    return {"mustBeBetween": [low, high]}
