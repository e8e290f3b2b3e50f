"""`tulle release | releases | promote | promotions | approve | withdraw | rollback | deprecate | retire | manifest`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from tulle.cli.environment import OPTION_BY, OPTION_KEY, OPTION_MAY_BY, who
from tulle.cli.terminal import OPTION_JSON, emit, mark, table
from tulle.errors import Invalid
from tulle.sdk.releases import ReleaseClient

_ENDED = {"done", "failed", "refused", "withdrawn"}
_MARKS = {"done": "succeeded", "failed": "failed", "refused": "failed", "withdrawn": "skipped"}


@click.command(epilog='For example: tulle release purchases --notes "Refunds are rows of their own."')
@click.argument("product")
@click.option(
    "--environment",
    help="Whose last run is released, or that of a preview. Default: the first that releases go through.",
)
@click.option("--notes", default="", help="What its consumers should know.")
@click.option("--notes-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The same.")
@OPTION_BY
@OPTION_JSON
@click.pass_obj
def release(
    mesh: Path | None,
    product: str,
    environment: str | None,
    notes: str,
    notes_file: Path | None,
    by: str,
    as_json: bool,
) -> None:
    """Make an immutable, signed version of PRODUCT: code, document, contract, notes.

    It is what ran last and passed its checks. Its version is the document's, and must have grown as much as the
    change asks for. The same content again is the same release.
    """
    from tulle.cli.connect import mesh_client

    if notes and notes_file:
        raise click.UsageError("--notes and --notes-file are two of the same")
    text = notes_file.read_text(encoding="utf-8") if notes_file else notes
    with mesh_client(mesh) as client:
        made = ReleaseClient(client).make(product, environment=environment, notes=text, by=by)
    if as_json:
        emit(made)
        return
    sign = mark("succeeded" if made["created"] else "unchanged")
    said = "is released" if made["created"] else "was released already"
    click.echo(
        f"{sign} {product} {made['version']} {said}: {made['digest'][:16]}, {made['files']} files, signed"
    )
    for change in made["changes"] if made["created"] else ():
        breaking = click.style("breaking: ", fg="red") if change["breaking"] else ""
        click.echo(f"      {breaking}{change['sentence']}")


@click.command(epilog="For example: tulle releases purchases --verify 1.2.0")
@click.argument("product", required=False)
@click.option(
    "--verify", "version", metavar="VERSION", help="Check signature and every file of that version."
)
@OPTION_JSON
@click.pass_obj
def releases(mesh: Path | None, product: str | None, version: str | None, as_json: bool) -> None:
    """List releases, of PRODUCT or of all, or check one."""
    from tulle.cli.connect import mesh_client
    from tulle.errors import from_dict

    if version is not None and product is None:
        raise click.UsageError("--verify needs the product: tulle releases PRODUCT --verify VERSION")
    with mesh_client(mesh) as client:
        if version is not None and product is not None:
            verdict = ReleaseClient(client).verify(product, version)
            if as_json:
                emit(verdict)
            if verdict["problem"]:
                raise from_dict(verdict["problem"])
            if not as_json:
                key = verdict["public_key"][:16]
                click.echo(
                    f"{mark('passed')} {product} {version}: {verdict['files']} files as signed by key {key}…"
                )
            return
        found = ReleaseClient(client).releases(product)
    if as_json:
        emit(found)
        return
    rows = [{**one, "digest": one["digest"][:16], "data": one["data"]["commit"][:12]} for one in found]
    columns = ["product", "version", "digest", "data", "created_by", "created_at", "pinned_by", "notes"]
    rows = [{**row, "pinned_by": ", ".join(row["pinned_by"]) or None} for row in rows]
    rows = [{**row, "notes": row["notes"].partition("\n")[0][:60] or None} for row in rows]
    table(rows, columns, empty="no releases: `tulle release PRODUCT` makes one")


@click.command(epilog="For example: tulle promote purchases 1.2.0 --to prod")
@click.argument("product")
@click.argument("version")
@click.option("--to", required=True, help="The environment.")
@click.option("--accept-breaking", is_flag=True, help="The consumers it breaks know.")
@click.option("--note", default="", help="Why.")
@click.option("--no-wait", is_flag=True, help="Do not wait for its run.")
@OPTION_MAY_BY
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def promote(
    mesh: Path | None,
    product: str,
    version: str,
    to: str,
    accept_breaking: bool,
    note: str,
    no_wait: bool,
    by: str | None,
    key: Path | None,
    as_json: bool,
) -> None:
    """Bring release VERSION of PRODUCT into an environment: approved, run, checked, then in force.

    From then on the product's runs there are made by the release, whatever its folder holds.
    """
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh, key) as client:
        calls = ReleaseClient(client)
        asked = calls.promote(
            product, version, to=to, by=_asks(by, key), note=note, accept_breaking=accept_breaking
        )
        _finish(calls, asked, wait=not no_wait, as_json=as_json)


def _asks(by: str | None, key: Path | None) -> str | None:
    """Who asks: whose access key it is, else who is named, else the user of this machine."""
    return by if by or key else who()


def _finish(calls: ReleaseClient, asked: dict[str, Any], *, wait: bool, as_json: bool) -> None:
    """Follow a promotion whose run is under way, and tell how it is."""
    while wait and asked["status"] == "running":
        time.sleep(0.2)
        asked = calls.promotion(asked["id"])
    if as_json:
        emit(asked)
    else:
        _show(asked)
    if asked["status"] == "failed":
        hint = f"`tulle runs {asked['run_id']}` shows why" if asked["run_id"] else None
        what = f"{asked['kind']} of '{asked['product']}' to {asked['version']} in '{asked['environment']}'"
        raise Invalid(f"{what} failed: {asked['message']}", hint=hint)


def _show(asked: dict[str, Any]) -> None:
    where = f"{asked['product']} {asked['version']} in {asked['environment']}"
    if asked["status"] == "waiting":
        given = sum(1 for one in asked["approvals"] if one["approved"])
        missing = asked["approvals_wanted"] - given
        theirs = {asked["requested_by"], asked["credential"]}
        decided = {one["approver"] for one in asked["approvals"]}
        people = ", ".join(n for n in asked["approvers"] if n not in theirs | decided)
        click.echo(f"{mark('queued')} {where}: waits for {missing} of {people}")
        _show_breaking(asked["breaking"])
        if asked["message"]:
            click.echo(f"      {asked['message']}")
        click.echo(f"  next: tulle approve {asked['id']} --key FILE, with the approver's own access key")
        return
    before = f", {asked['before_version']} before" if asked["before_version"] else ""
    words = {"done": "is in force", "running": "is being made"}.get(asked["status"], asked["status"])
    reason = f": {asked['message']}" if asked["message"] else ""
    click.echo(f"{mark(_MARKS.get(asked['status'], 'running'))} {where} {words}{before}{reason}")
    if asked["status"] == "done" and asked["commit_id"]:
        click.echo(f"      data at {asked['commit_id'][:12]}")


def _show_breaking(sentences: list[str]) -> None:
    for sentence in sentences:
        click.echo(f"      {click.style('breaks: ', fg='red')}{sentence}")


@click.command(epilog="For example: tulle promotions purchases --status waiting")
@click.argument("product", required=False)
@click.option("--status", type=click.Choice(["waiting", "running", *sorted(_ENDED)]), help="Only those.")
@OPTION_JSON
@click.pass_obj
def promotions(mesh: Path | None, product: str | None, status: str | None, as_json: bool) -> None:
    """List promotions and rollbacks, newest first, and who approved them."""
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh) as client:
        found = ReleaseClient(client).promotions(product, status=status)
    if as_json:
        emit(found)
        return
    rows = [
        {**one, "approved_by": [a["approver"] for a in one["approvals"] if a["approved"]]} for one in found
    ]
    columns = ["id", "kind", "product", "version", "environment", "status", "requested_by", "approved_by"]
    table(rows, columns, empty="nothing was promoted yet: `tulle promote PRODUCT VERSION --to ENVIRONMENT`")


@click.command(epilog="For example: tulle approve 20260301-101500-a1b2c3 --key ~/.lakectl.yaml")
@click.argument("promotion")
@click.option("--refuse", is_flag=True, help="Refuse it instead.")
@click.option("--note", default="", help="Why.")
@click.option("--no-wait", is_flag=True, help="Do not wait for the run that the last approval starts.")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def approve(
    mesh: Path | None,
    promotion: str,
    refuse: bool,
    note: str,
    no_wait: bool,
    key: Path | None,
    as_json: bool,
) -> None:
    """Approve PROMOTION, by its id, as the user whose access key it is; the last approval that it needs starts it."""
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh, key) as client:
        calls = ReleaseClient(client)
        shown = calls.promotion(promotion)["breaking"]  # what is agreed to is what is told here
        if not (refuse or as_json):
            _show_breaking(shown)
        asked = calls.decide(promotion, approved=not refuse, note=note, breaking=shown)
        _finish(calls, asked, wait=not no_wait, as_json=as_json)


@click.command(epilog="For example: tulle withdraw 20260301-101500-a1b2c3")
@click.argument("promotion")
@OPTION_MAY_BY
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def withdraw(mesh: Path | None, promotion: str, by: str | None, key: Path | None, as_json: bool) -> None:
    """Take back PROMOTION while it waits for approval."""
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh, key) as client:
        asked = ReleaseClient(client).withdraw(promotion, by=_asks(by, key))
    if as_json:
        emit(asked)
    else:
        _show(asked)


@click.command(epilog="For example: tulle rollback purchases --to 1.1.0")
@click.argument("product")
@click.option("--to", required=True, metavar="VERSION", help="The release to go back to.")
@click.option("--environment", help="Where. Default: production.")
@click.option("--note", default="", help="Why.")
@OPTION_MAY_BY
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def rollback(
    mesh: Path | None,
    product: str,
    to: str,
    environment: str | None,
    note: str,
    by: str | None,
    key: Path | None,
    as_json: bool,
) -> None:
    """Put code and data of PRODUCT back to where a release left them, at once."""
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh, key) as client:
        calls = ReleaseClient(client)
        done = calls.rollback(product, to=to, environment=environment, by=_asks(by, key), note=note)
    if as_json:
        emit(done)
    else:
        _show(done)


@click.command(epilog="For example: tulle deprecate purchases --sunset 2027-06-30 --reason 'moved to orders'")
@click.argument("product")
@click.option("--sunset", help="The day from which it may be retired, such as 2027-06-30.")
@click.option("--reason", default="", help="Why it ends.")
@click.option("--successor", default="", help="The product to read instead.")
@click.option("--undo", is_flag=True, help="Take it back: the product stays.")
@OPTION_BY
@OPTION_JSON
@click.pass_obj
def deprecate(
    mesh: Path | None,
    product: str,
    sunset: str | None,
    reason: str,
    successor: str,
    undo: bool,
    by: str,
    as_json: bool,
) -> None:
    """Say that PRODUCT ends, when and why, and tell its consumers."""
    from tulle.cli.connect import mesh_client

    if not undo and not sunset:
        raise click.UsageError("say when it ends: --sunset DAY")
    with mesh_client(mesh) as client:
        calls = ReleaseClient(client)
        if undo:
            result = calls.reinstate(product, by=by)
        else:
            result = calls.deprecate(product, sunset=str(sunset), reason=reason, successor=successor, by=by)
    if as_json:
        emit(result)
        return
    told = ", ".join(result["told"]) or "nobody reads it"
    if undo:
        click.echo(f"{mark('succeeded')} '{product}' stays")
    else:
        click.echo(f"{mark('succeeded')} '{product}' ends on {result['sunset']}; told: {told}")


@click.command(epilog="For example: tulle retire purchases")
@click.argument("product")
@OPTION_BY
@OPTION_JSON
@click.pass_obj
def retire(mesh: Path | None, product: str, by: str, as_json: bool) -> None:
    """Take PRODUCT out of the mesh once its day has come; its data stays in the lake."""
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh) as client:
        sentence = ReleaseClient(client).retire(product, by=by)
    if as_json:
        emit({"product": product, "sentence": sentence})
    else:
        click.echo(f"{mark('succeeded')} {sentence}")
        click.echo("  while its folder is there, the next `tulle apply` registers it again")


@click.command(epilog="For example: tulle manifest purchases --environment dev --json")
@click.argument("product")
@click.option("--environment", help="Whose newest run. Default: production.")
@click.option("--run", "run_id", help="One run, by its id.")
@OPTION_JSON
@click.pass_obj
def manifest(
    mesh: Path | None, product: str, environment: str | None, run_id: str | None, as_json: bool
) -> None:
    """Show what PRODUCT's newest run was specified by, what it made, and how that differs."""
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh) as client:
        found = ReleaseClient(client).manifest(product, environment=environment, run=run_id)
    if as_json:
        emit(found)
        return
    made_by = f"release {found['release']}" if found["release"] else "its folder"
    click.secho(f"{product} {found['version']}  run {found['run']}  {found['status']}", bold=True)
    click.echo(f"  made by {made_by}, code {found['code'][:12]}, on {found['environment']}")
    rows = [
        {
            **job,
            "columns": len(job["columns"]) or None,
            "checks": f"{sum(c['passed'] for c in job['checks'])}/{len(job['checks'])}"
            if job["checks"]
            else None,
        }
        for job in found["jobs"]
    ]
    table(rows, ["name", "kind", "status", "rows", "columns", "checks", "seconds"], empty="it did nothing")
    compared = found["compared_with"]
    if compared is None:
        click.echo("  the first of its kind")
        return
    verdict = "compatible with" if compared["compatible"] else click.style("breaks those who read", fg="red")
    click.echo(f"  {verdict} run {compared['run']}")
    for one in compared["differences"]:
        breaking = click.style("breaking: ", fg="red") if one["breaking"] else ""
        click.echo(f"      {breaking}{one['sentence']}")
