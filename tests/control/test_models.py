"""Models from first to last: trained on what is published, listed, compared, put behind a service, deleted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.pipeline.conftest import Mesh

from tulle.cli.main import cli
from tulle.errors import AlreadyExists, Conflict, Invalid, NotFound

MAKES = """
import numpy as np
import pyarrow as pa

inputs = ["till_rows"]


def model(run):
    random = np.random.default_rng(1)
    count = 400
    amount, visits = random.gamma(2, 40, count).round(2), random.integers(0, 30, count)
    noise = random.normal(size=count)
    return pa.table(
        {
            "number": [f"C{i:04}" for i in range(count)],
            "amount": amount,
            "visits": visits,
            "town": [("Bonn", "Graz", None)[i % 3] for i in range(count)],
            "since": pa.array([1990 + i % 30 for i in range(count)], pa.int32()),
            "returned": np.where(amount * (visits + 1) + 300 * noise > 800, "yes", "no"),
            "spends": amount * 2 + visits,
        }
    )
"""


def tulle(mesh: Mesh, *words: str) -> Result:
    return CliRunner().invoke(cli, ["--mesh", str(mesh.folder), *words])


def train(mesh: Mesh, name: str, *words: str) -> Result:
    usual = ["--data-set", "people", "--seconds", "1"]
    return tulle(mesh, "model", "train", "sales", name, *usual, *words)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Mesh:
    """A mesh whose product has published rows to learn from."""
    from tests.control.conftest import fill

    mesh = fill(Mesh(tmp_path_factory.mktemp("models") / "mesh"))
    mesh.sales("transform/people.py", MAKES)
    assert tulle(mesh, "apply").exit_code == 0
    ran = tulle(mesh, "run", "sales")
    assert ran.exit_code == 0, ran.output
    return mesh


def test_a_model_is_trained_told_of_and_served(trained: Mesh) -> None:
    numbers = ["-f", "amount", "-f", "visits", "-f", "since"]
    first = train(trained, "will_return", "--target", "returned", *numbers, "--json")
    assert first.exit_code == 0, (first.output, first.exception)
    told = json.loads(first.output)
    document = told["document"]
    assert (document["task"], document["metric"]) == ("binary", "roc_auc")
    assert document["metrics"]["roc_auc"] > 0.85 > document["baseline"]["roc_auc"]
    assert document["rows"] == {"given": 400, "without_target": 0, "train": 320, "hold_out": 80}
    assert document["importance"][0]["feature"] in {"amount", "visits"}
    assert {one["feature"] for one in document["importance"]} == {"amount", "visits", "since"}
    assert document["leaderboard"][0]["tried"] >= 1
    assert set(document["curves"]) == {"confusion", "roc", "precision_recall", "calibration"}
    assert document["data_commit"]
    assert document["code_version"]
    assert document["libraries"]["flaml"]

    (listed,) = json.loads(tulle(trained, "model", "list", "--json").output)
    assert (listed["model"], listed["experiment"], listed["form"]) == ("will_return", told["id"], "onnx")
    assert "roc_auc" in tulle(trained, "model", "list").output
    shown = tulle(trained, "model", "show", "sales", "will_return")
    assert shown.exit_code == 0, shown.exception
    assert "amount" in shown.output

    again = train(
        trained, "will_return", "--target", "returned", "-f", "since", "-f", "amount", "--seed", "3", "--json"
    )
    assert again.exit_code == 0, again.exception
    other = json.loads(again.output)["id"]
    both = json.loads(tulle(trained, "model", "compare", told["id"], other, "--json").output)
    assert both["same_rows"]
    assert set(both["asked"]) == {"features", "seed"}
    assert both["curves"]["roc"][1]["x"][0] == 0
    beside = tulle(trained, "model", "compare", told["id"][:-1], other)  # cut short, it is still the only one
    assert beside.exit_code == 0, beside.exception
    assert "◂" in beside.output
    assert isinstance(tulle(trained, "model", "compare", other[:8], other).exception, Invalid)
    assert isinstance(tulle(trained, "model", "compare", other).exception, Invalid)

    for name in ("../../../evil", "evil\nendpoints: []", "No"):
        refused = tulle(trained, "model", "serve", "sales", "will_return", "--service", name).exception
        assert isinstance(refused, Invalid)
        assert "is no name of a service" in refused.message
    assert not list(trained.folder.parent.rglob("evil*"))
    served = tulle(trained, "model", "serve", "sales", "will_return", "--json")
    assert served.exit_code == 0, served.exception
    assert json.loads(served.output)["package"]["version"] == "v1"
    answer = tulle(trained, "service", "test", "will-return")
    assert answer.exit_code == 0, answer.exception
    assert isinstance(tulle(trained, "model", "serve", "sales", "will_return").exception, AlreadyExists)
    refused = tulle(trained, "model", "delete", "sales", "will_return").exception
    assert isinstance(refused, Conflict)
    assert "will-return" in refused.message
    Path(trained.folder / "products/shop/sales/services/will-return.yaml").unlink()
    gone = tulle(trained, "model", "delete", "sales", "will_return")
    assert gone.exit_code == 0, gone.exception
    assert isinstance(tulle(trained, "model", "show", "sales", "will_return").exception, NotFound)


def test_text_features_and_a_split_by_time(trained: Mesh) -> None:
    made = train(trained, "spending", "--target", "spends", "--split-by", "since", "--json")
    assert made.exit_code == 0, (made.output, made.exception)
    document = json.loads(made.output)["document"]
    assert document["task"] == "regression"
    assert document["features"] == ["amount", "visits", "town", "returned"]  # keys differ in every row
    assert document["metrics"]["rmse"] < document["baseline"]["rmse"]
    assert document["form"] == "native"
    assert set(document["curves"]) == {"residuals", "predicted"}


def test_what_cannot_be_trained_is_told_by_its_run(trained: Mesh) -> None:
    failed = train(trained, "other", "--target", "retuned").exception
    assert isinstance(failed, Invalid)
    assert "no column 'retuned'" in failed.message
    listed = json.loads(tulle(trained, "model", "list", "--json").output)
    assert "other" not in {one["model"] for one in listed}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--metric", "auc"], "no metric 'auc'"),
        (["-f", "returned"], "cannot be a feature"),
        (["--seconds", "0"], "from 1 to"),
        (["--hold-out", "0.9"], "0.05 to 0.5"),
        (["-f", "amount", "-f", "amount"], "'amount' is named twice"),
        (["--split-by", "returned"], "cannot be split by what is to be predicted"),
        (["--data-set", "peoples"], "no data set 'peoples'"),
    ],
)
def test_what_cannot_be_meant_starts_nothing(trained: Mesh, words: list[str], message: str) -> None:
    failed = train(trained, "other", "--target", "returned", *words).exception
    assert isinstance(failed, Invalid)
    assert message in failed.message


def test_the_name_of_a_model_is_checked_first(trained: Mesh) -> None:
    failed = train(trained, "No-Name", "--target", "returned").exception
    assert isinstance(failed, Invalid)
    assert "snake_case" in failed.message
