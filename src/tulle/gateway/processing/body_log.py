"""Notes parts of the bodies of requests and answers, without what is secret in them, in a file of its own.

Only JSON is told, and only what is named; members that may hold secrets are hidden whatever the policy says, and more
by its own paths. What cannot be noted does not hinder the request. Knows nothing of who reads the file.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any, Final

import msgspec

from tulle.errors import Invalid
from tulle.gateway.processing.exchange import Answer, Call
from tulle.gateway.processing.json_paths import Path, json_path
from tulle.gateway.processing.json_text import is_json, is_packed, name_twice, other_charset, type_of
from tulle.gateway.processing.secret_names import HIDDEN, without_secrets
from tulle.gateway.processing.step import Step

LARGEST_BODY: Final = 1 << 20  # bytes; of larger ones only that is told
LARGEST_FILE: Final = 64 << 20  # bytes; then it is put aside and a new one begun
KEPT: Final = 4  # that were put aside
LONGEST_TEXT: Final = 300  # characters of one text
AGAIN_SECONDS: Final = 60.0  # in which it is told once that the file cannot be written
Note = Callable[[Mapping[str, Any]], None]
_log = logging.getLogger("tulle.processing")


class BodyLog(Step):
    """One policy."""

    is_told_of_ends = True

    def __init__(self, settings: Mapping[str, Any], service: str, note: Note) -> None:
        self._request = _paths(settings.get("request", ()))
        self._response = _paths(settings.get("response", ()))
        self._hide = _paths(settings.get("hide", ()))
        self._most = int(settings.get("max_bytes", 2000))
        self._part = float(settings.get("percent", 100)) / 100
        self._service = service
        self._note = note
        self.sees_answers = bool(self._response)

    def request(self, call: Call) -> None:
        if self._part < 1 and random.random() >= self._part:  # noqa: S311  no secret hangs on it
            return
        line: dict[str, Any] = {
            "time": time.time(),
            "request_id": call.request_id,
            "service": self._service,
            "client": call.client,
            "method": call.method,
            "path": call.path.decode("latin-1")[:1000],
        }
        if self._request:
            line["request"] = self._told(call.body, call, self._request)
        call.notes[self.number] = line

    def head(self, call: Call, answer: Answer) -> bool:
        line = call.notes.get(self.number)
        if line is None:
            return False
        line["status"] = answer.status
        if answer.is_ours:
            return True
        # What is large, or of a length that nobody says, passes in pieces: it is not held to be told.
        if answer.length is None or answer.length > LARGEST_BODY:
            line["response"] = {"bytes": answer.length}
            return False
        return True

    def body(self, call: Call, answer: Answer) -> None:
        line = call.notes[self.number]
        line["response"] = self._told(answer.body, answer, self._response)

    def ended(self, call: Call) -> None:
        line = call.notes.get(self.number)
        if line is not None:
            self._note(line)

    def _told(self, body: bytes, of: Call | Answer, paths: Sequence[Path]) -> Any:
        """What is noted of a body."""
        said = of.header(b"content-type")
        kind = type_of(said)
        if (
            not body
            or len(body) > LARGEST_BODY
            or (kind and not is_json(kind))
            or is_packed(of.header(b"content-encoding"))
            or other_charset(said) is not None
        ):
            return {"bytes": len(body)}
        try:
            read = msgspec.json.decode(body)
            twice = name_twice(body, read)
            value = without_secrets(read)
            for path in self._hide:
                value, _ = path.change(value, lambda _: HIDDEN)
            found: dict[str, Any] = {path.text: [_cut(one) for one in path.found(value)] for path in paths}
            if twice is not None:
                found["twice"] = twice[:LONGEST_TEXT]
        except (msgspec.MsgspecError, RecursionError, ValueError):
            return {"bytes": len(body)}
        if len(encoded := msgspec.json.encode(found)) > self._most:
            return {"bytes": len(body), "begin": encoded[: self._most].decode("utf-8", "ignore")}
        return found


class BodyLogFile:
    """Where lines go: for their owner alone, put aside when it is large."""

    def __init__(self, file: FilePath) -> None:
        self._file = file
        self._told_at = -AGAIN_SECONDS

    def note(self, line: Mapping[str, Any]) -> None:
        """Write a line; where that cannot be, it is told now and then."""
        try:
            self._write(msgspec.json.encode(line) + b"\n")
        except OSError as exc:
            if time.monotonic() - self._told_at >= AGAIN_SECONDS:
                self._told_at = time.monotonic()
                _log.error("bodies are not noted: %s cannot be written: %s", self._file, exc.strerror)

    def _write(self, line: bytes) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            is_large = os.fstat(handle).st_size + len(line) > LARGEST_FILE
            if not is_large:
                os.write(handle, line)
                return
        finally:
            os.close(handle)
        for number in range(KEPT - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                self._aside(number).replace(self._aside(number + 1))
        self._file.replace(self._aside(1))
        self._write(line)

    def _aside(self, number: int) -> FilePath:
        return self._file.with_name(f"{self._file.stem}.{number}{self._file.suffix}")


def body_log(settings: Mapping[str, Any], service: str, note: Note) -> BodyLog:
    """The step of a policy's settings. Invalid when they cannot be meant."""
    if not settings.get("request") and not settings.get("response"):
        raise Invalid(
            "body-log: neither 'request' nor 'response' is given", hint="for example request: ['$.features']"
        )
    return BodyLog(settings, service, note)


def _paths(given: Sequence[str]) -> tuple[Path, ...]:
    return tuple(json_path(one) for one in given)


def _cut(value: Any) -> Any:
    """A value whose texts are not longer than is told."""
    if isinstance(value, str):
        return value if len(value) <= LONGEST_TEXT else f"{value[:LONGEST_TEXT]}..."
    if isinstance(value, list):
        return [_cut(one) for one in value]
    if isinstance(value, dict):
        return {name[:LONGEST_TEXT]: _cut(one) for name, one in value.items()}
    return value
