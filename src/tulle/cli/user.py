"""`tulle user … | audit`: who may do what in the lake, and what they did."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from tulle.cli.terminal import OPTION_JSON, emit, mark, relative, table

OPTION_KEY_FILE = click.option(
    "--key-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the key to a new FILE of yours alone, for `--key` and lakectl, instead of showing it.",
)


@click.group()
def user() -> None:
    """Users of the lake, their access keys and policies.

    A user may do what the policies of the user and of the user's groups allow: Admins, SuperUsers, Developers and
    Viewers are there from the beginning.
    """


@user.command("list")
@OPTION_JSON
@click.pass_obj
def list_users(mesh: Path | None, as_json: bool) -> None:
    """List the users with their groups and keys."""
    from tulle.cli.connect import lake_client

    with lake_client(mesh) as lake:
        found = list(lake.pages("/auth/users"))
        for one in found:
            one["groups"] = [group["id"] for group in lake.pages(f"/auth/users/{_part(one['id'])}/groups")]
            keys = lake.pages(f"/auth/users/{_part(one['id'])}/credentials")
            one["keys"] = [key["access_key_id"] for key in keys]
    if as_json:
        emit(found)
    else:
        rows = [{**one, "user": one["id"]} for one in found]
        table(rows, ["user", "groups", "keys"], empty="no users")


@user.command("create")
@click.argument("name")
@click.option(
    "--group", "groups", multiple=True, default=["Viewers"], show_default=True, help="The user's groups."
)
@OPTION_KEY_FILE
@click.pass_obj
def create(mesh: Path | None, name: str, groups: tuple[str, ...], key_file: Path | None) -> None:
    """Create user NAME with an access key; its secret is shown once."""
    from tulle.cli.connect import lake_client

    with _kept(mesh, key_file) as keep, lake_client(mesh) as lake:
        for group in groups:
            lake.get(f"/auth/groups/{_part(group)}")  # a user who is in none of them is half made
        lake.post("/auth/users", {"id": name})
        for group in groups:
            lake.put(f"/auth/groups/{_part(group)}/members/{_part(name)}")
        made = lake.post(f"/auth/users/{_part(name)}/credentials")
        click.echo(f"  {mark('succeeded')} user {name} in {', '.join(groups)}")
        keep(made)


@user.command("delete")
@click.argument("name")
@click.pass_obj
def delete(mesh: Path | None, name: str) -> None:
    """Delete user NAME with all keys, at once."""
    from tulle.cli.connect import lake_client

    with lake_client(mesh) as lake:
        lake.delete_at(f"/auth/users/{_part(name)}")
    click.echo(f"  {mark('succeeded')} user {name} is gone")


@user.command("key")
@click.argument("name")
@click.option("--revoke", metavar="KEY", help="Revoke this key instead of making one.")
@OPTION_KEY_FILE
@click.pass_obj
def key(mesh: Path | None, name: str, revoke: str | None, key_file: Path | None) -> None:
    """Make an access key for user NAME (its secret is shown once), or revoke one."""
    from tulle.cli.connect import lake_client

    if revoke:
        with lake_client(mesh) as lake:
            lake.delete_at(f"/auth/users/{_part(name)}/credentials/{_part(revoke)}")
        click.echo(f"  {mark('succeeded')} key {revoke} is revoked")
        return
    with _kept(mesh, key_file) as keep, lake_client(mesh) as lake:
        keep(lake.post(f"/auth/users/{_part(name)}/credentials"))


@user.command("password")
@click.argument("name", required=False)
@click.option("--remove", is_flag=True, help="Take the password away.")
@OPTION_JSON
@click.pass_obj
def password(mesh: Path | None, name: str | None, remove: bool, as_json: bool) -> None:
    """Set the password with which user NAME calls APIs (policy basic-auth); without NAME tell who has one.

    It is asked for, or read from standard input: an argument could be read by everybody on the machine. It opens
    nothing of the lake. A new one, or none, holds at once.
    """
    from tulle.cli.connect import mesh_client
    from tulle.sdk.api_users import ApiUserClient

    with mesh_client(mesh) as client:
        users = ApiUserClient(client)
        if name is None:
            found = users.users()
            if as_json:
                emit(found)
            else:
                rows = [{**one, "since": _when(one["since"])} for one in found]
                table(rows, ["user", "groups", "since"], empty="nobody has a password")
            return
        result = users.remove_password(name) if remove else users.set_password(name, _chosen())
    if as_json:
        emit(result)
        return
    click.echo(f"  {mark('succeeded')} user {name} has {'no' if remove else 'a new'} password")
    if not result["in_force"]:
        click.echo(f"  {mark('warn')} the gateway does not know it yet: it does when the mesh runs")


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def _chosen() -> str:
    if sys.stdin.isatty():
        return str(click.prompt("password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\r\n")


@user.command("group")
@click.argument("name")
@click.argument("group")
@click.option("--remove", is_flag=True, help="Take the user out of the group.")
@click.pass_obj
def group_(mesh: Path | None, name: str, group: str, remove: bool) -> None:
    """Put user NAME into GROUP."""
    from tulle.cli.connect import lake_client

    path = f"/auth/groups/{_part(group)}/members/{_part(name)}"
    with lake_client(mesh) as lake:
        if remove:
            lake.delete_at(path)
        else:
            lake.put(path)
    click.echo(f"  {mark('succeeded')} {name} is {'no longer ' if remove else ''}in {group}")


@user.command("policy")
@click.argument("policy")
@click.option(
    "--file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="JSON: its statements."
)
@click.option("--attach", multiple=True, metavar="USER", help="Give it to a user.")
@click.option("--detach", multiple=True, metavar="USER", help="Take it from a user.")
@click.option("--delete", "remove", is_flag=True, help="Delete it.")
@click.pass_obj
def policy_(
    mesh: Path | None,
    policy: str,
    file: Path | None,
    attach: tuple[str, ...],
    detach: tuple[str, ...],
    remove: bool,
) -> None:
    """Show POLICY, or make it from a FILE, give it to users, delete it.

    A statement: {"effect": "allow", "action": ["fs:Read*"], "resource": "arn:lakefs:fs:::repository/sales/*"};
    …/branch/main/object/* names objects on one branch.
    """
    from tulle.cli.connect import lake_client
    from tulle.errors import Invalid, NotFound

    path = f"/auth/policies/{_part(policy)}"
    with lake_client(mesh) as lake:
        if file is not None:
            try:
                value = json.loads(file.read_text())
            except ValueError as exc:
                raise Invalid(f"{file} is no JSON: {exc}") from None
            statements = value.get("statement", value) if isinstance(value, dict) else value
            body = {"id": policy, "statement": statements}
            try:
                lake.get(path)
            except NotFound:
                lake.post("/auth/policies", body)
            else:
                lake.put(path, body)
        for name in attach:
            lake.put(f"/auth/users/{_part(name)}/policies/{_part(policy)}")
        for name in detach:
            lake.delete_at(f"/auth/users/{_part(name)}/policies/{_part(policy)}")
        if remove:
            lake.delete_at(path)
            click.echo(f"  {mark('succeeded')} policy {policy} is gone")
            return
        emit(lake.get(path))


@click.command()
@click.option("--limit", type=click.IntRange(1), default=30, show_default=True)
@click.option("--subject", default="", help="Only about this, for example arn:lakefs:fs:::repository/sales.")
@click.option("--verify", is_flag=True, help="Check that nobody changed or removed an entry.")
@OPTION_JSON
@click.pass_obj
def audit(mesh: Path | None, limit: int, subject: str, verify: bool, as_json: bool) -> None:
    """What was changed or denied, by whom, newest first."""
    from tulle.cli.connect import lake_client
    from tulle.errors import Broken

    with lake_client(mesh) as lake:
        if verify:
            found = lake.get("/audit/verify")
            if not found["holds"]:
                raise Broken(f"the trail does not hold from entry {found['first_broken']} on")
            click.echo(f"  {mark('succeeded')} the trail holds")
            return
        entries = lake.get("/audit", amount=limit, subject=subject)["results"]
    if as_json:
        emit(entries)
    else:
        table(entries, ["at", "actor", "kind", "subject"], empty="nothing was recorded yet")


@contextmanager
def _kept(mesh: Path | None, file: Path | None) -> Iterator[Callable[[dict[str, Any]], None]]:
    """What is done with a key that is made in here: shown, or written to `file`.

    The file is there before the key is: nobody is left with a key whose secret could not be written.
    """
    from tulle.cli.connect import settings_of
    from tulle.cli.credentials import new_key_file

    if file is None:
        yield _show_key
        return
    settings = settings_of(mesh)
    with new_key_file(file, f"http://{settings.host}:{settings.control_plane_port}/api/v1") as write:

        def keep(made: dict[str, Any]) -> None:
            write(made["access_key_id"], made["secret_access_key"])
            click.echo(f"    access key: {made['access_key_id']}, kept in {relative(file)}")

        yield keep


def _show_key(made: dict[str, Any]) -> None:
    click.echo(f"    access key: {made['access_key_id']}")
    click.echo(f"    secret:     {made['secret_access_key']}   (shown once)")


def _part(name: str) -> str:
    from urllib.parse import quote

    return quote(name, safe="")
