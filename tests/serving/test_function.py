"""Function endpoints: arguments by name, results, errors of users' own, and code that misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.serving.asking import answer
from tests.serving.conftest import Mesh

from tulle.errors import Invalid, Place
from tulle.serving.app import App
from tulle.serving.fit import misfits
from tulle.serving.function import Function
from tulle.serving.function_code import Parameter, signature_of
from tulle.serving.loaded import Loaded, load
from tulle.serving.service import load_service

CODE = '''
import datetime, decimal, os, sys, time
import numpy
from helper import doubled
from tulle.sdk.function import ApiError, Response, request

loaded = []

def add(a: int, b: float = 2.5, *, note: str | None = None, **more) -> float:
    """The sum of two numbers."""
    return {"sum": a + b, "note": note, "more": sorted(more)}

def kinds():
    return [numpy.float64(1.5), numpy.arange(3), datetime.date(2020, 2, 29), decimal.Decimal("1.10"), b"ab", doubled(4)]

def who():
    now = request()
    return {"id": now.id, "headers": dict(now.headers), "generation": now.generation, "by": [now.way, now.caller]}

def page(word: str = "x"):
    return Response(f"<p>{word}</p>", "text/html; charset=utf-8", 202, {"X-Word": word, "Content-Length": "1", "Bad\\nname": "y", "X-Tulle-Generation": "g9"})

def misbehave(how: str):
    if how == "refuse":
        raise ApiError("not today", status=418, error_type="Teapot", detail="tomorrow")
    if how == "raise":
        raise ValueError("secret-value-4711")
    if how == "exit":
        sys.exit(3)
    if how == "die":
        os._exit(9)
    if how == "hang":
        time.sleep(60)
    if how == "eat":
        loaded.append(bytearray(3 << 30))
    if how == "odd":
        return object()
    if how == "status":
        return Response("x", status=101)
    if how == "surrogate":
        raise ApiError(chr(0xD800))
    if how == "large":
        return Response(b"x" * (65 << 20))
    if how == "nothing":
        return Response("x", status=204)
    if how == "print":
        print("said by users", flush=True)
    return how
'''
SERVICE = """
service: sums
endpoints:
- name: add
  type: function
  file: sums.py
  pool: {ceil: 1}
  test_queries:
  - {name: two numbers, arguments: {a: 1}, expect: {sum: 3.5}}
  - {name: no number, arguments: {a: x}, expect: {error: InvalidArguments}}
- {name: kinds, type: function, file: sums.py, pool: {ceil: 1}}
- {name: who, type: function, file: sums.py, pool: {ceil: 1}}
- {name: page, type: function, file: sums.py, pool: {ceil: 1}}
- {name: misbehave, type: function, file: sums.py, pool: {ceil: 1, floor: 0}, timeout: 2, memory: 300MB}
"""


class Product:
    """A product with functions."""

    name = "high-value-customers"
    place = None

    def __init__(self, folder: Path) -> None:
        self.folder = folder


@pytest.fixture
def product(tmp_path: Path) -> Product:
    folder = tmp_path / "product"
    (folder / "functions/__pycache__").mkdir(parents=True)
    (folder / "functions/sums.py").write_text(textwrap.dedent(CODE))
    (folder / "functions/helper.py").write_text("def doubled(x):\n    return 2 * x\n")
    (folder / "functions/__pycache__/x.pyc").write_bytes(b"left out")
    return Product(folder)


def build(mesh: Mesh, product: Product, text: str = SERVICE) -> Loaded:
    built = mesh.build(text, product=product)
    return load(mesh.unpacked(built), "g1")


Ask = Callable[..., Awaitable[tuple[int, Any, dict[str, str]]]]


@contextlib.asynccontextmanager
async def answering(loaded: Loaded) -> AsyncIterator[Ask]:
    """A function that asks an endpoint through the application."""
    app = App(loaded, max_request_bytes=1 << 20)

    async def ask(endpoint: str, body: Any = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
        raw = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
        path = f"/public/api/v1/sums/{endpoint}/run"
        content = b"" if body is None else json.dumps(body).encode()
        given = await answer(app, "POST", path, content, raw)
        told = dict(given.headers)
        is_json = told["content-type"] == "application/json"
        return given.status_code, given.json() if is_json else given.content, told

    try:
        yield ask
    finally:
        loaded.close()


def test_functions_answer_what_they_return(mesh: Mesh, product: Product) -> None:
    async def work() -> None:
        async with answering(build(mesh, product)) as ask:
            status, answer, headers = await ask("add", {"a": 1, "b": 2, "note": None, "z": 1, "y": []})
            assert (status, answer["response"]) == (200, {"sum": 3, "note": None, "more": ["y", "z"]})
            assert answer["apiContext"]["serviceGeneration"] == "g1"
            assert set(answer["timing"]) == {"wait", "functionInternal"}
            assert headers["x-tulle-generation"] == "g1"
            _, answer, _ = await ask("kinds")  # no body at all, as the stock client sends for no arguments
            assert answer["response"] == [1.5, [0, 1, 2], "2020-02-29", "1.10", "YWI=", 8]
            _, answer, _ = await ask("who", {}, x_request_id="r-1", authorization="Bearer secret", accept="x")
            assert answer["response"] == {
                "id": "r-1",
                "headers": {"x-request-id": "r-1", "accept": "x"},
                "generation": "g1",
                "by": ["", ""],  # past the gateway, as test queries are asked
            }
            assert answer["apiContext"]["requestId"] == "r-1"
            _, answer, _ = await ask("who", {}, x_tulle_way="token", x_tulle_client="till")
            assert answer["response"]["by"] == ["token", "till"]

    asyncio.run(work())


def test_an_answer_may_be_of_the_functions_own_making(mesh: Mesh, product: Product) -> None:
    async def work() -> None:
        async with answering(build(mesh, product)) as ask:
            status, content, headers = await ask("page", {"word": "héllo"})
            assert (status, content) == (202, "<p>héllo</p>".encode())
            assert headers["content-type"] == "text/html; charset=utf-8"
            assert headers["content-length"] == str(len(content))
            assert headers["x-word"] == "héllo"
            assert not any("bad" in name for name in headers)
            assert headers["x-tulle-generation"] == "g1"

    asyncio.run(work())


@pytest.mark.parametrize(
    ("endpoint", "body", "message"),
    [
        ("add", {}, "argument 'a' is missing"),
        ("add", {"a": True}, "argument 'a' is true, expected a whole number"),
        (
            "add",
            {"a": 1, "b": "2", "note": 3},
            "argument 'b' is \"2\", expected a number; argument 'note' is 3",
        ),
        ("page", {"wrod": "x"}, "unknown argument 'wrod' (did you mean 'word'?)"),
        ("page", [1], "the body is a list of 1, expected an object of arguments"),
    ],
)
def test_wrong_arguments_are_refused_before_the_function(
    mesh: Mesh, product: Product, endpoint: str, body: Any, message: str
) -> None:
    async def work() -> None:
        async with answering(build(mesh, product)) as ask:
            status, answer, _ = await ask(endpoint, body)
            assert status == 400
            assert answer["message"].startswith(message)

    asyncio.run(work())


def test_code_that_misbehaves_harms_nobody_else(
    mesh: Mesh, product: Product, capfd: pytest.CaptureFixture[str]
) -> None:
    async def work() -> None:
        loaded = build(mesh, product)
        async with answering(loaded) as ask:
            for how, status, error_type in [
                ("refuse", 418, "Teapot"),
                ("raise", 500, "FunctionFailed"),
                ("odd", 500, "FunctionFailed"),
                ("status", 500, "FunctionFailed"),
                ("surrogate", 500, "FunctionFailed"),
                ("large", 500, "AnswerTooLarge"),
                ("eat", 500, "TooMuchMemory"),
                ("exit", 500, "EndpointCrashed"),
                ("die", 500, "EndpointCrashed"),
                ("hang", 504, "TookTooLong"),
            ]:
                found, answer, headers = await ask("misbehave", {"how": how}, x_request_id=how)
                assert (found, answer["errorType"], answer["requestId"]) == (status, error_type, how)
                assert "secret-value" not in json.dumps(answer)
                assert headers["content-type"] == "application/json"
                good, answer, _ = await ask("misbehave", {"how": "print"})
                assert (good, answer["response"]) == (200, "print")
                assert (await ask("add", {"a": 1}))[0] == 200
            assert (await ask("misbehave", {"how": "nothing"}))[:2] == (204, b"")

    asyncio.run(work())
    told = capfd.readouterr().err
    assert "said by users" in told
    assert "secret-value-4711" in told  # in the log, where whoever runs the service can read it


def test_who_finds_the_queue_full_or_waits_too_long_is_told_when_to_come_again(
    mesh: Mesh, product: Product
) -> None:
    code = "import time\n\ndef nap(seconds: float):\n    time.sleep(seconds)\n    return seconds\n"
    (product.folder / "functions/naps.py").write_text(code)
    text = (
        "service: sums\nendpoints:\n- name: nap\n  type: function\n  file: naps.py\n"
        "  pool: {floor: 1, ceil: 1, queue: 1, wait: 0.3}\n"
    )

    async def work() -> None:
        async with answering(build(mesh, product, text)) as ask:
            assert (await ask("nap", {"seconds": 0}))[0] == 200
            found = await asyncio.gather(*(ask("nap", {"seconds": 1.5}) for _ in range(3)))
            told = sorted((status, said.get("errorType", "")) for status, said, _ in found)
            assert told == [(200, ""), (503, "NoProcessFree"), (503, "QueueFull")]
            assert [h.get("retry-after") for status, _, h in found if status == 503] == ["1", "1"]

    asyncio.run(work())


def test_a_composition_over_a_function_that_has_enough_to_do_is_well(mesh: Mesh, product: Product) -> None:
    """A worker that said otherwise would be sent nobody any more, and end, for nothing but having callers."""
    text = """
service: sums
endpoints:
- {name: add, type: function, file: sums.py, pool: {floor: 1, ceil: 1, queue: QUEUE, wait: 0.1}}
- name: more
  type: compose
  input: {note: {}}
  steps: [{name: one, call: add, with: {a: 1, note: $input.note}}]
  output: {sum: $one.sum}
  test_queries: [{name: any, input: {note: x}}]
"""

    async def work(queue: int) -> None:
        loaded = build(mesh, product, text.replace("QUEUE", str(queue)))
        endpoint = loaded.endpoints["add"]
        assert isinstance(endpoint, Function)
        try:
            assert await loaded.ready() == {}
            assert loaded.entries["more"].probe == {"note": "x"}
            assert await loaded.probe() == {}
            process = await endpoint.pool._taken()
            status, _ = await loaded.ask("more", {"note": "x"})
            assert status == 503
            assert await loaded.probe() == {}
            # nor is it a failure of a generation that its callers were there before its test queries
            assert await loaded.test(most=10, seconds=0.3) == ()
            asking = asyncio.create_task(loaded.test(most=10, seconds=30))
            await asyncio.sleep(0.2)
            endpoint.pool._give_back(process)
            (verdict,) = await asking
            assert verdict.passed
        finally:
            loaded.close()

    asyncio.run(work(0))  # nobody may wait
    asyncio.run(work(1))  # who waits does so in vain


def test_saved_queries_are_carried_out(mesh: Mesh, product: Product) -> None:
    async def work() -> None:
        loaded = build(mesh, product)
        assert await loaded.ready() == {}
        assert [(v.name, v.message) for v in await loaded.test()] == [("two numbers", ""), ("no number", "")]
        assert await loaded.probe() == {}
        loaded.close()

    asyncio.run(work())


def test_code_that_cannot_be_loaded_keeps_the_service_from_starting(mesh: Mesh, product: Product) -> None:
    (product.folder / "functions/sums.py").write_text(
        "import nothing_of_that_name\ndef add(a: int):\n    return a\n"
    )
    text = "service: sums\nendpoints:\n- {name: add, type: function, file: sums.py}\n"
    loaded = build(mesh, product, text)

    async def work() -> None:
        failed = await loaded.ready()
        assert failed == {
            "add": "the endpoint cannot be started: ModuleNotFoundError: No module named 'nothing_of_that_name'"
        }
        loaded.close()

    asyncio.run(work())


def test_the_package_holds_the_folder_and_says_what_functions_take(mesh: Mesh, product: Product) -> None:
    loaded = build(mesh, product)
    files = {name for name in loaded.manifest.files if name.startswith("functions/")}
    assert files == {"functions/sums.py", "functions/helper.py"}
    described = json.loads(loaded.openapi)["paths"]
    body = described["/add/run"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["properties"] == {
        "a": {"type": "integer"},
        "b": {"type": "number"},
        "note": {"type": ["string", "null"]},
    }
    assert (body["required"], body["additionalProperties"]) == (["a"], True)
    assert described["/add/run"]["post"]["summary"] == "The sum of two numbers."


@pytest.mark.parametrize(
    ("properties", "message", "hint"),
    [
        ("file: sum.py", "has no file functions/sum.py", "did you mean 'sums.py'?"),
        (
            "file: sums.py, function: ad",
            "there is no function 'ad' in functions/sums.py",
            "did you mean 'add'?",
        ),
    ],
)
def test_what_is_not_there_is_told(
    mesh: Mesh, product: Product, properties: str, message: str, hint: str
) -> None:
    text = f"service: sums\nendpoints:\n- {{name: x, type: function, {properties}}}\n"
    with pytest.raises(Invalid) as caught:
        build(mesh, product, text)
    (problem,) = caught.value.problems
    assert message in problem.message
    assert problem.hint == hint
    assert str(problem.place).startswith("services/s.yaml:3:")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def f(", "f.py is not Python: '(' was never closed"),
        ("def f(a, /): pass", "function 'f' takes arguments without names"),
        ("def f(*a): pass", "function 'f' takes arguments without names"),
        ("class f: pass", "there is no function 'f' in f.py"),
    ],
)
def test_a_signature_callers_cannot_use_is_refused(code: str, message: str) -> None:
    with pytest.raises(Invalid, match=message.replace("(", r"\(")) as caught:
        signature_of(code, "f.py", "f", Place("s.yaml", 3))
    assert caught.value.problems[0].place is not None


def test_annotations_say_what_is_expected() -> None:
    found, is_open, told = signature_of(
        "def f(a: list[int], b: 'dict' = {}, c: float | None = None, d: Frame = 1, *, e): pass",
        "f.py",
        "f",
        None,
    )
    assert found == (
        Parameter("a", "list"),
        Parameter("b", "", required=False, nullable=True),
        Parameter("c", "float", required=False, nullable=True),
        Parameter("d", "", required=False, nullable=True),
        Parameter("e", "", nullable=True),
    )
    assert (is_open, told) == (False, "")


def test_bounds_are_read() -> None:
    text = (
        "service: abc\nendpoints:\n- {name: x, type: function, file: a.py, timeout: 0.5, memory: 2 GB, retry: true, "
        "pool: {floor: 6, queue: 0, wait: 3}}\n"
    )
    (spec,) = load_service(text, name="s.yaml").endpoints
    bounds = spec.bounds  # type: ignore[union-attr]
    assert (bounds.floor, bounds.ceil, bounds.queue, bounds.wait_seconds) == (6, 6, 0, 3)
    assert (bounds.seconds, bounds.memory) == (0.5, 2 << 30)
    with pytest.raises(Invalid, match=r"s\.yaml is not valid"):
        load_service(text.replace("2 GB", "much"), name="s.yaml")
    assert msgspec.to_builtins(bounds)["memory"] == 2 << 30


def test_it_is_told_before_it_is_packaged(product: Product) -> None:
    (product.folder / "functions/broken.py").write_text("def f(:")
    (product.folder / "services").mkdir()
    file = product.folder / "services/sums.yaml"
    file.write_text(
        "service: sums\nendpoints:\n- {name: add, type: function, file: sums.py}\n"
        "- {name: b, type: function, file: sum.py}\n- {name: c, type: function, file: sums.py, function: ad}\n"
        "- {name: d, type: function, file: broken.py}\n"
    )
    found = list(misfits([load_service(file)], lambda _product, _data_set: None))
    assert [problem.message for problem in found] == [
        "there is no file functions/sum.py",
        "there is no function 'ad' in functions/sums.py",
        "functions/broken.py is not Python: invalid syntax",
    ]
    assert [problem.place.line if problem.place else 0 for problem in found] == [4, 5, 1]


def test_a_file_that_takes_the_machine_s_memory_when_it_is_loaded_is_not_started(
    mesh: Mesh, product: Product
) -> None:
    (product.folder / "functions/vast.py").write_text(
        "import numpy\nVAST = numpy.zeros(7 << 30, 'u1')\ndef vast():\n    return 1\n"
    )
    text = "service: sums\nendpoints:\n- {name: vast, type: function, file: vast.py, memory: 300MB}\n"  # no query is run
    loaded = build(mesh, product, text)
    try:
        told = asyncio.run(loaded.ready())
    finally:
        loaded.close()
    assert "far more memory than it may have" in told["vast"]
