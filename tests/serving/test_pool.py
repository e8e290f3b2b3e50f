"""Processes behind a pool: who waits, what is refused, and what becomes of those that hang, die or grow."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import pytest

from tulle.serving import pool as pools
from tulle.serving.bounds import MOST_REPLY, Bounds
from tulle.serving.pool import Pool
from tulle.serving.request import RequestError

# A process that does what it is told: the protocol of `child`, and nothing to load.
CHILD = """
import os, socket, subprocess, sys, time
import msgspec
from tulle.serving.beside import _received, _send, end_with_parent
from tulle.serving.pool import Told

line = socket.socket(fileno=int(sys.argv[sys.argv.index("--socket") + 1]))
end_with_parent(line, int(sys.argv[sys.argv.index("--life") + 1]))
if os.path.exists(sys.argv[1]):
    _send(line, Told(b"", problem="it will not"))
    sys.exit(3)
_send(line, Told(b""))
while (asked := _received(line)) is not None:
    word, _, rest = asked.partition(b" ")
    if word == b"sleep":
        time.sleep(float(rest))
    elif word == b"die":
        os._exit(7)
    elif word == b"once" and not os.path.exists(rest.decode()):
        open(rest, "w").close()
        os._exit(7)
    elif word == b"start":
        print(subprocess.Popen(["sleep", "600"]).pid, file=open(rest, "w"), flush=True)
        time.sleep(600)
    size = 1 << 40 if word == b"grow" else 1
    _send(line, Told(b"x" * int(rest) if word == b"large" else str(os.getpid()).encode(), size))
"""


class World:
    """A pool over the child, in a loop of its own."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "child.py"
        self.file.write_text(textwrap.dedent(CHILD))
        self.refuses = folder / "refuses"  # while it is there, none can be started

    @contextlib.asynccontextmanager
    async def pool(self, **bounds: Any) -> AsyncIterator[Pool]:
        made = Pool((str(self.file), str(self.refuses)), Bounds(**bounds), "a test")
        try:
            yield made
        finally:
            made.close()
            await asyncio.sleep(0.01)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run(asyncio.wait_for(work, 60))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def refused(asked: Coroutine[Any, Any, bytes]) -> tuple[int, str]:
    with pytest.raises(RequestError) as caught:
        await asked
    return caught.value.status, caught.value.error_type


def is_running(pid: bytes) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    return True


async def has_ended(pid: bytes) -> bool:
    """Whether a process ends soon; one that was a child of ours is gone only when it has been waited for."""
    for _ in range(500):
        if not is_running(pid):
            return True
        await asyncio.sleep(0.01)
    return False


def test_one_process_answers_one_after_the_other(world: World) -> None:
    async def work() -> None:
        async with world.pool(floor=1, ceil=1) as pool:
            await pool.ready()
            answers = await asyncio.gather(*(pool.ask(b"pid", again=False) for _ in range(10)))
            assert len(set(answers)) == 1
            assert pool.processes == 1
            assert await pool.ask(b"large 3000000", again=False) == b"x" * 3_000_000
            assert await pool.ask(b"pid " + b"y" * 3_000_000, again=False) == answers[0]
        assert await has_ended(answers[0])

    world.run(work())


def test_more_are_started_while_others_wait_and_go_when_they_are_not_needed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        async with world.pool(floor=1, ceil=3) as pool:
            assert pool.processes == 0
            await asyncio.gather(*(pool.ask(b"sleep 0.4", again=False) for _ in range(3)))
            assert pool.processes > 1
            monkeypatch.setattr(pools, "IDLE_SECONDS", 0.0)
            for _ in range(8):
                await pool.ask(b"pid", again=False)
                await asyncio.sleep(0.01)
            assert pool.processes == 1

    world.run(work())


def test_those_that_are_idle_go_also_when_nobody_asks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "IDLE_SECONDS", 0.2)

    async def work() -> None:
        async with world.pool(floor=0, ceil=3) as pool:
            found = await asyncio.gather(*(pool.ask(b"sleep 0.4", again=False) for _ in range(3)))
            for process in set(found):
                assert await has_ended(process)
            assert pool.processes == 0

    world.run(work())


def test_a_full_line_and_a_long_wait_are_refused(world: World) -> None:
    async def work() -> None:
        async with world.pool(floor=1, ceil=1, queue=1, wait_seconds=0.2) as pool:
            await pool.ready()
            busy = asyncio.create_task(pool.ask(b"sleep 1", again=False))
            await asyncio.sleep(0.05)
            waits = asyncio.create_task(refused(pool.ask(b"pid", again=False)))
            await asyncio.sleep(0.05)
            assert await refused(pool.ask(b"pid", again=False)) == (503, "QueueFull")
            assert await waits == (503, "NoProcessFree")
            await busy
            assert int(await pool.ask(b"pid", again=False)) > 0
            assert pool.waiting == 0

    world.run(work())


def test_who_takes_too_long_is_killed_and_replaced(world: World) -> None:
    async def work() -> None:
        async with world.pool(floor=1, ceil=1, seconds=0.3) as pool:
            first = await pool.ask(b"pid", again=False)
            began = time.monotonic()
            assert await refused(pool.ask(b"sleep 30", again=True)) == (504, "TookTooLong")
            assert time.monotonic() - began < 10
            assert await has_ended(first)
            assert await pool.ask(b"pid", again=False) != first

    world.run(work())


def test_who_dies_is_replaced_and_what_may_be_is_asked_again(world: World, tmp_path: Path) -> None:
    async def work() -> None:
        async with world.pool(floor=1, ceil=1) as pool:
            first = await pool.ask(b"pid", again=False)
            assert await refused(pool.ask(b"die", again=False)) == (500, "EndpointCrashed")
            second = await pool.ask(b"pid", again=False)
            assert second != first
            assert await refused(pool.ask(b"die", again=True)) == (500, "EndpointCrashed")
            once = str(tmp_path / "died").encode()
            assert int(await pool.ask(b"once " + once, again=True)) > 0
            assert pool.processes == 1

    world.run(work())


def test_others_are_answered_while_one_dies(world: World) -> None:
    async def work() -> None:
        async with world.pool(floor=2, ceil=2, queue=100) as pool:
            asked = [pool.ask(b"pid", again=False) for _ in range(20)]
            asked[7:7] = [refused(pool.ask(b"die", again=False))]  # type: ignore[list-item]
            answers = await asyncio.gather(*asked)
            assert answers[7] == (500, "EndpointCrashed")  # type: ignore[comparison-overlap]
            assert len(answers) == 21

    world.run(work())


def test_who_has_grown_too_large_answers_and_is_replaced(world: World) -> None:
    async def work() -> None:
        async with world.pool(floor=1, ceil=1) as pool:
            grown = await pool.ask(b"grow", again=False)
            assert await pool.ask(b"pid", again=False) != grown
            assert await has_ended(grown)

    world.run(work())


def test_what_cannot_be_started_is_told_to_all_who_wait_and_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "AGAIN_SECONDS", 0.1)

    async def work() -> None:
        world.refuses.touch()
        async with world.pool(floor=1, ceil=1) as pool:
            told = await asyncio.gather(*(refused(pool.ask(b"pid", again=False)) for _ in range(3)))
            assert told == [(503, "NotStarted")] * 3
            with pytest.raises(RequestError, match="the endpoint cannot be started: it will not"):
                await pool.ready()
            world.refuses.unlink()
            assert int(await pool.ask(b"pid", again=False)) > 0

    world.run(work())


def test_who_gives_up_waiting_takes_no_process_with_him(world: World) -> None:
    async def work() -> None:
        async with world.pool(floor=1, ceil=1) as pool:
            await pool.ready()
            busy = asyncio.create_task(pool.ask(b"sleep 0.3", again=False))
            await asyncio.sleep(0.05)
            waits = asyncio.create_task(pool.ask(b"pid", again=False))
            await asyncio.sleep(0.05)
            waits.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waits
            await busy
            assert int(await pool.ask(b"pid", again=False)) > 0

    world.run(work())


def test_nobody_needs_to_wait_where_there_is_no_queue(world: World) -> None:
    async def work() -> None:
        async with world.pool(floor=0, ceil=2, queue=0) as pool:
            await pool.ready()
            found = await asyncio.gather(
                *(pool.ask(b"sleep 0.3", again=False) for _ in range(3)), return_exceptions=True
            )
            refused = [one.error_type for one in found if isinstance(one, RequestError)]
            assert refused == ["QueueFull"]

    world.run(work())


def test_what_it_has_started_ends_with_it(world: World, tmp_path: Path) -> None:
    async def work() -> None:
        async with world.pool(floor=1, ceil=1, seconds=1) as pool:
            file = tmp_path / "pid"
            assert await refused(pool.ask(b"start " + bytes(file), again=False)) == (504, "TookTooLong")
            assert await has_ended(file.read_bytes())

    world.run(work())


def test_what_it_has_started_ends_also_when_the_worker_is_killed(world: World, tmp_path: Path) -> None:
    told = tmp_path / "pid"
    worker = f"""
import asyncio
from tulle.serving.bounds import Bounds
from tulle.serving.pool import Pool

async def work():
    pool = Pool(({str(world.file)!r}, {str(world.refuses)!r}), Bounds(floor=1, ceil=1), "a test")
    await pool.ask(b"start {told}", again=False)

asyncio.run(work())
"""
    process = subprocess.Popen([sys.executable, "-c", worker])
    try:
        while not (told.exists() and told.read_text()):
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    assert asyncio.run(has_ended(told.read_text().encode()))


def test_who_is_at_a_request_when_all_end_ends_after_it(world: World) -> None:
    async def work() -> None:
        async with world.pool(floor=1, ceil=1) as pool:
            await pool.ready()
            busy = asyncio.create_task(pool.ask(b"sleep 0.3", again=False))
            await asyncio.sleep(0.05)
            pool.close()
            assert await has_ended(await busy)
            assert pool.processes == 0
            assert int(await pool.ask(b"pid", again=False)) > 0

    world.run(work())


def test_an_answer_that_is_too_large_is_not_taken_into_memory(world: World) -> None:
    async def work() -> None:
        async with world.pool(floor=1, ceil=1) as pool:
            huge = b"large %d" % (MOST_REPLY + (1 << 20))
            assert await refused(pool.ask(huge, again=False)) == (500, "EndpointCrashed")

    world.run(work())


def test_when_the_system_gives_no_process_who_waits_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_arguments: Any, **_more: Any) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    async def work() -> None:
        async with world.pool(floor=1, ceil=1) as pool:
            with monkeypatch.context() as patch:
                patch.setattr(pools.subprocess, "Popen", none)
                with pytest.raises(RequestError, match="no process can be made: Too many open files"):
                    await pool.ask(b"pid", again=False)
            assert int(await pool.ask(b"pid", again=False)) > 0

    world.run(work())


PEAK = "import sys; from tulle.serving.beside import _peak; print(_peak(0))"


def test_memory_of_who_starts_a_process_is_not_the_process_s() -> None:
    large = bytearray(os.urandom(1)) * (600 << 20)
    found = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    assert int(found.stdout) < len(large)


def test_one_that_nobody_will_ask_any_more_does_not_begin(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    ours.close()
    argv = [
        "-m",
        "tulle.serving.child",
        "--package-folder",
        str(tmp_path),
        "--endpoint",
        "x",
        "--memory",
        "1",
    ]
    life, other_end = os.pipe()
    with theirs:
        found = subprocess.run(
            [sys.executable, *argv, "--socket", str(theirs.fileno()), "--life", str(life)],
            pass_fds=[theirs.fileno(), life],
            capture_output=True,
            check=True,
        )
    os.close(life)
    os.close(other_end)
    assert found.stderr == b""
