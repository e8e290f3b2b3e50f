"""`tulle init | new product | new api | validate`."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tulle.cli.terminal import OPTION_JSON, emit, mark, relative, show_problem
from tulle.errors import AlreadyExists, Invalid, NotFound, TulleError, from_dict

if TYPE_CHECKING:
    from tulle.config import Settings
    from tulle.spec.capability import Registry
    from tulle.spec.document import Document


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=".")
@click.option("--name", help="The name of the mesh. Default: the folder's name.")
def init(folder: Path, name: str | None) -> None:
    """Make a new mesh in FOLDER (default: here)."""
    from tulle.spec.skeleton import mesh_files

    if (folder / "mesh.yaml").exists():
        raise AlreadyExists(
            f"{folder / 'mesh.yaml'} exists already", hint="`tulle new product` adds a product to it"
        )
    _write(folder, mesh_files(name or folder.resolve().name))
    here = "" if folder.resolve() == Path.cwd() else f"cd {relative(folder)} && "
    click.echo(f"next: {here}tulle new product my-orders --domain sales")


_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def new() -> None:
    """Make a new product from a template, or an API from an OpenAPI document."""


@new.command("product")
@click.argument("name")
@click.option("--domain", required=True, help="The domain that owns the product.")
@click.option(
    "--kind",
    type=click.Choice(["source-aligned", "aggregate", "consumer-aligned"]),
    default="source-aligned",
    show_default=True,
    help="Where its data comes from and whom it is for.",
)
@click.option("--from", "upstream", help="The product it takes data from (not for source-aligned).")
@click.option("--from-odcs", type=_FILE, help="A data contract (ODCS) that says what it offers.")
@click.option(
    "--from-dbt",
    type=click.Path(path_type=Path),
    help="A dbt project's folder, which is taken over and runs as it is; or its schema.yml or manifest.json.",
)
@click.option(
    "--from-table",
    nargs=2,
    metavar="CONNECTION TABLE",
    help="A table of a database, such as shop-db public.orders.",
)
@click.pass_obj
def new_product(
    mesh: Path | None,
    name: str,
    domain: str,
    kind: str,
    upstream: str | None,
    from_odcs: Path | None,
    from_dbt: Path | None,
    from_table: tuple[str, str] | None,
) -> None:
    """Make the folder of product NAME: a specification, a model, checks, sample data.

    \b
    tulle new product orders --domain sales
    tulle new product big-spenders --domain sales --kind aggregate --from orders
    tulle new product payments --domain finance --from-odcs payments.odcs.yaml
    tulle new product shop --domain sales --from-dbt ../dbt_shop
    tulle new product shop --domain sales --from-dbt models/schema.yml
    tulle new product orders --domain sales --from-table shop-db public.orders
    """
    from tulle.cli.capability import registry_of
    from tulle.cli.connect import settings_of
    from tulle.cli.template import table_files
    from tulle.spec import dbt_scaffold, scaffold
    from tulle.spec.load import load_document
    from tulle.spec.skeleton import check_free, check_new, product_files
    from tulle.spec.template_record import RECORD_FILE, recorded

    if sum(given is not None for given in (upstream, from_odcs, from_dbt, from_table)) > 1:
        hint = "give one of --from, --from-odcs, --from-dbt and --from-table"
        raise Invalid("a product is made of one thing", hint=hint)
    settings = settings_of(mesh)
    check_new(name, domain, kind, upstream)  # before a path is made of them
    folder = settings.products_folder / domain / name
    if folder.exists():
        raise AlreadyExists(
            f"{relative(folder)} exists already", hint="choose another name, or remove the folder"
        )
    copied: dict[str, str] = {}
    told: list[str] = []
    if from_dbt is not None and from_dbt.name == dbt_scaffold.PROJECT_FILE:
        from_dbt = from_dbt.parent
    if from_dbt is not None and from_dbt.is_dir():
        check_free(name, settings)
        environment = dbt_scaffold.HOME if dbt_scaffold.HOME in settings.hook_environments else ""
        files = dbt_scaffold.from_dbt_project(
            from_dbt, registry_of(mesh), name=name, domain=domain, environment=environment
        )
        copied = dbt_scaffold.project_texts(from_dbt)
        answers = {"from_dbt": os.path.relpath(from_dbt, settings.folder)}
    elif given := from_odcs or from_dbt:
        check_free(name, settings)
        document, registry = load_document(given), registry_of(mesh)
        make = _from_contract if from_odcs else scaffold.from_dbt
        files = make(document, registry, name=name, domain=domain)
        if from_odcs and (left := scaffold.left_out(document, registry)):
            told.append(f"left out, as it is how the contract's own product is run: {', '.join(left)}")
        answers = {("from_odcs" if from_odcs else "from_dbt"): os.path.relpath(given, settings.folder)}
    elif from_table is not None:
        check_free(name, settings)
        files = table_files(mesh, name, domain, *from_table)
        answers = {"from_connection": from_table[0], "from_table": from_table[1]}
    else:
        files = product_files(name, domain=domain, kind=kind, upstream=upstream, settings=settings)
        answers = {"kind": kind, **({"from": upstream} if upstream else {})}
    template = "odcs" if from_odcs else "dbt" if from_dbt else "table" if from_table else kind
    files[RECORD_FILE] = recorded(template, {"name": name, "domain": domain, **answers}, files)
    _write(folder, {**files, **copied})
    for sentence in told:
        click.echo(sentence)
    click.echo("next: tulle validate && tulle apply && tulle run " + name)


def _from_contract(document: Document, registry: Registry, *, name: str, domain: str) -> dict[str, str]:
    """The files of a product of a contract, with its quality rules as checks."""
    from tulle.quality.contract_rules import FILE as RULES_FILE
    from tulle.quality.contract_rules import take_rules
    from tulle.spec.scaffold import from_contract

    from_contract(document, registry, name=name, domain=domain)  # what is wrong is told of the whole contract
    taken = take_rules(document.value)
    files = from_contract(replace(document, value=taken.contract), registry, name=name, domain=domain)
    return files | ({RULES_FILE: taken.text(to_begin_with=True)} if taken.checks else {})


@new.command("api")
@click.argument("name")
@click.option("--product", required=True, help="The product that offers it.")
@click.option(
    "--openapi",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="The OpenAPI document (3.0 or 3.1, YAML or JSON) of the service; - for what is piped in.",
)
@click.option("--upstream", help="Where the service is. Default: the first server that the document names.")
@click.pass_obj
def new_api(mesh: Path | None, name: str, product: str, openapi: Path, upstream: str | None) -> None:
    """Declare API NAME over an HTTP service outside of the mesh, by its OpenAPI document.

    \b
    tulle new api weather --product forecasts --openapi weather.openapi.json
    curl -s https://api.example.com/openapi.json | tulle new api weather --product forecasts --openapi -
    """
    from tulle.cli.connect import settings_of
    from tulle.gateway.apis import scaffold
    from tulle.gateway.apis.load import load_apis
    from tulle.spec.load import decoded
    from tulle.spec.mesh import load_mesh

    settings = settings_of(mesh)
    spec = load_mesh(settings)
    owner = spec.product(product)
    if str(openapi) == "-":
        data, source = sys.stdin.buffer.read(), "what was piped in"
    else:
        try:
            data, source = openapi.read_bytes(), relative(openapi)
        except OSError as exc:
            raise NotFound(f"{relative(openapi)} cannot be read: {exc.strerror}") from exc
    if upstream == "":
        raise Invalid("--upstream is empty", hint="leave it out to take the first server of the document")
    made = scaffold.new_api(name, decoded(data, source), source=source, upstream=upstream or "")
    for one in spec.products:
        for loaded in load_apis(one):
            if loaded.api.name == name:
                raise AlreadyExists(
                    f"product '{one.name}' has an API '{name}' already", hint=f"it is in {loaded.source.name}"
                )
    for path in made.files:
        if (owner.folder / path).exists():
            hint = "choose another name, or remove the file"
            raise AlreadyExists(f"{relative(owner.folder / path)} exists already", hint=hint)
    _write(owner.folder, dict(made.files))
    told = f"leads to {made.upstream}" if made.upstream else "leads nowhere yet: say `upstream` in its file"
    click.echo(f"version {made.version} {told}")
    if made.upstream:
        _tell_unreachable(settings, made.upstream)
    click.echo("next: tulle validate && tulle plan && tulle apply")


def _tell_unreachable(settings: Settings, upstream: str) -> None:
    """Say at once why the gateway of this mesh could not lead there yet."""
    from tulle.control.declared_apis import demand_reachable
    from tulle.gateway.front import Upstream

    try:
        demand_reachable(settings, Upstream(upstream))
    except TulleError as exc:
        click.echo(f"  {mark('warn')} {exc.message}\n    {exc.hint}")


def _write(folder: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        target = folder / path
        if target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        click.echo(f"  {click.style('+', fg='green')} {relative(target)}")


@click.command()
@click.argument("products", nargs=-1)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "github"]),
    default="text",
    show_default=True,
    help="How problems are told: with a caret, as JSON, or as annotations of GitHub Actions.",
)
@OPTION_JSON
@click.pass_obj
def validate(mesh: Path | None, products: tuple[str, ...], form: str, as_json: bool) -> None:
    """Check the documents, code, checks and services of PRODUCTS (default: all); all problems at once.

    In a workflow of GitHub Actions, `tulle validate --format github` marks each problem at its line.
    """
    from tulle.cli.annotations import github
    from tulle.cli.connect import mesh_client, settings_of

    with mesh_client(mesh) as client:
        verdict = client.validate(products)
    as_json = as_json or form == "json"
    if as_json:
        emit(verdict)
    problems = from_dict({"problems": verdict["problems"]}).problems
    warnings = from_dict({"problems": verdict["warnings"]}).problems
    if form == "github" and not as_json:
        folder = settings_of(mesh).folder
        for problem in problems:
            click.echo(github(problem, folder))
        for warning in warnings:
            click.echo(github(warning, folder, "warning"))
    if not as_json:
        for warning in warnings if form == "text" else ():
            show_problem(replace(warning, message=f"warning: {warning.message}"))
        for problem in problems if form == "text" else ():
            show_problem(problem)
        if not problems:
            told = ", ".join(verdict["products"]) or "none yet"
            click.echo(f"{mark('passed')} {len(verdict['products'])} product(s) are valid: {told}")
    if problems:
        raise Invalid(f"{len(problems)} problem(s) found")


__all__ = ["TulleError", "init", "new", "validate"]
