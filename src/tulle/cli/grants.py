"""`tulle grants`."""

from __future__ import annotations

from pathlib import Path

import click

from tulle.cli.terminal import OPTION_JSON, emit, mark


@click.command()
@click.argument("product")
@OPTION_JSON
@click.pass_obj
def grants(mesh: Path | None, product: str, as_json: bool) -> None:
    """Show the roles of PRODUCT in the lake: what each may do, who has it, who waits, what differs."""
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh) as client:
        found = client.grants(product)
    if as_json:
        emit(found)
        return
    for role in found["roles"]:
        click.echo(f"{click.style(role['name'], bold=True)}  {role['says']}")
        who = [*role["users"], *(f"group {group}" for group in role["groups"])]
        click.echo(f"  {', '.join(who) if who else 'nobody has it'}")
    for sentence in found["waiting"]:
        click.echo(f"{mark('waiting')} {sentence}")
    for sentence in found["differs"]:
        click.echo(f"{mark('warn')} not as it was applied: {sentence}")
    if found["differs"]:
        click.echo("next: tulle plan")


__all__ = ["grants"]
