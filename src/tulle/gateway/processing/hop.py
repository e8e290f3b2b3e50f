"""Connections from Envoy: each request passes the steps of its route, goes on to the inner listener, and back.

All that is not awaited by a step happens in the call of the event loop that brought it: no task is made for a request.
Answers that no step has to see whole pass in pieces, as fast as the caller takes them. Bodies that are held, of
requests and of answers until their reader has taken them, are counted over all connections (`holding`): what is too
much is refused. Whatever goes wrong in here ends the request with 503: nothing gets past a policy. Knows nothing of
what steps do.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, cast

import httptools

from tulle.gateway.processing.exchange import (
    KEY_HEADER,
    Answer,
    Call,
    Header,
    Refusal,
    unavailable,
)
from tulle.gateway.processing.heads import NO_BODY, OF_CONNECTION, answer_head, request_head
from tulle.gateway.processing.holding import Hold, Holding
from tulle.gateway.processing.inner import Inner, Pool
from tulle.gateway.processing.step import Chain, Outcome, Step

MOST_HEAD_BYTES: Final = 256 * 1024  # of a request line with all headers; the gateway lets far less through
_LARGE: Final = 64 << 10  # bytes of a body that is neither copied nor kept as a value without need
LOG_SECONDS: Final = 1.0  # in which one failure of a step is written down, and not each of a thousand
_TOO_MANY: Final = "The gateway holds too many large answers now"
_log = logging.getLogger("tulle.processing")


class Hops:
    """All connections of a process: what they share."""

    def __init__(
        self,
        chain: Callable[[bytes], Chain | None],
        about: Callable[[], Answer],
        pool: Pool,
        *,
        holding: Holding | None = None,
    ) -> None:
        self.chain = chain  # of a key
        self.about = about  # what the gateway's publisher is told
        self.pool = pool
        self.holding = holding or Holding()
        self.open: set[Hop] = set()
        self.is_ending = False
        self._logged_at = 0.0
        self._all_left = asyncio.Event()

    def hop(self) -> Hop:
        """A new connection, for the event loop."""
        return Hop(self)

    def left(self, hop: Hop) -> None:
        """It is closed."""
        self.open.discard(hop)
        if self.is_ending and not self.open:
            self._all_left.set()

    def note(self, exc: Exception, step: Step) -> None:
        """Write down that a step failed, now and then."""
        if time.monotonic() >= self._logged_at + LOG_SECONDS:
            self._logged_at = time.monotonic()
            _log.error("the step %s could not be carried out", type(step).__name__, exc_info=exc)

    async def end(self, seconds: float) -> None:
        """Close idle connections and wait for the others so long."""
        self.is_ending = True
        for hop in list(self.open):
            hop.end()
        if self.open:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_left.wait(), seconds)
        for hop in list(self.open):
            hop.abort()
        self.pool.close()


class Hop(asyncio.Protocol):
    """One connection from Envoy, which has one request at a time."""

    __slots__ = (
        "_all",
        "_answer",
        "_bodies",
        "_call",
        "_chain",
        "_entered",
        "_head_bytes",
        "_headers",
        "_hold",
        "_is_chunked",
        "_is_full",
        "_is_streaming",
        "_out",
        "_parser",
        "_pieces",
        "_size",
        "_stays",
        "_taken",
        "_task",
        "_transport",
        "_url",
    )

    def __init__(self, hops: Hops) -> None:
        self._all = hops
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._is_full = False  # Envoy does not take what is written
        self._hold = Hold(hops.holding)
        self._begin()
        self._call: Call | None = None
        self._clear()

    def _begin(self) -> None:
        self._url = b""
        self._headers: list[Header] = []
        self._pieces: list[bytes] = []
        self._size = 0
        self._head_bytes = 0

    def _clear(self) -> None:
        self._chain: Chain | None = None
        self._entered = 0  # steps that know of the request
        self._answer: Answer | None = None
        self._bodies: list[Step] = []
        self._taken: list[Inner] = []
        self._out: list[bytes] = []
        self._is_streaming = False
        self._is_chunked = False
        self._stays = True
        self._task: asyncio.Task[None] | None = None

    # ── what the event loop tells ────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._all.open.add(self)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._transport = None
        self._all.left(self)
        if self._call is not None:  # nobody waits for its answer
            for inner in self._taken:
                inner.abandon()
            if self._task is not None:
                self._task.cancel()
            self._over()
        self._hold.over(0)
        self._hold.sent()

    def data_received(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as exc:
            _log.error("a request could not be processed", exc_info=exc.__context__)
            self.abort()
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refuse_all(Refusal(400, "InvalidRequest", "The request is not well-formed HTTP"))
        else:
            if self._head_bytes >= 0:
                self._head_bytes += len(data)
                if self._head_bytes > MOST_HEAD_BYTES:
                    self._refuse_all(Refusal(431, "HeadersTooLarge", "The request headers are too large"))

    def pause_writing(self) -> None:
        self._is_full = True
        for inner in self._taken:
            inner.read(False)

    def resume_writing(self) -> None:
        self._is_full = False
        self._hold.sent()
        for inner in self._taken:
            inner.read(True)

    # ── what the parser tells ────────────────────────────────────────────────────────────────────────────

    def on_message_begin(self) -> None:
        if self._call is not None:  # one ahead of its turn: Envoy sends none, so it is not Envoy
            self.abort()
            return
        self._begin()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._head_bytes = -1

    def on_body(self, body: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._size += len(body)
        if not self._hold.take(len(body)):
            self._refuse_all(unavailable("The gateway holds too many large requests now"))
            return
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing() or self._call is not None:
            return
        pieces = self._pieces
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._pieces = []
        parser = self._parser
        stays = parser.should_keep_alive() and parser.get_http_version() == "1.1"
        self._asked(parser.get_method().decode("latin-1"), body, stays)

    # ── a request on its way in ──────────────────────────────────────────────────────────────────────────

    def _asked(self, method: str, body: bytes, stays: bool) -> None:
        key = None
        for name, value in self._headers:
            if name == KEY_HEADER:
                key = value
        call = self._call = Call(method, self._url, self._headers, body, {})
        self._stays = stays
        self._size = 0  # of its answer, from now on
        if key is None:  # no route leads here without one: whoever publishes asks what was taken
            self._send(self._all.about())
            return
        chain = self._all.chain(key)
        if chain is None:
            self._send(unavailable().answer(call))
            return
        self._chain = chain
        call.tiers, call.windows = chain.tiers, chain.windows
        self._inward(call, chain, 0)

    def _inward(self, call: Call, chain: Chain, at: int) -> None:
        """The steps from number `at` on, then the inner listener."""
        for step in chain.steps[at:]:
            self._entered = step.number + 1
            try:
                found = step.request(call)
            except Exception as exc:  # noqa: BLE001  whatever it was, the request does not get past the step
                self._respond(self._error(exc, step), step.number)
                return
            if found is not None:
                if type(found) is Answer:
                    self._respond(found, step.number)
                else:
                    self._later(self._waited(cast("Awaitable[Outcome]", found), call, chain, step))
                return
        self._forward(call, chain)

    async def _waited(self, waited: Awaitable[Outcome], call: Call, chain: Chain, step: Step) -> None:
        try:
            found = await waited
        except Exception as exc:  # noqa: BLE001  as above
            self._task = None
            self._respond(self._error(exc, step), step.number)
            return
        self._task = None
        if found is None:
            self._inward(call, chain, step.number + 1)
        else:
            self._respond(found, step.number)

    def _forward(self, call: Call, chain: Chain) -> None:
        head = request_head(call, is_whole=bool(chain.answering))
        body = call.body
        if len(body) > _LARGE:
            call.forget()
        request = (head, body) if len(body) > _LARGE else (head + body,)
        self._all.pool.ask(self, request, is_bodyless=call.method == "HEAD", taken=self._taken)

    # ── an answer on its way back ────────────────────────────────────────────────────────────────────────

    def answer_began(self, status: int, headers: list[Header]) -> None:
        call, chain = self._call, self._chain
        if call is None or chain is None:
            return
        length = None
        passed = []
        for one in headers:
            if one[0] not in OF_CONNECTION:
                passed.append(one)
            elif one[0] == b"content-length":
                length = one[1]
        answer = Answer(status, passed)
        answer.length = int(length) if length is not None and length.isdigit() else None
        if chain.answering:
            found, self._bodies = self._heads(call, chain, answer, len(chain.steps))
            if found is not answer:
                self._drop_inner()
                self._run_bodies(found)
                return
        self._answer = answer
        is_bodyless = call.method == "HEAD" or status in NO_BODY
        if self._bodies and not is_bodyless:
            return  # it is collected
        if self._bodies:
            self._bodies = []
            length = None  # that of a body which would have been changed
        self._is_streaming = True
        self._is_chunked = length is None and not is_bodyless
        if length is not None:
            answer.headers.append((b"content-length", length))
        elif self._is_chunked:
            answer.headers.append((b"transfer-encoding", b"chunked"))
        self._out.append(self._head(answer))

    def answer_piece(self, piece: bytes) -> None:
        if self._is_streaming:
            self._out.append(b"%x\r\n%b\r\n" % (len(piece), piece) if self._is_chunked else piece)
            return
        if self._call is None or self._chain is None or self._answer is None:
            return
        self._size += len(piece)
        self._pieces.append(piece)
        if self._size > self._chain.most_answer_bytes:
            refusal = Refusal(
                502,
                "AnswerTooLarge",
                "The answer is larger than the policies of this API can look through",
                f"They look through {self._chain.most_answer_bytes} bytes; ask for less at once",
            )
        elif not self._hold.take(len(piece)):
            refusal = unavailable(_TOO_MANY)
        else:
            return
        self._drop_inner()
        self._respond(refusal.answer(self._call), self._bodies[0].number + 1)

    def answer_whole(self) -> None:
        self._taken.clear()
        if self._is_streaming:
            if self._is_chunked:
                self._out.append(b"0\r\n\r\n")
            self.answer_flush()
            self._over()
        elif self._answer is not None:
            answer, pieces = self._answer, self._pieces
            answer.body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            self._pieces = []
            self._run_bodies(answer)

    def answer_flush(self) -> None:
        if self._out and self._transport is not None:
            self._transport.write(b"".join(self._out))
            self._out = []

    def answer_lost(self, why: str) -> None:
        self._taken.clear()
        if self._call is None:
            return
        if self._is_streaming:  # its begin is sent: what is cut off must look so
            self.abort()
            return
        _log.warning("request %s: no answer from the inner listener, %s", self._call.request_id, why)
        self._answer, self._pieces = None, []
        error = unavailable("The service does not answer now").answer(self._call)
        self._respond(error, self._entered)

    def _drop_inner(self) -> None:
        for inner in self._taken:
            inner.abandon()
        self._taken.clear()
        self._answer = None
        self._pieces = []

    def _respond(self, answer: Answer, below: int) -> None:
        """Send an answer made here, past the steps with a number below that."""
        call, chain = self._call, self._chain
        if call is None or chain is None:
            return
        answer, self._bodies = self._heads(call, chain, answer, below)
        self._run_bodies(answer)

    def _heads(self, call: Call, chain: Chain, answer: Answer, below: int) -> tuple[Answer, list[Step]]:
        """What steps make of status and headers, and who wants to see the body, the last step first."""
        bodies: list[Step] = []
        for step in chain.answering:
            if step.number < below:
                try:
                    if step.head(call, answer):
                        bodies.append(step)
                except Exception as exc:  # noqa: BLE001  nothing is answered past a step that failed
                    answer, bodies = self._error(exc, step), []
        return answer, bodies

    def _run_bodies(self, answer: Answer) -> None:
        call = self._call
        if call is None:
            return
        while self._bodies:
            step = self._bodies.pop(0)
            try:
                waited = step.body(call, answer)
            except Exception as exc:  # noqa: BLE001  as above
                self._respond(self._error(exc, step), step.number)
                return
            if waited is not None:
                self._later(self._waited_for_body(waited, step, answer))
                return
            if not self._counts(answer):
                return
        self._send(answer)

    def _counts(self, answer: Answer) -> bool:
        """Whether an answer that a step has made larger may be held as it is now; else it has been refused."""
        more = len(answer.body) - self._hold.bytes
        if more <= _LARGE or self._hold.take(more):
            return True
        self._bodies = []
        assert self._call is not None
        self._send(unavailable(_TOO_MANY).answer(self._call))
        return False

    async def _waited_for_body(self, waited: Awaitable[None], step: Step, answer: Answer) -> None:
        try:
            await waited
        except Exception as exc:  # noqa: BLE001  as above
            self._task = None
            self._respond(self._error(exc, step), step.number)
            return
        self._task = None
        if self._counts(answer):
            self._run_bodies(answer)

    def _later(self, waited: Coroutine[Any, Any, None]) -> None:
        self._task = asyncio.get_running_loop().create_task(waited)

    def _error(self, exc: Exception, step: Step) -> Answer:
        assert self._call is not None
        if not isinstance(exc, Refusal):
            self._all.note(exc, step)
            exc = unavailable()
        return exc.answer(self._call)

    # ── what is written ──────────────────────────────────────────────────────────────────────────────────

    def _head(self, answer: Answer) -> bytes:
        return answer_head(answer.status, answer.headers, is_staying=self._is_staying())

    def _is_staying(self) -> bool:
        return self._stays and not self._all.is_ending

    def _send(self, answer: Answer) -> None:
        """A whole answer, and with it the end of the request."""
        call = self._call
        if self._transport is not None and call is not None:
            # What was not collected here, such as a kept answer, is held from now on: until its reader has taken it.
            more = len(answer.body) - self._hold.bytes
            if more > _LARGE and not self._hold.take(more):
                answer = unavailable(_TOO_MANY).answer(call)
            if answer.status not in NO_BODY:
                answer.headers.append((b"content-length", b"%d" % len(answer.body)))
            head, body = self._head(answer), b"" if call.method == "HEAD" else answer.body
            if len(body) > _LARGE:
                self._transport.write(head)
                self._transport.write(body)
            else:
                self._transport.write(head + body)
        self._over()

    def _over(self) -> None:
        """A request is done with."""
        call, chain = self._call, self._chain
        if call is not None and chain is not None:
            for step in chain.told:
                if step.number < self._entered:
                    try:
                        step.ended(call)
                    except Exception as exc:  # noqa: BLE001  the others are told all the same
                        self._all.note(exc, step)
        closes = not self._is_staying()
        self._call = None
        transport = self._transport
        self._hold.over(transport.get_write_buffer_size() if self._is_full and transport is not None else 0)
        self._clear()
        self._begin()
        if closes and self._transport is not None:
            self._transport.close()

    def _refuse_all(self, refusal: Refusal) -> None:
        """Of what is no request, or too much of one, nothing more is read."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._call is None and not self._is_streaming:
            self._stays = False
            self._call = Call("", b"", self._headers, b"", {})
            self._send(refusal.answer(self._call))
        else:
            self.abort()

    # ── its end ──────────────────────────────────────────────────────────────────────────────────────────

    def end(self) -> None:
        """Close it now, or after the request that is on it."""
        if self._call is None and self._transport is not None and not (self._headers or self._url):
            self._transport.close()

    def abort(self) -> None:
        """Close it whatever is on it."""
        if self._transport is not None:
            self._transport.abort()
