"""What becomes of a deployment, told: waited for, with its test queries, and shown. Knows no command."""

from __future__ import annotations

import time
from typing import Any

import click

from tulle.cli.terminal import emit, mark, table
from tulle.errors import Invalid, Unavailable
from tulle.sdk.client import Client
from tulle.sdk.deployments import DeploymentClient

TEST_SECONDS = 120.0  # test queries are waited for, also while workers start; they go on without


def follow(client: Client, name: str, result: dict[str, Any], *, timeout: float = 60) -> dict[str, Any]:
    """Wait until a deployment is active or failed; at once when the mesh is down or people have to approve it."""
    if result.get("waits_for_approval"):
        return result
    deployments, where = DeploymentClient(client), result["environment"]
    deadline = time.monotonic() + timeout
    while result["status"] == "starting" and result["mesh_is_up"]:
        if time.monotonic() > deadline:
            raise Unavailable(
                f"service '{name}' {result['desired_version']} did not start within {timeout:.0f} s",
                hint=f"`tulle logs {name}` shows what its worker says; the active version still answers",
            )
        time.sleep(0.1)
        found = deployments.deployment(name, where)
        if found is None:
            raise Invalid(f"service '{name}' was withdrawn while it started")
        result = found
    if result["status"] == "failed":
        raise Invalid(f"service '{name}' {result['desired_version']} failed to start: {result['message']}")
    return result


def show_deployment(result: dict[str, Any]) -> None:
    """Print one line about a deployment, or the request for one."""
    name = result["service"]
    if result.get("waits_for_approval"):
        people = ", ".join(result["approvers"])
        click.echo(f"  {mark('waiting')} {name} {result['wanted']} waits for approval: {result['id']}")
        click.echo(
            f"    {people} may: `tulle service approve {result['id']} --key FILE`, with their own access key"
        )
    elif not result["enabled"]:
        click.echo(f"  {mark('stopped')} {name} {result['traffic']} is disabled: it answers 503")
    elif result["fault"]:
        click.echo(f"  {mark('failed')} {name}: {result['fault']}")
    elif result["status"] == "active":
        click.echo(f"  {mark('active')} {name} {result['traffic']} answers at {result['url']}")
    else:
        click.echo(f"  {mark('starting')} {name} {result['desired_version']} starts with `tulle up`")


def tell_tested(client: Client, name: str, asked: dict[str, Any], as_json: bool) -> None:
    """Wait for a deployment and its test queries, and tell of both. Invalid when queries fail."""
    result = follow(client, name, asked)
    if result.get("waits_for_approval") or result["status"] != "active":
        tell(result, as_json)
        return
    # As it was asked: who looks a moment later may find that it was gone back from already.
    wanted = _generations(asked["desired"])
    if not as_json:
        show_deployment(result)
    deployments, where = DeploymentClient(client), result["environment"]
    deadline = time.monotonic() + TEST_SECONDS
    while _waiting(result, wanted) and result["mesh_is_up"] and time.monotonic() < deadline:
        time.sleep(0.05)
        result = deployments.deployment(name, where) or {**result, "tested": {}}
    found = {version: result["tested"][version] for version in wanted if version in result["tested"]}
    left = [version for version in wanted if version not in _generations(result["active"])]
    if as_json:
        emit(result)
    failed = {version: one for version, one in found.items() if one["status"] in {"failed", "unasked"}}
    for version, one in found.items():
        if one["status"] != "none" and not as_json:
            click.echo(f"  {_sign(one)} {version}: {one['told']}")
    if left and not failed:
        raise Invalid(
            f"service '{name}' {', '.join(left)} does not answer in '{where}' any more: {result['traffic']} does",
            hint=f"`tulle service traffic {name}` tells what answers and what became of test queries",
        )
    if failed:
        told = "; ".join(f"{version}: {one['told']}" for version, one in failed.items())
        raise Invalid(
            f"service '{name}' is deployed to '{where}', and test queries do not pass: {told}",
            hint=f"`tulle service test {name} -e {where} --generation {next(iter(failed))}` tells of all",
        )


def tell(result: dict[str, Any], as_json: bool) -> None:
    """A deployment, or the request for one, as a value or in words."""
    emit(result) if as_json else show_deployment(result)


def show_all(found: list[dict[str, Any]], name: str, as_json: bool) -> None:
    """Where a service is deployed, and what is wrong there."""
    if as_json:
        emit(found)
        return
    rows = [
        {
            **one,
            "wanted": "" if one["active"] == one["desired"] else f"{one['status']}: {one['desired_version']}",
            "workers": ", ".join(f"{v}: {n}" for v, n in one["workers"].items()),
        }
        for one in found
    ]
    table(
        rows,
        ["environment", "stage", "traffic", "wanted", "workers", "url"],
        empty=f"'{name}' is not deployed anywhere",
    )
    for one in found:
        if one["fault"]:
            click.echo(f"  {mark('warn')} {one['environment']}: {one['fault']}")
        for version, tested in one["tested"].items():
            if tested["status"] in {"failed", "unasked"}:
                click.echo(f"  {_sign(tested)} {one['environment']}, {version}: {tested['told']}")


def _sign(tested: dict[str, Any]) -> str:
    return mark("warn" if tested["status"] == "unasked" else tested["status"])


def _generations(traffic_: dict[str, Any]) -> list[str]:
    shadow = [traffic_["shadow"]["generation"]] if traffic_["shadow"] else []
    return [*(one["generation"] for one in traffic_["shares"]), *shadow, *traffic_["preloaded"]]


def _waiting(result: dict[str, Any], wanted: list[str]) -> bool:
    return any(result["tested"].get(version, {}).get("status") == "waiting" for version in wanted)
