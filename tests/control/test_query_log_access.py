"""Who may read a service's log: its product's people and nobody else, by every door."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from tests.control.logged import PRODUCT, LoggedMesh

from tulle.catalog.query_log import find_repository, repository_name
from tulle.cli.connect import http_of, mesh_client
from tulle.cli.main import cli
from tulle.control import destroy, drift, grants, query_log
from tulle.errors import Denied, NotFound
from tulle.lake.access import Access, open_access, people
from tulle.sdk.service_log import ServiceLog

FEATURES = {"recency": 9, "frequency": 22, "spend": 5.25}
OBJECTS = "/api/v1/repositories/scores-queries/refs/main/objects"
TEAM = PRODUCT.replace(
    "properties: {definition: who buys}",
    "properties: {definition: who buys, contacts: [{username: ann, role: owner}, {username: dev, role: engineer}]}",
) + (
    "  - name: terms\n    type: data-sharing-agreement\n    properties: {description: d, consumers: [cem]}\n"
)


@pytest.fixture
def logged(tmp_path: Path) -> Iterator[LoggedMesh]:
    made = LoggedMesh(tmp_path)
    assert TEAM.count("contacts") == 1
    with made.workspace.database.write() as cx:
        for user in ("ann", "dev", "cem", "eve"):
            people.add_user(cx, user)
    made.mesh.write("products/shop/scores/product.yaml", TEAM)
    made.tulle("apply")
    yield made
    made.workspace.database.close()


@pytest.fixture
def access(logged: LoggedMesh) -> Access:
    return open_access(logged.workspace.database, logged.workspace.settings.state_folder / "secret.key")


def key_file(access: Access, tmp_path: Path, user: str) -> Path:
    made = access.create_key("admin", user)
    file = tmp_path / f"{user}.yaml"
    file.write_text(f"credentials: {{access_key_id: {made.id}, secret_access_key: '{made.secret}'}}\n")
    return file


def reads(access: Access, user: str, path: str = "queries/day=2026-11-21/0-x.parquet") -> bool:
    access.forget()
    return access.decide(
        user, "fs:ReadObject", *access.resource_object("scores-queries", "main", path)
    ).allowed


def asked(logged: LoggedMesh, *ids: str) -> None:
    logged.ask([("/buys/predict", {"features": FEATURES})] * len(ids), ids=ids)


def test_the_team_reads_its_log_with_a_key_of_its_own(
    logged: LoggedMesh, access: Access, tmp_path: Path
) -> None:
    files = {user: key_file(access, tmp_path, user) for user in ("dev", "cem", "eve")}

    def tulle(user: str, *words: str) -> Any:
        place = ["--mesh", str(logged.mesh.folder)]
        return CliRunner().invoke(cli, [*place, "service", *words, "--key", str(files[user])])

    before = tulle("dev", "log", "scores")
    assert isinstance(before.exception, NotFound)
    assert "its log begins with the first query" in str(before.exception.hint)
    asked(logged, "r1", "r2")
    # The first one who asks has it collected, and nobody has to apply anything.
    found = tulle("dev", "log", "scores", "--json")
    assert [row["request_id"] for row in json.loads(found.output)] == ["r2", "r1"]
    with mesh_client(logged.mesh.folder, files["dev"]) as client:
        kept = ServiceLog(client, "scores")
        assert (kept.feedback()["told"], kept.drift()["measured"][0]["endpoint"]) == (0, "buys")
        assert kept.state()["repository"] == "scores-queries"
        for refused in (
            lambda: kept.tell([{"requestId": "r1", "outcome": 1}]),
            lambda: kept.tell_from("scores", "people"),
            kept.measure_days,
        ):
            with pytest.raises(Denied, match="needs the mesh's token"):
                refused()
    for user in ("cem", "eve"):  # a consumer of the product's data is none of its log
        with mesh_client(logged.mesh.folder, files[user]) as client:
            kept = ServiceLog(client, "scores")
            for asks in (kept.queries, kept.feedback, kept.state, kept.drift, kept.drift_history):
                with pytest.raises(Denied, match="scores-queries"):
                    asks()


def test_the_team_queries_its_log_as_other_data(logged: LoggedMesh, access: Access, tmp_path: Path) -> None:
    asked(logged, "r1", "r2", "r3")
    query_log.collect_all(logged.workspace, "scores")
    repository = find_repository(logged.workspace.lake, "scores")
    assert repository is not None
    (entry,) = repository.entries("main", "queries/")
    keys = {user: access.create_key("admin", user) for user in ("ann", "dev", "cem")}
    answers = {}
    with http_of(logged.workspace.settings) as http:
        for user, key in keys.items():
            signed = base64.b64encode(f"{key.id}:{key.secret}".encode()).decode()
            headers = {"authorization": f"Basic {signed}"}
            answers[user] = http.get(OBJECTS, params={"path": entry.path}, headers=headers)
        wrote = http.post(OBJECTS.replace("refs", "branches"), params={"path": "queries/x"}, headers=headers)
    assert {user: answer.status_code for user, answer in answers.items()} == {
        "ann": 200,
        "dev": 200,
        "cem": 403,
    }
    assert wrote.status_code in {401, 403}
    table = pq.read_table(pa.BufferReader(answers["dev"].content))
    import duckdb

    sql = "SELECT count(*), avg(CAST(json_extract(features, '$.spend') AS DOUBLE)) FROM t WHERE status = 200"
    assert duckdb.connect().register("t", table).execute(sql).fetchall() == [(3, 5.25)]
    for user in ("ann", "dev"):
        path = access.resource_object("scores-queries", "main", entry.path)
        for action in ("fs:WriteObject", "fs:DeleteObject"):
            assert not access.decide(user, action, *path).allowed
        assert not access.decide(
            user, "fs:CreateCommit", access.resource_branch("scores-queries", "main")
        ).allowed


def test_roles_follow_the_logs_there_are(logged: LoggedMesh, access: Access) -> None:
    assert not reads(access, "dev")  # what will be called so may be somebody else's
    asked(logged, "r1")
    query_log.collect_all(logged.workspace, "scores")
    assert [reads(access, user) for user in ("ann", "dev", "cem", "eve")] == [True, True, False, False]
    assert "nothing" in logged.tulle("plan").lower()
    assert [f for one in drift.look(logged.workspace) for f in one.findings if f.kind == "role"] == []
    roles = json.loads(logged.tulle("grants", "scores", "--json"))["roles"]
    assert ["scores-queries" in role["says"] for role in roles] == [True, True, False]
    assert grants.follow_logs(logged.workspace) == 0
    query_log.delete(logged.workspace, "scores")
    logged.workspace.lake.create_repository("scores-queries")  # somebody else's
    assert grants.follow_logs(logged.workspace) == 0
    assert not reads(access, "dev")


def test_what_was_given_by_hand_is_left_to_apply(logged: LoggedMesh, access: Access) -> None:
    asked(logged, "r1")
    with logged.workspace.database.write() as cx:
        people.set_policy(cx, "scores-developer", [{"effect": "allow", "action": ["fs:*"], "resource": "*"}])
    query_log.collect_all(logged.workspace, "scores")
    (told,) = grants.as_plain(logged.workspace, logged.mesh.spec().product("scores"), ())["differs"]
    assert told.startswith("role 'scores-developer' may now read")
    assert "read scores-queries" in told


def test_a_log_that_changed_hands_is_nobodys(logged: LoggedMesh, access: Access) -> None:
    asked(logged, "r1")
    query_log.collect_all(logged.workspace, "scores")
    destroy.destroy(logged.workspace, "scores")
    other = TEAM.replace("name: scores, type: data-product", "name: others, type: data-product")
    (logged.mesh.folder / "products/shop/scores").rename(logged.mesh.folder / "products/shop/others")
    logged.mesh.write("products/shop/others/product.yaml", other)
    logged.tulle("apply")
    repository = logged.workspace.lake.repository("others")
    for entry in logged.workspace.lake.repository("scores").entries("main"):
        repository.put("main", entry.path, logged.workspace.lake.repository("scores").get("main", entry.path))
    repository.commit("main", "data and model")
    asked(logged, "r2")
    query_log.collect_all(logged.workspace, "scores")
    assert [row["request_id"] for row in logged.rows()] == ["r1", "r2"]
    grants.follow_logs(logged.workspace)
    assert not reads(access, "dev")
    assert repository_name("scores") not in str(grants.logs(logged.workspace))
