"""What can go wrong at the REST door: the one table from our failures to HTTP's codes, and what only HTTP knows.

Knows nothing of requests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tulle import errors
from tulle.errors import TulleError


class Refusal(TulleError):
    """An answer other than success that none of our kinds of failure stands for: a status of its own."""

    kind = "refusal"

    def __init__(
        self,
        status: int,
        message: str,
        *,
        hint: str | None = None,
        headers: Sequence[tuple[str, str]] = (),
        fields: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.fields = fields or {}  # what the answer says beside the message
        self.headers = tuple(headers)


def unauthenticated(message: str = "error authenticating request") -> Refusal:
    """The caller did not say who they are, or not convincingly."""
    return Refusal(401, message, headers=(("www-authenticate", 'Basic realm="lake"'),))


def unsupported(reason: str) -> Refusal:
    """The lake does not do this."""
    return Refusal(501, reason)


def gone(message: str) -> Refusal:
    """What was asked for is known, and its data is no more."""
    return Refusal(410, message)


# Our kinds of failure, the finer ones first.
_STATUS: tuple[tuple[type[TulleError], int], ...] = (
    (errors.PreconditionFailed, 412),
    (errors.Vetoed, 412),
    (errors.Invalid, 400),
    (errors.Gone, 410),
    (errors.NotFound, 404),
    (errors.AlreadyExists, 409),
    (errors.Conflict, 409),
    (errors.Denied, 403),
    (errors.LimitExceeded, 413),
    (errors.Unavailable, 503),
    (errors.Broken, 500),
)


def status_of(failure: TulleError) -> int:
    """The HTTP status that stands for a failure."""
    if isinstance(failure, Refusal):
        return failure.status
    return next((status for kind, status in _STATUS if isinstance(failure, kind)), 500)


def message_of(failure: TulleError) -> str:
    """What happened, where and what to do next, in one text: lakeFS's clients show nothing else."""
    parts = [failure.message, *(str(problem) for problem in failure.problems[:20])]
    text = "; ".join(parts)
    return f"{text} ({failure.hint})" if failure.hint else text
