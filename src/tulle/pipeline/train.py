"""Training a model on what is published, as a run of its own: read, search, judge on rows it has not seen, publish.

It is a run like any other (in a process of its own, within its warehouse, to be stopped and looked at). Consumers see
the model when all of it is there, in one commit, with the experiment that made it; one that is worse than no model at
all is refused, and nothing is published.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection

from tulle.engine.engine import Engine, quoted
from tulle.errors import Conflict, Invalid, NotFound, did_you_mean
from tulle.lake.dag import run_branch
from tulle.lake.entry import Commit
from tulle.lake.repository import Repository
from tulle.pipeline import experiment, model_report, run_end, step_record
from tulle.pipeline import run as runs
from tulle.pipeline.automl import Found, kinds_told, search
from tulle.pipeline.carry import log_line
from tulle.pipeline.graph import ProductCode
from tulle.pipeline.model_file import ModelFile, save_model
from tulle.pipeline.model_gate import is_lower_better
from tulle.pipeline.model_sample import mesh_type
from tulle.pipeline.model_score import Matrix, is_numeric, optional
from tulle.pipeline.record import read_record
from tulle.pipeline.run import Metric, Report, Run
from tulle.pipeline.table import data_at
from tulle.pipeline.training import (
    TRAIN,
    USUAL_METRIC,
    Task,
    Training,
    check_metric,
    column_of,
    read_training,
)
from tulle.pipeline.watchdog import Watchdog
from tulle.state.db import Database

PUBLISH = "publish"
LEAST_ROWS = 20
MOST_CLASSES = 50
FEW_VALUES = 20  # whole numbers of which there are no more are classes
PERFECT = 0.001  # what is nearer to perfect than that is not believed
MOST_TEXTS = 30  # of a text feature: the rarer ones are one together


def train(
    database: Database,
    code: ProductCode,
    repository: Repository,
    engine: Engine,
    run: Run,
    watchdog: Watchdog,
    *,
    folder: Path,
    threads: int,
) -> None:
    """Carry out the training that a run's option `train` asks for."""
    asked = read_training(run.options.get(TRAIN) or {})
    branches = run_branch(repository, run.environment, run.id)
    steps = [(TRAIN, TRAIN), (PUBLISH, PUBLISH)]
    step_record.begin(database, run.id, branch=branches.branch, base_commit=branches.base, steps=steps)
    _nobody_elses(code, repository, branches.base, asked.model)
    step_record.step_started(database, run, TRAIN, branch=branches.branch)
    data = data_at(repository, branches.base, asked.data_set)
    if data is None:
        known = [job.name for job in code.jobs]
        hint = did_you_mean(asked.data_set, known) or f"`tulle run {run.product}` publishes its data"
        raise NotFound(f"product '{run.product}' has published no data set '{asked.data_set}'", hint=hint)
    table = engine.query(f"SELECT * FROM {quoted(asked.data_set)}", [data.relation])  # noqa: S608
    made = _Made(asked, table, _never_features(code, asked.data_set), threads)
    saved = made.saved(folder / "models" / asked.model)
    document = made.document(saved) | {
        "product": run.product,
        "environment": run.environment,
        "run": run.id,
        "data_commit": branches.base,
        "data_identity": data.identity,
        "code_version": code.digest,
    }
    metrics = tuple(Metric(name, value) for name, value in sorted(made.metrics.items()))
    step_record.step_finished(
        database, run, TRAIN, runs.SUCCEEDED, rows=table.num_rows, report=Report(metrics=metrics)
    )
    (saved.folder / experiment.FILE).write_text(json.dumps(document, indent=1, sort_keys=True))
    draft = repository.draft(branches.branch)
    draft.delete_prefix(f"models/{asked.model}/")
    names = [*saved.files, experiment.FILE]
    draft.put_many([(f"models/{asked.model}/{name}", saved.folder / name) for name in names])
    branches.land([draft], f"Train model {asked.model}")
    step_record.step_started(database, run, PUBLISH, branch=run.environment)

    def end(cx: Connection, commit: Commit) -> None:
        run_end.publishes(cx, run, commit.id, f"model {asked.model} as {commit.id[:12]}")
        experiment.record(cx, run.id, run.product, run.environment, commit.id, document)

    with watchdog.publishing:
        merged = branches.publish(
            f"Run {run.id}: model {asked.model}",
            metadata={"run": run.id, "code": code.digest, "base": branches.base, "model": asked.model},
            also=end,
        )
        watchdog.disarm()
    log_line(f"published as {merged.commit.id}")
    branches.discard()


def _nobody_elses(code: ProductCode, repository: Repository, commit: str, model: str) -> None:
    """Refuse a name under which a Python model of the product saves: each run would put its own there."""
    for job in code.jobs:
        record = read_record(repository, commit, job.name)
        if record is not None and model in record.models:
            raise Conflict(
                f"model '{model}' is saved by {Path(job.file).name} in every run of the product",
                hint="train under another name, or take `run.save_model` out of that file",
            )


def _never_features(code: ProductCode, data_set: str) -> set[str]:
    """The columns that are no features unless they are named: keys, and what tells who somebody is."""
    declared = next((one for one in code.product.data_sets if one.name == data_set), None)
    columns = declared.columns if declared else ()
    return {column.name for column in columns if column.key or column.pii == "direct"}


class _Made:
    """The rows as they are trained on, the model that was found, and what is measured of it."""

    def __init__(self, asked: Training, table: pa.Table, never: set[str], threads: int) -> None:
        begun = time.monotonic()
        self.asked = asked
        column_of(asked.target, table.column_names, asked.data_set)
        given = table.num_rows
        table = table.filter(_is_known(table.column(asked.target)))
        self.rows = {"given": given, "without_target": given - table.num_rows}
        if table.num_rows < LEAST_ROWS:
            raise Invalid(
                f"{table.num_rows} rows of '{asked.data_set}' have a '{asked.target}', too few to learn from",
                hint=f"at least {LEAST_ROWS} are needed",
            )
        self.features = _features(asked, table, never)
        self.types = {name: str(mesh_type(table.column(name).type)) for name in self.features}
        target = _target(table.column(asked.target))
        self.task = asked.task or _task(target)
        target = _fitting(target, self.task, asked.target)
        self.metric = asked.metric or USUAL_METRIC[self.task]
        check_metric(self.metric, self.task)
        train, kept = _split(asked, table, target, self.task)
        self.rows |= {"train": len(train), "hold_out": len(kept)}
        self.sample = table.take(pa.array(kept)).select(self.features)
        seen, unseen = self._given(table, train), self._given(table, kept)
        log_line(f"{self.task} of '{asked.target}' from {len(self.features)} features: {self.rows}")
        self.found, self.estimator = self._searched(seen, target[train], threads)
        truth = target[kept]
        self.metrics = model_report.measured(self.task, self.estimator, unseen, truth)
        nothing = model_report.without_model(self.task, target[train])
        self.baseline = model_report.measured(self.task, nothing, np.zeros((len(truth), 1)), truth)
        if self.metric not in self.metrics:
            raise Invalid(
                f"'{self.metric}' cannot be measured: the rows kept from training are all of one class",
                hint="keep more rows (hold_out), or split by chance",
            )
        self.curves = model_report.curves(self.task, self.estimator, unseen, truth)
        self.importance = model_report.importance(
            self.task, self.estimator, unseen, truth, self.features, self.metric, asked.seed
        )
        self.warnings = tuple(self._suspicious(table))
        self.seconds = round(time.monotonic() - begun, 1)
        for warning in self.warnings:
            log_line(f"warning: {warning}")
        log_line(
            f"{self.metric} {self.metrics[self.metric]:.4g}, without a model {self.baseline[self.metric]:.4g}"
        )

    def _suspicious(self, table: pa.Table) -> Iterator[str]:
        """What a person should look at before they believe the model."""
        asked = self.asked
        for name in () if asked.features else self.features:
            column = table.column(name)
            if self.types[name] == "integer" and len(pc.unique(column)) == len(column):
                yield f"'{name}' is another number in every row: if it is a key, declare it as one or name the features"
        value, nothing = self.metrics[self.metric], self.baseline[self.metric]
        if math.isclose(value, nothing):
            yield f"{self.metric} is what one gets without a model: it has learnt nothing"
        is_lower = is_lower_better(self.metric)
        if self.rows["hold_out"] < LEAST_ROWS:  # too few to be surprised
            return
        if (value <= PERFECT * nothing) if is_lower else (value >= 1 - PERFECT):
            first = self.importance[0]["feature"]
            yield f"{self.metric} is all but perfect: is '{first}' known before '{asked.target}' is?"

    @property
    def _has_texts(self) -> bool:
        return any(not is_numeric(kind) for kind in self.types.values())

    def _given(self, table: pa.Table, places: Matrix) -> Any:
        """Some rows as the estimator takes them: a matrix, or a frame where features are text."""
        chosen = table.take(pa.array(places)).select(self.features)
        if not self._has_texts:
            columns = [_floats(chosen.column(name)) for name in self.features]
            return np.column_stack(columns)
        pandas = optional("pandas")
        return pandas.DataFrame(
            {
                name: _floats(chosen.column(name)) if is_numeric(kind) else _texts(chosen.column(name))
                for name, kind in self.types.items()
            }
        )

    def _searched(self, seen: Any, target: Matrix, threads: int) -> tuple[Found, Any]:
        """The best model found, with what prepares text for it."""
        asked = self.asked
        prepare = None
        if self._has_texts:
            texts = [name for name, kind in self.types.items() if not is_numeric(kind)]
            encoder = optional("sklearn.preprocessing").OneHotEncoder(
                handle_unknown="infrequent_if_exist", max_categories=MOST_TEXTS, sparse_output=False
            )
            prepare = optional("sklearn.compose").ColumnTransformer(
                [("texts", encoder, texts)], remainder="passthrough"
            )
        found = search(
            seen if prepare is None else prepare.fit_transform(seen),
            target,
            task=self.task,
            metric=self.metric,
            seconds=asked.seconds,
            in_order=asked.split_by is not None,
            seed=asked.seed,
            threads=threads,
        )
        log_line(f"tried {found.tried} models: {kinds_told(found.leaderboard)}")
        if prepare is None:
            return found, found.estimator
        pipeline = optional("sklearn.pipeline").Pipeline
        return found, pipeline([("prepare", prepare), ("model", found.estimator)])

    def saved(self, folder: Path) -> ModelFile:
        """The model's files; Invalid when it is worse than no model."""
        return save_model(
            folder,
            self.asked.model,
            self.estimator,
            features=self.features,
            sample=self.sample,
            metrics=self.metrics,
            baseline={self.metric: self.baseline[self.metric]},
        )

    def document(self, saved: ModelFile) -> dict[str, Any]:
        """All that is told of the experiment."""
        conversion = saved.signature.conversion
        return {
            "model": self.asked.model,
            "asked": self.asked.as_options(),
            "data_set": self.asked.data_set,
            "target": self.asked.target,
            "features": list(self.features),
            "task": self.task,
            "metric": self.metric,
            "lower_is_better": is_lower_better(self.metric),
            "rows": self.rows,
            "metrics": self.metrics,
            "baseline": self.baseline,
            "leaderboard": [
                {"kind": c.kind, "score": c.score, "tried": c.tried, "parameters": dict(c.parameters)}
                for c in self.found.leaderboard
            ],
            "tried": self.found.tried,
            "estimator": saved.signature.estimator,
            "curves": self.curves,
            "importance": self.importance,
            "warnings": list(self.warnings),
            "seconds": self.seconds,
            "form": conversion.form,
            "form_reason": conversion.reason,
            "libraries": {**saved.signature.libraries, "flaml": str(optional("flaml").__version__)},
        }


def _features(asked: Training, table: pa.Table, never: set[str]) -> tuple[str, ...]:
    """The features, as they are named, or all columns that can be some."""
    out = {asked.target, asked.split_by}
    if asked.features:
        for name in asked.features:
            column_of(name, table.column_names, asked.data_set)
            kind = mesh_type(table.column(name).type)
            if kind is None or (not is_numeric(kind) and kind != "string"):
                raise Invalid(
                    f"'{name}' is {kind or table.column(name).type}, and features are numbers, booleans or text",
                    hint="make a number of it in the data set, such as the days since then",
                )
        return asked.features
    found = [
        name
        for name in table.column_names
        if name not in out | never and _may_be_feature(mesh_type(table.column(name).type), table.column(name))
    ]
    if not found:
        raise Invalid(
            f"no column of '{asked.data_set}' can be a feature by itself",
            hint="keys, times and what tells who somebody is are left out: name the features",
        )
    return tuple(found)


def _may_be_feature(kind: str | None, column: pa.ChunkedArray) -> bool:
    if kind is None or column.null_count == len(column):
        return False
    if kind == "string":  # what is different in most rows says nothing of others
        return len(pc.unique(column)) <= max(MOST_TEXTS, len(column) // 20)
    return is_numeric(kind)


def _floats(column: pa.ChunkedArray) -> Matrix:
    """Numbers as the model gets them: whole ones of more than 53 bits are rounded, what is infinite is missing."""
    found = np.array(pc.cast(column, pa.float64(), safe=False).to_numpy(), dtype=np.float64)
    found[np.isinf(found)] = np.nan
    return found


def _texts(column: pa.ChunkedArray) -> Any:
    values = [math.nan if value is None else value for value in column.to_pylist()]
    return optional("pandas").Series(values, dtype="object")


def _is_known(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Where there is a value; what is infinite, or no number, is none."""
    return pc.is_finite(column) if pa.types.is_floating(column.type) else pc.is_valid(column)


def _target(column: pa.ChunkedArray) -> Matrix:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_decimal(column.type):
        column = pc.cast(column, pa.float64())
    return np.asarray(column.to_pylist())


def _task(target: Matrix) -> Task:
    """What kind of prediction a target asks for: classes where it is text, a boolean, or a few whole numbers."""
    count = len(np.unique(target))
    most = min(FEW_VALUES, len(target) // 2)
    if target.dtype.kind == "f" or (target.dtype.kind in "iu" and count > most):
        return "regression"
    return "binary" if count == 2 else "multiclass"


def _fitting(target: Matrix, task: Task, name: str) -> Matrix:
    """The target as the task takes it; Invalid when it is none of that task."""
    if target.dtype.kind not in ("iuf" if task == "regression" else "biufU"):
        if task == "regression":
            raise Invalid(f"'{name}' is no number, so there is no regression of it")
        raise Invalid(f"'{name}' is neither text, number nor boolean, so it is no target")
    count = len(np.unique(target))
    if count < 2:
        raise Invalid(f"'{name}' has one value only: there is nothing to predict")
    if task == "regression":
        return target.astype(np.float64)
    if task == "binary" and count != 2:
        raise Invalid(f"'{name}' has {count} values, which is not binary", hint="leave `task` out")
    if count > MOST_CLASSES:
        raise Invalid(f"'{name}' has {count} classes, at most {MOST_CLASSES} are predicted")
    return target


def _split(asked: Training, table: pa.Table, target: Matrix, task: Task) -> tuple[Matrix, Matrix]:
    """The places of rows to train on and of those kept: the latest ones, or some by chance."""
    count = table.num_rows
    kept = max(5, round(count * asked.hold_out))
    if asked.split_by is not None:
        column = table.column(column_of(asked.split_by, table.column_names, asked.data_set))
        if column.null_count:
            raise Invalid(
                f"{column.null_count} rows have no '{asked.split_by}', by which they are to be split"
            )
        order = np.asarray(pc.sort_indices(column).to_numpy())
        train, hold_out = order[: count - kept], order[count - kept :]
    else:
        same = np.unique(target, return_counts=True)[1] if task != "regression" else None
        # Of each class alike where each has two rows, and both parts have room for all classes.
        fits = same is not None and same.min() >= 2 and len(same) <= min(kept, count - kept)
        stratify = target if fits else None
        train, hold_out = optional("sklearn.model_selection").train_test_split(
            np.arange(count), test_size=kept, random_state=asked.seed, stratify=stratify
        )
    if task != "regression":
        missing: Sequence[Any] = sorted(set(np.unique(target[hold_out])) - set(np.unique(target[train])))
        if missing or len(np.unique(target[train])) < 2:
            raise Invalid(
                f"the rows to train on have no row of every class of '{asked.target}'",
                hint="train on more rows, or split by chance",
            )
    return np.asarray(train), np.asarray(hold_out)
