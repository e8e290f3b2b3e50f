"""What turned out: told by callers, files and data sets, joined to the log, twice without harm."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner
from tests.control.logged import SERVICE, LoggedMesh
from tests.serving.conftest import parquet

from tulle.catalog.queried import QueriedReader
from tulle.cli.main import cli
from tulle.control import query_log
from tulle.serving.feedback import read_feedback
from tulle.serving.recorder import is_sampled
from tulle.serving.request import RequestError

FEATURES = {"recency": 9, "frequency": 22, "spend": 5.25}


@pytest.fixture
def logged(tmp_path: Path) -> Iterator[LoggedMesh]:
    made = LoggedMesh(tmp_path)
    yield made
    made.workspace.database.close()


def test_callers_files_and_data_sets_tell(logged: LoggedMesh, tmp_path: Path) -> None:
    answers = logged.ask(
        [
            ("/buys/predict", {"features": FEATURES}),
            ("/buys/predict-multi", {"items": [{"features": FEATURES}] * 2}),
            ("/feedback", {"requestId": "r0", "outcome": 1}),
            ("/feedback", {"items": [{"requestId": "r1", "item": 1, "outcome": 0}]}),
            ("/feedback", {"items": [{"requestId": "r1", "item": -1, "outcome": 0}]}),
        ]
    )
    assert answers[2:4] == [{"taken": 1}, {"taken": 1}]
    assert answers[4]["errorType"] == "InvalidRequest"
    rows = json.loads(logged.tulle("service", "log", "scores", "--json"))
    told = {(row["request_id"], row["item"]): row.get("outcome") for row in rows}
    assert told == {("r0", 0): 1, ("r1", 0): None, ("r1", 1): 0}

    file = tmp_path / "told.csv"
    file.write_text("request_id,item,outcome\nr1,0,1\nr0,,0\nnever,,1\n")
    result = json.loads(logged.tulle("service", "feedback", "scores", str(file), "--json"))
    assert {name: result[name] for name in ("taken", "new", "known", "unknown")} == {
        "taken": 3,
        "new": 3,
        "known": 2,
        "unknown": 1,
    }
    assert result["unknown_ids"] == [{"request_id": "never", "item": 0}]
    again = logged.tulle("service", "feedback", "scores", str(file))
    assert "3 taken, 0 of them new" in again
    assert "never" in again

    lines = tmp_path / "told.jsonl"
    lines.write_text('{"requestId": "r0", "outcome": 1}\n')
    assert "1 of them new" in logged.tulle("service", "feedback", "scores", str(lines))  # better known now
    repository = logged.workspace.lake.repository("scores")
    table = pa.table({"request_id": ["r0", "r1"], "item": [0, 1], "outcome": [True, False]})
    repository.put("main", "outcomes/part-0.parquet", parquet(table))
    repository.commit("main", "what turned out")
    assert "2 of them new" in logged.tulle("service", "feedback", "scores", "--from", "scores/outcomes")
    rows = json.loads(logged.tulle("service", "log", "scores", "--json"))
    assert {row["outcome"] for row in rows} == {True, False}
    assert "4 outcomes told" in logged.tulle("service", "feedback", "scores")


def test_what_cannot_be_told_is_refused(logged: LoggedMesh, tmp_path: Path) -> None:
    def refused(*words: str) -> str:
        done = CliRunner().invoke(cli, ["--mesh", str(logged.mesh.folder), "service", "feedback", *words])
        assert done.exit_code == 1
        return str(done.exception)

    file = tmp_path / "told.csv"
    file.write_text("id,outcome\nr1,1\n")
    assert "line 2: 'request_id' or 'outcome' is missing" in refused("scores", str(file))
    assert "has published no data set 'outcomes'" in refused("scores", "--from", "scores/outcomes")
    assert "has no column 'request_id'" in refused("scores", "--from", "scores/people")
    assert "no applied product has a service 'scorse'" in refused("scorse")
    query_log.collect_all(logged.workspace, "scores")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ([], "expected an object"),
        ({"items": 1}, "expected a list"),
        ({"items": [1]}, "item 0 is 1"),
        ({"requestId": "a b", "outcome": 1}, "'requestId' is \"a b\""),
        ({"requestId": "a", "item": True, "outcome": 1}, "'item' is true"),
        ({"requestId": "a"}, "'outcome' is missing"),
        ({"requestId": "a", "outcome": 1, "truth": 1}, "unknown 'truth'"),
        ({"requestId": "a", "outcome": "x" * 10_001}, "has 10,003 bytes"),
        ({"items": [{}] * 10_001}, "too many at once"),
    ],
)
def test_what_is_not_understood_is_told(raw: object, said: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_feedback(raw)
    assert said in caught.value.message


def test_what_is_told_of_nothing_is_told_to_the_team(tmp_path: Path) -> None:
    logged = LoggedMesh(tmp_path, SERVICE.replace("endpoints:", "log: {sample: 0.5}\nendpoints:"))
    ids = [f"r{number}" for number in range(10)]
    kept = [one for one in ids if is_sampled(one, 0.5)]
    assert 0 < len(kept) < 10
    wrong = next(f"wrong{number}" for number in range(100) if is_sampled(f"wrong{number}", 0.5))

    def tell(caller: str, told: list[tuple[str, int]]) -> None:
        items = [{"requestId": one, "outcome": outcome} for one, outcome in told]
        logged.ask(
            [("/feedback", {"items": items})], headers={"x-tulle-client": caller, "x-tulle-way": "contract"}
        )

    logged.ask([("/buys/predict", {"features": FEATURES})] * 10, ids=ids)
    tell("till", [(one, 1) for one in ids])
    tell("till", [(kept[0], 1), (kept[0], 0)])  # of what is said at once the last counts, too
    tell("shop", [(wrong, 1), (kept[1], 1)])
    tell("shop", [(wrong, 1)])
    state = json.loads(logged.tulle("service", "feedback", "scores", "--json"))
    assert {
        name: state[name] for name in ("told", "known", "unknown", "not_kept", "repeated", "corrected")
    } == {
        "told": 11,
        "known": len(kept),
        "unknown": 1,
        "not_kept": 10 - len(kept),
        "repeated": 2,
        "corrected": 1,
    }
    assert state["callers"] == [
        {"caller": "shop", "way": "contract", "told": 2, "known": 1, "unknown": 1, "not_kept": 0},
        {
            "caller": "till",
            "way": "contract",
            "told": 9,
            "known": len(kept) - 1,
            "unknown": 0,
            "not_kept": 10 - len(kept),
        },
    ]
    assert state["unknown_ids"] == [{"request_id": wrong, "item": 0, "caller": "shop", "way": "contract"}]
    shown = logged.tulle("service", "feedback", "scores")
    assert f"1 of 2 by shop by contract are of requests the log does not have: {wrong}" in shown
    assert "2 were told again as before, 1 otherwise" in shown
    rows = {row["request_id"]: row for row in json.loads(logged.tulle("service", "log", "scores", "--json"))}
    assert rows[kept[0]]["outcome"] == 0
    page = QueriedReader(
        logged.workspace.settings, logged.workspace.database, logged.workspace.lake, lambda _: None
    ).page("scores")
    assert page.told is not None
    assert (page.told.unknown, page.told.known) == (1, len(kept))
    logged.workspace.database.close()


def test_outcomes_name_nobody_either(logged: LoggedMesh, tmp_path: Path) -> None:
    logged.ask(
        [
            ("/buys/predict", {"features": FEATURES}),
            (
                "/feedback",
                {"items": [{"requestId": "r0", "outcome": {"customer_id": "00003", "said": "no"}}]},
            ),
        ]
    )
    file = tmp_path / "told.json"
    file.write_text(json.dumps([{"requestId": "r0", "item": 1, "outcome": "ann smith"}]))
    assert "1 of them new" in logged.tulle("service", "feedback", "scores", str(file))
    assert "0 of them new" in logged.tulle("service", "feedback", "scores", str(file))
    rows = logged.log.rows("scores", "SELECT item, outcome FROM feedback ORDER BY item")
    assert [(row["item"], json.loads(row["outcome"])) for row in rows] == [
        (0, {"customer_id": "•••", "said": "•••"}),
        (1, "•••"),
    ]
