"""`tulle repo gc …`: how long data is kept, and removing what nothing reaches any more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tulle.cli.following import follow
from tulle.cli.terminal import OPTION_JSON, emit, mark


@click.group(invoke_without_command=True)
@click.option("--deleted", is_flag=True, help="Remove what deleted repositories left and nothing needs.")
@click.option("--dry-run", is_flag=True, help="Only report what would be removed.")
@OPTION_JSON
@click.pass_context
def gc(context: click.Context, deleted: bool, dry_run: bool, as_json: bool) -> None:
    """How long data is kept, and removing what nothing reaches any more."""
    if context.invoked_subcommand is not None:
        if deleted or dry_run or as_json:
            raise click.UsageError("--deleted stands for itself: tulle repo gc --deleted [--dry-run]")
    elif deleted:
        _collect_deleted(context.obj, dry_run, as_json)
    elif dry_run or as_json:
        raise click.UsageError("say which: tulle repo gc run NAME, or tulle repo gc --deleted")
    else:
        click.echo(context.get_help())


@gc.command("rules")
@click.argument("name")
@click.option("--days", type=int, help="How many days commits of a branch are kept by default.")
@click.option(
    "--branch", "branches", multiple=True, metavar="BRANCH=DAYS", help="Another time for one branch."
)
@click.option("--remove", is_flag=True, help="Remove the rules: everything committed is kept.")
@OPTION_JSON
@click.pass_obj
def gc_rules(
    mesh: Path | None, name: str, days: int | None, branches: tuple[str, ...], remove: bool, as_json: bool
) -> None:
    """Show or set how long what the branches of NAME held is kept."""
    from tulle.cli.connect import lake_client
    from tulle.errors import NotFound

    with lake_client(mesh) as lake:
        if remove:
            lake.delete_setting(name, "gc_rules")
        elif days is not None:
            own = []
            for item in branches:
                branch, mark_, number = item.rpartition("=")
                if not mark_ or not number.isdigit():
                    raise click.BadParameter(f"'{item}' is not BRANCH=DAYS", param_hint="--branch")
                own.append({"branch_id": branch, "retention_days": int(number)})
            lake.set_setting(name, "gc_rules", {"default_retention_days": days, "branches": own})
        try:
            rules = lake.setting(name, "gc_rules")
        except NotFound:
            rules = None
    if as_json:
        emit(rules)
    elif not rules:
        click.echo("  no rules: everything that was committed is kept")
    else:
        click.echo(f"  {rules['default_retention_days']} days")
        for rule in rules["branches"]:
            click.echo(f"  {rule['retention_days']} days on {rule['branch_id']}")


@gc.command("run")
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Only report what would be removed.")
@OPTION_JSON
@click.pass_obj
def gc_run(mesh: Path | None, name: str, dry_run: bool, as_json: bool) -> None:
    """Remove what nothing in the lake reaches any more from the store of repository NAME."""
    from tulle.cli.connect import lake_client
    from tulle.errors import Broken

    with lake_client(mesh) as lake:
        run = lake.post(f"/repositories/{name}/gc/runs", {"dry_run": dry_run})
        status = follow(
            lambda: lake.get(f"/repositories/{name}/gc/runs/{run['id']}"), "kept_commits", "commits"
        )
    if as_json:
        emit(status)
    if error := status.get("error"):
        raise Broken(error)
    if not as_json:
        click.echo(
            f"  {mark('succeeded')} {status['kept_commits']:,} commits kept, {status['expired_commits']:,} expired"
        )
        _tell(status, dry_run)


def _collect_deleted(mesh: Path | None, dry_run: bool, as_json: bool) -> None:
    from tulle.cli.connect import lake_client
    from tulle.errors import Broken

    with lake_client(mesh) as lake:
        run = lake.post("/gc/deleted/runs", {"dry_run": dry_run})
        status = follow(lambda: lake.get(f"/gc/deleted/runs/{run['id']}"), "storages", "deleted repositories")
    if as_json:
        emit(status)
    if error := status.get("error"):
        raise Broken(error)
    if not as_json:
        click.echo(f"  {mark('succeeded')} {status['storages']:,} deleted repositories looked through")
        _tell(status, dry_run)
        for storage, reason in status["left"].items():
            click.echo(f"  {mark('skipped')} {storage} is left alone: {reason}")


def _tell(status: dict[str, Any], dry_run: bool) -> None:
    for what, tallies in (
        ("would go" if dry_run else "removed", status["removed"]),
        ("waiting", status["waiting"]),
    ):
        for kind, tally in tallies.items():
            click.echo(f"    {what}: {tally['count']:,} {kind}, {tally['bytes']:,} bytes")
    if status["waiting"]:
        click.echo("    what waits goes with a collection a day from now, if nothing names it by then")
