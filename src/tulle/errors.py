"""The kinds of failure, each with what happened, where, and what to do next.

    TulleError
      Invalid          the input is wrong; carries a list of Problems with their places
      NotFound         a named thing does not exist
        Gone                it did, and its data was collected
      AlreadyExists    a named thing exists and may not be replaced
      Conflict         somebody else changed it first, or two changes disagree
        PreconditionFailed  a condition the caller stated does not hold
      Denied           the caller may not do this, or a gate refused it
        Vetoed              a hook refused it
      LimitExceeded    a size, a quota or a rate is used up
      Unavailable      something we depend on does not answer now; trying again may help
      Broken           our own invariant does not hold: a defect or a damaged store

Knows nothing of HTTP, exit codes or terminals: each door translates the kind once.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Place:
    """A position in a file; `line` and `column` count from 1, 0 means unknown."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        """Render as `file:line:column`, leaving out what is unknown."""
        parts = [self.file, *(str(n) for n in (self.line, self.column) if n)]
        return ":".join(parts)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with an input: what, where, and what to do about it."""

    message: str
    place: Place | None = None
    hint: str | None = None
    source_line: str | None = None  # the offending line itself, for a caret picture

    def __str__(self) -> str:
        """Render on one line, the way compilers do."""
        where = f"{self.place}: " if self.place else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{where}{self.message}{hint}"


class TulleError(Exception):
    """The root of all failures that a user may see."""

    kind = "error"

    def __init__(self, message: str, *, hint: str | None = None, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.problems = tuple(problems)

    def as_dict(self) -> dict[str, Any]:
        """The failure as plain values, the same in every door that speaks JSON."""
        return {
            "kind": self.kind,
            "message": self.message,
            "hint": self.hint,
            "problems": [asdict(problem) for problem in self.problems],
        }


class Invalid(TulleError):
    """The input is wrong."""

    kind = "invalid"


class NotFound(TulleError):
    """A named thing does not exist."""

    kind = "not_found"


class Gone(NotFound):
    """What is named is known, but its data was collected by a rule somebody set."""

    kind = "gone"


class AlreadyExists(TulleError):
    """A named thing exists and may not be replaced."""

    kind = "already_exists"


class Conflict(TulleError):
    """Two changes disagree, or the state moved under the caller."""

    kind = "conflict"


class PreconditionFailed(Conflict):
    """A condition the caller stated for the change does not hold."""

    kind = "precondition_failed"


class Denied(TulleError):
    """The caller may not do this, or a gate refused it."""

    kind = "denied"


class Vetoed(Denied):
    """A hook refused the operation; the message names the run whose output tells why."""

    kind = "vetoed"


class LimitExceeded(TulleError):
    """A size, a quota or a rate is used up."""

    kind = "limit_exceeded"


class Unavailable(TulleError):
    """Something we depend on does not answer now."""

    kind = "unavailable"


class Broken(TulleError):
    """An invariant of ours does not hold."""

    kind = "broken"


KINDS: dict[str, type[TulleError]] = {
    cls.kind: cls
    for cls in (
        Invalid,
        NotFound,
        Gone,
        AlreadyExists,
        Conflict,
        PreconditionFailed,
        Denied,
        Vetoed,
        LimitExceeded,
        Unavailable,
        Broken,
    )
}


def from_dict(value: dict[str, Any]) -> TulleError:
    """Rebuild a failure from `as_dict` (the client's side of a JSON door)."""
    problems = []
    for item in value.get("problems") or ():
        place = Place(**item["place"]) if item.get("place") else None
        problems.append(Problem(item["message"], place, item.get("hint"), item.get("source_line")))
    cls = KINDS.get(str(value.get("kind")), TulleError)
    return cls(str(value.get("message", "")), hint=value.get("hint"), problems=problems)


_LONGEST_NAME = 500  # characters of a word that may be meant to be one that is known


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` was most likely meant to be, or None when nothing is near."""
    if len(word) > _LONGEST_NAME:
        return None
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """A hint that names the nearest known word, else lists what is known."""
    names = sorted(known)
    if match := nearest(word, names):
        return f"did you mean '{match}'?"
    if not names:
        return None
    return "known: " + ", ".join(names[:12]) + (" …" if len(names) > 12 else "")
