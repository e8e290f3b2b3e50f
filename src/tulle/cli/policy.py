"""`tulle policy list | show | schema`, and `tulle service policies`: what the gateway does with requests.

`tulle api policies` reads and tells lists by the same functions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tulle.cli.said_at_deployment import heading, options, read, shown_or_set
from tulle.cli.terminal import OPTION_JSON, emit, mark, table


@click.group()
def policy() -> None:
    """The kinds of policies that the gateway can carry out."""


@policy.command("list")
@OPTION_JSON
def list_kinds(as_json: bool) -> None:
    """List the kinds of policies."""
    from tulle.control.service_policies import kinds_as_plain

    found = kinds_as_plain()
    if as_json:
        emit([{key: one[key] for key in ("name", "summary", "where", "origin")} for one in found])
    else:
        table(found, ["name", "summary"], empty="no kinds")


@policy.command()
@click.argument("kind")
@OPTION_JSON
def show(kind: str, as_json: bool) -> None:
    """Show the policy KIND: its settings and an example."""
    from tulle.control.service_policies import kind_as_plain
    from tulle.gateway.policies.kind import known_kinds

    found = kind_as_plain(known_kinds().get(kind))
    if as_json:
        emit(found)
        return
    click.secho(found["name"], bold=True)
    click.echo(f"  {found['summary']}\n")
    needed = set(found["schema"]["required"])
    rows = [
        {"setting": name, "needed": name in needed, "meaning": said.get("description", "")}
        for name, said in found["schema"]["properties"].items()
        if name != "policy"
    ]
    table(rows, ["setting", "needed", "meaning"], empty="no settings")
    click.echo("\nexample:\n")
    first, *rest = found["example"].splitlines()
    click.echo("\n".join([f"  - {first}", *(f"    {line}" for line in rest)]))


@policy.command()
def schema() -> None:
    """Print the JSON Schema of a list of policies, for editors."""
    from tulle.gateway.policies.listed import list_schema

    emit(list_schema())


@click.command()
@click.argument("service")
@options(
    "Take the policies of this file, as `policies:` has them; - reads stdin.",
    "Take those of the service's package again.",
)
@OPTION_JSON
@click.pass_obj
def policies(
    mesh: Path | None,
    service: str,
    file: str | None,
    as_packaged: bool,
    environment: str | None,
    as_json: bool,
) -> None:
    """Show what the gateway does with the requests of SERVICE, or change it at its deployment."""
    found = shown_or_set(
        mesh,
        file,
        as_packaged,
        lambda services: services.policies(service, environment=environment),
        lambda services, said: services.set_policies(
            service, None if said is None else read_file(said), environment=environment
        ),
    )
    if as_json:
        emit(found)
        return
    tell_policies(found, heading(service, found))


def tell_policies(found: dict[str, Any], of: str) -> None:
    """Print a list, what it is with those of the mesh, and what is wrong with it."""
    click.echo(f"  {of}:")
    for one in found["policies"]:
        click.echo(f"      {_sentence(one)}")
    if not found["policies"]:
        click.echo("      none")
    if found["sets"]:
        click.echo(f"  with those of the mesh ({', '.join(found['sets'])}), in this order:")
        for one in found["joined"]:
            click.echo(f"      {_sentence(one)}")
    for told in found["warnings"]:
        click.echo(f"  {mark('warn')} {told}")
    if found["fault"]:
        click.echo(f"  {mark('warn')} {found['fault']}")


def _sentence(policy: dict[str, Any]) -> str:
    settings = [
        f"{name}: {_short(value)}" for name, value in policy.items() if name != "policy" and value is not None
    ]
    return f"{policy['policy']} ({', '.join(settings)})" if settings else str(policy["policy"])


def _short(value: Any) -> str:
    """As it is written in a file, on one line."""
    import yaml

    text = yaml.safe_dump(
        value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=1_000_000
    )
    text = text.removesuffix("...\n").strip()
    return text if len(text) <= 80 else text[:80] + "…"


def read_file(file: str) -> list[dict[str, Any]]:
    """The list of policies in a file, - is stdin. Invalid with every problem, its line, and what to do."""
    from tulle.gateway.policies.listed import read_policies
    from tulle.spec.document import refuse

    document = read(file)
    path = ("policies",) if isinstance(document.value, dict) and set(document.value) == {"policies"} else ()
    found, problems = read_policies(document, path)  # here a line of the file can be named
    refuse(document.name, problems)
    return [written.as_plain() for written in found]
