"""`tulle features status | publish | training-set`, and `tulle service score`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from tulle.cli.terminal import OPTION_JSON, emit, mark, table
from tulle.errors import Invalid

_VERSION = click.option("--version", help="Of the service. Default: the one that answers, else the newest.")


@click.group()
def features() -> None:
    """What services look up: where from, how old; filling their stores, training sets."""


@features.command()
@click.argument("service")
@click.option("--version", help="The version to tell of. Default: the one that answers, else the newest.")
@OPTION_JSON
@click.pass_obj
def status(mesh: Path | None, service: str, version: str | None, as_json: bool) -> None:
    """Show where SERVICE finds rows: data set, commit, age, rows, last refresh, and what failed."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.features import FeatureClient

    with mesh_client(mesh) as client:
        found = FeatureClient(client).look_ups(service, version)
    if as_json:
        emit(found)
        return
    columns = ["endpoint", "data_set", "source", "commit", "age", "rows", "refreshed_at", "behind"]
    table(
        [_row(one) for one in found["look_ups"]],
        columns,
        empty=f"service '{service}' {found['version']} looks nothing up",
    )
    for one in found["look_ups"]:
        if one["message"]:
            click.echo(f"  {mark('failed')} {one['endpoint']}, '{one['data_set']}': {one['message']}")


@features.command()
@click.argument("service", metavar="SERVICE[/ENDPOINT]")
@click.option(
    "--commit", help="What of: a commit, a tag or a branch of the product. Default: what is published."
)
@_VERSION
@OPTION_JSON
@click.pass_obj
def publish(mesh: Path | None, service: str, commit: str | None, version: str | None, as_json: bool) -> None:
    """Fill the stores in which SERVICE looks rows up from the lake, those whose source says `fill`.

    Only rows that changed are written where that can be told. Whoever asks meanwhile gets the rows of one commit.
    What was interrupted goes on from there when this is called again.
    """
    from tulle.cli.connect import mesh_client
    from tulle.sdk.features import FeatureClient

    name, _, endpoint = service.partition("/")
    if not name or "/" in endpoint or (not endpoint and "/" in service):
        raise Invalid(
            f"'{service}' names no service and no endpoint", hint="write SERVICE, or SERVICE/ENDPOINT"
        )
    with mesh_client(mesh) as client:
        asking = FeatureClient(client)
        begun = asking.publish(name, endpoint=endpoint or None, version=version, commit=commit)
        done = asking.wait(begun["id"], told=None if as_json else _Progress().told)
    if as_json:
        emit(done)
        return
    for one in done["result"]["stores"]:
        how = "all" if one["whole"] else f"{one['written']:,} changed"
        click.echo(
            f"  {mark('succeeded')} {one['store']}: {one['rows']:,} rows of {one['product']}/{one['data_set']}, "
            f"{one['commit'][:10]} ({how}, {one['seconds']:g} s)"
        )


class _Progress:
    """Tells how far publishing is, where a person looks on, and each time but once."""

    def __init__(self) -> None:
        self._last = (0, 0)

    def told(self, done: int, of: int) -> None:
        """Tell it, unless it was told already."""
        if (done, of) != self._last and sys.stderr.isatty():
            click.echo(f"  {done:,} of {of:,} rows", err=True)
        self._last = (done, of)


@features.command("training-set")
@click.argument("endpoint", metavar="SERVICE/ENDPOINT")
@click.option(
    "--entities", required=True, help="The data set of keys and times, and of labels: [PRODUCT/]DATA_SET."
)
@click.option("--time", required=True, help="The column of it that tells the moment features are wanted for.")
@click.option("--out", required=True, help="The data set to make: [PRODUCT/]DATA_SET.")
@_VERSION
@OPTION_JSON
@click.pass_obj
def training_set(
    mesh: Path | None, endpoint: str, entities: str, time: str, out: str, version: str | None, as_json: bool
) -> None:
    """Make a data set of entities with the features that SERVICE/ENDPOINT would have looked up at their times."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.features import FeatureClient

    service, name = parts_of(endpoint)
    with mesh_client(mesh) as client:
        asking = FeatureClient(client)
        begun = asking.training_set(service, name, entities=entities, time=time, out=out, version=version)
        done = asking.wait(begun["id"])
    if as_json:
        emit(done)
        return
    found = done["result"]
    click.echo(
        f"  {mark('succeeded')} {'/'.join(done['target'])}: {found['rows']:,} rows, {found['commit'][:10]}"
    )
    if found["left_out"]:
        click.echo(
            f"  {mark('warn')} {found['left_out']:,} entities are left out: the endpoint would not answer them"
        )


@click.command()
@click.argument("endpoint", metavar="SERVICE/ENDPOINT")
@click.option("--in", "rows", required=True, help="The data set to be answered: [PRODUCT/]DATA_SET.")
@click.option("--out", required=True, help="The data set to make: [PRODUCT/]DATA_SET.")
@click.option("--map", "renamed", multiple=True, metavar="NAME=COLUMN", help="Send a column by another name.")
@click.option("--keep", help="The columns that stay beside the answers, with commas. Default: all.")
@_VERSION
@OPTION_JSON
@click.pass_obj
def score(
    mesh: Path | None,
    endpoint: str,
    rows: str,
    out: str,
    renamed: tuple[str, ...],
    keep: str | None,
    version: str | None,
    as_json: bool,
) -> None:
    """Answer every row of a data set as SERVICE/ENDPOINT would answer a request, and keep the answers as a data set.

    What a request would be refused with is in the column `error` of its row.
    """
    from tulle.cli.connect import mesh_client
    from tulle.sdk.features import FeatureClient

    service, name = parts_of(endpoint)
    pairs = {}
    for pair in renamed:
        sent, sign, column = pair.partition("=")
        if not (sent and sign and column):
            raise Invalid(f"--map {pair} is not understood", hint="write --map NAME=COLUMN")
        pairs[sent] = column
    with mesh_client(mesh) as client:
        asking = FeatureClient(client)
        kept = None if keep is None else [one.strip() for one in keep.split(",") if one.strip()]
        begun = asking.score(service, name, rows=rows, out=out, renamed=pairs, keep=kept, version=version)
        done = asking.wait(begun["id"])
    if as_json:
        emit(done)
        return
    found = done["result"]
    click.echo(
        f"  {mark('succeeded')} {'/'.join(done['target'])}: {found['rows']:,} rows, {found['commit'][:10]}"
    )
    for word, number in sorted(found["errors"].items()):
        click.echo(f"  {mark('warn')} {number:,} rows have no answer: {word}")


def parts_of(endpoint: str) -> tuple[str, str]:
    """Service and endpoint of SERVICE/ENDPOINT. Invalid."""
    service, _, name = endpoint.partition("/")
    if not service or not name or "/" in name:
        raise Invalid(f"'{endpoint}' names no endpoint", hint="write SERVICE/ENDPOINT")
    return service, name


def _row(one: dict[str, Any]) -> dict[str, Any]:
    return {
        **one,
        "data_set": f"{one['product']}/{one['data_set']}",
        "age": _age(one["age_seconds"]),
        "commit": one["commit"][:10] or None,
        "rows": None if one["rows"] is None else f"{one['rows']:,}",
    }


def _age(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    for length, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds)} s"
