"""What a step of a chain is: it may refuse a request or answer it, and change what is answered.

A chain is what a route's policies ask for, in their order: a request passes its steps from the first to the last, an
answer from the last to the first. Knows nothing of connections, and not what single steps do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tulle.gateway.processing.exchange import Answer, Call

# Nothing: the request goes on. An answer: it ends here. What takes a while is awaited.
Outcome = Answer | None
MOST_ANSWER_BYTES: Final = 8 << 20  # of an answer that a step has to see whole


class Step:
    """One policy on one route. Whatever it raises beside Refusal ends the request with 503.

    `number` is its place in the chain, by which it keeps notes in a call. One thread calls it.
    """

    number: int = 0
    sees_answers = False  # `head` is called
    is_told_of_ends = False  # `ended` is called

    def request(self, call: Call) -> Outcome | Awaitable[Outcome]:
        """Look at a request: None lets it on. Refusal to refuse it."""
        del call
        return None

    def head(self, call: Call, answer: Answer) -> bool:
        """Look at status and headers of an answer, and change them; True to be shown its body, whole."""
        del call, answer
        return False

    def body(self, call: Call, answer: Answer) -> Awaitable[None] | None:
        """Look at a whole answer and change it. Refusal to send an error instead."""
        del call, answer
        return None

    def ended(self, call: Call) -> None:
        """The request is over, whatever became of it. Called once for each that `request` was called with."""

    def close(self) -> None:
        """End what it holds; it is asked nothing more."""


@dataclass(frozen=True, slots=True)
class Chain:
    """The steps of one route, ready; `tiers` and `windows` are those of clients' contracts, as in `ChainPlan`."""

    steps: Sequence[Step]
    tiers: Mapping[str, str]
    most_answer_bytes: int
    answering: Sequence[Step]  # those that see answers, the last first
    told: Sequence[Step]  # those that are told of ends
    windows: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        steps: Sequence[Step],
        tiers: Mapping[str, str] | None = None,
        most_answer_bytes: int = MOST_ANSWER_BYTES,
        windows: Mapping[str, Sequence[str]] | None = None,
    ) -> Chain:
        """A chain of these steps in their order."""
        for number, step in enumerate(steps):
            step.number = number
        return cls(
            tuple(steps),
            tiers or {},
            most_answer_bytes,
            tuple(step for step in reversed(steps) if step.sees_answers),
            tuple(step for step in steps if step.is_told_of_ends),
            windows or {},
        )
