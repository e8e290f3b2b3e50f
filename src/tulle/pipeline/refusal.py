"""How a gate says no: which checks failed, all by name as far as a reader takes them in, and what the first found."""

from __future__ import annotations

from collections.abc import Sequence

MOST_NAMED = 10


def refusal_of(what: str, names: Sequence[str], message: str) -> str:
    """One sentence on the checks that failed; `message` is what the first of them found.

    Names come before what was found: of that a page may show no more than its beginning.
    """
    if len(names) == 1:
        return f"1 check of {what}: {names[0]}: {message}"
    named = "; ".join(names[:MOST_NAMED])
    more = f"; and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    return f"{len(names):,} checks of {what}: {named}{more}. The first: {message}"
