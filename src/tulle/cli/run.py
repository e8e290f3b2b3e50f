"""`tulle run | runs`: build products and look at what happened."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from tulle.cli.terminal import OPTION_JSON, emit, mark, table
from tulle.errors import Invalid, NotFound, did_you_mean
from tulle.sdk.client import Client
from tulle.sdk.releases import ReleaseClient

ENDED = {"succeeded", "failed", "unchanged", "stopped"}


@click.command()
@click.argument("products", nargs=-1)
@click.option(
    "--environment",
    "-e",
    help="The environment or preview to work for. Default: production, where consumers read.",
)
@click.option("--full", is_flag=True, help="Run every job, even those whose code and inputs are unchanged.")
@click.option(
    "--select",
    "-s",
    multiple=True,
    help="Only these data sets: a name, +name with what it is made from, name+ with what is made from it, "
    "tag:word, stg_*. May be given several times.",
)
@click.option("--from", "since", help="Make the rows from this time on again, in models with windows.")
@click.option("--to", "until", help="Up to this time, without it.")
@click.option("--resume", is_flag=True, help="Take up what the last run had made before it failed.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be made, and why.")
@OPTION_JSON
@click.pass_obj
def run(
    mesh: Path | None,
    products: tuple[str, ...],
    environment: str | None,
    full: bool,
    select: tuple[str, ...],
    since: str | None,
    until: str | None,
    resume: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Build PRODUCTS (default: all, upstream first): ingest, transform, check, publish.

    Each run works on its own branch of the lake; consumers see all of it at once, or nothing.

    \b
    tulle run sales --select customers+      what depends on customers, too
    tulle run sales --from 2024-01-01 --to 2024-02-01
    """
    from tulle.cli.connect import mesh_client

    if (since is None) != (until is None):
        raise click.UsageError("--from and --to go together")
    window = (since, until) if since and until else None
    if (select or window or resume) and len(products) != 1:
        raise click.UsageError("--select, --from and --resume are about one product: name it")
    more = {"select": select, "window": window, "resume": "last" if resume else None}
    with mesh_client(mesh) as client:
        known = [p["name"] for p in client.products()]
        if not known:
            raise Invalid(
                "no product is applied yet", hint="`tulle apply` registers the products of this mesh"
            )
        if dry_run:
            told = {
                product: client.dry_run(product, full=full, environment=environment, select=select)
                for product in products or known
            }
            _show_dry_run(told, as_json)
            return
        for product in products:
            if product not in known:  # before anything is made
                raise NotFound(f"product '{product}' is not applied", hint=did_you_mean(product, known))
        results = []
        for product in dict.fromkeys(products or known):
            result = build(client, product, full=full, quiet=as_json, environment=environment, more=more)
            results.append(result)
            if result["status"] in {"failed", "stopped"}:
                break
    if as_json:
        emit(results)
    failed = [r for r in results if r["status"] in {"failed", "stopped"}]
    if failed:
        kept = f"its branch '{failed[0]['branch']}' is kept; " if failed[0]["branch"] else ""
        raise Invalid(
            f"run {failed[0]['id']} of '{failed[0]['product']}' {failed[0]['status']}; what is published is unchanged",
            hint=f"{kept}`tulle runs {failed[0]['id']}` shows it again",
        )


def build(
    client: Client,
    product: str,
    *,
    full: bool = False,
    quiet: bool = False,
    environment: str | None = None,
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Start a run and follow it to its end; the run. `more` are further words of `Client.start_run`."""
    run_id = client.start_run(product, full=full, environment=environment, **(more or {}))
    began = time.monotonic()
    shown: dict[str, str] = {}
    if not quiet:
        click.secho(product, bold=True)
    try:
        while (result := client.run(run_id))["status"] not in ENDED:
            if not quiet:
                _show_progress(result, shown)
            time.sleep(0.1)
    except KeyboardInterrupt:
        client.stop_run(run_id)
        click.echo(f"run {run_id} is stopped; nothing was published", err=True)
        raise
    if not quiet:
        _show_progress(result, shown)
        _show_end(result, time.monotonic() - began)
        _show_release(client, result)
    return result


def _show_dry_run(told: Mapping[str, list[dict[str, Any]]], as_json: bool) -> None:
    if as_json:
        emit(told)
        return
    for product, jobs in told.items():
        click.secho(product, bold=True)
        _show_foreseen(jobs)


_BASES = {
    "history": "from {} earlier runs",
    "engine": "the engine's guess",
    "other models": "by other models",
}


def _show_foreseen(jobs: Sequence[Mapping[str, Any]]) -> None:
    """A table: what each job would do, has, would give and take; and what that is based on."""
    wide = max((len(job["name"]) for job in jobs), default=0) + 2
    head = f"  {'':<9}{'':<{wide}}{'':<10}{'rows now':>14}{'expected':>14}{'time':>10}{'size':>11}"
    click.secho(head, dim=True)
    for job in jobs:
        rows = [_number(job[name]) for name in ("rows", "expected_rows")]
        took = "" if job["expected_seconds"] is None else f"{job['expected_seconds']:,.1f} s"
        size = "" if job["expected_bytes"] is None else _size(job["expected_bytes"])
        basis = _BASES.get(job["basis"], "").format(job["history"])
        if job["basis"] == "history" and job["history"] == 1:
            basis = "from the last run"
        why = f"{job['reason']}; {basis}" if basis else job["reason"]
        click.echo(
            f"  {job['action']:<9}{job['name']:<{wide}}{job['kind']:<10}"
            f"{rows[0]:>14}{rows[1]:>14}{took:>10}{size:>11}  {why}"
        )
    made = [job for job in jobs if job["action"] in {"make", "perhaps"}]
    known = [job["expected_seconds"] for job in made if job["expected_seconds"] is not None]
    read = sum(job["reads_bytes"] for job in made)
    upto = "up to " if any(job["action"] == "perhaps" for job in jobs) else ""
    say = f"  {upto}{len(made)} of {len(jobs)} would be made"
    if made:
        say += f", reading {_size(read)}"
    if known:
        say += f", in about {sum(known):,.1f} s one after another"
    if known and len(known) < len(made):
        say += f" and {len(made) - len(known)} of unknown time"
    click.echo(say)


def _size(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{size / 1e3:,.1f} kB"


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def show_steps(result: dict[str, Any], shown: dict[str, str]) -> None:
    """Print the steps of a run that ended since the last time, with the checks that failed."""
    _show_progress(result, shown)


def _show_progress(result: dict[str, Any], shown: dict[str, str]) -> None:
    if (waits := result.get("waits_for", "")) and shown.get("") != waits:
        shown[""] = waits  # no step has an empty name
        click.secho(f"  waits: {waits}", dim=True)
    for step in result["steps"]:
        if step["status"] == shown.get(step["name"]) or step["status"] in {"waiting", "running"}:
            continue
        shown[step["name"]] = step["status"]
        _show_step(step)


def _show_step(step: dict[str, Any]) -> None:
    rows = " " * 15
    if step["rows"] is not None:
        rows = f"{step['rows']:>10,} " + ("row " if step["rows"] == 1 else "rows")
    took = (
        f"{step['finished_at'] - step['started_at']:6.1f} s"
        if step["started_at"] and step["finished_at"]
        else ""
    )
    checks = step["checks"]
    passed = sum(1 for c in checks if c["passed"])
    verdict = f"  {passed}/{len(checks)} checks" if checks else ""
    click.echo(f"  {mark(step['status'])} {step['name']:<34} {step['kind']:<8}{rows} {took}{verdict}")
    for metric in step["metrics"]:
        click.echo(f"      {metric['name']}: {metric['value']:,.6g}")
    for check in checks:
        if not check["passed"]:
            _show_failed_check(check)
    if step["message"] and step["status"] == "failed":
        for line in step["message"].splitlines():
            click.secho(f"      {line}", fg="red")


def _show_failed_check(check: dict[str, Any]) -> None:
    sign = mark("failed") if check["severity"] == "error" else mark("warn")
    click.echo(f"      {sign} {check['name']}: {check['message']}")
    rows = check["failing_rows"][:10]
    if rows:
        columns = list(rows[0])
        widths = [max(len(c), *(len(str(r.get(c))) for r in rows)) for c in columns]
        click.echo("          " + "  ".join(c.ljust(w) for c, w in zip(columns, widths, strict=True)))
        for row in rows:
            line = "  ".join(str(row.get(c)).ljust(w) for c, w in zip(columns, widths, strict=True))
            click.echo(f"          {line}".rstrip())
        if check["failing_count"] > len(rows):
            click.echo(f"          … and {check['failing_count'] - len(rows):,} more")
        if check.get("kept"):
            click.echo(f"          all of them: {check['kept']} on the branch that is kept")


def _show_end(result: dict[str, Any], seconds: float) -> None:
    words = {
        "succeeded": f"published as {str(result['commit_id'])[:12]}",
        "unchanged": "everything is up to date",
        "failed": "failed; nothing was published",
        "stopped": "stopped; nothing was published",
    }
    click.echo(f"  {mark(result['status'])} {words[result['status']]} in {seconds:.1f} s")
    if result["error"]:
        if not any(step["message"] == result["error"]["message"] for step in result["steps"]):
            click.secho(f"      {result['error']['message']}", fg="red")
        for problem in result["error"].get("problems", ()):
            place = problem.get("place") or {}
            at = ":".join(str(n) for n in (place.get("line"), place.get("column")) if n)
            where = f"{place['file']}{f':{at}' if at else ''}: " if place.get("file") else ""
            click.echo(f"      {where}{problem['message']}")
        if result["error"].get("hint"):
            click.echo(f"      hint: {result['error']['hint']}")


def _show_release(client: Client, result: Mapping[str, Any]) -> None:
    """By which release it was made, if by one: then nothing that is edited in the folder has a say."""
    with contextlib.suppress(NotFound):  # a run that never began has no manifest
        found = ReleaseClient(client).manifest(result["product"], run=result["id"])
        if found["release"]:
            click.echo(f"      made by release {found['release']}, whatever is edited in the folder")


@click.command()
@click.argument("run_id", required=False, metavar="[RUN_ID | PRODUCT]")
@click.option("--product", help="Only runs of this product.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
@click.option("--stop", is_flag=True, help="Stop the run.")
@OPTION_JSON
@click.pass_obj
def runs(
    mesh: Path | None, run_id: str | None, product: str | None, limit: int, stop: bool, as_json: bool
) -> None:
    """Show earlier runs, of one PRODUCT if it is named, or one (RUN_ID) with its steps, checks and failing rows."""
    from tulle.cli.connect import mesh_client

    if stop and run_id is None:
        raise click.UsageError("--stop needs the run's id; `tulle runs` lists them")
    with mesh_client(mesh) as client:
        if run_id is not None and not stop and not run_id[:8].isdigit():  # ids begin with the day
            names = [one["name"] for one in client.products()]
            if run_id not in names:
                hint = "; ".join(filter(None, ("`tulle runs` lists the runs", did_you_mean(run_id, names))))
                raise NotFound(f"there is no run and no product '{run_id}'", hint=hint)
            run_id, product = None, run_id
        if run_id is None:
            found = client.runs(product=product, limit=limit)
            known = [one["name"] for one in client.products()] if product and not found else ()
            if product and not found and product not in known:
                raise NotFound(f"product '{product}' is not applied", hint=did_you_mean(product, known))
            if as_json:
                emit(found)
            else:
                columns = ["id", "product", "environment", "status", "requested_at", "commit_id"]
                rows = [{**one, "commit_id": (one["commit_id"] or "")[:12] or None} for one in found]
                table(rows, columns, empty="no runs yet: `tulle run`")
            return
        result = client.stop_run(run_id) if stop else client.run(run_id)
    if as_json:
        emit(result)
        return
    click.secho(f"{result['product']}  run {result['id']}  {result['status']}", bold=True)
    if waits := result.get("waits_for"):
        click.echo(f"  waits: {waits}")
    if warehouse := result["options"].get("warehouse"):
        bounds = result["options"].get("bounds", {})
        told = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in bounds.items())
        click.secho(f"  in warehouse {warehouse}" + (f": {told}" if told else ""), dim=True)
    for step in result["steps"]:
        _show_step(step)
    took = (result["finished_at"] or time.time()) - (result["started_at"] or result["requested_at"])
    if result["status"] in ENDED:
        _show_end(result, took)
