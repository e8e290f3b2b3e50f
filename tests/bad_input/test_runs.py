"""Runs, schedules and backfills of what is not there: said before anything is made."""

from __future__ import annotations

import pytest
from tests.bad_input.conftest import Built, tulle

from tulle.pipeline import run as runs

# The words, what is said, and the exit code.
WORDS: dict[str, tuple[str, str, int]] = {
    "a product nobody has": ("run ordrs", "did you mean 'orders'?", 1),
    "one of several nobody has": ("run orders big-spenders ordrs", "product 'ordrs' is not applied", 1),
    "an environment nobody has": ("run orders -e nope", "known: dev, prod", 1),
    "a data set nobody makes": ("run orders --select ordrs_raw", "did you mean 'orders_raw'?", 1),
    "a data set that is SQL": ("run orders --select x'OR'1", "nothing of the product is called 'x'OR'1'", 1),
    "half a window": ("run orders --from 2026-01-01", "--from and --to go together", 2),
    "a window of words": ("run orders --from x --to y", "two times such as 2024-01-01 and 2024-02-01", 1),
    "a window of what has none": (
        "run orders --from 2026-01-01 --to 2026-02-01",
        "makes nothing by windows, so there is no time to make again",
        1,
    ),
    "some of several": ("run orders big-spenders --select orders", "are about one product: name it", 2),
    "a run nobody made": ("runs 20260101-000000000-0000", "there is no run '20260101-000000000-0000'", 1),
    "no run and no product": ("runs ordrs", "`tulle runs` lists the runs; did you mean 'orders'?", 1),
    "no number of runs": ("runs --limit 0", "0 is not in the range 1<=x<=1000", 2),
    "to stop nothing": ("runs --stop", "--stop needs the run's id", 2),
    "a log nobody wrote": ("logs nope", "there is no log of 'nope'", 1),
    "fewer lines than one": ("logs --lines -5", "-5 is not in the range x>=1", 2),
    "a manifest of nobody": ("manifest ordrs", "did you mean 'orders'?", 1),
    "a schedule nobody wrote": ("schedule show orders", "write `schedule:` in its data-product component", 1),
    "a schedule of nobody": ("schedule pause ordrs", "did you mean 'orders'?", 1),
    "no number of fires": ("schedule next --limit 0", "0 is not in the range 1<=x<=1000", 2),
    "a backfill of nobody": ("backfill ordrs --from 2026-01-01 --to 2026-02-01", "did you mean 'orders'?", 1),
    "a backfill from no day": (
        "backfill orders --from nope --to 2026-02-01",
        "--from is 'nope', which is no date",
        1,
    ),
    "a backfill that goes back": (
        "backfill orders --from 2026-02-01 --to 2026-01-01",
        "there is nothing from 2026-02-01 until before 2026-01-01",
        1,
    ),
    "a backfill of all time": (
        "backfill orders --from 0001-01-01 --to 9999-12-31",
        "a year from 1900 to 2200",
        1,
    ),
    "a backfill without windows": (
        "backfill orders --from 2026-01-01 --to 2026-02-01",
        "product 'orders' makes nothing by windows",
        1,
    ),
    "a backfill nobody asked for": ("backfills nope", "there is no backfill 'nope'", 1),
    "a channel nobody wrote": ("alerts test nope", "there is no alert channel 'nope'", 1),
}


@pytest.mark.parametrize("kind", WORDS)
def test_words_that_cannot_be_meant(built: Built, kind: str) -> None:
    words, said, code = WORDS[kind]
    before = [run.id for run in runs.recent(built.workspace.database)]
    tulle(built.folder, *words.split()).refuses(said, code=code)
    assert [run.id for run in runs.recent(built.workspace.database)] == before


def test_there_is_nothing_to_take_up(built: Built) -> None:
    assert built.run("orders").status == "unchanged"
    tulle(built.folder, "run", "orders", "--resume").refuses("there is nothing to take up")


# A line of product.yaml under its version, and what is said of it.
SCHEDULES: dict[str, tuple[str, str]] = {
    "a word": ("schedule: daily", "is the text 'daily', expected a mapping with cron, on or fresh_within"),
    "a minute there is not": ("schedule: {cron: '61 * * * *'}", "61"),
    "a day there is not": ("schedule: {cron: '0 0 30 2 *'}", "cron '0 0 30 2 *' never fires"),
    "a zone there is not": ("schedule: {cron: '0 3 * * *', time_zone: Mars/Base}", "Mars/Base"),
    "a key nobody knows": ("schedule: {cron: '0 3 * * *', timezone: UTC}", "did you mean 'time_zone'?"),
    "after a product nobody has": (
        "schedule: {on: [nope]}",
        "runs after product 'nope', which does not exist",
    ),
    "after one it does not read": ("schedule: {on: [big-spenders]}", "no input port takes from it"),
    "after itself": ("schedule: {on: [orders]}", "no input port takes from it"),
    "an age that is none": ("schedule: {fresh_within: soon}", "soon"),
}


@pytest.mark.parametrize("kind", SCHEDULES)
def test_a_schedule_that_cannot_be_meant(built: Built, kind: str) -> None:
    line, said = SCHEDULES[kind]
    with built.spoilt("products/sales/orders/product.yaml") as document:
        text = document.read_text()
        document.write_text(text.replace("version: 0.1.0", f"version: 0.1.0\n      {line}"))
        for command in ("validate", "apply"):
            tulle(built.folder, command).refuses("products/sales/orders/product.yaml:26:", said)
