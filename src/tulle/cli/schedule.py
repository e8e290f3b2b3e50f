"""`tulle schedule list | show | next | pause | resume`: when products run by themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tulle.cli.terminal import OPTION_JSON, emit, mark, table

OPTION_ENVIRONMENT = click.option(
    "--environment", default="main", show_default=True, help="Whose schedule: the environment's branch."
)


@click.group(epilog="A schedule is written in product.yaml: docs/reference/schedules.md.")
def schedule() -> None:
    """When products run by themselves: what comes next, what fired."""


@schedule.command("list")
@OPTION_JSON
@click.pass_obj
def list_schedules(mesh: Path | None, as_json: bool) -> None:
    """List the schedules in force, the next to fire first."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.schedules import ScheduleClient

    with mesh_client(mesh) as client:
        found = ScheduleClient(client).schedules()
    if as_json:
        emit(found)
        return
    rows = [{**one, "next": "paused" if one["paused"] else one["next_at"]} for one in found]
    columns = ["product", "environment", "when", "next", "good_at"]
    table(rows, columns, empty="no product has a schedule: write `schedule:` in product.yaml, `tulle apply`")


@schedule.command(epilog="For example: tulle schedule show purchases")
@click.argument("product")
@OPTION_ENVIRONMENT
@OPTION_JSON
@click.pass_obj
def show(mesh: Path | None, product: str, environment: str, as_json: bool) -> None:
    """Show PRODUCT's schedule, its next fires, and what fired with its runs."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.schedules import ScheduleClient

    with mesh_client(mesh) as client:
        found = ScheduleClient(client).schedule(product, environment=environment)
    if as_json:
        emit(found)
        return
    click.secho(f"{product}  {found['when']}{'  paused' if found['paused'] else ''}", bold=True)
    table([{"next": at} for at in found["next"]], ["next"], empty="  nothing comes by the clock")
    _show_fires(found["fires"])


def _show_fires(found: list[dict[str, Any]]) -> None:
    columns = ["fire_at", "reason", "attempt", "status", "run_id", "message"]
    rows = [{**fire, "message": (fire["message"] or "").partition("\n")[0][:80] or None} for fire in found]
    table(rows, columns, empty="  it has not fired yet")


@schedule.command("next", epilog="For example: tulle schedule next --hours 168")
@click.option("--hours", default=24.0, show_default=True, help="How far to look ahead.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many.")
@OPTION_JSON
@click.pass_obj
def show_next(mesh: Path | None, hours: float, limit: int, as_json: bool) -> None:
    """Show what fires next, across all products."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.schedules import ScheduleClient

    with mesh_client(mesh) as client:
        found = ScheduleClient(client).calendar(hours=hours, limit=limit)
    if as_json:
        emit(found)
        return
    table(found, ["at", "product", "environment"], empty=f"nothing fires within {hours:g} hours")


@schedule.command()
@click.argument("product")
@OPTION_ENVIRONMENT
@OPTION_JSON
@click.pass_obj
def pause(mesh: Path | None, product: str, environment: str, as_json: bool) -> None:
    """Let PRODUCT fire no more until it is resumed; a run under way goes on."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.schedules import ScheduleClient

    with mesh_client(mesh) as client:
        found = ScheduleClient(client).pause(product, environment=environment)
    if as_json:
        emit(found)
        return
    click.echo(f"  {mark('succeeded')} {product} fires no more; `tulle schedule resume {product}`")


@schedule.command()
@click.argument("product")
@OPTION_ENVIRONMENT
@OPTION_JSON
@click.pass_obj
def resume(mesh: Path | None, product: str, environment: str, as_json: bool) -> None:
    """Let PRODUCT fire again from now on; what it missed is not made up for."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.schedules import ScheduleClient

    with mesh_client(mesh) as client:
        found = ScheduleClient(client).resume(product, environment=environment)
    if as_json:
        emit(found)
        return
    click.echo(f"  {mark('succeeded')} {product} fires again, {found['when']}")
