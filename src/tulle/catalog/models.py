"""The models of a product as their pages show them: how good, of which data, what answers from them.

Shows no value of a row: features by name and type, metrics, curves, and what a feature is worth.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tulle.catalog.known import KnownProducts
from tulle.catalog.model_charts import Chart, charts_of
from tulle.errors import TulleError
from tulle.lake.repository import Lake
from tulle.pipeline import experiment
from tulle.pipeline.experiment import Experiment
from tulle.pipeline.saved_models import HOME, SavedModel, model_of, models_of
from tulle.serving.declared import PredictSpec
from tulle.serving.forecast_declared import ForecastSpec
from tulle.spec.product import DataProduct
from tulle.state import products
from tulle.state.db import Database


@dataclass(frozen=True, slots=True)
class MetricView:
    """A metric: of the model, and of no model at all where that was measured."""

    name: str
    value: float
    without: float | None
    is_main: bool


@dataclass(frozen=True, slots=True)
class FeatureView:
    """A feature, and how much the metric gets worse when it is shuffled; `share` of the greatest, 0 to 100."""

    name: str
    type: str
    nullable: bool
    importance: float | None = None
    spread: float | None = None
    share: float = 0.0


@dataclass(frozen=True, slots=True)
class ModelPage:
    """What the page of a model shows."""

    product: DataProduct
    model: SavedModel
    metrics: tuple[MetricView, ...]
    features: tuple[FeatureView, ...]
    charts: tuple[Chart, ...]
    document: Mapping[str, Any]  # of the experiment that made it; empty where a run of the product saved it
    made_by: Experiment | None  # that one
    experiments: tuple[Experiment, ...]  # all that ever made one of its name, in any environment
    services: tuple[tuple[str, str], ...]  # with the endpoint


@dataclass(frozen=True, slots=True)
class ModelsPage:
    """The models of a product."""

    product: DataProduct
    models: tuple[SavedModel, ...]


class ModelReader:
    """Answers questions about models. Safe to share between threads."""

    def __init__(self, database: Database, lake: Lake, known: KnownProducts) -> None:
        self._database, self._lake, self._known = database, lake, known

    def models(self, product: str) -> ModelsPage:
        """The models that a product has published. NotFound with the nearest name."""
        owner = products.applied_product(self._database, product).product
        return ModelsPage(owner, tuple(models_of(self._lake, product)))

    def model(self, product: str, name: str, hidden: Collection[str] = ()) -> ModelPage:
        """One model, with the services that answer from it but for `hidden` ones. NotFound with the nearest name."""
        owner = products.applied_product(self._database, product).product
        model = model_of(self._lake, product, name)
        experiments = experiment.known(self._database, product, name)
        made_by = self._made_by(model, experiments)
        document = made_by.document if made_by is not None else {}
        baseline = document.get("baseline") or model.signature.baseline
        main = document.get("metric", "")
        return ModelPage(
            product=owner,
            model=model,
            metrics=tuple(
                MetricView(metric, value, baseline.get(metric), metric == main)
                for metric, value in sorted(model.signature.metrics.items())
            ),
            features=_features(model, document),
            charts=charts_of(document.get("curves") or {}),
            document=document,
            made_by=made_by,
            experiments=experiments,
            services=tuple(
                (service.name, endpoint.name)
                for service in self._known.services(owner)[0]
                for endpoint in service.endpoints
                if isinstance(endpoint, PredictSpec | ForecastSpec) and endpoint.model == name
                if service.name not in hidden
            ),
        )

    def _made_by(self, model: SavedModel, experiments: Sequence[Experiment]) -> Experiment | None:
        """The experiment that published the model: a newer one may have been for another environment."""
        if experiment.FILE not in model.files:
            return None
        path = f"{HOME}{model.name}/{experiment.FILE}"
        try:
            said = json.loads(self._lake.repository(model.product).get(model.environment, path))
        except (TulleError, ValueError):  # taken away meanwhile, or put there by hand
            return None
        run = said.get("run") if isinstance(said, dict) else None
        return next((one for one in experiments if one.id == run), None)


def _features(model: SavedModel, document: Mapping[str, Any]) -> tuple[FeatureView, ...]:
    """The features, those that are worth most first."""
    worth = {one["feature"]: one for one in document.get("importance") or ()}
    greatest = max((one["importance"] for one in worth.values()), default=0.0)
    found = []
    for feature in model.signature.features:
        one = worth.get(feature.name)
        if one is None:
            found.append(FeatureView(feature.name, feature.type, feature.nullable))
            continue
        share = max(0.0, 100 * one["importance"] / greatest) if greatest > 0 else 0.0
        found.append(
            FeatureView(
                feature.name,
                feature.type,
                feature.nullable,
                one["importance"],
                one["spread"],
                round(share, 1),
            )
        )
    return tuple(sorted(found, key=lambda one: -(one.importance or 0.0)))
