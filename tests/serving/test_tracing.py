"""Spans of a worker: its part of a trace that somebody else began, told to a collector that may be away."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator

import pytest
from tests.serving.collector import Collector

from tulle.serving import tracing
from tulle.serving.connection import Head, Reply, Request
from tulle.serving.endpoint import Trace, error_body
from tulle.serving.request import RequestError
from tulle.serving.tracing import Tracer, parent_of, passed_on, span_of, trace_of

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
NEXT = "/public/api/v1/offers/next/predict"
ROUTES = {NEXT}
HEAD = Head([(b"content-type", b"application/json")])
BODY = b'{"result":{"x":1},"timing":{"enrich":300,"prediction":500},"apiContext":{"requestId":"r-1"}}'


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.stop()


@pytest.fixture
def tracer(collector: Collector) -> Iterator[Tracer]:
    made = Tracer(f"{collector.url}/v1/traces", Trace("offers", "v2", "v2", "abc"))
    made.start()
    yield made
    made.close()


def request(flags: str = "01", path: str = NEXT, trace: str = TRACE) -> Request:
    headers = [(b"host", b"x"), (b"traceparent", f"00-{trace}-{PARENT}-{flags}".encode())]
    headers += [(b"tracestate", b"vendor=1"), (b"tracestate", b"other=2")]
    return Request("POST", path, b"", headers if flags else headers[:1], b"{}")


def answering(body: bytes = BODY, status: int = 200, wait: float = 0.002) -> Callable[[Request], Reply]:
    def answer(_request: Request) -> Reply:
        time.sleep(wait)
        return Reply(HEAD, body, "r-1", status)

    return answer


def test_a_sampled_request_has_a_span_and_its_parts_are_within_it(
    tracer: Tracer, collector: Collector
) -> None:
    reply = tracer.around(answering(), ROUTES)(request())
    assert isinstance(reply, Reply)
    whole, enrich, prediction = collector.wait(TRACE, 3)
    parent = parent_of(f"00-{TRACE}-{PARENT}-01".encode())
    assert parent is not None
    assert (whole.id, whole.parent, whole.kind, whole.name) == (span_of(parent), PARENT, 2, f"POST {NEXT}")
    assert whole.attributes["service.name"] == "offers"
    assert whole.attributes["tulle.generation"] == "v2"
    assert whole.attributes["tulle.request_id"] == "r-1"
    assert whole.attributes["http.response.status_code"] == "200"
    assert whole.attributes["http.request.method"] == "POST"
    assert whole.attributes["http.route"] == whole.attributes["url.path"] == NEXT
    assert whole.state == "vendor=1,other=2"
    assert "error.type" not in whole.attributes
    assert [enrich.name, prediction.name] == ["enrich", "prediction"]
    assert {enrich.parent, prediction.parent} == {whole.id}
    assert whole.begin == enrich.begin < enrich.end == prediction.begin < prediction.end <= whole.end
    assert prediction.end - prediction.begin == 500_000
    assert len({whole.id, enrich.id, prediction.id}) == 3


def test_what_takes_a_while_is_told_when_it_is_done(tracer: Tracer, collector: Collector) -> None:
    async def later() -> Reply:
        await asyncio.sleep(0.01)
        return Reply(HEAD, b'{"errorType":"X"}', "r-2", 504)

    async def ask() -> Reply:
        made = tracer.around(lambda _: later(), ROUTES)(request())
        assert not isinstance(made, Reply)
        return await made

    assert asyncio.run(ask()).status == 504
    (whole,) = collector.wait(TRACE, 1)
    assert whole.end - whole.begin >= 10_000_000
    assert whole.attributes["http.response.status_code"] == whole.attributes["error.type"] == "504"


def test_nothing_is_noted_of_what_is_not_sampled_or_is_no_trace(tracer: Tracer) -> None:
    for flags in ("00", "", "zz"):
        tracer.around(answering(wait=0), ROUTES)(request(flags))
    tracer.around(answering(wait=0), ROUTES)(request("01", trace="0" * 32))
    tracer.around(answering(wait=0), ROUTES)(request("01", trace=TRACE.upper()))
    assert not tracer._waiting


def test_paths_that_are_not_there_make_no_names(tracer: Tracer, collector: Collector) -> None:
    tracer.around(answering(status=404), ROUTES)(request(path="/public/api/v1/offers/" + "x" * 9000))
    (whole,) = collector.wait(TRACE, 1)
    assert whole.name == "POST"
    assert "http.route" not in whole.attributes
    assert len(whole.attributes["url.path"]) == 200


def test_of_a_route_that_answers_404_the_name_is_told(tracer: Tracer, collector: Collector) -> None:
    tracer.around(answering(status=404), ROUTES)(request())
    (whole,) = collector.wait(TRACE, 1)
    assert whole.name == f"POST {NEXT}"


def test_steps_side_by_side_are_told_by_how_long_they_took(tracer: Tracer, collector: Collector) -> None:
    body = b'{"response":{},"timing":{"a":90000,"b":80000,"total":95000},"apiContext":{}}'
    tracer.around(answering(body), ROUTES)(request())
    whole, a, b = collector.wait(TRACE, 3)
    assert a.begin == b.begin == whole.begin
    assert {a.name, b.name} == {"a", "b"}


def test_a_collector_that_is_away_holds_up_nobody(
    tracer: Tracer, collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracing, "MOST_WAITING", 3)
    collector.status = 503
    for _ in range(10):
        tracer.around(answering(wait=0), ROUTES)(request())
    until = time.monotonic() + 20
    while (
        tracer.dropped < 10 or "the collector answered" not in caplog.text
    ):  # which is told when they are counted
        assert time.monotonic() < until
        time.sleep(0.01)
    assert caplog.text.count("the collector answered 503") == 1
    assert tracer.sent == 0
    collector.status = 200
    tracer.around(answering(wait=0), ROUTES)(request())
    assert collector.wait(TRACE, 1)


def test_what_is_called_for_a_request_has_the_workers_span_as_parent() -> None:
    parent = parent_of(f"00-{TRACE}-{PARENT}-01".encode())
    assert parent is not None
    assert passed_on(f"00-{TRACE}-{PARENT}-01") == f"00-{TRACE}-{span_of(parent)}-01"
    assert passed_on(f"00-{TRACE}-{PARENT}-00").endswith("-00")
    assert passed_on("no trace") == "no trace"


def test_the_trace_of_a_request_is_told_by_its_headers() -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    good = (b"traceparent", f"00-{trace}-b7ad6b7169203331-01".encode())
    assert trace_of([(b"host", b"x"), good]) == trace
    assert trace_of([(b"traceparent", b"00-<script>-1-01"), (b"x", b"y")]) == ""
    error = RequestError(404, "NoMatch", "nothing")
    assert json.loads(error_body(error, "r-1", trace))["traceId"] == trace
    assert "traceId" not in json.loads(error_body(error, "r-1"))
