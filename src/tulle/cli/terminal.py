"""How things look in a terminal: failures, tables, JSON. Knows no command."""

from __future__ import annotations

import errno
import json
import os
import tempfile
import time
import traceback
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from tulle.errors import NotFound, Problem, TulleError, did_you_mean

OPTION_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def show_failure(exc: Exception) -> int:
    """Print a failure the way a person can use it; the exit code."""
    if isinstance(exc, TulleError):
        click.secho(f"error: {exc.message}", fg="red", err=True)
        for problem in exc.problems:
            show_problem(problem)
        if exc.hint:
            click.echo(f"  hint: {exc.hint}", err=True)
        return 1
    if isinstance(exc, OSError):
        place = f" ({exc.filename})" if exc.filename else ""
        click.secho(f"error: {exc.strerror or exc}{place}", fg="red", err=True)
        if exc.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            click.echo(
                "  hint: free some disk space and try again; a file that was being written may be cut short",
                err=True,
            )
        return 1
    handle, name = tempfile.mkstemp(prefix="tulle-", suffix=".log")
    with os.fdopen(handle, "w") as report:
        report.write("".join(traceback.format_exception(exc)))
    click.secho(f"error: a defect in tulle: {type(exc).__name__}: {exc}", fg="red", err=True)
    click.echo(f"  hint: nothing was lost; please report it with {name}", err=True)
    return 1


def show_problem(problem: Problem) -> None:
    """One problem with its place, its line and a caret."""
    from tulle.spec.picture import render

    for line in render(problem).splitlines():
        click.echo(f"  {line}", err=True)


def emit(value: Any) -> None:
    """Print plain values as JSON."""
    click.echo(json.dumps(value, indent=2, default=str, ensure_ascii=False))


def table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, empty: str) -> None:
    """Print rows under headings, as wide as they need; `empty` when there are none."""
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    if not cells:
        click.echo(empty)
        return
    widths = [max(len(columns[i]), *(_width(line[i]) for line in cells)) for i in range(len(columns))]
    heading = "  ".join(c.replace("_", " ").upper().ljust(w) for c, w in zip(columns, widths, strict=True))
    click.secho(heading.rstrip(), bold=True)
    for line in cells:
        padded = (c + " " * (w - _width(c)) for c, w in zip(line, widths, strict=True))
        click.echo("  ".join(padded).rstrip())


def _width(text: str) -> int:
    """How wide it is on a terminal; colours take no room."""
    return len(click.unstyle(text))


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value > 1e9:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(value))
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "–"
    return str(value)


def demand_known(names: Iterable[str], known: Collection[str]) -> None:
    """Refuse the first name that is no product. NotFound with the nearest that is."""
    for name in names:
        if name not in known:
            raise NotFound(f"there is no product '{name}'", hint=did_you_mean(name, known))


def mark(state: str) -> str:
    """A small coloured sign for a state."""
    signs = {
        "succeeded": ("✓", "green"),
        "passed": ("✓", "green"),
        "running": ("●", "green"),
        "active": ("●", "green"),
        "unchanged": ("=", "cyan"),
        "failed": ("✗", "red"),
        "stopped": ("✗", "red"),
        "warn": ("!", "yellow"),
        "restarting": ("↻", "yellow"),
        "taking over": ("↻", "yellow"),
        "stopping": ("…", "yellow"),
        "starting": ("…", "yellow"),
        "queued": ("…", "yellow"),
        "skipped": ("-", "bright_black"),
        "waiting": ("·", "bright_black"),
    }
    sign, colour = signs.get(state, ("?", "yellow"))
    return click.style(sign, fg=colour)


def relative(path: Path) -> str:
    """A path as a user would type it from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
