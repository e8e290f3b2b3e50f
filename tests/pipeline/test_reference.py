"""The page about transformations: its examples work, and it names all that a model may do."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from tulle.engine.statement import read_statement
from tulle.pipeline.job import read_python
from tulle.pipeline.model import ModelRun
from tulle.pipeline.model_kind import ModelKind, read_header

PAGE = Path(__file__).parents[2] / "docs/reference/transformations.md"


def test_the_examples_are_right() -> None:
    sql, daily = re.findall(r"^```sql\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert (read_statement(sql).problems, read_statement(sql).reads) == ((), ("purchases",))
    (python,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert read_python(python, "m.py") == (("purchases",), ModelKind(), [])
    kind, problems = read_header(daily, "m.sql")
    assert (kind.strategy, kind.lookback, problems) == ("window", 2, [])
    assert read_statement(daily).problems == ()


def test_every_setting_is_told() -> None:
    told = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", PAGE.read_text(), re.MULTILINE))))
    assert {field.name for field in fields(ModelKind)} <= told


def test_all_of_run_is_told() -> None:
    told = set(re.findall(r"^\| `run\.(\w+)", PAGE.read_text(), re.MULTILINE))
    assert told == {name for name in vars(ModelRun) if not name.startswith("_")} | {"id"}
