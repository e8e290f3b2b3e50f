"""What dbt told of a build, in this product's words: failures at their places, tests as checks, one row a node.

Pure but for reading the project's files to find a line. Knows nothing of processes or branches.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tulle.errors import Place, Problem
from tulle.quality.check import ERROR, WARN
from tulle.quality.verdict import CheckResult
from tulle.spec.dbt_project import DbtProject
from tulle.spec.product import DataProduct, DataSet

Node = Mapping[str, Any]
MODEL_KINDS = frozenset({"model", "seed", "snapshot"})
TEST_KINDS = frozenset({"test", "unit_test"})
_FAILED = frozenset({"error", "runtime error", "fail"})
_FILE = re.compile(r"\(([\w][\w ./-]*\.(?:sql|py|yml|yaml|csv))\)")
_LINE = re.compile(r"^\s*LINE (\d+): (.*)$", re.MULTILINE)
_JINJA_LINE = re.compile(r"\bline (\d+)\b")
_NOISE = re.compile(r"^\s*(compiled code at |> in macro|> called by|\^+$)|^\s*$")
_HEAD = re.compile(r"^(Runtime|Compilation|Database|Parsing|Dependency) Error( in .*)?$")


# ── failures ─────────────────────────────────────────────────────────────────────────────────────────────


def placed(project: DbtProject, text: str, file: str = "") -> Problem:
    """dbt's words about a failure, at the line of the project's file as far as they tell it."""
    if match := _FILE.search(text):
        file = match[1]
    known = dict(project.files)
    if file not in known:
        file = "dbt_project.yml"
    line, column, source = _position(project, file, text)
    words = [part.strip() for part in text.splitlines() if not _NOISE.match(part) and not _LINE.match(part)]
    rest = [word for word in words if not _HEAD.match(word)] or words or ["no reason was told"]
    hint = " ".join(rest[1:])[:500] or None
    return Problem(rest[0][:1000], Place(f"{project.label}/{file}", line, column), hint, source)


def _position(project: DbtProject, file: str, text: str) -> tuple[int, int, str | None]:
    """Line, column and text of what a message is about; a line of compiled SQL is looked for in the file."""
    try:
        lines = (project.folder / file).read_text("utf-8", "replace").splitlines()
    except OSError:
        return 0, 0, None
    if match := _LINE.search(text):
        mark = text[match.end() + 1 :].partition("\n")[0].find("^")
        line_start = text.rfind("\n", 0, match.start(2)) + 1
        return _found(match[2], max(0, mark - (match.start(2) - line_start)), lines)
    if (match := _JINJA_LINE.search(text)) and 0 < int(match[1]) <= len(lines):
        return int(match[1]), 0, lines[int(match[1]) - 1]
    return 0, 0, None


def _found(shown: str, at: int, lines: Sequence[str]) -> tuple[int, int, str | None]:
    """Where a line of compiled SQL stands in the file it was compiled from, and in it what is at `at`.

    Jinja may have written a part of the line, so the rest of it is looked for from word to word.
    """
    starts = [match.start() for match in re.finditer(r"\S+", shown) if match.start() <= at] or [0]
    for start in (*starts, at):
        part = shown[start:].removesuffix("...").rstrip()
        found = [number for number, line in enumerate(lines, 1) if part and part in line]
        if len(found) == 1:
            line = lines[found[0] - 1]
            return found[0], line.index(part) + at - start + 1, line
    return 0, 0, None


def failures(project: DbtProject, nodes: Sequence[Node]) -> tuple[Problem, ...]:
    """A problem for each node that could not be made."""
    found = []
    for node in nodes:
        if node["kind"] in TEST_KINDS or node["status"] not in _FAILED:
            continue
        problem = placed(project, str(node["message"]), str(node["file"]))
        message = f"dbt could not make '{node['name']}': {problem.message}"
        found.append(Problem(message, problem.place, problem.hint, problem.source_line))
    return tuple(found)


# ── tests as checks ──────────────────────────────────────────────────────────────────────────────────────


def results(project: DbtProject, nodes: Sequence[Node], sources: Sequence[Node]) -> list[CheckResult]:
    """The verdicts of dbt's tests, each on the data set it is about, else on the project as a whole."""
    by_id = {node["unique_id"]: str(node["name"]).lower() for node in nodes if node["kind"] in MODEL_KINDS}
    by_id |= {source["unique_id"]: source["data_set"] for source in sources}
    found: list[CheckResult] = []
    for node in nodes:
        if node["kind"] not in TEST_KINDS or node["status"] == "skipped":
            continue
        about = [by_id[each] for each in (node["attached"], *node["reads"][::-1]) if each in by_id]
        shown = tuple(node.get("shown") or ())
        warns = node["status"] == "warn" or (node["status"] != "fail" and node["severity"] == "warn")
        failing = int(node["failures"] or 0)
        what = f"{failing:,} failing {'row' if failing == 1 else 'rows'}"
        if node["status"] in {"error", "runtime error"}:
            problem = placed(project, str(node["message"]), str(node["file"]))
            what = f"dbt could not carry it out: {problem.message}"
        elif node["kind"] == "unit_test" and node["status"] != "pass":
            what = " ".join(str(node["message"]).split())[:1000] or "the rows are not as expected"
        found.append(
            CheckResult(
                str(node["name"]),
                "dbt",
                about[0] if about else project.name,
                WARN if warns else ERROR,
                passed=node["status"] in {"pass", "success"},
                failing_count=failing,
                total=0,
                message=what,
                failing_rows=shown,
                columns=tuple(shown[0]) if shown else (),
                description=_description(node),
                value=float(failing),
                tags=tuple(node["tags"]),
            )
        )
    return found


def _description(node: Node) -> str:
    kind = f"{node['test']} of {node['column']}" if node["test"] and node["column"] else node["test"]
    return f"a test of the dbt project{f' ({kind})' if kind else ''}, in {node['file']}"


def documented(product: DataProduct, nodes: Sequence[Node]) -> Iterator[CheckResult]:
    """Where the project documents a data set otherwise than product.yaml: warnings, for both are read by people."""
    declared = {data_set.name: data_set for data_set in product.data_sets}
    for node in nodes:
        data_set = declared.get(str(node["name"]).lower())
        if data_set is None or node["kind"] not in MODEL_KINDS or not node["documented"]:
            continue
        told = list(_differences(data_set, node))
        yield CheckResult(
            "documented alike in dbt and product.yaml",
            "schema",
            data_set.name,
            WARN,
            passed=not told,
            failing_count=len(told),
            total=len(node["documented"]),
            message="; ".join(told) or f"all {len(node['documented'])} columns that dbt documents are alike",
            description=f"the columns of {node['file']} and their descriptions",
        )


def _differences(data_set: DataSet, node: Node) -> Iterator[str]:
    columns = {column.name.lower(): column for column in data_set.columns}
    if (
        data_set.description
        and node["description"]
        and _words(data_set.description) != _words(node["description"])
    ):
        yield "the data set is described differently"
    for name, told in node["documented"].items():
        column = columns.get(name.lower())
        if column is None:
            if columns:
                yield f"column '{name}' is not declared in product.yaml"
        elif (
            column.description
            and told["description"]
            and _words(column.description) != _words(told["description"])
        ):
            yield f"column '{name}' is described differently"


def _words(text: str) -> list[str]:
    return text.casefold().strip(" .").split()


# ── one row a node ───────────────────────────────────────────────────────────────────────────────────────


def rows_of(project: DbtProject, nodes: Sequence[Node], digests: Mapping[str, str]) -> list[dict[str, Any]]:
    """What dbt made, for people: nothing of it differs between two builds that made the same."""
    return [
        {
            "node": str(node["unique_id"]),
            "kind": str(node["kind"]),
            "materialized": str(node["materialized"]),
            "file": f"{project.label}/{node['file']}",
            "status": str(node["status"]),
            "row_count": node.get("rows"),
            "content": digests.get(str(node["name"]).lower()),
        }
        for node in sorted(nodes, key=lambda node: str(node["unique_id"]))
    ]
