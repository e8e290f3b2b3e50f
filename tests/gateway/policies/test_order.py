"""Which order of a list can be carried out, and where each policy of it then stands."""

from __future__ import annotations

import pytest

from tulle.gateway.policies.kind import Kind, Parts, Phase
from tulle.gateway.policies.order import AFTER, BEFORE, KNOWN, disorder, stretches

PHASES: dict[str, Phase] = {
    "cors": "first",
    "addresses": "before",
    "token": "credentials",
    "key": "credentials",
    "inject": "known",
    "limit": "limits",
    "tier": "limits",
    "cache": "after",
    "retry": "route",
    "redact": "processor",
}


def kinds(text: str) -> list[Kind]:
    """Kinds of those phases, by their names."""
    found = []
    for name in text.split():
        phase = PHASES[name]
        how = {"step": lambda _: {}} if phase == "processor" else {"render": lambda _value, _spot: Parts()}
        found.append(Kind(name, "", {}, phase, lambda s: s, **how))  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("", ()),
        # by nature, where the list leaves it open
        ("addresses inject cache", (BEFORE, KNOWN, AFTER)),
        ("retry cors redact", (None, BEFORE, None)),
        # the list's order is held, so what comes later is no earlier
        ("cache inject addresses", (AFTER, AFTER, AFTER)),
        ("inject addresses", (KNOWN, KNOWN)),
        # what the list asks has its place in it
        ("inject token", (BEFORE, None)),
        ("token addresses", (None, KNOWN)),
        ("cache limit", (KNOWN, None)),
        ("limit addresses", (None, AFTER)),
        ("cache token inject limit addresses", (BEFORE, None, KNOWN, None, AFTER)),
        ("token key limit tier", (None, None, None, None)),
    ],
)
def test_each_stands_where_the_list_says(said: str, expected: tuple[int | None, ...]) -> None:
    assert stretches(kinds(said)) == expected
    assert disorder(kinds(said)) is None


@pytest.mark.parametrize(
    ("said", "position", "message"),
    [
        ("limit token", 1, "'token' stands after 'limit'"),
        ("token inject key", 1, "'inject' stands between 'token' and 'key'"),
        ("limit cache tier", 1, "'cache' stands between 'limit' and 'tier'"),
        ("redact inject", 1, "'inject' stands after 'redact'"),
        ("redact limit", 1, "'limit' stands after 'redact'"),
    ],
)
def test_an_order_that_cannot_be_is_told(said: str, position: int, message: str) -> None:
    found = disorder(kinds(said))
    assert found is not None
    assert found.position == position
    assert message in found.message
    assert found.hint


def test_what_has_no_place_of_its_own_may_stand_anywhere() -> None:
    assert disorder(kinds("redact retry cors")) is None
    assert disorder(kinds("limit retry tier")) is None
