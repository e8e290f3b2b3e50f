"""`tulle service export | import`: versions of services that go from one mesh to another."""

from __future__ import annotations

from pathlib import Path

import click

from tulle.cli.terminal import OPTION_JSON, emit, mark
from tulle.sdk.deployments import DeploymentClient


@click.command("export")
@click.argument("name")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--version", help="Default: the one that answers, else the newest.")
@OPTION_JSON
@click.pass_obj
def export_package(mesh: Path | None, name: str, file: Path, version: str | None, as_json: bool) -> None:
    """Save the signed archive of a version of service NAME to FILE, with its bill of materials."""
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh) as client:
        saved, key = DeploymentClient(client).export(name, file, version)
    size = file.stat().st_size
    if as_json:
        emit({"service": name, "version": saved, "file": str(file), "bytes": size, "public_key": key})
        return
    click.echo(f"  {mark('succeeded')} {name} {saved} is in {file} ({size / 1e6:.1f} MB)")
    click.echo(f"    another mesh imports it once its mesh.yaml has `trusted_keys: [{key}]`")


@click.command("import")
@click.argument("name")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@OPTION_JSON
@click.pass_obj
def import_package(mesh: Path | None, name: str, file: Path, as_json: bool) -> None:
    """Take a version of service NAME from FILE, an archive that another mesh has exported."""
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh) as client:
        result = DeploymentClient(client).take_in(name, file)
    if as_json:
        emit(result)
        return
    word = "imported" if result["created"] else "is there already"
    state = "succeeded" if result["created"] else "unchanged"
    click.echo(f"  {mark(state)} {name} {result['version']} {word} ({result['digest'][:12]})")


COMMANDS = (export_package, import_package)
