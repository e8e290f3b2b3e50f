"""Two generations on what was really asked: a shadow's answers, and requests asked again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.control.logged import SERVICE, LoggedMesh

from tulle.cli.main import cli
from tulle.errors import Conflict, Invalid
from tulle.serving.recorded import compared, quantiles, questions_of

FEATURES = {"recency": 9, "frequency": 22, "spend": 5.25}


@pytest.fixture
def logged(tmp_path: Path) -> Iterator[LoggedMesh]:
    made = LoggedMesh(tmp_path)
    yield made
    made.workspace.database.close()


def test_a_shadow_and_what_is_asked_again(logged: LoggedMesh) -> None:
    first = logged.package()
    logged.declare(SERVICE.replace("  model: buys\n", "  model: buys\n  threshold: 0.001\n"))
    second = logged.package()
    assert (first.version, second.version) == ("v1", "v2")
    rows = [
        {"recency": r["recency"], "frequency": r["frequency"], "spend": float(r["spend"])}
        for r in logged.sample.to_pylist()[:40]
    ]
    requests = [
        ("/buys/predict-multi", {"items": [{"features": one} for one in rows]}),
        ("/buys/predict", {"features": {"who": "00003"}}),
        ("/person/lookup", {"data": {"customer_id": "00003"}}),
    ]
    (many, one, _) = logged.ask(requests, version=first)
    refused = CliRunner().invoke(
        cli, ["--mesh", str(logged.mesh.folder), *["service", "compare", "scores", "v1", "v2", "--recorded"]]
    )
    assert isinstance(refused.exception, Conflict)
    (shadowed, _, _) = logged.ask(requests, version=second, headers={"host": "mesh.internal-shadow:8000"})
    shadows = json.loads(logged.tulle("service", "log", "scores", "--generation", "v2", "--json"))
    assert {row["shadow"] for row in shadows} == {True}
    found = json.loads(logged.tulle("service", "compare", "scores", "v1", "v2", "--recorded", "--json"))
    otherwise = sum(
        a["prediction"] != b["prediction"] for a, b in zip(many["results"], shadowed["results"], strict=True)
    )
    otherwise += one["result"]["prediction"] != 1
    assert otherwise > 0
    assert (found["asked"], found["different"], found["predictions"]) == (42, otherwise, otherwise)
    assert found["refused"] == [0, 0]
    assert set(found["microseconds"]["left"]) == {"p50", "p95", "p99", "max"}
    assert found["apart"]["max"] == 1  # a class apart; the probabilities are the same
    assert all(pair["results"][0]["probas"] == pair["results"][1]["probas"] for pair in found["worst"])
    text = logged.tulle("service", "compare", "scores", "v1", "v2", "--recorded", "--endpoint", "buys")
    assert f"{41 - otherwise} of 41 equal" in text
    assert "apart by 1" in text

    # The key is masked: what was looked up is asked; of the lookup there is nothing to ask.
    again = json.loads(logged.tulle("service", "compare", "scores", "v1", "v2", "--replay", "100", "--json"))
    assert (again["asked"], again["different"], again["not_asked"]) == (41, otherwise, 1)
    text = logged.tulle("service", "compare", "scores", "v1", "v2", "--replay", "100", "--since", "1 hour")
    assert f"{41 - otherwise} of 41 equal" in text
    assert "1 cannot be asked again" in text
    for words in ("--since 1h", "--recorded --replay 3"):
        bad = CliRunner().invoke(
            cli, ["--mesh", str(logged.mesh.folder), *f"service compare scores v1 v2 {words}".split()]
        )
        assert isinstance(bad.exception, Invalid)


def row(left: object, right: object, **more: object) -> dict[str, object]:
    usual = {"endpoint": "e", "request_id": "r", "item": 0, "l_status": 200, "r_status": 200, "l_error": None}
    times = {"r_error": None, "l_microseconds": 5, "r_microseconds": 7}
    return {**usual, **times, "l_result": left, "r_result": right, **more}


def test_the_worst_come_first() -> None:
    rows = [
        row({"prediction": 1.0}, {"prediction": 1.0}),
        row({"prediction": 1.0}, {"prediction": 1.5}, request_id="half"),
        row({"prediction": 1.0, "p": [1, 2]}, {"prediction": 1.0, "p": [1, 5]}, request_id="three"),
        row({"prediction": 1.0}, None, request_id="one", r_status=404, r_error="NoMatch"),
    ]
    found = compared("s", "v1", "v2", rows, 1e-6)
    assert [pair.request_id for pair in found.worst] == ["one", "three", "half"]
    assert (found.asked, found.equal, found.refused, found.predictions) == (4, 1, (0, 1), 1)
    assert found.apart == {"p50": 0.5, "p90": 3, "p99": 3, "max": 3}
    assert found.microseconds[1]["p50"] == 7
    assert compared("s", "v1", "v2", rows, 10).equal == 3
    assert quantiles([], (50,)) == {}


def test_what_can_be_asked_again() -> None:
    def recorded(endpoint: str, sent: object, features: object = None, item: int = 0) -> dict[str, object]:
        return {"endpoint": endpoint, "request_id": "r", "item": item, "sent": sent, "features": features}

    kinds = {"p": "predict", "l": "lookup", "f": "function"}
    rows = [
        recorded("p", {"who": "•••"}, {"a": 1}, 3),
        recorded("p", {"who": "•••"}, {"a": "•••"}),
        recorded("l", {"id": 7}),
        recorded("l", {"id": "•••"}),
        recorded("f", {"x": [1, {"y": 2}]}),
        recorded("f", {"x": [{"y": "•••"}]}),
        recorded("gone", {"x": 1}),
        recorded("p", None),
    ]
    found, lost = questions_of(rows, kinds)
    assert [(one.endpoint, one.name, one.body) for one in found] == [
        ("p", "r[3]", {"features": {"a": 1}}),
        ("l", "r", {"data": {"id": 7}}),
        ("f", "r", {"x": [1, {"y": 2}]}),
    ]
    assert lost == 5
