"""`tulle repo | branch | log | diff | merge`: the lake from the command line. A repository belongs to a product."""

from __future__ import annotations

from pathlib import Path

import click

from tulle.cli.terminal import OPTION_JSON, emit, mark, table


@click.group()
def repo() -> None:
    """Repositories of the lake; every product has one of its name."""


@repo.command("list")
@OPTION_JSON
@click.pass_obj
def list_repositories(mesh: Path | None, as_json: bool) -> None:
    """List the repositories."""
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh) as client:
        found = client.repositories()
    if as_json:
        emit(found)
    else:
        table(found, ["name", "default_branch", "head", "created_at"], empty="no repositories: `tulle apply`")


@repo.command("create")
@click.argument("name")
@click.pass_obj
def create_repository(mesh: Path | None, name: str) -> None:
    """Create an empty repository NAME."""
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh) as client:
        client.create_repository(name)
    click.echo(f"  {mark('succeeded')} repository {name}")


@repo.command("files")
@click.argument("name")
@click.option(
    "--ref", default="main", show_default=True, help="Branch, tag, commit or expression such as main~1."
)
@click.argument("prefix", default="")
@OPTION_JSON
@click.pass_obj
def files(mesh: Path | None, name: str, ref: str, prefix: str, as_json: bool) -> None:
    """List the objects of repository NAME below PREFIX at a ref."""
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh) as client:
        found = list(client.objects(name, ref, prefix))
    if as_json:
        emit(found)
    else:
        table(found, ["path", "size", "modified_at"], empty=f"nothing below '{prefix}' at {ref}")


@click.group()
def branch() -> None:
    """Branches of a repository."""


@branch.command("list")
@click.argument("repository")
@OPTION_JSON
@click.pass_obj
def list_branches(mesh: Path | None, repository: str, as_json: bool) -> None:
    """List the branches of REPOSITORY."""
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh) as client:
        found = client.branches(repository)
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
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh) as client:
        client.create_branch(repository, name, source=source)
    click.echo(f"  {mark('succeeded')} branch {name} from {source}")


@branch.command("delete")
@click.argument("repository")
@click.argument("name")
@click.pass_obj
def delete_branch(mesh: Path | None, repository: str, name: str) -> None:
    """Delete branch NAME of REPOSITORY."""
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh) as client:
        client.delete_branch(repository, name)
    click.echo(f"  {mark('succeeded')} branch {name} deleted")


@click.command()
@click.argument("repository")
@click.argument("ref", default="main")
@click.option("--limit", default=20, show_default=True, help="How many commits.")
@click.option("--path", help="Only commits that changed something below this path.")
@OPTION_JSON
@click.pass_obj
def log(mesh: Path | None, repository: str, ref: str, limit: int, path: str | None, as_json: bool) -> None:
    """Commits of REPOSITORY from REF backwards."""
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh) as client:
        found = client.log(repository, ref, limit=limit, path=path)
    if as_json:
        emit(found)
    else:
        rows = [{**c, "id": c["id"][:12]} for c in found]
        table(rows, ["id", "created_at", "committer", "message"], empty="no commits")


@click.command()
@click.argument("repository")
@click.argument("left")
@click.argument("right", required=False)
@OPTION_JSON
@click.pass_obj
def diff(mesh: Path | None, repository: str, left: str, right: str | None, as_json: bool) -> None:
    """What changed in REPOSITORY from LEFT to RIGHT; with LEFT alone, what is uncommitted on that branch."""
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh) as client:
        found = client.diff(repository, left, right)
    if as_json:
        emit(found)
        return
    signs = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}
    for change in found:
        sign, colour = signs[change["kind"]]
        click.echo(f"  {click.style(sign, fg=colour)} {change['path']}")
    if not found:
        click.echo(f"{mark('unchanged')} no difference")


@click.command()
@click.argument("repository")
@click.argument("source")
@click.argument("destination")
@click.option("--message", "-m", help="The merge commit's message.")
@click.option("--strategy", type=click.Choice(["source-wins", "dest-wins"]), help="How to settle conflicts.")
@OPTION_JSON
@click.pass_obj
def merge(
    mesh: Path | None,
    repository: str,
    source: str,
    destination: str,
    message: str | None,
    strategy: str | None,
    as_json: bool,
) -> None:
    """Merge SOURCE into branch DESTINATION of REPOSITORY."""
    from tulle.cli.connect import mesh_client

    with mesh_client(mesh) as client:
        result = client.merge(repository, source, destination, message=message, strategy=strategy)
    if as_json:
        emit(result)
    elif result["changed"]:
        click.echo(f"  {mark('succeeded')} {destination} is now {result['commit_id'][:12]}")
    else:
        click.echo(f"  {mark('unchanged')} {destination} already has everything of {source}")
