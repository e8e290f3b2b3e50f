"""Saving a trained model with everything that is needed to serve it, once it has passed its quality gate.

A saved model is a folder:

    model.joblib     the estimator itself
    model.onnx       its ONNX form, only when that gives the same answers (`model_onnx`)
    signature.json   task, classes, features with types and ranges, metrics, versions (`model_signature`)
    sample.parquet   up to 1,000 rows of the features, for examples and warm-up
    code/, files/    of a class of the product's own: the shared files it is written in, and what it reads

The bytes depend on the model and the sample alone, so saving an equal model again changes nothing in a lake.
Runs inside the run process: it trusts the estimator. Knows nothing of the lake, runs or requests.
"""

from __future__ import annotations

import platform
import re
import shutil
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tulle.errors import Invalid
from tulle.pipeline.model_booster import booster_model
from tulle.pipeline.model_gate import gate
from tulle.pipeline.model_given import Activation, check_shares, given_model, is_given
from tulle.pipeline.model_onnx import convert
from tulle.pipeline.model_own import OwnModel, code_of, is_own, own_model, write_code, write_files
from tulle.pipeline.model_sample import (
    feature_of,
    feature_order,
    feature_table,
    feature_type,
    matrix_of,
    spread,
)
from tulle.pipeline.model_score import Matrix, NativeScorer, OnnxScorer, is_numeric, optional
from tulle.pipeline.model_signature import (
    CODE,
    FILES,
    MODEL,
    ONNX,
    SAMPLE,
    SIGNATURE,
    Class,
    Conversion,
    Signature,
    Task,
)

SAMPLE_ROWS = 1000
TOLERANCE = 1e-5
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A saved model: its folder, the names of its files, and its signature."""

    name: str
    folder: Path
    files: tuple[str, ...]
    signature: Signature


def save_model(
    folder: Path,
    name: str,
    model: Any,
    *,
    features: Sequence[str],
    sample: Any,
    metrics: Mapping[str, float],
    baseline: Mapping[str, float] | None = None,
    classes: Sequence[Class] | None = None,
    activation: Activation | None = None,
    files: Path | str | None = None,
) -> ModelFile:
    """Write the model's files into `folder` (made if missing; the folder is the model, `models/<name>`).

    `model` is a fitted estimator as scikit-learn's are (also of XGBoost or LightGBM), a booster of these two, an
    ONNX model (a path, bytes or object), a PyTorch module, what estimates the effect of a treatment (with `effect`),
    or a predictor of the product's own (`model_own`), which may come with a folder of `files`. `classes` names the
    classes where the model does not know them, or the clusters of a clustering; `activation` turns a network's last
    numbers into probabilities.

    `sample` is a pyarrow Table or pandas DataFrame that has the features (other columns are left out); `metrics` are
    measured qualities. A metric that is worse than the same one in `baseline` raises Invalid and writes nothing:
    higher is better, except for names ending in loss, error, mae, mse, rmse, mape, brier or brier_score.

    Null features: where the sample has nulls and the model predicts them, a null is later passed as NaN;
    for all other features it is refused. Raises Invalid for everything the caller can mend.
    """
    checked_name(name)
    files = None if files is None else Path(files)
    estimator = _estimator(name, model, features, sample, classes, activation, files)
    table = feature_table(sample, feature_order(estimator, features), name)
    measured, stated = gate(name, metrics, baseline or {})
    scorer, rows = _native(name, estimator, table, sample)
    labels = scorer.labels(rows)
    clusters = _clusters(name, estimator, labels, classes)
    known = () if clusters else _classes(name, estimator)
    probabilities = scorer.probabilities(rows) if scorer.has_numbers and (known or clusters) else None
    if probabilities is not None and clusters and not _are_distances(scorer, probabilities, len(clusters)):
        probabilities = None  # how far it is to something else, such as the parts of a cluster
    if known and probabilities is not None and is_given(model):
        check_shares(name, probabilities, known)
    argmax = probabilities is not None and _agree(
        known or clusters, probabilities, labels, nearest=bool(clusters)
    )
    onnx, conversion = _converted(
        estimator, scorer, rows, labels, probabilities, argmax, bool(known or clusters), bool(clusters)
    )
    signature = Signature(
        name=name,
        task=_task(known, estimator, has_clusters=bool(clusters)),
        estimator=_estimator_name(estimator),
        features=tuple(feature_of(table.column(column), column) for column in table.column_names),
        classes=known,
        class_type=_class_type(known or (tuple(classes or clusters) if clusters else ())),
        has_probabilities=probabilities is not None and not clusters,
        argmax=argmax,
        percentiles=_percentiles(
            known,
            _as_answered(onnx, conversion, rows, probabilities),
            labels if isinstance(estimator, EffectModel) else None,
        ),
        frame=scorer.frame,
        conversion=conversion,
        sample_rows=min(SAMPLE_ROWS, table.num_rows),
        metrics=measured,
        baseline=stated,
        libraries=libraries(estimator, frame=scorer.frame, onnx=onnx is not None),
        clusters=tuple(classes or clusters) if clusters else (),
        has_distances=bool(clusters) and probabilities is not None,
    )
    return write_model(folder, name, estimator, onnx, signature, table, files)


def checked_name(name: str) -> None:
    """Refuse what cannot be the name of a model."""
    if not _NAME.fullmatch(name):
        raise Invalid(f"the model name '{name}' must be snake_case, like 'high_value'")


def _estimator(
    name: str,
    model: Any,
    features: Sequence[str],
    sample: Any,
    classes: Sequence[Class] | None,
    activation: Activation | None,
    files: Path | None,
) -> Any:
    """Whatever is to be saved as something with the methods of an estimator."""
    if is_given(model):
        return given_model(name, model, features=len(features), classes=classes, activation=activation)
    if activation is not None:
        raise Invalid(f"model '{name}' is no network: `activation` is for models in ONNX")
    if type(model).__name__ == "Booster" and type(model).__module__.partition(".")[0] in {
        "xgboost",
        "lightgbm",
    }:
        return booster_model(name, model, classes)
    if hasattr(model, "effect") and not hasattr(model, "predict"):
        return EffectModel(model)
    if is_own(model):
        table = spread(feature_table(sample, features, name), 32)
        rows = [tuple(row.values()) for row in table.to_pylist()]
        types = [feature_type(column.name, column.type) for column in table.schema]

        def given(form: str) -> Any:
            return NativeScorer(_Takes(form), table.column_names, types, frame=True).input_of(rows)

        return own_model(name, model, classes, files, given)
    if not hasattr(model, "predict"):
        raise Invalid(
            f"model '{name}' is a {type(model).__name__}, which has no predict",
            hint="pass a fitted estimator, a booster, an ONNX file, a PyTorch module, or a predictor of your own",
        )
    return model


class EffectModel:
    """A model of what a treatment changes, as an estimator: the effect is what it predicts."""

    def __init__(self, model: Any) -> None:
        self.model = model
        for name in ("feature_names_in_", "n_features_in_"):
            if hasattr(model, name):
                setattr(self, name, getattr(model, name))

    def predict(self, rows: Any) -> Matrix:
        """The effect on each row."""
        found = np.asarray(self.model.effect(rows), dtype=np.float64)
        if found.size != len(rows):
            raise Invalid(
                f"effect gave {found.size} numbers for {len(rows)} rows: one treatment is supported"
            )
        return found.reshape(-1)


@dataclass(frozen=True, slots=True)
class _Takes:
    takes: str


def _converted(
    estimator: Any,
    scorer: NativeScorer,
    rows: Any,
    labels: Matrix,
    probabilities: Matrix | None,
    argmax: bool,
    has_classes: bool,
    nearest: bool,
) -> tuple[bytes | None, Conversion]:
    """The fast form where it answers the same, and what came of trying."""
    if isinstance(estimator, OwnModel):
        return None, Conversion("native", reason="a class of the product's own runs as it is")
    if isinstance(estimator, EffectModel):
        return None, Conversion("native", reason="a model of effects runs as it is")
    if scorer.frame:
        return None, Conversion("native", reason="ONNX takes numbers only; the model needs named columns")
    if probabilities is not None and not argmax:
        reason = "the predicted class is not always the most probable one"
        return None, Conversion("native", reason=reason)
    if probabilities is None and has_classes:
        what = "the clustering tells no distances" if nearest else "the classifier gives no probabilities"
        return None, Conversion("native", reason=what)
    matrix = np.asarray(rows)
    return convert(
        estimator, matrix, labels=labels, probabilities=probabilities, tolerance=TOLERANCE, nearest=nearest
    )


# ── the estimator ────────────────────────────────────────────────────────────────────────────────────────


def _native(name: str, estimator: Any, table: pa.Table, sample: Any) -> tuple[NativeScorer, Any]:
    """The scorer of the native form and the sample's rows as it takes them."""
    types = [feature_type(column.name, column.type) for column in table.schema]
    is_matrix = all(is_numeric(kind) for kind in types) and not isinstance(estimator, OwnModel)
    failure: Exception | None = None
    for frame in (False, True) if is_matrix else (True,):
        # Only where it is needed: as values of Python a sample takes ten times the room.
        rows = [tuple(row.values()) for row in table.to_pylist()] if frame else matrix_of(table)
        scorer = NativeScorer(estimator, table.column_names, types, frame=frame)
        try:
            labels = scorer.labels(rows)
        except Exception as exc:  # noqa: BLE001  any estimator, any failure: reported below
            failure = failure or exc
            continue
        if len(labels) != len(rows):
            count = len(labels) / len(rows)
            raise Invalid(f"model '{name}' gives {count:g} answers for each row; one target is supported")
        if not isinstance(estimator, OwnModel):
            _same_as_given(name, estimator, sample, table.column_names, labels)
        return scorer, rows
    raise Invalid(
        f"model '{name}' cannot predict the rows of its own sample: {failure}",
        hint="pass the sample as the model was trained with it; impute nulls inside the model",
    ) from failure


def _same_as_given(name: str, estimator: Any, sample: Any, features: Sequence[str], labels: Matrix) -> None:
    """Refuse a model that answers differently on the sample as given than on what a request can carry."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            given = sample.select(features) if isinstance(sample, pa.Table) else sample[list(features)]
            expected = np.asarray(estimator.predict(given)).reshape(-1)
    except Exception:  # noqa: BLE001  not every estimator takes every kind of table: nothing to compare
        return
    different = int(np.sum(expected != labels)) if expected.dtype.kind not in "fc" else 0
    if expected.dtype.kind == "f":
        different = int(np.sum(~np.isclose(expected, labels, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)))
    if different:
        raise Invalid(
            f"model '{name}' answers {different} of {len(labels)} rows differently when its features are "
            "sent as JSON values",
            hint="train it on plain numbers and text instead of categorical or special column types",
        )


def _classes(name: str, estimator: Any) -> tuple[Class, ...]:
    found = getattr(estimator, "classes_", None)
    if found is None:
        return ()
    if isinstance(found, list):
        raise Invalid(f"model '{name}' predicts {len(found)} targets at once; one is supported")
    classes = tuple(value.item() if hasattr(value, "item") else value for value in found)
    if len(classes) < 2 or not all(isinstance(value, str | int | float | bool) for value in classes):
        raise Invalid(f"model '{name}' has the classes {classes}; expected two or more texts or numbers")
    return classes


def _clusters(name: str, estimator: Any, labels: Matrix, names: Sequence[Class] | None) -> tuple[int, ...]:
    """The numbers of the clusters of a clustering; empty for all other models."""
    if not _is_clusterer(estimator):
        return ()
    if labels.min() < 0:
        raise Invalid(
            f"model '{name}' puts rows into the cluster {int(labels.min())}, which is none",
            hint="put it into a class of your own that names what belongs to no cluster",
        )
    said = [getattr(_last(estimator), word, None) for word in ("n_clusters", "n_components")]
    count = max(int(labels.max()) + 1, *(one for one in said if isinstance(one, int)), 0)
    if names is not None and len(names) != count:
        raise Invalid(f"model '{name}' has {count} clusters, `classes` names {len(names)}")
    return tuple(range(count))


def _are_distances(scorer: NativeScorer, numbers: Matrix, clusters: int) -> bool:
    return scorer.has_distances and numbers.ndim == 2 and numbers.shape[1] == clusters


def _is_clusterer(estimator: Any) -> bool:
    kind = getattr(_last(estimator), "_estimator_type", None)
    if kind is None and hasattr(estimator, "__sklearn_tags__"):
        kind = getattr(_last(estimator).__sklearn_tags__(), "estimator_type", None)
    # A mixture says to which of its parts a row belongs, which is the same.
    return kind == "clusterer" or (kind == "density_estimator" and hasattr(_last(estimator), "n_components"))


def _last(estimator: Any) -> Any:
    steps = getattr(estimator, "steps", None)
    return steps[-1][1] if steps else estimator


def _task(classes: tuple[Class, ...], estimator: Any, *, has_clusters: bool) -> Task:
    if has_clusters:
        return "clustering"
    if isinstance(estimator, EffectModel):
        return "effect"
    if not classes:
        return "regression"
    return "binary" if len(classes) == 2 else "multiclass"


def _class_type(classes: tuple[Class, ...]) -> str | None:
    if not classes:
        return None
    return {bool: "boolean", int: "integer", float: "double", str: "string"}[type(classes[0])]


def _agree(classes: tuple[Class, ...], numbers: Matrix, labels: Matrix, *, nearest: bool) -> bool:
    """Whether the label is always that of the greatest number: of the smallest where they are distances."""
    chosen = numbers.argmin(axis=1) if nearest else numbers.argmax(axis=1)
    return bool(np.all(np.asarray(classes)[chosen] == labels))


def _as_answered(
    onnx: bytes | None, conversion: Conversion, rows: Any, probabilities: Matrix | None
) -> Matrix | None:
    """The probabilities of the sample in the form that answers.

    Trees give many rows the same, and what is off by a last digit would be below all of those that it equals.
    """
    if onnx is None or probabilities is None:
        return probabilities
    matrix = np.asarray(rows)
    scorer = OnnxScorer(onnx, double=conversion.input == "double", example=matrix[0])
    return scorer.probabilities(matrix).astype(np.float64)


def _percentiles(
    classes: tuple[Class, ...], probabilities: Matrix | None, effects: Matrix | None
) -> tuple[float, ...]:
    if effects is not None:
        return tuple(float(q) for q in np.quantile(effects, np.arange(1, 100) / 100))
    if len(classes) != 2 or probabilities is None:
        return ()
    return tuple(float(q) for q in np.quantile(probabilities[:, 1], np.arange(1, 100) / 100))


def _estimator_name(estimator: Any) -> str:
    if isinstance(estimator, EffectModel):
        return type(estimator.model).__name__
    if isinstance(estimator, OwnModel):
        return type(estimator.predictor).__name__
    steps = getattr(estimator, "steps", None)
    if steps:
        return f"{type(estimator).__name__}({', '.join(type(step).__name__ for _, step in steps)})"
    return type(estimator).__name__


def libraries(estimator: Any, *, frame: bool, onnx: bool) -> dict[str, str]:
    """The libraries that a model needs, with their versions."""
    packages = ["scikit-learn", "numpy", "joblib"]
    packages += ["pandas"] if frame else []
    packages += ["onnx", "onnxruntime", "skl2onnx"] if onnx else []
    found = {"python": platform.python_version()} | {p: metadata.version(p) for p in packages}
    booster = getattr(_last(estimator), "own_booster", _last(estimator))
    root = type(booster).__module__.partition(".")[0]
    if root not in {"sklearn", "tulle", "numpy"} and hasattr(sys.modules.get(root), "__version__"):
        found[root] = str(sys.modules[root].__version__)
    return found


# ── the files ────────────────────────────────────────────────────────────────────────────────────────────


def write_model(
    folder: Path,
    name: str,
    estimator: Any,
    onnx: bytes | None,
    signature: Signature,
    table: pa.Table,
    given: Path | None,
) -> ModelFile:
    """Write the files of a model into its folder. Invalid for one that services could not load."""
    joblib = optional("joblib")
    code = code_of(name, estimator)
    folder.mkdir(parents=True, exist_ok=True)
    for part in (CODE, FILES):
        shutil.rmtree(folder / part, ignore_errors=True)
    more = write_code(folder, code) + (write_files(name, folder, given) if given is not None else [])
    signature = replace(signature, files=tuple(more))
    joblib.dump(estimator, folder / MODEL)
    (folder / ONNX).unlink(missing_ok=True)
    if onnx is not None:
        (folder / ONNX).write_bytes(onnx)
    text = msgspec.json.format(msgspec.json.encode(signature, order="sorted"), indent=2)
    (folder / SIGNATURE).write_bytes(text + b"\n")
    pq.write_table(spread(table, SAMPLE_ROWS), folder / SAMPLE, compression="zstd")
    files = (MODEL, *([ONNX] if onnx is not None else []), SIGNATURE, SAMPLE, *more)
    return ModelFile(name, folder, files, signature)
