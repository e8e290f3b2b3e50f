"""Traces through the real gateway: one id from a caller to the worker, sampled as the mesh says, none where it is off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.gateway.conftest import API, PLENTY, Mesh, as_client, check_error, policy, wait_until
from tests.serving.collector import Collector

from tulle.config import Settings, settings_from
from tulle.errors import Invalid
from tulle.gateway.envoy import Gateway
from tulle.serving.tracing import parent_of

TRACE = "0af7651916cd43dd8448eb211c80319c"
ASKED = f"00-{TRACE}-b7ad6b7169203331-00"  # its caller does not want it sampled


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def traced(
    tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int], collector: Collector
) -> Iterator[Mesh]:
    folder = tmp_path_factory.mktemp("traced")
    settings = replace(
        Settings(folder=folder), gateway_port=free_port(), trace_collector=collector.url, trace_one_in=1
    )
    mesh = Mesh(settings, Gateway(settings))
    mesh.start_worker("first-1", "run/w/first-1.sock")
    mesh.gateway.publish(policy({"first": ("run/w/first-1.sock",)}, {("app-a", "first"): PLENTY}))
    mesh.start()
    yield mesh
    mesh.stop()
    mesh.kill_worker("first-1")


def test_one_id_leads_from_the_caller_to_the_worker_and_the_log(traced: Mesh, collector: Collector) -> None:
    reply = traced.ask(API + "first/x", {**as_client("app-a"), "traceparent": ASKED, "baggage": "a=b"})
    got = parent_of(reply.json()["headers"]["traceparent"].encode())
    assert got is not None
    assert (got.trace, got.is_sampled) == (TRACE, True)  # whether it is sampled is the gateway's to say
    (span,) = collector.wait(TRACE, 1)
    assert (span.id, span.parent) == (got.span, "b7ad6b7169203331")
    assert span.attributes["tulle.service"] == "first"
    about = {"http.request.method": "GET", "http.response.status_code": 200, "url.path": API + "first/x"}
    assert {name: span.attributes[name] for name in about} == about
    assert span.name == "GET first"
    wanted = reply.headers["x-request-id"]
    assert span.attributes["tulle.request_id"] == wanted
    wait_until(lambda: any(one["request_id"] == wanted for one in traced.log_lines()), "the log line")
    line = next(one for one in traced.log_lines() if one["request_id"] == wanted)
    assert line["trace"] == TRACE


def test_who_has_no_trace_gets_one(traced: Mesh, collector: Collector) -> None:
    reply = traced.ask(API + "first/x", as_client("app-a"))
    got = parent_of(reply.json()["headers"]["traceparent"].encode())
    assert got is not None
    assert collector.wait(got.trace, 1)[0].id == got.span


def test_what_is_refused_has_a_span_too_and_no_secret_is_in_one(traced: Mesh, collector: Collector) -> None:
    trace = "1" * 32
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01", "client_secret": "geheim", "client_id": "x"}
    headers |= {"x-tulle-trace": "forged"}
    reply = traced.ask(API + "first/x?client_secret=verborgen", headers)
    assert (reply.status, reply.json()["traceId"]) == (401, trace)
    (span,) = collector.wait(trace, 1)
    assert span.attributes["http.response.status_code"] == 401
    assert span.attributes["http.url"] == API + "first/x"
    assert "geheim" not in str(collector.spans)
    assert "verborgen" not in str(collector.spans)


@pytest.mark.parametrize(
    "malformed",
    [
        "garbage",
        f"00-{TRACE}-b7ad6b7169203331",
        f"00-{TRACE}-b7ad6b7169203331-01-more",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-{TRACE.upper()}-b7ad6b7169203331-01",
    ],
)
def test_what_is_no_trace_of_a_caller_s_is_not_taken_over_and_one_begins(
    traced: Mesh, collector: Collector, malformed: str
) -> None:
    reply = traced.ask(API + "first/x", {**as_client("app-a"), "traceparent": malformed})
    got = parent_of(reply.json()["headers"]["traceparent"].encode())
    assert got is not None
    assert got.trace != TRACE
    assert not {name for name in reply.json()["headers"] if name.startswith("x-tulle-traceparent")}
    (span,) = collector.wait(got.trace, 1)
    assert (span.id, span.parent) == (got.span, "")


def test_what_is_malformed_has_an_id_and_no_trace(traced: Mesh) -> None:
    check_error(traced.ask(f"{API}first%2fx"), 400, "InvalidRequest")


def test_a_collector_that_is_away_holds_up_nobody(traced: Mesh, collector: Collector) -> None:
    collector.status = 500
    for _ in range(5):
        assert traced.ask(API + "first/x", as_client("app-a")).status == 200
    collector.status = 200


def test_without_a_collector_nothing_of_a_trace_is_let_through(mesh: Mesh) -> None:
    headers = {**as_client("app-a"), "traceparent": ASKED, "tracestate": "a=b", "baggage": "c=d"}
    got = mesh.ask(API + "first/x", headers).json()["headers"]
    assert not {"traceparent", "tracestate", "baggage"} & set(got)
    refused = mesh.ask(API + "first/x", {"traceparent": ASKED}).json()
    assert set(refused) == {"errorType", "message", "detailedMessage", "requestId"}


@pytest.mark.parametrize(
    "url", ["https://collector:4318", "127.0.0.1:4318", "http://user@host", "http://host/path", "http://a b"]
)
def test_an_address_that_is_none_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(Invalid, match="trace_collector"):
        settings_from(tmp_path, {"trace_collector": url}, {})
