"""The page about transformations: its examples work, and it names all that a model may do."""

from __future__ import annotations

import re
from pathlib import Path

from tulle.engine.statement import read_statement
from tulle.pipeline.job import read_python
from tulle.pipeline.model import ModelRun

PAGE = Path(__file__).parents[2] / "docs/reference/transformations.md"


def test_the_examples_are_right() -> None:
    (sql,) = re.findall(r"^```sql\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert (read_statement(sql).problems, read_statement(sql).reads) == ((), ("purchases",))
    (python,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert read_python(python, "m.py") == (("purchases",), [])


def test_all_of_run_is_told() -> None:
    told = set(re.findall(r"^\| `run\.(\w+)", PAGE.read_text(), re.MULTILINE))
    assert told == {name for name in vars(ModelRun) if not name.startswith("_")} | {"id"}
