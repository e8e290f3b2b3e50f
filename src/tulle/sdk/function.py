"""What a function behind an endpoint may use beside its arguments and its result.

    from tulle.sdk.function import ApiError, Response, request

    def score(customer: str, limit: int = 10) -> dict:
        if not customer:
            raise ApiError("whose score?", status=400, error_type="NoCustomer")
        return {"customer": customer, "asked": request().id}

What the function returns must be what JSON can hold; dates, decimals, bytes, dataclasses and what has `tolist` or
`to_dict` (NumPy, pandas) are turned into that. Knows nothing of HTTP servers or processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field


class ApiError(Exception):
    """Tell the caller that there is no answer, and why: `status` is that of HTTP, from 400 to 599."""

    def __init__(
        self, message: str, *, status: int = 500, error_type: str = "FunctionError", detail: str = ""
    ) -> None:
        super().__init__(message)
        if not 400 <= status <= 599:
            raise ValueError(f"{status} is no status of an error: 400 to 599")
        self.message, self.status, self.error_type, self.detail = message, status, error_type, detail


@dataclass(frozen=True, slots=True)
class Response:
    """An answer that is sent as it is, in place of JSON around the result; `status` from 200 to 599."""

    content: bytes | str
    content_type: str = "text/plain; charset=utf-8"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 200 <= self.status <= 599:
            raise ValueError(f"{self.status} is no status of an answer: 200 to 599")


@dataclass(frozen=True, slots=True)
class Request:
    """The request a function answers. `headers` have lower-case names and none that hold credentials."""

    id: str = ""
    endpoint: str = ""
    generation: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def caller(self) -> str:
        """Who calls, by the name that the gateway gives; it means something only together with `way`.

        Empty where everybody may call, and where the gateway was not asked, as with test queries and batches.
        """
        return self.headers.get("x-tulle-client", "")

    @property
    def way(self) -> str:
        """By which way the caller came in: `contract` (an application, or a key), `token`, `user`, `public`, …

        Empty where the gateway was not asked.
        """
        return self.headers.get("x-tulle-way", "")


_REQUEST: ContextVar[Request] = ContextVar("request")


def request() -> Request:
    """The request that is being answered; an empty one outside of a service, as in a test."""
    return _REQUEST.get(Request())


def answering(asked: Request) -> None:
    """Set what `request` gives; called by the process that runs the function."""
    _REQUEST.set(asked)
