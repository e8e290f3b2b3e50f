"""Checks as a product's owner writes them, read into values: checks/*.yaml, checks/*.sql, declared columns.

Reading never raises for what a file says: problems come back with their places, so that all are told at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

from tulle.engine.statement import read_statement
from tulle.errors import Invalid, Place, Problem, did_you_mean
from tulle.quality.check_rules import rule_problems
from tulle.quality.condition import read_condition
from tulle.quality.kind import KINDS, kind_named, other_product
from tulle.quality.program import read_program
from tulle.quality.suite import read_suite
from tulle.spec.load import Schema, decoded, load_document, validate
from tulle.spec.product import Column, DataSet

ERROR, WARN = "error", "warn"
_COMMON: dict[str, dict[str, Any]] = {
    "data_set": {"type": "string", "minLength": 1, "description": "the data set whose rows are checked"},
    "type": {"type": "string", "description": "the type of check"},
    "name": {"type": "string", "minLength": 1, "maxLength": 200},
    "description": {"type": "string"},
    "severity": {"enum": [ERROR, WARN], "description": "error stops the run, warn is only reported"},
    "tags": {
        "type": "array",
        "items": {
            "type": "string",
            "pattern": "^[a-z0-9][a-z0-9_.-]{0,62}$",
            "x-expected": "a word like nightly",
        },
        "description": "words by which checks are chosen and found",
    },
    "contract": {
        "type": "object",
        "properties": {
            "rule": {"type": "object"},
            "column": {"type": "string"},
            "at": {"type": "integer", "minimum": 0},
        },
        "required": ["rule"],
        "additionalProperties": False,
        "description": "the quality rule of a data contract that it was made of",
    },
}
_ALLOW = re.compile(r"([0-9]+)|([0-9]+(?:\.[0-9]+)?)\s*%")
_OF_ROWS = {
    "allow": {
        "type": ["integer", "string"],
        "minimum": 0,
        "pattern": rf"^({_ALLOW.pattern})$",
        "x-expected": "a number of rows like 5, or a share of them like 0.1%",
        "description": "how many rows may fail: a number, or a share of the rows looked at",
    }
}
_OF_FILTERS = {
    "where": {
        "type": "string",
        "minLength": 1,
        "description": "a condition: only rows that meet it are looked at",
    }
}
_HEADER = re.compile(r"--\s*(data_set|name|description|severity|allow|tags)\s*:\s*(.*?)\s*$")


@dataclass(frozen=True, slots=True)
class Check:
    """One check of one data set. `settings` are its kind's own; `reads` the data sets its SQL names.

    Rows that do not meet `where` are not looked at; up to `allow` rows (`5`, or a share like `0.1%`) may fail.
    """

    name: str
    kind: str
    data_set: str
    severity: str = ERROR
    description: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    reads: tuple[str, ...] = ()
    place: Place | None = field(default=None, compare=False)
    where: str = ""
    allow: str = ""
    tags: tuple[str, ...] = ()
    contract: Mapping[str, Any] = field(default_factory=dict, compare=False)  # the rule it was made of

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of its data set that it needs."""
        own = kind_named(self.kind).columns(self.settings)
        if not self.where:
            return own
        return tuple(dict.fromkeys((*own, *read_condition(self.where).columns)))

    @property
    def elsewhere(self) -> Mapping[str, tuple[str, str]]:
        """Data sets of other products that it needs: by the name its SQL has for them, (product, data set)."""
        to = self.settings.get("to") if self.kind == "references" else None
        if not isinstance(to, Mapping) or "product" not in to:
            return {}
        return {other_product(to["product"], to["data_set"]): (to["product"], to["data_set"])}

    def allowed(self, total: int) -> int:
        """How many of `total` rows may fail."""
        if not self.allow:
            return 0
        if self.allow.endswith("%"):
            return int(total * Fraction(self.allow.rstrip("% ")) / 100)
        return int(self.allow)

    @property
    def others(self) -> Mapping[str, tuple[str, ...]]:
        """Further data sets that it needs, each with the columns it is known to need there."""
        named = dict(kind_named(self.kind).others(self.settings))
        for data_set in self.reads:
            if data_set != self.data_set:
                named.setdefault(data_set, ())
        return named

    def digest_text(self) -> str:
        """All that decides its verdict, as text: equal text, equal check."""
        parts = [self.name, self.kind, self.data_set, self.severity, self.settings, self.where, self.allow]
        return json.dumps(parts, sort_keys=True, default=str)


def read_checks(folder: Path, label: str) -> tuple[tuple[Check, ...], tuple[Problem, ...]]:
    """All checks of a product's `checks/` folder (none when it does not exist), and all problems.

    `label` is what errors call the folder.
    """
    checks: list[Check] = []
    problems: list[Problem] = []
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    for file in files:
        if file.suffix in {".yaml", ".yml"}:
            found, wrong = parse_checks(file, f"{label}/{file.name}")
        elif file.suffix == ".sql":
            found, wrong = _from_sql(file, f"{label}/{file.name}")
        elif file.suffix == ".py" and not file.name.startswith("_"):
            found, wrong = _from_python(file, f"{label}/{file.name}")
        else:
            continue
        checks += found
        problems += wrong
    problems += _repeated(checks)
    return tuple(checks), tuple(problems)


def parse_checks(source: Path | str | bytes, name: str) -> tuple[list[Check], list[Problem]]:
    """The checks of one YAML file or text, and all problems; `name` is what errors call it."""
    try:
        document = load_document(source, name=name)
    except Invalid as error:
        return [], list(error.problems) or [Problem(error.message, Place(name), error.hint)]
    if document.value is None:
        return [], []
    problems = validate(document, _document_schema(tuple(KINDS)))
    if problems:
        return [], problems
    checks: list[Check] = []
    for position, item in enumerate(document.value["checks"]):
        path = ("checks", position)
        wrong = validate(document, _schema(item["type"]), path, where=f"the check '{item['type']}'")
        wrong = wrong or rule_problems(document, item, path)
        if wrong:
            problems += wrong
            continue
        check = _check(item, document.place(path))
        if check.kind == "sql":
            place = document.place((*path, "sql"))
            block = (document.line(place.line) or "")[place.column - 1 : place.column] in {"|", ">"}
            check, wrong = _with_statement(check, name, place.line + block)
            problems += wrong
        if check.kind == "suite":
            folder = source.parent if isinstance(source, Path) else None
            code, why, hint = read_suite(folder, check.settings["suite"])
            if why:
                problems.append(document.problem(why, (*path, "suite"), hint=hint))
                continue
            check = replace(check, settings={**check.settings, "code": code})
        checks.append(check)
    return checks, problems


def _check(item: Mapping[str, Any], place: Place) -> Check:
    kind = KINDS[item["type"]]
    apart = {*_COMMON, *_OF_ROWS, *_OF_FILTERS}
    settings = {key: value for key, value in item.items() if key not in apart}
    return Check(
        name=item.get("name") or kind.title(settings),
        kind=kind.name,
        data_set=item["data_set"],
        severity=item.get("severity", ERROR),
        description=item.get("description", ""),
        settings=settings,
        place=place,
        where=item.get("where", ""),
        allow=str(item.get("allow", "")),
        tags=tuple(item.get("tags", ())),
        contract=item.get("contract", {}),
    )


def _from_sql(file: Path, name: str) -> tuple[list[Check], list[Problem]]:
    try:
        text = decoded(file.read_bytes(), name).removeprefix("\ufeff")
    except OSError as exc:
        return [], [Problem(f"{name} cannot be read: {exc.strerror or exc}", Place(name))]
    except Invalid as exc:
        return [], list(exc.problems)
    header: dict[str, str] = {}
    for line in text.splitlines():
        if not line.startswith("--"):
            break
        if match := _HEADER.match(line):
            header[match[1]] = match[2]
    if not header.get("data_set"):
        hint = "begin the file with a line like '-- data_set: purchases'"
        return [], [Problem("the check does not say which data set it is about", Place(name, 1), hint)]
    if header.get("severity", ERROR) not in {ERROR, WARN}:
        message = f"'severity' is '{header['severity']}', expected one of error, warn"
        return [], [Problem(message, Place(name, 1))]
    allow = header.get("allow", "")
    if allow and not _ALLOW.fullmatch(allow):
        message = f"'allow' is '{allow}', expected a number of rows like 5, or a share of them like 0.1%"
        return [], [Problem(message, Place(name, 1))]
    check = Check(
        name=header.get("name") or file.stem,
        kind="sql",
        data_set=header["data_set"],
        severity=header.get("severity", ERROR),
        description=header.get("description", ""),
        settings={"sql": text},
        place=Place(name, 1),
        allow=allow,
        tags=tuple(filter(None, (tag.strip() for tag in header.get("tags", "").split(",")))),
    )
    check, problems = _with_statement(check, name, 1)
    return [check], problems


def _from_python(file: Path, name: str) -> tuple[list[Check], list[Problem]]:
    said, problems = read_program(file, name)
    if not problems and "allow" in said and not _ALLOW.fullmatch(said["allow"]):
        message = (
            f"'allow' is '{said['allow']}', expected a number of rows like 5, or a share of them like 0.1%"
        )
        problems = [Problem(message, Place(name, 1))]
    if problems:
        return [], problems
    settings: dict[str, Any] = {key: said[key] for key in ("code", "takes", "columns") if key in said}
    check = Check(
        name=said.get("name") or file.stem,
        kind="python",
        data_set=said["data_set"],
        severity=said.get("severity", ERROR),
        description=said.get("description", ""),
        settings=settings,
        place=Place(name, 1),
        allow=said.get("allow", ""),
        tags=tuple(said.get("tags", ())),
    )
    return [check], []


def _with_statement(check: Check, file: str, first_line: int) -> tuple[Check, list[Problem]]:
    statement = read_statement(check.settings["sql"], file, first_line=first_line)
    return replace(check, reads=statement.reads), list(statement.problems)


def _repeated(checks: Sequence[Check]) -> list[Problem]:
    problems: list[Problem] = []
    seen: dict[tuple[str, str], Place | None] = {}
    for check in checks:
        key = (check.data_set, check.name)
        if key in seen:
            first = f"the first is at {seen[key]}" if seen[key] else None
            problems.append(
                Problem(f"data set '{check.data_set}' has two checks '{check.name}'", check.place, first)
            )
        seen.setdefault(key, check.place)
    return problems


def check_names(checks: Sequence[Check], known: Mapping[str, Sequence[str] | None]) -> tuple[Problem, ...]:
    """Problems for data sets and columns that do not exist.

    `known` maps every data set to its columns, or to None where they are only known when it runs. Data sets of
    other products are not looked for: `upstream_problems` does.
    """
    problems = []
    for check in checks:
        for data_set, columns in {check.data_set: check.columns, **check.others}.items():
            if "." in data_set and data_set in check.elsewhere:
                continue
            if data_set not in known:
                message = f"check '{check.name}': unknown data set '{data_set}'"
                problems.append(Problem(message, check.place, did_you_mean(data_set, known)))
                continue
            there = known[data_set]
            if there is None:
                continue
            spelt = {name.lower() for name in there}
            for column in columns:
                if column.lower() not in spelt:
                    message = f"check '{check.name}': data set '{data_set}' has no column '{column}'"
                    problems.append(Problem(message, check.place, did_you_mean(column, there)))
    return tuple(problems)


def declared_checks(data_set: DataSet) -> tuple[Check, ...]:
    """What the declared columns of a data set promise: values that are there, told apart, accepted, within bounds,
    of a pattern, of a length, known elsewhere."""
    checks = []

    def promise(name: str, kind: str, place: Place | None, **settings: Any) -> None:
        checks.append(Check(name, kind, data_set.name, settings=settings, place=place))

    for column in data_set.columns:
        if column.required or column.key:
            why = "required" if column.required else "part of the key"
            promise(f"{column.name} is {why}", "not_null", column.place, columns=[column.name])
        for kind, settings in _column_promises(column):
            if kind == "unique" and data_set.key == (column.name,):
                continue  # the key is told below
            promise(kind_named(kind).title(settings), kind, column.place, **settings)
    if data_set.key:
        name = f"{', '.join(data_set.key)} is the key"
        promise(name, "unique", data_set.place, columns=list(data_set.key))
    return tuple(checks)


def _column_promises(column: Column) -> Iterator[tuple[str, dict[str, Any]]]:
    name = {"column": column.name}
    if column.unique:
        yield "unique", {"columns": [column.name]}
    if column.enum:
        yield "accepted_values", {**name, "values": [accepted.value for accepted in column.enum]}
    if column.pattern:
        yield "pattern", {**name, "pattern": column.pattern}
    if bounds := _given(min=column.min, max=column.max):
        yield "range", {**name, **bounds}
    if lengths := _given(min=column.min_length, max=column.max_length):
        yield "length", {**name, **lengths}
    if (key := column.foreign_key) is not None:
        to = {"data_set": key.data_set, "column": key.column}
        yield "references", {**name, "to": {**({"product": key.product} if key.product else {}), **to}}


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


@lru_cache(maxsize=1)
def _document_schema(kinds: tuple[str, ...]) -> Schema:
    """What a file of checks looks like, before the settings of each kind are looked at."""
    written = [kind for kind in kinds if not kind_named(kind).is_file]
    head = {"data_set": _COMMON["data_set"], "type": {**_COMMON["type"], "enum": written}}
    entry = {"type": "object", "properties": head, "required": ["data_set", "type"]}
    checks = {"type": "array", "description": "a list of checks", "items": entry}
    return Schema(
        {
            "type": "object",
            "properties": {"checks": checks},
            "required": ["checks"],
            "additionalProperties": False,
        }
    )


@lru_cache(maxsize=100)
def _schema(name: str) -> Schema:
    kind = kind_named(name)
    common = {**_COMMON, **(_OF_ROWS if kind.counts_rows else {}), **(_OF_FILTERS if kind.filters else {})}
    return Schema(
        {
            "type": "object",
            "properties": {**common, **kind.properties},
            "required": ["data_set", "type", *kind.required],
            "additionalProperties": False,
        }
    )
