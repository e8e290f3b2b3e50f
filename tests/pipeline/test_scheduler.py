"""The scheduler on both databases: by the clock, after upstream, by age, missed, tried again, each once."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from tulle.config import PRODUCTION, Environment, Settings, Warehouse
from tulle.errors import Conflict, Invalid, NotFound, TulleError, Unavailable
from tulle.events import DATA_LATE, PRODUCT_APPLIED, PRODUCT_DESTROYED, Event
from tulle.lake.repository import open_lake
from tulle.pipeline import run as runs
from tulle.pipeline import run_end, schedule
from tulle.pipeline import scheduler as scheduling
from tulle.pipeline.scheduler import Scheduler
from tulle.spec.product import DataProduct
from tulle.spec.schedule import Schedule
from tulle.state import log, products
from tulle.state.db import Database
from tulle.state.tables import followers, schedules
from tulle.state.tables import runs as run_table

DATABASES = ("sqlite", "postgres")
DAY = 86_400.0
NOON = dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC).timestamp()


class World:
    """A scheduler with a clock of its own; the processes of its runs are played by the test."""

    def __init__(self, database: Database, folder: Path, **settings: Any) -> None:
        self.database = database
        self.at = NOON
        self.started: list[str] = []
        self.settings = Settings(folder=folder, **settings)
        self.scheduler = self.another()
        self.scheduler.step()  # begins to follow

    def another(self) -> Scheduler:
        return Scheduler(self.settings, self.database, start=self._start, clock=lambda: self.at)

    def _start(self, _: Settings, run_id: str) -> int:
        self.started.append(run_id)
        return 0

    def apply(self, name: str, when: Schedule | None, *, domain: str = "sales") -> None:
        """Apply a product, and let its clock begin at the world's time."""
        product = DataProduct(name, name, domain, "", schedule=when, digest="d")
        with self.database.write() as cx:
            products.save(cx, product, code_digest="c")
            log.append(cx, Event(PRODUCT_APPLIED, name, {}))
        self.scheduler.follow()
        if when is None:
            return
        for environment in when.environments:
            mine = (schedules.c.product == name) & (schedules.c.environment == environment)
            values: dict[str, Any] = {"cron_at": when.after(self.at)}
            if when.fresh_within:
                values |= {"fresh_at": self.at + when.fresh_within}
            if when.late_after:
                values |= {"late_at": self.at + when.late_after}
            with self.database.write() as cx:
                cx.execute(update(schedules).where(mine).values(**values))
                schedule.settle_next(cx, name, environment)

    def go_on(self, seconds: float) -> None:
        self.at += seconds
        while self.scheduler.step():
            pass

    def end(self, status: str = runs.SUCCEEDED, error: TulleError | None = None, number: int = -1) -> None:
        """The run that was started last (or that one) begins and ends."""
        run_id = self.started[number]
        with self.database.write() as cx:
            at = {"started_at": self.at, "pid": 1, "pid_started": 1.0, "status": runs.RUNNING}
            cx.execute(update(run_table).where(run_table.c.id == run_id).values(**at))
        run_end.finish(self.database, run_id, status, error=error)
        with self.database.write() as cx:
            cx.execute(update(run_table).where(run_table.c.id == run_id).values(finished_at=self.at))
        self.go_on(0)

    def told(self, product: str | None = None) -> list[tuple[str, str, str]]:
        """The fires, oldest first: (reason, when, status)."""
        found = schedule.fires(self.database, product=product)
        return [
            (f.reason, dt.datetime.fromtimestamp(f.fire_at, dt.UTC).strftime("%d %H:%M"), f.status)
            for f in sorted(found, key=lambda f: f.id)
        ]

    def options(self, number: int = -1) -> Mapping[str, Any]:
        return runs.get(self.database, self.started[number]).options


@pytest.fixture
def world(database: Database, tmp_path: Path) -> World:
    return World(database, tmp_path)


def test_a_product_runs_by_the_clock(world: World) -> None:
    world.apply("orders", Schedule(cron="0 * * * *", timeout=60))
    world.go_on(1800)
    assert world.told() == []
    world.go_on(1800)
    assert world.told() == [("cron", "01 13:00", "started")]
    assert world.options()["timeout"] == 60
    assert world.options()["fired"]["reason"] == "cron"
    world.end()
    assert world.told() == [("cron", "01 13:00", "succeeded")]
    world.go_on(3600)
    assert world.told()[1] == ("cron", "01 14:00", "started")
    assert len(world.started) == 2


def test_two_schedulers_fire_once(world: World) -> None:
    names = [f"orders-{n}" for n in range(12)]
    for name in names:
        world.apply(name, Schedule(cron="0 13 * * *"), domain=name)
    world.settings = Settings(folder=world.settings.folder, scheduled_runs=100)
    world.at += 3600
    schedulers = [world.another() for _ in range(4)]
    barrier = threading.Barrier(len(schedulers))

    def work(one: Scheduler) -> None:
        barrier.wait()
        for _ in range(8):
            one.step()

    threads = [threading.Thread(target=work, args=(one,)) for one in schedulers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(runs.get(world.database, r).product for r in world.started) == sorted(names)
    assert {status for _, _, status in world.told()} == {"started"}
    assert len(world.told()) == len(names)


def test_a_fire_is_recorded_once_whoever_records_it(database: Database) -> None:
    about = {"product": "p", "environment": "main", "domain": "d", "reason": "cron", "fire_at": 5.0}
    with database.write() as cx:
        assert schedule.add_fire(cx, **about)  # type: ignore[arg-type]
        assert not schedule.add_fire(cx, **about)  # type: ignore[arg-type]
    assert len(schedule.fires(database)) == 1


@pytest.mark.parametrize(
    ("catch_up", "fired"),
    [
        ("latest", [("cron", "04 13:00", "started")]),
        ("none", [("cron", "04 13:00", "skipped")]),
        (
            "all",
            [
                ("cron", "01 13:00", "started"),
                ("cron", "02 13:00", "waiting"),
                ("cron", "03 13:00", "waiting"),
                ("cron", "04 13:00", "waiting"),
            ],
        ),
    ],
)
def test_fires_that_were_missed(world: World, catch_up: str, fired: list[tuple[str, str, str]]) -> None:
    world.apply("orders", Schedule(cron="0 13 * * *", catch_up=catch_up))
    world.go_on(3 * DAY + 2 * 3600)
    assert world.told() == fired
    if catch_up == "all":  # one after another, in their order
        world.end()
        assert [s for *_, s in world.told()] == ["succeeded", "started", "waiting", "waiting"]


def test_years_of_missed_minutes_cost_nothing(world: World) -> None:
    world.apply("orders", Schedule(cron="* * * * *"))
    world.go_on(900 * DAY + 30)
    assert len(world.told()) == 1
    assert world.told()[0][1].endswith("12:00")
    next_at = schedule.scheduled(world.database, "orders").cron_at
    assert next_at == world.at + 30


def test_a_fire_while_the_product_runs(world: World) -> None:
    world.apply("queued", Schedule(cron="*/10 * * * *"), domain="a")
    world.apply("skipped", Schedule(cron="*/10 * * * *", if_running="skip"), domain="b")
    world.go_on(600)
    assert len(world.started) == 2
    world.go_on(600)
    world.go_on(600)
    assert [s for *_, s in world.told("queued")] == ["started", "waiting", "skipped"]
    assert [s for *_, s in world.told("skipped")] == ["started", "skipped", "skipped"]
    number = [runs.get(world.database, r).product for r in world.started].index("queued")
    world.end(number=number)
    assert [s for *_, s in world.told("queued")] == ["succeeded", "started", "skipped"]


def test_a_run_somebody_asked_for_counts_as_running(world: World) -> None:
    world.apply("orders", Schedule(cron="0 13 * * *", if_running="skip"))
    runs.request(world.database, "orders")
    world.go_on(3600)
    assert world.told() == [("cron", "01 13:00", "skipped")]


def test_after_upstream_published_once_for_all_of_it(world: World) -> None:
    world.apply("first", None)
    world.apply("second", None)
    for name in ("first", "second"):
        run_end.finish(world.database, runs.request(world.database, name), runs.SUCCEEDED)
    world.go_on(1)
    world.apply("below", Schedule(on=("first", "second")), domain="other")
    one, two = (runs.request(world.database, name) for name in ("first", "second"))
    run_end.finish(world.database, one, runs.SUCCEEDED)
    world.at = max(world.at, runs.get(world.database, one).finished_at or 0)
    world.go_on(1)
    assert world.told() == [("upstream", world.told()[0][1], "waiting")]  # the second is on its way
    run_end.finish(world.database, two, runs.SUCCEEDED)
    world.go_on(1)
    assert [s for *_, s in world.told()] == ["started"]
    three = runs.request(world.database, "first")
    run_end.finish(world.database, three, runs.SUCCEEDED)
    four = runs.request(world.database, "first")
    run_end.finish(world.database, four, runs.SUCCEEDED)
    world.go_on(60)
    assert [s for *_, s in world.told()] == ["started", "waiting"]  # two publishings, one more run
    five = runs.request(world.database, "first")
    run_end.finish(world.database, five, runs.UNCHANGED)
    six = runs.request(world.database, "first", environment="test")
    run_end.finish(world.database, six, runs.SUCCEEDED)
    world.end()
    world.end()
    assert [s for *_, s in world.told()] == ["succeeded", "succeeded"]


def _published(world: World, product: str, environment: str = "main") -> None:
    run_id = runs.request(world.database, product, environment=environment)
    run_end.finish(world.database, run_id, runs.SUCCEEDED)
    world.at = max(world.at, runs.get(world.database, run_id).finished_at or 0)
    world.go_on(1)


def test_after_several_only_when_each_has_published(world: World) -> None:
    for name in ("first", "second", "third"):
        world.apply(name, None)
    world.apply("below", Schedule(on=("first", "second", "third")), domain="other")
    _published(world, "first")
    _published(world, "first")
    run_end.finish(world.database, runs.request(world.database, "second"), runs.FAILED)
    _published(world, "third")
    assert [s for *_, s in world.told()] == ["skipped"] * 3
    found = sorted(schedule.fires(world.database, product="below"), key=lambda f: f.id)
    assert [f.message for f in found] == [
        "after first: 'second' and 'third' have published nothing yet",
        "after first: 'second' and 'third' have published nothing yet",
        "after third: 'second' has published nothing yet",
    ]
    _published(world, "second")
    assert [s for *_, s in world.told()][3:] == ["started"]
    world.end()
    _published(world, "first")
    assert [s for *_, s in world.told()][4:] == ["started"]


def test_what_somebody_committed_is_published_too(world: World, tmp_path: Path) -> None:
    lake = open_lake(world.database, f"local://{tmp_path / 'objects'}")
    repository = lake.create_repository("second", actor="ann")
    world.apply("first", None)
    world.apply("second", None)
    world.apply("below", Schedule(on=("first", "second")), domain="other")
    _published(world, "first")
    repository.put("main", "second/rows.csv", b"a\n1\n")
    repository.commit("main", "by hand", committer="ann")
    _published(world, "first")
    assert [s for *_, s in world.told()] == ["skipped", "started"]


def test_where_data_is_read_from_a_fallback_it_is_published_there(database: Database, tmp_path: Path) -> None:
    dev = Environment("dev", "dev", fallback="prod", schedules=True)
    world = World(database, tmp_path, environments={"prod": PRODUCTION, "dev": dev})
    world.apply("first", None)
    world.apply("second", None)
    world.apply("below", Schedule(on=("first", "second"), environments=("dev",)), domain="other")
    _published(world, "first", "dev")
    _published(world, "second", "main")
    _published(world, "first", "dev")
    assert [s for *_, s in world.told()] == ["skipped", "started"]


def test_a_run_when_the_data_is_too_old(world: World) -> None:
    world.apply("orders", Schedule(fresh_within=3600))
    world.go_on(3599)
    assert world.told() == []
    world.go_on(1)
    assert world.told() == [("fresh", "01 13:00", "started")]
    world.go_on(600)
    world.end(runs.UNCHANGED)  # confirmed, so it is fresh for another hour
    world.go_on(3599)
    assert len(world.told()) == 1
    world.go_on(1)
    assert world.told()[1] == ("fresh", "01 14:10", "started")


def test_data_that_is_late_is_told_once(world: World) -> None:
    world.apply("orders", Schedule(fresh_within=3600, late_after=7200, if_running="skip"))

    def late() -> int:
        return sum(entry.kind == DATA_LATE for entry in log.read(world.database, subject="orders"))

    world.go_on(7199)
    assert late() == 0
    world.go_on(1)
    world.go_on(DAY)
    assert late() == 1
    world.end()
    world.go_on(7201)
    assert late() == 2


def test_what_may_pass_is_tried_again(world: World) -> None:
    world.apply("orders", Schedule(cron="0 13 * * *", retries=2, retry_delay=300))
    world.go_on(3600)
    world.end(runs.FAILED, Unavailable("the store does not answer"))
    assert [s for *_, s in world.told()] == ["failed", "waiting"]
    world.go_on(299)
    assert len(world.started) == 1
    world.go_on(1)
    assert world.options()["fired"]["attempt"] == 2
    world.end(runs.FAILED, Unavailable("the store does not answer"))
    world.go_on(300)
    world.end(runs.FAILED, Unavailable("the store does not answer"))
    world.go_on(3000)
    assert [s for *_, s in world.told()] == ["failed", "failed", "failed"]


def test_what_will_not_pass_is_not_tried_again(world: World) -> None:
    world.apply("orders", Schedule(cron="0 13 * * *", retries=2))
    world.go_on(3600)
    world.end(runs.FAILED, Invalid("a check failed"))
    assert [s for *_, s in world.told()] == ["failed"]


def test_a_run_that_somebody_stopped_is_not_tried_again(world: World) -> None:
    from tulle.pipeline import worker

    world.apply("orders", Schedule(cron="0 13 * * *", retries=2))
    world.go_on(3600)
    with world.database.write() as cx:
        running = {"status": runs.RUNNING, "started_at": world.at}
        cx.execute(update(run_table).where(run_table.c.id == world.started[0]).values(**running))
    worker.stop(world.database, world.started[0])
    world.go_on(3600)
    assert [s for *_, s in world.told()] == ["stopped"]


def test_a_run_whose_process_never_came_is_fired_again_and_costs_no_try(world: World) -> None:
    world.apply("orders", Schedule(cron="0 13 * * *"))
    world.go_on(3600)
    with world.database.write() as cx:  # a scheduler died after it recorded the run, before it started it
        cx.execute(update(run_table).values(requested_at=1.0))
    assert run_end.recover(world.database) == (world.started[0],)
    world.go_on(0)
    assert [s for *_, s in world.told()] == ["stopped", "started"]
    assert len(set(world.started)) == 2
    world.end()
    assert [s for *_, s in world.told()] == ["stopped", "succeeded"]


def test_no_more_runs_than_the_warehouse_and_the_mesh_allow(database: Database, tmp_path: Path) -> None:
    small = Warehouse(concurrent_runs=1)
    world = World(database, tmp_path, scheduled_runs=3, warehouses={"small": small})
    for n in range(4):
        world.apply(f"small-{n}", Schedule(cron="0 13 * * *"), domain="small")
    for n in range(4):
        world.apply(f"other-{n}", Schedule(cron="0 13 * * *"), domain=f"d{n}")
    world.go_on(3600)
    domains = [runs.get(world.database, r).product.rpartition("-")[0] for r in world.started]
    assert sorted(domains) == ["other", "other", "small"]  # one domain does not keep the others from running
    world.end(number=domains.index("small"))
    domains = [runs.get(world.database, r).product.rpartition("-")[0] for r in world.started]
    assert domains.count("small") == 2


def test_paused_by_somebody_and_resumed_without_catching_up(world: World) -> None:
    world.apply("orders", Schedule(cron="0 * * * *"))
    paused = schedule.pause(world.database, "orders", "main", actor="ana")
    assert paused.paused
    assert paused.next_at is None
    world.go_on(5 * 3600)
    assert world.told() == []
    world.apply("orders", Schedule(cron="0 * * * *", retries=1))  # applying does not resume
    assert schedule.scheduled(world.database, "orders").paused
    resumed = schedule.resume(world.database, "orders", "main", actor="ana")
    assert not resumed.paused
    assert resumed.cron_at is not None
    kinds = [e.kind for e in log.read(world.database, subject="orders") if e.kind.startswith("schedule.")]
    assert kinds == ["schedule.paused", "schedule.resumed"]


def test_paused_by_the_document(world: World) -> None:
    world.apply("orders", Schedule(cron="0 * * * *", paused=True))
    world.go_on(DAY)
    assert world.told() == []
    with pytest.raises(Conflict, match="the document of 'orders' pauses its schedule"):
        schedule.resume(world.database, "orders", "main")
    with pytest.raises(NotFound) as caught:
        schedule.resume(world.database, "order", "main")
    assert caught.value.hint == "did you mean 'orders'?"


def test_a_schedule_ends_with_its_product(world: World) -> None:
    world.apply("orders", Schedule(cron="0 13 * * *", environments=("main", "test")))
    assert len(schedule.all_scheduled(world.database)) == 2
    world.apply("orders", Schedule(cron="0 13 * * *"))
    assert [s.environment for s in schedule.all_scheduled(world.database)] == ["main"]
    with world.database.write() as cx:
        products.remove(cx, "orders")
        log.append(cx, Event(PRODUCT_DESTROYED, "orders", {}))
    world.go_on(DAY)
    assert world.told() == []
    assert schedule.all_scheduled(world.database) == ()


def test_an_applied_change_of_something_else_keeps_what_is_due(world: World) -> None:
    world.apply("orders", Schedule(cron="0 13 * * *"))
    due = schedule.scheduled(world.database, "orders").cron_at
    with world.database.write() as cx:
        changed = DataProduct("orders", "o", "sales", "", schedule=Schedule(cron="0 13 * * *", retries=3))
        products.save(cx, changed, code_digest="c")
        log.append(cx, Event(PRODUCT_APPLIED, "orders", {}))
    world.scheduler.follow()
    found = schedule.scheduled(world.database, "orders")
    assert found.cron_at == due
    assert found.schedule.retries == 3


def test_a_mesh_that_had_products_before_begins_with_them(database: Database, tmp_path: Path) -> None:
    with database.write() as cx:
        product = DataProduct("orders", "o", "sales", "", schedule=Schedule(cron="0 13 * * *"))
        products.save(cx, product, code_digest="c")
    World(database, tmp_path)
    assert [s.product for s in schedule.all_scheduled(database)] == ["orders"]
    with database.read() as cx:
        assert cx.execute(select(followers.c.name)).scalars().all() == ["scheduler"]


def test_products_that_were_there_before_are_taken_over_in_pieces(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduling, "TAKEN_OVER", 2)
    names = [f"product-{number}" for number in range(5)]
    with database.write() as cx:
        for name in names:
            when = Schedule(cron="0 13 * * *", on=("product-0",) if name == "product-4" else ())
            products.save(cx, DataProduct(name, name, "sales", "", schedule=when), code_digest="c")
    settings = Settings(folder=tmp_path)

    def there() -> list[str]:
        return sorted(s.product for s in schedule.all_scheduled(database))

    first, second = Scheduler(settings, database), Scheduler(settings, database)
    first.follow()
    assert there() == names[:2]
    with database.write() as cx:  # meanwhile one is destroyed, one comes, one changes
        products.remove(cx, "product-1")
        log.append(cx, Event(PRODUCT_DESTROYED, "product-1", {}))
        for name in ("product-00", "product-0"):
            when = Schedule(cron="0 14 * * *")
            products.save(cx, DataProduct(name, name, "sales", "", schedule=when), code_digest="c")
            log.append(cx, Event(PRODUCT_APPLIED, name, {}))
    second.follow()  # the first one died; who comes goes on where it was
    assert there() == names[:4]
    while first.follow():
        pass
    assert there() == ["product-0", "product-00", "product-2", "product-3", "product-4"]
    assert schedule.scheduled(database, "product-0").schedule.cron == "0 14 * * *"
    with database.read() as cx:
        assert cx.execute(select(followers.c.before)).scalars().all() == [None]


def test_nothing_runs_by_itself_where_schedules_are_off(database: Database, tmp_path: Path) -> None:
    places = {"prod": PRODUCTION, "dev": Environment("dev", "dev")}
    world = World(database, tmp_path, environments=places)
    both = ("main", "dev")
    world.apply("orders", Schedule(cron="0 13 * * *", environments=both))
    world.apply("stock", Schedule(fresh_within=1800, environments=both))
    world.apply("report", Schedule(on=("orders",), environments=both))
    for environment in both:  # somebody runs it by hand
        run_id = runs.request(database, "orders", environment=environment)
        run_end.finish(database, run_id, runs.SUCCEEDED)
    world.go_on(3600)
    found = {(f.product, f.environment, f.reason): f for f in schedule.fires(database)}
    for product, reason in (("orders", "cron"), ("stock", "fresh"), ("report", "upstream")):
        fire = found[product, "dev", reason]
        assert fire.status == "skipped"
        assert "schedules are off in environment 'dev' of mesh.yaml" in fire.message
    assert {f.status for f in found.values() if f.environment == "main"} <= {"started", "waiting"}
    assert {runs.get(database, run_id).environment for run_id in world.started} == {"main"}


def test_a_process_that_cannot_be_started_ends_its_run(database: Database, tmp_path: Path) -> None:
    world = World(database, tmp_path)
    world.apply("orders", Schedule(cron="0 13 * * *"))

    def fails(_: Settings, __: str) -> int:
        raise OSError(12, "Cannot allocate memory")

    world.at += 3600
    Scheduler(world.settings, database, start=fails, clock=lambda: world.at).step()
    (run,) = runs.recent(database)
    assert run.status == runs.FAILED
    assert run.error is not None
    assert "Cannot allocate memory" in run.error["message"]


def test_what_comes_next_across_all_schedules(world: World) -> None:
    world.apply("hourly", Schedule(cron="0 * * * *"))
    world.apply("daily", Schedule(cron="30 13 * * *"))
    world.apply("paused", Schedule(cron="* * * * *", paused=True))
    found = schedule.upcoming(schedule.all_scheduled(world.database), world.at + 3 * 3600, limit=3)
    assert [(at - world.at, one.product) for at, one in found] == [
        (3600, "hourly"),
        (5400, "daily"),
        (7200, "hourly"),
    ]


@pytest.mark.parametrize("options", [{"only": "checks"}, {"select": ["a"]}])
def test_data_is_no_fresher_for_being_looked_at_or_made_in_part(
    world: World, options: dict[str, Any]
) -> None:
    world.apply("orders", Schedule(fresh_within=3600))
    before = schedule.scheduled(world.database, "orders")
    world.started.append(runs.request(world.database, "orders", options=options))
    world.end(runs.UNCHANGED)
    assert schedule.scheduled(world.database, "orders") == before
    world.started.append(runs.request(world.database, "orders", options={"select": []}))
    world.end(runs.UNCHANGED)
    assert schedule.scheduled(world.database, "orders").good_at == world.at
