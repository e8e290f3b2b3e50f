"""`tulle service deploy | traffic | rollback | preload | workers | deprecate | …`: services that are deployed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from tulle.cli.environment import OPTION_KEY
from tulle.cli.terminal import OPTION_JSON, emit, mark, table
from tulle.errors import Invalid, Unavailable
from tulle.sdk.client import Client
from tulle.sdk.deployments import DeploymentClient

_WHERE = click.option("--environment", "-e", help="In which environment. Default: where consumers are.")
_NOTE = click.option("--note", default="", help="A word for those who approve it.")
_TEST_QUERIES = click.option(
    "--test-queries",
    type=click.Choice(["tell", "rollback", "skip"]),
    help="What those lead to that fail once it answers: it is told, or what answered before answers again; "
    "skip asks none. Default: as the environment says.",
)
_NO_TEST = click.option("--no-test", is_flag=True, help="Ask none: the same as --test-queries skip.")
TEST_SECONDS = 120.0  # test queries are waited for, also while workers start; they go on without


@click.command()
@click.argument("name")
@click.option("--version", help="The version to deploy. Default: the newest.")
@_WHERE
@_NOTE
@_TEST_QUERIES
@_NO_TEST
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def deploy(
    mesh: Path | None,
    name: str,
    version: str | None,
    environment: str | None,
    note: str,
    test_queries: str | None,
    no_test: bool,
    key: Path | None,
    as_json: bool,
) -> None:
    """Let one version of service NAME answer all requests, without losing one, and ask it its test queries then."""
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh, key) as client:
        way = _way(test_queries, no_test)
        asked = DeploymentClient(client).deploy(
            name, version, environment=environment, note=note, test_queries=way
        )
        _told_tested(client, name, asked, as_json)


@click.command()
@click.argument("name")
@click.argument("shares", nargs=-1)
@click.option("--sticky", is_flag=True, help="By the hash of each request's dispatch key, not by chance.")
@click.option("--shadow", help="A generation that gets copies, of all requests or a part: v3 or v3=25%.")
@click.option(
    "--preload", "preloaded", multiple=True, help="A generation that runs beside, for who names it."
)
@_WHERE
@_NOTE
@_TEST_QUERIES
@_NO_TEST
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def traffic(
    mesh: Path | None,
    name: str,
    shares: tuple[str, ...],
    sticky: bool,
    shadow: str | None,
    preloaded: tuple[str, ...],
    environment: str | None,
    note: str,
    test_queries: str | None,
    no_test: bool,
    key: Path | None,
    as_json: bool,
) -> None:
    """Share the requests of service NAME among generations: `v1=90% v2=10%`. Without shares: show it."""
    from tulle.cli.connect import mesh_client

    if not shares and (sticky or shadow or preloaded):
        raise Invalid("no generation is to answer", hint="for example v1=90% v2=10%")
    wanted = dict(_share(text) for text in shares)
    if len(wanted) != len(shares):
        raise Invalid("a generation is named twice")
    with mesh_client(mesh, key) as client:
        deployments = DeploymentClient(client)
        if not shares:
            _show_all(deployments.deployments(name), name, as_json)
            return
        asked = deployments.share(
            name,
            wanted,
            sticky=sticky,
            shadow=_share(shadow) if shadow else None,
            preloaded=preloaded,
            environment=environment,
            note=note,
            test_queries=_way(test_queries, no_test),
        )
        _told_tested(client, name, asked, as_json)


@click.command()
@click.argument("name")
@_WHERE
@_TEST_QUERIES
@_NO_TEST
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def rollback(
    mesh: Path | None,
    name: str,
    environment: str | None,
    test_queries: str | None,
    no_test: bool,
    key: Path | None,
    as_json: bool,
) -> None:
    """Go back to what answered for service NAME before; a second time goes forward again."""
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh, key) as client:
        way = _way(test_queries, no_test)
        asked = DeploymentClient(client).rollback(name, environment=environment, test_queries=way)
        _told_tested(client, name, asked, as_json)


@click.command()
@click.argument("name")
@click.argument("version")
@click.option("--remove", is_flag=True, help="Stop it instead.")
@_WHERE
@_TEST_QUERIES
@_NO_TEST
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def preload(
    mesh: Path | None,
    name: str,
    version: str,
    remove: bool,
    environment: str | None,
    test_queries: str | None,
    no_test: bool,
    key: Path | None,
    as_json: bool,
) -> None:
    """Start VERSION of service NAME beside what answers: it is warm, and answers who asks for it by name."""
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh, key) as client:
        deployments = DeploymentClient(client)
        if remove:
            _told(follow(client, name, deployments.unload(name, version, environment=environment)), as_json)
            return
        way = _way(test_queries, no_test)
        asked = deployments.preload(name, version, environment=environment, test_queries=way)
        _told_tested(client, name, asked, as_json)


@click.command()
@click.argument("name")
@_WHERE
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def enable(mesh: Path | None, name: str, environment: str | None, key: Path | None, as_json: bool) -> None:
    """Let service NAME answer again."""
    _enable(mesh, name, True, environment, key, as_json)


@click.command()
@click.argument("name")
@_WHERE
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def disable(mesh: Path | None, name: str, environment: str | None, key: Path | None, as_json: bool) -> None:
    """Let service NAME answer 503 to everybody; its workers stay."""
    _enable(mesh, name, False, environment, key, as_json)


def _enable(
    mesh: Path | None, name: str, is_enabled: bool, environment: str | None, key: Path | None, as_json: bool
) -> None:
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh, key) as client:
        result = DeploymentClient(client).enable(name, is_enabled, environment=environment)
    _told(result, as_json)


@click.command()
@click.argument("name")
@click.option("--at-least", type=int, help="Workers of each generation at least.")
@click.option("--at-most", type=int, help="Workers of each generation at most, as its load asks for.")
@click.option("--requests", "most_requests", type=int, help="That they hold at once; more are answered 503.")
@_WHERE
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def workers(
    mesh: Path | None,
    name: str,
    at_least: int | None,
    at_most: int | None,
    most_requests: int | None,
    environment: str | None,
    key: Path | None,
    as_json: bool,
) -> None:
    """Say how many workers each generation of service NAME has; what is left out is as the settings say."""
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh, key) as client:
        result = DeploymentClient(client).bound(
            name, floor=at_least, ceil=at_most, most_requests=most_requests, environment=environment
        )
    if as_json:
        emit(result)
        return
    told = f"{result['floor']} to {result['ceil']} workers of each generation"
    if result["most_requests"]:
        told += f", {result['most_requests']:,} requests at once"
    click.echo(f"  {mark('succeeded')} {name}: {told}")


@click.command()
@click.argument("name")
@click.option("--sunset", help="The date from which it answers 410, such as 2027-03-31.")
@click.option("--successor", default="", help="The service that comes after it.")
@click.option("--undo", is_flag=True, help="It does not end after all.")
@_WHERE
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def deprecate(
    mesh: Path | None,
    name: str,
    sunset: str | None,
    successor: str,
    undo: bool,
    environment: str | None,
    key: Path | None,
    as_json: bool,
) -> None:
    """Tell every caller of service NAME that it ends, in the headers deprecation, sunset and link."""
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh, key) as client:
        deployments = DeploymentClient(client)
        if undo:
            result = deployments.go_on(name, environment=environment)
        else:
            result = deployments.end(name, sunset=sunset, successor=successor, environment=environment)
    if as_json:
        emit(result)
    elif undo:
        click.echo(f"  {mark('succeeded')} {name} goes on")
    else:
        told = f"ends on {sunset} (00:00 UTC)" if sunset else "is deprecated"
        click.echo(f"  {mark('succeeded')} {name} {told}, which its callers are told")


@click.command()
@click.argument("name")
@_WHERE
@click.option("--yes", is_flag=True, help="Do not ask.")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def withdraw(
    mesh: Path | None, name: str, environment: str | None, yes: bool, key: Path | None, as_json: bool
) -> None:
    """Let service NAME answer no more; its packages and contracts stay."""
    from tulle.cli.connect import mesh_client

    if not yes:
        where = f" in '{environment}'" if environment else ""
        click.confirm(f"  service '{name}' answers nobody any more{where}. Go on?", abort=True)
    with mesh_client(mesh, key) as client:
        result = DeploymentClient(client).withdraw(name, environment=environment)
    if as_json:
        emit(result)
    else:
        click.echo(f"  {mark('succeeded')} {name} is withdrawn")


@click.command()
@click.argument("name", required=False)
@click.option("--dry-run", is_flag=True, help="Only tell what would be removed.")
@OPTION_JSON
@click.pass_obj
def clean(mesh: Path | None, name: str | None, dry_run: bool, as_json: bool) -> None:
    """Remove unpacked generations that neither run nor are what a rollback goes back to."""
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh) as client:
        removed = DeploymentClient(client).clean(name, dry_run=dry_run)
    if as_json:
        emit(removed)
        return
    rows = [{**one, "size": f"{one['bytes'] / 1e6:.1f} MB"} for one in removed]
    table(rows, ["service", "version", "size"], empty="nothing to remove")


@click.command("export")
@click.argument("name")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--version", help="Default: the one that answers, else the newest.")
@OPTION_JSON
@click.pass_obj
def export_package(mesh: Path | None, name: str, file: Path, version: str | None, as_json: bool) -> None:
    """Save the signed archive of a version of service NAME to FILE, with its bill of materials."""
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh) as client:
        saved, key = DeploymentClient(client).export(name, file, version)
    size = file.stat().st_size
    if as_json:
        emit({"service": name, "version": saved, "file": str(file), "bytes": size, "public_key": key})
        return
    click.echo(f"  {mark('succeeded')} {name} {saved} is in {file} ({size / 1e6:.1f} MB)")
    click.echo(f"    another mesh imports it once its mesh.yaml has `trusted_keys: [{key}]`")


@click.command("import")
@click.argument("name")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@OPTION_JSON
@click.pass_obj
def import_package(mesh: Path | None, name: str, file: Path, as_json: bool) -> None:
    """Take a version of service NAME from FILE, an archive that another mesh has exported."""
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh) as client:
        result = DeploymentClient(client).take_in(name, file)
    if as_json:
        emit(result)
        return
    word = "imported" if result["created"] else "is there already"
    state = "succeeded" if result["created"] else "unchanged"
    click.echo(f"  {mark(state)} {name} {result['version']} {word} ({result['digest'][:12]})")


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
@_NOTE
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


COMMANDS = (
    *(deploy, traffic, rollback, preload, enable, disable, workers, deprecate, withdraw, clean),
    *(list_requests, approve, cancel, export_package, import_package),
)


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


def _way(test_queries: str | None, no_test: bool) -> str:
    if no_test and test_queries not in {None, "skip"}:
        raise Invalid(f"--no-test asks none, --test-queries {test_queries} does", hint="give one of them")
    return "skip" if no_test else test_queries or ""


def _told_tested(client: Client, name: str, asked: dict[str, Any], as_json: bool) -> None:
    """Wait for a deployment and its test queries, and tell of both. Invalid when queries fail."""
    result = follow(client, name, asked)
    if result.get("waits_for_approval") or result["status"] != "active":
        _told(result, as_json)
        return
    wanted = _generations(result["active"])
    if not as_json:
        show_deployment(result)
    deployments, where = DeploymentClient(client), result["environment"]
    deadline = time.monotonic() + TEST_SECONDS
    while _waiting(result, wanted) and result["mesh_is_up"] and time.monotonic() < deadline:
        time.sleep(0.05)
        result = deployments.deployment(name, where) or {**result, "tested": {}}
    found = {version: result["tested"][version] for version in wanted if version in result["tested"]}
    if as_json:
        emit(result)
    failed = {version: one for version, one in found.items() if one["status"] in {"failed", "unasked"}}
    for version, one in found.items():
        if one["status"] != "none" and not as_json:
            click.echo(f"  {_sign(one)} {version}: {one['told']}")
    if failed:
        told = "; ".join(f"{version}: {one['told']}" for version, one in failed.items())
        raise Invalid(
            f"service '{name}' is deployed to '{where}', and test queries do not pass: {told}",
            hint=f"`tulle service test {name} -e {where} --generation {next(iter(failed))}` tells of all",
        )


def _sign(tested: dict[str, Any]) -> str:
    return mark("warn" if tested["status"] == "unasked" else tested["status"])


def _generations(traffic_: dict[str, Any]) -> list[str]:
    shadow = [traffic_["shadow"]["generation"]] if traffic_["shadow"] else []
    return [*(one["generation"] for one in traffic_["shares"]), *shadow, *traffic_["preloaded"]]


def _waiting(result: dict[str, Any], wanted: list[str]) -> bool:
    return any(result["tested"].get(version, {}).get("status") == "waiting" for version in wanted)


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


def _told(result: dict[str, Any], as_json: bool) -> None:
    emit(result) if as_json else show_deployment(result)


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


def _show_all(found: list[dict[str, Any]], name: str, as_json: bool) -> None:
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


def _share(text: str) -> tuple[str, float]:
    """`v1=90%`, `v1=0.9` or `v1`, which is all."""
    name, sign, number = text.partition("=")
    try:
        share = float(number.removesuffix("%")) / (100 if number.endswith("%") else 1) if sign else 1.0
    except ValueError:
        share = -1.0
    if not name or not 0 <= share <= 1:
        raise Invalid(f"'{text}' is no share of a generation", hint="for example v1=90% or v1=0.9")
    return name, share
