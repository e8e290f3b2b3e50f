"""`tulle features status`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tulle.cli.terminal import OPTION_JSON, emit, mark, table


@click.group()
def features() -> None:
    """What services look up: where from, how old."""


@features.command()
@click.argument("service")
@click.option("--version", help="The version to tell of. Default: the one that answers, else the newest.")
@OPTION_JSON
@click.pass_obj
def status(mesh: Path | None, service: str, version: str | None, as_json: bool) -> None:
    """Show where SERVICE finds rows: data set, commit, age, rows, last refresh, and what failed."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.features import FeatureClient

    with mesh_client(mesh) as client:
        found = FeatureClient(client).look_ups(service, version)
    if as_json:
        emit(found)
        return
    columns = ["endpoint", "data_set", "source", "commit", "age", "rows", "refreshed_at", "behind"]
    table(
        [_row(one) for one in found["look_ups"]],
        columns,
        empty=f"service '{service}' {found['version']} looks nothing up",
    )
    for one in found["look_ups"]:
        if one["message"]:
            click.echo(f"  {mark('failed')} {one['endpoint']}, '{one['data_set']}': {one['message']}")


def _row(one: dict[str, Any]) -> dict[str, Any]:
    return {
        **one,
        "data_set": f"{one['product']}/{one['data_set']}",
        "commit": one["commit"][:10],
        "age": _age(one["age_seconds"]),
        "rows": f"{one['rows']:,}",
    }


def _age(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    for length, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds)} s"
