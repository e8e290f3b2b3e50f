"""Requests that nobody can mean, to every kind of endpoint: an error in the one shape, never the service's own fault."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from tests.serving.asking import answer
from tests.serving.conftest import make_mesh, model  # noqa: F401  a fixture
from tests.serving.test_function import Product

from tulle.pipeline.model_file import ModelFile
from tulle.serving.app import App
from tulle.serving.loaded import load
from tulle.serving.recorder import Recorder

LARGEST = 300_000
CODE = """
def work(what: str, number: int = 1, *, ratio: float = 0.5, many: list | None = None) -> dict:
    return {"done": what, "number": number, "ratio": ratio}

def anything(**more):
    return more
"""
SERVICE = """
service: offers
endpoints:
- {name: work, type: function, file: work.py, pool: {floor: 1, ceil: 1}}
- {name: anything, type: function, file: work.py, function: anything, pool: {floor: 1, ceil: 1}}
- {name: high-value, type: predict, model: high_value,
   show_features: {features: [spend]}, enrich: [{product: customer-features, data_set: customer_features, key: customer_id}]}
- name: joined
  type: lookup
  lookups:
  - {product: customer-features, data_set: customer_features, key: customer_id, columns: [note], missing_key: ignore}
  - {product: customer-features, data_set: customer_features, key: [first_on, number], columns: [vip], several: all}
- {name: profile, type: lookup, product: customer-features, data_set: customer_features, key: customer_id}
- {name: by-day, type: lookup, product: customer-features, data_set: customer_features, key: [first_on, number]}
- {name: by-time, type: lookup, product: customer-features, data_set: customer_features, key: [seen_at, spend, vip]}
- name: alike
  type: query
  sql: SELECT customer_id, spend FROM c WHERE vip = $vip AND spend >= $least AND first_on > $on AND seen_at > $at AND number >= $number
  data_sets: {c: {product: customer-features, data_set: customer_features}}
  parameters: {vip: {type: boolean}, least: {type: decimal, default: 0}, number: {type: integer, default: 0},
    on: {type: date, default: 1990-01-01}, at: {type: timestamp, default: '1990-01-01T00:00:00Z'}}
  pool: {floor: 1, ceil: 1}
- name: it
  type: compose
  input: {customer: {}}
  steps:
  - {name: profile, call: profile, with: {customer_id: $input.customer}}
  - {name: value, call: high-value, with: {customer_id: $input.customer}}
  - {name: each, map: $input.list?, as: one, call: work, with: {what: $one.what}}
  output: {chance: $value.probas, each: $each, vip: $profile.vip}
"""
HOME = "/public/api/v1/offers"
# Every action, and the members of its body that something can be wrong with.
POSTS: dict[str, tuple[str, ...]] = {
    "high-value/predict": ("features", "dispatch", "explanations", "context", "showFeatures"),
    "high-value/predict-multi": ("items", "explanations", "showFeatures"),
    "joined/lookup": ("data",),
    "joined/lookup-multi": ("items",),
    "profile/lookup": ("data",),
    "profile/lookup-multi": ("items",),
    "by-day/lookup": ("data",),
    "by-day/lookup-multi": ("items",),
    "by-time/lookup": ("data",),
    "alike/query": ("parameters",),
    "alike/rows": ("parameters", "items"),
    "work/run": ("what",),
    "anything/run": ("more",),
    "it/run": ("customer", "list"),
    "v2/models/high-value/infer": ("inputs", "outputs", "id", "parameters"),
    "feedback": ("requestId", "items", "label"),
}
SHAPE = {"errorType", "message", "detailedMessage", "requestId"}


@dataclass(frozen=True)
class Told:
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def refuses(self, *statuses: int) -> dict[str, Any]:
        """Is an error in the one shape, with a status of the caller's fault or one of `statuses`."""
        assert self.status in (statuses or range(400, 500)), self
        found: dict[str, Any] = json.loads(self.body)
        assert set(found) - {"error"} == SHAPE, found
        assert found["requestId"] == self.headers["x-request-id"]
        assert found["message"]
        assert len(self.body) < 20_000
        for word in ("Traceback", "EvaluationFailed", 'File "', "object at 0x", "msgspec"):
            assert word not in self.body.decode(), found
        return found


class World:
    """The service, and one loop for all requests: its processes belong to it."""

    def __init__(self, app: App, home: str = HOME) -> None:
        self.app, self.home = app, home
        self.runner = asyncio.Runner()

    def ask(
        self,
        method: str,
        path: str,
        content: bytes = b"",
        headers: Sequence[tuple[bytes, bytes]] = (),
        query: bytes = b"",
    ) -> Told:
        """One request, as the server hands it over."""
        given = self.runner.run(answer(self.app, method, path, content, headers, query))
        return Told(given.status_code, dict(given.headers), given.content)

    def post(self, action: str, body: bytes) -> Told:
        return self.ask("POST", f"{self.home}/{action}", body)

    def refuses_no_json(self, action: str) -> None:
        """What is no JSON is refused."""
        for name, body in NO_JSON.items():
            told = self.post(action, body).refuses(400)
            assert told["errorType"] in {"MalformedJson", "InvalidRequest"}, (name, told)

    def refuses_or_answers(self, action: str, bodies: Iterable[bytes]) -> None:
        """Each of the bodies has an answer that is JSON, or is a fault of the caller's."""
        for body in bodies:
            told = self.post(action, body)
            if told.status == 200:
                json.loads(told.body, parse_constant=pytest.fail)
            else:
                told.refuses()


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory,
    model: tuple[ModelFile, Any],  # noqa: F811
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("services")
    (folder / "product/functions").mkdir(parents=True)
    (folder / "product/functions/work.py").write_text(CODE)
    mesh = make_mesh(folder / "mesh", model[0])
    built = mesh.build(SERVICE, product=Product(folder / "product"))
    service = load(mesh.unpacked(built), "g1")
    recorder = Recorder(folder / "log", "offers", "v1", "g1")
    made = World(App(service, max_request_bytes=LARGEST, recorder=recorder))
    recorder.start()
    yield made
    recorder.close()
    service.close()
    made.runner.close()
    mesh.database.close()


NO_JSON = {
    "a word": b"hello",
    "a tag": b"<a>1</a>",
    "cut off": b'{"features": {"customer_id": "000',
    "two": b"{}{}",
    "a comma too many": b'{"features": {"customer_id": "1",}}',
    "single quotes": b"{'features': {}}",
    "no number": b'{"features": {"recency": NaN}, "data": {"customer_id": NaN}}',
    "infinity": b'{"items": [{"features": {"recency": -Infinity}}]}',
    "a comment": b'{"a": 1 /* why */}',
    "a zero byte": b'{"a": "\0"}',
    "zeroes": b"\0" * 64,
    "a mark": b"\xef\xbb\xbf{}",
    "of 16 bits": '{"features": {}}'.encode("utf-16"),
    "latin": '{"features": {"customer_id": "é"}}'.encode("latin-1"),
    "half a character": b'{"features": {"customer_id": "\xe2\x82"}}',
    "a form": b"customer_id=1&recency=2",
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 40_000,
    "compressed": b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
}
NESTED = b'{"a":' * 900 + b"1" + b"}" * 900
VALUES = (
    b"null", b"true", b"0", b"-1", b"3.7", b'""', b'"x"', b"[]", b"{}", b"[null]", b"[[]]", b"[{}]", b'[""]',
    b"1e400", b"-1e308", b"1" * 5000, b"1e-400", b"9223372036854775808", b"-9223372036854775809",
    b'"' + b"x" * 200_000 + b'"', b'"\\u0000"', b'"\\ud800"', b"[" * 900 + b"]" * 900, NESTED,
    b'{"customer_id": null}', b'{"customer_id": 3}', b'{"customer_id": ["1"]}', b'{"customer_id": {"a": 1}}',
    b'{"recency": "x", "frequency": [], "spend": {}}', b'{"recency": 1e400}', b'{"spend": 1e300, "recency": 1, "frequency": 1}',
    b'{"recency": 1, "recency": 2}', b'{"": 1}', b'{"number": 1e18, "first_on": "1997-02-30"}',
    b'{"number": 1, "first_on": "1997-01-01T00:00:00Z"}', b'{"first_on": "0000-00-00", "number": true}',
    b'{"seen_at": "9999-12-31T23:59:59-12:00", "spend": 1e99, "vip": 1}',
    b'{"seen_at": "0001-01-01T00:00:00+14:00", "spend": 1e-30, "vip": true}',
    b'{"seen_at": "1998-06-30T12:00:60Z", "spend": 1.005, "vip": false}',
    b'{"seen_at": "x", "spend": "NaN", "vip": "yes"}', b'{"seen_at": "1998-06-30T12:00:00Z", "spend": "sNaN", "vip": true}',
    b'{"vip": "x", "least": "1e5000"}', b'{"vip": true, "least": 1e308}', b'{"vip": true, "number": 9223372036854775808}',
    b'{"vip": true, "number": "1; DROP TABLE c"}', b'{"vip": null}', b'{"vip": true, "least": "Infinity"}',
    b'{"vip": true, "at": "9999-12-31T23:59:59-12:00"}', b'{"vip": true, "on": "-0001-01-01"}',
    b'{"vip": true, "on": "9999-12-31", "least": 99999999.99}', b'{"vip": true, "least": 123456789012345678901234567890}',
    b'{"what": 1, "number": "x", "ratio": "y", "many": 3}', b'{"what": "x", "other": 1}', b'{"self": 1, "__class__": 2}',
    b'[{"features": null}, {"features": {"customer_id": "00003"}}, 3, null, [], {}]',
    b'[{"data": null}, {"data": {"customer_id": "00003"}}, 3, null, [], {}]',
    b'[{"name": "recency", "shape": [-1], "datatype": "FP64", "data": [1]}]',
    b'[{"name": "recency", "shape": [1, 1000000000000], "datatype": "INT64", "data": [1]}]',
    b'[{"name": "customer_id", "shape": [1], "datatype": "BYTES", "data": [[["x"]]]}]',
    b'[{"name": "recency", "shape": [9223372036854775807, 2], "datatype": "FP64", "data": []}]',
    b'[{"name": "x", "shape": [0], "datatype": "FP64", "data": []}]',
    b'[{"name": "recency", "shape": [99999999999999999999], "datatype": "FP64", "data": []}]',
)  # fmt: skip


@pytest.mark.parametrize("action", POSTS)
def test_what_is_no_json_is_refused(world: World, action: str) -> None:
    world.refuses_no_json(action)


@pytest.mark.parametrize("action", POSTS)
def test_what_has_a_wrong_form_is_refused_or_answered(world: World, action: str) -> None:
    """Whatever is in a member: an answer that is JSON, or a fault of the caller's, and the endpoint goes on."""
    rest = b', "features": {"customer_id": "00003"}' if action == "high-value/predict" else b""
    bodies = [*VALUES]
    for name in POSTS[action]:
        bodies += [
            b'{"%s": %s%s}' % (name.encode(), value, b"" if name == "features" else rest) for value in VALUES
        ]
        if name == "items":
            inner = b"features" if "predict" in action else b"data"
            bodies += [b'{"items": [{"%s": %s}, 3]}' % (inner, value) for value in VALUES]
    world.refuses_or_answers(action, bodies)


WORDS = b"x" * 50_000
QUERIES = (
    b"a=1&" * 5000, b"&".join(b"k%d=1" % n for n in range(3000)), b"customer_id=" + WORDS, WORDS, b"customer_id",
    b"=", b"&&&", b"%", b"%zz=%zz", b"customer_id=%ff%fe", b"customer_id=%00", b"\xff\xfe=\xff", b"recency=%6eaN",
    b"recency=1&recency=2", b"recency=1e400", b"recency=[1]", b"recency={}", b"recency=" + b"[" * 50_000,
    b"customer_id=00003&customer_id=00004", b"recency=1;frequency=2", b"number=" + b"9" * 6000, b"first_on=1997-13-01",
)  # fmt: skip


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query[:20].decode("latin-1"))
def test_a_query_string_that_nobody_can_mean_is_refused(world: World, query: bytes) -> None:
    told = world.ask("GET", f"{HOME}/high-value/predict-simple", query=query).refuses(400, 404)
    assert told["errorType"] in {
        "InvalidRequest",
        "InvalidFeatures",
        "InvalidKey",
        "MissingFeatures",
        "NoMatch",
    }, told


PLACES = (
    ("GET", "/", 404), ("POST", "/public/api/v1/", 404), ("POST", "/public/api/v1/other/it/run", 404),
    ("POST", HOME, 404), ("POST", f"{HOME}/nobody/predict", 404), ("POST", f"{HOME}/high-value/run", 404),
    ("POST", f"{HOME}/high-value/predict/more", 404), ("POST", f"{HOME}/../offers/it/run", 404),
    ("POST", f"{HOME}/%68igh-value/predict", 404), ("POST", f"{HOME}/\ufffd/\0", 404), ("POST", "/" + "x/" * 30_000, 404),
    ("POST", "*", 404), ("POST", "", 404), ("GET", f"{HOME}/it/run", 405), ("PUT", f"{HOME}/profile/lookup", 405),
    ("DELETE", f"{HOME}/openapi.json", 405), ("POST", f"{HOME}/openapi.json", 405), ("HEAD", f"{HOME}/it/run", 405),
    ("OPTIONS", f"{HOME}/it/run", 405), ("TRACE", f"{HOME}/it/run", 405), ("X" * 5000, f"{HOME}/it/run", 405),
    ("POST", f"{HOME}/v2/models/nobody/infer", 404), ("POST", f"{HOME}/v2/models/high-value/versions/g9/infer", 404),
    ("GET", f"{HOME}/v2/models/high-value/infer", 405), ("GET", f"{HOME}/v2/repository/index", 404),
)  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "status"), PLACES, ids=lambda one: str(one)[:40].encode("ascii", "replace").decode()
)
def test_a_wrong_place_or_method_is_told(world: World, method: str, path: str, status: int) -> None:
    world.ask(method, path, b"{}").refuses(status)


@pytest.mark.parametrize("action", POSTS)
def test_what_is_too_large_is_not_read(world: World, action: str) -> None:
    said = world.ask("POST", f"{HOME}/{action}", b" " * 300_001)
    assert said.refuses(413)["errorType"] == "RequestTooLarge"


HEADERS = (
    (b"content-type", b"application/xml; charset=klingon"), (b"content-type", b"\xff\xfe"), (b"content-type", b""),
    (b"content-encoding", b"gzip"), (b"accept", b"image/png"), (b"x-request-id", b"x" * 60_000),
    (b"x-request-id", b"\xff\r\nset-cookie: a=b"), (b"forced-generation", b"\xff" * 1000), (b"dispatch-key", b"\0"),
    (b"expect", b"something"), (b"tulle-steps", b"\xff"), (b"authorization", b"Basic " + b"=" * 9000),
)  # fmt: skip


@pytest.mark.parametrize("header", HEADERS, ids=lambda one: f"{one[0].decode()} {one[1][:12]!r}")
def test_headers_that_nobody_can_mean_do_no_harm(world: World, header: tuple[bytes, bytes]) -> None:
    body = b'{"features": {"customer_id": "00003"}}'
    for action, content, right in (
        ("high-value/predict", body, True),
        ("anything/run", b'{"a": 1}', True),
        ("it/run", b'{"customer": 1}', False),
    ):
        told = world.ask("POST", f"{HOME}/{action}", content, [header])
        if right:
            assert told.status == 200, told
        else:
            told.refuses()
        assert all("\n" not in value and len(value) < 5000 for value in told.headers.values())


def test_after_all_that_the_service_is_as_it_was(world: World) -> None:
    assert json.loads(world.ask("GET", "/isAlive/").body)["alive"] is True
    said = json.loads(world.post("high-value/predict", b'{"features": {"customer_id": "00003"}}').body)[
        "result"
    ]
    assert math.isclose(sum(said["probas"].values()), 1)
    paths = json.loads(world.ask("GET", "/metrics").body)["paths"]
    faults = {path: {code for code in one["errors"] if code >= "500"} for path, one in paths.items()}
    assert not any(faults.values()), faults
