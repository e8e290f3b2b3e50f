"""`tulle app tiers | request | requests | terms | accept | approve | reject | restore | limits | delete | access`.

What applications ask for, and who decides.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from tulle.cli.environment import OPTION_KEY
from tulle.cli.terminal import OPTION_JSON, emit, mark, table
from tulle.errors import Invalid

_ID = re.compile(r"c-[0-9a-f]{16}")
_EXPIRES = click.option(
    "--expires", default="", help="When it ends: how long from now (90d), a date, or never."
)
_TIER = click.option("--tier", default="", help="Another tier than was asked for.")
_LIMITS = click.option("--limits", default="", help="Limits of its own: 100/1s + 10000/1d.")


def is_contract(text: str) -> bool:
    """Whether this is the id of a contract."""
    return _ID.fullmatch(text) is not None


def when(result: Mapping[str, Any]) -> str:
    """From when on something holds, in words."""
    follows = result.get("gateway_follows", result.get("in_force"))
    return "from now on" if follows else "as soon as the gateway follows (`tulle status`)"


def day(at: float) -> str:
    """A moment, for people."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


@click.command()
@click.argument("name")
@click.option("--product", is_flag=True, help="NAME is a product, whose services are all asked for at once.")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def tiers(mesh: Path | None, name: str, product: bool, key: Path | None, as_json: bool) -> None:
    """Show what may be asked for at service or API NAME, and its terms."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.contracts import ContractClient

    with mesh_client(mesh, key) as client:
        found = ContractClient(client).offer(name, product=product)
    if as_json:
        emit(found)
        return
    rows = [
        {
            **tier,
            "limits": " + ".join(tier["limits"]),
            "lasts": f"{tier['seconds'] // 86_400}d" if tier["seconds"] else "without an end",
        }
        for tier in found["tiers"]
    ]
    columns = ["name", "limits", "approval", "visibility", "deprecated", "lasts", "description"]
    table(rows, columns, empty=f"{name} has no tiers")
    if found["terms"]:
        click.secho(f"\nTerms, version {found['terms']['version']}", bold=True)
        click.echo(found["terms"]["text"].rstrip())


@click.command()
@click.argument("application")
@click.argument("name")
@click.option("--product", is_flag=True, help="NAME is a product: access to all its services.")
@click.option("--tier", default="", help="Which tier; needed where there are several.")
@click.option("--purpose", required=True, help="What the access is for, in a sentence.")
@click.option("--accept-terms", "terms", default="", help="The version of the terms that you accept.")
@click.option("--env", "environment", help="In one environment alone. Default: in each.")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def request(
    mesh: Path | None,
    application: str,
    name: str,
    product: bool,
    tier: str,
    purpose: str,
    terms: str,
    environment: str | None,
    key: Path | None,
    as_json: bool,
) -> None:
    """Ask that APPLICATION may call service or API NAME."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.contracts import ContractClient

    what = {"product" if product else "api": name}
    with mesh_client(mesh, key) as client:
        made = ContractClient(client).request(
            application, **what, tier=tier, purpose=purpose, terms=terms, environment=environment
        )
    if as_json:
        emit(made)
        return
    if made["state"] == "approved":
        told = f"{application} may call {name} under {made['tier']}, {when(made)}"
        click.echo(f"  {mark('succeeded')} {told} ({made['id']})")
        return
    click.echo(f"  {mark('waiting')} {made['id']} waits for an owner of {name} to decide")
    click.echo(f"      they do so by `tulle app approve {made['id']}`, or reject")


@click.command()
@click.option("--all", "every", is_flag=True, help="Also those that were decided or are over.")
@click.option("--state", "states", multiple=True, help="Of one state: pending, approved, revoked and so on.")
@click.option("--application", help="Of one application.")
@click.option("--service", help="For one service.")
@click.option("--product", help="For a product and its services.")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def requests(
    mesh: Path | None,
    every: bool,
    states: tuple[str, ...],
    application: str | None,
    service: str | None,
    product: str | None,
    key: Path | None,
    as_json: bool,
) -> None:
    """List the requests that wait for a decision, or all of them."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.contracts import ContractClient

    if every and states:
        raise Invalid("--all goes without --state")
    chosen = () if every else states or ("pending",)
    with mesh_client(mesh, key) as client:
        found = ContractClient(client).contracts(
            states=chosen, application=application, service=service, product=product
        )
    if as_json:
        emit(found)
        return
    show_contracts(found, empty="nothing waits for a decision" if not every else "nobody asked for anything")


def show_contracts(found: Sequence[Mapping[str, Any]], *, empty: str) -> None:
    """Contracts as a table."""
    rows = [
        {
            **one,
            "for": one.get("api") or f"product {one.get('product')}",
            "tier": one["tier"] or "its own",
            "limits": " + ".join(one["limits"]),
            "by": one["requested_by"] or None,
            "decided": one["decided_by"] or None,
            "until": one["until"],
        }
        for one in found
    ]
    columns = [
        "id",
        "application",
        "for",
        "environment",
        "tier",
        "limits",
        "state",
        "purpose",
        "by",
        "decided",
    ]
    if any(one["until"] for one in found):
        columns.append("until")
    if any(one["reason"] for one in found):
        columns.append("reason")
    table(rows, columns, empty=empty)


@click.command()
@click.argument("contract")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def terms(mesh: Path | None, contract: str, key: Path | None, as_json: bool) -> None:
    """Show the terms as they were accepted last for CONTRACT, by whom and when."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.contracts import ContractClient

    with mesh_client(mesh, key) as client:
        found = ContractClient(client).accepted_terms(contract)
    if as_json:
        emit(found)
        return
    by = f" by {found['accepted_by']}" if found["accepted_by"] else ""
    click.echo(f"  version {found['version']}, accepted{by} {day(found['accepted_at'])}:\n")
    click.echo(found["text"])


@click.command()
@click.argument("contract")
@click.argument("version")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def accept(mesh: Path | None, contract: str, version: str, key: Path | None, as_json: bool) -> None:
    """Accept VERSION of the terms that CONTRACT is under, after they have changed."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.contracts import ContractClient

    with mesh_client(mesh, key) as client:
        made = ContractClient(client).accept_terms(contract, version)
    if as_json:
        emit(made)
        return
    click.echo(f"  {mark('succeeded')} version {version} of the terms is accepted for {contract}")


@click.command()
@click.argument("contract")
@_TIER
@_LIMITS
@_EXPIRES
@click.option("--reason", default="", help="What is to be known of the decision.")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def approve(
    mesh: Path | None,
    contract: str,
    tier: str,
    limits: str,
    expires: str,
    reason: str,
    key: Path | None,
    as_json: bool,
) -> None:
    """Let the application of request CONTRACT in, under the tier it asked for or another."""
    said = {"tier": tier, "limits": limits, "expires": expires, "reason": reason}
    step(mesh, contract, "approve", key, as_json=as_json, **said)


@click.command()
@click.argument("contract")
@click.option("--reason", required=True, help="Why; the applicant reads it.")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def reject(mesh: Path | None, contract: str, reason: str, key: Path | None, as_json: bool) -> None:
    """Do not let the application of request CONTRACT in."""
    step(mesh, contract, "reject", key, as_json=as_json, reason=reason)


@click.command()
@click.argument("contract")
@_TIER
@_EXPIRES
@click.option("--reason", default="", help="What is to be known of the decision.")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def restore(
    mesh: Path | None, contract: str, tier: str, expires: str, reason: str, key: Path | None, as_json: bool
) -> None:
    """Put CONTRACT in force again, which was revoked or has expired."""
    step(mesh, contract, "restore", key, as_json=as_json, tier=tier, expires=expires, reason=reason)


@click.command()
@click.argument("contract")
@_TIER
@_LIMITS
@_EXPIRES
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def limits(
    mesh: Path | None, contract: str, tier: str, limits: str, expires: str, key: Path | None, as_json: bool
) -> None:
    """Give CONTRACT another tier, limits of its own, or another end."""
    step(mesh, contract, "change", key, as_json=as_json, tier=tier, limits=limits, expires=expires)


@click.command()
@click.argument("contract")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def delete(mesh: Path | None, contract: str, key: Path | None, as_json: bool) -> None:
    """Give up CONTRACT, or take back the request."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.contracts import ContractClient

    _demand_id(contract)
    with mesh_client(mesh, key) as client:
        made = ContractClient(client).delete(contract)
    _show_step(made, as_json=as_json)


def step(
    mesh: Path | None, contract: str, what: str, key: Path | None, *, as_json: bool, **said: str
) -> None:
    """Take one step with a contract, and show what came of it."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.contracts import ContractClient

    _demand_id(contract)
    with mesh_client(mesh, key) as client:
        made = ContractClient(client).decide(contract, what, **said)
    _show_step(made, as_json=as_json)


def _demand_id(contract: str) -> None:
    if not is_contract(contract):
        raise Invalid(
            f"'{contract}' is no id of a contract",
            hint="c- and 16 hexadecimal digits: `tulle app requests --all` shows them",
        )


def _show_step(made: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        emit(made)
        return
    name = made.get("api") or f"product {made.get('product')}"
    told = f"{made['application']} for {name} is {made['state']}"
    under = f" under {made['tier'] or ' + '.join(made['limits'])}" if made["state"] == "approved" else ""
    until = f" until {day(made['until'])}" if made["until"] and made["state"] == "approved" else ""
    click.echo(f"  {mark('succeeded')} {told}{under}{until}, {when(made)}")


@click.command()
@click.option("--product", help="Of a product and its services, also the people of its roles.")
@click.option("--service", help="Of one service.")
@click.option("--application", help="What one application may call.")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def access(
    mesh: Path | None,
    product: str | None,
    service: str | None,
    application: str | None,
    key: Path | None,
    as_json: bool,
) -> None:
    """List who may use what, and why."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.contracts import ContractClient

    with mesh_client(mesh, key) as client:
        found = ContractClient(client).access(product=product, service=service, application=application)
    if as_json:
        emit(found)
        return
    rows = [
        {
            **one,
            "who": f"{one['by']} {one['who']}",
            "may_use": f"{one['what']} {one['name']}",
            "approved_by": one["approved_by"] or None,
            "last_used": one["last_used_at"],
            "why": f"{one['why']}: {one['purpose']}" if one["purpose"] else one["why"],
        }
        for one in found
    ]
    columns = ["who", "may_use", "environment", "limits", "why", "approved_by", "since", "until", "last_used"]
    table(rows, columns, empty="nobody may use it")


COMMANDS = (tiers, request, requests, terms, accept, approve, reject, restore, limits, delete, access)
