"""`tulle service admin-key create | list | delete`: who may administer services over HTTP, as tools of API nodes do."""

from __future__ import annotations

from pathlib import Path

import click

from tulle.cli.terminal import OPTION_JSON, emit, mark, table


@click.group("admin-key")
def admin_key() -> None:
    """Keys of the admin API that tools for API nodes speak; it is off without one."""


@admin_key.command("create")
@click.option("--label", required=True, help="Who is to use it, and where.")
@click.option("--description", default="", help="What else is to be known of it.")
@click.option("--expires", help="How long from now (90d), or a date (2030-12-31). Default: never.")
@OPTION_JSON
@click.pass_obj
def create_admin_key(
    mesh: Path | None, label: str, description: str, expires: str | None, as_json: bool
) -> None:
    """Make a key of the admin API; it may do everything there, and is shown once."""
    from tulle.cli.connect import client_of, settings_of
    from tulle.sdk.admin_keys import AdminKeyClient

    settings = settings_of(mesh)
    with client_of(settings) as client:
        made = AdminKeyClient(client).create(label, description=description, expires=expires)
    if as_json:
        emit(made)
        return
    click.echo(f"  {mark('succeeded')} admin key '{made['label']}' ({made['id']})")
    click.echo(f"      {made['key']}")
    click.echo(
        f"      shown once; the API is at http://{settings.host}:{settings.control_plane_port}/admin/api"
    )


@admin_key.command("list")
@OPTION_JSON
@click.pass_obj
def list_admin_keys(mesh: Path | None, as_json: bool) -> None:
    """List the keys of the admin API."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.admin_keys import AdminKeyClient

    with mesh_client(mesh) as client:
        found = AdminKeyClient(client).keys()
    if as_json:
        emit(found)
        return
    columns = ["label", "id", "created_by", "created_at", "expires_at"]
    table(found, columns, empty="no keys, so the admin API is off: `tulle service admin-key create`")


@admin_key.command("delete")
@click.argument("key_id")
@click.pass_obj
def delete_admin_key(mesh: Path | None, key_id: str) -> None:
    """End the key with this id."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.admin_keys import AdminKeyClient

    with mesh_client(mesh) as client:
        AdminKeyClient(client).delete(key_id)
    click.echo(f"  {mark('succeeded')} admin key {key_id} is refused from now on")
