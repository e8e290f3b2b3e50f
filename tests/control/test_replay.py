"""Recorded requests asked again of a generation: compared with what was answered then, and what must not be repeated."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from tests.control import logged as usual
from tests.control.conftest import fill, opened
from tests.control.logged import SERVICE, LoggedMesh
from tests.pipeline.conftest import Mesh

from tulle.catalog.query_log import QueryLog
from tulle.cli import connect
from tulle.control.apply import apply_plan
from tulle.control.replay import Chosen, replay, service_of
from tulle.errors import Conflict, NotFound
from tulle.serving import generation
from tulle.state import log as event_log

THRESHOLD = SERVICE.replace("  model: buys\n", "  model: buys\n  threshold: 0.001\n")
FUNCTION = SERVICE + "- {name: order, type: function, file: order.py}\n"


@pytest.fixture
def logged(tmp_path: Path) -> Iterator[LoggedMesh]:
    made = LoggedMesh(tmp_path)
    yield made
    made.workspace.database.close()


def activate(logged: LoggedMesh, version: str) -> None:
    generation.request(logged.workspace.database, "scores", version)
    generation.activate(logged.workspace.database, "scores", version)


def test_the_same_generation_answers_as_it_did_and_another_one_as_it_does(
    logged: LoggedMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = logged.package()
    activate(logged, first.version)
    rows = [
        {"recency": r["recency"], "frequency": r["frequency"], "spend": float(r["spend"])}
        for r in logged.sample.to_pylist()[:20]
    ]
    logged.ask(
        [
            ("/buys/predict-multi", {"items": [{"features": one} for one in rows]}),
            ("/buys/predict", {"features": {"who": "00003"}}),
            ("/buys/predict", {"features": {"recency": "many"}}),
            ("/person/lookup", {"data": {"customer_id": "00003"}}),
        ],
        ids=["many", "one", "wrong", "masked"],
    )
    workspace, log = logged.workspace, QueryLog(logged.workspace.settings, logged.workspace.lake)
    same = replay(workspace, log, "scores", Chosen(), by="ann")
    assert (same.version, same.compared.asked, same.compared.equal) == ("v1", 22, 22)
    assert (same.not_kept, same.not_repeated) == (1, 0)  # the key of the lookup is masked
    assert same.compared.refused == (1, 1)  # what was wrong then is wrong now
    one = replay(workspace, log, "scores", Chosen(requests=("one",)))
    assert (one.compared.asked, one.compared.equal) == (1, 1)
    failed = replay(workspace, log, "scores", Chosen(errors=True))
    assert failed.compared.asked == 1
    assert service_of(workspace, log, "many") == "scores"
    with pytest.raises(NotFound, match="no service keeps a request 'nobody'"):
        service_of(workspace, log, "nobody")
    with pytest.raises(NotFound, match="no such request"):
        replay(workspace, log, "scores", Chosen(requests=("nobody",)))
    with pytest.raises(NotFound, match="v9"):
        replay(workspace, log, "scores", Chosen(generation="v9"))
    with pytest.raises(Conflict, match="can be asked again"):
        replay(workspace, log, "scores", Chosen(requests=("masked",)))

    logged.declare(THRESHOLD)
    assert logged.package().version == "v2"
    with connect.mesh_client(logged.mesh.folder) as client:
        monkeypatch.setattr(connect, "mesh_client", lambda _: nullcontext(client))
        found = json.loads(logged.tulle("insight", "replay", "many", "--generation", "v2", "--json"))
        assert (found["service"], found["version"], found["asked"]) == ("scores", "v2", 20)
        assert found["different"] == found["predictions"] > 0
        assert {pair["results"][0]["prediction"] for pair in found["worst"]} == {0}
        text = logged.tulle("insight", "replay", "--service", "scores", "--since", "1 hour")
    assert "scores v1, asked again what was answered then:" in text
    assert "22 of 22 equal" in text
    assert "1 cannot be asked again" in text
    replayed = [
        e for e in event_log.read(workspace.database, subject="scores") if e.kind == "service.replayed"
    ]
    assert (replayed[0].actor, replayed[0].data["requests"]) == ("ann", 22)


def test_what_does_something_is_not_repeated_unless_forced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where nothing is personal, all that a function is sent is kept.
    product = usual.PRODUCT.replace(", pii: direct", "").replace(", classification: restricted", "")
    monkeypatch.setattr(usual, "PRODUCT", product)
    made = LoggedMesh.__new__(LoggedMesh)
    folder = tmp_path / "mesh/products/shop/scores/functions"
    folder.mkdir(parents=True)
    (folder / "order.py").write_text("def order(n: int) -> dict:\n    return {'ordered': n}\n")
    made.make(tmp_path, FUNCTION)
    built = made.package()
    activate(made, built.version)
    made.ask(
        [("/order/run", {"n": 3}), ("/buys/predict", {"features": {"who": "00003"}})], ids=["bought", "asked"]
    )
    workspace, log = made.workspace, QueryLog(made.workspace.settings, made.workspace.lake)
    found = replay(workspace, log, "scores", Chosen())
    assert (found.compared.asked, found.not_repeated, found.endpoints) == (1, 1, ("order",))
    with pytest.raises(Conflict) as caught:
        replay(workspace, log, "scores", Chosen(requests=("bought",)))
    assert caught.value.hint == "order may not be repeated; --force asks all the same"
    forced = replay(workspace, log, "scores", Chosen(requests=("bought",), force=True))
    assert (forced.compared.asked, forced.compared.equal, forced.not_repeated) == (1, 1, 0)
    newest = event_log.read(workspace.database, subject="scores", newest_first=True)[0]
    assert newest.data["forced"] is True
    workspace.database.close()


def test_of_apis_it_is_said_where_their_requests_are_kept_and_where_not(tmp_path: Path) -> None:
    mesh = fill(Mesh(tmp_path / "mesh"))
    mesh.sales(
        "apis/ext.yaml",
        "api: ext\nversions: [{version: v1, upstream: 'https://api.example.com', undeclared: allow}]\n",
    )
    workspace = opened(mesh)
    apply_plan(workspace)
    log = QueryLog(workspace.settings, workspace.lake)
    with pytest.raises(Conflict, match="'ext' is an API") as told:
        replay(workspace, log, "ext", Chosen())
    assert "in that service's query log" in str(told.value.hint)
    with pytest.raises(NotFound, match="has a service 'ext2'"):
        replay(workspace, log, "ext2", Chosen())
    with pytest.raises(NotFound) as lost:
        service_of(workspace, log, "4f0c")
    assert "of what an external service or an example answered nothing is kept" in str(lost.value.hint)
    workspace.database.close()
