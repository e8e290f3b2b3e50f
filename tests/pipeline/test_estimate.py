"""What a run would take, by what earlier ones took."""

from __future__ import annotations

import pytest
from tests.pipeline.conftest import World
from tests.pipeline.test_dry_run import foreseen

from tulle.pipeline.estimate import ENGINE, HISTORY, OTHERS, UNKNOWN, Estimate, Point, estimate


def test_runs_of_different_sizes_tell_a_line() -> None:
    points = [Point(2_000, 20, 3.0), Point(1_000, 10, 2.0)]  # a second to begin with, and one a thousand rows
    found = estimate(points, 5_000)
    assert (found.rows, found.basis, found.runs) == (50, HISTORY, 2)
    assert found.seconds == pytest.approx(6.0)


def test_one_run_is_scaled_in_proportion() -> None:
    assert estimate([Point(1_000, 10, 2.0)], 3_000) == Estimate(30, 6.0, HISTORY, 1)
    falls = estimate([Point(1_000, 10, 2.0), Point(2_000, 5, 1.0)], 3_000)
    assert (falls.rows, falls.seconds) == (30, 6.0), "a line that falls says nothing"
    assert estimate([Point(0, 10, 2.0)], 3_000) == Estimate(10, 2.0, HISTORY, 1)
    assert estimate([Point(7, 10, 2.0)], None) == Estimate(10, 2.0, HISTORY, 1)


def test_without_a_past_others_and_the_engine_are_asked() -> None:
    others = [Point(1_000, 10, 1.0), Point(3_000, 10, 1.0)]
    assert estimate([], 2_000, others=others, guessed=7) == Estimate(7, 1.0, ENGINE)
    assert estimate([], 2_000, others=others) == Estimate(None, 1.0, OTHERS)
    assert estimate([], 2_000) == Estimate(None, None, UNKNOWN)


def test_a_dry_run_tells_what_it_is_based_on(world: World) -> None:
    first = foreseen(world)
    assert (first["sales"].basis, first["sales"].expected_rows) == (UNKNOWN, None)
    world.run("sales")
    again = foreseen(world, full=True)["sales"]
    assert (again.basis, again.history, again.expected_rows, again.expected_reads) == (HISTORY, 1, 3, 3)
    assert again.expected_seconds is not None
    assert again.expected_bytes is not None
    assert again.expected_bytes > 100
    world.mesh.sales("transform/more.sql", "SELECT a.id FROM sales AS a, sales AS b")
    more = foreseen(world)["more"]
    assert (more.action, more.basis, more.expected_rows) == ("make", ENGINE, 9)
    assert more.expected_seconds is not None, "by how long other models take"
    assert foreseen(world)["sales"].basis == "", "what is kept costs nothing"


def test_what_is_made_before_counts(world: World) -> None:
    world.mesh.sales("transform/half.sql", "SELECT id FROM sales WHERE id % 2 = 0")
    world.run("sales")
    rows = "".join(f"{n},ann,01.02.2020,1\n" for n in range(1, 31))
    world.mesh.sales("data/sales.csv", "id,customer,day,amount\n" + rows)
    world.run("sales")
    world.mesh.sales("transform/half.sql", "SELECT id FROM sales WHERE id % 3 = 0")
    found = foreseen(world)
    assert (found["half"].expected_reads, found["half"].history) == (30, 2)
    assert found["half"].expected_rows == 15
