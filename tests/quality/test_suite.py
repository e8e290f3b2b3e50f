"""Suites as checks: programs in a sandbox with the data set's files, and a real one of Great Expectations."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tests.control.conftest import fill
from tests.pipeline.conftest import Mesh, World

from tulle.engine.duck import DuckEngine
from tulle.engine.engine import Relation
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


def test_a_program_decides_by_its_exit_code(engine: DuckEngine, relations: Any, tmp_path: Path) -> None:
    check = read(tmp_path, COUNTING)
    assert check.name == "the suite mine.py passes"
    said: list[str] = []
    good = carry_out(check.settings, relations(t={"id": [1, 2, 3]})["t"], engine, Sandbox(), said.append)
    assert (good.failing, said) == (0, ["suites/mine.py: rows: 3"])
    bad = carry_out(check.settings, relations(t={"id": [1]})["t"], engine, Sandbox(), said.append)
    assert bad.failing == 1
    assert bad.message == "suites/mine.py ended with exit code 1; what it wrote is in the run's log"


def test_a_program_is_bounded_and_its_environment_known(
    engine: DuckEngine, relations: Any, tmp_path: Path
) -> None:
    table = relations(t={"id": [1]})["t"]
    slow = read(tmp_path, "while True: pass", ", timeout: 1s")
    assert re.search(
        "did not end in time|exit code", carry_out(slow.settings, table, engine, Sandbox(), print).message
    )
    unknown = read(tmp_path, "", ", environment: expectation")
    with pytest.raises(Invalid) as caught:
        carry_out(unknown.settings, table, engine, Sandbox(environments={"expectations": "/x"}), print)
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


def test_what_a_suite_says_that_failed_is_told(engine: DuckEngine, relations: Any, tmp_path: Path) -> None:
    said = "".join(f"print('failed: the {n}th of them' + 'x' * 300)\n" for n in range(7))
    check = read(tmp_path, "print('secret')\n" + said + "raise SystemExit(1)\n")
    found = carry_out(check.settings, relations(t={"id": [1]})["t"], engine, Sandbox(), lambda _line: None)
    assert found.failing == 7
    assert found.message.startswith("suites/mine.py ended with exit code 1: the 0th of themxxx")
    assert found.message.endswith("; and 2 more; what it wrote is in the run's log")
    assert len(found.message) < 1200
    assert "secret" not in found.message


def test_the_rows_of_a_view_are_files_to_a_suite(engine: DuckEngine, relations: Any, tmp_path: Path) -> None:
    over = relations(base={"id": [1, 2, 3, 4]})["base"]
    view = Relation("t", sql="SELECT id FROM base WHERE id < 4", over=(over,))
    check = read(tmp_path, COUNTING)
    assert carry_out(check.settings, view, engine, Sandbox(), print).failing == 0


@pytest.mark.system
@pytest.mark.skipif(
    not (ROOT / ".venv-clients/bin/python").exists(), reason="the clients' environment is not made"
)
def test_a_suite_of_great_expectations_is_the_gate_of_a_product(tmp_path: Path) -> None:
    mesh = fill(Mesh(tmp_path / "mesh"))
    example = python_block("docs/reference/hooks.md", "great_expectations")
    telling = python_block("docs/reference/checks.md", "found.results")
    before, after = re.split(r"for one in found\.results:\n(?:    .*\n)+", example)
    text = (before + telling + after).replace("data/tables/orders", "data/sales")
    environments = f"hook_environments: {{expectations: {ROOT / '.venv-clients'}}}\n"
    mesh.write("mesh.yaml", "name: test\nwarehouse: {threads: 1, memory: 256MB}\n" + environments)
    mesh.sales("checks/suites/sales.py", text)
    world = World(mesh)
    assert world.run("sales").status == "succeeded"
    settings = "suite: suites/sales.py, environment: expectations, memory_mb: 4096"
    mesh.sales("checks/c.yaml", f"checks: [{{data_set: sales, type: suite, {settings}}}]")
    mesh.sales("data/sales.csv", "id,customer,day,amount\n1,ann,01.02.2020,-7\n2,bob,01.02.2020,3\n")
    refused = world.run("sales")
    (found,) = (check for step in refused.steps for check in step.checks if check.kind == "suite")
    assert (refused.status, found.passed) == ("failed", False)
    assert "not_be_null" not in found.message  # that one held
    assert "expect_column_values_to_be_between of amount: 1 rows" in found.message
    assert [row["id"] for row in world.rows("sales", "sales")] == [1, 2, 3]  # what was published before
    world.database.close()


def python_block(page: str, word: str) -> str:
    text = (ROOT / page).read_text()
    (block,) = (code for code in re.findall(r"```py(?:thon)?\n(.*?)```", text, re.DOTALL) if word in code)
    return str(block)
