"""`tulle api list | show | status | versions | operations | openapi | diff`, and how a version lives and is bound.

What people say of APIs is added by `api_remarks`, their keys by `keys`, policies by `api_policies`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tulle.cli import api_remarks
from tulle.cli.api_policies import policies
from tulle.cli.environment import OPTION_KEY
from tulle.cli.keys import api_key
from tulle.cli.terminal import OPTION_JSON, emit, mark, table
from tulle.errors import Invalid
from tulle.sdk.apis import ApiClient

_WHERE = click.option(
    "--env", "-e", "environment", help="In which environment. Default: where consumers are."
)
_STATES = {"published": "active", "deprecated": "warn", "retired": "stopped", "draft": "waiting"}
BREAKS = 2  # the exit code of `diff --exit-code` when a difference breaks callers


@click.group()
def api() -> None:
    """Managed APIs: what consumers see, have contracts for and call."""


api.add_command(api_key)
api.add_command(policies)
for one in api_remarks.COMMANDS:
    api.add_command(one)


@api.command("list")
@click.option("--tag", default="", help="Only those that have this tag.")
@click.option("--product", default="", help="Only those of this product.")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def list_apis(mesh: Path | None, tag: str, product: str, key: Path | None, as_json: bool) -> None:
    """List the APIs of the mesh; a deployed service is one as it is."""
    found = _with(mesh, key, lambda apis: apis.apis(tag=tag, product=product))
    if as_json:
        emit(found)
        return
    rows = [
        {
            "api": one["name"],
            "product": one["product"],
            "versions": [f"{v['version'] or '–'} {v['status']}" for v in one["versions"]],
            "visible_to": one["visible_to"] or one["visibility"],
            "tags": one["tags"],
            "title": one["title"],
        }
        for one in found
    ]
    columns = ["api", "product", "versions", "visible_to", "tags", "title"]
    table(
        rows,
        columns,
        empty="no APIs: `tulle new api NAME --product PRODUCT --openapi FILE` declares one, `tulle apply` follows",
    )


@api.command()
@click.argument("name")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def show(mesh: Path | None, name: str, key: Path | None, as_json: bool) -> None:
    """Show API NAME: its versions, where each is and what answers it."""
    found = _with(mesh, key, lambda apis: apis.api(name))
    if as_json:
        emit(found)
        return
    click.secho(f"{found['name']}  {found['title']}", bold=True)
    if found["summary"]:
        click.echo(f"  {found['summary']}")
    for version in found["versions"]:
        click.echo(f"  {mark(_STATES[version['status']])} {version['version'] or '–'} {_life(version)}")
        for one in version["instances"]:
            _show_instance(one)
    if found.get("applications"):
        click.echo(f"  contracts: {', '.join(found['applications'])}")


def _show_instance(one: dict[str, Any]) -> None:
    hosts = f" ({', '.join(one['hosts'])})" if one["hosts"] else ""
    click.echo(f"      {one['environment']}: {one['path']}{hosts} → {one['target']}")
    if one.get("bound_by_hand"):
        why = f": {one['reason']}" if one["reason"] else ""
        by = f" by {one['bound_by']}" if one["bound_by"] else ""
        click.echo(f"        bound by hand{by}{why}; declared is {one['declared_target']}")
    if one.get("called_by"):
        click.echo(f"        called by: {', '.join(one['called_by'])}")
    if one.get("policies") or one.get("policies_by_hand"):
        by = f" by {one['policies_by']}" if one["policies_by"] else ""
        told = f", set by hand{by}" if one["policies_by_hand"] else ""
        click.echo(f"        policies: {', '.join(one['policies'] or ['none'])}{told}")
    if one.get("uncertified"):
        click.echo(f"        {mark('warn')} {one['uncertified']}")
    if one.get("fault"):
        click.echo(f"        {mark('failed')} {one['fault']}")


def _life(version: dict[str, Any]) -> str:
    told = str(version["status"])
    if version["sunset_at"]:
        told += f", ends on {dt.datetime.fromtimestamp(version['sunset_at'], dt.UTC).date()}"
    if version["successor"]:
        told += f", {version['successor']} comes after it"
    return told


@api.command()
@click.argument("name")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def versions(mesh: Path | None, name: str, key: Path | None, as_json: bool) -> None:
    """List the versions of API NAME, and where each is in its life."""
    found = _with(mesh, key, lambda apis: apis.api(name))["versions"]
    if as_json:
        emit(found)
        return
    rows = [
        {**one, "environments": [i["environment"] for i in one["instances"]], "in_its_life": _life(one)}
        for one in found
    ]
    table(rows, ["version", "in_its_life", "environments"], empty="it has no versions")


@api.command()
@click.argument("words", nargs=-1)
@click.option("--kind", default="", help="API or product.")
@click.option("--domain", default="", help="Only of this domain.")
@click.option("--tag", default="", help="Only those that have this tag.")
@click.option("--status", default="", help="Only with a version that is so: published, deprecated …")
@click.option("--way", default="", help="How callers show who they are: contract, token, 'open to all' …")
@click.option("--page", type=click.IntRange(1, 10_000), default=1, help="Which page. Default: 1.")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def search(
    mesh: Path | None,
    /,
    words: tuple[str, ...],
    page: int,
    key: Path | None,
    as_json: bool,
    **chosen: str,
) -> None:
    """Find APIs and products by WORDS of names, descriptions, tags, owners, operations and fields."""
    said = {name: value for name, value in chosen.items() if value}
    found = _with(mesh, key, lambda apis: apis.search(" ".join(words), page=page, **said))
    if as_json:
        emit(found)
        return
    rows = [
        {**one, "versions": [f"{v['version']} {v['status']}" for v in one["versions"]]}
        for one in found["found"]
    ]
    table(
        rows, ["kind", "name", "title", "product", "domain", "versions", "tags"], empty="nothing is like that"
    )
    if page * found["a_page"] < found["count"]:
        click.echo(f"  {found['count']} in all: --page {page + 1} goes on")


@api.command()
@click.argument("name")
@click.option("--version", default="", help="Of this version only. Default: of all together.")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def status(mesh: Path | None, name: str, version: str, key: Path | None, as_json: bool) -> None:
    """Show how API NAME is where consumers are, and whether it keeps its objectives."""
    found = _with(mesh, key, lambda apis: apis.status(name, version))
    if as_json:
        emit(found)
        return
    click.secho(f"{name}  {found['word']}", bold=True)
    click.echo(f"  {found['why']}")
    for span, one in (("hour", found["hour"]), ("day", found["day"]), ("30 days", found["month"])):
        told = "nobody asked"
        if one:
            share = one["failed"] / one["requests"] if one["requests"] else 0.0
            told = f"{one['requests']} requests, {share:.2%} failed, p95 {(one['p95'] or 0) / 1000:.1f} ms"
        click.echo(f"  last {span}: {told}")
    for one in found["objectives"]:
        unit = "%" if one["measure"] == "availability" else " ms"
        kept = {None: "not known yet", True: "kept", False: "not kept"}[one["held"]]
        so = "" if one["found"] is None else f", it is {one['found']:.4g}{unit}"
        click.echo(f"  {one['measure']} {one['promised']:g}{unit}: {kept}{so}")


@api.command()
@click.argument("name")
@click.argument("version")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def operations(mesh: Path | None, name: str, version: str, key: Path | None, as_json: bool) -> None:
    """List what VERSION of API NAME can be asked."""
    found = _with(mesh, key, lambda apis: apis.operations(name, version))
    if as_json:
        emit(found)
        return
    table(found, ["method", "path", "summary", "deprecated"], empty="it has no operations")


@api.command()
@click.argument("name")
@click.argument("version")
@_WHERE
@OPTION_KEY
@click.option("--json", is_flag=True, expose_value=False, help="Said or not: the document is JSON.")
@click.pass_obj
def openapi(mesh: Path | None, name: str, version: str, environment: str | None, key: Path | None) -> None:
    """Print the OpenAPI document of VERSION of API NAME, at the gateway's address."""
    emit(_with(mesh, key, lambda apis: apis.openapi(name, version, environment=environment)))


@api.command()
@click.argument("name")
@click.argument("before")
@click.argument("after")
@click.option("--exit-code", is_flag=True, help=f"Exit with {BREAKS} when a difference breaks callers.")
@OPTION_KEY
@OPTION_JSON
@click.pass_context
def diff(
    ctx: click.Context,
    name: str,
    before: str,
    after: str,
    exit_code: bool,
    key: Path | None,
    as_json: bool,
) -> None:
    """Show what differs between two versions of API NAME, and what of it breaks who calls the first."""
    found = _with(ctx.obj, key, lambda apis: apis.diff(name, before, after))
    if as_json:
        emit(found)
    elif not found["changes"]:
        click.echo(f"{mark('unchanged')} {name} {before} and {after} are the same to their callers")
    else:
        signs = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}
        for change in found["changes"]:
            sign, colour = signs[change["kind"]]
            breaking = click.style("breaking: ", fg="red") if change["breaking"] else ""
            click.echo(f"  {click.style(sign, fg=colour)} {breaking}{change['sentence']}")
    if exit_code and found["breaking"]:
        ctx.exit(BREAKS)


@api.command()
@click.argument("name")
@click.argument("version")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def publish(mesh: Path | None, name: str, version: str, key: Path | None, as_json: bool) -> None:
    """Let consumers call VERSION of API NAME; also one that was deprecated or retired."""
    found = _with(mesh, key, lambda apis: apis.publish(name, version))
    _told(found, f"{name} {version} is published", as_json)


@api.command()
@click.argument("name")
@click.argument("version")
@click.option("--sunset", help="The date from which nobody new may use it, such as 2027-03-31.")
@click.option("--successor", default="", help="The version that comes after it.")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def deprecate(
    mesh: Path | None,
    name: str,
    version: str,
    sunset: str | None,
    successor: str,
    key: Path | None,
    as_json: bool,
) -> None:
    """Tell every caller of VERSION of API NAME that it ends, in the headers deprecation, sunset and link."""
    if sunset is not None:
        try:
            sunset = dt.date.fromisoformat(sunset).isoformat()
        except ValueError:
            raise Invalid(f"'{sunset}' is no date", hint="write it as 2027-03-31") from None
    found = _with(mesh, key, lambda apis: apis.deprecate(name, version, sunset=sunset, successor=successor))
    when = f"ends on {sunset} (00:00 UTC)" if sunset else "is deprecated"
    _told(found, f"{name} {version} {when}, which its callers are told", as_json)


@api.command()
@click.argument("name")
@click.argument("version")
@click.option("--force", is_flag=True, help="Also before its sunset.")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def retire(mesh: Path | None, name: str, version: str, force: bool, key: Path | None, as_json: bool) -> None:
    """End VERSION of API NAME: its callers get 410."""
    found = _with(mesh, key, lambda apis: apis.retire(name, version, force=force))
    _told(found, f"{name} {version} is retired", as_json)


@api.command()
@click.argument("name")
@click.argument("version")
@click.option("--to", help="service:<name>, maybe with @<generation>, or a URL. Default: what is declared.")
@_WHERE
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def bind(
    mesh: Path | None,
    name: str,
    version: str,
    to: str | None,
    environment: str | None,
    key: Path | None,
    as_json: bool,
) -> None:
    """Let something else answer VERSION of API NAME, without deploying anything or losing a request."""

    def ask(apis: ApiClient) -> dict[str, Any]:
        if to is None:
            return apis.reset(name, version, environment=environment)
        return apis.bind(name, version, to, environment=environment)

    _told(_with(mesh, key, ask), f"{name} {version} is bound to {to or 'what is declared'}", as_json)


@api.command()
@click.argument("name")
@click.argument("version")
@click.option("--reason", default="", help="Why, for who looks at it.")
@_WHERE
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def unbind(
    mesh: Path | None,
    name: str,
    version: str,
    reason: str,
    environment: str | None,
    key: Path | None,
    as_json: bool,
) -> None:
    """Let nothing answer VERSION of API NAME: its callers get 503."""
    found = _with(mesh, key, lambda apis: apis.unbind(name, version, environment=environment, reason=reason))
    _told(found, f"{name} {version} is bound to nothing", as_json)


def _with(mesh: Path | None, key: Path | None, ask: Callable[[ApiClient], Any]) -> Any:
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh, key) as client:
        return ask(ApiClient(client))


def _told(found: dict[str, Any], sentence: str, as_json: bool) -> None:
    if as_json:
        emit(found)
        return
    later = "" if found["in_force"] else ", as soon as the gateway follows (`tulle status`)"
    click.echo(f"  {mark('succeeded')} {sentence}{later}")
