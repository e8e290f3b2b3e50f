"""`tulle branch stale`: branches that failed runs left, and removing them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from tulle.cli.terminal import OPTION_JSON, emit, mark, table

UNITS = {"h": 3600, "d": 86_400, "w": 604_800}


class Age(click.ParamType[int]):
    """A time such as 12h, 7d or 2w, in seconds."""

    name = "age"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The seconds."""
        match = re.fullmatch(r"([1-9][0-9]{0,4})([hdw])", str(value))
        if match is None:
            self.fail(f"'{value}' is no time; for example 12h, 7d or 2w", param, ctx)
        return int(match[1]) * UNITS[match[2]]


@click.command()
@click.argument("repository")
@click.option("--for", "age", type=Age(), default="7d", show_default=True, help="Not moved for so long.")
@click.option("--prefix", default="", help="Names that begin so, instead of run- and ingest-.")
@click.option("--delete", is_flag=True, help="Remove them, with what is staged on them.")
@OPTION_JSON
@click.pass_obj
def stale(mesh: Path | None, repository: str, age: int, prefix: str, delete: bool, as_json: bool) -> None:
    """List branches of REPOSITORY that failed runs left, or remove them with --delete.

    Protected ones, those of open pull requests and those somebody staged on since are left.
    """
    from tulle.cli.connect import lake_client

    query: dict[str, Any] = {"seconds": age, **({"prefix": prefix} if prefix else {})}
    path = f"/repositories/{repository}/stale_branches"
    with lake_client(mesh) as lake:
        found = (lake.remove(path, **query) if delete else lake.get(path, **query))["results"]
    if as_json:
        emit(found)
    elif delete:
        for branch in found:
            was = f"{branch['id']}, on {branch['commit_id'][:12]}" + (
                " with uncommitted changes" if branch["uncommitted"] else ""
            )
            if branch["removed"]:
                click.echo(f"  {mark('succeeded')} {was}: removed")
            else:
                click.echo(f"  {mark('skipped')} {was}: left, {branch['kept']}")
        if not found:
            click.echo("no stale branches")
    else:
        rows = [
            {
                **branch,
                "name": branch["id"],
                "commit_id": branch["commit_id"][:12],
                "last_move": float(branch["last_move"]),
                "kept": branch["kept"] or None,
            }
            for branch in found
        ]
        table(rows, ["name", "commit_id", "last_move", "uncommitted", "kept"], empty="no stale branches")
