"""`tulle service key` and `tulle api key`, create, list, change and revoke: what opens one of them to whoever sends it.

Keys of the admin API are `admin_keys`' matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click

from tulle.cli.environment import OPTION_KEY
from tulle.cli.terminal import OPTION_JSON, emit, mark, table
from tulle.errors import Invalid


@dataclass(frozen=True, slots=True)
class _Owner:
    """What keys are of, in words and in the API's paths."""

    group: Literal["service", "api"]
    of: Literal["services", "apis"]
    noun: str  # such as API, before a name
    argument: str  # such as SERVICE
    sent: str  # how a key is sent, after `Authorization: Bearer …`
    closed: str  # that it takes no keys yet, and what to do


_SERVICE = _Owner(
    "service",
    "services",
    "service",
    "SERVICE",
    "or as Basic user name without password",
    "{name} takes no API keys yet: write `access: {{api_keys: true}}` to its file,\n"
    "      or `tulle service access {name} --set FILE`",
)
_API = _Owner(
    "api",
    "apis",
    "API",
    "NAME",
    "as Basic user name without password,\n      or where a policy `api-key` of the API says",
    "{name} takes no keys yet: write `policies: [{{policy: api-key}}]` to a version of it",
)


def _group(owner: _Owner) -> click.Group:
    group = click.Group("key", help=f"Keys of one {owner.noun}: labelled, expiring, revoked at once.")
    for command in (_create(owner), _list(owner), _change(owner), _revoke(owner)):
        group.add_command(command)
    return group


def _create(owner: _Owner) -> click.Command:
    @click.command("create", help=f"Make a key of {_named(owner)}; it is shown once.")
    @click.argument("name", metavar=owner.argument)
    @click.option("--label", required=True, help="Who is to use it, and where.")
    @click.option("--description", default="", help="What else is to be known of it.")
    @click.option("--expires", help="How long from now (90d), or a date (2030-12-31). Default: never.")
    @click.option(
        "--limit", help=f"How often it may call, as 50/1s. Default: that of the {owner.noun}'s keys."
    )
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
        from tulle.cli.connect import mesh_client
        from tulle.sdk.keys import KeyClient

        with mesh_client(mesh, key) as client:
            made = KeyClient(client, of=owner.of).create(
                name, label=label, description=description, expires=expires, limit=limit
            )
        if as_json:
            emit(made)
            return
        of = f"{owner.noun} {made['service']}"
        click.echo(f"  {mark('succeeded')} key '{made['label']}' of {of} ({made['id']})")
        click.echo(f"      {made['api_key']}")
        click.echo(f"      shown once: send it as `Authorization: Bearer …`, {owner.sent}")
        if not made["opens"]:
            click.echo(f"      {owner.closed.format(name=name)}")

    return create


def _list(owner: _Owner) -> click.Command:
    @click.command("list", help=f"List the keys of {_named(owner)}; their secrets are kept nowhere.")
    @click.argument("name", metavar=owner.argument)
    @click.option("--all", "every", is_flag=True, help="Also those that are expired or revoked.")
    @OPTION_KEY
    @OPTION_JSON
    @click.pass_obj
    def list_keys(mesh: Path | None, name: str, every: bool, key: Path | None, as_json: bool) -> None:
        from tulle.cli.connect import mesh_client
        from tulle.sdk.keys import KeyClient

        with mesh_client(mesh, key) as client:
            kept = KeyClient(client, of=owner.of).keys(name)
        found = [one for one in kept if every or one["state"] == "in force"]
        if as_json:
            emit(found)
            return
        columns = ["label", "id", "state", "limit", "created_by", "created_at", "expires_at", "last_used_at"]
        table(found, columns, empty=f"no keys: `tulle {owner.group} key create {name} --label …`")

    return list_keys


def _change(owner: _Owner) -> click.Command:
    @click.command(
        "change",
        help=f"Give KEY, the id or the label of a key of {_named(owner)}, another end or limit; it stays the same.",
    )
    @click.argument("name", metavar=owner.argument)
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
        from tulle.cli.connect import mesh_client
        from tulle.sdk.keys import KeyClient

        if expires is None and limit is None:
            raise Invalid("what is to be another is not said", hint="--expires or --limit")
        with mesh_client(mesh, key) as client:
            changed = KeyClient(client, of=owner.of).change(name, key_name, expires=expires, limit=limit)
        if as_json:
            emit(changed)
            return
        table([changed], ["label", "id", "state", "limit", "expires_at"], empty="")

    return change


def _revoke(owner: _Owner) -> click.Command:
    @click.command(
        "revoke", help=f"Refuse KEY, the id or the label of a key of {_named(owner)}, from now on."
    )
    @click.argument("name", metavar=owner.argument)
    @click.argument("key_name", metavar="KEY")
    @OPTION_KEY
    @OPTION_JSON
    @click.pass_obj
    def revoke(mesh: Path | None, name: str, key_name: str, key: Path | None, as_json: bool) -> None:
        from tulle.cli.connect import mesh_client
        from tulle.sdk.keys import KeyClient

        with mesh_client(mesh, key) as client:
            ended: dict[str, Any] = KeyClient(client, of=owner.of).revoke(name, key_name)
        if as_json:
            emit(ended)
            return
        state = "refused from now on" if ended["in_force"] else "refused as soon as the gateway can be told"
        click.echo(f"  {mark('succeeded')} key '{ended['label']}' of {name} is {state}")

    return revoke


def _named(owner: _Owner) -> str:
    return owner.argument if owner.group == "service" else f"{owner.noun} {owner.argument}"


service_key, api_key = _group(_SERVICE), _group(_API)
