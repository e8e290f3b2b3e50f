"""`tulle test`: do models give the rows they should, on rows that are given."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tulle.cli.terminal import OPTION_JSON, emit, mark
from tulle.errors import Invalid, from_dict

if TYPE_CHECKING:
    from tulle.sdk.client import Client

_MOST_NAMED = 10


@click.command()
@click.argument("products", nargs=-1)
@click.option(
    "--select", "-s", multiple=True, help="Only these models: a name, name+, +name, tag:word, stg_*."
)
@OPTION_JSON
@click.pass_obj
def test(mesh: Path | None, products: tuple[str, ...], select: tuple[str, ...], as_json: bool) -> None:
    """Test the models of PRODUCTS (default: of all products) with the rows of its tests/*.yaml.

    Nothing of the lake is read or written.

    \b
    tulle test
    tulle test sales customers
    tulle test sales --select customers
    """
    from tulle.cli.connect import mesh_client

    if select and len(products) != 1:
        raise click.UsageError("--select is about one product: name it")
    with mesh_client(mesh) as client:
        names = list(products) or _all(client)
        told = {name: client.test_models(name, select=select) for name in names}
    failed = [one for tests in told.values() for one in tests if not one["passed"]]
    if as_json:
        emit(told)
    else:
        for name, tests in told.items():
            click.secho(name, bold=True)
            for one in tests:
                _show(one)
            if not tests:
                click.echo("  no tests: write some into tests/*.yaml")
    if failed:
        count = "1 test" if len(failed) == 1 else f"{len(failed)} tests"
        named = "; ".join(f"{one['model']}: {one['name']}" for one in failed[:_MOST_NAMED])
        more = f"; and {len(failed) - _MOST_NAMED} more" if len(failed) > _MOST_NAMED else ""
        raise Invalid(f"{count} failed: {named}{more}")


def _all(client: Client) -> list[str]:
    """Every product of the mesh. Invalid when the documents do not hold: nothing would be tested, and pass."""
    verdict = client.validate()
    names: list[str] = verdict["products"]
    if not names and verdict["problems"]:
        problems = from_dict({"problems": verdict["problems"]}).problems
        raise Invalid("nothing is tested: the mesh's documents have problems", problems=problems)
    return names


def _show(one: dict[str, Any]) -> None:
    sign = mark("succeeded" if one["passed"] else "failed")
    click.echo(f"  {sign} {one['model']}: {one['name']}  {one['message']}")
    if one["passed"]:
        return
    if one["place"]:
        click.echo(f"      at {one['place']}")
    for problem in one["problems"]:
        click.echo(f"      {problem}")
    for change, rows, colour in (("-", one["missing"], "red"), ("+", one["unexpected"], "green")):
        for row in rows:
            click.secho(f"      {change} " + ", ".join(f"{k}: {v}" for k, v in row.items()), fg=colour)
