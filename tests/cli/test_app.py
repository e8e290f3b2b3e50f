"""`tulle app` and `tulle api`: what every command of them has."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from tulle.cli.api import api
from tulle.cli.app import app


def commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


@pytest.mark.parametrize("group", [app, api], ids=lambda group: str(group.name))
def test_every_command_has_json_and_says_what_it_does(group: click.Group) -> None:
    found = [*commands(group, str(group.name))]
    assert found
    for name, command in found:
        assert any("--json" in parameter.opts for parameter in command.params), name
        assert command.help, name
