"""The user API of API nodes by its vendor's client: through the real gateway to a real worker."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from tests.gateway.conftest import wait_until
from tests.serving.conftest import Mesh, Product
from tests.system.conftest import free_port

from tulle.config import Settings
from tulle.gateway.envoy import Gateway
from tulle.gateway.policy import Client, Contract, GatewayPolicy, ManagedService, RateLimit
from tulle.gateway.secret import hash_secret
from tulle.serving.access import Access, Public
from tulle.serving.service import load_service

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the client's own imports warn
    from dataikuapi import APINodeClient
    from dataikuapi.utils import DataikuException

pytestmark = pytest.mark.system
NAME = "api-node-user"
SECRET = "ab" * 20
KEY = f"{NAME}-key-1.{SECRET}"
SERVICE = f"""
service: {NAME}
endpoints:
- name: high-value
  type: predict
  model: high_value
  explanations: {{features: 2, steps: 30}}
  enrich:
  - {{product: customer-features, data_set: customer_features, key: customer_id, no_match: ignore}}
- {{name: profile, type: lookup, product: customer-features, data_set: customer_features, key: customer_id}}
- name: joined
  type: lookup
  lookups:
  - {{product: customer-features, data_set: customer_features, key: customer_id, columns: [spend]}}
  - {{product: customer-features, data_set: customer_features, key: number, columns: [vip], missing_key: default}}
- {{name: add, type: function, file: sums.py, pool: {{ceil: 1}}}}
- name: best
  type: query
  sql: SELECT customer_id, spend, first_on FROM customers WHERE spend >= $least ORDER BY spend LIMIT 2
  data_sets: {{customers: {{product: customer-features, data_set: customer_features}}}}
  parameters: {{least: {{type: double, default: 5}}}}
  pool: {{ceil: 1}}
"""
CODE = """
from tulle.sdk.function import ApiError

def add(a: int = 1, b: int = 2):
    if a < 0:
        raise ApiError("a is negative", status=422, error_type="Negative")
    return {"sum": a + b}
"""


@dataclass(frozen=True)
class Node:
    """Where the gateway listens."""

    port: int

    def client(
        self, key: str | None = KEY, service: str = NAME, slash: str = "", **more: Any
    ) -> APINodeClient:
        return APINodeClient(f"http://127.0.0.1:{self.port}{slash}", service, key, **more)

    def raw(
        self, method: str, path: str, body: bytes = b"", **headers: str
    ) -> tuple[int, dict[str, str], Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, {"authorization": f"Bearer {KEY}"} | headers)
            answer = connection.getresponse()
            said = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, said, json.loads(answer.read())
        finally:
            connection.close()


@pytest.fixture(scope="module")
def node(shared_mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    product = Product("high-value-customers", tmp_path_factory.mktemp("product"))
    (product.folder / "functions").mkdir()
    (product.folder / "functions/sums.py").write_text(CODE)
    service = load_service(SERVICE, name="services/s.yaml")
    folder = shared_mesh.unpacked(shared_mesh.build_service(service, product=product))
    settings = replace(Settings(folder=tmp_path_factory.mktemp("gateway")), gateway_port=free_port())
    gateway = Gateway(settings)
    gateway.prepare()
    (settings.state_folder / "run/w").mkdir(parents=True)
    argv = [sys.executable, "-m", "tulle.serving.worker", "--package-folder", str(folder)]
    argv += ["--socket", "run/w/n.sock", "--generation", "g1"]
    settings.log_folder.mkdir(parents=True, exist_ok=True)
    worker = subprocess.Popen(argv, cwd=settings.state_folder, stderr=subprocess.PIPE, text=True)
    plenty = RateLimit.parse("100000/1s")
    public = ManagedService(
        "open-one", ("run/w/n.sock",), 10_000, access=Access(False, public=Public("9/1s"))
    )
    gateway.publish(
        GatewayPolicy.of(
            services=[ManagedService(NAME, ("run/w/n.sock",), 10_000), public],
            clients=[Client(f"{NAME}-key-1", hash_secret(SECRET))],
            contracts=[Contract(f"{NAME}-key-1", NAME, plenty)],
        )
    )
    command = gateway.command()
    with (settings.log_folder / "gateway.log").open("ab") as log:
        envoy = subprocess.Popen(command.argv, cwd=command.cwd, stdout=log, stderr=log)
    try:
        assert worker.stderr is not None
        assert "answers on" in worker.stderr.readline()
        wait_until(gateway.ready, "starting the gateway")
        yield Node(settings.gateway_port)
    finally:
        for process in (envoy, worker):
            process.terminate()
            process.communicate(timeout=60)
        gateway.process.forget()


def test_predictions(node: Node) -> None:
    client = node.client(slash="/")  # its paths then begin with two slashes
    one = client.predict_record("high-value", {"customer_id": "00003"})
    assert set(one) == {"result", "timing", "apiContext"}
    assert {"prediction", "probas", "probaPercentile"} <= set(one["result"])
    assert one["apiContext"]["serviceId"] == NAME
    assert (one["apiContext"]["endpointId"], one["apiContext"]["serviceGeneration"]) == ("high-value", "g1")
    assert all(isinstance(spent, int | float) for spent in one["timing"].values())
    explained = client.predict_record(
        "high-value",
        {"customer_id": "00003"},
        with_explanations=True,
        explanation_method="ICE",
        n_explanations=1,
    )
    assert len(explained["result"]["explanations"]) == 1
    # The client sends null for all that it is not told: as the endpoint is set.
    usual = client.predict_record("high-value", {"customer_id": "00003"}, with_explanations=True)
    assert len(usual["result"]["explanations"]) == 2
    said = {"enabled": True, "method": "SHAPLEY", "nExplanations": 2, "nMonteCarloSteps": 30}
    body = json.dumps({"features": {"customer_id": "00003"}, "explanations": said}).encode()
    status, _, answer = node.raw("POST", f"/public/api/v1/{NAME}/high-value/predict", body)
    assert (status, answer["result"]) == (200, usual["result"])
    both = client.predict_records(
        "high-value", [{"features": {"customer_id": "00003"}}], with_explanations=True
    )
    assert both["results"] == [usual["result"]]
    several = client.predict_records(
        "high-value", [{"features": {"customer_id": "00003"}}, {"features": {"customer_id": "nobody"}}]
    )["results"]
    assert several[0]["prediction"] == one["result"]["prediction"]
    assert (several[1]["ignored"], several[1]["ignoreReason"]) == (True, "NO_LOOKUP_MATCH")
    ignored = client.predict_record("high-value", {"customer_id": "nobody"})["result"]
    assert ignored == several[1]
    keyed = client.predict_record("high-value", {"customer_id": "00003"}, dispatch_key="u1")
    assert keyed["result"] == one["result"]


def test_lookups(node: Node) -> None:
    client = node.client()
    assert client.lookup_record("profile", {"customer_id": "00003"})["data"]["spend"] == 5.25
    many = client.lookup_records("profile", [{"data": {"customer_id": "00003"}}])
    assert many["results"][0]["data"]["vip"] is False
    assert client.lookup_record("joined", {"customer_id": "00003", "number": 4})["data"] == {
        "spend": 5.25,
        "vip": True,
    }
    missing = client.lookup_records("joined", [{"data": {"customer_id": "00003"}}, {"data": {}}])["results"]
    assert [one["status"] for one in missing[0]["lookups"]] == ["PRESENT", "NOT_FOUND"]
    assert missing[1]["ignoreReason"] == "MissingKey"


def test_functions_and_queries_with_and_without_a_body(node: Node) -> None:
    client = node.client()
    assert client.run_function("add", a=3)["response"] == {"sum": 5}
    assert client.run_function("add")["response"] == {"sum": 3}  # an empty dict: the client sends no body
    found = client.sql_query("best", {"least": 5.25})
    assert found["rows"][0] == ["00003", "5.25", "1997-01-04"]
    assert client.sql_query("best", {})["rows"] == found["rows"]


def test_a_browser_and_tools_may_ask_too(node: Node) -> None:
    path = f"/public/api/v1/{NAME}"
    status, headers, answer = node.raw("GET", f"{path}/high-value/predict-simple?customer_id=00003")
    assert (status, set(answer["result"]["probas"])) == (200, {"0", "1"})
    assert headers["dss-api-version"] == "1"
    assert headers["dss-version"].startswith("tulle-")
    assert node.raw("GET", f"{path}/swagger")[2]["swagger"] == "2.0"
    assert node.raw("GET", f"{path}/openapi.json")[2]["openapi"] == "3.1.0"
    assert node.raw("GET", "/isAlive/", authorization="")[0] == 200
    body = b'{"data": {"customer_id": "00003"}}'
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json", "nonsense"):
        answered = node.raw("POST", f"{path}/profile/lookup", body, **{"content-type": kind})
        assert answered[0] == 200


def test_every_refusal_is_what_the_client_reads(node: Node) -> None:
    client = node.client()
    for call, told in (
        (lambda: client.predict_record("high-value", {"customer_id": 3}), "InvalidFeatures: "),
        (lambda: client.predict_record("high-valu", {}), "UnknownEndpoint: there is no"),
        (lambda: client.lookup_record("profile", {"customer_id": "nobody"}), "NoMatch: nothing is known"),
        (lambda: client.lookup_record("profile", {"customer": "x"}), "InvalidKey: "),
        (lambda: client.run_function("add", a="x"), "Invalid"),
        (lambda: client.run_function("add", a=-1), "Negative: a is negative"),
        (lambda: client.sql_query("best", {"least": "x"}), "Invalid"),
        (lambda: client.forecast("high-value", []), "UnknownEndpoint: there is no"),
        (lambda: client.predict_effect("high-value", {}), "UnknownEndpoint: there is no"),
        (
            lambda: client.predict_record("high-value", {"customer_id": "x"}, forced_generation="g9"),
            "UnknownGeneration: ",
        ),
        (lambda: client.predict_record("high-value", {"note": "x" * 20_000}), "RequestTooLarge: "),
        (lambda: node.client(key="x.y").run_function("add"), "InvalidClient: Missing or wrong credentials"),
        (lambda: node.client(key=None).run_function("add"), "InvalidClient: Missing or wrong credentials"),
        (lambda: node.client(service="nowhere").run_function("add"), "UnknownService: "),
    ):
        with pytest.raises(DataikuException, match=told):
            call()
    status, headers, error = node.raw("POST", f"/public/api/v1/{NAME}/add/run", b"{")
    assert (status, set(error)) == (400, {"errorType", "message", "detailedMessage", "requestId"})
    assert headers["x-request-id"] == error["requestId"]


def test_a_client_with_both_credentials_is_who_its_key_says(node: Node) -> None:
    assert node.client(bearer_token="a.b.c").run_function("add")["response"] == {"sum": 3}
    assert node.client(key=None, bearer_token=KEY).run_function("add")["response"] == {"sum": 3}


def test_an_open_service_needs_no_key(node: Node) -> None:
    with pytest.raises(DataikuException, match=f"UnknownService: .* is not a path of service '{NAME}'"):
        node.client(key=None, service="open-one").run_function("add")  # let in; the worker has another name
