"""`tulle service compare | queries make | snippet`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from tulle.cli.environment import OPTION_KEY
from tulle.cli.service_log import seconds_of
from tulle.cli.terminal import OPTION_JSON, emit, mark
from tulle.errors import Invalid


@click.command()
@click.argument("name")
@click.argument("left")
@click.argument("right")
@click.option(
    "--tolerance", type=float, default=1e-6, help="How far numbers may be apart. Default: 0.000001."
)
@click.option("--recorded", is_flag=True, help="Compare what both answered to the same requests of callers.")
@click.option(
    "--replay", type=click.IntRange(1, 5000), help="Ask both so many of the newest recorded requests."
)
@click.option("--since", default="", help="Recorded in this span of time, such as '2 hours'.")
@click.option("--endpoint", default="", help="Recorded of this endpoint only.")
@OPTION_KEY
@OPTION_JSON
@click.pass_obj
def compare(
    mesh: Path | None,
    /,
    name: str,
    left: str,
    right: str,
    *,
    tolerance: float,
    recorded: bool,
    replay: int | None,
    since: str,
    endpoint: str,
    key: Path | None,
    as_json: bool,
) -> None:
    """Ask versions LEFT and RIGHT of service NAME the test queries of both, and show where answers differ.

    With --recorded nothing is asked: what is compared are the answers that both gave to the same requests, since one
    was the other's shadow. With --replay recorded requests are asked of both.
    """
    from tulle.cli.connect import mesh_client
    from tulle.cli.service_recorded import show_recorded
    from tulle.sdk.service_log import ServiceLog
    from tulle.sdk.services import ServiceClient

    if recorded and replay is not None:
        raise Invalid("give --recorded or --replay, not both")
    if (since or endpoint) and not recorded and replay is None:
        raise Invalid("--since and --endpoint choose recorded requests", hint="add --recorded or --replay")
    how = {
        "tolerance": tolerance,
        "endpoint": endpoint,
        "since": max(0.0, time.time() - seconds_of(since)) if since else None,
    }
    with mesh_client(mesh, key) as client:
        if recorded:
            found = ServiceLog(client, name).compare_recorded(left, right, **how)
        elif replay is not None:
            found = ServiceLog(client, name).compare_again(left, right, most=replay, **how)
        else:
            found = ServiceClient(client).compare(name, left, right, tolerance=tolerance)
    if as_json:
        emit(found)
        return
    if recorded:
        show_recorded(found)
        return
    _show(found, only_different=replay is not None)


def _show(found: dict[str, Any], *, only_different: bool) -> None:
    for one in found["questions"]:
        if one["equal"] and only_different:
            continue
        state = "passed" if one["equal"] else "failed"
        click.echo(f"  {mark(state)} {one['endpoint']}: {one['name']}")
        for difference in one["differences"]:
            click.echo(f"      {difference['path'] or 'the answer'}: {_both(difference)}")
    times = found["milliseconds"]
    click.echo(
        f"  {found['equal']} of {found['asked']} equal; median {times['left']:.2f} ms and {times['right']:.2f} ms"
    )
    if found.get("not_asked"):
        click.echo(
            f"  {mark('warn')} {found['not_asked']:,} cannot be asked again: what was sent is masked or not kept"
        )


def _both(difference: dict[str, Any]) -> str:
    missing = difference["missing"]
    left = "nothing" if missing == "left" else repr(difference["left"])
    right = "nothing" if missing == "right" else repr(difference["right"])
    return f"{left[:200]} → {right[:200]}"


@click.group()
def queries() -> None:
    """Make test queries."""


@queries.command()
@click.argument("endpoint", metavar="SERVICE/ENDPOINT")
@click.option(
    "--from", "data_set", required=True, help="The data set, or PRODUCT/DATA_SET of another product."
)
@click.option("--rows", type=int, default=20, help="How many rows are drawn. Default: 20.")
@click.option("--seed", type=int, default=1, help="Another seed draws other rows. Default: 1.")
@click.option("--expect", is_flag=True, help="Record what the deployed (else newest) version answers.")
@click.option(
    "--tolerance", type=float, default=1e-6, help="How far numbers may be apart. Default: 0.000001."
)
@click.option(
    "--column", "columns", multiple=True, metavar="NAME=COLUMN", help="The column that NAME is read from."
)
@click.option("--print", "only_print", is_flag=True, help="Print them; write no file.")
@OPTION_JSON
@click.pass_obj
def make(
    mesh: Path | None,
    endpoint: str,
    data_set: str,
    rows: int,
    seed: int,
    expect: bool,
    tolerance: float,
    columns: tuple[str, ...],
    only_print: bool,
    as_json: bool,
) -> None:
    """Make test queries of an endpoint from rows of published data, in services/queries/SERVICE/ENDPOINT.yaml."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.services import ServiceClient

    service, slash, name = endpoint.partition("/")
    if not slash or not name:
        raise Invalid(f"'{endpoint}' names no endpoint", hint="write SERVICE/ENDPOINT")
    pairs = dict(one.partition("=")[::2] for one in columns)
    if not all(pairs.values()):
        raise Invalid("--column has no column", hint="write --column NAME=COLUMN")
    product, _, data_set = data_set.rpartition("/")
    with mesh_client(mesh) as client:
        made = ServiceClient(client).make_queries(
            service,
            name,
            data_set,
            product=product,
            rows=rows,
            seed=seed,
            expect=expect,
            tolerance=tolerance,
            columns=pairs,
            write=not only_print,
        )
    if as_json:
        emit(made)
    elif only_print:
        click.echo(made["text"], nl=False)
    else:
        asked = f", expectations of {made['version']}" if made["version"] else ""
        click.echo(f"  {mark('succeeded')} {len(made['queries'])} test queries in {made['file']}{asked}")


@click.command()
@click.argument("endpoint", metavar="SERVICE/ENDPOINT")
@click.option(
    "--language",
    type=click.Choice(["curl", "python", "dataikuapi", "javascript"]),
    default="curl",
    help="The client that makes the call. Default: curl.",
)
@OPTION_JSON
@click.pass_obj
def snippet(mesh: Path | None, endpoint: str, language: str, as_json: bool) -> None:
    """Print a program that calls an endpoint; its credentials come from the environment."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.services import ServiceClient

    service, slash, name = endpoint.partition("/")
    if not slash or not name:
        raise Invalid(f"'{endpoint}' names no endpoint", hint="write SERVICE/ENDPOINT")
    with mesh_client(mesh) as client:
        found = ServiceClient(client).snippets(service, name)
    if as_json:
        emit(found)
    else:
        texts = {one["language"]: one["text"] for one in found["endpoints"][name]}
        click.echo(texts[language], nl=False)
