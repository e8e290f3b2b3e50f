"""Models of products: training one, listing and comparing them with their experiments, putting one behind a service.

Over HTTP below `/mesh/v1/models`. Knows runs and the lake, not how a model is found or what answers from it.
"""

from __future__ import annotations

import importlib.util
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from tulle.catalog.routes import Routes
from tulle.control.asking import AskedBy
from tulle.control.environments import branch_for_run
from tulle.control.workspace import Workspace
from tulle.errors import AlreadyExists, Conflict, Invalid, Unavailable
from tulle.lake.dag import run_branch
from tulle.pipeline import experiment, queue, run_end, worker
from tulle.pipeline.experiments_compared import as_plain as experiment_told
from tulle.pipeline.experiments_compared import compared
from tulle.pipeline.graph import load_code
from tulle.pipeline.record import read_record
from tulle.pipeline.saved_models import HOME, SavedModel, model_of, models_of
from tulle.pipeline.table import data_at
from tulle.pipeline.training import TRAIN, Training, read_training
from tulle.serving.declared import PredictSpec
from tulle.serving.forecast_declared import ForecastSpec
from tulle.serving.service import SERVICE_NAME, load_services
from tulle.spec.environment import production
from tulle.state import products

Environment = Annotated[str, Query(max_length=255)]
Name = Annotated[str, Field(max_length=255)]


class TrainBody(BaseModel):
    """What to train, on what, and how long to search."""

    model_config = ConfigDict(extra="forbid")

    data_set: Name
    target: Name
    features: list[Name] = Field(default=[], max_length=10_000)
    task: Literal["binary", "multiclass", "regression"] | None = None
    metric: Name | None = None
    seconds: float = 60.0
    hold_out: float = 0.2
    split_by: Name | None = None
    seed: int = Field(0, ge=0, le=2**31)
    environment: Name | None = None


class ServeBody(BaseModel):
    """Under which name a service of the model is declared."""

    model_config = ConfigDict(extra="forbid")

    service: Name | None = None


# ── what is done ─────────────────────────────────────────────────────────────────────────────────────────


def start_training(
    workspace: Workspace, product: str, asked: Training, environment: str | None = None
) -> str:
    """Start a training as a run; its id. Invalid or NotFound for what could only fail there."""
    products.applied_product(workspace.database, product)
    if importlib.util.find_spec("flaml") is None:
        hint = "pip install 'tulle[automl]'"
        raise Unavailable("the package 'flaml' is needed to train models and is not installed", hint=hint)
    spec = workspace.spec()
    branch = branch_for_run(workspace, product, environment or production(workspace.settings).name)
    load_code(spec.product(product), spec=spec).require_valid()
    repository = workspace.lake.repository(product)
    if data_at(repository, branch, asked.data_set) is None:
        raise Invalid(
            f"product '{product}' has published no data set '{asked.data_set}' on '{branch}'",
            hint=f"`tulle run {product}` publishes its data sets",
        )
    run_end.recover(workspace.database)
    options = {"only": TRAIN, TRAIN: asked.as_options()}
    run_id = queue.request(workspace.database, spec, product, environment=branch, options=options)
    worker.start(workspace.settings, run_id)
    return run_id


def services_of(workspace: Workspace, product: str, model: str) -> list[tuple[str, str]]:
    """The services that are declared to answer from a model, each with the endpoint that does."""
    return [
        (service.name, endpoint.name)
        for service in load_services(workspace.spec().product(product))
        for endpoint in service.endpoints
        if isinstance(endpoint, PredictSpec | ForecastSpec) and endpoint.model == model
    ]


def serve(workspace: Workspace, product: str, name: str, service: str | None = None) -> str:
    """Declare a service that answers from a model; the file that does. AlreadyExists when there is one of that name."""
    model = model_of(workspace.lake, product, name)
    kind = "forecast" if model.signature.series is not None else "predict"
    chosen = service or name.replace("_", "-")
    if not re.fullmatch(SERVICE_NAME, chosen):  # it becomes the name of a file
        raise Invalid(
            f"'{chosen[:100]}' is no name of a service",
            hint="--service NAME says one: 3 to 63 lower-case letters, digits and hyphens",
        )
    folder = workspace.spec().product(product).folder / "services"
    file = folder / f"{chosen}.yaml"
    declared = {one.name for owner in workspace.spec().products for one in load_services(owner)}
    if file.exists() or chosen in declared:
        raise AlreadyExists(f"there is a service '{chosen}' already", hint="say another name: --service NAME")
    text = (
        f"service: {chosen}\ndescription: Predictions of the model {name}.\n"
        f"endpoints:\n  - name: {name.replace('_', '-')}\n    type: {kind}\n    model: {name}\n"
    )
    folder.mkdir(exist_ok=True)
    file.write_text(text)
    try:
        load_services(workspace.spec().product(product))
    except Invalid:
        file.unlink()
        raise
    return str(file.relative_to(workspace.settings.folder))


def delete_model(workspace: Workspace, product: str, name: str, environment: str, by: str) -> str:
    """Take a model out of what is published; the commit that does. Conflict where a service names it."""
    model_of(workspace.lake, product, name, environment)
    named = services_of(workspace, product, name)
    if named:
        raise Conflict(
            f"service '{named[0][0]}' answers from model '{name}'",
            hint=f"take endpoint '{named[0][1]}' out of it first",
        )
    repository = workspace.lake.repository(product).acting_as(by)
    spec = workspace.spec()
    for job in load_code(spec.product(product), spec=spec).jobs:
        record = read_record(repository, environment, job.name)
        if record is not None and name in record.models:
            raise Conflict(
                f"model '{name}' is saved by {Path(job.file).name} in the runs of the product",
                hint="take `run.save_model` out of that file: the next run takes the model out of what is published",
            )
    branches = run_branch(repository, environment, f"delete-{secrets.token_hex(4)}", committer=by)
    draft = repository.draft(branches.branch)
    draft.delete_prefix(f"{HOME}{name}/")
    branches.land([draft], f"Delete model {name}")
    merged = branches.publish(f"Delete model {name}")
    branches.discard()
    return merged.commit.id


# ── what is told ─────────────────────────────────────────────────────────────────────────────────────────


def model_told(model: SavedModel) -> dict[str, Any]:
    """A model in short."""
    signature = model.signature
    return {
        "product": model.product,
        "environment": model.environment,
        "model": model.name,
        "task": signature.task,
        "estimator": signature.estimator,
        "form": signature.conversion.form,
        "metrics": dict(signature.metrics),
        "features": len(signature.features),
        "bytes": model.bytes,
        "changed_at": model.changed_at,
    }


def _all(workspace: Workspace, product: str | None, environment: str) -> Iterator[SavedModel]:
    known = [item.product.name for item in products.applied(workspace.database)]
    for name in known if product is None else [workspace.spec().product(product).name]:
        yield from models_of(workspace.lake, name, environment)


def router(workspace: Workspace) -> Routes:
    """The routes on one mesh."""
    api = Routes(prefix="/mesh/v1")
    database = workspace.database

    @api.get("/models")
    def list_models(product: str | None = None, environment: Environment = "main") -> dict[str, Any]:
        latest: dict[tuple[str, str], str] = {}
        for one in reversed(experiment.known(database, product)):
            latest[one.product, one.model] = one.id
        return {
            "models": [
                model_told(m) | {"experiment": latest.get((m.product, m.name))}
                for m in _all(workspace, product, environment)
            ]
        }

    @api.post("/models/{product}/{name}", status_code=202)
    def train(product: str, name: str, body: TrainBody) -> dict[str, Any]:
        said: Mapping[str, Any] = body.model_dump(exclude={"environment"})
        asked = read_training({**said, "model": name})
        return {"id": start_training(workspace, product, asked, body.environment)}

    @api.get("/models/{product}/{name}")
    def show(product: str, name: str, environment: Environment = "main") -> dict[str, Any]:
        model = model_of(workspace.lake, product, name, environment)
        return {
            **model_told(model),
            "signature": msgspec.to_builtins(model.signature),
            "files": list(model.files),
            "services": [
                {"service": service, "endpoint": endpoint}
                for service, endpoint in services_of(workspace, product, name)
            ],
            "experiments": [experiment_told(one) for one in experiment.known(database, product, name)],
        }

    @api.delete("/models/{product}/{name}")
    def delete(by: AskedBy, product: str, name: str, environment: Environment = "main") -> dict[str, Any]:
        return {"commit": delete_model(workspace, product, name, environment, by)}

    @api.post("/models/{product}/{name}/service", status_code=201)
    def declare(product: str, name: str, body: ServeBody) -> dict[str, Any]:
        return {"file": serve(workspace, product, name, body.service)}

    @api.get("/experiments/compare")
    def compare(id_: Annotated[list[Name], Query(alias="id", max_length=100)]) -> dict[str, Any]:
        """Two or more experiments beside one another; `id` is given once for each."""
        return compared([experiment.get(database, one) for one in id_])

    @api.get("/experiments/{experiment_id}")
    def show_experiment(experiment_id: str) -> dict[str, Any]:
        return experiment_told(experiment.get(database, experiment_id), whole=True)

    return api
