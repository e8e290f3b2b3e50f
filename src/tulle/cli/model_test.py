"""`tulle test`: do models give the rows they should, on rows that are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tulle.cli.terminal import OPTION_JSON, emit, mark
from tulle.errors import Invalid


@click.command()
@click.argument("product", required=False)
@click.option(
    "--select", "-s", multiple=True, help="Only these models: a name, name+, +name, tag:word, stg_*."
)
@OPTION_JSON
@click.pass_obj
def test(mesh: Path | None, product: str | None, select: tuple[str, ...], as_json: bool) -> None:
    """Test the models of PRODUCT (default: of all products) with the rows of its tests/*.yaml.

    Nothing of the lake is read or written.

    \b
    tulle test sales
    tulle test sales --select customers
    """
    from tulle.cli.connect import mesh_client

    if select and product is None:
        raise click.UsageError("--select is about one product: name it")
    with mesh_client(mesh) as client:
        names = [product] if product is not None else client.validate()["products"]
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
        raise Invalid(f"{count} failed, the first: {failed[0]['model']}: {failed[0]['name']}")


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
