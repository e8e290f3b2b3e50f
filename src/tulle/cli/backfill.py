"""`tulle backfill | backfills`: products made anew window by window."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from tulle.cli.terminal import OPTION_JSON, emit, mark, table
from tulle.errors import Invalid

_STEPS = click.Choice(["hour", "day", "week", "month"])


@click.command(epilog="For example: tulle backfill purchases --from 2026-01-01 --to 2026-02-01 --step day")
@click.argument("product")
@click.option("--from", "first", required=True, help="The first day, or hour: 2026-01-01.")
@click.option("--to", "last", required=True, help="The first day after the last: 2026-02-01.")
@click.option("--step", type=_STEPS, default="day", show_default=True, help="How long a window is.")
@click.option("--environment", default="main", show_default=True, help="Where: the environment's branch.")
@click.option(
    "--retries",
    type=click.IntRange(0, 20),
    help="Tries after failures that may pass; default: the schedule's.",
)
@click.option("--wait", is_flag=True, help="Follow it to its end.")
@OPTION_JSON
@click.pass_obj
def backfill(
    mesh: Path | None,
    product: str,
    first: str,
    last: str,
    step: str,
    environment: str,
    retries: int | None,
    wait: bool,
    as_json: bool,
) -> None:
    """Make PRODUCT anew for a span of time, window by window.

    One run a window, in order, one at a time; each publishes for itself. A window that fails holds the rest.
    """
    from tulle.cli.connect import client_of, settings_of
    from tulle.deploy import local
    from tulle.sdk.schedules import ScheduleClient

    settings = settings_of(mesh)
    is_up = local.supervisor_pid(settings) is not None
    if wait and not is_up:
        raise Invalid("nothing would run: the mesh is not up", hint="`tulle up`, or leave out --wait")
    with client_of(settings) as client:
        schedules = ScheduleClient(client)
        found = schedules.start_backfill(
            product, first, last, step=step, environment=environment, retries=retries
        )
        if not as_json:
            windows = len(found["windows"])
            click.echo(f"  {mark('succeeded')} backfill {found['id']}: {windows:,} windows of {product}")
            if not is_up:
                click.echo("      it begins when the mesh is up: `tulle up`")
        while wait and (found := schedules.backfill(found["id"]))["status"] == "running":
            time.sleep(0.5)
    if as_json:
        emit(found)
    elif wait:
        _show(found)
    if wait and found["status"] != "done":
        raise Invalid(f"backfill {found['id']} {found['status']}", hint=f"`tulle backfills {found['id']}`")


@click.command(epilog="For example: tulle backfills b20260101-101500-1a2b --resume")
@click.argument("backfill_id", required=False)
@click.option("--product", help="Only backfills of this product.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
@click.option("--cancel", is_flag=True, help="Start no further window, and stop the run under way.")
@click.option("--resume", is_flag=True, help="Go on after a failure: the window that failed, then the rest.")
@OPTION_JSON
@click.pass_obj
def backfills(
    mesh: Path | None,
    backfill_id: str | None,
    product: str | None,
    limit: int,
    cancel: bool,
    resume: bool,
    as_json: bool,
) -> None:
    """Show backfills, or one (BACKFILL_ID) with its windows; cancel or resume it."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.schedules import ScheduleClient

    if (cancel or resume) and backfill_id is None:
        raise click.UsageError("--cancel and --resume need the backfill's id; `tulle backfills` lists them")
    if cancel and resume:
        raise click.UsageError("--cancel and --resume exclude each other")
    with mesh_client(mesh) as client:
        schedules = ScheduleClient(client)
        if backfill_id is None:
            found = schedules.backfills(product=product, limit=limit)
            if as_json:
                emit(found)
                return
            rows = [{**one, "windows": _counts(one)} for one in found]
            columns = ["id", "product", "environment", "start", "end", "step", "status", "windows"]
            table(rows, columns, empty="no backfills yet: `tulle backfill PRODUCT --from … --to …`")
            return
        if cancel:
            result = schedules.cancel_backfill(backfill_id)
        elif resume:
            result = schedules.resume_backfill(backfill_id)
        else:
            result = schedules.backfill(backfill_id)
    if as_json:
        emit(result)
    else:
        _show(result)


def _counts(one: dict[str, Any]) -> str:
    return ", ".join(f"{count} {status}" for status, count in sorted(one["counts"].items()))


def _show(one: dict[str, Any]) -> None:
    click.secho(f"{one['product']}  backfill {one['id']}  {one['status']}  ({_counts(one)})", bold=True)
    rows = [{**w, "message": (w["message"] or "").partition("\n")[0][:80] or None} for w in one["windows"]]
    table(rows, ["start", "end", "status", "attempt", "run_id", "message"], empty="no windows")
