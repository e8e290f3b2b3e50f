"""`tulle service requests | approve | cancel`: deployments that people have to approve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tulle.cli.environment import OPTION_KEY
from tulle.cli.terminal import OPTION_JSON, emit, mark, table
from tulle.sdk.deployments import DeploymentClient


@click.command("requests")
@click.argument("name", required=False)
@click.option("--all", "also_ended", is_flag=True, help="Also those that wait no more.")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def list_requests(
    mesh: Path | None, name: str | None, also_ended: bool, key: Path | None, as_json: bool
) -> None:
    """List deployments that wait for approval."""
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh, key) as client:
        found = DeploymentClient(client).requests(name, status=None if also_ended else "waiting")
    if as_json:
        emit(found)
        return
    rows = [{**one, "approvals": _approvals(one)} for one in found]
    columns = ["id", "service", "environment", "wanted", "status", "requested_by", "approvals", "message"]
    table(rows, columns, empty="no deployment waits for approval")


@click.command()
@click.argument("id_", metavar="ID")
@click.option("--refuse", is_flag=True, help="Refuse it instead.")
@click.option("--note", default="", help="A word for those who approve it.")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def approve(mesh: Path | None, id_: str, refuse: bool, note: str, key: Path | None, as_json: bool) -> None:
    """Approve a deployment that waits; the last approval it needs carries it out."""
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh, key) as client:
        result = DeploymentClient(client).decide(id_, approved=not refuse, note=note)
    _told_request(result, as_json)


@click.command()
@click.argument("id_", metavar="ID")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def cancel(mesh: Path | None, id_: str, key: Path | None, as_json: bool) -> None:
    """Take back a deployment that waits for approval."""
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh, key) as client:
        result = DeploymentClient(client).cancel(id_)
    _told_request(result, as_json)


COMMANDS = (list_requests, approve, cancel)


def _told_request(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        emit(result)
        return
    said = {"done": "is carried out", "waiting": f"has {_approvals(result)}"}.get(
        result["status"], f"is {result['status']}"
    )
    more = f": {result['message']}" if result["message"] else ""
    state = "failed" if result["status"] == "failed" else "succeeded"
    click.echo(f"  {mark(state)} {result['service']} {result['wanted']} {said}{more}")


def _approvals(one: dict[str, Any]) -> str:
    given = sum(1 for d in one["approvals"] if d["approved"])
    return f"{given} of {one['approvals_wanted']} approvals"
