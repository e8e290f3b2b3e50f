"""The reference page follows the commands."""

from __future__ import annotations

from pathlib import Path

from tulle.cli.main import COMMANDS
from tulle.cli.reference import commands_page

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"


def test_the_page_is_not_stale() -> None:
    hint = "run: python -m tulle.cli.reference > docs/reference/cli.md"
    assert PAGE.read_text(encoding="utf-8") == commands_page(), hint


def test_every_command_is_on_the_page() -> None:
    page = commands_page()
    for name in COMMANDS:
        assert f"\n## {name}\n" in page
    for one in ("api key create", "repo create", "insight watch mute", "app request"):
        assert f"\n### {one}\n" in page
    assert "\n\n`tulle api deprecate NAME VERSION`\n" in page
