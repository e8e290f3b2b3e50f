"""`tulle schema`: what a product document may say, for editors and other programs."""

from __future__ import annotations

import json
from pathlib import Path

import click

from tulle.cli.capability import registry_of
from tulle.cli.terminal import relative
from tulle.spec.envelope import json_schema


@click.command()
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write it to this file instead.")
@click.option("--json", "as_json", is_flag=True, hidden=True, help="It is JSON anyway.")
@click.pass_obj
def schema(mesh: Path | None, out: Path | None, as_json: bool) -> None:  # noqa: ARG001
    """Print the JSON Schema of product.yaml, with the component types of this mesh, for editors.

    \b
    tulle schema --out product.schema.json
    # and as the first line of each product.yaml:
    # yaml-language-server: $schema=../../../product.schema.json

    The control plane serves the same at /mesh/v1/schema.
    """
    text = json.dumps(json_schema(registry_of(mesh)), indent=2, ensure_ascii=False)
    if out is None:
        click.echo(text)
        return
    out.write_text(text + "\n", encoding="utf-8")
    click.echo(f"  {click.style('+', fg='green')} {relative(out)}")
