import json
import socket
import threading
import time

import pytest

from tulle.errors import Denied, Invalid, Unavailable, Vetoed
from tulle.lake.hooks import record
from tulle.lake.hooks.airflow import airflow
from tulle.lake.hooks.built_in import built_in_kinds
from tulle.lake.hooks.outbound import BODY_BYTES, Outbound
from tulle.lake.hooks.run import Hooks


@pytest.fixture
def sales(lake, server):
    kinds = built_in_kinds(allowed=["127.0.0.1"])
    kinds = {**kinds, "airflow": airflow(Outbound(["127.0.0.1"]), poll_seconds=0.05)}
    lake.hooks = Hooks(lake, kinds)
    return lake.create_repository("sales")


def commit(repository, kind, properties):
    hook = {"id": "it", "type": kind, "properties": properties}
    action = {"name": "a", "on": {"pre-commit": None}, "hooks": [hook]}
    repository.put("main", "_lakefs_actions/a.yaml", json.dumps(action).encode())
    return repository.commit("main", "message", committer="ann", metadata={"k": "v"})


def output(lake, repository):
    run = record.list_runs(lake.database, repository.record.id)[0]
    return record.hooks_of(lake.database, run.id)[0].output


def test_a_webhook_is_told_the_event(lake, sales, server, monkeypatch):
    monkeypatch.setenv("LAKEFSACTION_TOKEN", "hush-hush")
    server.answer = lambda *_: (204, b"", {})
    made = commit(
        sales,
        "webhook",
        {
            "url": f"{server.url}/hook?x=1",
            "query_params": {"a": ["1", "2"], "b": "c d"},
            "headers": {"Authorization": "Bearer {{ ENV.LAKEFSACTION_TOKEN }}"},
        },
    )
    ((method, path, headers, body),) = server.requests
    assert (method, path) == ("POST", "/hook?x=1&a=1&a=2&b=c+d")
    assert headers["authorization"] == "Bearer hush-hush"
    assert body.pop("event_time").endswith("Z")
    assert body == {
        "event_type": "pre-commit",
        "action_name": "a",
        "hook_id": "it",
        "repository_id": "sales",
        "branch_id": "main",
        "source_ref": "main",
        "commit_id": made.id,
        "commit_message": "message",
        "committer": "ann",
        "commit_metadata": {"k": "v"},
    }
    assert "status 204" in output(lake, sales)


def test_a_webhook_refuses_and_its_answer_is_kept_without_secrets(lake, sales, server, monkeypatch):
    monkeypatch.setenv("LAKEFSACTION_TOKEN", "hush-hush")
    server.answer = lambda *_: (400, b"amount missing, you sent hush-hush", {})
    with pytest.raises(Vetoed, match="amount missing"):
        commit(sales, "webhook", {"url": server.url + "?t={{ENV.LAKEFSACTION_TOKEN}}"})
    assert "hush" not in output(lake, sales)
    assert "amount missing" in output(lake, sales)


def test_redirects_are_not_followed(sales, server):
    server.answer = lambda *_: (302, b"", {"Location": server.url + "/elsewhere"})
    with pytest.raises(Vetoed, match="status 302"):
        commit(sales, "webhook", {"url": server.url + "/here"})
    assert len(server.requests) == 1


def test_a_webhook_has_a_time(sales, server):
    server.answer = lambda *_: (time.sleep(3), (200, b"", {}))[1]
    began = time.monotonic()
    with pytest.raises(Vetoed, match="did not answer in time"):
        commit(sales, "webhook", {"url": server.url, "timeout": "200ms"})
    assert time.monotonic() - began < 2.8


def test_an_answer_that_drips_has_a_time_too():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        over = threading.Event()

        def drip():
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\n")
                while not over.wait(0.05):
                    try:
                        connection.sendall(b"X: y\r\n")
                    except OSError:
                        return

        threading.Thread(target=drip, daemon=True).start()
        began = time.monotonic()
        with pytest.raises(Unavailable, match="in time"):
            Outbound(["127.0.0.0/8"]).send(
                "POST", f"http://127.0.0.1:{listener.getsockname()[1]}/", headers={}, deadline=began + 0.4
            )
        over.set()
        assert time.monotonic() - began < 10


def test_an_answer_is_bounded(server):
    server.answer = lambda *_: (200, b"x" * (BODY_BYTES + 10), {})
    answer = Outbound(["127.0.0.1"]).send("POST", server.url, headers={}, deadline=time.monotonic() + 5)
    assert (len(answer.body), answer.cut) == (BODY_BYTES, True)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "http://0.0.0.0:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://2130706433:{port}/",
        "http://10.0.0.1/",
        "http://192.168.1.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[fe80::1]/",
        "http://[fd00::1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://[::7f00:1]/",
        "http://[fec0::1]/",
        "http://224.0.0.1/",
        "http://100.64.0.1/",
    ],
)
def test_addresses_that_are_not_public_are_refused(server, url):
    with pytest.raises(Denied, match="not a public address") as caught:
        Outbound().send("POST", url.format(port=server.port), headers={}, deadline=time.monotonic() + 2)
    assert "under `hook_addresses:` in mesh.yaml" in str(caught.value.hint)
    assert server.requests == []


@pytest.mark.parametrize(
    "url", ["ftp://x/", "file:///etc/passwd", "http://", "http://u:p@h/", "http://h/a b", "http://h:x/"]
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(Invalid):
        Outbound(["0.0.0.0/0"]).send("POST", url, headers={}, deadline=time.monotonic() + 2)


@pytest.mark.parametrize("allowed", ["127.0.0.0/8", "127.0.0.1:{port}", "localhost", "localhost:{port}"])
def test_what_the_mesh_allows_is_reached(server, allowed):
    host = "localhost" if "localhost" in allowed else "127.0.0.1"
    outbound = Outbound([allowed.format(port=server.port)])
    url = f"http://{host}:{server.port}/"
    assert outbound.send("POST", url, headers={}, deadline=time.monotonic() + 5).status == 200


@pytest.mark.parametrize("headers", [{"Host": "x"}, {"X": "a\r\nY: b"}, {"Content-Length": "3"}])
def test_headers_that_would_change_the_request_are_refused(server, headers):
    with pytest.raises(Invalid):
        Outbound(["127.0.0.1"]).send("POST", server.url, headers=headers, deadline=time.monotonic() + 5)


class Airflow:
    """Airflow's stable REST API, as far as DAG runs go."""

    def __init__(self, states):
        self.states = states
        self.runs = {}

    def __call__(self, method, path, body):
        parts = path.strip("/").split("/")
        assert parts[:3] == ["api", "v1", "dags"]
        if parts[3] != "checks":
            return 404, json.dumps({"title": "DAG not found"}).encode(), {}
        if method == "POST":
            id_ = body["dag_run_id"]
            if id_ in self.runs:
                return 409, b"{}", {}
            self.runs[id_] = body["conf"]
            return 200, json.dumps({"dag_run_id": id_, "state": "queued"}).encode(), {}
        assert parts[5] in self.runs
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return 200, json.dumps({"dag_run_id": parts[5], "state": state}).encode(), {}


def dag(server, **more):
    return {"url": server.url, "dag_id": "checks", "username": "ann", "password": "hush-hush", **more}


def test_a_dag_is_run_and_waited_for(lake, sales, server):
    server.answer = double = Airflow(["queued", "running", "success"])
    made = commit(sales, "airflow", dag(server, dag_conf={"k": 1}, wait_for_dag=True))
    (conf,) = double.runs.values()
    assert conf["k"] == 1
    assert conf["lakeFS_event"]["commit_id"] == made.id
    assert server.requests[0][2]["authorization"] == "Basic YW5uOmh1c2gtaHVzaA=="
    text = output(lake, sales)
    assert text.endswith(": success")
    assert "hush" not in text


def test_a_dag_that_fails_refuses(sales, server):
    server.answer = Airflow(["running", "failed"])
    with pytest.raises(Vetoed, match=": failed"):
        commit(sales, "airflow", dag(server, wait_for_dag=True))


def test_a_dag_that_is_not_there_or_takes_too_long_refuses(sales, server):
    server.answer = Airflow(["running"])
    with pytest.raises(Vetoed, match="DAG not found"):
        commit(sales, "airflow", {**dag(server), "dag_id": "other"})
    with pytest.raises(Vetoed, match="did not end in time, it is running"):
        commit(sales, "airflow", dag(server, wait_for_dag=True, timeout="2s"))


def test_a_dag_whose_state_is_not_told_in_time_is_late_by_name(sales, server):
    double = Airflow(["running"])

    def slow(method, path, body):
        if method == "GET" and len(server.requests) > 2:
            time.sleep(3)
        return double(method, path, body)

    server.answer = slow
    with pytest.raises(Vetoed, match="did not end in time, it is running"):
        commit(sales, "airflow", dag(server, wait_for_dag=True, timeout="2s"))


def test_a_dag_that_is_not_waited_for(sales, server):
    server.answer = Airflow(["failed"])
    commit(sales, "airflow", dag(server))
    assert len(server.requests) == 1
