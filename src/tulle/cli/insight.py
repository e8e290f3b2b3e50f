"""`tulle insight show | clients | slow | violations | unused | forecast | watch | replay`: services asked."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tulle.cli.insight_watch import watch
from tulle.cli.terminal import OPTION_JSON, emit, table

if TYPE_CHECKING:
    from tulle.sdk.client import Client

_SPAN = click.option(
    "--span",
    type=click.Choice(["hour", "day", "week", "month"]),
    default="day",
    show_default=True,
    help="The time until now.",
)
_ENVIRONMENT = click.option("--environment", default="", help="As asked in this environment.")


@click.group(epilog="What is counted, kept and measured how: docs/reference/insight.md.")
def insight() -> None:
    """What services are asked, and how they fare."""


insight.add_command(watch)


@insight.command(epilog="For example: tulle insight show next-offer --by operation --span week")
@click.argument("service", required=False, default="")
@click.option(
    "--by",
    type=click.Choice(["api", "service", "version", "operation", "generation", "client", "mesh"]),
    help="What is told apart. Default: api; of one service its operations.",
)
@click.option("--operation", default="", help="Of this operation only, such as 'POST /next-offer/predict'.")
@click.option("--version", default="", help="Of this version of an API only.")
@click.option("--generation", default="", help="Answered by this generation only.")
@click.option("--client", default="", help="Asked by this client id only.")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True, help="At most so many.")
@_SPAN
@_ENVIRONMENT
@OPTION_JSON
@click.pass_obj
def show(mesh: Path | None, /, service: str, *, by: str | None, as_json: bool, **which: Any) -> None:
    """Show requests, errors, latency and sizes of all services and APIs, or of SERVICE."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.insight import InsightClient

    by = by or ("operation" if service else "api")
    with mesh_client(mesh) as client:
        found = InsightClient(client).told(by=by, service=service, points=as_json, **which)
        _demand_there(client, service, found)
    if as_json:
        emit(found)
        return
    rows = [_row(one) for one in found["series"]]
    columns = [*(rows[0] if rows else ())]
    table(rows, columns, empty=f"nothing was asked in the last {which['span']}")
    if found["more"]:
        click.echo(f"  and {found['more']} more that were asked less; --limit shows them")
    _tell_counted(found["counted_until"])


@insight.command()
@click.argument("service", required=False, default="")
@click.option("--version", default="", help="Of this version of an API only.")
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="At most so many.")
@_SPAN
@_ENVIRONMENT
@OPTION_JSON
@click.pass_obj
def clients(mesh: Path | None, /, service: str, *, as_json: bool, **which: Any) -> None:
    """Show who asks most, of all services or of SERVICE."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.insight import InsightClient

    with mesh_client(mesh) as client:
        found = InsightClient(client).told(by="client", service=service, points=False, **which)
        _demand_there(client, service, found)
    if as_json:
        emit(found)
        return
    rows = [_row(one) for one in found["series"]]
    table(rows, [*(rows[0] if rows else ())], empty=f"nothing was asked in the last {which['span']}")


@insight.command()
@click.argument("service", required=False, default="")
@click.option("--version", default="", help="Of this version of an API only.")
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="At most so many.")
@_SPAN
@_ENVIRONMENT
@OPTION_JSON
@click.pass_obj
def slow(mesh: Path | None, /, service: str, *, as_json: bool, **which: Any) -> None:
    """Show the slowest requests that are kept, five of a service and hour, with their ids."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.insight import InsightClient

    with mesh_client(mesh) as client:
        found = InsightClient(client).slow(service=service, **which)
    if as_json:
        emit(found)
        return
    rows = [{"took": _duration(one["microseconds"]), **one} for one in found]
    columns = [
        "at",
        "took",
        "service",
        "version",
        "operation",
        "generation",
        "client",
        "status",
        "request_id",
    ]
    table(rows, columns, empty=f"nothing was asked in the last {which['span']}")


@insight.command(epilog="For example: tulle insight violations orders --by version --span week")
@click.argument("service", required=False, default="")
@click.option(
    "--by", type=click.Choice(["version", "generation"]), multiple=True, help="What is told apart besides."
)
@click.option("--version", default="", help="Of this version of an API only.")
@click.option("--generation", default="", help="Of this generation only.")
@_SPAN
@_ENVIRONMENT
@OPTION_JSON
@click.pass_obj
def violations(
    mesh: Path | None, /, service: str, *, by: tuple[str, ...], as_json: bool, **which: Any
) -> None:
    """Show what the gateway refused by a policy, and what it got no answer to."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.insight import InsightClient

    with mesh_client(mesh) as client:
        found = InsightClient(client).violations(service=service, by=by, **which)
    if as_json:
        emit(found)
        return
    rows = [{**one, "what": "refused" if one["violation"] else "no answer"} for one in found]
    apart = [name for name in ("version", "generation") if name in by]
    table(rows, ["service", "environment", *apart, "kind", "what", "requests"], empty="nothing was refused")


@insight.command()
@click.option("--days", type=click.IntRange(1, 400), default=30, show_default=True, help="For so long.")
@OPTION_JSON
@click.pass_obj
def unused(mesh: Path | None, days: int, as_json: bool) -> None:
    """Show services and versions of APIs that nobody asks any more, and how they are ended."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.insight import InsightClient

    with mesh_client(mesh) as client:
        found = InsightClient(client).unused(days=days)
    if as_json:
        emit(found)
        return
    columns = ["service", "version", "environment", "days", "last", "proposal"]
    table(found, columns, empty=f"every service and API was asked in the last {days} days")


@insight.command(epilog="For example: tulle insight forecast next-offer --rate-per-worker 400")
@click.argument("service")
@click.option(
    "--rate-per-worker", type=float, help="Requests a second of a worker. Default: as was measured."
)
@_ENVIRONMENT
@OPTION_JSON
@click.pass_obj
def forecast(
    mesh: Path | None, service: str, rate_per_worker: float | None, environment: str, as_json: bool
) -> None:
    """Show when SERVICE or an API is asked, what the next week may bring, and the workers a service needs for it."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.insight import InsightClient

    with mesh_client(mesh) as client:
        found = InsightClient(client).forecast(
            service, environment=environment, rate_per_worker=rate_per_worker
        )
    if as_json:
        emit(found)
        return
    _show_forecast(found)


@insight.command(epilog="For example: tulle insight replay --service next-offer --errors --generation v7")
@click.argument("requests", nargs=-1)
@click.option("--service", default="", help="Of this service. Default: whose log has the first request.")
@click.option("--generation", default="", help="Ask this version. Default: the one that answers.")
@click.option("--endpoint", default="", help="Of this endpoint only.")
@click.option("--since", default="", help="How far back, such as '2 hours'.")
@click.option("--errors", is_flag=True, help="Only what failed then.")
@click.option(
    "--most", type=click.IntRange(1, 1000), default=100, show_default=True, help="The newest so many."
)
@click.option(
    "--force", is_flag=True, help="Also what may not be repeated, such as functions that do something."
)
@_ENVIRONMENT
@OPTION_JSON
@click.pass_obj
def replay(mesh: Path | None, /, requests: tuple[str, ...], *, since: str, as_json: bool, **how: Any) -> None:
    """Ask recorded REQUESTS (ids) again, and compare with what was answered then."""
    from tulle.cli.connect import mesh_client
    from tulle.cli.service_log import seconds_of
    from tulle.cli.service_recorded import show_recorded
    from tulle.sdk.insight import InsightClient

    if not requests and not how["service"]:
        raise click.UsageError("name requests by their ids, or --service")
    begin = max(0.0, time.time() - seconds_of(since)) if since else None
    with mesh_client(mesh) as client:
        found = InsightClient(client).replay(requests=list(requests), since=begin, **how)
    if as_json:
        emit(found)
        return
    click.echo(f"  {found['service']} {found['version']}, asked again what was answered then:")
    show_recorded(found)
    if found["not_kept"]:
        click.echo(f"  {found['not_kept']} cannot be asked again: what was sent is masked, or not kept")
    if found["not_repeated"]:
        names = ", ".join(found["endpoints_not_repeated"])
        click.echo(
            f"  {found['not_repeated']} were left out: {names} may not be repeated; --force asks all the same"
        )


def _show_forecast(found: Mapping[str, Any]) -> None:
    usual, capacity = found["patterns"], found["capacity"]
    click.secho("Requests an hour (UTC)", bold=True)
    most = max(usual["by_hour"]) or 1.0
    for hour, value in enumerate(usual["by_hour"]):
        click.echo(f"  {hour:02}:00  {value:>12,.1f}  {'█' * round(30 * value / most)}")
    if usual["busiest_day"]:
        click.echo(f"  the busiest day is {usual['busiest_day']}")
    told = usual["forecast"]
    if told is None:
        click.echo(f"  no forecast: {usual['why_not']}")
        return
    week = sum(told["requests"])
    click.echo(f"  the next {len(told['requests'])} hours: about {week:,.0f} requests ({told['method']})")
    tried = f"{told['error']:.0%} of the requests of the last {told['tried_hours']} hours"
    click.echo(f"  tried on what is known, its hours were wrong by {tried}")
    if capacity is None:  # of an API: what answers it has workers of its own, or is none of the mesh
        busiest = max(range(len(told["requests"])), key=lambda number: told["requests"][number])
        begins = dt.datetime.fromtimestamp(told["since"] + busiest * 3600, dt.UTC)
        about = f"about {told['requests'][busiest]:,.0f} requests"
        click.echo(f"  the busiest hour begins {begins:%A, %Y-%m-%d %H:%M} UTC, with {about}")
        return
    peak = dt.datetime.fromtimestamp(capacity["peak_at"], dt.UTC)
    click.secho(f"  {capacity['words']}", bold=True)
    click.echo(f"  the busiest hour begins {peak:%A, %Y-%m-%d %H:%M} UTC")


def _row(one: Mapping[str, Any]) -> dict[str, Any]:
    whole = one["whole"]
    named = {name: value or "–" for name, value in one["name"].items()}
    requests = whole["requests"]
    return {
        **named,
        "requests": f"{requests:,}",
        "failed": _part(whole["failed"], requests),
        "wrong": _part(whole["wrong"], requests),
        "refused": _part(whole["refused"], requests),
        **{name: _duration(whole[name]) for name in ("p50", "p95", "p99")},
        "in": _size(whole["bytes_in"]),
        "out": _size(whole["bytes_out"]),
    }


def _part(number: int, of: int) -> str:
    return f"{number:,} ({number / of:.1%})" if number else "0"


def _duration(microseconds: int | None) -> str:
    if microseconds is None:
        return "–"
    if microseconds < 1000:
        return f"{microseconds} µs"
    return f"{microseconds / 1000:.3g} ms" if microseconds < 1_000_000 else f"{microseconds / 1e6:.3g} s"


def _size(number: float) -> str:
    units: Sequence[str] = ("B", "kB", "MB", "GB", "TB")
    for unit in units:
        if number < 1000 or unit == units[-1]:
            return f"{number:.3g} {unit}"
        number /= 1000
    raise AssertionError(number)


def _demand_there(client: Client, service: str, found: Mapping[str, Any]) -> None:
    """Of what was asked nothing: whether there is such a service or API at all. NotFound with the nearest name."""
    from tulle.sdk.apis import ApiClient

    if service and not found["series"]:
        ApiClient(client).api(service)


def _tell_counted(until: float | None) -> None:
    if until is None:
        click.echo("  nothing was counted yet: the mesh counts while it is up")
        return
    at = dt.datetime.fromtimestamp(until, dt.UTC)
    click.echo(f"  the last request that is counted: {at:%Y-%m-%d %H:%M:%S} UTC")
