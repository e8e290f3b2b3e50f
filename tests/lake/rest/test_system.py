import re

from tests.lake.rest.calling import Client

from tulle.lake.door import application
from tulle.lake.rest.application import RestDoor
from tulle.state import log


def test_health_needs_no_credentials(client):
    client.credentials = None
    assert client.get("/healthcheck").status == 204


def test_the_configuration_has_what_clients_ask_for(client, lake):
    config = client.get("/config").json
    storage = config["storage_config"]
    assert storage["blockstore_type"] == "local"
    assert storage["pre_sign_support"] is True
    assert storage["import_support"] is False  # no other places are allowed
    assert re.match(storage["blockstore_namespace_ValidityRegex"], "local://sales")
    assert config["storage_config_list"] == []
    version = config["version_config"]["version"]
    assert tuple(map(int, version.split("."))) >= (1, 3, 1)  # lakefs-spec reads it so and asks for that
    assert client.get("/config/version").json == config["version_config"]
    assert client.get("/config/storage").json == storage


def test_statistics_are_taken_and_dropped(client):
    events = {"events": [{"class": "cli", "name": "ls", "count": 1}]}
    assert client.post("/statistics", json=events).status == 204


def test_the_usage_report_is_empty(client):
    assert client.get("/usage-report/summary").json["reports"] == []


def test_strangers_are_turned_away(client):
    for credentials in (None, (client.credentials[0], "wrong"), ("nobody", "wrong"), "no-token"):
        client.credentials = credentials
        answer = client.get("/repositories")
        assert answer.status == 401
        assert answer.message
        assert client.get("/no/such/path").status == 401


def test_an_authorization_header_that_is_none_is_refused(client):
    for value in ("Basic", "Basic !!", "Basic YQ==", "Digest x", "Bearer", "\xff"):
        assert client.get("/config", headers={"authorization": value}).status == 401


def test_the_meshs_token_is_the_administrator(client):
    client.credentials = "mesh-token"
    assert client.get("/config").status == 200


def test_unknown_paths_and_methods(client):
    assert client.get("/no/such/path").status == 404
    answer = client.call("DELETE", "/config")
    assert (answer.status, answer.headers["allow"]) == (405, "GET")


def test_bodies_are_bounded(client):
    answer = client.post("/repositories", body=[b"[" * 600_000] * 2)
    assert answer.status == 413
    assert client.post("/repositories", body=b"[" * 500_000).status == 400


def test_every_request_is_told_to_the_log(lake, access, client):
    told = []

    class Log:
        def request(self, user, request, operation, status, seconds):
            told.append((user, request.path, operation, status))
            assert seconds >= 0

    door = RestDoor(lake, access, is_mesh_token=lambda token: token == "mesh-token", access_log=Log())
    other = Client(door, application(door.answer, threads=1), "mesh-token")
    other.get("/config")
    other.get("/repositories/none")
    other.credentials = None
    other.get("/config")
    other.get("/nowhere")
    assert told == [
        ("admin", "/api/v1/config", "getConfig", 200),
        ("admin", "/api/v1/repositories/none", "getRepository", 404),
        ("", "/api/v1/config", "getConfig", 401),
        ("", "/api/v1/nowhere", "", 401),
    ]


def test_a_defect_of_ours_is_an_answer_too(client, monkeypatch, caplog):
    def broken(*args, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr(client.door._lake, "repositories", broken)
    answer = client.get("/repositories")
    assert answer.status == 500
    assert "ZeroDivisionError" not in answer.message
    assert "ZeroDivisionError" in caplog.text


def test_changes_of_repositories_are_in_the_trail(client, database):
    client.post("/repositories", json={"name": "sales", "storage_namespace": ""})
    client.post("/repositories/sales/settings/read_only", json={"read_only": True})
    client.delete("/repositories/sales", force=True)
    found = log.read(database, subject="repository/sales")
    assert [(entry.kind, entry.actor) for entry in found] == [
        ("repository.created", "admin"),
        ("repository.frozen", "admin"),
        ("repository.deleted", "admin"),
    ]
