"""Several generations of a service behind the real Envoy: split, sticky, forced, shadow, ended."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import dataikuapi
import pytest
from tests.gateway.conftest import PLENTY, SECRETS, Mesh, Reply, as_client, check_error, wait_until

from tulle.errors import Invalid
from tulle.gateway import envoy_clusters
from tulle.gateway.policy import Backend, Client, Contract, GatewayPolicy, ManagedService, Notice, RateLimit
from tulle.gateway.secret import hash_secret
from tulle.serving.traffic import Traffic, generation_of, single, split

PATH = "/public/api/v1/split/some/predict"
SOCKETS = {"v1": "run/w/first-1.sock", "v2": "run/w/first-2.sock", "v3": "run/w/second-1.sock"}
WORKERS = {"v1": "first-1", "v2": "first-2", "v3": "second-1"}
ME = as_client("app-a")


def publish(mesh: Mesh, traffic: Traffic, *, leaving: Sequence[str] = (), **more: Any) -> None:
    backends = tuple(Backend(name, (SOCKETS[name],)) for name in (*traffic.mounted, *leaving))
    service = ManagedService("split", (), 10_000, traffic=traffic, backends=backends, **more)
    publish_services(mesh, service)


def publish_services(mesh: Mesh, *services: ManagedService, limit: RateLimit = PLENTY) -> None:
    mesh.gateway.publish(
        GatewayPolicy.of(
            services=services,
            clients=(Client(name, hash_secret(secret)) for name, secret in SECRETS.items()),
            contracts=[Contract("app-a", name, limit) for name in {s.name for s in services}],
        )
    )


def worker(mesh: Mesh, body: Any = None, path: str = PATH, **headers: str) -> str:
    reply = mesh.ask(path, {**ME, **headers}, method="POST", body=json.dumps(body or {}))
    assert reply.status == 200, reply
    return str(reply.json()["worker"])


@pytest.mark.system
def test_requests_are_split_by_chance(mesh: Mesh) -> None:
    publish(mesh, split({"v1": 0.7, "v2": 0.3}))
    met = Counter(worker(mesh) for _ in range(300))
    assert set(met) == {"first-1", "first-2"}
    assert 150 < met["first-1"] < 270


@pytest.mark.system
def test_a_key_meets_the_generation_that_its_hash_says(mesh: Mesh) -> None:
    traffic = split({"v2": 0.5, "v1": 0.3, "v3": 0.2}, sticky=True)
    publish(mesh, traffic)
    for number in range(60):
        key = f"user-{number}"
        expected = WORKERS[generation_of(traffic, key)]
        assert worker(mesh, {"dispatch": {"dispatchKey": key}}) == expected
        assert worker(mesh, **{"dispatch-key": key}) == expected
    assert worker(mesh, {"dispatch": {"dispatchKey": 42}}) == WORKERS[generation_of(traffic, "42")]
    key = "grüße an alle"
    assert worker(mesh, {"dispatch": {"dispatchKey": key}}) == WORKERS[generation_of(traffic, key)]
    for body in ({}, {"dispatch": {}}, {"features": {"dispatch": {"dispatchKey": "x"}}}, {"dispatch": "x"}):
        reply = mesh.ask(PATH, ME, method="POST", body=json.dumps(body))
        check_error(reply, 400, "MissingDispatchKey")


@pytest.mark.system
def test_a_generation_is_asked_for_by_its_name(mesh: Mesh) -> None:
    publish(mesh, split({"v1": 1.0}, preloaded=["v3"]))
    assert {worker(mesh) for _ in range(10)} == {"first-1"}
    assert worker(mesh, {"dispatch": {"forcedGeneration": "v3"}}) == "second-1"
    assert worker(mesh, {"dispatch": {"forcedGeneration": "v1"}}) == "first-1"
    assert worker(mesh, **{"forced-generation": "v3"}) == "second-1"
    assert worker(mesh, {"dispatch": {"forcedGeneration": "v3"}}, **{"forced-generation": "v1"}) == "second-1"
    assert worker(mesh, {"dispatch": {"forcedGeneration": None}}) == "first-1"
    for wrong in ({"forced-generation": "v2"}, {"forced-generation": ""}, {"forced-generation": "v1/../v3"}):
        check_error(mesh.ask(PATH, {**ME, **wrong}, method="POST", body="{}"), 404, "UnknownGeneration")
    body = json.dumps({"dispatch": {"forcedGeneration": "v2"}})
    check_error(mesh.ask(PATH, ME, method="POST", body=body), 404, "UnknownGeneration")


@pytest.mark.system
def test_a_stock_client_chooses(mesh: Mesh) -> None:
    traffic = split({"v1": 0.5, "v2": 0.5}, sticky=True, preloaded=["v3"])
    publish(mesh, traffic)
    uri = f"http://127.0.0.1:{mesh.settings.gateway_port}/"
    client = dataikuapi.APINodeClient(uri, "split", api_key=f"app-a.{SECRETS['app-a']}")
    assert client.predict_record("some", {"a": 1}, forced_generation="v3")["worker"] == "second-1"
    for number in range(20):
        key = f"user-{number}"
        answer = client.predict_record("some", {"a": 1}, dispatch_key=key)
        assert answer["worker"] == WORKERS[generation_of(traffic, key)]
    with pytest.raises(dataikuapi.utils.DataikuException, match="MissingDispatchKey"):
        client.predict_record("some", {"a": 1})
    with pytest.raises(dataikuapi.utils.DataikuException, match="UnknownGeneration"):
        client.predict_record("some", {"a": 1}, forced_generation="v9")


@pytest.mark.system
def test_a_generation_that_leaves_answers_what_is_on_its_way_and_nobody_else(mesh: Mesh) -> None:
    publish(mesh, split({"v1": 1.0}, preloaded=["v2"]))
    with socket.create_connection(("127.0.0.1", mesh.settings.gateway_port), timeout=10) as wire:
        headers = {**ME, "host": "a", "content-length": "2"}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        wire.sendall(f"POST {PATH} HTTP/1.1\r\n{head}\r\n{{".encode())
        time.sleep(0.3)  # its way is chosen, its body is not here
        publish(mesh, single("v3"), leaving=["v1"])
        assert worker(mesh) == "second-1"
        forced = mesh.ask(PATH, {**ME, "forced-generation": "v1"}, method="POST", body="{}")
        check_error(forced, 404, "UnknownGeneration")
        wire.sendall(b"}")
        answer = http.client.HTTPResponse(wire)
        answer.begin()
        assert (answer.status, json.loads(answer.read())["worker"]) == (200, "first-1")


@pytest.mark.system
def test_what_is_no_json_is_the_workers_matter_and_size_is_bounded(mesh: Mesh) -> None:
    publish(mesh, split({"v1": 0.5, "v2": 0.5}))
    path = PATH.replace("/predict", "/other")
    for body in ("", "{", "[1, 2]", "\0\xff", '{"dispatch": {"dispatchKey": "a\\nb"}}'):
        assert mesh.ask(path, ME, method="POST", body=body.encode("latin-1")).status == 200
    check_error(mesh.ask(path, ME, method="POST", body="{" + " " * 10_001), 413, "RequestTooLarge")
    assert mesh.ask(path, ME).status == 200


@pytest.mark.system
def test_a_shadow_gets_copies_and_callers_notice_nothing(mesh: Mesh) -> None:
    publish(mesh, split({"v1": 1.0}, shadow=("v3", 1.0)))
    before = mirrored(mesh)
    assert {worker(mesh, {"n": n}) for n in range(20)} == {"first-1"}
    wait_until(lambda: mirrored(mesh) >= before + 20, "the copies' arrival", 10)
    assert worker(mesh, {"dispatch": {"forcedGeneration": "v3"}}) == "second-1"


def mirrored(mesh: Mesh) -> int:
    name = "cluster.split/v3.upstream_rq_total"
    return int(mesh.admin.stats(rf"^{name}$").get(name, 0))


@pytest.mark.system
def test_generations_change_under_load_without_a_failure(mesh: Mesh) -> None:
    stages = [
        single("v1"),
        split({"v1": 0.9, "v2": 0.1}),
        split({"v2": 0.5, "v1": 0.5}, shadow=("v3", 0.5)),
        single("v2"),
        split({"v2": 0.0, "v3": 1.0}),
        single("v3"),
    ]
    publish(mesh, stages[0])
    from concurrent.futures import ThreadPoolExecutor

    stop, seen = False, Counter[tuple[int, str]]()

    def call(slow: bool) -> None:
        while not stop:
            path = PATH.replace("/predict", "/slow") if slow else PATH
            reply = mesh.ask(path, ME, method="POST", body="{}")
            seen[reply.status, reply.json().get("worker") or reply.json()["errorType"]] += 1

    with ThreadPoolExecutor(6) as pool:
        calls = [pool.submit(call, number < 3) for number in range(6)]
        for stage in stages * 2:
            publish(mesh, stage)
        stop = True
        for one in calls:
            one.result()
    assert {status for status, _ in seen} == {200}, seen
    assert {name for _, name in seen} == {"first-1", "first-2", "second-1"}


@pytest.mark.system
def test_a_generation_holds_so_many_requests_and_refuses_the_rest_at_once(mesh: Mesh) -> None:
    from concurrent.futures import ThreadPoolExecutor

    backends = (Backend("v1", (SOCKETS["v1"],)),)
    service = ManagedService("split", (), 10_000, traffic=single("v1"), backends=backends, most_requests=2)
    publish_services(mesh, service)

    def call(_: int) -> Reply:
        return mesh.ask(PATH.replace("/predict", "/slow"), ME, method="POST", body="{}")

    with ThreadPoolExecutor(6) as pool:
        replies = sorted(pool.map(call, range(6)), key=lambda reply: reply.status)
    assert [reply.status for reply in replies] == [200, 200, 503, 503, 503, 503]
    check_error(replies[-1], 503, "ServiceUnavailable")
    assert replies[-1].headers["retry-after"] == "1"
    (cluster,) = envoy_clusters.clusters(replace(service, most_requests=5000))
    (bounds,) = cluster["circuit_breakers"]["thresholds"]
    held = bounds["max_connections"] + bounds["max_pending_requests"]
    assert (held, bounds["max_requests"]) == (5000, 5000)  # at one request a connection the others wait


@pytest.mark.system
def test_an_environment_uses_up_nothing_of_another_ones_limit(mesh: Mesh) -> None:
    consumers = ManagedService("split", (SOCKETS["v1"],), 10_000)
    tried = ManagedService("split", (SOCKETS["v2"],), 10_000, environment="test")
    publish_services(mesh, consumers, tried, limit=RateLimit.parse("2/1h"))

    def statuses(path: str) -> list[int]:
        return [mesh.ask(path, ME, method="POST", body="{}").status for _ in range(3)]

    assert statuses("/test" + PATH) == [200, 200, 429]
    assert statuses(PATH) == [200, 200, 429]


@pytest.mark.system
def test_an_environment_has_an_address_of_its_own(mesh: Mesh) -> None:
    consumers = ManagedService("split", (SOCKETS["v1"],), 10_000)
    tried = ManagedService("split", (SOCKETS["v2"],), 10_000, environment="test")
    publish_services(mesh, consumers, tried)
    assert worker(mesh) == "first-1"
    reply = mesh.ask("/test" + PATH, ME, method="POST", body="{}")
    assert (reply.json()["worker"], reply.json()["target"]) == ("first-2", PATH)
    check_error(mesh.ask("/prod" + PATH, ME, method="POST", body="{}"), 404, "UnknownService")
    check_error(mesh.ask("/test" + PATH, as_client("app-b"), method="POST", body="{}"), 403, "NoContract")
    check_error(mesh.ask("/test" + PATH, method="POST", body="{}"), 401, "InvalidClient")


@pytest.mark.system
def test_a_service_tells_that_it_ends_and_then_that_it_has(mesh: Mesh) -> None:
    notice = Notice(1_790_000_000.5, 1_800_000_000.0, "/public/api/v1/next/")
    publish(mesh, single("v1"), notice=notice)
    reply = mesh.ask(PATH, ME, method="POST", body="{}")
    assert reply.headers["deprecation"] == "@1790000000"
    assert reply.headers["sunset"] == "Fri, 15 Jan 2027 08:00:00 GMT"
    assert reply.headers["link"] == '</public/api/v1/next/>; rel="successor-version"'
    publish(mesh, single("v1"), notice=notice, stopped="retired")
    ended = mesh.ask(PATH, ME, method="POST", body="{}")
    check_error(ended, 410, "ServiceRetired")
    assert ended.headers["link"] == '</public/api/v1/next/>; rel="successor-version"'
    publish(mesh, single("v1"), stopped="disabled")
    check_error(mesh.ask(PATH, ME, method="POST", body="{}"), 503, "ServiceDisabled")
    check_error(mesh.ask(PATH, as_client("app-b"), method="POST", body="{}"), 403, "NoContract")


def test_what_cannot_be_rendered_is_refused() -> None:
    with pytest.raises(Invalid, match="not every generation of 'v1 50%, v2 50%' has its workers"):
        ManagedService("one", (), 1, traffic=split({"v1": 0.5, "v2": 0.5}), backends=(Backend("v1", ()),))
    with pytest.raises(Invalid, match="'a/b' of service 'one' is no part of an address"):
        ManagedService("one", (), 1, environment="a/b")
    for name in ("t", "qa_1", "7", "a" * 63):  # what mesh.yaml accepts
        assert ManagedService("one", (), 1, environment=name).address == f"/{name}/public/api/v1/one"
    with pytest.raises(Invalid, match="is no address of a worker"):
        ManagedService("one", (), 1, traffic=single("v1"), backends=(Backend("v1", ("localhost:80",)),))
    with pytest.raises(Invalid, match="0 requests at once"):
        ManagedService("one", (), 1, most_requests=0)
