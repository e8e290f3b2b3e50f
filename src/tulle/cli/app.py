"""`tulle app create | list | show | change | rotate | revoke | grant | withdraw`, and what `app_contracts` adds: the
applications that may call services, and what they may call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tulle.cli import app_contracts, credentials
from tulle.cli.environment import OPTION_KEY
from tulle.cli.terminal import OPTION_JSON, emit, mark, relative, table
from tulle.config import Settings
from tulle.errors import Invalid


@click.group()
def app() -> None:
    """Register applications, ask what they may call, and decide about it."""


for one in app_contracts.COMMANDS:
    app.add_command(one)


@app.command()
@click.argument("name")
@click.option(
    "--service",
    "services",
    multiple=True,
    help="A service it may call at once, with limits if wanted: NAME or NAME=100/1s. Repeatable.",
)
@click.option("--owner", "owners", multiple=True, help="Who answers for the application. Repeatable.")
@click.option("--description", default="", help="What it is.")
@click.option("--purpose", default="", help="What it is for.")
@click.option("--contact", default="", help="Where its people are reached.")
@click.option("--expires", help="When its secret ends: how long from now (90d), or a date. Default: never.")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def create(
    mesh: Path | None,
    name: str,
    services: tuple[str, ...],
    owners: tuple[str, ...],
    description: str,
    purpose: str,
    contact: str,
    expires: str | None,
    key: Path | None,
    as_json: bool,
) -> None:
    """Register application NAME; its id and secret are shown once."""
    from tulle.cli.connect import mesh_client, settings_of
    from tulle.sdk.applications import ApplicationClient

    wanted: dict[str, str | None] = {}
    for item in services:
        service, _, limit = item.partition("=")
        if not service:
            raise Invalid(f"--service '{item}' names no service", hint="write NAME or NAME=100/1s")
        wanted[service] = limit or None
    with mesh_client(mesh, key) as client:
        result = ApplicationClient(client).create(
            name,
            services=wanted,
            owners=owners,
            description=description,
            purpose=purpose,
            contact=contact,
            expires=expires,
        )
    _show_credentials(settings_of(mesh), result, as_json=as_json)
    if not services and not as_json:
        click.echo(
            f"      it may call nothing yet: `tulle app request {name} SERVICE --purpose …` asks for access"
        )


def _show_credentials(settings: Settings, result: dict[str, Any], *, as_json: bool) -> None:
    path = credentials.save(settings, result)
    if as_json:
        emit(result)
        return
    click.echo(f"  {mark('succeeded')} application {result['name']}")
    for key in ("client_id", "client_secret", "api_key"):
        click.echo(f"      {key:<14} {result[key]}")
    if result["expires_at"]:
        click.echo(f"      {'ends':<14} {app_contracts.day(result['expires_at'])}")
    if result["former_until"]:
        click.echo(
            f"      the secret before it goes on until {app_contracts.day(result['former_until'])}; "
            f"`tulle app rotate {result['name']} --end-old` ends it now"
        )
    click.echo(f"      shown once; kept for `tulle service call` in {relative(path)} (mode 0600)")


@app.command("list")
@click.option("--containing", default="", help="Only those whose name contains this.")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def list_applications(mesh: Path | None, containing: str, key: Path | None, as_json: bool) -> None:
    """List the applications and what they may call."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.applications import ApplicationClient

    with mesh_client(mesh, key) as client:
        found = ApplicationClient(client).applications(containing=containing)
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
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def show(mesh: Path | None, name: str, key: Path | None, as_json: bool) -> None:
    """Show application NAME: its people, its secrets' ends, and everything it asked for."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.applications import ApplicationClient

    with mesh_client(mesh, key) as client:
        found = ApplicationClient(client).application(name)
    if as_json:
        emit(found)
        return
    click.secho(found["name"], bold=True)
    for word in ("client_id", "owner", "description", "purpose", "contact"):
        if found[word]:
            click.echo(f"  {word.replace('_', ' '):<12} {found[word]}")
    for number, secret in enumerate(found["secrets"]):
        which = "secret" if number == 0 else "old secret"
        ends = f"ends {app_contracts.day(secret['expires_at'])}" if secret["expires_at"] else "without an end"
        click.echo(f"  {which:<12} {ends}")
    if not found["secrets"]:
        click.echo(f"  no secret is in force: `tulle app rotate {name}` makes one")
    app_contracts.show_contracts(
        found["requests"], empty=f"`tulle app request {name} SERVICE` asks for access"
    )


@app.command()
@click.argument("name")
@click.option("--owner", "owners", multiple=True, help="Who answers for it from now on. Repeatable.")
@click.option("--description", help="What it is.")
@click.option("--purpose", help="What it is for.")
@click.option("--contact", help="Where its people are reached.")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def change(
    mesh: Path | None,
    name: str,
    owners: tuple[str, ...],
    description: str | None,
    purpose: str | None,
    contact: str | None,
    key: Path | None,
    as_json: bool,
) -> None:
    """Say something else of application NAME."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.applications import ApplicationClient

    given = {
        "owners": list(owners) or None,
        "description": description,
        "purpose": purpose,
        "contact": contact,
    }
    said = {word: value for word, value in given.items() if value is not None}
    if not said:
        raise Invalid(
            "what is to be another is not said", hint="--owner, --description, --purpose, --contact"
        )
    with mesh_client(mesh, key) as client:
        result = ApplicationClient(client).change(name, **said)
    if as_json:
        emit(result)
        return
    click.echo(f"  {mark('succeeded')} {name}: {', '.join(said)} changed")


@app.command()
@click.argument("name")
@click.option(
    "--overlap", help="How long the old secret goes on: 24h (the default), 7d, or 0 for not at all."
)
@click.option(
    "--expires", help="When the new secret ends: how long from now (90d), or a date. Default: never."
)
@click.option("--end-old", is_flag=True, help="Make no new secret; end the old one that goes on beside it.")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def rotate(
    mesh: Path | None,
    name: str,
    overlap: str | None,
    expires: str | None,
    end_old: bool,
    key: Path | None,
    as_json: bool,
) -> None:
    """Give application NAME a new secret; the old one goes on for a while."""
    from tulle.cli.connect import mesh_client, settings_of
    from tulle.sdk.applications import ApplicationClient

    if end_old and (overlap or expires):
        raise Invalid("--end-old goes with neither --overlap nor --expires")
    with mesh_client(mesh, key) as client:
        if end_old:
            result = ApplicationClient(client).end_former_secret(name)
        else:
            result = ApplicationClient(client).rotate(name, overlap=overlap, expires=expires)
    if not end_old:
        _show_credentials(settings_of(mesh), result, as_json=as_json)
    elif as_json:
        emit(result)
    elif result["ended"]:
        click.echo(f"  {mark('succeeded')} the old secret of {name} is refused {app_contracts.when(result)}")
    else:
        click.echo(f"  {mark('unchanged')} {name} has the one secret")


@app.command()
@click.argument("name")
@click.argument("url", required=False)
@click.option("--remove", is_flag=True, help="Tell nobody any more.")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def hook(
    mesh: Path | None, name: str, url: str | None, remove: bool, key: Path | None, as_json: bool
) -> None:
    """Tell URL of each step of application NAME's contracts, signed; the signing secret is shown once."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.applications import ApplicationClient

    if remove == (url is not None):
        raise Invalid("what is to be told is not said", hint="give the URL, or --remove")
    with mesh_client(mesh, key) as client:
        applications = ApplicationClient(client)
        result = applications.remove_hook(name) if url is None else applications.set_hook(name, url)
    if as_json:
        emit(result)
    elif url is not None:
        click.echo(f"  {mark('succeeded')} {result['host']} is told what happens to {name}")
        click.echo(f"  signing secret: {result['signing_secret']} (kept encrypted, not shown again)")
    elif result["removed"]:
        click.echo(f"  {mark('succeeded')} nobody is told what happens to {name} any more")
    else:
        click.echo(f"  {mark('unchanged')} {name} has no webhook")


@app.command()
@click.argument("what")
@click.option("--reason", default="", help="Why, for whoever had it (of a contract).")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def revoke(mesh: Path | None, what: str, reason: str, key: Path | None, as_json: bool) -> None:
    """Refuse WHAT from now on: an application for good, or the one contract of an id."""
    from tulle.cli.connect import mesh_client, settings_of
    from tulle.sdk.applications import ApplicationClient

    if app_contracts.is_contract(what):
        app_contracts.step(mesh, what, "revoke", key, as_json=as_json, reason=reason)
        return
    if reason:
        raise Invalid("--reason is for a contract", hint="its id begins with c-: `tulle app requests --all`")
    with mesh_client(mesh, key) as client:
        result = ApplicationClient(client).revoke(what)
    credentials.forget(settings_of(mesh), what)
    if as_json:
        emit(result)
        return
    click.echo(f"  {mark('succeeded')} {what} is refused {app_contracts.when(result)}")


@app.command()
@click.argument("name")
@click.argument("service")
@click.option("--limit", help="Limits, such as 100/1s + 10000/1d. Default: the mesh's default_rate_limit.")
@OPTION_JSON
@click.pass_obj
def grant(mesh: Path | None, name: str, service: str, limit: str | None, as_json: bool) -> None:
    """Let application NAME call SERVICE, a service or an API, without being asked, or change its limits."""
    from tulle.cli.connect import client_of, settings_of
    from tulle.sdk.applications import ApplicationClient

    settings = settings_of(mesh)
    limit = limit or settings.default_rate_limit
    with client_of(settings) as client:
        result = ApplicationClient(client).change_contract(name, service, limit)
    if as_json:
        emit(result)
        return
    click.echo(f"  {mark('succeeded')} {name} may call {service}, {limit}")


@app.command()
@click.argument("name")
@click.argument("service")
@OPTION_JSON
@click.pass_obj
def withdraw(mesh: Path | None, name: str, service: str, as_json: bool) -> None:
    """No longer let application NAME call SERVICE, a service or an API."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.applications import ApplicationClient

    with mesh_client(mesh) as client:
        result = ApplicationClient(client).change_contract(name, service, None)
    if as_json:
        emit(result)
        return
    click.echo(f"  {mark('succeeded')} {name} may no longer call {service}")
