"""`tulle api policies`: what the gateway does with the requests of a version of an API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tulle.cli.environment import OPTION_KEY
from tulle.cli.policy import read_file, tell_policies
from tulle.cli.terminal import OPTION_JSON, emit, mark
from tulle.errors import Invalid
from tulle.sdk.apis import ApiClient


@click.command()
@click.argument("name")
@click.argument("version")
@click.option(
    "--set",
    "file",
    metavar="FILE",
    help="Take the policies of this file, as `policies:` has them; - reads stdin.",
)
@click.option("--reset", is_flag=True, help="Take those of the API's file again.")
@click.option("--env", "-e", "environment", help="In which environment. Default: where consumers are.")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def policies(
    mesh: Path | None,
    name: str,
    version: str,
    file: str | None,
    reset: bool,
    environment: str | None,
    key: Path | None,
    as_json: bool,
) -> None:
    """Show what the gateway does with the requests of VERSION of API NAME, or change it by hand."""
    from tulle.cli.connect import mesh_client

    if file is not None and reset:
        raise Invalid("--set and --reset exclude one another")
    wanted = read_file(file) if file is not None else None
    with mesh_client(mesh, key) as client:
        apis = ApiClient(client)
        if file is not None or reset:
            found = apis.set_policies(name, version, wanted, environment=environment)
        else:
            found = apis.policies(name, version, environment=environment)
    if as_json:
        emit(found)
        return
    tell_policies(found, f"{name} {version} in {found['environment']}, {_said(found)}")
    if found.get("waits_for_resume"):
        click.echo(
            f"  {mark('warn')} {found['waits_for_resume']}; what is set waits for `tulle gateway resume`"
        )
    elif not found.get("in_force", True) and not found["fault"]:
        click.echo("  in force as soon as the gateway follows (`tulle status`)")


def _said(found: dict[str, Any]) -> str:
    if found["said_by"] == "version":
        return "as its file says"
    by = f" by {found['changed_by']}" if found["changed_by"] else ""
    return f"set by hand{by}"
