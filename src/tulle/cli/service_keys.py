"""`tulle service key`, `access` and `admin-key`: who may call a service, and administer services over HTTP."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from tulle.cli.environment import OPTION_KEY
from tulle.cli.terminal import OPTION_JSON, emit, mark, table
from tulle.errors import Invalid


@click.group("key")
def service_key() -> None:
    """API keys of one service: labelled, expiring, revoked at once."""


@service_key.command()
@click.argument("service")
@click.option("--label", required=True, help="Who is to use it, and where.")
@click.option("--description", default="", help="What else is to be known of it.")
@click.option("--expires", help="How long from now (90d), or a date (2030-12-31). Default: never.")
@click.option("--limit", help="How often it may call, as 50/1s. Default: that of the service's keys.")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def create(
    mesh: Path | None,
    service: str,
    label: str,
    description: str,
    expires: str | None,
    limit: str | None,
    key: Path | None,
    as_json: bool,
) -> None:
    """Make an API key of SERVICE; it is shown once."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.service_keys import ServiceKeyClient

    with mesh_client(mesh, key) as client:
        made = ServiceKeyClient(client).create(
            service, label=label, description=description, expires=expires, limit=limit
        )
    if as_json:
        emit(made)
        return
    click.echo(f"  {mark('succeeded')} key '{made['label']}' of {made['service']} ({made['id']})")
    click.echo(f"      {made['api_key']}")
    click.echo(
        "      shown once: send it as `Authorization: Bearer …`, or as Basic user name without password"
    )
    if not made["opens"]:
        click.echo(f"      {service} takes no API keys yet: write `access: {{api_keys: true}}` to its file,")
        click.echo(f"      or `tulle service access {service} --set FILE`")


@service_key.command("list")
@click.argument("service")
@click.option("--all", "every", is_flag=True, help="Also those that are expired or revoked.")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def list_keys(mesh: Path | None, service: str, every: bool, key: Path | None, as_json: bool) -> None:
    """List the API keys of SERVICE; their secrets are kept nowhere."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.service_keys import ServiceKeyClient

    with mesh_client(mesh, key) as client:
        found = [k for k in ServiceKeyClient(client).keys(service) if every or k["state"] == "in force"]
    if as_json:
        emit(found)
        return
    columns = ["label", "id", "state", "limit", "created_by", "created_at", "expires_at", "last_used_at"]
    table(found, columns, empty=f"no keys: `tulle service key create {service} --label …`")


@service_key.command()
@click.argument("service")
@click.argument("name")
@click.option("--expires", help="How long from now (90d), a date, or never.")
@click.option("--limit", help="How often it may call, as 50/1s, or usual.")
@OPTION_KEY
@click.pass_obj
def change(
    mesh: Path | None, service: str, name: str, expires: str | None, limit: str | None, key: Path | None
) -> None:
    """Give the key with the id or label NAME of SERVICE another end or limit; it stays the same."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.service_keys import ServiceKeyClient

    if expires is None and limit is None:
        raise Invalid("what is to be another is not said", hint="--expires or --limit")
    with mesh_client(mesh, key) as client:
        changed = ServiceKeyClient(client).change(service, name, expires=expires, limit=limit)
    columns = ["label", "id", "state", "limit", "expires_at"]
    table([changed], columns, empty="")


@service_key.command()
@click.argument("service")
@click.argument("name")
@OPTION_KEY
@click.pass_obj
def revoke(mesh: Path | None, service: str, name: str, key: Path | None) -> None:
    """Refuse the key with the id or label NAME of SERVICE from now on."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.service_keys import ServiceKeyClient

    with mesh_client(mesh, key) as client:
        ended = ServiceKeyClient(client).revoke(service, name)
    state = "refused from now on" if ended["in_force"] else "refused as soon as the gateway can be told"
    click.echo(f"  {mark('succeeded')} key '{ended['label']}' of {service} is {state}")


@click.command()
@click.argument("service")
@click.option(
    "--set",
    "file",
    metavar="FILE",
    help="Allow the ways of this file, as `access:` holds them; - reads stdin.",
)
@click.option("--as-packaged", is_flag=True, help="Allow what the service's package says again.")
@click.option("--environment", help="Where. Default: that of consumers.")
@OPTION_JSON
@click.pass_obj
def access(
    mesh: Path | None,
    service: str,
    file: str | None,
    as_packaged: bool,
    environment: str | None,
    as_json: bool,
) -> None:
    """Show by which ways SERVICE may be called, or change it at its deployment."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.services import ServiceClient

    if file is not None and as_packaged:
        raise Invalid("--set and --as-packaged exclude one another")
    with mesh_client(mesh) as client:
        if file is not None:
            found = ServiceClient(client).set_access(service, _read(file), environment=environment)
        elif as_packaged:
            found = ServiceClient(client).set_access(service, None, environment=environment)
        else:
            found = ServiceClient(client).access(service, environment=environment)
    if as_json:
        emit(found)
        return
    who = {"deployment": "said at its deployment", "file": "as its file says"}
    said = who.get(found["said_by"], f"as its package {found['said_by']} says")
    click.echo(f"  {service} in {found['environment']}, {said}:")
    for way in found["ways"]:
        click.echo(f"      {_sentence(way, found['access'][way])}")
    if found["fault"]:
        click.echo(f"  {mark('warn')} {found['fault']}")


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
    from tulle.sdk.service_keys import ServiceKeyClient

    settings = settings_of(mesh)
    with client_of(settings) as client:
        made = ServiceKeyClient(client).create_admin_key(label, description=description, expires=expires)
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
    from tulle.sdk.service_keys import ServiceKeyClient

    with mesh_client(mesh) as client:
        found = ServiceKeyClient(client).admin_keys()
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
    from tulle.sdk.service_keys import ServiceKeyClient

    with mesh_client(mesh) as client:
        ServiceKeyClient(client).delete_admin_key(key_id)
    click.echo(f"  {mark('succeeded')} admin key {key_id} is refused from now on")


def _read(file: str) -> dict[str, Any]:
    from tulle.spec.load import load_document

    text = sys.stdin.read() if file == "-" else _text_of(Path(file))
    value = load_document(text, name=file).value
    if isinstance(value, dict) and set(value) == {"access"}:
        value = value["access"]
    if not isinstance(value, dict):
        raise Invalid(f"{file} holds no ways to call a service", hint="for example {api_keys: true}")
    return {str(way): said for way, said in value.items()}


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise Invalid(f"{path} cannot be read: {exc}") from None


def _sentence(way: str, said: Any) -> str:
    if way == "contracts":
        return "contracts  applications that have a contract"
    limit = f", {said['limit']} each" if said.get("limit") else ""
    if way == "api_keys":
        return f"api_keys   whoever has a key of it{limit}"
    if way == "public":
        return f"public     everybody, {said['limit']} {'for each address' if said['by'] == 'address' else 'together'}"
    return f"jwt        whoever has a token of {said['issuer']}{limit}"
