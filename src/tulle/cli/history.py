"""`tulle repo branch | tag | log | diff | commit | merge | …`: names and history of a repository.

`tulle branch`, `log`, `diff` and `merge` are the same commands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from tulle.cli.stale import stale
from tulle.cli.terminal import OPTION_JSON, emit, mark, table

SIGNS = {
    "added": ("+", "green"),
    "removed": ("-", "red"),
    "changed": ("~", "yellow"),
    "conflict": ("!", "magenta"),
    "prefix_changed": ("~", "yellow"),
}
OPTION_MESSAGE = click.option("--message", "-m", help="The commit's message.")
OPTION_META = click.option(
    "--meta", "meta", multiple=True, metavar="KEY=VALUE", help="Metadata of the commit."
)
OPTION_PARENT = click.option(
    "--parent", default=0, help="Of a merge commit: which parent is the main line (1, 2)."
)


def show_changes(changes: Iterable[Mapping[str, Any]]) -> int:
    """Print changes with their signs; how many there were."""
    count = 0
    for change in changes:
        sign, colour = SIGNS[change["type"]]
        click.echo(f"  {click.style(sign, fg=colour)} {change['path']}")
        count += 1
    return count


# ── branches and tags ────────────────────────────────────────────────────────────────────────────────────


@click.group()
def branch() -> None:
    """Branches of a repository."""


@branch.command("list")
@click.argument("repository")
@click.argument("prefix", default="")
@OPTION_JSON
@click.pass_obj
def list_branches(mesh: Path | None, repository: str, prefix: str, as_json: bool) -> None:
    """List the branches of REPOSITORY."""
    from tulle.cli.connect import lake_client

    with lake_client(mesh) as lake:
        found = [
            {"name": item["id"], "commit_id": item["commit_id"]} for item in lake.branches(repository, prefix)
        ]
    if as_json:
        emit(found)
    else:
        table(found, ["name", "commit_id"], empty="no branches")


@branch.command("create")
@click.argument("repository")
@click.argument("name")
@click.option("--source", default="main", show_default=True, help="Where it starts.")
@click.pass_obj
def create_branch(mesh: Path | None, repository: str, name: str, source: str) -> None:
    """Create branch NAME of REPOSITORY; nothing is copied."""
    from tulle.cli.connect import lake_client

    with lake_client(mesh) as lake:
        lake.create_branch(repository, name, source=source)
    click.echo(f"  {mark('succeeded')} branch {name} from {source}")


@branch.command("delete")
@click.argument("repository")
@click.argument("name")
@click.option("--force", is_flag=True, help="Also where a release is in force, or on its way there.")
@click.pass_obj
def delete_branch(mesh: Path | None, repository: str, name: str, force: bool) -> None:
    """Delete branch NAME of REPOSITORY with what is staged on it; its commits stay."""
    from tulle.cli.connect import lake_client

    with lake_client(mesh) as lake:
        lake.delete_branch(repository, name, force=force)
    click.echo(f"  {mark('succeeded')} branch {name} deleted")


branch.add_command(stale)


@click.group()
def tag() -> None:
    """Tags of a repository: names for commits, for good."""


@tag.command("list")
@click.argument("repository")
@OPTION_JSON
@click.pass_obj
def list_tags(mesh: Path | None, repository: str, as_json: bool) -> None:
    """List the tags of REPOSITORY."""
    from tulle.cli.connect import lake_client

    with lake_client(mesh) as lake:
        found = [{"name": item["id"], "commit_id": item["commit_id"]} for item in lake.tags(repository)]
    if as_json:
        emit(found)
    else:
        table(found, ["name", "commit_id"], empty="no tags")


@tag.command("create")
@click.argument("repository")
@click.argument("name")
@click.argument("ref", default="main")
@click.pass_obj
def create_tag(mesh: Path | None, repository: str, name: str, ref: str) -> None:
    """Name the commit of REF."""
    from tulle.cli.connect import lake_client

    with lake_client(mesh) as lake:
        made = lake.create_tag(repository, name, ref)
    click.echo(f"  {mark('succeeded')} {name} is {made['commit_id'][:12]}")


@tag.command("delete")
@click.argument("repository")
@click.argument("name")
@click.option(
    "--force", is_flag=True, help="Also one that a product reads, or a release needs that is in force."
)
@click.pass_obj
def delete_tag(mesh: Path | None, repository: str, name: str, force: bool) -> None:
    """Remove tag NAME; its commit stays."""
    from tulle.cli.connect import lake_client

    with lake_client(mesh) as lake:
        lake.delete_tag(repository, name, force=force)
    click.echo(f"  {mark('succeeded')} tag {name} deleted")


@click.command()
@click.argument("repository")
@click.argument("branch_", metavar="BRANCH", default="main")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True)
@OPTION_JSON
@click.pass_obj
def reflog(mesh: Path | None, repository: str, branch_: str, limit: int, as_json: bool) -> None:
    """Where BRANCH was, and what moved it; also of a deleted branch."""
    from tulle.cli.connect import lake_client

    with lake_client(mesh) as lake:
        found = lake.reflog(repository, branch_, limit=limit)
    if as_json:
        emit(found)
        return
    rows = [
        {**item, "at": float(item["date"]), "commit": (item.get("after") or "deleted")[:12]} for item in found
    ]
    table(rows, ["at", "operation", "commit", "actor"], empty=f"nothing is known of a branch {branch_}")


# ── history ──────────────────────────────────────────────────────────────────────────────────────────────


@click.command()
@click.argument("repository")
@click.argument("ref", default="main")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many commits.")
@click.option("--path", "paths", multiple=True, help="Only commits that changed this object.")
@click.option(
    "--prefix", "prefixes", multiple=True, help="Only commits that changed something below this path."
)
@click.option("--first-parent", is_flag=True, help="Only the line the branch itself was on.")
@OPTION_JSON
@click.pass_obj
def log(
    mesh: Path | None,
    repository: str,
    ref: str,
    limit: int,
    paths: tuple[str, ...],
    prefixes: tuple[str, ...],
    first_parent: bool,
    as_json: bool,
) -> None:
    """Commits of REPOSITORY from REF backwards."""
    from tulle.cli.connect import lake_client

    with lake_client(mesh) as lake:
        found = lake.log(
            repository, ref, limit=limit, paths=paths, prefixes=prefixes, first_parent=first_parent
        )
    if as_json:
        emit(found)
        return
    rows = [{**c, "id": c["id"][:12], "created_at": float(c["creation_date"])} for c in found]
    table(rows, ["id", "created_at", "committer", "message"], empty="no commits")


@click.command()
@click.argument("repository")
@click.argument("left")
@click.argument("right", required=False)
@click.option("--three-dot", is_flag=True, help="From the merge base of both to RIGHT.")
@OPTION_JSON
@click.pass_obj
def diff(
    mesh: Path | None, repository: str, left: str, right: str | None, three_dot: bool, as_json: bool
) -> None:
    """What changed in REPOSITORY from LEFT to RIGHT; with LEFT alone, what is uncommitted on that branch."""
    from tulle.cli.connect import lake_client

    with lake_client(mesh) as lake:
        if right is None:
            found = list(lake.status(repository, left))
        else:
            found = list(lake.diff(repository, left, right, three_dot=three_dot))
    if as_json:
        emit(found)
    elif not show_changes(found):
        click.echo(f"{mark('unchanged')} no difference")


@click.command()
@click.argument("repository")
@click.argument("branch_", metavar="BRANCH")
@OPTION_MESSAGE
@OPTION_META
@click.option("--allow-empty", is_flag=True, help="Also when nothing has changed.")
@OPTION_JSON
@click.pass_obj
def commit(
    mesh: Path | None,
    repository: str,
    branch_: str,
    message: str | None,
    meta: tuple[str, ...],
    allow_empty: bool,
    as_json: bool,
) -> None:
    """Commit what is staged on BRANCH of REPOSITORY."""
    from tulle.cli.connect import lake_client

    if not message:
        raise click.UsageError("say what the commit does: --message '…'")
    with lake_client(mesh) as lake:
        made = lake.commit(repository, branch_, message, metadata=_metadata(meta), allow_empty=allow_empty)
    _tell(made, as_json)


@click.command()
@click.argument("repository")
@click.argument("branch_", metavar="BRANCH")
@OPTION_MESSAGE
@OPTION_META
@OPTION_JSON
@click.pass_obj
def amend(
    mesh: Path | None,
    repository: str,
    branch_: str,
    message: str | None,
    meta: tuple[str, ...],
    as_json: bool,
) -> None:
    """Replace the last commit of BRANCH by one that also has what is staged, or another message."""
    from tulle.cli.connect import lake_client

    with lake_client(mesh) as lake:
        made = lake.amend(repository, branch_, message=message, metadata=_metadata(meta) if meta else None)
    _tell(made, as_json)


@click.command()
@click.argument("repository")
@click.argument("branch_", metavar="BRANCH")
@click.option("--path", default="", help="Only this object.")
@click.option("--prefix", default="", help="Only what is below this path.")
@click.option("--to", "ref", help="Put the branch on another commit instead (hard reset).")
@click.pass_obj
def reset(mesh: Path | None, repository: str, branch_: str, path: str, prefix: str, ref: str | None) -> None:
    """Forget what is staged on BRANCH of REPOSITORY."""
    from tulle.cli.connect import lake_client

    with lake_client(mesh) as lake:
        if ref is not None:
            lake.hard_reset(repository, branch_, ref)
        else:
            lake.reset(repository, branch_, path=path, prefix=prefix)
    said = f"is on {ref}" if ref is not None else "has forgotten what was staged"
    click.echo(f"  {mark('succeeded')} {branch_} {said}")


@click.command()
@click.argument("repository")
@click.argument("source")
@click.argument("destination")
@OPTION_MESSAGE
@OPTION_META
@click.option("--strategy", type=click.Choice(["source-wins", "dest-wins"]), help="How to settle conflicts.")
@click.option("--choose", "choices", multiple=True, metavar="PATH=source|dest", help="Settle one conflict.")
@click.option("--squash", is_flag=True, help="Without the source as a parent.")
@click.option("--ff", type=click.Choice(["never", "allow", "only"]), default="never", show_default=True)
@OPTION_JSON
@click.pass_obj
def merge(
    mesh: Path | None,
    repository: str,
    source: str,
    destination: str,
    message: str | None,
    meta: tuple[str, ...],
    strategy: str | None,
    choices: tuple[str, ...],
    squash: bool,
    ff: str,
    as_json: bool,
) -> None:
    """Merge SOURCE into branch DESTINATION of REPOSITORY."""
    from tulle.cli.connect import lake_client
    from tulle.errors import Conflict, Invalid, Problem

    with lake_client(mesh) as lake:
        before = lake.commit_info(repository, destination)["id"]
        try:
            result = lake.merge(
                repository,
                source,
                destination,
                message=message,
                metadata=_metadata(meta),
                strategy=strategy,
                choices=_choices(choices) or None,
                squash_merge=squash,
                fast_forward=ff,
            )
        except Invalid as exc:
            if "no changes" not in exc.message:
                raise
            result = {"reference": before}
        except Conflict as exc:
            if exc.problems:
                raise
            paths = [item["path"] for item in lake.conflicts(repository, source, destination)]
            problems = [Problem(path) for path in paths]
            raise Conflict(
                exc.message, hint=exc.hint or "--strategy or --choose", problems=problems
            ) from None
    changed = result["reference"] != before
    if as_json:
        emit({"commit_id": result["reference"], "changed": changed})
    elif changed:
        click.echo(f"  {mark('succeeded')} {destination} is now {result['reference'][:12]}")
    else:
        click.echo(f"  {mark('unchanged')} {destination} already has everything of {source}")


@click.command()
@click.argument("repository")
@click.argument("source")
@click.argument("destination")
@OPTION_JSON
@click.pass_obj
def conflicts(mesh: Path | None, repository: str, source: str, destination: str, as_json: bool) -> None:
    """The paths that stand against merging SOURCE into DESTINATION."""
    from tulle.cli.connect import lake_client

    with lake_client(mesh) as lake:
        found = lake.conflicts(repository, source, destination)
    if as_json:
        emit(found)
        return
    for item in found:
        click.echo(f"  {mark('failed')} {item['path']}")
    if not found:
        click.echo(f"  {mark('succeeded')} no conflict")


@click.command()
@click.argument("repository")
@click.argument("branch_", metavar="BRANCH")
@click.argument("ref")
@OPTION_PARENT
@click.pass_obj
def revert(mesh: Path | None, repository: str, branch_: str, ref: str, parent: int) -> None:
    """Take back on BRANCH, in a new commit, what commit REF did."""
    from tulle.cli.connect import lake_client

    with lake_client(mesh) as lake:
        lake.revert(repository, branch_, ref, parent=parent)
        made = lake.commit_info(repository, branch_)
    _tell(made, as_json=False)


@click.command("cherry-pick")
@click.argument("repository")
@click.argument("branch_", metavar="BRANCH")
@click.argument("ref")
@OPTION_PARENT
@click.pass_obj
def cherry_pick(mesh: Path | None, repository: str, branch_: str, ref: str, parent: int) -> None:
    """Do on BRANCH, in a new commit, what commit REF did."""
    from tulle.cli.connect import lake_client

    with lake_client(mesh) as lake:
        made = lake.cherry_pick(repository, branch_, ref, parent=parent)
    _tell(made, as_json=False)


def _tell(made: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        emit(made)
    else:
        click.echo(f"  {mark('succeeded')} {made['id'][:12]} {made['message']}")


def _metadata(pairs: Iterable[str]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"'{pair}' is not KEY=VALUE", param_hint="--meta")
        found[key] = value
    return found


def _choices(pairs: Iterable[str]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        path, equals, way = pair.rpartition("=")
        if not equals or way not in {"source", "dest"}:
            raise click.BadParameter(f"'{pair}' is not PATH=source or PATH=dest", param_hint="--choose")
        found[path] = way
    return found


COMMANDS = (branch, tag, reflog, log, diff, commit, amend, reset, merge, conflicts, revert, cherry_pick)
