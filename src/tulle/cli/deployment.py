"""`tulle service deploy | traffic | rollback | preload | workers | deprecate | …`: services that are deployed.

What becomes of a deployment is told by `deployment_told`; who approves one is `deployment_request`.
"""

from __future__ import annotations

from pathlib import Path

import click

from tulle.cli.deployment_told import follow, show_all, tell, tell_tested
from tulle.cli.environment import OPTION_KEY
from tulle.cli.terminal import OPTION_JSON, emit, mark, table
from tulle.errors import Invalid
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
        tell_tested(client, name, asked, as_json)


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
            show_all(deployments.deployments(name), name, as_json)
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
        tell_tested(client, name, asked, as_json)


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
        tell_tested(client, name, asked, as_json)


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
            tell(follow(client, name, deployments.unload(name, version, environment=environment)), as_json)
            return
        way = _way(test_queries, no_test)
        asked = deployments.preload(name, version, environment=environment, test_queries=way)
        tell_tested(client, name, asked, as_json)


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
    tell(result, as_json)


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


COMMANDS = (deploy, traffic, rollback, preload, enable, disable, workers, deprecate, withdraw, clean)


def _way(test_queries: str | None, no_test: bool) -> str:
    if no_test and test_queries not in {None, "skip"}:
        raise Invalid(f"--no-test asks none, --test-queries {test_queries} does", hint="give one of them")
    return "skip" if no_test else test_queries or ""


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
