"""`tulle service access`: by which ways a service may be called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tulle.cli.said_at_deployment import heading, options, read, shown_or_set
from tulle.cli.terminal import OPTION_JSON, emit, mark
from tulle.errors import Invalid


@click.command()
@click.argument("service")
@options(
    "Allow the ways of this file, as `access:` holds them; - reads stdin.",
    "Allow what the service's package says again.",
)
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
    found = shown_or_set(
        mesh,
        file,
        as_packaged,
        lambda services: services.access(service, environment=environment),
        lambda services, said: services.set_access(
            service, None if said is None else _read(said), environment=environment
        ),
    )
    if as_json:
        emit(found)
        return
    click.echo(f"  {heading(service, found)}:")
    for way in found["ways"]:
        click.echo(f"      {_sentence(way, found['access'][way])}")
    if found["fault"]:
        click.echo(f"  {mark('warn')} {found['fault']}")


def _read(file: str) -> dict[str, Any]:
    value = read(file).value
    if isinstance(value, dict) and set(value) == {"access"}:
        value = value["access"]
    if not isinstance(value, dict):
        raise Invalid(f"{file} holds no ways to call a service", hint="for example {api_keys: true}")
    return {str(way): said for way, said in value.items()}


def _sentence(way: str, said: Any) -> str:
    if way == "contracts":
        return "contracts  applications that have a contract"
    limit = f", {said['limit']} each" if said.get("limit") else ""
    if way == "api_keys":
        return f"api_keys   whoever has a key of it{limit}"
    if way == "public":
        return f"public     everybody, {said['limit']} {'for each address' if said['by'] == 'address' else 'together'}"
    return f"jwt        whoever has a token of {said['issuer']}{limit}"
