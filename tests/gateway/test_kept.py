"""What is kept is made once of the same, and anew of another."""

from __future__ import annotations

from tulle.gateway.kept import Kept


def test_of_the_same_it_is_made_once() -> None:
    made: list[str] = []

    def make() -> str:
        made.append("x")
        return f"made {len(made)}"

    kept: Kept[str] = Kept()
    assert [kept.of("a", (1, [2]), make) for _ in range(3)] == ["made 1"] * 3
    assert kept.of("a", (1, [3]), make) == "made 2"
    assert kept.of("b", (1, [3]), make) == "made 3"
    assert kept.of("a", (1, [2]), make) == "made 4"  # only the newest is known


def test_so_many_are_kept_at_most() -> None:
    kept: Kept[int] = Kept(most=3)
    for number in range(10):
        assert kept.of(str(number), (), lambda number=number: number) == number  # type: ignore[misc]
        assert len(kept) <= 3
