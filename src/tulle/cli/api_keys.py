"""`tulle api key create | list | change | revoke`: what opens one API to whoever sends it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tulle.cli.environment import OPTION_KEY
from tulle.cli.terminal import OPTION_JSON, emit, mark, table
from tulle.errors import Invalid
from tulle.sdk.apis import ApiClient


@click.group("key")
def api_key() -> None:
    """Keys of one API: labelled, expiring, revoked at once."""


@api_key.command()
@click.argument("name")
@click.option("--label", required=True, help="Who is to use it, and where.")
@click.option("--description", default="", help="What else is to be known of it.")
@click.option("--expires", help="How long from now (90d), or a date (2030-12-31). Default: never.")
@click.option("--limit", help="How often it may call, as 50/1s. Default: that of the API's keys.")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def create(
    mesh: Path | None,
    name: str,
    label: str,
    description: str,
    expires: str | None,
    limit: str | None,
    key: Path | None,
    as_json: bool,
) -> None:
    """Make a key of API NAME; it is shown once."""
    made = _with(
        mesh,
        key,
        lambda apis: apis.create_key(
            name, label=label, description=description, expires=expires, limit=limit
        ),
    )
    if as_json:
        emit(made)
        return
    click.echo(f"  {mark('succeeded')} key '{made['label']}' of API {made['service']} ({made['id']})")
    click.echo(f"      {made['api_key']}")
    click.echo("      shown once: send it as `Authorization: Bearer …`, as Basic user name without password,")
    click.echo("      or where a policy `api-key` of the API says")
    if not made["opens"]:
        click.echo(
            f"      {name} takes no keys yet: write `policies: [{{policy: api-key}}]` to a version of it"
        )


@api_key.command("list")
@click.argument("name")
@click.option("--all", "every", is_flag=True, help="Also those that are expired or revoked.")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def list_keys(mesh: Path | None, name: str, every: bool, key: Path | None, as_json: bool) -> None:
    """List the keys of API NAME; their secrets are kept nowhere."""
    found = [
        one for one in _with(mesh, key, lambda apis: apis.keys(name)) if every or one["state"] == "in force"
    ]
    if as_json:
        emit(found)
        return
    columns = ["label", "id", "state", "limit", "created_by", "created_at", "expires_at", "last_used_at"]
    table(found, columns, empty=f"no keys: `tulle api key create {name} --label …`")


@api_key.command()
@click.argument("name")
@click.argument("key_name", metavar="KEY")
@click.option("--expires", help="How long from now (90d), a date, or never.")
@click.option("--limit", help="How often it may call, as 50/1s, or usual.")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def change(
    mesh: Path | None,
    name: str,
    key_name: str,
    expires: str | None,
    limit: str | None,
    key: Path | None,
    as_json: bool,
) -> None:
    """Give KEY, the id or the label of a key of API NAME, another end or limit; it stays the same."""
    if expires is None and limit is None:
        raise Invalid("what is to be another is not said", hint="--expires or --limit")
    changed = _with(mesh, key, lambda apis: apis.change_key(name, key_name, expires=expires, limit=limit))
    if as_json:
        emit(changed)
        return
    table([changed], ["label", "id", "state", "limit", "expires_at"], empty="")


@api_key.command()
@click.argument("name")
@click.argument("key_name", metavar="KEY")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def revoke(mesh: Path | None, name: str, key_name: str, key: Path | None, as_json: bool) -> None:
    """Refuse KEY, the id or the label of a key of API NAME, from now on."""
    ended = _with(mesh, key, lambda apis: apis.revoke_key(name, key_name))
    if as_json:
        emit(ended)
        return
    state = "refused from now on" if ended["in_force"] else "refused as soon as the gateway can be told"
    click.echo(f"  {mark('succeeded')} key '{ended['label']}' of {name} is {state}")


def _with(mesh: Path | None, key: Path | None, ask: Callable[[ApiClient], Any]) -> Any:
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh, key) as client:
        return ask(ApiClient(client))
