"""`tulle gateway …`: how it fares, its versions, and what is done with it, for whoever runs it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from tulle.cli.terminal import OPTION_JSON, emit, mark, table
from tulle.errors import Invalid
from tulle.sdk.gateway import GatewayClient

REFUSED = 1  # the exit code of `check` where something would not be published
_SIGNS = {"added": "+", "removed": "-", "changed": "~"}


@click.group()
def gateway() -> None:
    """The gateway: how it fares, its versions, rollback and back again."""


@gateway.command()
@OPTION_JSON
@click.pass_obj
def status(mesh: Path | None, as_json: bool) -> None:
    """Show how the gateway fares, which version is in force, and whether it is pinned."""
    found = _with(mesh, lambda one: one.status())
    if as_json:
        emit(found)
        return
    click.echo(f"  {mark(found['state'])} gateway {found['state']} at {found['url']}")
    if envoy := found["envoy"]:
        megabytes = envoy["memory_held"] / 1e6
        click.echo(
            f"    Envoy {envoy['version']}, {envoy['state'].lower()} for {_span(envoy['uptime_seconds'])}, "
            f"{envoy['listeners']} listeners, {envoy['connections']} connections, {envoy['requests']} requests, "
            f"{megabytes:.0f} MB"
        )
        if envoy["overloaded"]:
            click.echo(f"  {mark('warn')} bounds reached: {', '.join(envoy['overloaded'])}")
    if found["draining"]:
        click.echo("    the process before it finishes what it has")
    if found["trouble"]:
        click.echo(f"  {mark('warn')} {found['trouble']}")
    if version := found["version"]:
        click.echo(f"    version {version['number']} of {_moment(version['at'])}: {version['reason']}")
    if certificate := found["certificate"]:
        names = ", ".join(certificate["names"])
        click.echo(
            f"    certificate for {names}, {certificate['state']}, until {_moment(certificate['ends_at'])}"
        )
        if certificate["trouble"]:
            click.echo(f"  {mark('warn')} {certificate['trouble']}; the one before is shown")
        if certificate["uncovered"]:
            hosts = ", ".join(certificate["uncovered"])
            click.echo(
                f"  {mark('warn')} it is not for {hosts}, where APIs are called: {certificate['advice']}"
            )
    if found["pin"]:
        click.echo(f"  {mark('warn')} {found['pin']['sentence']} (`tulle gateway resume`)")
        _changes(found["waiting"], "    waits: ")
    for fault in found["faults"]:
        click.echo(f"  {mark('warn')} service '{fault['service']}': {fault['sentence']}")
    _mesh_file(found["mesh_file"])


@gateway.command()
@click.option("--limit", "-n", type=click.IntRange(1, 500), default=20, show_default=True, help="How many.")
@OPTION_JSON
@click.pass_obj
def versions(mesh: Path | None, limit: int, as_json: bool) -> None:
    """List what the gateway was told, version by version, the newest first."""
    found = _with(mesh, lambda one: one.versions(limit=limit))
    if as_json:
        emit(found)
        return
    rows = [{**one, "version": f"{one['number']}{' (pinned)' if one['pinned'] else ''}"} for one in found]
    columns = ["version", "at", "by", "services", "clients", "contracts", "reason"]
    table(rows, columns, empty="none yet: something is published when the mesh is up")


@gateway.command()
@click.argument("number", type=click.IntRange(1))
@OPTION_JSON
@click.pass_obj
def show(mesh: Path | None, number: int, as_json: bool) -> None:
    """Show version NUMBER: what caused it, what it changed, and its services."""
    found = _with(mesh, lambda one: one.version(number))
    if as_json:
        emit(found)
        return
    click.secho(f"version {found['number']} of {_moment(found['at'])}", bold=True)
    for cause in found["causes"]:
        by = f" by {cause['actor']}" if cause["actor"] else ""
        click.echo(f"  caused by {cause['kind']} {cause['subject']}{by}")
    _changes(found["changes"], "  ")
    rows = [
        {**one, "policies": [policy["policy"] for policy in one["policies"]]}
        for one in found["content"]["services"]
    ]
    table(rows, ["name", "environment", "address", "ways_in", "answered_by", "policies"], empty="no services")
    click.echo(f"{found['clients']} clients, {found['contracts']} contracts (all of it: --json)")


@gateway.command()
@click.argument("first", type=click.IntRange(1), required=False)
@click.argument("second", type=click.IntRange(1), required=False)
@click.option(
    "--to", "last", type=click.IntRange(1), help="What this version changed: from the one before it."
)
@OPTION_JSON
@click.pass_obj
def diff(mesh: Path | None, first: int | None, second: int | None, last: int | None, as_json: bool) -> None:
    """Show what differs between versions FIRST and SECOND.

    SECOND is the newest where it is left out. Without either: the last two, or, while the gateway is pinned, what is in
    force and what waits.
    """
    if first is not None and last is not None:
        raise Invalid("--to says what one version changed", hint="for two of them: `tulle gateway diff A B`")
    second = second or last
    found = _with(mesh, lambda one: one.diff(first, second))
    if as_json:
        emit(found)
        return
    to = f"version {found['to']}" if found["to"] is not None else "what waits"
    click.secho(f"from version {found['from']} to {to}", bold=True)
    _changes(found["changes"], "  ")
    if not found["changes"]:
        click.echo("  nothing differs")


@gateway.command()
@OPTION_JSON
@click.pass_obj
def check(mesh: Path | None, as_json: bool) -> None:
    """Tell whether what is applied and deployed now would be published, by Envoy's own word; nothing is.

    And what of mesh.yaml waits to be taken up, and what is wrong with it.
    """
    found = _with(mesh, lambda one: one.check())
    if as_json:
        emit(found)
    else:
        for one in found["problems"]:
            name = f"service '{one['service']}'" if one["service"] else "the gateway"
            click.echo(f"  {mark('failed')} {name}: {one['message']}")
        if found["would_publish"]:
            click.echo(f"  {mark('succeeded')} all of it would be published")
        _mesh_file(found["mesh_file"])
    if not found["would_publish"] or found["mesh_file"]["problems"]:
        click.get_current_context().exit(REFUSED)


@gateway.command()
@click.option("--dry-run", is_flag=True, help="Check it and say what would change; nothing is taken up.")
@OPTION_JSON
@click.pass_obj
def reload(mesh: Path | None, dry_run: bool, as_json: bool) -> None:
    """Take up what mesh.yaml says now, while the mesh runs: policies, tiers, watches and what they go by.

    It is checked as a whole and refused as a whole. What is read only when the mesh starts is named.
    """
    found = _with(mesh, lambda one: one.reload(dry_run=dry_run))
    if as_json:
        emit(found)
        return
    for one in found["changes"]:
        click.echo(f"  {_SIGNS[one['how']]} {one['sentence']}")
    if not found["changes"]:
        click.echo(f"  {mark('unchanged')} nothing to take up: what can be is in force")
    _at_next_start(found)
    if dry_run and found["changes"]:
        click.echo("  it holds; `tulle gateway reload` takes it up")
    if found["taken_up"]:
        click.echo(f"  {mark('succeeded')} taken up")
        if found["waits_for_resume"]:
            click.echo(
                f"  {mark('warn')} {found['waits_for_resume']}: of policies only mandatory sets hold till then"
            )
    _in_force(found)


@gateway.command()
@click.argument("version", type=click.IntRange(1), required=False)
@click.option("--reason", default="", help="Why: shown wherever the pin is.")
@OPTION_JSON
@click.pass_obj
def rollback(mesh: Path | None, version: int | None, reason: str, as_json: bool) -> None:
    """Have the gateway do as VERSION says (default: the one before) until `tulle gateway resume`.

    Whoever was revoked stays out, and is refused at once meanwhile; a new secret opens; which generations answer
    follows deployments. All else waits.
    """
    found = _with(mesh, lambda one: one.rollback(version, reason=reason))
    if as_json:
        emit(found)
        return
    click.echo(f"  {mark('succeeded')} {found['pin']['sentence']}")
    _in_force(found)


@gateway.command()
@OPTION_JSON
@click.pass_obj
def resume(mesh: Path | None, as_json: bool) -> None:
    """End a rollback: the gateway follows what is applied and deployed again."""
    found = _with(mesh, lambda one: one.resume())
    if as_json:
        emit(found)
        return
    click.echo(f"  {mark('succeeded')} the gateway is pinned to version {found['pin']['version']} no more")
    _in_force(found)
    from tulle.gateway.faults import Fault

    for fault in (Fault(**one) for one in found["faults"]):
        place = f" in {fault.environment}" if fault.environment else ""
        click.echo(f"  {mark('warn')} service '{fault.service}'{place}: {fault.sentence}")


@gateway.command()
@OPTION_JSON
@click.pass_obj
def restart(mesh: Path | None, as_json: bool) -> None:
    """Have a fresh process take the gateway over; no request is lost.

    The one before finishes what it has, for `gateway_drain_seconds` at most.
    """
    found = _with(mesh, lambda one: one.restart())
    if as_json:
        emit(found)
        return
    click.echo(
        f"  {mark('succeeded')} process {found['pid']} has taken the gateway over after {found['seconds']:.1f} s; "
        f"{found['before']} finishes what it has"
    )
    _in_force(found)


def _mesh_file(found: dict[str, Any]) -> None:
    for problem in found["problems"]:
        click.echo(f"  {mark('failed')} {problem}")
    for one in found["changes"]:
        click.echo(f"  {mark('warn')} mesh.yaml: {one['sentence']} (`tulle gateway reload`)")
    _at_next_start(found)


def _at_next_start(found: dict[str, Any]) -> None:
    for told in found["warnings"]:
        click.echo(f"  {mark('warn')} {told}")
    if names := found["at_next_start"]:
        click.echo(
            f"  {mark('warn')} mesh.yaml: {', '.join(names)} changed, read at the next start of the mesh"
        )


def _in_force(found: dict[str, Any]) -> None:
    if not found["in_force"]:
        click.echo(f"  {mark('warn')} it is not in force yet; it is tried again (`tulle logs control_plane`)")


def _changes(changes: Sequence[dict[str, Any]], before: str) -> None:
    for one in changes:
        click.echo(f"{before}{_SIGNS[one['how']]} {one['what']} {one['name']}")
        for detail in one["details"]:
            click.echo(f"{' ' * len(before)}    {detail}")


def _with(mesh: Path | None, act: Callable[[GatewayClient], Any]) -> Any:
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh) as client:
        return act(GatewayClient(client))


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _span(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
