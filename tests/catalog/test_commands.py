"""The commands that pages tell to type are commands there are."""

from __future__ import annotations

import re
import shlex

import click
import pytest

from tulle.catalog.look import FOLDER
from tulle.cli.main import cli

WRITTEN = re.compile(r"""(?:command|code)\(\s*"(tulle [^"]*)"|`(tulle [^`{]*)|<code>(tulle [^<]*)</code>""")


def commands() -> list[str]:
    files = [*sorted((FOLDER / "templates").iterdir()), *sorted(FOLDER.glob("*.py"))]
    found = {"".join(groups) for file in files for groups in WRITTEN.findall(file.read_text())}
    # what a page fills in comes last
    return sorted(
        text + "some-name" if text.endswith(" ") else text.replace("<name>", "some-name") for text in found
    )


def test_pages_tell_commands() -> None:
    assert len(commands()) > 8


@pytest.mark.parametrize("text", commands())
def test_a_command_that_a_page_tells_is_understood(text: str) -> None:
    words = shlex.split(text)[1:]
    command: click.Command = cli
    context = click.Context(cli, info_name="tulle")
    while isinstance(command, click.Group) and words != ["--help"]:
        _, found, words = command.resolve_command(context, words)
        assert found is not None, text
        command = found
        context = click.Context(command, parent=context, info_name=command.name)
    if words[-1:] == ["--help"]:
        return  # every command has it
    for _ in range(3):  # what a page fills in after the first word is not in its text
        try:
            command.make_context(command.name, list(words), parent=context.parent)
        except click.MissingParameter:
            if words[-1:] != ["some-name"]:
                raise
            words.append("some-name")
        else:
            return
    pytest.fail(f"{text}: what else does it take?")
