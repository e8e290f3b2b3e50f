"""`tulle repo …`: the lake from the command line. A repository belongs to a product, or stands alone."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tulle.cli import gc, history, objects, pulls
from tulle.cli.following import follow, words
from tulle.cli.terminal import OPTION_JSON, emit, mark, table


@click.group()
def repo() -> None:
    """Repositories of the lake: branches, objects, commits, imports, hooks, retention.

    REF is a branch, a tag, a commit id or its beginning, and steps back: main~2, v1^2; main@ leaves out what is
    staged on main.
    """


for _command in (*history.COMMANDS, *objects.COMMANDS, pulls.pull, gc.gc):
    repo.add_command(_command)


@repo.command("list")
@click.argument("prefix", default="")
@OPTION_JSON
@click.pass_obj
def list_repositories(mesh: Path | None, prefix: str, as_json: bool) -> None:
    """List the repositories, or those whose name begins with PREFIX."""
    from tulle.cli.connect import lake_client

    with lake_client(mesh) as lake:
        found = list(lake.repositories(prefix))
    if as_json:
        emit(found)
        return
    rows = [{**item, "name": item["id"], "created_at": float(item["creation_date"])} for item in found]
    table(rows, ["name", "default_branch", "created_at", "storage_namespace"], empty="no repositories")


@repo.command("create")
@click.argument("name")
@click.option("--namespace", default="", help="Where its objects are to be, e.g. s3://bucket/prefix.")
@click.option("--default-branch", default="main", show_default=True)
@click.option("--read-only", is_flag=True, help="Nothing may be changed in it.")
@click.option("--bare", is_flag=True, help="Without a first commit, for refs that are restored.")
@click.pass_obj
def create_repository(
    mesh: Path | None, name: str, namespace: str, default_branch: str, read_only: bool, bare: bool
) -> None:
    """Create an empty repository NAME."""
    from tulle.cli.connect import lake_client

    with lake_client(mesh) as lake:
        made = lake.create_repository(
            name, namespace=namespace, default_branch=default_branch, read_only=read_only, bare=bare
        )
    click.echo(f"  {mark('succeeded')} repository {name} in {made['storage_namespace']}")


@repo.command("delete")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def delete_repository(mesh: Path | None, name: str, yes: bool) -> None:
    """Forget repository NAME with its branches and history; its objects stay in the store."""
    from tulle.cli.connect import lake_client

    if not yes:
        click.confirm(f"Forget repository {name} with its branches, tags and history?", abort=True)
    with lake_client(mesh) as lake:
        lake.delete_repository(name)
    click.echo(f"  {mark('succeeded')} repository {name} is forgotten; its objects stay")
    click.echo("    where they are not needed any more: tulle repo gc --deleted")


@repo.command("show")
@click.argument("name")
@OPTION_JSON
@click.pass_obj
def show(mesh: Path | None, name: str, as_json: bool) -> None:
    """Show repository NAME with its settings."""
    from tulle.cli.connect import lake_client

    with lake_client(mesh) as lake:
        found = lake.repository(name)
        found["metadata"] = lake.metadata(name)
        found["protected"] = [rule["pattern"] for rule in lake.setting(name, "branch_protection")]
        found["quota"] = lake.setting(name, "quota")
        found["head"] = lake.commit_info(name, found["default_branch"])
    if as_json:
        emit(found)
        return
    head = found["head"]
    quota = found["quota"]
    lines = {
        "objects in": found["storage_namespace"],
        "default branch": f"{found['default_branch']}, at {head['id'][:12]} “{head['message']}”",
        "read-only": "yes" if found.get("read_only") else "no",
        "protected branches": ", ".join(found["protected"]) or "none",
        "quota": ", ".join(f"{k} {v}" for k, v in quota.items() if v is not None and k.startswith("max"))
        or "none",
        **found["metadata"],
    }
    click.secho(name, bold=True)
    for key, value in lines.items():
        click.echo(f"  {key + ':':20} {value}")


@repo.command("protect")
@click.argument("name")
@click.argument("patterns", nargs=-1)
@click.option("--remove", is_flag=True, help="Take the patterns off the rules instead.")
@click.pass_obj
def protect(mesh: Path | None, name: str, patterns: tuple[str, ...], remove: bool) -> None:
    """Let the branches of NAME that match PATTERNS change by merges only; without PATTERNS show the rules."""
    from tulle.cli.connect import lake_client

    with lake_client(mesh) as lake:
        rules = [rule["pattern"] for rule in lake.setting(name, "branch_protection")]
        if patterns:
            kept = [rule for rule in rules if rule not in patterns]
            rules = kept if remove else [*kept, *patterns]
            lake.set_setting(name, "branch_protection", [{"pattern": rule} for rule in rules])
    for rule in rules:
        click.echo(f"  {rule}")
    if not rules:
        click.echo("  no branch is protected")


@repo.command("read-only")
@click.argument("name")
@click.argument("state", type=click.Choice(["on", "off"]))
@click.pass_obj
def read_only(mesh: Path | None, name: str, state: str) -> None:
    """Let nothing change in repository NAME (on), or let it change again (off)."""
    from tulle.cli.connect import lake_client

    with lake_client(mesh) as lake:
        lake.set_setting(name, "read_only", {"read_only": state == "on"})
    click.echo(f"  {mark('succeeded')} {name} is {'read-only' if state == 'on' else 'writable'}")


@repo.command("quota")
@click.argument("name")
@click.option("--max-bytes", type=int, help="Bytes of data it may hold; -1 for without bound.")
@click.option("--max-objects", type=int, help="Data objects it may hold; -1 for without bound.")
@OPTION_JSON
@click.pass_obj
def quota(
    mesh: Path | None, name: str, max_bytes: int | None, max_objects: int | None, as_json: bool
) -> None:
    """Show what repository NAME uses and may use, or set its bounds."""
    from tulle.cli.connect import lake_client

    with lake_client(mesh) as lake:
        found = lake.setting(name, "quota")
        if max_bytes is not None or max_objects is not None:
            wanted = {
                "max_bytes": found.get("max_bytes") if max_bytes is None else max_bytes,
                "max_objects": found.get("max_objects") if max_objects is None else max_objects,
            }
            lake.set_setting(name, "quota", {k: None if v == -1 else v for k, v in wanted.items()})
            found = lake.setting(name, "quota")
    if as_json:
        emit(found)
        return
    bounded = False
    for kind in ("bytes", "objects"):
        bound = found.get(f"max_{kind}")
        if bound is not None:
            bounded = True
            click.echo(f"  {found[f'used_{kind}']:,} of {bound:,} {kind}")
    if not bounded:
        click.echo("  no quota")


# ── import and export ────────────────────────────────────────────────────────────────────────────────────


@repo.command("import")
@click.argument("name")
@click.argument("branch")
@click.argument("source")
@click.argument("destination", default="")
@click.option("--object", "one", is_flag=True, help="SOURCE is one object, not a prefix.")
@click.option("--message", "-m", help="The commit's message.")
@OPTION_JSON
@click.pass_obj
def import_(
    mesh: Path | None,
    name: str,
    branch: str,
    source: str,
    destination: str,
    one: bool,
    message: str | None,
    as_json: bool,
) -> None:
    """Bring what is at SOURCE (s3://…, gs://…, local:///…, lakefs://repository/ref/prefix) into BRANCH of NAME.

    No bytes are copied and the source is never written; it is one commit, under DESTINATION. Importing again
    brings what has changed. Ctrl-C cancels.
    """
    from tulle.cli.connect import lake_client
    from tulle.errors import Invalid

    path = {"path": source, "destination": destination, "type": "object" if one else "common_prefix"}
    with lake_client(mesh) as lake:
        id_ = lake.start_import(name, branch, [path], message or f"Import {source}")
        try:
            status = follow(lambda: lake.import_status(name, branch, id_), "ingested_objects", "objects")
        except KeyboardInterrupt:
            lake.cancel_import(name, branch, id_)
            raise
    if as_json:
        emit(status)
    if error := status.get("error"):
        raise Invalid(error["message"])
    if not as_json:
        commit = (status.get("commit") or {}).get("id", "")
        click.echo(
            f"  {mark('succeeded')} {status.get('ingested_objects', 0):,} objects, commit {commit[:12]}"
        )


@repo.command("export")
@click.argument("name")
@click.argument("ref")
@click.argument("destination")
@click.option("--prefix", default="", help="Only what is below this path.")
@click.option(
    "--delete", is_flag=True, help="Remove at DESTINATION what an earlier export put there and is gone."
)
@OPTION_JSON
@click.pass_obj
def export(
    mesh: Path | None, name: str, ref: str, destination: str, prefix: str, delete: bool, as_json: bool
) -> None:
    """Copy what is at REF of NAME to DESTINATION, a plain prefix (local:///…, s3://…); again: what has changed."""
    from tulle.cli.connect import lake_client
    from tulle.errors import Invalid

    body = {"destination": destination, "prefix": prefix, "delete": delete}
    with lake_client(mesh) as lake:
        run = lake.post(f"/repositories/{name}/refs/{ref}/export", body)
        status = follow(lambda: lake.get(f"/repositories/{name}/exports/{run['id']}"), "copied", "objects")
    if as_json:
        emit(status)
    if error := status.get("error"):
        raise Invalid(error["message"])
    if not as_json:
        click.echo(f"  {mark('succeeded')} {words(status)}")


# ── hooks ────────────────────────────────────────────────────────────────────────────────────────────────


@repo.group("hooks")
def hooks() -> None:
    """Hooks of a repository: what `_lakefs_actions/*.yaml` on a branch say."""


@hooks.command("runs")
@click.argument("name")
@click.argument("run", required=False)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True)
@OPTION_JSON
@click.pass_obj
def hook_runs(mesh: Path | None, name: str, run: str | None, limit: int, as_json: bool) -> None:
    """List the runs of hooks of repository NAME, or the hooks of RUN with what they wrote."""
    from tulle.cli.connect import lake_client

    with lake_client(mesh) as lake:
        if run is None:
            found = lake.hook_runs(name, limit=limit)
        else:
            found = lake.hooks_of(name, run)
            for hook in found:
                hook["output"] = lake.hook_output(name, run, hook["hook_run_id"])
    if as_json:
        emit(found)
    elif run is None:
        columns = ["run_id", "event_type", "branch", "status", "start_time"]
        table(found, columns, empty="no hook has run")
    else:
        for hook in found:
            state = "succeeded" if hook["status"] == "completed" else "failed"
            click.echo(f"  {mark(state)} {hook['action']} / {hook['hook_id']}")
            for line in hook["output"].splitlines():
                click.echo(f"      {line}")


@hooks.command("validate")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def validate(file: Path) -> None:
    """Check an action FILE of this disk."""
    from tulle.lake.hooks.action_file import parse

    action = parse(file.read_text(), str(file))
    click.echo(f"  {mark('succeeded')} {file}: action '{action.name}' with {len(action.hooks)} hook(s)")


@repo.command("verify")
@click.argument("name")
@click.option("--data", is_flag=True, help="Read every data object too.")
@OPTION_JSON
@click.pass_obj
def verify(mesh: Path | None, name: str, data: bool, as_json: bool) -> None:
    """Check that everything repository NAME needs is in its store and is what it was."""
    from tulle.cli.connect import lake_client

    with lake_client(mesh) as lake:
        found = lake.post(f"/repositories/{name}/verify", {"data": data})
    if as_json:
        emit(found)
    else:
        for damage in found["damages"]:
            click.echo(f"  {mark('failed')} {damage['blob']}: {damage['reason']}")
            for kind in ("refs", "paths"):
                if damage[kind]:
                    click.echo(f"      {kind}: {', '.join(damage[kind][:20])}")
        if not found["damaged"]:
            click.echo(f"  {mark('succeeded')} {words(found)}")
    if found["damaged"]:
        sys.exit(1)
