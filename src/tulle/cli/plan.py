"""`tulle plan | apply | plans`."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from tulle.cli.terminal import OPTION_JSON, demand_known, emit, mark, relative, table
from tulle.errors import Broken, Denied, Invalid, NotFound, Unavailable, from_dict
from tulle.sdk.client import Client

_LOOK_SECONDS, _SLOW_SECONDS = 0.1, 1.0
CHANGES = 2  # the exit code of `plan --detailed-exitcode` when there is something to do
_SIGNS = {"create": ("+", "green"), "change": ("~", "yellow"), "remove": ("-", "red")}


@click.command()
@click.argument("products", nargs=-1)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the plan to a file that `tulle apply FILE` carries out exactly.",
)
@click.option(
    "--detailed-exitcode",
    is_flag=True,
    help="Exit with 0 when nothing is to do, 2 when something is, 1 when it failed or is refused.",
)
@OPTION_JSON
@click.pass_context
def plan(
    ctx: click.Context, products: tuple[str, ...], out: Path | None, detailed_exitcode: bool, as_json: bool
) -> None:
    """Show what `apply` would do, in sentences; of PRODUCTS only, if any are named.

    Each change says whether it breaks anybody, and whom: products by the columns they use, services, applications.

    Example: tulle plan --out plan.json && tulle apply plan.json
    """
    from tulle.cli.connect import mesh_client

    if products and (out is not None or as_json):
        raise click.UsageError(
            "a plan is carried out as a whole: leave out the products, or --out and --json"
        )
    with mesh_client(ctx.obj) as client:
        result = client.plan()
        steps = result["steps"]
        if products:
            demand_known(products, {p["name"] for p in client.products()} | {s["subject"] for s in steps})
    if products:
        shown = [step for step in steps if step["subject"] in products]
        show_plan({**result, "steps": shown, "note": f"nothing to do for {', '.join(products)}"})
        if others := len(steps) - len(shown):
            click.secho(f"  and {others} step(s) of others, which `tulle plan` shows", dim=True)
        result = {**result, "steps": shown}
    elif as_json:
        emit(result)
    else:
        show_plan(result)
    if out is not None:
        _write(out, result)
        if not as_json:
            click.echo(f"next: tulle apply {relative(out)}")
    _refuse(result)
    if detailed_exitcode and result["steps"]:
        ctx.exit(CHANGES)


def _write(out: Path, result: Mapping[str, Any]) -> None:
    """Write beside, then rename: whoever reads the file meanwhile reads a whole plan."""
    from tulle.control.plan_file import canonical

    out.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}-")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(canonical(result))
    Path(name).replace(out)


def _refuse(result: Mapping[str, Any]) -> None:
    problems = from_dict({"problems": result["refusals"]}).problems
    if problems:
        count = "1 reason" if len(problems) == 1 else f"{len(problems)} reasons"
        raise Denied(f"`apply` would refuse this plan for {count}", problems=problems)


def show_plan(result: Mapping[str, Any]) -> None:
    """Print a plan's steps."""
    steps: Sequence[Mapping[str, Any]] = result["steps"]
    if not steps:
        told = result.get("note") or "nothing to do: the mesh is as its documents say"
        click.echo(f"{mark('unchanged')} {told}")
        return
    for step in steps:
        sign, colour = _SIGNS[step["action"]]
        click.echo(f"  {click.style(sign, fg=colour)} {step['sentence']}")
        for line in step["details"]:
            breaking = click.style("breaking: ", fg="red") if line["breaking"] else ""
            click.echo(f"      {breaking}{line['sentence']}")
            for hit in line["hits"]:
                click.echo(f"        {click.style('→', fg='red')} {hit}")
            if line["breaking"] and not line["hits"]:
                click.secho("        → nobody in this mesh is known to rely on it", dim=True)
    click.echo(f"plan {str(result['digest'])[:12]}: {len(steps)} step(s)")


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--plan", "digest", help="Apply only if the plan still has this digest.")
@OPTION_JSON
@click.pass_obj
def apply(mesh: Path | None, file: Path | None, digest: str | None, as_json: bool) -> None:
    """Carry out the plan, without a question: `tulle plan` shows it before. Applying twice changes nothing.

    With FILE, written by `tulle plan --out`, exactly that plan is carried out, or it is said what moved since.
    What was interrupted is carried on.
    """
    from tulle.cli.connect import mesh_client

    if file is not None and not file.exists():
        hint = "it carries out the whole plan: leave the name out; `tulle plan PRODUCT` shows a part"
        raise NotFound(f"there is no plan file '{file}'", hint=hint)
    document = _read(file) if file is not None else None
    with mesh_client(mesh) as client:
        result = client.apply(digest, plan=document, wait=as_json)
        if as_json:
            emit(result)
            return
        show_plan(result)
        warning = result["warning"]
        if result["under_way"]:
            warning = _follow(client, result["record"])
    if result["steps"]:
        click.echo(f"{mark('succeeded')} applied")
    for line in warning.splitlines():
        click.echo(f"{mark('warn')} {line}")


def _follow(client: Client, record_id: str) -> str:
    """Show each step as it ends, with what it took; what else is to be told. Broken when the plan came to no end."""
    shown: set[int] = set()
    slow: set[int] = set()
    while True:
        asked = time.monotonic()
        record = client.plan_record(record_id)
        told = {i: step["sentence"] for i, step in enumerate(record["document"].get("steps", ()), 1)}
        for step in record["steps"]:
            position = step["position"]
            began, ended = step["started_at"], step["finished_at"]
            if step["status"] in {"succeeded", "failed"} and position not in shown:
                shown.add(position)
                took = f"{ended - began:7.2f} s" if began and ended else " " * 9
                message = f": {step['message']}" if step["message"] else ""
                click.echo(f"  {mark(step['status'])} {took}  {told.get(position, '')}{message}")
            elif step["status"] == "running" and position not in slow and _is_slow(began):
                slow.add(position)
                click.echo(f"  {mark('running')} {'':9}  {told.get(position, '')} …")
        if not record["under_way"]:
            break
        time.sleep(max(_LOOK_SECONDS, 2 * (time.monotonic() - asked)))  # a large plan is much to tell
    if record["status"] == "succeeded":
        return str(record["warning"])
    if record["status"] == "failed":
        raise Broken(record["error"], hint="mend it and apply again: what was done stays, the rest follows")
    raise Unavailable(
        "whoever carried out the plan has ended before it", hint="apply again: the rest is carried on"
    )


def _is_slow(began: float | None) -> bool:
    return began is not None and time.time() - began > _SLOW_SECONDS


def _read(file: Path) -> dict[str, Any]:
    from tulle.control.plan_file import MAX_BYTES, read_plan

    with file.open("rb") as stream:
        data = stream.read(MAX_BYTES + 1)
    try:
        return read_plan(data.decode(), relative(file))
    except UnicodeDecodeError:
        raise Invalid(f"{relative(file)} is not a plan: it is not text") from None


@click.command()
@click.argument("name", required=False)
@click.option("--product", default="", help="Only plans with a step for this product.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000))
@OPTION_JSON
@click.pass_obj
def plans(mesh: Path | None, name: str | None, product: str, limit: int, as_json: bool) -> None:
    """Show the plans that were carried out, or one (by id or digest) with the outcome of every step."""
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh) as client:
        found = [client.plan_record(name)] if name else client.plans(product=product, limit=limit)
    if as_json:
        emit(found[0] if name else found)
    elif name:
        _show_record(found[0])
    else:
        rows = [{**item, "plan": item["digest"][:12], "steps": _counted(item)} for item in found]
        table(
            rows,
            ["plan", "kind", "status", "steps", "started_at", "actor"],
            empty="no plan was carried out yet",
        )


def _counted(record: Mapping[str, Any]) -> str:
    done = sum(step["status"] == "succeeded" for step in record["steps"])
    return f"{done} of {len(record['steps'])}"


def _show_record(record: Mapping[str, Any]) -> None:
    click.echo(f"plan {record['digest'][:12]} ({record['kind']}): {record['status']}")
    told = {i: step["sentence"] for i, step in enumerate(record["document"].get("steps", ()), 1)}
    for step in record["steps"]:
        message = f": {step['message']}" if step["message"] else ""
        sentence = told.get(step["position"], f"{step['operation']} {step['subject']}")
        click.echo(f"  {mark(step['status'])} {sentence}{message}")
    if record["error"]:
        click.secho(f"  {record['error']}", fg="red")


__all__ = ["apply", "plan", "plans", "show_plan"]
