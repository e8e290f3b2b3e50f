"""Several generations of a service on real processes: split, sticky, forced, shadow, another environment, its end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from tests.pipeline.conftest import ROWS, SALES
from tests.system.conftest import TULLE, Mesh, free_port

from tulle.control.autoscale import AT_ONCE, Autoscaler
from tulle.deploy import local
from tulle.server.app import open_workspace
from tulle.serving.traffic import generation_of, split
from tulle.spec.mesh import load_settings

pytestmark = pytest.mark.system

WHO = "calc/who/run"
FUNCTION = """\
import time


def who(wait: float = 0) -> dict:
    time.sleep(wait)
    return {{'version': {number}}}
"""
SERVICE = "service: calc\nendpoints:\n- {name: who, type: function, file: who.py, retry: true%s}\n"


@pytest.fixture(scope="module")
def calc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A mesh that is up, with two versions of a service of one function; v1 answers."""
    mesh = Mesh(tmp_path_factory.mktemp("system") / "mesh", free_port(), free_port(), free_port())
    product = mesh.folder / "products" / "shop" / "sales"
    (product / "services").mkdir(parents=True)
    for folder, name, text in (
        ("transform", "sales.sql", "SELECT id, customer, day, amount FROM till_rows\n"),
        ("data", "sales.csv", ROWS),
    ):
        (product / folder).mkdir()
        (product / folder / name).write_text(text)
    (product / "functions").mkdir()
    (mesh.folder / "mesh.yaml").write_text(
        "name: test\nenvironments: {test: {fallback: prod}}\ndefault_rate_limit: 100000/1s\n"
    )
    (product / "product.yaml").write_text(textwrap.dedent(SALES))
    (product / "services" / "calc.yaml").write_text(SERVICE % "")
    try:
        mesh.tulle("up", "--detach")  # first: what asks a mesh that is up starts sooner
        for number in (1, 2, 3):
            (product / "functions" / "who.py").write_text(FUNCTION.format(number=number))
            mesh.tulle("apply")
            mesh.tulle("service", "package", "calc")
        mesh.tulle("app", "create", "caller", "--service", "calc")
        mesh.tulle("service", "deploy", "calc", "--version", "v1")
        yield mesh
    finally:
        mesh.tulle("down", check=False)
    assert mesh.processes() == []


def ask(mesh: Mesh, body: Any = None, **headers: str) -> httpx.Response:
    return mesh.call(WHO, body or {}, {**mesh.credentials("caller"), **headers})


def version(mesh: Mesh, **headers: str) -> int:
    answer = ask(mesh, **headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-tulle-generation"] == f"v{answer.json()['response']['version']}"
    return int(answer.json()["response"]["version"])


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_requests_are_split_by_their_key(calc: Mesh) -> None:
    told = calc.tulle("service", "traffic", "calc", "v1=50%", "v2=50%", "--sticky", "--preload", "v3").stdout
    assert "v1 50%, v2 50% (sticky) answers at" in told
    traffic = split({"v1": 0.5, "v2": 0.5}, sticky=True)
    met = Counter()
    for number in range(20):
        key = f"user-{number}"
        met[version(calc, **{"dispatch-key": key})] += 1
        assert f"v{version(calc, **{'dispatch-key': key})}" == generation_of(traffic, key)
    assert set(met) == {1, 2}
    assert ask(calc).json()["errorType"] == "MissingDispatchKey"
    assert version(calc, **{"forced-generation": "v3"}) == 3
    back = calc.json("service", "rollback", "calc")
    assert back["traffic"] == "v1"


def test_another_environment_has_its_own_address(calc: Mesh) -> None:
    found = calc.json("service", "deploy", "calc", "--version", "v2", "--environment", "test")
    assert found["url"] == f"http://127.0.0.1:{calc.gateway}/test/public/api/v1/calc/"
    answer = httpx.post(f"{found['url']}who/run", json={}, headers=calc.credentials("caller"))
    assert answer.json()["response"] == {"version": 2}
    assert version(calc) == 1
    names = set(calc.json("status")["processes"])
    assert {"calc/v1/0", "calc@test/v2/0"} <= names
    calc.tulle("service", "withdraw", "calc", "-e", "test", "--yes")
    until(lambda: httpx.post(f"{found['url']}who/run", headers=calc.credentials("caller")).status_code == 404)


def test_generations_change_under_load_and_no_request_is_lost(calc: Mesh) -> None:
    seen: Counter[tuple[int, str]] = Counter()
    stop = asyncio.Event()

    async def caller(client: httpx.AsyncClient) -> None:
        while not stop.is_set():
            answer = await client.post(f"/public/api/v1/{WHO}", json={})
            seen[answer.status_code, answer.headers.get("x-tulle-generation", answer.text)] += 1

    async def change(*words: str) -> None:
        await asyncio.to_thread(calc.tulle, "service", *words)

    async def load() -> None:
        url, credentials = f"http://127.0.0.1:{calc.gateway}", calc.credentials("caller")
        async with httpx.AsyncClient(base_url=url, headers=credentials, timeout=30) as client:
            callers = [asyncio.create_task(caller(client)) for _ in range(8)]
            await change("traffic", "calc", "v1=80%", "v2=20%", "--shadow", "v3=50%")
            await change("deploy", "calc", "--version", "v2")
            await change("workers", "calc", "--at-least", "2")
            await change("deploy", "calc", "--version", "v3")
            await change("workers", "calc")
            await change("rollback", "calc")
            stop.set()
            await asyncio.gather(*callers)

    asyncio.run(load())
    assert {status for status, _ in seen} == {200}, seen
    assert {name for _, name in seen} == {"v1", "v2", "v3"}
    assert sum(seen.values()) > 100


def test_killed_workers_lose_no_request_that_may_be_sent_again(calc: Mesh) -> None:
    calc.tulle("service", "workers", "calc", "--at-least", "2")

    def workers() -> dict[str, int]:
        found = calc.json("status")["processes"]
        return {n: p["pid"] for n, p in found.items() if n.startswith("calc/") and p["state"] == "running"}

    until(lambda: len(workers()) >= 2)
    until(lambda: ask(calc).status_code == 200)
    seen: Counter[tuple[int, str]] = Counter()
    stop = asyncio.Event()

    async def caller(client: httpx.AsyncClient) -> None:
        while not stop.is_set():
            answer = await client.post(f"/public/api/v1/{WHO}", json={})
            seen[answer.status_code, "" if answer.status_code == 200 else answer.text] += 1

    async def load() -> None:
        url, credentials = f"http://127.0.0.1:{calc.gateway}", calc.credentials("caller")
        async with httpx.AsyncClient(base_url=url, headers=credentials, timeout=30) as client:
            callers = [asyncio.create_task(caller(client)) for _ in range(8)]
            killed: set[str] = set()
            while len(killed) < 2:
                await asyncio.sleep(1)
                # Asked anew each time: workers of a generation that left before are still ending.
                left = {n: p for n, p in (await asyncio.to_thread(workers)).items() if n not in killed}
                name, pid = next(iter(left.items()))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed.add(name)
                # The other one is killed when there are two again.
                await asyncio.to_thread(
                    until, lambda p=pid: p not in (w := workers()).values() and len(w) >= 2
                )
            stop.set()
            await asyncio.gather(*callers)

    asyncio.run(load())
    assert {status for status, _ in seen} == {200}, seen
    assert sum(seen.values()) > 100
    calc.tulle("service", "workers", "calc")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"POST /public/api/v1/calc/who/run HTTP/1.1\r\n\r\n", 400),
        (b"POST /public/api/v1/\xff\xfe HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n", 400),
        (b"POST %b HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n", 400),
        (b"POST %b HTTP/1.1\r\nhost: a\r\n%b\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST %b HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 200_000 + b"\r\n\r\n", 431),
        (b"POST %b HTTP/1.1\r\nhost: a\r\n%b\r\ncontent-length: 3\r\n\r\n[}{", 400),
    ],
)
def test_bytes_that_are_no_request_harm_nobody(calc: Mesh, sent: bytes, status: int) -> None:
    path, credentials = f"/public/api/v1/{WHO}".encode(), calc.credentials("caller")
    headers = "\r\n".join(f"{name}: {value}" for name, value in credentials.items()).encode()
    for part in (path, headers):
        sent = sent.replace(b"%b", part, 1)
    with socket.create_connection(("127.0.0.1", calc.gateway), timeout=20) as connection:
        connection.sendall(sent)
        told = connection.recv(65536)
    assert told.startswith(b"HTTP/1.1 %d " % status), told
    assert ask(calc).status_code == 200


def test_a_deployment_goes_on_when_the_control_plane_and_the_gateway_are_killed(calc: Mesh) -> None:
    url = f"http://127.0.0.1:{calc.gateway}/public/api/v1/{WHO}"
    asked = subprocess.Popen(
        [TULLE, "--mesh", str(calc.folder), "service", "deploy", "calc", "--version", "v2"],
        env=calc.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: any(name.startswith("calc/v2/") for name in calc.json("status")["processes"]))
        for name in ("control_plane", "gateway"):
            os.kill(calc.json("status")["processes"][name]["pid"], signal.SIGKILL)

        def answers() -> bool:
            try:
                answer = httpx.post(url, json={}, headers=calc.credentials("caller"))
            except httpx.TransportError:
                return False
            return answer.status_code == 200 and answer.json()["response"] == {"version": 2}

        until(answers)
    finally:
        asked.kill()
        asked.wait()
    until(lambda: calc.json("status")["processes"]["control_plane"]["state"] == "running")
    calc.tulle("service", "deploy", "calc", "--version", "v1")
    assert version(calc) == 1


def test_a_shadow_is_logged_as_one_and_compared(calc: Mesh) -> None:
    calc.tulle("service", "traffic", "calc", "v1=100%", "--shadow", "v2=100%")
    given = [ask(calc).headers["x-request-id"] for _ in range(5)]

    def logged() -> dict[tuple[str, str], Any]:
        rows = calc.json("service", "log", "calc", "--since", "5 min", "--limit", "1000")
        return {(row["request_id"], row["generation"]): row for row in rows if row["request_id"] in given}

    until(lambda: len(logged()) == 10)
    rows = logged()
    for id_ in given:
        answered, copied = rows[id_, "v1"], rows[id_, "v2"]
        assert (answered["shadow"], copied["shadow"]) == (False, True)
        assert (answered["result"], copied["result"]) == ({"version": 1}, {"version": 2})
        assert answered["caller"] == copied["caller"] == calc.credentials("caller")["client_id"]
    told = calc.call("calc/feedback", {"requestId": given[0], "outcome": 1}, calc.credentials("caller"))
    assert told.json() == {"taken": 1}
    until(lambda: logged()[given[0], "v1"].get("outcome") == 1)
    found = calc.json("service", "compare", "calc", "v1", "v2", "--recorded", "--since", "5 min")
    assert found["asked"] >= 5
    assert (found["equal"], found["apart"]["max"]) == (0, 1)
    calc.tulle("service", "deploy", "calc", "--version", "v1")


def test_it_is_disabled_and_told_to_end(calc: Mesh) -> None:
    calc.tulle("service", "disable", "calc")
    answer = ask(calc)
    assert (answer.status_code, answer.json()["errorType"]) == (503, "ServiceDisabled")
    assert answer.headers["retry-after"] == "1"
    calc.tulle("service", "enable", "calc")
    calc.tulle("service", "deprecate", "calc", "--sunset", "2099-01-01")
    answer = ask(calc)
    assert answer.status_code == 200
    assert answer.headers["sunset"] == "Thu, 01 Jan 2099 00:00:00 GMT"
    assert answer.headers["deprecation"].startswith("@")
    calc.tulle("service", "deprecate", "calc", "--undo")
    assert "sunset" not in ask(calc).headers
    listed = json.loads(calc.tulle("service", "traffic", "calc", "--json").stdout)
    assert [one["environment"] for one in listed] == ["prod"]


def test_what_does_not_run_is_cleaned_up(calc: Mesh) -> None:
    calc.tulle("service", "deploy", "calc", "--version", "v1")
    removed = calc.json("service", "clean")
    assert [one["version"] for one in removed] == ["v3"]
    assert version(calc) == 1


def test_a_worker_more_comes_under_load_and_goes_after_it(calc: Mesh) -> None:
    calc.tulle("service", "workers", "calc", "--at-least", "1", "--at-most", "2")

    settings = load_settings(calc.folder, calc.environment)

    def workers() -> int:
        found = local.processes(settings)
        return sum(name.startswith("calc/v1/") and one.state == "running" for name, one in found.items())

    async def load() -> None:
        url, credentials = f"http://127.0.0.1:{calc.gateway}", calc.credentials("caller")
        stop = asyncio.Event()

        async def caller(client: httpx.AsyncClient) -> None:
            while not stop.is_set():
                answer = await client.post(f"/public/api/v1/{WHO}", json={"wait": 0.1})
                assert answer.status_code == 200, answer.text

        async with httpx.AsyncClient(base_url=url, headers=credentials, timeout=30) as client:
            callers = [asyncio.create_task(caller(client)) for _ in range(AT_ONCE)]
            await asyncio.to_thread(until, lambda: workers() == 2)
            stop.set()
            await asyncio.gather(*callers)

    assert workers() == 1
    asyncio.run(load())
    workspace = open_workspace(settings)
    began = time.monotonic()
    # Half a minute of calm is a second and a half for this one; what it notes the mesh carries out.
    quick = Autoscaler(workspace, clock=lambda: began + (time.monotonic() - began) * 20)

    def calm() -> bool:
        quick.look()
        return workers() == 1

    until(calm)
    workspace.database.close()
    assert version(calc) == 1
    calc.tulle("service", "workers", "calc")


def test_what_fails_its_test_queries_goes_back_where_that_is_wanted(calc: Mesh) -> None:
    product = calc.folder / "products" / "shop" / "sales"
    (product / "functions" / "who.py").write_text(FUNCTION.format(number=4))
    query = ", test_queries: [{name: low, arguments: {}, expect: {version: 1}}]"
    (product / "services" / "calc.yaml").write_text(SERVICE % query)
    calc.tulle("apply")
    calc.tulle("service", "package", "calc", "--allow-failing")
    done = calc.tulle(
        "service", "deploy", "calc", "--version", "v4", "--test-queries", "rollback", check=False
    )
    assert done.returncode == 1
    told = "v4: 1 of 1 test queries fail: who, 'low': version is 4, expected 1; it goes back to v1"
    assert told in " ".join((done.stdout + done.stderr).split())
    until(lambda: version(calc) == 1)
    (found,) = calc.json("service", "traffic", "calc")
    assert (found["active_version"], found["tested"]["v4"]["status"]) == ("v1", "failed")
    told = calc.tulle("service", "deploy", "calc", "--version", "v4", "--no-test").stdout
    assert "v4: its test queries are not asked" in told
    asked = calc.tulle("service", "test", "calc", "-e", "prod", check=False)
    assert asked.returncode == 1
    assert "asked calc v4, which runs in 'prod'" in asked.stdout
    calc.tulle("service", "rollback", "calc")
    for path in ("/testQueries", "/public/api/v1/calc/%2e%2e/%2e%2e/%2e%2e/%2e%2e/testQueries"):
        url = f"http://127.0.0.1:{calc.gateway}{path}?most=1&seconds=1"
        reached = httpx.get(url, headers=calc.credentials("caller"))
        assert reached.status_code in {400, 404}, reached.text  # it is of the workers' own sockets
