"""`tulle repo ls | cat | get | put | rm | cp | mv | stat`: objects of a repository."""

from __future__ import annotations

import mimetypes
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from tulle.cli.terminal import OPTION_JSON, emit, mark, table

CHUNK = 1 << 20


@click.command("ls")
@click.argument("repository")
@click.argument("ref", default="main")
@click.argument("prefix", default="")
@click.option("--recursive", "-r", is_flag=True, help="Everything below, not folder by folder.")
@OPTION_JSON
@click.pass_obj
def ls(mesh: Path | None, repository: str, ref: str, prefix: str, recursive: bool, as_json: bool) -> None:
    """List the objects of REPOSITORY at REF below PREFIX."""
    from tulle.cli.connect import lake_client

    with lake_client(mesh) as lake:
        found = list(lake.objects(repository, ref, prefix, delimiter="" if recursive else "/"))
    if as_json:
        emit(found)
        return
    rows = [
        {
            "path": item["path"],
            "bytes": item.get("size_bytes"),
            "modified": None if item["path_type"] == "common_prefix" else float(item["mtime"]),
        }
        for item in found
    ]
    table(rows, ["path", "bytes", "modified"], empty=f"nothing below '{prefix}' at {ref}")


@click.command("stat")
@click.argument("repository")
@click.argument("ref")
@click.argument("path")
@OPTION_JSON
@click.pass_obj
def stat(mesh: Path | None, repository: str, ref: str, path: str, as_json: bool) -> None:
    """Show the facts of one object."""
    from tulle.cli.connect import lake_client

    with lake_client(mesh) as lake:
        found = lake.stat(repository, ref, path)
    if as_json:
        emit(found)
        return
    for key in ("path", "size_bytes", "checksum", "content_type", "physical_address", "metadata"):
        click.echo(f"  {key + ':':18} {found.get(key)}")


@click.command("cat")
@click.argument("repository")
@click.argument("ref")
@click.argument("path")
@click.pass_obj
def cat(mesh: Path | None, repository: str, ref: str, path: str) -> None:
    """Write an object to standard output."""
    from tulle.cli.connect import lake_client

    with lake_client(mesh) as lake:
        for chunk in lake.read(repository, ref, path):
            sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()


@click.command("get")
@click.argument("repository")
@click.argument("ref")
@click.argument("path")
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_obj
def get(mesh: Path | None, repository: str, ref: str, path: str, file: Path) -> None:
    """Copy an object to FILE."""
    from tulle.cli.connect import lake_client

    if file.is_dir():
        file /= path.rsplit("/", 1)[-1]
    beside = file.with_name(file.name + ".part")
    size = 0
    with lake_client(mesh) as lake:
        chunks = lake.read(repository, ref, path)
        first = next(chunks, b"")  # a failure before anything is written
        try:
            with beside.open("wb") as out:
                size += out.write(first)
                for chunk in chunks:
                    size += out.write(chunk)
            beside.replace(file)
        finally:
            beside.unlink(missing_ok=True)
    click.echo(f"  {mark('succeeded')} {size:,} bytes in {file}")


@click.command("put")
@click.argument("repository")
@click.argument("branch")
@click.argument("file", type=click.Path(path_type=Path, exists=True))
@click.argument("path", default="")
@click.pass_obj
def put(mesh: Path | None, repository: str, branch: str, file: Path, path: str) -> None:
    """Write FILE, or every file of a folder, to BRANCH of REPOSITORY as PATH; staged until it is committed."""
    from tulle.cli.connect import lake_client

    pairs = list(_pairs(file, path))
    with lake_client(mesh) as lake:
        for source, target in pairs:
            kind = mimetypes.guess_type(source.name)[0] or ""
            with source.open("rb") as stream:
                lake.upload(
                    repository, branch, target, iter(lambda: stream.read(CHUNK), b""), content_type=kind
                )
    what = pairs[0][1] if len(pairs) == 1 else f"{len(pairs)} objects"
    click.echo(f"  {mark('succeeded')} {what} staged on {branch}; `tulle repo commit {repository} {branch}`")


@click.command("rm")
@click.argument("repository")
@click.argument("branch")
@click.argument("paths", nargs=-1, required=True)
@click.option("--recursive", "-r", is_flag=True, help="PATHS are prefixes: everything below goes.")
@click.pass_obj
def rm(mesh: Path | None, repository: str, branch: str, paths: tuple[str, ...], recursive: bool) -> None:
    """Remove objects from BRANCH; staged until it is committed."""
    from tulle.cli.connect import lake_client
    from tulle.errors import Invalid, Problem

    with lake_client(mesh) as lake:
        wanted = list(paths)
        if recursive:
            wanted = [item["path"] for path in paths for item in lake.objects(repository, branch, path)]
        failed = lake.delete(repository, branch, wanted)
    if failed:
        problems = [Problem(f"{item.get('path')}: {item.get('message')}") for item in failed]
        raise Invalid("not everything could be removed", problems=problems)
    click.echo(f"  {mark('succeeded')} {len(wanted)} object(s) removed from {branch}")


@click.command("cp")
@click.argument("repository")
@click.argument("branch")
@click.argument("source")
@click.argument("path")
@click.option("--from", "ref", help="The ref SOURCE is at. Default: BRANCH.")
@click.pass_obj
def cp(mesh: Path | None, repository: str, branch: str, source: str, path: str, ref: str | None) -> None:
    """Put what is at SOURCE under PATH too; copies no bytes."""
    from tulle.cli.connect import lake_client

    with lake_client(mesh) as lake:
        lake.copy(repository, branch, ref or branch, source, path)
    click.echo(f"  {mark('succeeded')} {path} staged on {branch}")


@click.command("mv")
@click.argument("repository")
@click.argument("branch")
@click.argument("source")
@click.argument("path")
@click.pass_obj
def mv(mesh: Path | None, repository: str, branch: str, source: str, path: str) -> None:
    """Put what is at SOURCE under PATH instead; copies no bytes."""
    from tulle.cli.connect import lake_client

    with lake_client(mesh) as lake:
        lake.move(repository, branch, source, path)
    click.echo(f"  {mark('succeeded')} {source} → {path} staged on {branch}")


def _pairs(file: Path, path: str) -> Iterator[tuple[Path, str]]:
    if not file.is_dir():
        yield file, path + file.name if not path or path.endswith("/") else path
        return
    found = sorted(each for each in file.rglob("*") if each.is_file())
    if not found:
        raise click.BadParameter(f"there is no file in {file}", param_hint="FILE")
    prefix = path if not path or path.endswith("/") else path + "/"
    for each in found:
        yield each, prefix + each.relative_to(file).as_posix()


COMMANDS = (ls, stat, cat, get, put, rm, cp, mv)
