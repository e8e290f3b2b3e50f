"""What checks found is kept, and read back by check, in order, an environment apart from another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tulle.errors import NotFound
from tulle.quality.check import Check
from tulle.quality.history import KEPT, history, latest, past, prune, record, series
from tulle.quality.verdict import CheckResult
from tulle.state.db import Database, now, open_database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = open_database(f"sqlite:///{tmp_path / 'state.db'}")
    yield made
    made.close()


def result(name: str = "volume", *, passed: bool = True, value: float = 1.0, **more: Any) -> CheckResult:
    arguments: dict[str, Any] = {
        "kind": "volume", "data_set": "sales", "severity": "error", "failing_count": int(not passed),
        "total": 10, "message": "said", "value": value, "detail": {"n": value}, **more,
    }  # fmt: skip
    return CheckResult(name, passed=passed, **arguments)


def keep(database: Database, run: str, *results: CheckResult, environment: str = "main") -> None:
    with database.write() as cx:
        record(cx, "shop", environment, run, results)


CHECK = Check("volume", "volume", "sales")


def test_the_last_outcome_of_every_check_is_told(database: Database) -> None:
    keep(database, "r1", result(value=1), result("other", passed=False, severity="warn"))
    keep(database, "r2", result(value=2, passed=False))
    keep(database, "r3", result(value=9), environment="dev")
    found = latest(database, product="shop")
    assert [(o.check, o.value, o.state, o.run) for o in found] == [
        ("other", 1.0, "warn", "r1"),
        ("volume", 2.0, "failed", "r2"),
    ]
    assert latest(database) == found
    assert [o.run for o in latest(database, product="shop", environment="dev")] == ["r3"]
    assert latest(database, product="nobody") == ()


def test_history_is_newest_first_and_bounded(database: Database) -> None:
    for n in range(5):
        keep(database, f"r{n}", result(value=n), result("other"))
    assert [o.value for o in history(database, "shop", "volume", limit=3)] == [4, 3, 2]
    assert len(history(database, "shop")) == 10
    assert history(database, "shop", data_set="nothing") == ()
    with pytest.raises(NotFound) as caught:
        history(database, "shop", "volum")
    assert caught.value.hint == "did you mean 'volume'?"


def test_a_series_is_oldest_first_and_bounded_by_check(database: Database) -> None:
    for n in range(5):
        keep(database, f"r{n}", result(value=n), result("a", data_set="people", value=-n))
    found = series(database, "shop", last=2)
    assert {key: [o.value for o in outcomes] for key, outcomes in found.items()} == {
        ("people", "a"): [-3, -4],
        ("sales", "volume"): [3, 4],
    }


def test_what_failed_is_no_measure_for_what_comes(database: Database) -> None:
    keep(database, "r1", result(value=1))
    keep(database, "r2", result(value=100, passed=False))
    keep(database, "r3", result(value=3), result("volume", value=7, kind="row_count"))
    assert [(p.value, p.detail) for p in past(database, "shop", CHECK)] == [(3, {"n": 3}), (1, {"n": 1})]
    assert [p.value for p in past(database, "shop", CHECK, environment="dev")] == [3, 1]
    keep(database, "r4", result(value=5), environment="dev")
    assert [p.value for p in past(database, "shop", CHECK, environment="dev")] == [5]


def test_what_is_old_is_forgotten_but_never_the_last_of_a_check(database: Database) -> None:
    for n in range(KEPT + 5):
        keep(database, f"r{n}", result(value=n), result("rare") if n == 0 else result("often"))
    for n in range(KEPT + 5):
        keep(database, f"f{n}", result(value=n, passed=False))
    before = past(database, "shop", CHECK)
    assert prune(database, now() - 60) == 0
    assert prune(database, now() + 60) == 5 + 5 + (KEPT + 4 - KEPT)
    assert prune(database, now() + 60) == 0
    assert [o.run for o in history(database, "shop", "rare")] == ["r0"]
    assert past(database, "shop", CHECK) == before  # failures since do not push out what is compared with
    runs = [o.run for o in history(database, "shop", "volume", limit=1000)]
    assert (runs[0], runs[-1], len(runs)) == (f"f{KEPT + 4}", "r5", 2 * KEPT)
