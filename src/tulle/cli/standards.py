"""`tulle export | import | schema`: products in the words of standards, and what a product document may say.

Files only: a mesh need not run. The API answers the same under `/mesh/v1/products/…/odcs/…`, `…/odps` and `/schema`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tulle.cli.capability import registry_of
from tulle.cli.terminal import OPTION_JSON, emit, relative
from tulle.errors import AlreadyExists, Invalid
from tulle.spec.envelope import json_schema

if TYPE_CHECKING:
    from tulle.quality.contract_rules import TakenRules

FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)


def _written(path: Path, text: str, *, replace: bool = True) -> None:
    if path.exists() and not replace:
        raise AlreadyExists(f"{relative(path)} exists already", hint="choose another name, or remove it")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    click.echo(f"  {click.style('+', fg='green')} {relative(path)}")


# ── out ────────────────────────────────────────


@click.group()
def export() -> None:
    """Write a product in a standard's words: ODCS contracts, ODPS."""


def _with_rules(contract: dict[str, Any], product: Any) -> dict[str, Any]:
    """The contract with the checks of the product's folder as quality rules."""
    from tulle.quality.check import read_checks
    from tulle.quality.contract_rules import with_rules

    checks, problems = read_checks(product.folder / "checks", relative(product.folder / "checks"))
    if problems:
        raise Invalid(f"the checks of '{product.name}' do not hold", problems=problems)
    return with_rules(contract, checks)


def _product(mesh: Path | None, name: str) -> tuple[Any, Any]:
    from tulle.cli.connect import settings_of
    from tulle.spec.mesh import load_mesh

    registry = registry_of(mesh)
    return load_mesh(settings_of(mesh), registry).product(name), registry


@export.command("odcs")
@click.argument("product")
@click.argument("port", required=False)
@click.option("--out", type=FILE, help="Write it to this file instead.")
@OPTION_JSON
@click.pass_obj
def export_odcs(mesh: Path | None, product: str, port: str | None, out: Path | None, as_json: bool) -> None:
    """Print the data contract (ODCS 3.2) of output port PORT of PRODUCT.

    \b
    tulle export odcs purchases files-of-purchases --out purchases.odcs.yaml

    PORT may be left out where the product has only one.
    """
    from tulle.spec import odcs
    from tulle.spec.write import dump

    found, registry = _product(mesh, product)
    if port is None and len(found.output_ports) != 1:
        names = ", ".join(p.name for p in found.output_ports) or "none"
        message = f"product '{found.name}' has {len(found.output_ports)} output ports"
        raise Invalid(message, hint=f"name one of them: {names}")
    contract = _with_rules(odcs.contract(found, port or found.output_ports[0].name, registry), found)
    if as_json:
        emit(contract)
    elif out is not None:
        _written(out, dump(contract))
    else:
        click.echo(dump(contract), nl=False)


@export.command("odps")
@click.argument("product")
@click.option("--out", type=FOLDER, help="Write product.odps.yaml and contracts/ into this folder.")
@OPTION_JSON
@click.pass_obj
def export_odps(mesh: Path | None, product: str, out: Path | None, as_json: bool) -> None:
    """Print PRODUCT as an ODPS 1.1 document; with --out, its ODCS contracts too.

    \b
    tulle export odps purchases --out exchange/purchases
    """
    from tulle.spec import odps
    from tulle.spec.product import kebab
    from tulle.spec.write import dump

    found, registry = _product(mesh, product)
    made = odps.bundle(found, registry)
    if as_json:
        emit({"product": made.product, "contracts": made.contracts})
    elif out is None:
        click.echo(dump(made.product), nl=False)
    else:
        _written(out / "product.odps.yaml", dump(made.product))
        for name, contract in made.contracts.items():
            _written(out / "contracts" / f"{kebab(name) or 'contract'}.odcs.yaml", dump(contract))


# ── in ────────────────────────────────────────


@click.group("import")
def import_() -> None:
    """Make a product of an ODCS contract or an ODPS document."""


OPTION_DOMAIN = click.option(
    "--domain", default="", help="The domain that owns the product, where the file does not say."
)


@import_.command("odcs")
@click.argument("file", type=FILE)
@OPTION_DOMAIN
@OPTION_JSON
@click.pass_obj
def import_odcs(mesh: Path | None, file: Path, domain: str, as_json: bool) -> None:
    """Make a product of the data contract (ODCS) in FILE.

    \b
    tulle import odcs purchases.odcs.yaml --domain sales

    Its quality rules become checks in checks/contract.yaml, as far as they can be carried out. What Tulle has no word
    for is kept under `custom:` of the output port, and is back in `tulle export odcs`.
    """
    from tulle.quality.contract_rules import take_rules
    from tulle.spec import odcs
    from tulle.spec.load import load_document

    document, registry = load_document(file), registry_of(mesh)
    odcs.read_contract(document, registry, domain=domain)  # all that is wrong with the file, with its places
    taken = take_rules(document.value)
    view, product = odcs.read_contract(replace(document, value=taken.contract), registry, domain=domain)
    _imported(mesh, view, product, rules=taken, as_json=as_json)


@import_.command("odps")
@click.argument("file", type=FILE)
@click.option(
    "--contract",
    "contracts",
    multiple=True,
    type=FILE,
    help="An ODCS contract it refers to; repeatable. Default: contracts/*.yaml beside FILE.",
)
@OPTION_DOMAIN
@OPTION_JSON
@click.pass_obj
def import_odps(
    mesh: Path | None, file: Path, contracts: tuple[Path, ...], domain: str, as_json: bool
) -> None:
    """Make a product of the ODPS document in FILE and the ODCS contracts it refers to.

    \b
    tulle import odps exchange/purchases/product.odps.yaml
    """
    from tulle.spec import odps
    from tulle.spec.load import load_document

    document = load_document(file)
    beside = sorted((file.parent / "contracts").glob("*.y*ml"))
    found = [load_document(path) for path in contracts or beside]
    known = {str(d.value.get("id")): d for d in found if isinstance(d.value, dict)}
    view, product = odps.read_bundle(document, known, registry_of(mesh), domain=domain)
    _imported(mesh, view, product, as_json=as_json)


def _imported(
    mesh: Path | None, view: dict[str, Any], product: Any, *, rules: TakenRules | None = None, as_json: bool
) -> None:
    from tulle.cli.connect import settings_of
    from tulle.quality.contract_rules import FILE as RULES_FILE
    from tulle.spec.mesh import PRODUCT_FILE
    from tulle.spec.translate import document_text

    settings = settings_of(mesh)
    for taken in settings.products_folder.glob(f"*/{product.name}/{PRODUCT_FILE}"):
        raise AlreadyExists(f"the mesh has a product '{product.name}' already: {relative(taken)}")
    if as_json:
        made = {"checks": list(rules.checks), "left": list(rules.left)} if rules else {}
        emit({"name": product.name, "domain": product.domain, **view, **made})
        return
    folder = settings.products_folder / product.domain / product.name
    _written(folder / PRODUCT_FILE, document_text(view), replace=False)
    if rules and rules.checks:
        _written(folder / RULES_FILE, rules.text(), replace=False)
    for why in rules.left if rules else ():
        click.echo(
            f"  {click.style('!', fg='yellow')} no check of a quality rule, it stays in the contract: {why}"
        )
    click.echo("next: tulle validate && tulle plan")


# ── for editors ────────────────────────────────────────


@click.command()
@click.option("--of", type=click.Choice(["product", "service"]), default="product", help="Of which file.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write it to this file instead.")
@click.option("--json", "as_json", is_flag=True, hidden=True, help="It is JSON anyway.")
@click.pass_obj
def schema(mesh: Path | None, of: str, out: Path | None, as_json: bool) -> None:  # noqa: ARG001
    """Print the JSON Schema of product.yaml, with the component types of this mesh, or of services, for editors.

    \b
    tulle schema --out product.schema.json
    # and as the first line of each product.yaml:
    # yaml-language-server: $schema=../../../product.schema.json
    tulle schema --of service --out service.schema.json
    # and in services/: $schema=../../../../service.schema.json

    The control plane serves that of products at /mesh/v1/schema.
    """
    if of == "service":
        from tulle.serving.service import service_schema

        found = service_schema()
    else:
        found = json_schema(registry_of(mesh))
    text = json.dumps(found, indent=2, ensure_ascii=False)
    if out is None:
        click.echo(text)
        return
    out.write_text(text + "\n", encoding="utf-8")
    click.echo(f"  {click.style('+', fg='green')} {relative(out)}")
