"""`tulle product update-template`: take over what a product's template says now."""

from __future__ import annotations

from pathlib import Path

import click

from tulle.cli.terminal import OPTION_JSON, emit, mark, relative
from tulle.config import Settings
from tulle.errors import Conflict, Invalid, NotFound, did_you_mean


@click.group()
def product() -> None:
    """Keep a product's files up to date with what they were made from."""


@product.command("update-template")
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Only tell what would change.")
@OPTION_JSON
@click.pass_obj
def update_template(mesh: Path | None, name: str, dry_run: bool, as_json: bool) -> None:
    """Take over into product NAME what its template makes now.

    \b
    tulle product update-template orders

    What only one side changed is taken; what both changed differently is marked in the file and named here.
    """
    from dataclasses import asdict

    from tulle.cli.connect import settings_of
    from tulle.spec.load import load_document
    from tulle.spec.template_record import MINE, RECORD_FILE, read_record, recorded, updates

    settings = settings_of(mesh)
    folder = _folder(settings, name)
    file = folder / RECORD_FILE
    if not file.exists():
        raise NotFound(
            f"{relative(file)} is not there", hint="only products of `tulle new product` know their template"
        )
    record = read_record(load_document(file))
    made = generate(mesh, settings, record.answers)
    mine = {p: (folder / p).read_text("utf-8") for p in {*made, *record.generated} if (folder / p).is_file()}
    for path, content in sorted(mine.items()):
        if any(line == MINE for line in content.splitlines()):
            raise Invalid(
                f"{path} has a merge that is unfinished", hint=f"decide at the lines '{MINE}' first"
            )
    found = list(updates(record, mine, made))
    if not dry_run:
        for update in found:
            target = folder / update.path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(update.text, encoding="utf-8")
        file.write_text(recorded(record.template, record.answers, made), encoding="utf-8")
    if as_json:
        emit([{k: v for k, v in asdict(update).items() if k != "text"} for update in found])
    else:
        for update in found:
            state = "warn" if update.conflicts else "succeeded"
            click.echo(f"  {mark(state)} {update.path} {update.sentence}")
        if not found:
            click.echo(f"{mark('unchanged')} nothing to take over")
    places = [f"{update.path}:{line}" for update in found for line in update.conflicts]
    if places:
        verb = "would conflict" if dry_run else "conflict"
        message = f"your changes and the template's {verb}: {', '.join(places)}"
        raise Conflict(message, hint=f"decide at the lines that begin with '{MINE}'")


def _folder(settings: Settings, name: str) -> Path:
    known = {path.parent.name: path.parent for path in settings.products_folder.glob("*/*/product.yaml")}
    if name not in known:
        raise NotFound(f"the mesh has no product folder '{name}'", hint=did_you_mean(name, known))
    return known[name]


def generate(mesh: Path | None, settings: Settings, answers: object) -> dict[str, str]:
    """The files the template of a product makes for what was answered. Invalid for answers that are none."""
    from tulle.cli.capability import registry_of
    from tulle.spec import dbt_scaffold, scaffold
    from tulle.spec.load import load_document
    from tulle.spec.skeleton import product_files

    said = dict(answers) if isinstance(answers, dict) else {}
    name, domain = said.get("name", ""), said.get("domain", "")
    given = said.get("from_odcs") or said.get("from_dbt")
    if given and (settings.folder / given).is_dir():
        environment = dbt_scaffold.HOME if dbt_scaffold.HOME in settings.hook_environments else ""
        return dbt_scaffold.from_dbt_project(
            settings.folder / given, registry_of(mesh), name=name, domain=domain, environment=environment
        )
    if said.get("from_table"):
        return table_files(mesh, name, domain, said.get("from_connection", ""), said["from_table"])
    if given:
        make = scaffold.from_contract if said.get("from_odcs") else scaffold.from_dbt
        path = settings.folder / given
        return make(load_document(path, name=given), registry_of(mesh), name=name, domain=domain)
    kind, upstream = said.get("kind", "source-aligned"), said.get("from")
    return product_files(
        name,
        domain=domain,
        kind=kind,
        upstream=upstream,
        settings=settings if upstream else None,
        taken=True,
    )


def table_files(mesh: Path | None, name: str, domain: str, connection: str, table: str) -> dict[str, str]:
    """The files of a product made of a table as its database describes it now."""
    from tulle.cli.capability import registry_of
    from tulle.cli.connect import mesh_client
    from tulle.sdk.connections import ConnectionClient
    from tulle.spec.skeleton import check_new
    from tulle.spec.table_scaffold import from_table

    check_new(name, domain, "source-aligned", None)
    with mesh_client(mesh) as client:
        found = ConnectionClient(client).describe_table(connection, table)
    return from_table(found, registry_of(mesh), name=name, domain=domain, connection=connection)
