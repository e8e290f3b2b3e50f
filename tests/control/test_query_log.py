"""The query log: what workers noted is in the lake once, masked as the contracts say, and goes when it is old."""

from __future__ import annotations

import datetime as dt
import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.control.logged import PRODUCT, SERVICE, LoggedMesh
from tests.serving.conftest import parquet

from tulle.catalog.log_masks import shown_of
from tulle.catalog.query_log import OWNER, Wanted, find_repository, masked_again, repository_name
from tulle.cli.connect import mesh_client
from tulle.control import destroy, query_log, query_log_rows
from tulle.errors import Conflict, Invalid, NotFound
from tulle.lake.history import History
from tulle.sdk.service_log import ServiceLog
from tulle.serving.log_rows import SCHEMA, table_of
from tulle.serving.log_segment import QUERIES as SEGMENT_QUERIES
from tulle.serving.log_segment import Record, SegmentHeader, SegmentRoute, SegmentWriter, complete

FEATURES = {"recency": 9, "frequency": 22, "spend": 5.25}


@pytest.fixture
def logged(tmp_path: Path) -> Iterator[LoggedMesh]:
    made = LoggedMesh(tmp_path)
    yield made
    made.workspace.database.close()


def read(row: dict[str, Any], column: str) -> Any:
    return None if row[column] is None else json.loads(row[column])


def test_every_request_is_a_row_and_every_item_of_many(logged: LoggedMesh) -> None:
    many = {
        "items": [{"features": FEATURES}, {"features": {"who": "nobody"}}, {"features": {"who": "00003"}}]
    }
    answers = logged.ask(
        [
            ("/buys/predict", {"features": {"who": "00003"}}),
            ("/buys/predict-multi", many),
            ("/buys/predict-simple?recency=9&frequency=22&spend=5.25", b""),
            ("/person/lookup", {"data": {"customer_id": "00003"}}),
            ("/buys/predict", {"features": {"who": "nobody"}}),
            ("/buys/predict", b"{broken"),
            ("/openapi.json?x=1", b""),
        ],
        headers={
            "x-tulle-client": "till",
            "x-tulle-way": "contract",
            "authorization": "Bearer s3cret",
            "client_secret": "s3cret",
        },
    )
    query_log.collect_all(logged.workspace, "scores")
    rows = logged.rows()
    told = [(r["request_id"], r["item"], r["endpoint"], r["action"], r["status"], r["error"]) for r in rows]
    assert told == [
        ("r0", 0, "buys", "predict", 200, None),
        ("r1", 0, "buys", "predict-multi", 200, None),
        ("r1", 1, "buys", "predict-multi", 200, "NoMatch"),
        ("r1", 2, "buys", "predict-multi", 200, None),
        ("r2", 0, "buys", "predict-simple", 200, None),
        ("r3", 0, "person", "lookup", 200, None),
        ("r4", 0, "buys", "predict", 404, "NoMatch"),
        ("r5", 0, "buys", "predict", 400, "MalformedJson"),
    ]
    first = rows[0]
    assert (first["caller"], first["way"], first["generation"], first["shadow"]) == (
        "till",
        "contract",
        "v1",
        False,
    )
    assert {row["way"] for row in rows} == {"contract"}
    assert first["microseconds"] > 0
    assert read(first, "features") == FEATURES
    assert read(first, "result") == answers[0]["result"]
    assert set(read(first, "steps")) == {"preProcessing", "enrich", "predictionPredict"}
    assert [read(row, "features") for row in rows[1:4]] == [FEATURES, None, FEATURES]
    assert read(rows[4], "sent") == {"recency": "9", "frequency": "22", "spend": "5.25"}
    assert rows[7]["sent"] is None
    assert "s3cret" not in str(rows)


def test_what_names_people_is_not_kept(logged: LoggedMesh) -> None:
    logged.ask(
        [
            ("/buys/predict", {"features": {"who": "00003", "phone": "555"}}),
            ("/person/lookup", {"data": {"customer_id": "00005"}}),
            ("/buys/predict-multi", {"items": [{"features": {"who": "nobody"}}]}),
            ("/buys/predict", {"features": {"who": "00003"}}),
        ]
    )
    query_log.collect_all(logged.workspace, "scores")
    rows = logged.rows()
    assert read(rows[0], "sent") == {"who": "•••"}  # and nothing of what is no name of the endpoint's
    assert read(rows[1], "sent") == {"customer_id": "•••"}
    assert read(rows[1], "result")["data"] == {"since": 15, "id": "•••"}  # renamed, and restricted
    stored = find_repository(logged.workspace.lake, "scores")
    assert stored is not None
    everything = b"".join(stored.get("main", entry.path) for entry in stored.entries("main"))
    for value in (b"00003", b"00005", b"nobody", b"555", "note «5»".encode()):
        assert value not in everything

    # What is masked from now on is not shown of what was kept before either.
    stricter = PRODUCT.replace("'decimal(10,2)'", "'decimal(10,2)', pii: direct")
    logged.mesh.write("products/shop/scores/product.yaml", stricter)
    product = logged.mesh.spec().product("scores")
    shown = shown_of(logged.package().manifest, lambda _: product)
    (newest, *_) = masked_again(logged.log.newest("scores", Wanted(request_id="r3"), limit=5), shown)
    assert newest["features"] == {**FEATURES, "spend": "•••"}


def test_a_service_says_what_is_kept(tmp_path: Path) -> None:
    text = SERVICE.replace(
        "endpoints:", "log: {leave_out: [spend], keep: 2 days, most: 1MB}\nendpoints:"
    ).replace("  type: lookup\n", "  type: lookup\n  log: false\n")
    logged = LoggedMesh(tmp_path, text)
    request = ("/buys/predict", {"features": FEATURES})
    logged.ask([request, ("/person/lookup", {"data": {"customer_id": "00003"}})])
    logged.declare(
        SERVICE.replace("  type: predict\n", "  type: predict\n  log: {features: false, answers: false}\n")
    )
    logged.ask([request], ids=["quiet"])
    logged.declare(SERVICE.replace("  type: predict\n", "  type: predict\n  log: {sample: 0.25}\n"))
    logged.ask([request] * 400, ids=[f"s{number}" for number in range(400)])
    query_log.collect_all(logged.workspace, "scores")
    rows = {row["request_id"]: row for row in logged.rows()}
    assert set(rows) >= {"r0", "quiet"}
    assert "r1" not in rows
    assert read(rows["r0"], "sent") == read(rows["r0"], "features") == {"recency": 9, "frequency": 22}
    assert [rows["quiet"][name] for name in ("sent", "features", "result")] == [None] * 3
    assert 50 < len(rows) - 2 < 150
    logged.workspace.database.close()


def test_a_crash_doubles_and_loses_nothing(logged: LoggedMesh, monkeypatch: pytest.MonkeyPatch) -> None:
    request = ("/buys/predict", {"features": FEATURES})
    folder = logged.workspace.settings.queries_folder / "scores"
    logged.ask([request], ids=["before"])
    commit = History.commit_draft

    def killed_before(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    def killed_after(*arguments: Any, **named: Any) -> Any:
        commit(*arguments, **named)
        raise KeyboardInterrupt

    for killed in (killed_before, killed_after):
        monkeypatch.setattr(History, "commit_draft", killed)
        with pytest.raises(KeyboardInterrupt):
            query_log.collect(logged.workspace, "scores")
        assert len(complete(folder)) == 1
    monkeypatch.setattr(History, "commit_draft", commit)
    assert query_log.collect(logged.workspace, "scores") == 0  # it was committed, which the note tells
    assert complete(folder) == []
    logged.ask([request], ids=["after"])
    query_log.collect_all(logged.workspace, "scores")
    assert [row["request_id"] for row in logged.rows()] == ["after", "before"]


def test_many_small_files_become_one(logged: LoggedMesh) -> None:
    built = logged.package()
    for number in range(query_log.SMALL_FILES + 1):
        logged.ask([("/buys/predict", {"features": FEATURES})], version=built, ids=[f"r{number:02}"])
        query_log.collect_all(logged.workspace, "scores")
    repository = find_repository(logged.workspace.lake, "scores")
    assert repository is not None
    names = [entry.path.rpartition("/")[2] for entry in repository.entries("main", "queries/")]
    assert sorted(name.partition("-")[0] for name in names) == ["0", "1"]
    assert len(logged.rows()) == query_log.SMALL_FILES + 1


def test_what_was_kept_before_a_column_was_there_is_read_and_gets_it(logged: LoggedMesh) -> None:
    logged.ask([("/buys/predict", {"features": FEATURES})], ids=["old"])
    query_log.collect_all(logged.workspace, "scores")
    repository = find_repository(logged.workspace.lake, "scores")
    assert repository is not None
    (entry,) = repository.entries("main", "queries/")
    older = pq.read_table(io.BytesIO(repository.get("main", entry.path))).drop_columns(["way"])
    made = io.BytesIO()
    pq.write_table(older, made)
    repository.put("main", entry.path, made.getvalue())
    repository.commit("main", "as it was kept before")
    repository.set_metadata({}, remove=[query_log.FORM])
    assert [(row["request_id"], row["way"]) for row in logged.rows()] == [("old", None)]
    logged.ask([("/buys/predict", {"features": FEATURES})], ids=["new"], headers={"x-tulle-way": "token"})
    query_log.collect_all(logged.workspace, "scores")
    both = [("new", "token"), ("old", None)]
    assert [(row["request_id"], row["way"]) for row in logged.rows()] == both
    query_log.tidy(logged.workspace)
    assert [(row["request_id"], row["way"]) for row in logged.rows()] == both
    files = [
        pq.read_schema(io.BytesIO(repository.get("main", e.path)))
        for e in repository.entries("main", "queries/")
    ]
    assert [schema.names for schema in files] == [SCHEMA.names] * 2
    head = repository.log("main", limit=1)
    query_log.tidy(logged.workspace)  # nothing is left to be done
    assert repository.log("main", limit=1) == head


def test_what_is_old_or_too_much_is_forgotten(tmp_path: Path) -> None:
    logged = LoggedMesh(tmp_path, SERVICE.replace("endpoints:", "log: {keep: 2 days, most: 1MB}\nendpoints:"))
    logged.ask([("/buys/predict", {"features": FEATURES})])
    query_log.collect_all(logged.workspace, "scores")
    repository = find_repository(logged.workspace.lake, "scores")
    assert repository is not None
    repository.put("main", "queries/day=2001-01-01/0-x.parquet", b"x")
    repository.put("main", "feedback/day=2001-01-02/0-x.parquet", b"x")
    repository.commit("main", "old")
    assert query_log.tidy(logged.workspace) == 2
    assert len(logged.rows()) == 1
    (today,) = {entry.path.split("/")[1] for entry in repository.entries("main")}
    repository.put("main", f"queries/{today}/3-large.bin", b"x" * 1_100_000)
    repository.commit("main", "more than is kept")
    assert query_log.tidy(logged.workspace) == 1
    assert list(repository.entries("main")) == []
    for number in range(3):
        repository.put("main", f"queries/{today}/3-{number}.bin", b"x" * 400_000)
    repository.commit("main", "more than is kept of one day")
    assert query_log.tidy(logged.workspace) == 1
    assert [entry.path[-6:] for entry in repository.entries("main")] == ["-1.bin", "-2.bin"]
    assert query_log.tidy(logged.workspace) == 0
    logged.workspace.database.close()


def test_a_repository_of_somebody_else_is_left_alone(logged: LoggedMesh) -> None:
    logged.workspace.lake.create_repository("scores-queries")
    logged.ask([("/buys/predict", {"features": FEATURES})])
    with pytest.raises(Conflict, match="'scores-queries' is somebody else's"):
        query_log.collect(logged.workspace, "scores")
    assert len(complete(logged.workspace.settings.queries_folder / "scores")) == 1


def test_the_newest_and_the_oldest_are_found_over_many_days(logged: LoggedMesh) -> None:
    logged.ask([("/buys/predict", {"features": FEATURES})], ids=["today"])
    query_log.collect_all(logged.workspace, "scores")
    repository = find_repository(logged.workspace.lake, "scores")
    assert repository is not None
    (entry,) = repository.entries("main", "queries/")
    (kept,) = pq.read_table(io.BytesIO(repository.get("main", entry.path))).to_pylist()
    days = [dt.date(2020, 1, 1) + dt.timedelta(days=3 * number) for number in range(9)]
    for day in days:
        at = dt.datetime.combine(day, dt.time(23, 59), dt.UTC)
        row = {**kept, "request_id": day.isoformat(), "asked_at": round(at.timestamp() * 1_000_000)}
        repository.put("main", f"queries/day={day}/0-x.parquet", parquet(table_of([row], SCHEMA)))
    repository.commit("main", "earlier")
    ids = ["today", *(day.isoformat() for day in reversed(days))]

    def found(limit: int, **wanted: Any) -> list[str]:
        return [row["request_id"] for row in logged.log.newest("scores", Wanted(**wanted), limit=limit)]

    for limit in (1, 2, 3, 5, 10, 100):
        assert found(limit) == ids[:limit]
        first = logged.log.first("scores", "request_id", Wanted(), limit=limit)
        assert [row["request_id"] for row in first] == ids[::-1][:limit]
    noon = dt.datetime.combine(days[6], dt.time(12), dt.UTC).timestamp()
    assert found(100, since=noon) == ids[:4]
    assert found(100, since=noon, until=noon + 86_400) == [days[6].isoformat()]
    assert found(2, until=noon) == [days[5].isoformat(), days[4].isoformat()]
    assert found(1, request_id=days[0].isoformat()) == [days[0].isoformat()]


def test_it_goes_with_the_product_s_data(logged: LoggedMesh) -> None:
    logged.ask([("/buys/predict", {"features": FEATURES})])
    query_log.collect_all(logged.workspace, "scores")
    logged.ask([("/buys/predict", {"features": FEATURES})])
    shown = destroy.preview(logged.workspace, "scores", data=True)
    assert [step.sentence for step in shown.steps if step.operation == "delete-queries"] == [
        "its queries and what turned out are deleted: repository 'scores-queries'"
    ]
    destroy.destroy(logged.workspace, "scores", data=True)
    assert find_repository(logged.workspace.lake, "scores") is None
    assert query_log.places(logged.workspace) == []


def test_names_of_repositories_are_short_enough() -> None:
    one, other = repository_name("a" * 62 + "b"), repository_name("a" * 62 + "c")
    assert len(one) == len(other) == 63
    assert one != other
    assert repository_name("scores") == "scores-queries"


def test_commands_tell_of_the_log(logged: LoggedMesh) -> None:
    assert "nothing was asked yet" in logged.tulle("service", "log", "scores")
    logged.ask(
        [("/buys/predict", {"features": FEATURES}), ("/person/lookup", {"data": {"customer_id": "none"}})],
        headers={"x-tulle-client": "till", "x-tulle-way": "contract"},
    )
    first, second = logged.tulle("service", "log", "scores").splitlines()
    assert "buys/predict v1 200" in first
    assert " till by contract r0 " in first
    assert "person/lookup v1 404" in second
    assert "NoMatch" in second
    assert len(logged.tulle("service", "log", "scores", "--errors", "--since", "1 hour").splitlines()) == 1
    (row,) = json.loads(logged.tulle("service", "log", "scores", "--endpoint", "buys", "--json"))
    assert (row["request_id"], row["features"]) == ("r0", FEATURES)
    with mesh_client(logged.mesh.folder) as client:
        state = ServiceLog(client, "scores").state()
        with pytest.raises(NotFound, match="no applied product has a service 'scorse'"):
            ServiceLog(client, "scorse").queries()
    assert (state["repository"], state["keep_days"]) == ("scores-queries", 30)
    assert [(one["endpoint"], one["rows"], one["errors"]) for one in state["asked"]] == [
        ("buys", 1, 0),
        ("person", 1, 1),
    ]


def tensors(**values: list[Any]) -> dict[str, Any]:
    kinds = {"who": "BYTES", "spend": "FP64"}
    return {
        "inputs": [
            {"name": name, "shape": [len(some)], "datatype": kinds.get(name, "INT64"), "data": some}
            for name, some in values.items()
        ]
    }


def test_tensors_are_logged_with_what_the_model_was_given(logged: LoggedMesh) -> None:
    asked = [
        ("/v2/models/buys/infer", tensors(who=["00003", "00005"])),
        ("/v2/models/buys/infer", tensors(recency=[9], frequency=[22], spend=[5.25])),
        ("/v2/models/buys/infer", tensors(who=["nobody"])),
        ("/buys/predict", {"features": {"who": "00003"}}),
    ]
    logged.ask(asked)
    query_log.collect_all(logged.workspace, "scores")
    first, second, plain, refused, usual = logged.rows()
    assert [(row["request_id"], row["item"], row["action"]) for row in (first, second, plain)] == [
        ("r0", 0, "infer"),
        ("r0", 1, "infer"),
        ("r1", 0, "infer"),
    ]
    assert read(first, "sent") == {"who": "•••"}
    assert read(first, "features") == read(usual, "features") == FEATURES
    assert read(plain, "sent") == read(plain, "features") == FEATURES
    assert read(second, "features") != FEATURES
    said = read(usual, "result")
    assert read(first, "result") == {name: said[name] for name in ("prediction", "probas")}
    assert (refused["status"], refused["error"], refused["sent"]) == (404, "NoMatch", None)
    measured = json.loads(logged.tulle("service", "drift", "scores", "--json"))["measured"]
    assert [(one["endpoint"], one["rows"]) for one in measured] == [("buys", 4)]


def leave(logged: LoggedMesh, place: str, number: int) -> None:
    """Leave a segment as a worker of an environment does."""
    header = SegmentHeader("scores", "v1", "v1", [SegmentRoute("buys", "predict", "predict", [])])
    folder = logged.workspace.settings.queries_folder / place
    writer = SegmentWriter(folder, f"{number:04}", header)
    record = Record(0, number, 1, f"{place}-{number}", 200, None, None, b"{}", b"{}", None)
    writer.add(SEGMENT_QUERIES, [record])
    writer.close()


def test_files_are_merged_when_no_note_of_any_environment_looks_for_them(
    logged: LoggedMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged.package()
    places = ["scores", "scores@test"]
    for number in range(query_log.SMALL_FILES - 2):
        leave(logged, places[number % 2], number)
        query_log.collect_all(logged.workspace, "scores")
    leave(logged, places[1], 97)
    commit = History.commit_draft

    def killed_after(*arguments: Any, **named: Any) -> Any:
        commit(*arguments, **named)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(History, "commit_draft", killed_after)
        with pytest.raises(KeyboardInterrupt):
            query_log.collect(logged.workspace, places[1])
    leave(logged, places[0], 98)
    assert query_log.collect(logged.workspace, places[0]) == 1  # which makes the day's files one
    query_log.collect_all(logged.workspace, "scores")
    found = logged.rows("SELECT request_id, count(*) AS rows FROM queries GROUP BY 1")
    assert {row["rows"] for row in found} == {1}
    assert len(found) == query_log.SMALL_FILES
    repository = find_repository(logged.workspace.lake, "scores")
    assert repository is not None
    assert len(list(repository.entries("main", "queries/"))) == 1


def test_large_files_do_not_keep_small_ones_apart(
    logged: LoggedMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = logged.workspace.lake.create_repository("some")
    rows = parquet(pa.table({"x": [1]}))
    large = parquet(pa.table({"x": list(range(100_000))}))
    for number in range(query_log.SMALL_FILES):
        repository.put("main", f"queries/day=2026-01-01/0-{number:02}.parquet", rows)
    repository.put("main", "queries/day=2026-01-01/0-large.parquet", large)
    repository.commit("main", "files")
    monkeypatch.setattr(query_log, "MERGED_BYTES", len(large) - 1)
    assert query_log.merge_small(repository, {"queries/day=2026-01-01"}) == query_log.SMALL_FILES
    names = [
        entry.path.rpartition("/")[2].partition("-")[0] for entry in repository.entries("main", "queries/")
    ]
    assert names == ["0", "1"]


def test_a_segment_that_is_not_understood_holds_up_no_other(
    logged: LoggedMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged.package()
    for number in range(3):
        leave(logged, "scores", number)
    folder = logged.workspace.settings.queries_folder / "scores"
    understood = query_log_rows.read_segment

    def strict(path: Path) -> Any:
        if path.name.startswith("0001"):
            raise LookupError(path.name)
        return understood(path)

    monkeypatch.setattr(query_log_rows, "read_segment", strict)
    query_log.collect_all(logged.workspace, "scores")
    assert [row["request_id"] for row in logged.rows()] == ["scores-0", "scores-2"]
    assert [path.name for path in folder.iterdir()] == ["0001.damaged"]


def test_what_is_collected_at_once_is_a_few_rows_at_a_time(
    logged: LoggedMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_log_rows, "AT_ONCE_ROWS", 2)
    logged.package()
    for number in range(5):
        leave(logged, "scores", number)
    assert query_log.collect(logged.workspace, "scores") == 5
    assert len(logged.rows()) == 5
    counted = logged.log.counted("scores", "SELECT sum(requests) AS n FROM traffic", since=0, until=10)
    assert counted == [{"n": 5}]


def test_another_s_repository_is_no_log(logged: LoggedMesh) -> None:
    foreign = logged.workspace.lake.create_repository("scores-queries")
    foreign.put("main", "queries/day=2026-01-01/0-x.parquet", parquet(SCHEMA.empty_table()))
    foreign.commit("main", "theirs")
    assert find_repository(logged.workspace.lake, "scores") is None
    assert logged.rows() == []
    query_log.delete(logged.workspace, "scores")
    assert foreign.exists("main", "queries/day=2026-01-01/0-x.parquet")
    logged.workspace.lake.create_repository("says-so", metadata={OWNER: "others"})
    assert query_log.logged_services(logged.workspace) == []
    assert query_log.tidy(logged.workspace) == 0
    assert find_repository(logged.workspace.lake, "others") is None


def test_what_comes_after_the_end_is_not_kept(logged: LoggedMesh) -> None:
    logged.ask([("/buys/predict", {"features": FEATURES})])
    query_log.collect_all(logged.workspace, "scores")
    destroy.destroy(logged.workspace, "scores", data=True)
    leave(logged, "scores", 1)  # a worker that ended late
    query_log.collect_all(logged.workspace, "scores")
    assert find_repository(logged.workspace.lake, "scores") is None
    assert complete(logged.workspace.settings.queries_folder / "scores") == []


def test_moments_that_are_none_are_refused(logged: LoggedMesh) -> None:
    paths = ["queries?", "log?", "drift?", "compare/recorded?left=v1&right=v2&"]
    with mesh_client(logged.mesh.folder) as client:
        for path, bad in itertools.product(paths, ["inf", "nan", "-1", "1e300", "x"]):
            with pytest.raises(Invalid) as caught:
                client.call("GET", f"/services/scores/{path}since={bad}")
            assert "since" in str(caught.value.problems)
