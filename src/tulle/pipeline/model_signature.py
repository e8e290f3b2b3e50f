"""What a saved model takes and gives: enough to check a request, and to load the form that answers.

Light to import: the serving process needs this and not the code that saves models.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from tulle.errors import Broken, TulleError
from tulle.pipeline.model_score import NativeScorer, OnnxScorer, Scorer, optional

MODEL, ONNX, SIGNATURE, SAMPLE = "model.joblib", "model.onnx", "signature.json", "sample.parquet"
CODE, FILES = "code", "files"  # folders: code of the product that the model needs, files it reads

Task = Literal["binary", "multiclass", "regression", "clustering", "effect", "forecast"]
Class = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Feature:
    """One input of a model, as it was in the sample: ranges and categories are what was seen, not a limit."""

    name: str
    type: str  # a mesh column type: string, integer, double, decimal(p,s), boolean, date, timestamp
    nullable: bool  # the sample had nulls and the model accepted them; else a null is refused
    minimum: int | float | str | None = None
    maximum: int | float | str | None = None
    categories: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Conversion:
    """Which form answers, and how the ONNX form compared with the native one on `rows` rows of the sample.

    `onnx` answers only if every predicted class is the same and no probability differs by more than
    `tolerance` (regression: no number by more than `tolerance` times its size, or times 1 if that is more).
    """

    form: Literal["onnx", "native"]
    rows: int = 0
    tolerance: float | None = None
    input: Literal["double", "float"] | None = None
    max_difference: float | None = None
    reason: str | None = None  # why the native form answers


@dataclass(frozen=True, slots=True)
class Series:
    """What a model that forecasts takes and gives: the names of columns, how far ahead, in which steps."""

    time: str
    target: str
    identifiers: tuple[str, ...]  # what tells series apart
    externals: tuple[str, ...]  # what is known ahead
    horizon: int
    step: str  # such as `1 day`
    quantiles: tuple[float, ...]
    least: int = 1  # rows of the past that it needs


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model takes and gives; enough to validate a request without loading the model."""

    name: str
    task: Task
    estimator: str
    features: tuple[Feature, ...]
    classes: tuple[Class, ...]  # in the order of the probabilities; empty for a regression
    class_type: str | None  # mesh type of the classes
    has_probabilities: bool
    argmax: bool  # the predicted class is always the most probable one
    percentiles: tuple[float, ...]  # binary: 1st to 99th of the second class's probability; of an effect
    frame: bool  # the native form needs column names
    conversion: Conversion
    sample_rows: int
    metrics: Mapping[str, float]
    baseline: Mapping[str, float] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()  # further ones, beside the model
    clusters: tuple[Class, ...] = ()  # of a clustering: their names
    has_distances: bool = False  # of a clustering: it tells how far a row is from each
    series: Series | None = None  # of a forecast
    format: int = 1

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the features in the order the model takes them."""
        return tuple(feature.name for feature in self.features)


def read_signature(data: bytes) -> Signature:
    """The signature in the bytes of a signature.json; raises Broken when they are not one."""
    try:
        return msgspec.json.decode(data, type=Signature)
    except msgspec.MsgspecError as exc:
        raise Broken(f"the model's {SIGNATURE} cannot be read: {exc}", hint="run the model again") from exc


def load_scorer(folder: Path, signature: Signature) -> Scorer:
    """The form of the model that answers, loaded from its folder; Broken when it cannot be.

    Loading a native model executes code from its file: do so only in a process made for it.
    """
    if signature.conversion.form == "onnx":
        try:
            least = [feature.minimum for feature in signature.features]
            return OnnxScorer(
                (folder / ONNX).read_bytes(),
                double=signature.conversion.input == "double",
                example=[one if isinstance(one, int | float) else 0.0 for one in least],
            )
        except TulleError:
            raise
        except Exception as exc:
            raise _not_loaded(signature, exc) from exc
    features = signature.features
    return NativeScorer(
        load_model(folder, signature),
        [feature.name for feature in features],
        [feature.type for feature in features],
        frame=signature.frame,
    )


def load_model(folder: Path, signature: Signature) -> Any:
    """The model itself, as it was saved; Broken when it cannot be loaded. Executes code from its file."""
    try:
        if any(file.startswith(f"{CODE}/") for file in signature.files):
            sys.path.insert(0, str(folder / CODE))
        estimator = optional("joblib").load(folder / MODEL)
        if hasattr(estimator, "made_by"):
            estimator.open(folder / FILES)
    except TulleError:
        raise
    except Exception as exc:
        raise _not_loaded(signature, exc) from exc
    return estimator


def _not_loaded(signature: Signature, exc: Exception) -> Broken:
    """Whatever a damaged file or another version of a library raises, told."""
    saved = ", ".join(f"{name} {version}" for name, version in signature.libraries.items())
    return Broken(
        f"model '{signature.name}' cannot be loaded: {type(exc).__name__}: {exc}",
        hint=f"it was saved with {saved}; run the model again with what is installed here",
    )
