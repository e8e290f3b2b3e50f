"""Problems as the annotations of a CI system, which shows each at its line of a change."""

from __future__ import annotations

import os
from pathlib import Path

from tulle.errors import Problem
from tulle.spec.picture import harmless


def github(problem: Problem, mesh: Path, level: str = "error") -> str:
    """One problem as a workflow command of GitHub Actions; paths count from the folder the command runs in."""
    told = harmless(problem.message) + (f"\n{harmless(problem.hint)}" if problem.hint else "")
    fields = ["title=tulle validate"]
    if problem.place:
        file = Path(os.path.relpath(mesh / problem.place.file)).as_posix()
        fields.insert(0, f"file={_property(file)}")
        fields[1:1] = [f"line={problem.place.line}"] if problem.place.line else []
        fields[2:2] = [f"col={problem.place.column}"] if problem.place.column else []
    return f"::{level} {','.join(fields)}::{_data(told)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(harmless(text)).replace(":", "%3A").replace(",", "%2C")
