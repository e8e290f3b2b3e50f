"""Operations of a list that no request could be of, as what answers has others. Pure.

Such a policy is for nothing, so what it was to protect would lie open. Knows nothing else of
what answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tulle.errors import Invalid, did_you_mean
from tulle.gateway.policies.entry import Operation
from tulle.gateway.policies.listed import Written


@dataclass(frozen=True, slots=True)
class Misplaced:
    """Where it is below a list, why it cannot hold there, and what to do.

    `is_doubtful`: it may be meant all the same, so it is told and not refused.
    """

    steps: tuple[str | int, ...]
    message: str
    hint: str | None
    is_doubtful: bool = False


def unmet(
    declared: Iterable[tuple[str, str]], written: Sequence[Written], whose: str, *, that: str = ""
) -> Iterator[Misplaced]:
    """Operations of a list that are none of `declared`, each a method and a path; `whose` these are is told.

    `that` says which requests it is not for, where others come as well.
    """
    known = [(f"{method} {path}", _operation(method, path)) for method, path in declared]
    for number, one in enumerate(written):
        for position, asked in enumerate(one.policy.operations):
            if any(other is None or asked.meet(other) is not None for _, other in known):
                continue
            names = [name if asked.method else other.path for name, other in known if other is not None]
            yield Misplaced(
                (number, "operations", position),
                f"{whose} has no operation '{asked}', so this is for no request{that}",
                did_you_mean(str(asked), dict.fromkeys(names)),
            )


def _operation(method: str, path: str) -> Operation | None:
    """As policies name one; None for what they have no words for."""
    try:
        return Operation(method, path)
    except Invalid:
        return None
