"""`tulle repo pull …`: asking for a branch to be merged, and deciding."""

from __future__ import annotations

from pathlib import Path

import click

from tulle.cli.terminal import OPTION_JSON, emit, mark, table


@click.group("pull")
def pull() -> None:
    """Pull requests: a branch that somebody would like merged."""


@pull.command("list")
@click.argument("repository")
@click.option("--status", type=click.Choice(["open", "closed", "all"]), default="open", show_default=True)
@OPTION_JSON
@click.pass_obj
def list_pulls(mesh: Path | None, repository: str, status: str, as_json: bool) -> None:
    """List the pull requests of REPOSITORY."""
    from tulle.cli.connect import lake_client

    with lake_client(mesh) as lake:
        found = list(lake.pulls(repository, status))
    if as_json:
        emit(found)
    else:
        columns = ["id", "status", "title", "source_branch", "destination_branch", "author"]
        table(found, columns, empty=f"no pull request is {status}" if status != "all" else "no pull requests")


@pull.command("create")
@click.argument("repository")
@click.argument("source")
@click.argument("destination", default="main")
@click.option("--title", "-t", required=True)
@click.option("--description", "-d", default="")
@click.pass_obj
def create(
    mesh: Path | None, repository: str, source: str, destination: str, title: str, description: str
) -> None:
    """Ask for SOURCE to be merged into DESTINATION."""
    from tulle.cli.connect import lake_client

    with lake_client(mesh) as lake:
        id_ = lake.create_pull(repository, source, destination, title, description)
    click.echo(f"  {mark('succeeded')} pull request {id_}")


@pull.command("show")
@click.argument("repository")
@click.argument("id_", metavar="ID")
@OPTION_JSON
@click.pass_obj
def show(mesh: Path | None, repository: str, id_: str, as_json: bool) -> None:
    """Show pull request ID with what it would change."""
    from tulle.cli.connect import lake_client
    from tulle.cli.history import show_changes

    with lake_client(mesh) as lake:
        found = lake.pull(repository, id_)
        if found["status"] == "open":
            source, destination = found["source_branch"], found["destination_branch"]
            found["changes"] = list(lake.diff(repository, destination, source, three_dot=True))
            found["conflicts"] = [item["path"] for item in lake.conflicts(repository, source, destination)]
    if as_json:
        emit(found)
        return
    click.secho(f"{found['title']} ({found['status']})", bold=True)
    click.echo(f"  {found['source_branch']} → {found['destination_branch']}, asked by {found['author']}")
    if found.get("description"):
        click.echo(f"  {found['description']}")
    show_changes(found.get("changes", []))
    for path in found.get("conflicts", []):
        click.echo(f"  {mark('failed')} conflict: {path}")


@pull.command("merge")
@click.argument("repository")
@click.argument("id_", metavar="ID")
@click.pass_obj
def merge(mesh: Path | None, repository: str, id_: str) -> None:
    """Merge pull request ID."""
    from tulle.cli.connect import lake_client

    with lake_client(mesh) as lake:
        result = lake.merge_pull(repository, id_)
    click.echo(f"  {mark('succeeded')} merged as {result['reference'][:12]}")


@pull.command("close")
@click.argument("repository")
@click.argument("id_", metavar="ID")
@click.pass_obj
def close(mesh: Path | None, repository: str, id_: str) -> None:
    """Close pull request ID without merging it."""
    from tulle.cli.connect import lake_client

    with lake_client(mesh) as lake:
        lake.update_pull(repository, id_, status="closed")
    click.echo(f"  {mark('succeeded')} pull request {id_} is closed")
