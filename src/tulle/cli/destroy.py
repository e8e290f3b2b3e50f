"""`tulle destroy | drift`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from tulle.cli.terminal import OPTION_JSON, demand_known, emit, mark
from tulle.errors import Denied, Invalid


@click.command()
@click.argument("product")
@click.option("--data", is_flag=True, help="Delete its repository too, with all branches and history.")
@click.option("--force", is_flag=True, help="Also when somebody relies on it; needs --notice.")
@click.option("--notice", default="", help="What those who rely on it are told; kept in the log for each.")
@click.option("--dry-run", is_flag=True, help="Only show what would go, and whom it hits.")
@click.option("--yes", is_flag=True, help="Do not ask for the product's name.")
@OPTION_JSON
@click.pass_obj
def destroy(
    mesh: Path | None,
    product: str,
    data: bool,
    force: bool,
    notice: str,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Destroy PRODUCT: its services stop, it leaves the catalogue; its data stays unless asked.

    Shows first what would go and whom it hits, and asks for the product's name. A product that others rely on is
    destroyed only with --force and a notice to them.

    Example: tulle destroy old-sales --data --force --notice "moved to sales on 1 May"
    """
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh) as client:
        found = client.destruction(product, data=data)
        if not as_json:
            _show(found)
        if dry_run:
            if as_json:
                emit(found)
            return
        if found["hits"] and not (force and notice.strip()):
            raise Denied(
                f"product '{product}' is relied on and is not destroyed",
                hint="end their use first, or use --force with --notice TEXT",
            )
        if not yes:
            if as_json:
                raise Invalid("--json asks nobody", hint="add --yes")
            typed = click.prompt(f"type '{product}' to destroy it", default="", show_default=False)
            if typed.strip() != product:
                raise click.Abort
        result = client.destroy(product, data=data, force=force, notice=notice, digest=found["digest"])
    if as_json:
        emit(result)
        return
    click.echo(f"{mark('succeeded')} {result['sentence']}")
    click.echo("  while its folder is there, the next `tulle apply` registers it again")


def _show(found: Mapping[str, Any]) -> None:
    for step in found["steps"]:
        click.echo(f"  {click.style('-', fg='red')} {step['sentence']}")
    for hit in found["hits"]:
        click.echo(f"    {click.style('→', fg='red')} {hit}")


@click.command()
@click.argument("products", nargs=-1)
@click.option(
    "--detailed-exitcode", is_flag=True, help="Exit with 0 when nothing differs, 2 when something does."
)
@OPTION_JSON
@click.pass_context
def drift(ctx: click.Context, products: tuple[str, ...], detailed_exitcode: bool, as_json: bool) -> None:
    """Show what differs from what was applied, of PRODUCTS or of the mesh: repositories, data, services, contracts.

    What the folder says and nobody applied yet is no drift: `tulle plan` shows that.
    """
    from tulle.cli.connect import mesh_client

    with mesh_client(ctx.obj) as client:
        found = client.drift()
    demand_known(products, [item["subject"] for item in found if item["subject"]])
    found = [item for item in found if not products or item["subject"] in products]
    count = sum(len(item["findings"]) for item in found)
    if as_json:
        emit(found)
    else:
        for item in found:
            if item["findings"]:
                click.secho(item["subject"] or "the mesh", bold=True)
            for finding in item["findings"]:
                click.echo(f"  {mark('warn')} {finding['sentence']}")
                if finding["hint"]:
                    click.secho(f"      {finding['hint']}", dim=True)
        if not count:
            told = sum(bool(item["subject"]) for item in found)
            click.echo(f"{mark('passed')} everything is as it was applied ({told} products)")
    if detailed_exitcode and count:
        ctx.exit(2)


__all__ = ["destroy", "drift"]
