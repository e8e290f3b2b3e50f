"""`tulle alerts list | set | test | incidents | sent`: where failures are told."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tulle.cli.terminal import OPTION_JSON, emit, mark, table


@click.group(epilog="Channels are written in mesh.yaml: docs/reference/alerts.md.")
def alerts() -> None:
    """Where failures are told: channels, incidents, a test."""


@alerts.command("list")
@OPTION_JSON
@click.pass_obj
def list_channels(mesh: Path | None, as_json: bool) -> None:
    """List the channels, and where each has its URL from; never a URL."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.alerts import AlertClient

    with mesh_client(mesh) as client:
        found = AlertClient(client).channels()
    if as_json:
        emit(found)
        return
    table(
        found,
        ["name", "type", "url", "on", "domains", "products"],
        empty="no channels: write them under `alerts:` in mesh.yaml",
    )


@alerts.command("set", epilog="For example: tulle alerts set ops < url.txt")
@click.argument("channel")
@OPTION_JSON
@click.pass_obj
def set_url(mesh: Path | None, channel: str, as_json: bool) -> None:
    """Keep the URL of CHANNEL, encrypted; it is asked for, or read from standard input."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.alerts import AlertClient

    url = str(click.prompt("URL", hide_input=True)) if sys.stdin.isatty() else sys.stdin.readline()
    with mesh_client(mesh) as client:
        found = AlertClient(client).set_url(channel, url.strip())
    if as_json:
        emit(found)
        return
    click.echo(
        f"  {mark('succeeded')} the URL of {channel} is kept, encrypted; `tulle alerts test {channel}`"
    )


@alerts.command()
@click.argument("channel")
@OPTION_JSON
@click.pass_obj
def test(mesh: Path | None, channel: str, as_json: bool) -> None:
    """Send a test message to CHANNEL now."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.alerts import AlertClient

    with mesh_client(mesh) as client:
        found = AlertClient(client).test(channel)
    if as_json:
        emit(found)
        return
    click.echo(f"  {mark('succeeded')} {channel} took it in {found['seconds']:.1f} s")


@alerts.command()
@click.option("--product", help="Only of this product.")
@click.option("--open", "is_open", is_flag=True, help="Only what is wrong still.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
@OPTION_JSON
@click.pass_obj
def incidents(mesh: Path | None, product: str | None, is_open: bool, limit: int, as_json: bool) -> None:
    """Show what is or was wrong, newest first."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.alerts import AlertClient

    with mesh_client(mesh) as client:
        found = AlertClient(client).incidents(product=product, is_open=is_open, limit=limit)
    if as_json:
        emit(found)
        return
    columns = ["id", "product", "environment", "cause", "times", "opened_at", "closed_at", "message"]
    table(found, columns, empty="nothing is wrong" if is_open else "nothing was wrong yet")


@alerts.command()
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
@OPTION_JSON
@click.pass_obj
def sent(mesh: Path | None, limit: int, as_json: bool) -> None:
    """Show what was sent where, newest first, and why not."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.alerts import AlertClient

    with mesh_client(mesh) as client:
        found = AlertClient(client).deliveries(limit=limit)
    if as_json:
        emit(found)
        return
    columns = ["updated_at", "channel", "event", "product", "status", "attempts", "error"]
    table(found, columns, empty="no alert was sent yet")
