"""A service loaded from an unpacked package: its endpoints, ready to answer, and its saved test queries.

Used by the worker process, and in place to test a package before it is deployed. Loading a package whose model
is native runs code from the model's file. Whatever asks an endpoint raises READ_ERRORS (`index`) where what it reads is
damaged: that is no matter of one endpoint, as a package that is unpacked again mends it. Knows nothing of sockets.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from tulle.errors import Broken
from tulle.serving.answers import Question, judged
from tulle.serving.compose import Compose
from tulle.serving.declared import TestQuery
from tulle.serving.endpoint import Endpoint, Headed, Trace, error_body
from tulle.serving.index import READ_ERRORS
from tulle.serving.kinds import Entry, kind_of
from tulle.serving.manifest import MANIFEST, OPENAPI, WHOLE_AGAIN, Manifest, read_manifest
from tulle.serving.outside import Door
from tulle.serving.pool import BUSY, Pool
from tulle.serving.request import NO_PREDICTION, RequestError

AGAIN_SECONDS = 0.1  # after which a test query is asked again that met who had enough to do
HEALTH_SECONDS = 0.5  # the gateway waits for a second


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a test query gave; `answer` is the whole body, also of an error."""

    endpoint: str
    name: str
    passed: bool
    message: str  # empty when it passed
    body: Mapping[str, Any]
    status: int
    answer: Any
    milliseconds: float

    @property
    def met_others(self) -> bool:
        """Whether it was refused for nothing but that others were asking."""
        told = self.answer.get("errorType") if isinstance(self.answer, Mapping) else ""
        return not self.passed and self.status == 503 and told in BUSY


@dataclass(frozen=True, slots=True)
class Loaded:
    """A service whose endpoints answer."""

    manifest: Manifest
    trace: Trace
    endpoints: dict[str, Endpoint]
    entries: Mapping[str, Entry]
    openapi: bytes = field(repr=False)
    door: Door = field(default_factory=lambda: Door(None), repr=False)  # by which compositions call others
    _probes: list[asyncio.Task[Mapping[str, str]]] = field(default_factory=list, repr=False)  # the last two
    # Who is told the names of endpoints whose answers are of other commits than before.
    followers: list[Callable[[Collection[str]], object]] = field(default_factory=list, repr=False)

    async def ask(self, endpoint: str, body: Mapping[str, Any], request_id: str = "") -> tuple[int, bytes]:
        """Status and answer of the endpoint's main action on `body`."""
        chosen = self.endpoints[endpoint]
        action = chosen.actions[chosen.main]
        content = msgspec.json.encode(body)
        try:
            if isinstance(action, Headed):
                answer = await action.call(content, request_id, ())
                return answer.status, answer.body
            given = action(content, request_id)
            if isinstance(given, bytes):
                return 200, given
            answer = await given
            return answer.status, answer.body
        except RequestError as error:
            return error.status, error_body(error, request_id)

    async def ready(self) -> Mapping[str, str]:
        """Start what endpoints need beside this process; what went wrong, by endpoint, empty when all is well."""
        failed = {}
        for name, endpoint in self.endpoints.items():
            try:
                await endpoint.ready()
            except RequestError as error:
                failed[name] = error.message
        return failed

    async def probe(self) -> Mapping[str, str]:
        """Ask every endpoint one real question, where there is one that does nothing but answer; what went wrong.

        Whoever asks meanwhile is told the same, and one whose processes all are at requests is left alone: health is
        asked for more often than some questions take, and callers must not stand in line behind it.
        """
        return await asyncio.shield(self._asked())

    async def health(self) -> Mapping[str, str]:
        """What `probe` tells; where that takes long, what it told the last time."""
        probe = self._asked()
        await asyncio.wait([probe], timeout=HEALTH_SECONDS)
        return next(
            (one.result() for one in reversed(self._probes) if one.done() and not one.cancelled()), {}
        )

    def _asked(self) -> asyncio.Task[Mapping[str, str]]:
        if not self._probes or self._probes[-1].done():
            self._probes[:] = [*self._probes[-1:], asyncio.get_running_loop().create_task(self._probe())]
        return self._probes[-1]

    async def _probe(self) -> Mapping[str, str]:
        failed = {}
        for name, entry in self.entries.items():
            pool = getattr(self.endpoints[name], "pool", None)
            if entry.probe is None or (isinstance(pool, Pool) and pool.is_busy):
                continue
            try:
                status, answer = await self.ask(name, entry.probe)
            except READ_ERRORS:
                raise
            except Exception as exc:  # noqa: BLE001  whatever it is, the endpoint is not well
                failed[name] = f"{type(exc).__name__}: {exc}"
                continue
            if status == 200:
                continue
            told = msgspec.json.decode(answer)
            if told["errorType"] in BUSY:  # what it calls in its steps
                continue
            # A key may be gone from newer data; a model that cannot evaluate values it was given once is not well.
            if status >= 500 or told["errorType"] == NO_PREDICTION:
                failed[name] = told["message"]
        return failed

    async def test(self, *, most: int | None = None, seconds: float = math.inf) -> tuple[Verdict, ...]:
        """Run the saved test queries: all, or `most` of them, the first ones of each endpoint, for so long.

        What is not answered by then is given up and has no verdict: that the others took long is no fault of its own.
        Nor is it that callers were there before: where there is an end, what was refused for that is asked again. So
        there may be fewer verdicts than queries; no endpoint's are left out for another's. Callers are answered
        between them.
        """
        asked = [
            (turn, name, query)
            for name, entry in self.entries.items()
            for turn, query in enumerate(entry.test_queries)
        ]
        waiting = deque(sorted(range(len(asked)), key=lambda place: asked[place][0])[:most])
        end, found = time.monotonic() + seconds, {}
        while waiting and (left := end - time.monotonic()) > 0:
            place = waiting.popleft()
            _, name, query = asked[place]
            try:
                async with asyncio.timeout(None if math.isinf(left) else left):
                    verdict = await self._verdict(name, query)
            except TimeoutError:
                break
            if verdict.met_others and not math.isinf(left):
                waiting.append(place)
                await asyncio.sleep(AGAIN_SECONDS)
            else:
                found[place] = verdict
        return tuple(found[place] for place in sorted(found))

    async def answers(self, questions: Sequence[Question], *, again: int = 1) -> tuple[Verdict, ...]:
        """What is answered to questions that expect nothing; each is asked `again` times, the quickest time counts."""
        await self.ready()
        found = []
        for one in questions:
            if one.endpoint not in self.endpoints:
                error = RequestError(404, "UnknownEndpoint", f"there is no endpoint '{one.endpoint}'")
                answer = msgspec.json.decode(error_body(error, ""))
                found.append(
                    Verdict(one.endpoint, one.name, False, error.message, one.body, 404, answer, 0.0)
                )
                continue
            times = [await self._verdict(one.endpoint, TestQuery(one.name, one.body)) for _ in range(again)]
            found.append(min(times, key=lambda verdict: verdict.milliseconds))
        return tuple(found)

    def replace(self, endpoints: Mapping[str, Endpoint]) -> None:
        """Have other endpoints answer under the names of these; compositions call them."""
        self.endpoints.update(endpoints)
        for endpoint in endpoints.values():
            if isinstance(endpoint, Compose):
                endpoint.bind(self.endpoints, anew=True)

    def tell(self, names: Collection[str]) -> None:
        """Tell followers of endpoints whose answers are of other commits than before."""
        for follower in self.followers:
            follower(names)

    def close(self) -> None:
        """End what endpoints started beside this process."""
        for endpoint in self.endpoints.values():
            endpoint.close()

    async def _verdict(self, endpoint: str, query: TestQuery) -> Verdict:
        start = time.perf_counter()
        try:
            status, raw = await self.ask(endpoint, query.body, f"test-{endpoint}")
        except READ_ERRORS:
            raise
        except Exception as exc:  # noqa: BLE001  the model's own failure is a verdict, not ours
            status, raw = 500, error_body(RequestError(500, "EvaluationFailed", f"{exc}"), "")
        spent = (time.perf_counter() - start) * 1000
        try:
            answer = msgspec.json.decode(raw)
        except msgspec.DecodeError:  # a function may answer with what it likes
            answer = {"response": raw.decode(errors="replace")}
        message = judged(query.expect, query.tolerance, status, answer)
        return Verdict(
            endpoint, query.name, not message, message, query.body, status, answer, round(spent, 3)
        )


def check_files(folder: Path) -> None:
    """Broken, naming the file, when one of the package is missing or of another size; unpacking looks at the bytes."""
    for name, file in read_manifest(folder / MANIFEST).files.items():
        try:
            size = (folder / name).stat().st_size
        except OSError as exc:
            raise Broken(f"the package lacks {name}: {exc.strerror}", hint="build it again") from exc
        if size != file.bytes:
            raise Broken(
                f"the package's file {name} is damaged: it has {size:,} bytes, expected {file.bytes:,}",
                hint=WHOLE_AGAIN,
            )


def load(folder: Path, generation: str | None = None, outside: Path | None = None) -> Loaded:
    """Load the package unpacked in `folder`; Broken when it cannot be. `outside`: the file by which it calls others."""
    manifest = read_manifest(folder / MANIFEST)
    trace = Trace(manifest.service, manifest.version, generation or manifest.version, manifest.digest)
    entries, endpoints = {}, {}
    for raw in manifest.endpoints:
        kind = kind_of(raw)
        entry = kind.read(raw)
        entries[entry.name] = entry
        endpoints[entry.name] = kind.load(entry, folder, trace)
    door = Door(outside)
    for endpoint in endpoints.values():
        if isinstance(endpoint, Compose):
            endpoint.bind(endpoints, door)
    try:
        openapi = (folder / OPENAPI).read_bytes()
    except OSError as exc:
        raise Broken(f"the package lacks {OPENAPI}: {exc.strerror}", hint="build it again") from exc
    return Loaded(manifest, trace, endpoints, entries, openapi, door)
