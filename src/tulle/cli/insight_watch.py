"""`tulle insight watch list | add | remove | mute | resolve`: what is told of what services are asked."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from tulle.cli.service_log import seconds_of
from tulle.cli.terminal import OPTION_JSON, emit, mark, table

_MEASURES = ["rate", "errors", "wrong", "violations", "p50", "p95", "p99"]


@click.group()
def watch() -> None:
    """What is told of rate, errors, latency and violations."""


@watch.command("list")
@OPTION_JSON
@click.pass_obj
def list_watches(mesh: Path | None, as_json: bool) -> None:
    """Show every watch, and how it stands."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.insight import InsightClient

    with mesh_client(mesh) as client:
        found = InsightClient(client).watches()
    if as_json:
        emit(found)
        return
    rows = [
        {
            "name": one["name"],
            "says": _says(one),
            "severity": one["severity"],
            "from": "mesh.yaml" if one["declared"] else "a command",
            "broken": [s["service"] for s in one["services"] if s["state"] == "broken"],
            "no data": [s["service"] for s in one["services"] if s["state"] == "unknown" or s["unknown"]],
            "muted_until": one["muted_until"],
        }
        for one in found
    ]
    columns = ["name", "says", "severity", "from", "broken", "no data", "muted_until"]
    table(rows, columns, empty="no watches: `tulle insight watch add`, or `watches:` in mesh.yaml")
    for one in found:
        if one["missing"]:
            click.echo(f"  {mark('warn')} {one['name']} watches nothing: {one['missing']}")


@watch.command(
    epilog="For example: tulle insight watch add slow-offers --service next-offer --measure p99 --above 50"
)
@click.argument("name")
@click.option("--measure", type=click.Choice(_MEASURES), default="errors", show_default=True, help="Of what.")
@click.option("--above", type=float, help="More than this is told.")
@click.option("--below", type=float, help="Less than this is told.")
@click.option("--service", default="", help="Of this service or API. Default: of each.")
@click.option("--version", default="", help="Of this version of the API only.")
@click.option("--generation", default="", help="As answered by this generation of the service only.")
@click.option("--operation", default="", help="Of this operation only.")
@click.option("--environment", default="", help="As asked there. Default: that of consumers.")
@click.option("--minutes", type=click.IntRange(1, 1440), default=5, show_default=True, help="Of a period.")
@click.option("--periods", type=click.IntRange(1, 100), default=3, show_default=True, help="It has to last.")
@click.option(
    "--least", type=click.IntRange(1), default=1, show_default=True, help="Requests, else it says nothing."
)
@click.option(
    "--severity", type=click.Choice(["info", "warning", "critical"]), default="warning", show_default=True
)
@OPTION_JSON
@click.pass_obj
def add(mesh: Path | None, /, name: str, *, as_json: bool, **what: Any) -> None:
    """Have it told when a measure is above or below a value for some periods.

    Rates are requests a second, errors and wrong are shares (0.05 is 5 %), violations are refused requests in a period,
    latencies milliseconds.
    """
    from tulle.cli.connect import mesh_client
    from tulle.sdk.insight import InsightClient

    with mesh_client(mesh) as client:
        found = InsightClient(client).add_watch(name, {k: v for k, v in what.items() if v is not None})
    if as_json:
        emit(found)
        return
    click.echo(
        f"  {mark('succeeded')} {name}: {_says(found)}; channels of mesh.yaml are told (`tulle alerts list`)"
    )


@watch.command()
@click.argument("name")
@OPTION_JSON
@click.pass_obj
def remove(mesh: Path | None, name: str, as_json: bool) -> None:
    """Remove watch NAME; what it told is closed."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.insight import InsightClient

    with mesh_client(mesh) as client:
        found = InsightClient(client).remove_watch(name)
    emit(found) if as_json else click.echo(f"  {mark('succeeded')} {name} is removed")


@watch.command(epilog="For example: tulle insight watch mute slow-offers '2 hours'")
@click.argument("name")
@click.argument("time_", metavar="TIME", required=False, default="")
@click.option("--off", is_flag=True, help="Tell again.")
@OPTION_JSON
@click.pass_obj
def mute(mesh: Path | None, name: str, time_: str, off: bool, as_json: bool) -> None:
    """Tell nothing of watch NAME for TIME, such as '2 hours'; what is broken still is told then."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.insight import InsightClient

    if off == bool(time_):
        raise click.UsageError("give either a time, such as '2 hours', or --off")
    until = None if off else time.time() + seconds_of(time_)
    with mesh_client(mesh) as client:
        found = InsightClient(client).mute_watch(name, until)
    if as_json:
        emit(found)
        return
    click.echo(f"  {mark('succeeded')} {name} " + ("tells again" if off else f"tells nothing for {time_}"))


@watch.command()
@click.argument("name")
@OPTION_JSON
@click.pass_obj
def resolve(mesh: Path | None, name: str, as_json: bool) -> None:
    """Close what watch NAME told, by hand."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.insight import InsightClient

    with mesh_client(mesh) as client:
        number = InsightClient(client).resolve_watch(name)
    emit({"name": name, "resolved": number}) if as_json else click.echo(f"  {number} closed")


def _says(one: dict[str, Any]) -> str:
    bound = f"above {one['above']:g}" if one["above"] is not None else f"below {one['below']:g}"
    of = " ".join(one[name] for name in ("service", "version", "generation") if one[name]) or "each service"
    return f"{one['measure']} of {of} {bound} for {one['periods']} × {one['minutes']} min"
