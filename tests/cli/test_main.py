"""The command line's outer shell: help that is true, start-up that is quick, failures that help."""

from __future__ import annotations

import errno
import inspect
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from tulle.cli import terminal
from tulle.cli.main import COMMANDS, cli
from tulle.errors import Invalid, Place, Problem


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_listed_command_exists_and_its_help_is_the_listed_one(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.help
    listed = COMMANDS[name][1].rstrip(".")
    assert len(listed) < 75
    result = CliRunner().invoke(cli, [name, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.output


def _commands(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from _commands(command, f"{before}{name} ")
        elif command is not None:
            yield f"{before}{name}", command


def test_commands_that_ask_first_have_an_option_that_does_not_and_apply_asks_nothing() -> None:
    known = dict(_commands(cli))
    silent = {name for name, command in known.items() if any(one.name == "yes" for one in command.params)}
    asking = {
        name
        for name, command in known.items()
        if "click.confirm(" in inspect.getsource(inspect.unwrap(command.callback or cli))
    }
    assert asking == silent - {"destroy"} == {"repo delete", "service withdraw"}
    assert "without a question" in (known["apply"].help or "")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from tulle.cli.main import cli\n"
        "assert CliRunner().invoke(cli, ['--help']).exit_code == 0\n"
        "heavy = {'pyarrow', 'sqlalchemy', 'fastapi', 'pydantic', 'duckdb', 'httpx', 'numpy', 'sklearn', 'yaml'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_status_imports_no_server(tmp_path: object) -> None:
    code = (
        "import sys, pathlib\n"
        f"folder = pathlib.Path({str(tmp_path)!r}); (folder / 'mesh.yaml').write_text('name: small\\n')\n"
        "from click.testing import CliRunner\n"
        "from tulle.cli.main import cli\n"
        "result = CliRunner().invoke(cli, ['--mesh', str(folder), 'status', '--json'])\n"
        "assert result.exit_code == 0, result.output\n"
        "heavy = {'pyarrow', 'sqlalchemy', 'fastapi', 'duckdb', 'numpy', 'sklearn', 'httpx'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_an_unknown_command_names_the_nearest() -> None:
    result = CliRunner().invoke(cli, ["aply"])
    assert result.exit_code == 2
    assert "did you mean 'apply'?" in result.output


def test_a_failure_shows_every_problem_with_its_line_and_a_caret(capsys: pytest.CaptureFixture[str]) -> None:
    problem = Problem(
        "unknown property 'tyep'", Place("product.yaml", 3, 5), "did you mean 'type'?", "    tyep: domain"
    )
    assert terminal.show_failure(Invalid("1 problem", hint="mend it", problems=[problem])) == 1
    shown = capsys.readouterr().err.splitlines()
    assert shown[0] == "error: 1 problem"
    assert shown[1] == "  product.yaml:3:5: unknown property 'tyep'"
    assert shown[2].endswith("    tyep: domain")
    assert shown[3].index("^") == shown[2].index("tyep")
    assert shown[4].endswith("did you mean 'type'?")
    assert shown[5] == "  hint: mend it"


def test_a_defect_shows_no_stack_trace_but_keeps_it(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise KeyError("x")
    except KeyError as exc:
        assert terminal.show_failure(exc) == 1
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    report = shown.split("report it with ")[1].strip()
    with open(report) as file:  # noqa: PTH123
        assert "Traceback" in file.read()


def test_colours_take_no_room_in_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"": terminal.mark("passed"), "name": "a"}, {"": terminal.mark("failed"), "name": "long"}]
    terminal.table([{**row, "after": "x"} for row in rows], ["", "name", "after"], empty="none")
    heading, first, second = map(click.unstyle, capsys.readouterr().out.splitlines())
    assert heading == "   NAME  AFTER"
    assert (first, second) == ("✓  a     x", "✗  long  x")


def test_a_full_disk_is_told_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert terminal.show_failure(OSError(errno.ENOSPC, "No space left on device", "/x/y")) == 1
    told = capsys.readouterr().err
    assert told.splitlines() == [
        "error: No space left on device (/x/y)",
        "  hint: free some disk space and try again; a file that was being written may be cut short",
    ]
