"""The reference page of all commands, made from the commands themselves so that it cannot go stale.

python -m tulle.cli.reference > docs/reference/cli.md
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator

import click

from tulle.cli.main import COMMANDS, cli

_HEAD = """\
# Commands

<!-- Made by `python -m tulle.cli.reference`; a test fails when it is stale. Do not edit by hand. -->

`tulle --mesh FOLDER …` works on the mesh in that folder; without it, on the nearest one upwards. Every command explains
itself with `--help`. Exit codes: 0 done, 1 what was asked for failed, 2 wrong usage, 130 interrupted.

Two options are not repeated below. `--json`: what is printed is for programs, errors too; nearly every command has it.
`--key FILE`: with the access key in that file, such as ~/.lakectl.yaml, in place of the mesh's token, which is the
administrator's; commands that ask the mesh to change something for somebody have it.
"""


def commands_page() -> str:
    """The page, Markdown."""
    parts = [_HEAD]
    with click.Context(cli, info_name="tulle") as ctx:
        for name in COMMANDS:
            command = cli.get_command(ctx, name)
            assert command is not None
            parts.append("\n".join([f"## {name}", *_told(command, ctx, name)]))
    return "\n".join(parts)


def _told(command: click.Command, parent: click.Context, name: str) -> Iterator[str]:
    with click.Context(command, info_name=name, parent=parent) as ctx:
        if isinstance(command, click.Group):
            yield f"\n{_text(command)}"
            for inner in command.list_commands(ctx):
                found = command.get_command(ctx, inner)
                assert found is not None
                yield f"\n### {ctx.command_path.removeprefix('tulle ')} {inner}"
                yield from _told(found, ctx, inner)
            return
        usage = " ".join([ctx.command_path, *command.collect_usage_pieces(ctx)[1:]])
        yield f"\n`{usage}`\n\n{_text(command)}"
        if rows := list(_options(command, ctx)):
            yield "\n| option | |\n|---|---|"
            yield from rows
        yield ""


def _text(command: click.Command) -> str:
    """What a command says of itself: paragraphs on one line each, examples as they stand."""
    paragraphs = []
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        if paragraph.startswith("\b"):
            paragraphs.append("\n".join(f"    {line.strip()}" for line in paragraph.split("\n")[1:]))
        else:
            paragraphs.append(_cell(" ".join(paragraph.split())))
    return "\n\n".join(paragraphs).strip("\n")


def _options(command: click.Command, ctx: click.Context) -> Iterator[str]:
    for one in command.get_params(ctx):
        record = one.get_help_record(ctx) if isinstance(one, click.Option) else None
        if record is not None and "--help" not in one.opts:
            names, text = (" ".join(part.split()) for part in record)
            if (names, text[:30]) not in {
                ("--json", "Print JSON."),
                ("--key FILE", "A file with your access key, s"),
            }:
                yield f"| `{names.replace('|', chr(92) + '|')}` | {_cell(text)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


if __name__ == "__main__":
    sys.stdout.write(commands_page())
