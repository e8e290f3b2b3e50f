"""Suites as checks: programs in a sandbox with the data set's files, and a real one of Great Expectations."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tulle.errors import Invalid
from tulle.lake.hooks.sandbox import Sandbox
from tulle.quality.check import Check, read_checks
from tulle.quality.suite import carry_out

ROOT = Path(__file__).parents[2]
COUNTING = """
import pathlib, sys
import pyarrow.parquet as pq
rows = sum(pq.read_table(file).num_rows for file in pathlib.Path("data/t").glob("*.parquet"))
print("rows:", rows)
sys.exit(rows != 3)
"""


def read(folder: Path, text: str, settings: str = "") -> Check:
    (folder / "suites").mkdir(exist_ok=True)
    (folder / "suites/mine.py").write_text(text)
    (folder / "c.yaml").write_text(f"checks: [{{data_set: t, type: suite, suite: suites/mine.py{settings}}}]")
    (check,), problems = read_checks(folder, "checks")
    assert problems == ()
    return check


def test_a_program_decides_by_its_exit_code(relations: Any, tmp_path: Path) -> None:
    check = read(tmp_path, COUNTING)
    assert check.name == "the suite mine.py passes"
    said: list[str] = []
    good = carry_out(check.settings, relations(t={"id": [1, 2, 3]})["t"], Sandbox(), said.append)
    assert (good.failing, said) == (0, ["suites/mine.py: rows: 3"])
    bad = carry_out(check.settings, relations(t={"id": [1]})["t"], Sandbox(), said.append)
    assert bad.failing == 1
    assert bad.message == "suites/mine.py ended with exit code 1; what it wrote is in the run's log"


def test_a_program_is_bounded_and_its_environment_known(relations: Any, tmp_path: Path) -> None:
    table = relations(t={"id": [1]})["t"]
    slow = read(tmp_path, "while True: pass", ", timeout: 1s")
    assert re.search(
        "did not end in time|exit code", carry_out(slow.settings, table, Sandbox(), print).message
    )
    unknown = read(tmp_path, "", ", environment: expectation")
    with pytest.raises(Invalid) as caught:
        carry_out(unknown.settings, table, Sandbox(environments={"expectations": "/x"}), print)
    assert caught.value.hint == "did you mean 'expectations'?"


@pytest.mark.parametrize(
    ("suite", "problem"),
    [
        ("suites/other.py", "there is no file 'suites/other.py'"),
        ("suites/a/../../../outside.py", "is outside of"),
        ("mine.py", "expected a Python file in checks/suites/"),
        ("suites/link.py", "is outside of"),
    ],
)
def test_a_suite_is_a_file_below_the_checks(tmp_path: Path, suite: str, problem: str) -> None:
    folder = tmp_path / "checks"
    (folder / "suites").mkdir(parents=True)
    (folder / "suites/mine.py").write_text("")
    (tmp_path / "outside.py").write_text("")
    (folder / "suites/link.py").symlink_to(tmp_path / "outside.py")
    (folder / "c.yaml").write_text(f"checks:\n- {{data_set: t, type: suite, suite: {suite}}}")
    checks, problems = read_checks(folder, "checks")
    assert checks == ()
    assert problem in str(problems[0])
    assert str(problems[0]).startswith("checks/c.yaml:2:")


@pytest.mark.system
@pytest.mark.skipif(
    not (ROOT / ".venv-clients/bin/python").exists(), reason="the clients' environment is not made"
)
def test_a_suite_of_great_expectations_is_a_check(relations: Any, tmp_path: Path) -> None:
    page = (ROOT / "docs/reference/hooks.md").read_text()
    (text,) = (t for t in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "great_expectations" in t)
    check = read(
        tmp_path, text.replace("data/tables/orders", "data/orders"), ", environment: e, memory_mb: 4096"
    )
    sandbox = Sandbox(environments={"e": str(ROOT / ".venv-clients")})
    said: list[str] = []
    bad = relations(orders={"id": [1, 2], "amount": [4, -7]})["orders"]
    assert carry_out(check.settings, bad, sandbox, said.append).failing == 1, said
    assert any("FAILED expect_column_values_to_be_between amount [-7]" in line for line in said), said
    good = relations(orders={"id": [1, 2], "amount": [4, 7]})["orders"]
    assert carry_out(check.settings, good, sandbox, said.append).failing == 0, said
