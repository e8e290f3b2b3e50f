"""The page about checks names every kind, and its examples are right."""

from __future__ import annotations

import re
from pathlib import Path

from tulle.quality.check import read_checks
from tulle.quality.kind import KINDS

PAGE = Path(__file__).parents[2] / "docs/reference/checks.md"


def test_every_kind_is_told() -> None:
    told = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.MULTILINE)
    assert told == list(KINDS)


def test_the_examples_are_right(tmp_path: Path) -> None:
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites/purchases.py").write_text("print('fine')\n")
    blocks = re.findall(r"^```(yaml|sql|python)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    for number, (kind, text) in enumerate(blocks):
        (tmp_path / f"example{number}.{kind.replace('python', 'py')}").write_text(text)
    checks, problems = read_checks(tmp_path, "checks")
    assert problems == ()
    assert {check.kind for check in checks} == set(KINDS)
