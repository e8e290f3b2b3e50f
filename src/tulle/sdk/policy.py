"""A policy of one's own in Python: what the gateway's processor runs for every request, and every answer if wanted.

    from tulle.sdk.policy import Call, Policy, Refuse

    class OfficeHours(Policy):
        def request(self, call: Call):
            if not 8 <= datetime.now().hour < 18:
                raise Refuse(403, "Closed", "This API answers from 8 to 18 o'clock")

A package names the class by an entry point of the group `tulle.processor_policies`; `policy: custom` with `plugin:` and
that name puts it in force. It runs in a process beside the processor, within a time and a memory; whatever goes wrong
in it ends the request with 503. Knows nothing of connections.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


class Refuse(Exception):
    """The request ends here: `status` from 400 to 599, in the one shape of errors."""

    def __init__(self, status: int, error_type: str, message: str, detail: str = "") -> None:
        super().__init__(message)
        if not 400 <= status <= 599:
            raise ValueError(f"{status} is no status of an error: 400 to 599")
        self.status, self.error_type, self.message, self.detail = status, error_type, message, detail


@dataclass(frozen=True, slots=True)
class Call:
    """A request as the gateway knows it. Names of headers are in small letters; none holds credentials."""

    method: str
    path: str
    query: Sequence[tuple[str, str]] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    client: str = ""
    tier: str = ""
    address: str = ""
    claims: Mapping[str, Any] = field(default_factory=dict)
    request_id: str = ""

    def json(self) -> Any:
        """The body as a value; ValueError when it is not JSON."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: that of the service, or one that is sent in its place."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> Any:
        """The body as a value; ValueError when it is not JSON."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Change:
    """What is sent on instead: headers that are set, or taken away by None, and another body where it is given."""

    headers: Mapping[str, str | None] = field(default_factory=dict)
    body: bytes | None = None


class Policy:
    """The base of all of them; one object a process, made with what the policy's `settings` say."""

    sees_answers = False  # whether `answer` is asked

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings

    def request(self, call: Call) -> Change | Reply | None:
        """None lets the request on, a Change does so otherwise than it came, a Reply ends it. May raise Refuse."""
        del call
        return None

    def answer(self, call: Call, reply: Reply) -> Change | None:
        """None lets the answer pass as it is. May raise Refuse."""
        del call, reply
        return None
