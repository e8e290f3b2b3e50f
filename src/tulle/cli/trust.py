"""`tulle trust show | rotate`: who the parts of a mesh are to one another, and what signs for it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from tulle.cli.terminal import OPTION_JSON, emit, mark, table


@click.group()
def trust() -> None:
    """Certificates of the mesh's parts, and which service may call which."""


@trust.command()
@OPTION_JSON
@click.pass_obj
def show(mesh: Path | None, as_json: bool) -> None:
    """Show authorities, certificates with their ends, and which service may call which."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.gateway import GatewayClient

    with mesh_client(mesh) as client:
        found = GatewayClient(client).trust()
    if as_json:
        emit(found)
        return
    if not found["mutual_tls"]:
        click.echo("hops inside this mesh are without TLS: `mutual_tls: true` in mesh.yaml asks for it")
        return
    click.secho(f"trust domain {found['domain']}", bold=True)
    for one in found["authorities"]:
        click.echo(f"  {mark(_mark_of(one))} authority {one['id']}  {_said_of(one)}")
    rows = [{**one, "ends_in": _left(one["ends_at"])} for one in found["certificates"]]
    table(
        rows,
        ["identity", "state", "ends_in", "serial"],
        empty="no certificates: the mesh makes them when it is up",
    )
    if found["calls"]:
        click.echo("\nwhich service may call which:")
        table(found["calls"], ["caller", "callee", "limit"], empty="")


@trust.command()
@click.option(
    "--at-once",
    is_flag=True,
    help="What the old authority signed holds no more from now on, as when a key was stolen.",
)
@OPTION_JSON
@click.pass_obj
def rotate(mesh: Path | None, at_once: bool, as_json: bool) -> None:
    """Replace the mesh's authority, and with it every certificate; without --at-once no request is lost."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.gateway import GatewayClient

    with mesh_client(mesh) as client:
        made = GatewayClient(client).rotate_authority(at_once=at_once)
    if as_json:
        emit(made)
        return
    click.echo(f"  {mark('succeeded')} authority {made['id']} is trusted")
    if at_once:
        click.echo("      it signs from now on, and nothing holds that another one signed")
    else:
        click.echo(
            f"      it signs in {_left(made['signs_from'])}; the one before is trusted until its last certificate ends"
        )


def _mark_of(authority: dict[str, Any]) -> str:
    if authority["signs"]:
        return "active"
    return "starting" if authority["signs_from"] > time.time() else "waiting"


def _said_of(authority: dict[str, Any]) -> str:
    if authority["signs"]:
        return f"signs; its root ends in {_left(authority['root_ends_at'])}"
    if authority["signs_from"] > time.time():
        return f"is trusted, signs in {_left(authority['signs_from'])}"
    return f"was replaced, is trusted for {_left(authority['trusted_until'])} more"


def _left(at: float) -> str:
    """The time until a moment, in the largest unit of which there are two."""
    seconds = at - time.time()
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
