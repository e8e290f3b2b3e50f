"""The `check` hook: what a commit holds must pass checks of the mesh's own, or a suite written in Python.

Registered with the lake's hooks by whoever composes the mesh; the lake knows nothing of checks.
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tulle.engine.dataset_files import files_at, local_files
from tulle.engine.engine import Engine, Relation
from tulle.errors import Invalid, TulleError
from tulle.lake.hooks.command import run_with_files
from tulle.lake.hooks.kind import HookCall, HookKind, Outcome
from tulle.lake.hooks.properties import CHECK
from tulle.lake.hooks.sandbox import Sandbox
from tulle.quality.check import Check, parse_checks
from tulle.quality.verdict import CheckResult, evaluate
from tulle.spec.document import refuse

TIMEOUT_SECONDS = 300.0
FILE_BYTES = 2_000_000
SHOWN_ROWS = 5


def check_kind(engine: Engine, sandbox: Sandbox | None = None) -> HookKind:
    """The type: checks are carried out by `engine`, suites run in `sandbox`."""
    box = sandbox or Sandbox()

    def run(call: HookCall) -> Outcome:
        if not {"checks", "file", "suite"} & set(call.properties):
            raise Invalid("a check hook needs 'checks', 'file' or 'suite'")
        call = replace(call, properties={"timeout": f"{TIMEOUT_SECONDS:g}s", **call.properties})
        checks = _checks(call)
        outcome = _in_time(lambda: _checked(call, engine, checks), call) if checks else Outcome(True, "")
        if "suite" in call.properties:
            suite = _suite(call, box)
            text = "\n".join(filter(None, (outcome.output, suite.output)))
            outcome = Outcome(outcome.passed and suite.passed, text)
        return replace(outcome, final=True)

    return HookKind(run, CHECK)


def _checks(call: HookCall) -> list[Check]:
    """All checks the hook names. Invalid, with their places."""
    found: list[Check] = []
    if inline := call.properties.get("checks"):
        found += _parsed(json.dumps({"checks": inline}), f"checks of hook '{call.hook}'")
    if file := call.properties.get("file"):
        if call.repository.stat(call.ref, file).size > FILE_BYTES:
            raise Invalid(f"{file} is larger than {FILE_BYTES // 1_000_000} MB")
        found += _parsed(call.repository.get(call.ref, file), file)
    return found


def _parsed(text: str | bytes, name: str) -> list[Check]:
    checks, problems = parse_checks(text, name)
    refuse(name, problems)
    return checks


def _checked(call: HookCall, engine: Engine, checks: list[Check]) -> Outcome:
    names = {name for check in checks for name in (check.data_set, *check.others)}
    with tempfile.TemporaryDirectory(prefix="tulle-hook-") as place:
        relations = {}
        for name in sorted(names):
            found = _relation(call, name, Path(place) / name.replace("/", "_"))
            if found is not None:
                relations[name] = found
        results = evaluate(engine, checks, relations)
    return Outcome(not any(result.stops for result in results), "\n".join(map(_line, results)))


def _relation(call: HookCall, name: str, folder: Path) -> Relation | None:
    prefix = (call.properties.get("data_sets") or {}).get(name, f"{name}/")
    files = files_at(call.repository, call.ref, prefix)
    if files.format is None:
        return None
    if files.format != "parquet":
        raise Invalid(
            f"'{prefix}' is {files.format}; checks look at Parquet files", hint="use a suite for it"
        )
    places = local_files(call.repository, files.entries, folder)
    return Relation(name, tuple(places[entry.address] for entry in files.entries))


def _line(result: CheckResult) -> str:
    mark = "passed" if result.passed else "FAILED" if result.stops else "warned"
    lines = [f"{mark}  {result.data_set}: {result.name}: {result.message}"]
    lines += [
        f"        {json.dumps(dict(row), ensure_ascii=False)}" for row in result.failing_rows[:SHOWN_ROWS]
    ]
    return "\n".join(lines)


def _suite(call: HookCall, sandbox: Sandbox) -> Outcome:
    suite = call.properties["suite"]
    sets: Mapping[str, Any] = call.properties.get("data_sets") or {}
    paths = [suite, *(call.properties.get("paths") or ()), *sets.values()]
    return run_with_files(call, sandbox, ["python", f"data/{suite}"], paths)


def _in_time(work: Any, call: HookCall) -> Outcome:
    """A statement of the engine cannot be ended from outside; it can be left alone."""
    found: list[Outcome | TulleError | Exception] = []

    def do() -> None:
        try:
            found.append(work())
        except Exception as exc:  # noqa: BLE001  handed on below
            found.append(exc)

    thread = threading.Thread(target=do, name=f"checks-{call.run_id}", daemon=True)
    limit = call.limit(TIMEOUT_SECONDS)
    thread.start()
    thread.join(max(0.0, limit - (call.deadline - call.seconds_left)))
    if not found:
        return Outcome(False, "the checks did not end in time")
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]
