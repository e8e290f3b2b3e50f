"""`tulle service drift`: how far what is asked has moved from what the models were made with."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from tulle.cli.environment import OPTION_KEY
from tulle.cli.service_log import seconds_of
from tulle.cli.terminal import OPTION_JSON, emit, mark

_STATES = {"stable": "passed", "moving": "warn", "drifted": "failed"}


@click.command(epilog="For example: tulle service drift next-offer --window '7 days'")
@click.argument("name")
@click.option("--window", default="1 day", show_default=True, help="How far back.")
@click.option("--endpoint", default="", help="Of this endpoint only.")
@click.option("--generation", default="", help="Of this version only.")
@click.option("--history", is_flag=True, help="Print what was kept of the last 30 days, as JSON.")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def drift(
    mesh: Path | None,
    /,
    name: str,
    *,
    window: str,
    endpoint: str,
    generation: str,
    history: bool,
    key: Path | None,
    as_json: bool,
) -> None:
    """Measure how far the features and answers of service NAME have moved, and how good it was."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.service_log import ServiceLog

    since = max(0.0, time.time() - seconds_of(window))
    named = {"endpoint": endpoint, "generation": generation}
    with mesh_client(mesh, key) as client:
        kept = ServiceLog(client, name)
        if history:
            emit(kept.drift_history())
            return
        result = kept.drift(since=since, **{key: value for key, value in named.items() if value})
    if as_json:
        emit(result)
        return
    if not result["measured"]:
        click.echo(f"  no prediction or forecast was asked for in the last {window}")
    for one in result["measured"]:
        _show(one)


def _show(one: dict[str, Any]) -> None:
    click.echo(f"{one['endpoint']} {one['generation']}: {one['rows']:,} answers by model {one['model']}")
    if one["problem"]:
        click.echo(f"  {mark('failed')} {one['problem']}")
    for feature in [*one["features"], *([one["prediction"]] if one["prediction"] else [])]:
        state = mark(_STATES.get(feature["verdict"], "skipped"))
        test = (
            ""
            if feature["p"] is None
            else f", {feature['test']} {feature['statistic']:.3f} (p {feature['p']:.2g})"
        )
        numbers = f"PSI {feature['psi']:.3f}, JS {feature['jensen_shannon']:.3f}{test}"
        said = "too few rows to say" if feature["verdict"] == "unknown" else feature["verdict"]
        click.echo(f"  {state} {feature['name']}: {said}; {numbers}")
    for feature, why in one["unread"].items():
        click.echo(f"  {mark('skipped')} {feature}: {why}")
    for what, why in one["unmeasured"].items():
        click.echo(f"  {mark('skipped')} {what}: not measured, {why}")
    for quality in one["qualities"]:
        then = "" if quality["then"] is None else f", on the hold-out {quality['then']:.4g}"
        click.echo(f"  {quality['metric']}: {quality['now']:.4g} of {one['outcomes']:,} outcomes{then}")
