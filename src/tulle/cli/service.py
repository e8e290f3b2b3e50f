"""`tulle service list | package | test | call`; what becomes of packages is `cli.deployment`, the rest beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from tulle.cli import deployment, deployment_request, service_archive
from tulle.cli.admin_keys import admin_key
from tulle.cli.features import score
from tulle.cli.keys import service_key
from tulle.cli.policy import policies
from tulle.cli.service_access import access
from tulle.cli.service_drift import drift
from tulle.cli.service_log import feedback, log
from tulle.cli.service_queries import compare, queries, snippet
from tulle.cli.terminal import OPTION_JSON, emit, mark, table
from tulle.errors import Invalid, NotFound, TulleError


@click.group()
def service() -> None:
    """Package, deploy, test and call services."""


service.add_command(log)
service.add_command(feedback)
service.add_command(service_key)
service.add_command(access)
service.add_command(policies)
service.add_command(drift)
service.add_command(admin_key)


@service.command("list")
@OPTION_JSON
@click.pass_obj
def list_services(mesh: Path | None, as_json: bool) -> None:
    """List the services with their versions and what is deployed."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.services import ServiceClient

    with mesh_client(mesh) as client:
        found = ServiceClient(client).services()
        problems = [] if as_json else ServiceClient(client).problems()
    if as_json:
        emit(found)
    else:
        columns = ["name", "product", "endpoints", "newest_version", "traffic", "status"]
        table(
            [{**s, "endpoints": [e["name"] for e in s["endpoints"]], "traffic": _traffic(s)} for s in found],
            columns,
            empty="no services: put one in products/<domain>/<product>/services/",
        )
        for one in found:
            if one["deployment"] and one["deployment"]["fault"]:
                click.echo(f"  {mark('warn')} {one['name']}: {one['deployment']['fault']}")
        for problem in problems:
            click.echo(f"  {mark('warn')} {problem}")


def _traffic(service: dict[str, Any]) -> str:
    """What answers where consumers are."""
    deployed = service["deployment"]
    return str(deployed["traffic"]) if deployed and deployed["active"] else ""


@service.command()
@click.argument("name")
@click.option("--environment", "-e", help="From which environment's data. Default: where consumers are.")
@click.option("--allow-failing", is_flag=True, help="Also when test queries fail.")
@OPTION_JSON
@click.pass_obj
def package(
    mesh: Path | None, name: str, environment: str | None, allow_failing: bool, as_json: bool
) -> None:
    """Build an immutable version of service NAME from the published data and models, once its test queries pass."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.services import ServiceClient

    with mesh_client(mesh) as client:
        result = ServiceClient(client).package(name, environment=environment, allow_failing=allow_failing)
    if as_json:
        emit(result)
    else:
        show_package(result)


def show_package(result: dict[str, Any]) -> None:
    """Print one line about a built package."""
    state, word = ("succeeded", "packaged") if result["created"] else ("unchanged", "unchanged")
    size = f"{result['bytes'] / 1e6:.1f} MB"
    click.echo(
        f"  {mark(state)} {result['service']} {result['version']} {word} ({size}, {result['digest'][:12]})"
    )


@service.command()
@click.argument("name")
@click.option("--version", help="The version to test. Default: the deployed one, else the newest.")
@click.option("--generation", help="Ask the workers of this generation, which run, and not the package.")
@click.option("--environment", "-e", help="Ask what runs there. Default: where consumers are, else wherever.")
@OPTION_JSON
@click.pass_obj
def test(
    mesh: Path | None,
    name: str,
    version: str | None,
    generation: str | None,
    environment: str | None,
    as_json: bool,
) -> None:
    """Run the test queries saved in a version of service NAME: its package, or with --generation or -e what runs."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.services import ServiceClient

    if version and (generation or environment):
        raise Invalid(
            "--version asks a package, --generation and --environment ask what runs", hint="give one of them"
        )
    with mesh_client(mesh) as client:
        if generation or environment:
            result = ServiceClient(client).test_generation(
                name, generation or "active", environment=environment
            )
        else:
            result = ServiceClient(client).test(name, version)
    if as_json:
        emit(result)
    else:
        where = (
            f"{result['version']}, which runs in '{result['environment']}'" if "environment" in result else ""
        )
        if where:
            click.echo(f"  asked {name} {where}")
        if not result["verdicts"]:
            click.echo(
                f"  no test queries in '{name}' {result['version']}: write `test_queries:` to an endpoint"
            )
        for verdict in result["verdicts"]:
            state = "passed" if verdict["passed"] else "failed"
            click.echo(
                f"  {mark(state)} {verdict['endpoint']}: {verdict['name']}  {verdict['message']}".rstrip()
            )
        if (left := result.get("saved", 0) - len(result["verdicts"])) > 0:
            click.echo(f"  {mark('warn')} there was no time for {left} more")
    if any(not v["passed"] for v in result["verdicts"]):
        raise Invalid(f"test queries of '{name}' {result['version']} failed")


@service.command()
@click.argument("name")
@click.argument("endpoint")
@click.option("--data", "-d", default="{}", help="The request body as JSON, or @FILE.")
@click.option("--action", help="predict, predict-multi, lookup, run … Default: by the endpoint's type.")
@click.option(
    "--app", "application", help="The application whose saved credentials to use. Default: the only one."
)
@click.option("--bearer", metavar="FILE", help="A file with an API key or a token to use; - reads stdin.")
@click.option("--anonymous", is_flag=True, help="Send no credentials.")
@click.pass_obj
def call(
    mesh: Path | None,
    name: str,
    endpoint: str,
    data: str,
    action: str | None,
    application: str | None,
    bearer: str | None,
    anonymous: bool,
) -> None:
    """Call ENDPOINT of service NAME through the gateway and print its answer.

    DATA may be the features (predict), keys (lookup) or arguments (function) alone, or the full body.
    """
    from tulle.cli.connect import client_of, needs_up, settings_of
    from tulle.cli.credentials import headers_of
    from tulle.gateway.own_call import calling
    from tulle.sdk.services import ServiceClient

    settings = settings_of(mesh)
    needs_up(settings)
    headers = headers_of(settings, application, bearer=bearer, anonymous=anonymous)
    if data.startswith("@"):
        data = Path(data[1:]).read_text(encoding="utf-8")
    try:
        body = json.loads(data)
    except ValueError as exc:
        raise Invalid(f"--data is not JSON: {exc}") from None
    with client_of(settings) as client:
        endpoints = {e["name"]: e for e in ServiceClient(client).service(name)["endpoints"]}
    if endpoint not in endpoints:
        raise NotFound(
            f"service '{name}' has no endpoint '{endpoint}'", hint="it has: " + ", ".join(endpoints)
        )
    action = action or endpoints[endpoint]["actions"][0]
    wrapper = {"predict": "features", "lookup": "data"}.get(action)
    if wrapper and isinstance(body, dict) and not isinstance(body.get(wrapper), dict):
        body = {wrapper: body}
    with calling(settings, timeout=60) as gateway:
        answer = gateway.post(f"/public/api/v1/{name}/{endpoint}/{action}", json=body, headers=headers)
    kind = None
    try:
        told = answer.json()
        emit(told)
        kind = told.get("errorType") if isinstance(told, dict) else None
    except ValueError:
        click.echo(answer.text)
    if answer.is_error:
        asks = f"`tulle app request APPLICATION {name} --purpose …` asks for one, `tulle app grant` gives one"
        raise Invalid(
            f"{name}/{endpoint} answered {answer.status_code}{f' {kind}' if kind else ''}",
            hint=asks if kind == "NoContract" else None,
        )


_OF_DEPLOYMENTS = (*deployment.COMMANDS, *deployment_request.COMMANDS, *service_archive.COMMANDS)
for _command in (*_OF_DEPLOYMENTS, compare, queries, score, snippet):
    service.add_command(_command)

__all__ = ["TulleError", "service"]
