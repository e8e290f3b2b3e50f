"""What came of the test queries of a generation that runs: asked after it was deployed, kept with its deployment.

Values and their plain form. Knows nothing of who asks, and when.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tulle.config import TEST_QUERIES
from tulle.errors import Invalid
from tulle.serving.loaded import Verdict

Status = Literal["waiting", "passed", "failed", "unasked", "skipped", "none"]
MOST_TOLD = 5  # queries that failed are told with the deployment; `tulle service test` tells all
_LONGEST = 500  # characters of why one failed


@dataclass(frozen=True, slots=True)
class FailedQuery:
    """A test query that failed, and why."""

    endpoint: str
    name: str
    message: str


@dataclass(frozen=True, slots=True)
class Tested:
    """How the test queries of one generation went; `at` is when that was known, in seconds since the epoch.

    Status: waiting (they are being asked), passed, failed, unasked (none was answered in time), skipped (who deployed
    it did not want them asked), none (it has none). `message` says what was done, or why not all could be asked.
    """

    __test__ = False  # not a test case of pytest's

    status: Status
    at: float
    asked: int = 0
    passed: int = 0
    saved: int = 0  # that the generation has: no more are asked than fit in the time
    failed: tuple[FailedQuery, ...] = ()
    message: str = ""

    @property
    def verb(self) -> str:
        """What is wrong with its test queries, in words; nothing where nothing is."""
        return {"failed": "fail", "unasked": "could not be asked"}.get(self.status, "")

    def as_plain(self) -> dict[str, Any]:
        """The form in which it is kept and shown."""
        return {
            "status": self.status,
            "at": self.at,
            "asked": self.asked,
            "passed": self.passed,
            "saved": self.saved,
            "failed": [
                {"endpoint": one.endpoint, "name": one.name, "message": one.message} for one in self.failed
            ],
            "message": self.message,
        }

    def __str__(self) -> str:
        """In words: `2 of 3 test queries fail: scores, 'ann': …`."""
        if self.status == "failed":
            number = self.asked - self.passed
            told = f"{number} of {self.asked} test queries fail" if self.asked else "its test queries fail"
            first = "; ".join(f"{one.endpoint}, '{one.name}': {one.message}" for one in self.failed[:3])
            why = "; ".join(part for part in (first, self.message) if part)
            return f"{told}: {why}" if why else told
        if self.status == "passed":
            more = f", of {self.saved} that are saved" if self.saved > self.asked else ""
            why = f"; {self.message}" if self.message else ""
            return f"{self.passed} of {self.asked} test queries pass{more}{why}"
        if self.status == "unasked":
            return f"its test queries could not be asked: {self.message}"
        return {
            "waiting": "its test queries are being asked",
            "skipped": "its test queries are not asked",
            "none": "it has no test queries",
        }[self.status]


def tested_from(value: Mapping[str, Any]) -> Tested:
    """What `as_plain` gave."""
    failed = tuple(FailedQuery(one["endpoint"], one["name"], one["message"]) for one in value["failed"])
    return Tested(
        value["status"],
        value["at"],
        value["asked"],
        value["passed"],
        value["saved"],
        failed,
        value["message"],
    )


def of_verdicts(verdicts: Sequence[Verdict], saved: int, at: float, message: str = "") -> Tested:
    """What verdicts come to; `saved` is how many test queries there are, `message` says why not all were asked."""
    if not verdicts:
        return Tested("unasked" if saved else "none", at, saved=saved, message=message)
    failed = [one for one in verdicts if not one.passed]
    told = tuple(FailedQuery(one.endpoint, one.name, one.message[:_LONGEST]) for one in failed[:MOST_TOLD])
    status: Status = "failed" if failed else "passed"
    return Tested(status, at, len(verdicts), len(verdicts) - len(failed), saved, told, message)


def demand_way(text: str) -> str:
    """What test queries of a deployment are to do; empty: as its environment says. Invalid."""
    if text and text not in TEST_QUERIES:
        raise Invalid(
            f"test queries are to '{text[:40]}', expected one of: {', '.join(TEST_QUERIES)}",
            hint="tell: what fails is told; rollback: what answered before answers again; skip: none is asked",
        )
    return text
