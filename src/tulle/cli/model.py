"""`tulle model train | list | show | compare | serve | delete`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from tulle.cli.terminal import OPTION_JSON, emit, mark, table
from tulle.errors import Invalid

ENVIRONMENT = click.option("--environment", "-e", default="main", show_default=True, help="The branch.")


@click.group()
def model() -> None:
    """Train models, show and compare them, put one behind a service."""


@model.command(epilog="Example: tulle model train shop will_return --data-set customers --target returned")
@click.argument("product")
@click.argument("name")
@click.option("--data-set", required=True, help="The data set to learn from.")
@click.option("--target", required=True, help="The column to predict.")
@click.option(
    "--feature", "-f", "features", multiple=True, help="A feature. Repeatable. Default: all that can be."
)
@click.option(
    "--task", type=click.Choice(["binary", "multiclass", "regression"]), help="Default: by the target."
)
@click.option("--metric", help="What the best is best in: roc_auc, log_loss, rmse …")
@click.option("--seconds", type=float, default=60.0, show_default=True, help="How long to search.")
@click.option("--hold-out", type=float, default=0.2, show_default=True, help="The share kept from training.")
@click.option("--split-by", help="A column of times: the latest rows are kept. Default: by chance.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--environment", "-e", help="The environment or preview to work for. Default: production.")
@OPTION_JSON
@click.pass_obj
def train(mesh: Path | None, /, product: str, name: str, as_json: bool, **said: Any) -> None:
    """Search the best model NAME of PRODUCT for what it has published, and publish it."""
    from tulle.cli.connect import mesh_client
    from tulle.cli.run import ENDED, show_steps
    from tulle.sdk.models import ModelClient

    with mesh_client(mesh) as client:
        run_id = ModelClient(client).train(product, name, **said)
        shown: dict[str, str] = {}
        try:
            while (result := client.run(run_id))["status"] not in ENDED:
                if not as_json:
                    show_steps(result, shown)
                time.sleep(0.2)
        except KeyboardInterrupt:
            client.stop_run(run_id)
            raise
        if not as_json:
            show_steps(result, shown)
        if result["status"] != "succeeded":
            error = result["error"] or {}
            raise Invalid(error.get("message") or f"the training {result['status']}", hint=error.get("hint"))
        found = ModelClient(client).experiment(run_id)
    if as_json:
        emit(found)
        return
    _show_experiment(found["document"])
    further = f"`tulle model serve {product} {name}` puts it behind a service"
    click.echo(f"\n  {mark('succeeded')} model {name} is published; {further}")


@model.command("list", epilog="Example: tulle model list --product shop")
@click.option("--product", help="Only those of this product.")
@ENVIRONMENT
@OPTION_JSON
@click.pass_obj
def list_models(mesh: Path | None, product: str | None, environment: str, as_json: bool) -> None:
    """List the models that are published."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.models import ModelClient

    with mesh_client(mesh) as client:
        found = ModelClient(client).models(product=product, environment=environment)
    if as_json:
        emit(found)
        return
    rows = [{**one, "metrics": _metrics(one["metrics"])} for one in found]
    columns = ["product", "model", "task", "estimator", "form", "metrics", "experiment"]
    table(rows, columns, empty="no models: a run saves one, or `tulle model train` searches one")


@model.command(epilog="Example: tulle model show shop will_return")
@click.argument("product")
@click.argument("name")
@ENVIRONMENT
@OPTION_JSON
@click.pass_obj
def show(mesh: Path | None, product: str, name: str, environment: str, as_json: bool) -> None:
    """Show what model NAME of PRODUCT takes and gives, how good it is, and what answers from it."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.models import ModelClient

    with mesh_client(mesh) as client:
        found = ModelClient(client).model(product, name, environment=environment)
        latest = (
            ModelClient(client).experiment(found["experiments"][0]["id"]) if found["experiments"] else None
        )
    if as_json:
        emit({**found, "latest": latest})
        return
    signature = found["signature"]
    click.secho(f"{name}  {found['task']}, {found['estimator']}", bold=True)
    reason = signature["conversion"].get("reason")
    click.echo(f"  answers as {found['form']}" + (f": {reason}" if reason else ""))
    click.echo(f"  {_metrics(found['metrics'])}")
    for one in found["services"]:
        click.echo(f"  {mark('active')} service {one['service']}, endpoint {one['endpoint']}")
    table(signature["features"], ["name", "type", "nullable", "minimum", "maximum"], empty="no features")
    if latest is not None:
        _show_experiment(latest["document"])
    if found["experiments"]:
        click.echo()
        table(found["experiments"], ["id", "metric", "score", "estimator", "data_commit"], empty="")


@model.command(epilog="Example: tulle model compare 20261122-093012345-beef 20261122-101500678-cafe")
@click.argument("experiments", nargs=-1, required=True, metavar="ID ID…")
@OPTION_JSON
@click.pass_obj
def compare(mesh: Path | None, experiments: tuple[str, ...], as_json: bool) -> None:
    """Show two or more experiments beside one another: what was asked otherwise, and what came of it.

    An ID may be cut short, as long as it is the only one that begins so; `tulle model show` lists them.
    """
    from tulle.cli.connect import mesh_client
    from tulle.sdk.models import ModelClient

    with mesh_client(mesh) as client:
        found = ModelClient(client).compare(*experiments)
    if as_json:
        emit(found)
        return
    heads = [chr(ord("A") + place) for place in range(len(found["experiments"]))]
    which = [{"": head, **one} for head, one in zip(heads, found["experiments"], strict=True)]
    table(which, ["", "id", "model", "estimator", "data_commit"], empty="")
    parts = {"metrics": "how good", "parameters": "settings", "asked": "asked", "made": "made"}
    for part, title in parts.items():
        best = found["best"] if part == "metrics" else {}
        rows = [_beside(name, heads, values, best.get(name, ())) for name, values in found[part].items()]
        if rows:
            click.secho(f"\n  {title}", bold=True)
            table(rows, ["", *heads], empty="")
    click.echo("\n  on the same rows" if found["same_rows"] else "\n  on different rows")


def _beside(name: str, heads: Sequence[str], values: Sequence[Any], best: Sequence[int]) -> Mapping[str, Any]:
    """A line of a comparison, the best values marked."""
    told = [value if not isinstance(value, float) else f"{value:.4g}" for value in values]
    marked = [f"{value} ◂" if place in best else value for place, value in enumerate(told)]
    return {"": name, **dict(zip(heads, marked, strict=True))}


@model.command(epilog="Example: tulle model serve shop will_return")
@click.argument("product")
@click.argument("name")
@click.option("--service", help="The service's name. Default: that of the model.")
@OPTION_JSON
@click.pass_obj
def serve(mesh: Path | None, product: str, name: str, service: str | None, as_json: bool) -> None:
    """Declare a service that answers from model NAME of PRODUCT, package and deploy it."""
    from tulle.cli.connect import client_of, settings_of
    from tulle.cli.deployment_told import follow, show_deployment
    from tulle.cli.service import show_package
    from tulle.sdk.deployments import DeploymentClient
    from tulle.sdk.models import ModelClient
    from tulle.sdk.services import ServiceClient

    with client_of(settings_of(mesh)) as client:
        file = ModelClient(client).serve(product, name, service)
        chosen = service or name.replace("_", "-")
        package = ServiceClient(client).package(chosen)
        deployed = follow(client, chosen, DeploymentClient(client).deploy(chosen))
    if as_json:
        emit({"file": file, "package": package, "deployment": deployed})
        return
    click.echo(f"  {mark('succeeded')} declared in {file}")
    show_package(package)
    show_deployment(deployed)


@model.command(epilog="Example: tulle model delete shop will_return")
@click.argument("product")
@click.argument("name")
@ENVIRONMENT
@click.pass_obj
def delete(mesh: Path | None, product: str, name: str, environment: str) -> None:
    """Take model NAME of PRODUCT out of what is published; its history and experiments stay."""
    from tulle.cli.connect import mesh_client
    from tulle.sdk.models import ModelClient

    with mesh_client(mesh) as client:
        commit = ModelClient(client).delete(product, name, environment=environment)
    click.echo(f"  {mark('succeeded')} model {name} is deleted by {commit[:12]}")


def _show_experiment(document: Mapping[str, Any]) -> None:
    """What a training tried, how good the best is, and what its features are worth."""
    rows = document["rows"]
    metric = document["metric"]
    click.echo()
    click.echo(
        f"  {document['tried']} models tried on {rows['train']:,} rows of {document['data_set']}, "
        f"judged on {rows['hold_out']:,} others"
    )
    table(document["leaderboard"], ["kind", "score", "tried"], empty="")
    click.echo()
    measured = [
        {
            "metric": name,
            "model": value,
            "without": document["baseline"].get(name),
            "": "◂" if name == metric else "",
        }
        for name, value in sorted(document["metrics"].items())
    ]
    table(measured, ["metric", "model", "without", ""], empty="")
    click.echo()
    table(document["importance"][:10], ["feature", "importance", "spread"], empty="")
    for warning in document.get("warnings", ()):
        click.echo(f"  {mark('warn')} {warning}")


def _metrics(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in sorted(metrics.items()))
