"""Models that MLflow keeps: by their address in a registry or a run, or as files, turned into what is saved here.

A model of a flavour that is known otherwise (scikit-learn, XGBoost, LightGBM, ONNX, PyTorch) is taken out of its
wrapping and saved as itself, with its fast form; every other one is saved with its files, and served by MLflow in a
process of its own. The one place that knows MLflow.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tulle.errors import Invalid, NotFound, Unavailable
from tulle.pipeline.model_score import optional

_KNOWN = {"sklearn", "xgboost", "lightgbm", "onnx", "torch"}  # the libraries of what is taken out


class MlflowPredictor:
    """A model that MLflow serves, made anew in every process from its files."""

    def __init__(self, folder: str | None = None) -> None:
        if folder is None:
            raise Invalid(
                "the files of the MLflow model are missing", hint="save what `run.mlflow_model` gave"
            )
        self._model = _quietly(lambda mlflow: mlflow.pyfunc.load_model(folder))

    def predict(self, features: Any) -> Any:
        """What the model says of a DataFrame."""
        return self._model.predict(features)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A model that was fetched: what is to be saved of it, and its files where it is MLflow's to serve."""

    model: Any
    files: Path | None
    version: str  # the address it was fetched by


def fetch(address: str, *, folder: Path, tracking: str | None = None, registry: str | None = None) -> Fetched:
    """A model of MLflow: `models:/churn/3`, `models:/churn@champion`, `runs:/<run>/model`, or a folder.

    `tracking` and `registry` say where MLflow keeps things, such as `sqlite:////data/mlflow.db`; without them it is as
    its environment says. NotFound, or Unavailable where MLflow is not installed or cannot be reached.
    """
    mlflow = optional("mlflow")
    if tracking is not None:
        mlflow.set_tracking_uri(tracking)
    if registry is not None:
        mlflow.set_registry_uri(registry)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        local = Path(
            _quietly(
                lambda m: m.artifacts.download_artifacts(artifact_uri=_address(address), dst_path=str(folder))
            )
        )
        model = _quietly(lambda m: m.pyfunc.load_model(str(local)))
    except (mlflow.exceptions.MlflowException, OSError) as exc:
        what = str(exc).strip().partition("\n")[0][:300]
        kind: type[NotFound] | type[Unavailable] = NotFound
        if "max retries" in what.lower() or "failed to connect" in what.lower():
            kind = Unavailable
        raise kind(f"MLflow has no model '{address}' to give: {what}", hint=_HINT) from exc
    except ImportError as exc:
        raise Unavailable(
            f"the MLflow model '{address}' needs a package that is not installed: {exc}",
            hint="install what its requirements.txt names beside Tulle",
        ) from exc
    raw = _raw(model)
    root = type(raw).__module__.partition(".")[0]
    roots = {one.__module__.partition(".")[0] for one in type(raw).__mro__}
    if raw is not None and (root in _KNOWN or roots & _KNOWN):
        return Fetched(raw, None, address)
    return Fetched(MlflowPredictor, local, address)


_HINT = "models:/NAME/VERSION, models:/NAME@ALIAS, runs:/RUN/PATH or a folder; `tracking=` says where MLflow keeps it"


def _address(address: str) -> str:
    """An address of MLflow's; a path as a file's."""
    if "://" in address or address.startswith(("models:/", "runs:/", "mlflow-artifacts:/")):
        return address
    return Path(address).resolve().as_uri()


def _raw(model: Any) -> Any:
    try:
        return model.get_raw_model()
    except Exception:  # noqa: BLE001  MLflow says in many ways that there is none
        return None


def _quietly(work: Any) -> Any:
    """What MLflow gives, without its warnings and its look at who uses it."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    optional("mlflow.pyfunc")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return work(optional("mlflow"))
