"""A policy of somebody's own: what its class says of a request, asked in a process beside this one.

Within a time and a memory; what takes longer, fails or dies ends the request with 503. What it changes is checked as
anybody's: no header breaks out of its line, and none of the gateway's own can be set. Knows nothing of the class.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Mapping
from typing import Any, Final

import msgspec

from tulle.errors import Invalid, did_you_mean
from tulle.gateway.processing.exchange import Answer, Call, Header, Refusal
from tulle.gateway.processing.plugin_child import GROUP, Asked, Said, installed
from tulle.gateway.processing.step import Outcome, Step
from tulle.sdk.policy import Call as ToldCall
from tulle.sdk.policy import Reply
from tulle.serving.bounds import Bounds
from tulle.serving.pool import Pool
from tulle.serving.request import RequestError

USUAL_MEGABYTES: Final = 256
START_SECONDS: Final = 5.0  # that a request waits for a process which is being started
_NAME: Final = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,200}")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]{0,8000}")
_KEPT: Final = frozenset(
    {"connection", "content-length", "host", "transfer-encoding", "te", "trailer", "upgrade"}
)


class Plugin(Step):
    """One policy; its processes are started with the first request."""

    sees_answers = True

    def __init__(self, name: str, settings: Mapping[str, Any], bounds: Bounds) -> None:
        self._settings = dict(settings)
        argv = ("-m", "tulle.gateway.processing.plugin_child", "--plugin", name)
        self._pool = Pool(argv, bounds, f"policy '{name}'")

    def request(self, call: Call) -> Awaitable[Outcome]:
        return self._request(call)

    async def _request(self, call: Call) -> Answer | None:
        told = ToldCall(
            call.method,
            call.path.decode("latin-1"),
            call.query,
            {
                name.decode("latin-1"): value.decode("latin-1")
                for name, value in call.headers
                if _is_told(name)
            },
            call.body,
            call.client,
            call.tier,
            call.address,
            call.claims,
            call.request_id,
        )
        said = await self._ask(Asked(self._settings, told))
        if said.reply is not None:
            headers = [_header(name, value) for name, value in said.reply.headers.items()]
            if not 200 <= said.reply.status <= 599:
                raise ValueError(f"{said.reply.status} is no status of an answer")
            return Answer(said.reply.status, headers, said.reply.body)
        if said.sees_answers:
            call.notes[self.number] = told
        if said.change is not None:
            _change(call, said.change.headers)
            if said.change.body is not None:
                call.set_body(said.change.body)
        return None

    def head(self, call: Call, answer: Answer) -> bool:
        return self.number in call.notes and not answer.is_ours

    def body(self, call: Call, answer: Answer) -> Awaitable[None]:
        return self._body(call, answer)

    async def _body(self, call: Call, answer: Answer) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in answer.headers}
        reply = Reply(answer.status, headers, answer.body)
        said = await self._ask(Asked(self._settings, call.notes[self.number], reply))
        if said.change is not None:
            _change(answer, said.change.headers)
            if said.change.body is not None:
                answer.set_body(said.change.body)

    async def _ask(self, asked: Asked) -> Said:
        try:
            reply = await self._pool.ask(msgspec.msgpack.encode(asked), again=False)
        except RequestError as exc:  # too late, dead or not to be started: none of it is told to callers
            raise RuntimeError(exc.message) from exc
        said = msgspec.msgpack.decode(reply, type=Said)
        if said.failure:
            raise RuntimeError(f"it raised {said.failure}")
        if said.refusal is not None:
            raise Refusal(*said.refusal)
        return said

    def close(self) -> None:
        self._pool.close()


def plugin(settings: Mapping[str, Any]) -> Plugin:
    """The step of a policy's settings. Invalid when no installed package brings it."""
    name = str(settings.get("plugin", ""))
    if name not in (known := installed()):
        hint = did_you_mean(name, known) or f"install a package with an entry point in '{GROUP}'"
        raise Invalid(f"no installed package brings the policy '{name}'", hint=hint)
    return Plugin(
        name,
        settings.get("settings", {}),
        Bounds(
            ceil=int(settings.get("processes", 2)),
            queue=256,
            wait_seconds=float(settings.get("timeout", 1.0)) + START_SECONDS,
            seconds=float(settings.get("timeout", 1.0)),
            memory=int(settings.get("memory_mb", USUAL_MEGABYTES)) << 20,
        ),
    )


def _change(what: Call | Answer, headers: Mapping[str, str | None]) -> None:
    for name, value in headers.items():
        if value is None:
            encoded, _ = _header(name, "")
            what.drop_headers({encoded})
        else:
            what.set_header(*_header(name, value))


def _header(name: str, value: str) -> Header:
    """As it is sent; ValueError where it would be more than a header, or one that is not a policy's to say."""
    name = name.lower()
    if _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
        raise ValueError(f"'{name[:60]}' is no header that can be sent")
    if name in _KEPT or name.startswith("x-tulle-"):
        raise ValueError(f"the header '{name}' is not for a policy to say")
    return name.encode(), value.encode("latin-1")


def _is_told(name: bytes) -> bool:
    return not name.startswith(b"x-tulle-")
