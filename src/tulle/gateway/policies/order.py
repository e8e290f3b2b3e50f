"""In which order the policies of a list are carried out: as the list says, and where it cannot be so, why not.

A request passes: what comes first whatever the list says (CORS, whose preflights show no credentials) → policies
before credentials → credentials → policies that know the caller → limits → policies after those → the service. The
list's order is held throughout; credentials and limits are asked once each, so nothing can stand between two of them.
What a kind is by nature decides where it stands only as far as the list leaves that open. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tulle.gateway.policies.kind import Kind

# the stretches of free order, by where they are: before credentials, between these and limits, after limits
BEFORE: Final = 0
KNOWN: Final = 1
AFTER: Final = 2
_NATURAL: Final = {"before": BEFORE, "known": KNOWN, "after": AFTER}
_ANCHORS: Final = {"credentials": "credentials", "limits": "limits"}


@dataclass(frozen=True, slots=True)
class Disorder:
    """Why a list cannot be carried out in its order: the position at fault, and what to do."""

    position: int
    message: str
    hint: str


def stretches(kinds: Sequence[Kind]) -> tuple[int | None, ...]:
    """For each of a list's kinds the stretch it is carried out in; None where it is in none of them."""
    last_asking = max((n for n, kind in enumerate(kinds) if kind.phase == "credentials"), default=None)
    first_asking = next((n for n, kind in enumerate(kinds) if kind.phase == "credentials"), None)
    first_limit = next((n for n, kind in enumerate(kinds) if kind.phase == "limits"), None)
    last_limit = max((n for n, kind in enumerate(kinds) if kind.phase == "limits"), default=None)
    found: list[int | None] = []
    reached = BEFORE
    for number, kind in enumerate(kinds):
        if kind.phase not in _NATURAL:
            found.append(BEFORE if kind.phase == "first" else None)
            continue
        least, most = BEFORE, AFTER
        if last_limit is not None and number > last_limit:
            least = AFTER
        elif last_asking is not None and number > last_asking:
            least = KNOWN
        if first_asking is not None and number < first_asking:
            most = BEFORE
        elif first_limit is not None and number < first_limit:
            most = KNOWN
        reached = max(reached, min(max(_NATURAL[kind.phase], least), most))
        found.append(reached)
    return tuple(found)


def disorder(kinds: Sequence[Kind]) -> Disorder | None:
    """The first thing in a list that cannot be carried out in its order, if there is one."""
    seen: dict[str, int] = {}
    for number, kind in enumerate(kinds):
        if (before := next((k.name for k in kinds[:number] if k.name in kind.not_after), None)) is not None:
            return Disorder(
                number,
                f"'{kind.name}' stands after '{before}', which would answer without it",
                f"put '{kind.name}' before '{before}'",
            )
        if kind.phase == "credentials" and "limits" in seen:
            other = kinds[seen["limits"]].name
            return Disorder(
                number,
                f"'{kind.name}' stands after '{other}', and who calls is asked before anything is counted",
                f"put '{kind.name}' before '{other}'",
            )
        if (
            kind.phase in {"before", "known", "after", "credentials", "limits"}
            and (step := seen.get("processor")) is not None
        ):
            return Disorder(
                number,
                f"'{kind.name}' stands after '{kinds[step].name}', which comes after all that Envoy does itself",
                f"put '{kind.name}' before '{kinds[step].name}'",
            )
        if kind.phase in _ANCHORS and (last := seen.get(kind.phase)) is not None:
            between = [k for k in kinds[last + 1 : number] if k.phase in {"before", "known", "after"}]
            if between:
                return Disorder(
                    last + 1 + kinds[last + 1 : number].index(between[0]),
                    f"'{between[0].name}' stands between '{kinds[last].name}' and '{kind.name}', "
                    "which are asked together",
                    f"put it before '{kinds[last].name}' or after '{kind.name}'",
                )
        seen[kind.phase] = number
    return None
