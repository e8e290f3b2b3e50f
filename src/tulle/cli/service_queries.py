"""`tulle service compare` and `tulle service queries make`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tulle.cli.terminal import OPTION_JSON, emit, mark
from tulle.errors import Invalid


@click.command()
@click.argument("name")
@click.argument("left")
@click.argument("right")
@click.option(
    "--tolerance", type=float, default=1e-6, help="How far numbers may be apart. Default: 0.000001."
)
@OPTION_JSON
@click.pass_obj
def compare(mesh: Path | None, name: str, left: str, right: str, tolerance: float, as_json: bool) -> None:
    """Ask versions LEFT and RIGHT of service NAME the test queries of both, and show where answers differ."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.services import ServiceClient

    with mesh_client(mesh) as client:
        found = ServiceClient(client).compare(name, left, right, tolerance=tolerance)
    if as_json:
        emit(found)
        return
    for one in found["questions"]:
        state = "passed" if one["equal"] else "failed"
        click.echo(f"  {mark(state)} {one['endpoint']}: {one['name']}")
        for difference in one["differences"]:
            click.echo(f"      {difference['path'] or 'the answer'}: {_both(difference)}")
    times = found["milliseconds"]
    click.echo(
        f"  {found['equal']} of {found['asked']} equal; median {times['left']:.2f} ms and {times['right']:.2f} ms"
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
