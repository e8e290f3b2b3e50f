"""`tulle connection set | list | show | test | remove`: where sources are, and what opens them."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import quote

import click

from tulle.cli.terminal import OPTION_JSON, emit, mark, table
from tulle.errors import Invalid, did_you_mean

OPTION_ENVIRONMENT = click.option(
    "--environment", default="prod", show_default=True, help="The environment that uses it."
)


@click.group()
def connection() -> None:
    """The databases, stores and HTTP APIs that sources read and services ask, by name and environment.

    A product's document names a connection; address and secrets are kept here, encrypted.
    """


@connection.command("set")
@click.argument("name")
@click.option(
    "--kind",
    type=click.Choice(["sql", "store", "http", "redis", "ldap"]),
    required=True,
    help="What it leads to.",
)
@click.option(
    "--address", required=True, help="Such as postgresql://host/shop or https://api.example.org/v1."
)
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="Such as user=reader.")
@click.option(
    "--secret", "secrets", multiple=True, metavar="NAME", help="A secret to ask for, or to read a line of."
)
@OPTION_ENVIRONMENT
@OPTION_JSON
@click.pass_obj
def set_connection(
    mesh: Path | None,
    name: str,
    kind: str,
    address: str,
    options: tuple[str, ...],
    secrets: tuple[str, ...],
    environment: str,
    as_json: bool,
) -> None:
    """Record connection NAME, in place of one of the same name.

    Secrets are no arguments, which everybody on the machine could read: they are asked for, or read from standard
    input, one a line in the order of --secret.

    \b
    Example:
      tulle connection set shop-db --kind sql --address postgresql://db.example.org/shop \\
        --option user=reader --secret password
    """
    from tulle.cli.connect import http_of, settings_of
    from tulle.sdk.client import Client
    from tulle.sdk.connections import ConnectionClient

    if "/" in name:
        raise Invalid(
            f"'{name}' is no name for a connection", hint="such as shop-db: letters, digits and hyphens"
        )
    given: dict[str, str] = {}
    for item in options:
        key, equals, value = item.partition("=")
        if not equals:
            raise Invalid(f"--option '{item}' has no value", hint="write NAME=VALUE")
        given[key] = value
    body = {
        "kind": kind,
        "address": address,
        "options": given,
        "secrets": {secret: _asked(secret) for secret in secrets},
    }
    settings = settings_of(mesh)
    with http_of(settings) as http:
        result = ConnectionClient(Client(http)).set(name, body, environment=environment)
    if as_json:
        emit(result)
        return
    click.echo(f"  {mark('succeeded')} connection {name} in {result['environment']}: {result['address']}")
    if result["environment"] not in settings.environments:
        hint = did_you_mean(result["environment"], settings.environments)
        told = f"mesh.yaml has no environment '{result['environment']}', so nothing uses it yet ({hint})"
        click.echo(f"  {mark('warn')} {told}")


def _asked(secret: str) -> str:
    if "=" in secret:
        raise Invalid("a secret is no argument", hint="write --secret NAME; its value is asked for")
    if sys.stdin.isatty():
        return str(click.prompt(secret, hide_input=True))
    line = sys.stdin.readline()
    if not line.strip("\r\n"):
        raise Invalid(f"no line for the secret '{secret}' on standard input")
    return line.rstrip("\r\n")


@connection.command("list")
@OPTION_JSON
@click.pass_obj
def list_connections(mesh: Path | None, as_json: bool) -> None:
    """List the connections of every environment."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.connections import ConnectionClient

    with mesh_client(mesh) as client:
        found = ConnectionClient(client).connections()
    if as_json:
        emit(found)
        return
    columns = ["name", "environment", "kind", "address", "secrets"]
    table(found, columns, empty="no connections: `tulle connection set NAME --kind … --address …`")


@connection.command()
@click.argument("name")
@OPTION_ENVIRONMENT
@OPTION_JSON
@click.pass_obj
def show(mesh: Path | None, name: str, environment: str, as_json: bool) -> None:
    """Show connection NAME, without its secrets."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.connections import ConnectionClient

    with mesh_client(mesh) as client:
        found = ConnectionClient(client).connection(name, environment=environment)
    if as_json:
        emit(found)
        return
    click.secho(f"{found['name']} in {found['environment']}", bold=True)
    click.echo(f"  kind     {found['kind']}")
    click.echo(f"  address  {found['address']}")
    for key, value in found["options"].items():
        click.echo(f"  {key:<8} {value}")
    for key in found["secrets"]:
        click.echo(f"  {key:<8} (kept, not shown)")


@connection.command()
@click.argument("name")
@OPTION_ENVIRONMENT
@OPTION_JSON
@click.pass_obj
def test(mesh: Path | None, name: str, environment: str, as_json: bool) -> None:
    """Try connection NAME: sign in and ask the least there is to ask."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.connections import ConnectionClient

    with mesh_client(mesh) as client:
        found = ConnectionClient(client).test(name, environment=environment)
    if as_json:
        emit(found)
    else:
        click.echo(f"  {mark('succeeded')} {name} in {found['environment']}: {found['message']}")


@connection.command()
@click.argument("name")
@OPTION_ENVIRONMENT
@OPTION_JSON
@click.pass_obj
def remove(mesh: Path | None, name: str, environment: str, as_json: bool) -> None:
    """Forget connection NAME and its secrets."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.connections import ConnectionClient

    with mesh_client(mesh) as client:
        found = ConnectionClient(client).remove(name, environment=environment)
    if as_json:
        emit(found)
    else:
        click.echo(f"  {mark('succeeded')} connection {name} is gone from {quote(found['environment'])}")
