"""Functions that end, hang, fill or flood their process: an error for that call, and the others answer meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.serving.asking import answer
from tests.serving.conftest import make_mesh, model  # noqa: F401  a fixture
from tests.serving.test_function import Product

from tulle.pipeline.model_file import ModelFile
from tulle.serving.app import App
from tulle.serving.loaded import load

CODE = """
import ctypes, math, os, sys, threading, time

kept = []

def wild(how: str):
    if how == "abort":
        os.abort()
    if how == "segfault":
        ctypes.string_at(0)
    if how == "exit":
        os._exit(0)
    if how == "hang":
        while True:
            pass
    if how == "eat":
        while True:
            kept.append(bytearray(50 << 20))
    if how == "fork":
        if os.fork() == 0:
            time.sleep(600)
        return "forked"
    if how == "threads":
        for _ in range(20):
            threading.Thread(target=time.sleep, args=(600,)).start()
        return "begun"
    if how == "print":
        for _ in range(2000):
            print("x" * 1000)
        return "printed"
    if how == "close":
        os.closerange(3, 256)
    if how == "nan":
        return {"a": math.nan, "b": [math.inf]}
    if how == "deep":
        made = []
        for _ in range(100_000):
            made = [made]
        return made
    if how == "round":
        made = []
        made.append(made)
        return made
    if how == "recurse":
        return wild(how)
    return how

def calm():
    return "calm"
"""
SERVICE = """
service: wilds
endpoints:
- {name: wild, type: function, file: wilds.py, pool: {floor: 1, ceil: 1}, timeout: 2, memory: 300MB}
- {name: calm, type: function, file: wilds.py, function: calm, pool: {floor: 1, ceil: 1}}
- {name: profile, type: lookup, product: customer-features, data_set: customer_features, key: customer_id}
"""
ENDS = ("abort", "segfault", "exit", "hang", "eat", "close", "deep", "round", "recurse")
GOES_ON = ("fork", "threads", "print", "nan")


@pytest.fixture(scope="module")
def app(
    tmp_path_factory: pytest.TempPathFactory,
    model: tuple[ModelFile, Any],  # noqa: F811
) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("wilds")
    (folder / "product/functions").mkdir(parents=True)
    (folder / "product/functions/wilds.py").write_text(CODE)
    mesh = make_mesh(folder / "mesh", model[0])
    service = load(mesh.unpacked(mesh.build(SERVICE, product=Product(folder / "product"))), "g1")
    yield App(service, max_request_bytes=100_000)
    mesh.database.close()


async def ask(app: App, action: str, body: Any) -> tuple[int, Any]:
    given = await answer(app, "POST", f"/public/api/v1/wilds/{action}", json.dumps(body).encode())
    return given.status_code, json.loads(given.content, parse_constant=pytest.fail)


def test_code_that_misbehaves_harms_its_own_call_alone(app: App) -> None:
    async def work() -> None:
        for how in (*ENDS, *GOES_ON):
            asked = asyncio.create_task(ask(app, "wild/run", {"how": how}))
            met = 0
            while not asked.done() or not met:
                assert (await ask(app, "calm/run", {}))[1]["response"] == "calm", how
                assert (await ask(app, "profile/lookup", {"data": {"customer_id": "00003"}}))[0] == 200, how
                met += 1
                await asyncio.sleep(0.01)
            status, answer = await asked
            if how in GOES_ON:
                assert status == 200, answer
            else:
                assert status in {500, 504}, (how, answer)
                assert set(answer) == {"errorType", "message", "detailedMessage", "requestId"}
                assert "Traceback" not in json.dumps(answer)
            if how == "nan":
                assert answer["response"] == {"a": None, "b": [None]}
            assert (await ask(app, "wild/run", {"how": "well"}))[1]["response"] == "well", how
        app.service.close()

    asyncio.run(work())
