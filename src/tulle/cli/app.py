"""`tulle app create | list | revoke | rotate | grant | withdraw`: the applications that may call services."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tulle.cli import credentials
from tulle.cli.terminal import OPTION_JSON, emit, mark, relative, table
from tulle.config import Settings
from tulle.errors import Invalid


@click.group()
def app() -> None:
    """Register the applications that may call services."""


@app.command()
@click.argument("name")
@click.option(
    "--service",
    "services",
    multiple=True,
    required=True,
    help="A service it may call, with a limit if wanted: NAME or NAME=100/1s. Repeatable.",
)
@click.option("--owner", default="", help="Who answers for the application.")
@OPTION_JSON
@click.pass_obj
def create(mesh: Path | None, name: str, services: tuple[str, ...], owner: str, as_json: bool) -> None:
    """Register application NAME; its id and secret are shown once."""
    from tulle.cli.connect import client_of, settings_of

    wanted: dict[str, str | None] = {}
    for item in services:
        service, _, limit = item.partition("=")
        if not service:
            raise Invalid(f"--service '{item}' names no service", hint="write NAME or NAME=100/1s")
        wanted[service] = limit or None
    settings = settings_of(mesh)
    with client_of(settings) as client:
        result = client.create_application(name, services=wanted, owner=owner)
    _show_credentials(settings, result, as_json=as_json)


def _show_credentials(settings: Settings, result: dict[str, Any], *, as_json: bool) -> None:
    path = credentials.save(settings, result)
    if as_json:
        emit(result)
        return
    click.echo(f"  {mark('succeeded')} application {result['name']}")
    for key in ("client_id", "client_secret", "api_key"):
        click.echo(f"      {key:<14} {result[key]}")
    click.echo(f"      shown once; kept for `tulle service call` in {relative(path)} (mode 0600)")


@app.command("list")
@OPTION_JSON
@click.pass_obj
def list_applications(mesh: Path | None, as_json: bool) -> None:
    """List the applications and what they may call."""
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh) as client:
        found = client.applications()
    if as_json:
        emit(found)
        return
    rows = [
        {
            **a,
            "contracts": [f"{c['service']} {c['limit']}" for c in a["contracts"]],
            "last_used": a["last_used_at"],
            "revoked": bool(a["revoked_at"]),
        }
        for a in found
    ]
    columns = ["name", "client_id", "owner", "contracts", "created_at", "last_used", "revoked"]
    table(rows, columns, empty="no applications: `tulle app create NAME --service SERVICE`")


@app.command()
@click.argument("name")
@click.pass_obj
def revoke(mesh: Path | None, name: str) -> None:
    """Refuse application NAME from now on."""
    from tulle.cli.connect import client_of, settings_of

    settings = settings_of(mesh)
    with client_of(settings) as client:
        result = client.revoke_application(name)
    credentials.forget(settings, name)
    when = "from now on" if result["in_force"] else "as soon as the gateway follows (`tulle status`)"
    click.echo(f"  {mark('succeeded')} {name} is refused {when}")


@app.command()
@click.argument("name")
@OPTION_JSON
@click.pass_obj
def rotate(mesh: Path | None, name: str, as_json: bool) -> None:
    """Give application NAME new credentials; the old ones end at once."""
    from tulle.cli.connect import client_of, settings_of

    settings = settings_of(mesh)
    with client_of(settings) as client:
        result = client.rotate_application(name)
    _show_credentials(settings, result, as_json=as_json)


@app.command()
@click.argument("name")
@click.argument("service")
@click.option("--limit", help="Requests per period, such as 100/1s. Default: the mesh's default_rate_limit.")
@click.pass_obj
def grant(mesh: Path | None, name: str, service: str, limit: str | None) -> None:
    """Let application NAME call SERVICE, or change its limit."""
    from tulle.cli.connect import client_of, settings_of

    settings = settings_of(mesh)
    limit = limit or settings.default_rate_limit
    with client_of(settings) as client:
        client.change_contract(name, service, limit)
    click.echo(f"  {mark('succeeded')} {name} may call {service}, {limit}")


@app.command()
@click.argument("name")
@click.argument("service")
@click.pass_obj
def withdraw(mesh: Path | None, name: str, service: str) -> None:
    """No longer let application NAME call SERVICE."""
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh) as client:
        client.change_contract(name, service, None)
    click.echo(f"  {mark('succeeded')} {name} may no longer call {service}")
