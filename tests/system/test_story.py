"""The whole story on real processes: real purchases, to a prediction through the real Envoy."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import openapi_spec_validator
import pytest
from tests.system.conftest import TULLE, Mesh, free_port

from tulle.config import Settings
from tulle.gateway.envoy_process import EnvoyProcess

pytestmark = pytest.mark.system

PREDICT = "high-value-predictor/high-value/predict"
PROFILE = "customer-features/customer-profile/lookup"
SPENDING = "customer-features/spending-summary/lookup"
CUSTOMER = "00003"


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def patient_call(mesh: Mesh, path: str, body: object) -> httpx.Response:
    """A call that waits while the application is over its rate."""
    answer = mesh.call(path, body)
    while answer.status_code == 429:
        time.sleep(0.3)
        answer = mesh.call(path, body)
    return answer


def test_the_printed_curl_lines_work(demo: tuple[Mesh, str]) -> None:
    _, printed = demo
    lines = [line for line in printed.splitlines() if line.startswith("curl")]
    assert len(lines) >= 5
    codes = []
    for line in lines:
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, line + done.stderr
        codes.append(done.stdout)
    answers = [json.loads(text) for text in codes if text.startswith("{")]
    assert any("prediction" in a.get("result", {}) for a in answers)
    assert any(a.get("errorType") for a in answers)  # the line without credentials
    assert any("429" in text for text in codes)  # the line that is too fast
    time.sleep(1.1)


def test_a_prediction_by_id_equals_the_one_with_all_features_and_the_callers_values_win(mesh: Mesh) -> None:
    def probabilities(features: dict[str, object]) -> dict[str, float]:
        answer = patient_call(mesh, PREDICT, {"features": features})
        assert answer.status_code == 200, answer.text
        result = answer.json()["result"]
        assert str(result["prediction"]) in result["probas"]
        assert sum(result["probas"].values()) == pytest.approx(1)
        return dict(result["probas"])

    profile = patient_call(mesh, PROFILE, {"data": {"customer_id": CUSTOMER}}).json()["results"][0]["data"]
    features = {name: profile[name] for name in features_of(mesh)}
    by_id = probabilities({"customer_id": CUSTOMER})
    assert probabilities(features) == by_id
    theirs = {"recency_days": 1, "recent_amount": 500}
    assert (
        probabilities({"customer_id": CUSTOMER, **theirs}) == probabilities({**features, **theirs}) != by_id
    )


def features_of(mesh: Mesh) -> list[str]:
    """The names of what the deployed model takes."""
    service = next(s for s in mesh.json("service", "list") if s["name"] == "high-value-predictor")
    manifest = service["versions"][-1]["manifest"]
    return [column["name"] for column in manifest["endpoints"][0]["enrich"][0]["columns"]]


def test_the_spending_summary_is_looked_up(mesh: Mesh) -> None:
    answer = patient_call(mesh, SPENDING, {"data": {"customer_id": CUSTOMER}})
    assert answer.status_code == 200
    assert answer.json()["results"][0]["data"]["customer_id"] == CUSTOMER


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        (PREDICT, {"features": {"customer_id": CUSTOMER}}, {}, 401),
        (PREDICT, {"features": {"customer_id": CUSTOMER}}, {"client_id": "a", "client_secret": "b"}, 401),
        ("no-such-service/x/predict", {}, None, 404),
        ("high-value-predictor/no-such-endpoint/predict", {}, None, 404),
        (PREDICT, {"features": {}}, None, 400),
        (PREDICT, {"features": {"customer_id": "no such customer"}}, None, 404),
        (PREDICT, {"features": {"customer_id": 3}}, None, 400),
        (PREDICT, {"features": {"customer_id": CUSTOMER, "recencyy": 3}}, None, 400),
        (PREDICT, {"features": {"customer_id": CUSTOMER, "big": "x" * 10_000_000}}, None, 413),
        (PROFILE, {"data": {}}, None, 400),
        (PROFILE, {"data": {"customer_id": "no such customer"}}, None, 404),
    ],
)
def test_every_refusal_has_one_shape(
    mesh: Mesh, path: str, body: object, headers: dict[str, str] | None, status: int
) -> None:
    answer = mesh.call(path, body, headers)
    while answer.status_code == 429:
        time.sleep(0.3)
        answer = mesh.call(path, body, headers)
    assert answer.status_code == status, answer.text
    error = answer.json()
    assert set(error) == {"errorType", "message", "detailedMessage", "requestId"}
    assert error["message"]
    assert "Traceback" not in answer.text


def test_malformed_json_is_a_400_of_the_same_shape(mesh: Mesh) -> None:
    url = f"http://127.0.0.1:{mesh.gateway}/public/api/v1/{PREDICT}"
    answer = httpx.post(url, content=b'{"features": {', headers=mesh.credentials())
    assert answer.status_code == 400
    assert set(answer.json()) == {"errorType", "message", "detailedMessage", "requestId"}


def test_too_fast_is_a_429_with_limit_headers(mesh: Mesh) -> None:
    with httpx.Client(headers=mesh.credentials()) as client:
        url = f"http://127.0.0.1:{mesh.gateway}/public/api/v1/{PROFILE}"
        answers = [client.post(url, json={"data": {"customer_id": CUSTOMER}}) for _ in range(40)]
    refused = [a for a in answers if a.status_code == 429]
    assert refused
    assert {a.status_code for a in answers} == {200, 429}
    assert refused[0].headers["x-ratelimit-limit"]
    assert refused[0].headers["x-ratelimit-remaining"] == "0"
    assert "retry-after" in refused[0].headers
    time.sleep(1.1)


@pytest.mark.parametrize("service", ["high-value-predictor", "customer-features"])
def test_the_openapi_document_is_served_and_valid(mesh: Mesh, service: str) -> None:
    url = f"http://127.0.0.1:{mesh.gateway}/public/api/v1/{service}/openapi.json"
    answer = httpx.get(url, headers=mesh.credentials())
    assert answer.status_code == 200
    assert answer.json()["openapi"].startswith("3.1")
    openapi_spec_validator.validate(answer.json())


def test_status_names_every_process_with_state_and_url(mesh: Mesh) -> None:
    status = mesh.json("status")
    assert status["up"]
    named = status["processes"]
    assert {"control_plane", "gateway"} <= set(named)
    assert any(name.startswith("high-value-predictor/") for name in named)
    assert all(p["state"] == "running" and p["url"].startswith("http://127.0.0.1:") for p in named.values())


def test_demo_again_changes_nothing(mesh: Mesh) -> None:
    def facts() -> object:
        # What callers ask is written down all the while, in repositories of its own.
        names = [r["id"] for r in mesh.json("repo", "list") if not r["id"].endswith("-queries")]
        commits = [mesh.json("log", name)[0]["id"] for name in names]
        return commits, [
            (s["name"], s["newest_version"], s["active_version"]) for s in mesh.json("service", "list")
        ]

    before, pids = facts(), {p.pid for p in mesh.processes()}
    mesh.demo()
    assert facts() == before
    until(lambda: {p.pid for p in mesh.processes()} == pids)  # some end by themselves, and leave nothing


def test_a_second_up_is_refused(mesh: Mesh) -> None:
    refused = mesh.tulle("up", check=False)
    assert refused.returncode == 1
    assert "is up already" in refused.stderr
    assert "tulle down" in refused.stderr


def test_a_taken_port_is_named_with_its_setting(mesh: Mesh, tmp_path: object) -> None:
    other = Mesh(mesh.folder.parent / "other-mesh", mesh.control_plane, mesh.gateway, mesh.s3)
    other.tulle("init", str(other.folder))
    refused = other.tulle("up", "--detach", check=False)
    assert refused.returncode == 1
    assert "control_plane_port" in refused.stderr
    assert str(mesh.control_plane) in refused.stderr


def test_a_failing_check_leaves_main_and_shows_the_rows(mesh: Mesh) -> None:
    check = mesh.folder / "products/sales/purchases/checks/no_big_spender.sql"
    before = mesh.json("log", "purchases")[0]["id"]
    check.write_text(
        "-- data_set: purchases\nSELECT customer_id, amount FROM purchases WHERE amount > 1000\n"
    )
    try:
        failed = mesh.tulle("run", "purchases", check=False)
        assert failed.returncode == 1
        assert "no_big_spender" in failed.stdout
        assert "customer_id" in failed.stdout
        assert mesh.json("log", "purchases")[0]["id"] == before
        run = mesh.json("runs")[0]
        assert run["status"] == "failed"
        assert run["branch"] in {b["name"] for b in mesh.json("branch", "list", "purchases")}
        page = httpx.get(
            f"http://127.0.0.1:{mesh.control_plane}/runs/{run['id']}", headers={"accept": "text/html"}
        )
        assert page.status_code == 200
        assert "no_big_spender" in page.text
        assert "customer_id" in page.text
    finally:
        check.unlink()
    assert mesh.json("run", "purchases")[0]["status"] in {"succeeded", "unchanged"}


@pytest.mark.parametrize("name", ["gateway", "high-value-predictor", "control_plane"])
def test_a_killed_process_comes_back_and_the_mesh_answers(mesh: Mesh, name: str) -> None:
    def row() -> dict[str, object]:
        named = mesh.json("status")["processes"]
        return next((p for n, p in named.items() if n.split("/")[0] == name), {})

    pid = row()["pid"]
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGKILL)
    until(lambda: row().get("state") == "running" and row()["pid"] != pid)

    def answers() -> bool:
        try:
            return mesh.call(PREDICT, {"features": {"customer_id": CUSTOMER}}).status_code == 200
        except httpx.TransportError:
            return False

    until(answers)
    assert mesh.json("service", "list")


def test_a_revoked_application_is_refused_at_once(mesh: Mesh) -> None:
    made = mesh.json("app", "create", "visitor", "--service", "customer-features")
    headers = {"client_id": made["client_id"], "client_secret": made["client_secret"]}
    assert mesh.call(PROFILE, {"data": {"customer_id": CUSTOMER}}, headers).status_code == 200
    assert mesh.call(PREDICT, {"features": {"customer_id": CUSTOMER}}, headers).status_code == 403
    mesh.tulle("app", "revoke", "visitor")
    assert mesh.call(PROFILE, {"data": {"customer_id": CUSTOMER}}, headers).status_code == 401


def test_what_was_acknowledged_holds_for_the_next_call(mesh: Mesh) -> None:
    """Asked for, approved, revoked, restored, rotated: each answer of the mesh is what the gateway goes by."""
    made = mesh.json("app", "create", "asking", "--owner", "tom")
    headers = {"client_id": made["client_id"], "client_secret": made["client_secret"]}

    def status(credentials: dict[str, str]) -> int:
        return mesh.call(PROFILE, {"data": {"customer_id": CUSTOMER}}, credentials).status_code

    assert status(headers) == 403
    asked = mesh.json("app", "request", "asking", "customer-features", "--purpose", "a story")
    assert (asked["state"], status(headers)) == ("pending", 403)
    for step, expected in (("approve", 200), ("revoke", 403), ("restore", 200)):
        answer = mesh.json("app", step, asked["id"])
        assert (answer["gateway_follows"], status(headers)) == (True, expected), step
    fresh = mesh.json("app", "rotate", "asking")
    renewed = {"client_id": fresh["client_id"], "client_secret": fresh["client_secret"]}
    assert (status(headers), status(renewed)) == (200, 200)
    mesh.tulle("app", "rotate", "asking", "--end-old")
    assert (status(headers), status(renewed)) == (401, 200)
    (use,) = [one for one in mesh.json("app", "access", "--application", "asking") if one["who"] == "asking"]
    assert (use["purpose"], use["contract"]) == ("a story", asked["id"])
    mesh.tulle("app", "revoke", "asking")
    assert status(renewed) == 401


def test_an_api_key_opens_one_service_until_it_expires_or_is_revoked(mesh: Mesh, tmp_path: Path) -> None:
    from dataikuapi import APINodeClient
    from dataikuapi.utils import DataikuException

    ways = tmp_path / "ways.yaml"
    ways.write_text("contracts: true\napi_keys: {limit: 100/1s}\n")
    mesh.tulle("service", "access", "customer-features", "--set", str(ways))
    short = mesh.json("service", "key", "create", "customer-features", "--label", "short", "--expires", "8s")
    long = mesh.json("service", "key", "create", "customer-features", "--label", "long")
    assert (short["opens"], short["in_force"]) == (True, True)
    url = f"http://127.0.0.1:{mesh.gateway}/"  # the slash makes the client's paths begin with two
    one = APINodeClient(url, "customer-features", short["api_key"])
    other = APINodeClient(url, "customer-features", long["api_key"])
    for client in (one, other):
        assert client.lookup_record("customer-profile", {"customer_id": CUSTOMER})["data"]
    elsewhere = APINodeClient(url, "high-value-predictor", long["api_key"])
    with pytest.raises(DataikuException, match="NoContract"):
        elsewhere.predict_record("high-value", {"customer_id": CUSTOMER})

    def is_over() -> bool:
        try:
            one.lookup_record("customer-profile", {"customer_id": CUSTOMER})
        except DataikuException as exc:
            assert "InvalidClient" in str(exc)
            return True
        return False

    until(is_over)  # nobody ends it
    assert other.lookup_record("customer-profile", {"customer_id": CUSTOMER})["data"]
    kept = tmp_path / "key"
    kept.write_text(long["api_key"] + "\n")
    asked = ("customer-features", "customer-profile", "-d", json.dumps({"customer_id": CUSTOMER}))
    assert CUSTOMER in mesh.tulle("service", "call", *asked, "--bearer", str(kept)).stdout
    assert "InvalidClient" in mesh.tulle("service", "call", *asked, "--anonymous", check=False).stdout
    mesh.tulle("service", "key", "revoke", "customer-features", "long")
    with pytest.raises(DataikuException, match="InvalidClient"):
        other.lookup_record("customer-profile", {"customer_id": CUSTOMER})
    ways.write_text("public: {limit: 100/1s}\n")
    mesh.tulle("service", "access", "customer-features", "--set", str(ways))
    assert APINodeClient(url, "customer-features").lookup_record(
        "customer-profile", {"customer_id": CUSTOMER}
    )
    assert mesh.call(PROFILE, {"data": {"customer_id": CUSTOMER}}, {}).status_code == 200
    mesh.tulle("service", "access", "customer-features", "--as-packaged")
    assert mesh.call(PROFILE, {"data": {"customer_id": CUSTOMER}}, {}).status_code == 401
    seen = (mesh.folder / ".tulle/log/gateway-access.jsonl").read_text()
    assert long["id"] in seen
    assert long["api_key"] not in seen


def test_a_redeploy_and_a_rollback_lose_no_request(mesh: Mesh) -> None:
    service = mesh.folder / "products/marketing/high-value-customers/services/customer-features.yaml"
    before = service.read_text()
    made = mesh.json("app", "create", "steady", "--service", "customer-features=100000/1s")
    headers = {"client_id": made["client_id"], "client_secret": made["client_secret"]}
    service.write_text(before.replace("description:", "description: Changed.", 1))
    package = mesh.json("service", "package", "customer-features")
    assert package["created"]
    codes: list[int] = []
    there = shlex.join(_tulle(mesh, "service", "deploy", "customer-features"))
    back = shlex.join(_tulle(mesh, "service", "rollback", "customer-features"))
    with httpx.Client(headers=headers) as client:
        deploy = subprocess.Popen(
            ["bash", "-c", f"{there} && {back} && sleep 2.5"], env=mesh.environment, stdout=subprocess.DEVNULL
        )
        url = f"http://127.0.0.1:{mesh.gateway}/public/api/v1/{PROFILE}"
        while deploy.poll() is None:
            codes.append(client.post(url, json={"data": {"customer_id": CUSTOMER}}, timeout=10).status_code)
            time.sleep(0.002)
    service.write_text(before)
    assert deploy.returncode == 0
    assert len(codes) > 100
    assert set(codes) == {200}
    mesh.tulle("app", "revoke", "steady")


def _tulle(mesh: Mesh, *args: str) -> list[str]:
    return [TULLE, "--mesh", str(mesh.folder), *args]


def test_the_stock_dataiku_client_works(mesh: Mesh) -> None:
    from dataikuapi import APINodeClient

    kept = json.loads((mesh.folder / ".tulle" / "credentials" / "storefront.json").read_text())
    client = APINodeClient(f"http://127.0.0.1:{mesh.gateway}", "high-value-predictor", kept["api_key"])
    answer = client.predict_record("high-value", {"customer_id": CUSTOMER})
    assert "prediction" in answer["result"]
    several = client.predict_records(
        "high-value", [{"features": {"customer_id": c}} for c in (CUSTOMER, "00004")]
    )
    assert len(several["results"]) == 2
    features = APINodeClient(f"http://127.0.0.1:{mesh.gateway}", "customer-features", kept["api_key"])
    assert (
        features.lookup_record("customer-profile", {"customer_id": CUSTOMER})["data"]["customer_id"]
        == CUSTOMER
    )


def test_the_open_inference_protocol_answers_through_the_gateway(mesh: Mesh) -> None:
    home = f"http://127.0.0.1:{mesh.gateway}/public/api/v1/high-value-predictor/v2"
    body = {
        "inputs": [{"name": "customer_id", "datatype": "BYTES", "shape": [2], "data": [CUSTOMER, "00004"]}]
    }

    def asked(method: str, path: str, credentials: dict[str, str]) -> httpx.Response:
        content = body if method == "POST" else None
        while True:
            found = httpx.request(method, f"{home}{path}", json=content, headers=credentials, timeout=20)
            if found.status_code != 429:
                return found
            time.sleep(0.3)

    own = mesh.credentials()
    assert asked("GET", "/health/ready", own).json() == {"ready": True}
    told = asked("GET", "/models/high-value", own).json()
    assert told["name"] == "high-value"
    assert "customer_id" in {one["name"] for one in told["inputs"]}
    ready = asked("GET", f"/models/high-value/versions/{told['versions'][0]}/ready", own)
    assert ready.json() == {"name": "high-value", "ready": True}
    answer = asked("POST", "/models/high-value/infer", own)
    assert answer.status_code == 200, answer.text
    labels = answer.json()["outputs"][0]["data"]
    ours = [
        patient_call(mesh, PREDICT, {"features": {"customer_id": one}}).json()["result"]["prediction"]
        for one in (CUSTOMER, "00004")
    ]
    assert labels == ours
    for credentials in ({}, {"client_id": "a", "client_secret": "b"}):
        refused = asked("POST", "/models/high-value/infer", credentials)
        assert refused.status_code == 401
        assert {"errorType", "message", "detailedMessage", "requestId"} <= set(refused.json())


def test_a_tool_for_api_nodes_switches_generations_that_answer(mesh: Mesh) -> None:
    from dataikuapi import APINodeAdminClient
    from dataikuapi.utils import DataikuException

    url = f"http://127.0.0.1:{mesh.control_plane}/"
    with pytest.raises(DataikuException, match="the admin API is off"):
        APINodeAdminClient(url, "admin-1.x").list_services()
    made = mesh.json("service", "admin-key", "create", "--label", "deployer")
    client = APINodeAdminClient(url, made["key"])
    service = client.service("customer-features")
    versions = [one["generation"] for one in service.list_generations()]
    assert len(versions) > 1  # another test deployed a second one
    found = mesh.json("service", "list")
    before = next(one["active_version"] for one in found if one["name"] == "customer-features")
    other = next(version for version in versions if version != before)

    def answering() -> str:
        answer = mesh.call(PROFILE, {"data": {"customer_id": CUSTOMER}})
        assert answer.status_code == 200
        return str(answer.headers["x-tulle-generation"])

    service.preload_generation(other)
    forced = {"data": {"customer_id": CUSTOMER}, "dispatch": {"forcedGeneration": other}}
    assert mesh.call(PROFILE, forced).headers["x-tulle-generation"] == other
    service.set_generations_mapping({"entries": [{"generation": other, "proba": 1}]})
    assert answering() == other  # at once: what was asked for is so when it is answered
    service.disable()
    assert mesh.call(PROFILE, {"data": {"customer_id": CUSTOMER}}).json()["errorType"] == "ServiceDisabled"
    service.enable()
    service.switch_to_single_generation(before)
    assert answering() == before
    counted = client.get_metrics()["services"]["customer-features"][before]
    assert counted["requests"] >= counted["answered"] > 0
    alive = f"http://127.0.0.1:{mesh.gateway}/isAlive/"
    file = mesh.folder / ".tulle/apinode-not-alive.txt"
    file.touch()
    until(lambda: httpx.get(alive).status_code == 503)
    assert answering() == before
    file.unlink()
    until(lambda: httpx.get(alive).status_code == 200)
    client.auth().delete_key(made["key"])
    with pytest.raises(DataikuException, match="the admin API is off"):
        client.list_services()


def test_down_leaves_nothing_and_up_brings_everything_back(mesh: Mesh) -> None:
    mesh.tulle("down")
    until(lambda: mesh.processes() == [])
    assert mesh.json("status") == {
        "mesh": mesh.json("status")["mesh"], "folder": str(mesh.folder), "up": False, "drift": {}, "pin": None, "faults": [],
        "certificates": [], "processes": {}, "waiting": [], "troubles": [], "room": "",
    }  # fmt: skip
    # The gateway begins with nothing, and `up` is over when all that is recorded is in force there.
    for file in (mesh.folder / ".tulle/run/gateway").glob("*.json"):
        file.unlink()
    mesh.tulle("up", "--detach")
    assert mesh.call(PREDICT, {"features": {"customer_id": CUSTOMER}}).status_code == 200
    assert mesh.json("status")["waiting"] == []


def test_down_stops_a_mesh_that_is_still_starting(mesh: Mesh) -> None:
    other = Mesh(mesh.folder.parent / "early-mesh", free_port(), free_port(), free_port())
    other.tulle("init", str(other.folder))
    starting = subprocess.Popen(
        _tulle(other, "up", "--detach"), env=other.environment, stderr=subprocess.DEVNULL
    )
    until((other.folder / ".tulle/run/starting.json").exists)
    assert "stopped" in other.tulle("down").stdout
    starting.wait(30)
    until(lambda: other.processes() == [])
    assert not other.json("status")["up"]


def test_down_stops_a_mesh_whose_file_is_broken_since(mesh: Mesh) -> None:
    other = Mesh(mesh.folder.parent / "broken-since", free_port(), free_port(), free_port())
    other.tulle("init", str(other.folder))
    other.tulle("up", "--detach")
    shared = EnvoyProcess(Settings(folder=other.folder))
    assert shared.shares()
    with (other.folder / "mesh.yaml").open("a") as file:
        file.write("polices: {}\n")
    done = other.tulle("down", check=False)
    assert done.returncode == 1
    assert ("stopped" in done.stdout, "polices" in done.stderr) == (True, True)
    assert other.processes() == []
    assert not shared.shares()
    assert "stopped" not in other.tulle("down", check=False).stdout


def test_down_ends_runs_that_run_and_runs_that_wait(mesh: Mesh) -> None:
    other = Mesh(mesh.folder.parent / "slow-mesh", free_port(), free_port(), free_port())
    other.tulle("init", str(other.folder))
    (other.folder / "mesh.yaml").write_text("name: slow\nwarehouse: {concurrent_runs: 1}\n")
    for name in ("first-one", "second-one"):
        other.tulle("new", "product", name, "--domain", "sales")
        model = "import time\ninputs = []\n\n\ndef model(run):\n    time.sleep(100)\n"
        (other.folder / f"products/sales/{name}/transform/slow.py").write_text(model)
    other.tulle("apply")
    waiting = [
        subprocess.Popen(
            _tulle(other, "run", name),
            env=other.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for name in ("first-one", "second-one")
    ]
    until(lambda: sorted(r["status"] for r in other.json("runs")) == ["queued", "running"])
    other.tulle("down")
    assert [r["status"] for r in other.json("runs")] == ["stopped", "stopped"]
    for process in waiting:
        process.wait(20)
    until(lambda: other.processes() == [])


def test_a_damaged_generation_is_unpacked_again_at_the_next_start(mesh: Mesh) -> None:
    mesh.tulle("down")
    for index in (mesh.folder / ".tulle/generations/customer-features").rglob("*.mdb"):
        index.chmod(0o600)
        index.write_bytes(b"damaged")
    mesh.tulle("up", "--detach")
    until(lambda: mesh.call(PROFILE, {"data": {"customer_id": CUSTOMER}}).status_code == 200)
