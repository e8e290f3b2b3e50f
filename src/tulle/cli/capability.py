"""`tulle capability list | show | schema | test`: the component types a product may use."""

from __future__ import annotations

from pathlib import Path

import click

from tulle.cli.terminal import OPTION_JSON, emit, table
from tulle.spec.capability import Registry, builtin_registry, load_registry
from tulle.spec.envelope import json_schema
from tulle.spec.mesh import find_mesh, load_settings


@click.group()
def capability() -> None:
    """The component types a product may use."""


def registry_of(mesh: Path | None) -> Registry:
    """The component types of the mesh; outside of one, the built-in types."""
    from tulle.errors import NotFound

    try:
        return load_registry(load_settings(mesh if mesh is not None else find_mesh(Path.cwd())))
    except NotFound:
        if mesh is not None:
            raise
        return builtin_registry()  # outside a mesh the built-in types can still be read about


@capability.command("list")
@OPTION_JSON
@click.pass_obj
def list_capabilities(mesh: Path | None, as_json: bool) -> None:
    """List the component types."""
    found = [{"name": c.name, "title": c.title, "description": c.description} for c in registry_of(mesh)]
    if as_json:
        emit(found)
    else:
        table(found, ["name", "description"], empty="no component types")


@capability.command()
@click.argument("name")
@OPTION_JSON
@click.pass_obj
def show(mesh: Path | None, name: str, as_json: bool) -> None:
    """Show component type NAME: its properties and an example."""
    found = registry_of(mesh).get(name)
    if as_json:
        emit(
            {
                "name": found.name,
                "title": found.title,
                "description": found.description,
                "schema": found.schema,
            }
        )
        return
    click.secho(found.name, bold=True)
    click.echo(f"  {found.description}\n")
    required = set(found.schema.get("required", ()))
    rows = [
        {"property": key, "required": key in required, "meaning": value.get("description", "")}
        for key, value in found.schema.get("properties", {}).items()
    ]
    table(rows, ["property", "required", "meaning"], empty="no properties")
    click.echo("\nexample:\n")
    click.echo("\n".join("  " + line for line in found.example.strip().splitlines()))


@capability.command()
@click.pass_obj
def schema(mesh: Path | None) -> None:
    """Print the JSON Schema of product.yaml, for editors."""
    emit(json_schema(registry_of(mesh)))


@capability.command()
@click.argument("name")
@click.option(
    "--hooks", is_flag=True, help="Call its hooks too, twice each, with its example: they act for real."
)
@OPTION_JSON
@click.pass_obj
def test(mesh: Path | None, name: str, hooks: bool, as_json: bool) -> None:
    """Hold component type NAME, or the YAML file NAME of one, against the conformance kit.

    \b
    tulle capability test jdbc-output-port
    tulle capability test capabilities/jdbc-output-port.yaml
    """
    from dataclasses import asdict

    from tulle.cli.terminal import mark, show_problem
    from tulle.errors import Invalid
    from tulle.spec.capability import add_file
    from tulle.spec.conformance import examine

    registry = registry_of(mesh)
    if name.endswith((".yaml", ".yml")):
        path = Path(name).resolve()
        known = {capability.origin: capability.name for capability in registry}
        settled = next((known[o] for o in known if o and path.as_posix().endswith(f"/{o}")), None)
        name = settled or add_file(registry, Path(name))
    findings = examine(registry, name, hooks=hooks)
    failed = [finding for finding in findings if not finding.passed]
    if as_json:
        emit(
            {"capability": name, "passed": not failed, "findings": [asdict(finding) for finding in findings]}
        )
    else:
        for finding in findings:
            told = f": {finding.told}" if finding.told and not finding.passed else ""
            click.echo(f"  {mark('passed' if finding.passed else 'failed')} {finding.check}{told}")
            for problem in finding.problems:
                show_problem(problem)
    if failed:
        raise Invalid(f"'{name}' does not conform: {len(failed)} of {len(findings)} checks failed")
