"""Training on rows: which columns are features, how rows are split, what is measured, what cannot be learnt."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tulle.errors import Invalid
from tulle.pipeline.train import _Made, _task
from tulle.pipeline.training import read_training

COUNT = 300


def people() -> pa.Table:
    random = np.random.default_rng(2)
    amount = random.gamma(2, 40, COUNT).round(2)
    return pa.table(
        {
            "number": [f"C{i:04}" for i in range(COUNT)],
            "id": pa.array(range(COUNT), pa.int64()),
            "amount": amount,
            "score": pa.array([None if i % 5 == 0 else i % 7 for i in range(COUNT)], pa.int64()),
            "vip": [i % 2 == 0 for i in range(COUNT)],
            "day": [dt.date(2024, 1, 1) + dt.timedelta(days=i % 90) for i in range(COUNT)],
            "kind": np.where(amount > 100, "c", np.where(amount > 50, "b", "a")),
            "late": pa.array([None if i < 10 else i > COUNT - 60 for i in range(COUNT)], pa.bool_()),
            "one": ["same"] * COUNT,
            "spent": amount * 3,
        }
    )


def made(never: set[str] = frozenset({"id"}), **asked: Any) -> _Made:  # type: ignore[assignment]
    said = {"model": "m", "data_set": "people", "seconds": 1, **asked}
    return _Made(read_training(said), people(), never, threads=1)


def test_classes_are_measured_on_rows_that_were_kept() -> None:
    found = made(target="kind")
    assert (found.task, found.metric) == ("multiclass", "log_loss")
    assert found.features == ("amount", "score", "vip", "late", "one", "spent")  # no key, no time, no names
    assert found.rows == {"given": COUNT, "without_target": 0, "train": 240, "hold_out": 60}
    assert found.metrics["accuracy"] > 0.9 > found.baseline["accuracy"]
    assert found.importance[0]["feature"] in {"amount", "spent"}
    confusion = found.curves["confusion"]
    assert confusion["classes"] == ["a", "b", "c"]
    assert sum(map(sum, confusion["counts"])) == 60


def test_the_latest_rows_are_kept_where_they_are_split_by_time() -> None:
    found = made(target="spent", features=["amount"], split_by="day", hold_out=0.1, metric="mae")
    assert found.rows["hold_out"] == 30
    kept = found.sample.column("amount").to_pylist()
    rows = sorted(people().select(["day", "amount"]).to_pylist(), key=lambda row: row["day"])
    assert sorted(kept) == sorted(row["amount"] for row in rows[-30:])
    assert found.metrics["mae"] < found.baseline["mae"]
    assert len(found.curves["residuals"]["counts"]) == 20


def test_equal_trainings_split_alike() -> None:
    one, other = (made(target="spent", features=["amount"], seed=5) for _ in range(2))
    assert one.sample.equals(other.sample)
    assert one.warnings == ()


def test_what_is_too_good_is_warned_of() -> None:
    table = people().select(["id", "vip", "amount"]).append_column("again", people().column("vip"))
    said = {"model": "m", "data_set": "people", "seconds": 1, "target": "vip"}
    found = _Made(read_training(said), table, set(), threads=1)
    assert [warning.partition(":")[0] for warning in found.warnings] == [
        "'id' is another number in every row",
        "roc_auc is all but perfect",
    ]
    assert "is 'again' known before 'vip' is?" in found.warnings[1]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"target": "kinds"}, "no column 'kinds'"),
        ({"target": "one"}, "one value only"),
        ({"target": "kind", "metric": "rmse"}, "no metric of a multiclass model"),
        ({"target": "kind", "task": "regression"}, "no number"),
        ({"target": "kind", "task": "binary"}, "3 values"),
        ({"target": "number", "task": "multiclass"}, "300 classes"),
        ({"target": "vip", "features": ["day"]}, "'day' is date"),
        ({"target": "vip", "features": ["nothing"]}, "no column 'nothing'"),
        ({"target": "vip", "split_by": "score"}, "have no 'score'"),
        ({"target": "late", "split_by": "id", "hold_out": 0.25}, "every class"),
        ({"target": "late", "split_by": "id"}, "split by chance|search failed|could be fitted"),
    ],
)
def test_what_cannot_be_learnt_is_told(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(Invalid, match=message):
        made(**asked)


def test_a_target_that_is_missing_leaves_its_row_out() -> None:
    found = made(target="late", features=["id", "amount"])
    assert found.rows["without_target"] == 10
    assert set(found.curves) == {"confusion", "roc", "precision_recall", "calibration"}
    for name in ("roc", "precision_recall", "calibration"):
        assert len(found.curves[name]["x"]) == len(found.curves[name]["y"])
        assert all(0 <= value <= 1 for axis in found.curves[name].values() for value in axis)


def test_odd_numbers_are_learnt_from_as_requests_bring_them() -> None:
    table = people()
    big = pa.array([2**53 + 1 + i for i in range(COUNT)], pa.int64())
    odd = np.where(np.arange(COUNT) % 9 == 0, np.inf, table.column("amount").to_numpy())
    spent = np.where(np.arange(COUNT) % 10 == 0, np.nan, table.column("spent").to_numpy())
    spent[5] = np.inf
    table = table.append_column("big", big).append_column("odd", pa.array(odd))
    table = table.set_column(table.column_names.index("spent"), "spent", pa.array(spent))
    said = {"model": "m", "data_set": "people", "seconds": 1, "target": "spent", "features": ["big", "odd"]}
    found = _Made(read_training(said), table, set(), threads=1)
    assert found.rows["without_target"] == 31
    assert found.metrics["rmse"] < found.baseline["rmse"]


def test_many_small_classes_are_split_by_chance() -> None:
    kinds = [f"k{i % 15:02}" for i in range(45)]
    table = pa.table({"a": pa.array([float(i % 15) for i in range(45)]), "kind": kinds})
    said = {"model": "m", "data_set": "people", "seconds": 1, "target": "kind", "hold_out": 0.2}
    found = _Made(read_training({**said, "metric": "accuracy"}), table, set(), threads=1)
    assert found.rows == {"given": 45, "without_target": 0, "train": 36, "hold_out": 9}


@pytest.mark.parametrize("task", [None, "regression", "multiclass"])
def test_a_target_that_never_changes_is_none(task: Any) -> None:
    table = pa.table({"a": np.arange(40.0), "flat": [1.5] * 40})
    said = {"model": "m", "data_set": "people", "seconds": 1, "target": "flat", "task": task}
    with pytest.raises(Invalid, match="'flat' has one value only"):
        _Made(read_training(said), table, set(), threads=1)


def test_a_few_rows_are_judged_by_others_and_not_by_copies_of_themselves() -> None:
    some = np.random.default_rng(1).normal(size=30)
    table = pa.table({"a": some, "t": np.random.default_rng(2).random(30) > 0.5})
    said = {"model": "m", "data_set": "people", "seconds": 1, "features": ["a"]}
    found = _Made(read_training({**said, "target": "t"}), table, set(), threads=1)
    assert found.found.leaderboard[0].score < 0.95  # there is nothing to be learnt
    same = table.append_column("same", pa.array([1.0] * 30))
    told = _Made(read_training({**said, "target": "t", "features": ["same"]}), same, set(), threads=1)
    assert told.warnings == ("roc_auc is what one gets without a model: it has learnt nothing",)


def test_whole_numbers_that_do_not_repeat_are_no_classes() -> None:
    assert _task(np.arange(16)) == "regression"
    assert _task(np.arange(100) % 25) == "regression"
    assert _task(np.arange(40) % 20) == "multiclass"
    assert _task(np.arange(40) % 2) == "binary"
