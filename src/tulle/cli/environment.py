"""`tulle env list | show`, `tulle preview create | list | remove`: where products run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tulle.cli.terminal import OPTION_JSON, emit, mark, table


def who() -> str:
    """Who asks, unless --by says: the name in the system's environment, as Git takes it."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


OPTION_MAY_BY = click.option("--by", help="Who asks. Default: whose key it is, else your user name here.")
OPTION_KEY = click.option(
    "--key",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    envvar="TULLE_KEY",
    help="A file with your access key, such as ~/.lakectl.yaml. Default: the mesh's token, the administrator's.",
)
OPTION_BY = click.option("--by", default=who, help="Who asks. Default: your user name on this machine.")


@click.group(epilog="Environments are named under `environments:` in mesh.yaml: docs/releases.md.")
def env() -> None:
    """Environments: branches of all products, and which release is where."""


@env.command("list", epilog="For example: tulle env list --json")
@OPTION_JSON
@click.pass_obj
def list_environments(mesh: Path | None, as_json: bool) -> None:
    """List the environments in the order releases go through them, and what is in force where."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.releases import ReleaseClient

    with mesh_client(mesh) as client:
        found = ReleaseClient(client).environments()
    if as_json:
        emit(found)
        return
    columns = ["name", "branch", "after", "approvals", "approvers", "fallback", "schedules"]
    table(found, columns, empty="there is no environment")
    rows: dict[str, dict[str, Any]] = {}
    for environment in found:
        for placed in environment["products"]:
            row = rows.setdefault(placed["product"], {"product": placed["product"]})
            row[environment["name"]] = _where(placed)
    if rows:
        click.echo()
        table(rows.values(), ["product", *(environment["name"] for environment in found)], empty="")


def _where(placed: dict[str, Any]) -> str | None:
    if placed["version"]:
        return str(placed["version"])
    return "as in its folder" if placed["run"] else None


@env.command(epilog="For example: tulle env show prod")
@click.argument("name")
@OPTION_JSON
@click.pass_obj
def show(mesh: Path | None, name: str, as_json: bool) -> None:
    """Show environment NAME: its bindings, and the release and commit of every product there."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.releases import ReleaseClient

    with mesh_client(mesh) as client:
        found = ReleaseClient(client).environment(name)
    if as_json:
        emit(found)
        return
    click.secho(f"{found['name']}  branch {found['branch']}", bold=True)
    people = ", ".join(found["approvers"])
    asked = f"{found['approvals']} of {people}" if found["approvals"] else "nobody"
    click.echo(f"  approve      {asked}")
    if found["after"]:
        click.echo(f"  takes        releases that were in {found['after']}")
    if found["fallback"]:
        click.echo(f"  falls back   to {found['fallback']}, for products that have no data here")
    click.echo(f"  connections  of {found['connections']}")
    click.echo(f"  schedules    {'on' if found['schedules'] else 'off'}")
    rows = [{**one, "commit": (one["commit"] or "")[:12] or None} for one in found["products"]]
    table(rows, ["product", "version", "commit", "run", "since"], empty="no product is applied")


@click.group(epilog="For example: tulle preview create purchases refunds && tulle run purchases -e refunds")
def preview() -> None:
    """Previews: short-lived branches, to look at what a change would make."""


@preview.command(epilog="For example: tulle preview create purchases refunds --from prod")
@click.argument("product")
@click.argument("name")
@click.option("--from", "source", help="The environment it is made of. Default: production.")
@OPTION_BY
@OPTION_JSON
@click.pass_obj
def create(mesh: Path | None, product: str, name: str, source: str | None, by: str, as_json: bool) -> None:
    """Make preview NAME of PRODUCT: a branch with all of its data, and no byte copied."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.releases import ReleaseClient

    with mesh_client(mesh) as client:
        made = ReleaseClient(client).create_preview(product, name, source=source, by=by)
    if as_json:
        emit(made)
        return
    click.echo(f"{mark('succeeded')} branch '{made['branch']}' of '{product}', off {made['source']}")
    click.echo(f"  next: tulle run {product} --environment {name}")


@preview.command("list")
@click.argument("product", required=False)
@OPTION_JSON
@click.pass_obj
def list_previews(mesh: Path | None, product: str | None, as_json: bool) -> None:
    """List previews, of PRODUCT or of all."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.releases import ReleaseClient

    with mesh_client(mesh) as client:
        found = ReleaseClient(client).previews(product)
    if as_json:
        emit(found)
        return
    columns = ["product", "name", "branch", "source", "created_by", "created_at"]
    table(found, columns, empty="no previews: `tulle preview create PRODUCT NAME`")


@preview.command(epilog="For example: tulle preview remove purchases refunds")
@click.argument("product")
@click.argument("name")
@OPTION_BY
@OPTION_JSON
@click.pass_obj
def remove(mesh: Path | None, product: str, name: str, by: str, as_json: bool) -> None:
    """Remove preview NAME of PRODUCT with its branches; what it was made of stays."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.releases import ReleaseClient

    with mesh_client(mesh) as client:
        removed = ReleaseClient(client).remove_preview(product, name, by=by)
    if as_json:
        emit(removed)
    else:
        click.echo(f"{mark('succeeded')} preview '{name}' of '{product}' is gone")
