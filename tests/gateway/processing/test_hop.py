"""The way through the processor on the real Envoy: what passes, how it passes, and that it fails closed."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable

import pytest
from tests.gateway.conftest import API, as_client, check_error, wait_until
from tests.gateway.processing.conftest import Processed

from tulle.errors import Broken, Invalid
from tulle.gateway.envoy_values import processor_socket
from tulle.gateway.policies.entry import Policy
from tulle.gateway.processing import kinds
from tulle.gateway.processing.exchange import Answer, Call, Refusal
from tulle.gateway.processing.holding import Holding
from tulle.gateway.processing.hop import Hops
from tulle.gateway.processing.inner import Pool
from tulle.gateway.processing.plan import ChainPlan, StepPlan
from tulle.gateway.processing.step import Chain, Step

pytestmark = pytest.mark.system
LOOSE = Policy("json-limits", {"max_depth": 50, "only_json": True})
REDACTING = Policy("redaction", {"fields": [{"path": "$.secret"}], "other_content": "pass"})


def talk(path: str, data: bytes, *, seconds: float = 5.0) -> bytes:
    """What is answered on a unix socket to bytes as they are."""
    with socket.socket(socket.AF_UNIX) as wire:
        wire.settimeout(seconds)
        wire.connect(path)
        wire.sendall(data)
        found = b""
        try:
            while piece := wire.recv(65536):
                found += piece
        except TimeoutError:
            pass
        return found


def test_a_request_reaches_the_target_as_it_would_without_the_processor(processed: Processed) -> None:
    processed.put(LOOSE)
    asked = {"x_mine": "1", "accept": "text/csv", "content_type": "application/json"}
    through, straight = (
        processed.ask("/x/said?a=b%20c&a=%2F", b'{"a": 1}', api=api, **asked).json()
        for api in ("api", "plain")
    )
    assert through["target"] == straight["target"].replace("/plain/", "/api/")
    assert through["method"] == straight["method"]
    assert through["body"] == straight["body"] == '{"a": 1}'

    def plain(said: list[list[str]]) -> dict[str, str]:
        return {name: value for name, value in said if name != "x-request-id"}

    assert plain(through["headers"]) == plain(straight["headers"])
    assert dict(through["headers"])["x-request-id"]


@pytest.mark.parametrize("size", [0, 1, 100_000, 3_000_000])
@pytest.mark.parametrize("step", [LOOSE, REDACTING])
def test_large_answers_of_other_types_pass_in_pieces(processed: Processed, size: int, step: Policy) -> None:
    processed.put(step)
    for chunked in ({}, {"x_chunked": "1"}):
        reply = processed.ask(
            "/x/big", b"{}", x_size=str(size), x_answer='{"content-type": "text/x"}', **chunked
        )
        assert (reply.status, reply.body) == (200, b"x" * size)


def test_a_json_answer_that_is_too_large_to_be_looked_through_is_refused(processed: Processed) -> None:
    processed.put(REDACTING)
    check_error(processed.ask("/x/big", b"{}", x_size=str(9 << 20)), 502, "AnswerTooLarge")


def test_errors_of_envoy_behind_the_processor_have_the_one_shape(processed: Processed) -> None:
    processed.put(LOOSE, upstreams=("run/w/nobody.sock",))
    check_error(processed.ask("/x/said", b"{}"), 503, "ServiceUnavailable")
    processed.put(LOOSE, timeout_seconds=0.2)
    check_error(processed.ask("/x/slow", b"{}"), 504, "ServiceTimeout")
    processed.put(LOOSE)
    check_error(processed.mesh.ask(API + "api/x"), 401, "InvalidClient")


def test_an_answer_that_is_cut_off_is_not_passed_as_whole(processed: Processed) -> None:
    processed.put(LOOSE)
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        processed.ask("/x/cut", b"{}")
    processed.put(Policy("redaction", {"fields": [{"path": "$.a"}]}))
    check_error(processed.ask("/x/cut", b"{}"), 503, "PolicyUnavailable")


def test_without_the_processor_nothing_passes_but_what_does_not_need_it(processed: Processed) -> None:
    processed.put(REDACTING, may_repeat=False)
    processed.stop()
    try:
        began = time.monotonic()
        reply = processed.ask("/x/echo", b'{"secret": 1}')
        check_error(reply, 503, "ServiceUnavailable")
        assert time.monotonic() - began < 8
        assert processed.ask("/x/echo", b'{"secret": 1}', api="plain").body == b'{"secret": 1}'
    finally:
        processed.start()
    assert processed.ask("/x/echo", b'{"secret": 1}').body == b"{}"


def test_one_that_is_killed_under_load_loses_no_request_that_may_be_repeated(processed: Processed) -> None:
    processed.put(REDACTING)
    found: list[tuple[int, bytes]] = []
    is_over = threading.Event()

    def load() -> None:
        while not is_over.is_set():
            reply = processed.ask("/x/echo", b'{"secret": 1, "a": 2}')
            found.append((reply.status, reply.body))

    callers = [threading.Thread(target=load) for _ in range(4)]
    for caller in callers:
        caller.start()
    wait_until(lambda: len(found) > 50, "some answers")
    began = time.monotonic()
    processed.stop(hard=True)
    processed.start()
    down = time.monotonic() - began
    so_far = len(found)
    wait_until(lambda: len(found) > so_far + 50, "more answers")
    is_over.set()
    for caller in callers:
        caller.join()
    assert {body for status, body in found if status == 200} == {b'{"a":2}'}
    # What waits for it waits for some three seconds, in which a machine that does nothing else starts it ten times.
    assert {status for status, _ in found} <= ({200} if down < 2 else {200, 503})


def test_policies_change_under_load_without_a_failed_request(processed: Processed) -> None:
    processed.put()
    found: set[tuple[int, bytes]] = set()
    count = [0]
    is_over = threading.Event()

    def load() -> None:
        wire = http.client.HTTPConnection("127.0.0.1", processed.mesh.settings.gateway_port, timeout=10)
        while not is_over.is_set():
            wire.request("POST", f"{API}api/x/echo", b'{"secret": 1, "a": 2}', as_client("app-a"))
            answer = wire.getresponse()
            found.add((answer.status, answer.read()))
            count[0] += 1
        wire.close()

    callers = [threading.Thread(target=load) for _ in range(3)]
    for caller in callers:
        caller.start()
    try:
        for number in range(4):
            processed.put(REDACTING, LOOSE) if number % 2 == 0 else processed.put()
            so_far = count[0]
            wait_until(lambda least=so_far + 100: count[0] > least, "more answers")  # type: ignore[misc]
    finally:
        is_over.set()
        for caller in callers:
            caller.join()
    assert found == {(200, b'{"a":2}'), (200, b'{"secret": 1, "a": 2}')}


def test_a_plan_that_is_damaged_is_refused_and_the_last_good_one_stays(processed: Processed) -> None:
    processed.put(REDACTING)
    file = processed.mesh.settings.state_folder / "run/gateway/processing.json"
    good = file.read_bytes()
    for bad in (
        b"",
        b"{",
        good.replace(b"$.secret", b"$.public"),
        b'{"version_info": "x", "resources": [1]}',
    ):
        fresh = file.with_suffix(".fresh")
        fresh.write_bytes(bad)
        fresh.rename(file)
        state = json.loads(
            talk(
                str(file.with_name("processor-0.sock")), b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n"
            ).partition(b"\r\n\r\n")[2]
        )
        assert state["problem"]
        assert processed.ask("/x/echo", b'{"secret": 1}').body == b"{}"
    processed.stop()
    processed.start()  # one that starts with a damaged plan knows no steps
    try:
        check_error(processed.ask("/x/echo", b'{"secret": 1}'), 503, "PolicyUnavailable")
    finally:
        processed.put(REDACTING)
    assert processed.ask("/x/echo", b'{"secret": 1}').body == b"{}"


def test_redaction_after_caching_is_refused(processed: Processed) -> None:
    with pytest.raises(Broken, match="'redaction' stands after 'caching'"):
        processed.put(Policy("caching"), REDACTING)
    with pytest.raises(Invalid, match="comes after caching"):
        steps = (StepPlan("c", "caching", {}), StepPlan("r", "redaction", REDACTING.settings))
        kinds.check([ChainPlan("api", steps)])


def test_a_step_that_nobody_knows_is_refused() -> None:
    with pytest.raises(Invalid, match="no step 'redacton'") as raised:
        kinds.check([ChainPlan("api", (StepPlan("r", "redacton", {}),))])
    assert "redaction" in (raised.value.hint or "")


def test_what_is_in_force_is_told_and_the_sockets_are_for_their_owner_alone(processed: Processed) -> None:
    processed.put(LOOSE)
    folder = processed.mesh.settings.state_folder
    for name in ("run/gateway/inner.sock", processor_socket(0)):
        assert (folder / name).stat().st_mode & 0o777 == 0o600
    for name in ("gateway/processor.key", "run/gateway/processing.json"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600
    assert (folder / "run/gateway").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "head",
    [
        b"POST %b HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n%b\r\n0\r\n\r\n",
        b"POST %b HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n%b\r\nhello",
        b"POST %b HTTP/1.1\r\nhost: a\r\nx-a: b\r\n folded\r\n%bcontent-length: 0\r\n\r\n",
        b"POST %b HTTP/1.1\nhost: a\ncontent-length: 0\n%b\n",
        b"POST %b HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n%b\r\n",
        b"POST %b HTTP/1.1\r\nhost: a\r\ncontent-length : 0\r\n%b\r\n",
        b"POST %b HTTP/1.1\r\nhost: a\r\ncontent-length: +5\r\n%b\r\nhello",
    ],
)
def test_smuggling_does_not_get_through_the_hop(processed: Processed, head: bytes) -> None:
    """Neither past the gateway, nor past the processor alone when somebody of this machine's owner sends it there."""
    processed.put(LOOSE)
    before = processed.ask("/x/said", b"{}").json()["count"]
    credentials = b"authorization: " + as_client("app-a")["authorization"].encode() + b"\r\n"
    smuggled = f"POST {API}api/x/said HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", processed.mesh.settings.gateway_port), timeout=5) as wire:
        wire.sendall(head % (f"{API}api/x/said".encode(), credentials) + smuggled)
        answer = wire.recv(65536)
    more = 1
    if b"folded" in head or b"\nhost" in head.replace(b"\r\n", b""):
        # Envoy reads lines that are folded, or end by LF alone, as it may (RFC 9112, 2.2 and 5.2): as one request
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"folded" not in head or b'folded"]' in answer
        more = 2
    else:
        assert answer.split(b" ")[1] in {b"400", b"401", b"501"}
    key = json.loads((processed.mesh.settings.state_folder / "run/gateway/processing.json").read_bytes())
    keyed = f"x-tulle-process: {key['resources'][0]['key']}\r\n".encode()
    path = str(processed.mesh.settings.state_folder / processor_socket(0))
    answer = talk(path, head % (f"{API}api/x/said".encode(), keyed) + smuggled, seconds=1)
    assert b"HTTP/1.1 200" not in answer
    assert processed.ask("/x/said", b"{}").json()["count"] == before + more


def test_slow_targets_do_not_hold_up_others(processed: Processed) -> None:
    processed.put(REDACTING)
    slow = threading.Thread(target=processed.ask, args=("/x/slow", b"{}"))
    slow.start()
    began = time.monotonic()
    assert processed.ask("/x/echo", b"{}").status == 200
    assert time.monotonic() - began < 0.9
    slow.join()


# ── steps of all manners, without Envoy ──────────────────────────────────────────────────────────────────


class _Said(Step):
    """Does what it is told."""

    sees_answers = True
    is_told_of_ends = True

    def __init__(self, name: str, trace: list[str], **acts: Callable[[Call], object]) -> None:
        self.name, self.trace, self.acts = name, trace, acts

    def _act(self, what: str, call: Call) -> object:
        self.trace.append(f"{self.name} {what}")
        return self.acts[what](call) if what in self.acts else None

    def request(self, call: Call) -> object:  # type: ignore[override]
        return self._act("request", call)

    def head(self, call: Call, answer: Answer) -> bool:
        return bool(self._act("head", call))

    def body(self, call: Call, answer: Answer) -> object:  # type: ignore[override]
        return self._act("body", call)

    def ended(self, call: Call) -> None:
        self._act("ended", call)


def _raise(exc: Exception) -> Callable[[Call], object]:
    def act(_: Call) -> object:
        raise exc

    return act


async def _soon(value: object = None) -> object:
    await asyncio.sleep(0.01)
    if isinstance(value, Exception):
        raise value
    return value


def through(steps: list[Step], request: bytes, tmp: str) -> bytes:
    """What comes of a request that passes these steps on its way to a target that answers `{}`."""

    async def run() -> bytes:
        async def target(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}")
            await writer.drain()
            writer.close()

        server = await asyncio.start_unix_server(target, tmp + "/t")
        hops = Hops(lambda _: Chain.of(steps), lambda: Answer(200, []), Pool(tmp + "/t"))
        door = await asyncio.get_running_loop().create_unix_server(hops.hop, tmp + "/p")
        reader, writer = await asyncio.open_unix_connection(tmp + "/p")
        writer.write(request)
        found = await reader.read()
        writer.close()
        door.close()
        await hops.end(1)
        server.close()
        return found

    return asyncio.run(run())


ASKED = b"GET /a HTTP/1.1\r\nx-tulle-process: k\r\nconnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("acts", "status", "trace"),
    [
        ({}, 200, ["a request", "b request", "b head", "a head", "a ended", "b ended"]),
        (
            {"head": lambda _: True},
            200,
            ["a request", "b request", "b head", "a head", "b body", "a ended", "b ended"],
        ),
        ({"request": _raise(ValueError())}, 503, ["a request", "b request", "a head", "a ended", "b ended"]),
        (
            {"request": _raise(Refusal(418, "T", "t"))},
            418,
            ["a request", "b request", "a head", "a ended", "b ended"],
        ),
        (
            {"request": lambda _: Answer(203, [], b"x")},
            203,
            ["a request", "b request", "a head", "a ended", "b ended"],
        ),
        (
            {"request": lambda _: _soon()},
            200,
            ["a request", "b request", "b head", "a head", "a ended", "b ended"],
        ),
        (
            {"request": lambda _: _soon(Answer(203, []))},
            203,
            ["a request", "b request", "a head", "a ended", "b ended"],
        ),
        (
            {"request": lambda _: _soon(KeyError())},
            503,
            ["a request", "b request", "a head", "a ended", "b ended"],
        ),
        ({"request": lambda _: 7}, 503, ["a request", "b request", "a head", "a ended", "b ended"]),
        (
            {"head": _raise(ValueError())},
            503,
            ["a request", "b request", "b head", "a head", "a ended", "b ended"],
        ),
        (
            {"head": lambda _: True, "body": _raise(ValueError())},
            503,
            ["a request", "b request", "b head", "a head", "b body", "a head", "a ended", "b ended"],
        ),
        (
            {"head": lambda _: True, "body": lambda _: _soon(Refusal(502, "T", "t"))},
            502,
            ["a request", "b request", "b head", "a head", "b body", "a head", "a ended", "b ended"],
        ),
        (
            {"head": lambda _: True, "body": lambda _: _soon()},
            200,
            ["a request", "b request", "b head", "a head", "b body", "a ended", "b ended"],
        ),
        (
            {"ended": _raise(ValueError())},
            200,
            ["a request", "b request", "b head", "a head", "a ended", "b ended"],
        ),
    ],
)
def test_every_step_is_asked_in_its_turn_and_told_of_the_end_once(
    tmp_path_factory: pytest.TempPathFactory,
    acts: dict[str, Callable[[Call], object]],
    status: int,
    trace: list[str],
) -> None:
    found: list[str] = []
    steps: list[Step] = [_Said("a", found), _Said("b", found, **acts)]
    answer = through(steps, ASKED, str(tmp_path_factory.mktemp("h")))
    assert int(answer.split(b" ")[1]) == status
    assert found == trace
    if status >= 400:
        assert set(json.loads(answer.partition(b"\r\n\r\n")[2])) == {
            "errorType",
            "message",
            "detailedMessage",
            "requestId",
        }


@pytest.mark.parametrize(
    "sent", [b"\0\1\2", b"GET / HTTP/1.1\r\nbad header\r\n\r\n", b"GET /a HTTP/1.1\r\nx: " + b"y" * 300_000]
)
def test_what_is_no_request_ends_its_connection_alone(
    tmp_path_factory: pytest.TempPathFactory, sent: bytes
) -> None:
    answer = through([], sent, str(tmp_path_factory.mktemp("h")))
    assert int(answer.split(b" ")[1]) in {400, 431}


async def _until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError


class _Many(Step):
    """Answers with as many bytes as the path says."""

    def request(self, call: Call) -> Answer:
        return Answer(200, [], b"x" * int(call.target[1:]))


def test_what_slow_readers_have_not_taken_is_counted_and_more_is_refused(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = str(tmp_path_factory.mktemp("h"))
    size = 2 << 20

    async def ask(path: str = f"/{size}") -> tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_unix_connection(folder + "/p", limit=1 << 12)
        writer.write(f"GET {path} HTTP/1.1\r\nx-tulle-process: k\r\n\r\n".encode())
        return await reader.readuntil(b"\r\n\r\n"), reader, writer

    async def run() -> None:
        holding = Holding(3 * size + size // 2)
        hops = Hops(
            lambda _: Chain.of([_Many()]),
            lambda: Answer(200, []),
            Pool("none"),
            holding=holding,
        )
        door = await asyncio.get_running_loop().create_unix_server(hops.hop, folder + "/p")
        slow = [await ask() for _ in range(3)]
        assert all(b" 200 " in head for head, _, _ in slow)
        assert 2 * size < holding.now <= 3 * size
        slow += [await ask() for _ in range(3)]
        late = [head for head, _, _ in slow if b" 503 " in head]
        assert late
        assert all(b"retry-after: 1" in head for head in late)
        assert holding.now <= holding.most
        small = await ask("/10")  # whoever wants little is answered
        assert b" 200 " in small[0]
        for head, reader, _ in slow:
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            assert len(await reader.readexactly(length)) == length
        await _until(lambda: not holding.now)
        last = await ask()
        assert b" 200 " in last[0]
        for _, _, writer in (*slow, small, last):
            writer.close()  # also one that goes away in the middle of it
        await _until(lambda: not hops.open)
        assert holding.now == 0
        door.close()

    asyncio.run(asyncio.wait_for(run(), 20))


def test_a_target_is_read_no_faster_than_the_caller_reads(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder, piece, pieces = str(tmp_path_factory.mktemp("h")), b"x" * (1 << 16), 400

    async def run() -> None:
        sent = [0]

        async def target(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (len(piece) * pieces))
            for _ in range(pieces):
                writer.write(piece)
                await writer.drain()
                sent[0] += len(piece)
            writer.close()

        server = await asyncio.start_unix_server(target, folder + "/t")
        hops = Hops(lambda _: Chain.of([]), lambda: Answer(200, []), Pool(folder + "/t"))
        door = await asyncio.get_running_loop().create_unix_server(hops.hop, folder + "/p")
        reader, writer = await asyncio.open_unix_connection(folder + "/p", limit=1 << 12)
        writer.write(b"GET /a HTTP/1.1\r\nx-tulle-process: k\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        before = -1
        while sent[0] > before:
            before = sent[0]
            await asyncio.sleep(0.1)
        assert before < len(piece) * pieces / 4
        assert len(await reader.readexactly(len(piece) * pieces)) == len(piece) * pieces
        writer.close()
        door.close()
        await hops.end(1)
        server.close()

    asyncio.run(asyncio.wait_for(run(), 20))


def test_an_answer_that_a_step_makes_too_large_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    class Growing(Step):
        sees_answers = True

        def head(self, call: Call, answer: Answer) -> bool:
            return True

        def body(self, call: Call, answer: Answer) -> None:
            answer.set_body(b"x" * (300 << 20))

    answer = through([Growing()], ASKED, str(tmp_path_factory.mktemp("h")))
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"PolicyUnavailable" in answer


def test_a_refusal_tells_by_which_request_and_trace_it_is_found() -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = [(b"x-request-id", b"r-1"), (b"traceparent", f"00-{trace}-b7ad6b7169203331-00".encode())]
    for sent, expected in (
        (headers, {"requestId": "r-1", "traceId": trace}),
        (headers[:1], {"requestId": "r-1"}),
    ):
        answer = Refusal(418, "T", "t").answer(Call("GET", b"/", sent, b"", {}))
        told = json.loads(answer.body)
        assert told == {"errorType": "T", "message": "t", "detailedMessage": "t", **expected}
