"""Suites as checks: a test program of one's own, such as a suite of Great Expectations, as the gate of a data set.

    - {data_set: orders, type: suite, suite: suites/orders.py, environment: expectations}

The program gets the data set's files in `data/<data set>/` and fails by its exit code. It runs as the lake's hooks do:
shut in, in a Python environment that the mesh names. What it writes may hold rows, so it goes to the run's log only;
but lines that begin with `failed: ` are told with the verdict.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from tulle.engine.engine import Engine, Relation, quoted
from tulle.errors import LimitExceeded, did_you_mean
from tulle.lake.hooks.sandbox import Sandbox
from tulle.quality.kind import Finding, Kind, Settings, register

SUITES = "suites"
_MOST_BYTES = 2 << 30
_MOST_CHARACTERS = 1_000_000
_TIMEOUT = "5m"
_FAILED = re.compile(r"failed: (\S.*)")
_TOLD, _TOLD_CHARACTERS = 5, 200  # of what a suite says that failed
_SECONDS = {"s": 1, "m": 60, "h": 3600}


def _unreachable(_settings: Settings, _value: Any, _now: datetime) -> Finding:
    raise AssertionError("a program gives its finding itself")


register(
    Kind(
        "suite",
        {
            "suite": {
                "type": "string",
                "pattern": rf"^{SUITES}/[A-Za-z0-9_][A-Za-z0-9_./-]*\.py$",
                "x-expected": f"a Python file in checks/{SUITES}/, like {SUITES}/orders.py",
                "description": "the program",
            },
            "environment": {
                "type": "string",
                "minLength": 1,
                "description": "one of the mesh's `hook_environments`; that of the mesh itself when nothing is said",
            },
            "memory_mb": {
                "type": "integer",
                "minimum": 16,
                "maximum": 65_536,
                "description": "its address space",
            },
            "timeout": {
                "type": "string",
                "pattern": r"^[1-9][0-9]{0,4}[smh]$",
                "x-expected": "a time like 90s or 5m",
                "description": f"how long it may take; {_TIMEOUT} when nothing is said",
            },
        },
        ("suite",),
        title=lambda s: f"the suite {s['suite'].removeprefix(SUITES + '/')} passes",
        judge=_unreachable,
        is_program=True,
    )
)


def read_suite(folder: Path | None, suite: str) -> tuple[str, str, str | None]:
    """The text of a suite below a folder of checks; or, after it, why there is none, and a hint."""
    if folder is None:
        return (
            "",
            "a suite is a file beside the checks of a product",
            "a hook has a property `suite` of its own",
        )
    file = folder / suite
    if not file.resolve().is_relative_to(folder.resolve()):
        return "", f"'{suite}' is outside of {folder.name}/", None
    if not file.is_file():
        there = sorted(f"{SUITES}/{found.name}" for found in (folder / SUITES).glob("*.py"))
        return "", f"there is no file '{suite}'", did_you_mean(suite, there) if there else None
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        return "", f"'{suite}' cannot be read: {exc}", None
    if len(text) > _MOST_CHARACTERS:
        return "", f"'{suite}' has more than {_MOST_CHARACTERS:,} characters", None
    return text, "", None


def carry_out(
    settings: Settings, relation: Relation, engine: Engine, sandbox: Sandbox, say: Callable[[str], None]
) -> Finding:
    """Run a suite on a data set's files; those of a view are written first. Invalid for an unknown environment, Denied
    where it cannot be shut in, LimitExceeded for more data than a program gets."""
    match = re.fullmatch(r"([0-9]+)([smh])", settings.get("timeout", _TIMEOUT))
    assert match is not None  # the schema has the same pattern
    seconds = int(match[1]) * _SECONDS[match[2]]
    memory = settings.get("memory_mb")
    with tempfile.TemporaryDirectory(prefix="tulle-suite-") as place:
        folder = Path(place)
        folder.chmod(0o755)
        _export(relation, engine, folder / "data" / relation.name)
        (folder / "suite.py").write_text(settings["code"], encoding="utf-8")
        ended = sandbox.run(
            ["python", "suite.py"],
            folder,
            deadline=time.monotonic() + seconds,
            env={"TULLE_DATA": "data"},
            memory_bytes=memory * (1 << 20) if memory else None,
            environment=settings.get("environment", ""),
        )
    for line in ended.output.splitlines():
        say(f"{settings['suite']}: {line}")
    if ended.code == 0:
        return Finding(0, f"{settings['suite']} passed")
    how = "did not end in time" if ended.code is None else f"ended with exit code {ended.code}"
    failed = [match[1] for line in ended.output.splitlines() if (match := _FAILED.match(line))]
    told = ": " + "; ".join(one[:_TOLD_CHARACTERS] for one in failed[:_TOLD]) if failed else ""
    told += f"; and {len(failed) - _TOLD} more" if len(failed) > _TOLD else ""
    return Finding(max(1, len(failed)), f"{settings['suite']} {how}{told}; what it wrote is in the run's log")


def _export(relation: Relation, engine: Engine, folder: Path) -> None:
    if relation.sql:
        target = folder / "part-0000.parquet"
        engine.write(f"SELECT * FROM {quoted(relation.name)}", [relation], target)  # noqa: S608
        _within_bounds(relation, target.stat().st_size)
        folder.chmod(0o755)
        target.chmod(0o444)
        return
    size = sum(Path(file).stat().st_size for file in relation.files)
    _within_bounds(relation, size)
    folder.mkdir(parents=True)
    for number, file in enumerate(relation.files):
        target = folder / f"part-{number:04}.parquet"
        shutil.copyfile(file, target)
        target.chmod(0o444)


def _within_bounds(relation: Relation, size: int) -> None:
    if size > _MOST_BYTES:
        raise LimitExceeded(
            f"'{relation.name}' has {size:,} bytes, a suite gets at most {_MOST_BYTES:,}",
            hint="use checks of the mesh's own, which read where the data is",
        )
