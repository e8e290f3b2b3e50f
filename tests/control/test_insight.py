"""Calls counted from the log that the gateway leaves, and asked for by command: what is used, slow, refused, to come."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.control.offered import ORDERS, declare
from tests.control.test_deployments import active, with_versions
from tests.observe.lines import NOON, line
from tests.pipeline.conftest import Mesh

from tulle.catalog import outlook as insight
from tulle.cli import connect
from tulle.cli.main import cli
from tulle.control import autoscale, call_collector
from tulle.control.apply import apply_plan
from tulle.control.call_collector import CallCollector
from tulle.control.workspace import Workspace
from tulle.errors import Broken, Conflict, Invalid, NotFound
from tulle.events import GATEWAY_GUESSED
from tulle.gateway import guesses, log_place
from tulle.gateway import last_used as last_used_module
from tulle.gateway.envoy_values import ACCESS_LOG
from tulle.gateway.last_used import last_used
from tulle.observe.batch import Batch, Cell, Key
from tulle.observe.calls import DAY, HOUR, Place
from tulle.observe.insight import Insight, span_of
from tulle.sdk.apis import ApiClient
from tulle.serving import generation, package
from tulle.serving.traffic import single
from tulle.state import log
from tulle.state.tables import api_versions

PREDICT = "/public/api/v1/calc/who/run"


class Counted:
    """A mesh with the service `calc`, and a log in place of a gateway's."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.log = workspace.settings.state_folder / ACCESS_LOG
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.collector = CallCollector(workspace)

    def asked(self, *lines: bytes) -> None:
        with self.log.open("ab") as log:
            log.write(b"".join(one + b"\n" for one in lines))

    def again(self) -> None:
        """A control plane that starts anew."""
        self.collector.stop()
        self.collector = CallCollector(self.workspace)

    def total(self, span: str = "hour") -> int:
        found = Insight(self.collector.calls).told("mesh", span_of(span), points=False)
        return sum(one.whole.requests for one in found.series)

    def run(self, *argv: str, code: int = 0) -> str:
        done = CliRunner().invoke(cli, ["--mesh", str(self.workspace.settings.folder), "insight", *argv])
        assert done.exit_code == code, done.output or done.exception
        return done.output or str(getattr(done.exception, "as_dict", dict)())

    def json(self, *argv: str) -> Any:
        return json.loads(self.run(*argv, "--json"))


@pytest.fixture
def counted(tmp_path: Path) -> Iterator[Counted]:
    workspace = with_versions(Mesh(tmp_path / "mesh"), 1)
    active(workspace, single("v1"))
    generation.unpack(package.get(workspace.database, "calc", "v1"), workspace.settings)
    made = Counted(workspace)
    yield made
    made.collector.stop()
    workspace.database.close()


def calc(at: float | None = None, **more: Any) -> bytes:
    return line(time.time() - 60 if at is None else at, service="calc", path=PREDICT, **more)


def test_each_request_is_counted_once_over_restarts_and_logs_that_are_put_aside(counted: Counted) -> None:
    counted.collector.look()
    assert counted.total() == 0
    counted.asked(calc(), calc())
    counted.collector.look()
    counted.collector.look()
    assert counted.total() == 2
    counted.asked(calc())
    counted.log.rename(counted.log.with_name("gateway-access.1.jsonl"))
    counted.asked(calc(us=77), calc(us=78))
    counted.again()
    counted.collector.look()
    assert counted.total() == 5
    counted.again()
    counted.collector.look()
    assert counted.total() == 5
    state = counted.collector.calls.state()
    assert state is not None
    assert (state.lines, state.unread, state.lost) == (5, 0, 0)


def test_what_could_not_be_written_is_counted_later(
    counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted.asked(*[calc()] * 10)
    with monkeypatch.context() as patch:
        patch.setattr(type(counted.collector.calls), "_add_slow", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            counted.collector.look()
    assert counted.total() == 0
    counted.collector.look()
    assert counted.total() == 10


def test_much_is_written_in_parts_each_with_its_place(
    counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_collector, "LINES_AT_ONCE", 10)
    monkeypatch.setattr(log_place, "CHUNK", 4096)
    counted.asked(*(calc(us=n) for n in range(100)))
    written: list[int] = []
    add = type(counted.collector.calls).add

    def watched(self: Any, batch: Batch, place: Place, *, lost: bool = False) -> None:
        written.append(batch.lines)
        add(self, batch, place, lost=lost)

    monkeypatch.setattr(type(counted.collector.calls), "add", watched)
    counted.collector.look()
    assert sum(written) == counted.total() == 100
    assert len(written) > 3


WRONG = {"code": 401, "details": "invalid_credential_for_basic_auth", "address": "192.0.2.7", "client": None}


def guessed(counted: Counted) -> list[str]:
    found = log.read(counted.workspace.database, subject="gateway")
    return [str(event.data["address"]) for event in found if event.kind == GATEWAY_GUESSED]


def test_who_called_is_noted_by_the_same_reading(counted: Counted) -> None:
    counted.asked(calc(NOON), calc(NOON + 40, client="app-2"), *[calc(NOON, **WRONG)] * guesses.MANY)
    counted.collector.look()
    database = counted.workspace.database
    assert last_used(database) == {("app-1", "calc"): NOON, ("app-2", "calc"): NOON + 40}
    assert guessed(counted) == ["192.0.2.7"]
    counted.asked(calc(NOON + 60))
    counted.again()
    counted.collector.look()
    assert last_used(database)["app-1", "calc"] == NOON + 60


def test_who_calls_is_noted_while_nothing_can_be_counted_and_nothing_twice(
    counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = guesses.MANY // 2 - 1
    database = counted.workspace.database
    counted.asked(calc(NOON), *[calc(NOON, **WRONG)] * few)
    with monkeypatch.context() as patch:
        patch.setattr(type(counted.collector.calls), "_add_slow", lambda *_: 1 / 0)
        for number in range(3):  # it is read again each time, and shown once
            with pytest.raises(ZeroDivisionError):
                counted.collector.look()
            counted.asked(calc(NOON, client=f"more-{number}"))
            counted.collector.show()
        counted.log.rename(counted.log.with_name("gateway-access.1.jsonl"))
        counted.asked(calc(NOON, client="after"), *[calc(NOON, **WRONG)] * few)
        counted.collector.show()
        assert {client for client, _ in last_used(database)} == {
            "app-1",
            "more-0",
            "more-1",
            "more-2",
            "after",
        }
        assert guessed(counted) == []
        counted.asked(calc(NOON, client="last"))
    counted.collector.look()
    assert guessed(counted) == []
    assert ("last", "calc") in last_used(database)
    state = counted.collector.calls.state()
    assert state is not None
    assert (state.lines, state.lost) == (2 * few + 6, 0)
    counted.asked(*[calc(NOON, **WRONG)] * 2)
    counted.collector.look()
    assert guessed(counted) == ["192.0.2.7"]


def test_counts_that_cannot_be_reached_from_the_beginning_keep_nobody_from_being_noted(
    counted: Counted,
) -> None:
    counted.asked(*(calc(NOON, client=f"app-{n}") for n in range(3)))
    counted.collector.calls.file.write_bytes(b"no database" * 1000)
    with pytest.raises(Broken, match="damaged"):
        counted.collector.look()
    counted.collector.show()
    counted.asked(calc(NOON, client="new"))
    counted.collector.show()
    assert len(last_used(counted.workspace.database)) == 4
    counted.collector.calls.file.unlink()
    counted.collector.look()
    state = counted.collector.calls.state()
    assert state is not None
    assert state.lines == 4


def test_who_called_is_written_later_where_it_could_not_be_and_counted_all_the_same(
    counted: Counted, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(last_used_module, "note", lambda *_: 1 / 0)
        for _ in range(3):
            counted.asked(calc())
            counted.collector.look()
    assert counted.total() == 3
    assert caplog.text.count("when callers last called is written down later") == 1
    assert last_used(counted.workspace.database) == {}
    counted.asked(calc(client="app-2"))
    counted.collector.look()
    assert {client for client, _ in last_used(counted.workspace.database)} == {"app-1", "app-2"}


def test_operations_are_those_of_the_deployed_package(counted: Counted) -> None:
    counted.asked(calc(), line(time.time() - 60, service="calc", path="/public/api/v1/calc/../../etc"))
    counted.collector.look()
    found = counted.json("show", "calc")
    assert [(one["name"]["operation"], one["whole"]["requests"]) for one in found["series"]] == [
        ("(other)", 1),
        ("POST /who/run", 1),
    ]
    assert found["series"][0]["points"]


def test_operations_of_an_api_are_those_of_its_document(counted: Counted) -> None:
    declare(Mesh(counted.workspace.settings.folder), ORDERS.replace(", environments: {test: }", ""))
    apply_plan(counted.workspace)
    at = time.time() - 60
    counted.asked(
        line(at, service="orders", method="GET", path="/orders/v2/items/17"),
        line(at, service="orders", path="/orders/v1/who/run"),
        line(at, service="orders", path="/orders/v2/nothing"),
    )
    counted.collector.look()
    found = counted.json("show", "orders")
    assert {one["name"]["operation"] for one in found["series"]} == {
        "GET /items/{id}",
        "POST /who/run",
        "(other)",
    }


def test_what_was_declared_or_unpacked_a_moment_ago_is_known_at_once(counted: Counted) -> None:
    workspace, at = counted.workspace, time.time() - 60
    generation.folder_of(workspace.settings, "calc", "v1").joinpath("openapi.json").rename(
        aside := workspace.settings.folder / "aside.json"
    )

    def asked(service: str, *lines: bytes) -> set[str]:
        counted.asked(*lines)
        counted.collector.look()
        return {one["name"]["operation"] for one in counted.json("show", service)["series"]}

    assert asked("calc", calc()) == {"(other)"}  # nobody can know
    aside.rename(generation.folder_of(workspace.settings, "calc", "v1") / "openapi.json")
    assert asked("calc", calc()) == {"(other)", "POST /who/run"}
    declare(Mesh(workspace.settings.folder), ORDERS.replace(", environments: {test: }", ""))
    apply_plan(workspace)
    item = line(at, service="orders", method="GET", path="/orders/v2/items/17")
    assert asked("orders", item) == {"GET /items/{id}"}


def test_commands_tell_of_it(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    with connect.mesh_client(counted.workspace.settings.folder) as client:
        monkeypatch.setattr(connect, "mesh_client", lambda _: nullcontext(client))
        _tell(counted)


def _tell(counted: Counted) -> None:
    assert "nothing was asked in the last day" in counted.run("show")
    assert "nothing was counted yet" in counted.run("show")
    counted.asked(*[calc(us=2000)] * 98, calc(code=500), calc(code=429, details="request_rate_limited"))
    counted.asked(calc(us=8_000_000, client="other"))
    counted.collector.look()
    shown = counted.run("show")
    assert "calc" in shown
    assert "101" in shown
    assert "1 (1.0%)" in shown
    assert "2 ms" in shown or "2.01 ms" in shown or "1.99 ms" in shown
    assert "app-1" in counted.run("clients", "calc")
    assert "8 s" in counted.run("slow", "calc")
    assert "TooManyRequests" in counted.run("violations")
    by = counted.json("show", "--by", "generation", "--span", "week")
    assert by["series"][0]["name"] == {"service": "calc", "environment": "", "generation": "v1"}
    assert "no forecast" in counted.run("forecast", "calc")
    assert "did you mean 'calc'?" in counted.run("forecast", "cal", code=1)
    assert "there is no environment 'nowhere'" in counted.run("show", "--environment", "nowhere", code=1)
    for command in ("show", "clients"):
        assert "there is no API 'calcc'" in counted.run(command, "calcc", code=1)


def test_services_that_nobody_asks_are_proposed_for_their_end(counted: Counted) -> None:
    calls, workspace = counted.collector.calls, counted.workspace
    with pytest.raises(Conflict, match="calls are counted for 0 days"):
        insight.unused(workspace.settings, workspace.database, calls, days=30, now=time.time())
    counted.asked(calc(), calc(time.time() - 1, client="tulle-portal-01234567"))
    counted.collector.look()
    assert "which says nothing of 30" in counted.run("unused", code=1)
    later = time.time() + 40 * DAY
    (found,) = insight.unused(workspace.settings, workspace.database, calls, days=30, now=later)
    assert (found.service, found.proposal) == ("calc", "tulle service deprecate calc")
    assert 38 <= found.days <= 40
    with pytest.raises(Conflict):
        insight.unused(workspace.settings, workspace.database, calls, days=60, now=later)
    counted.asked(calc(later - 86_400 * 3))
    counted.collector.look()
    assert insight.unused(workspace.settings, workspace.database, calls, days=30, now=later) == []


TWO = """
    api: ext
    versions:
    - {version: v1, upstream: 'https://api.example.com', undeclared: allow, publish: true}
    - {version: v2, upstream: 'https://api.example.com', undeclared: allow, publish: true}
    - {version: v3, service: calc, publish: true}
    - {version: v4, upstream: 'https://api.example.com', undeclared: allow}
"""


@pytest.fixture
def managed(counted: Counted) -> Counted:
    """With an API that is at version v1 and v2 an external service, and at v3 the service `calc`."""
    Mesh(counted.workspace.settings.folder).sales("apis/ext.yaml", TWO)
    apply_plan(counted.workspace)
    return counted


def test_versions_that_nobody_asks_are_proposed_for_their_end(managed: Counted) -> None:
    settings, database, calls = (
        managed.workspace.settings,
        managed.workspace.database,
        managed.collector.calls,
    )
    managed.asked(calc())
    managed.collector.look()
    later = time.time() + 40 * DAY
    said = {"service": "ext", "generation": None, "path": "/ext/v2/items"}
    managed.asked(
        line(later - DAY, version="v2", **said),
        line(later - DAY, **(said | {"version": "v3", "path": "/public/api/v1/calc/who/run"})),
        line(later - DAY, version="v1", **(said | {"client": "tulle-portal-01234567"})),
    )
    managed.collector.look()
    (found,) = insight.unused(settings, database, calls, days=30, now=later)  # v3 is what `calc` is used by
    assert (found.service, found.version, found.environment) == ("ext", "v1", "")
    assert (found.proposal, found.last) == ("tulle api deprecate ext v1", None)
    with database.write() as cx:
        cx.execute(api_versions.update().where(api_versions.c.version == "v1").values(status="deprecated"))
    assert insight.unused(settings, database, calls, days=30, now=later) == []


def test_versions_are_told_apart_and_by_whom_each_is_asked(
    managed: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"service": "ext", "generation": None, "path": "/ext/v1/items"}
    at = time.time() - 60
    managed.asked(
        *(line(at, version="v1", **said) for _ in range(3)),
        *(line(at, version="v2", **(said | {"client": "app-2"})) for _ in range(2)),
        line(at, version="v3", **(said | {"generation": "v7"})),
        line(at, version="v3", **(said | {"reason": "mock", "code": 503, "details": "direct_response"})),
    )
    managed.collector.look()
    with connect.mesh_client(managed.workspace.settings.folder) as client:
        monkeypatch.setattr(connect, "mesh_client", lambda _: nullcontext(client))
        found = managed.json("show", "ext", "--by", "version")
        assert [(one["name"]["version"], one["whole"]["requests"]) for one in found["series"]] == [
            ("v1", 3),
            ("v2", 2),
            ("v3", 2),
        ]
        clients = managed.json("clients", "ext", "--version", "v2")
        assert [one["name"]["client"] for one in clients["series"]] == ["app-2"]
        (slow, *_) = managed.json("slow", "ext", "--version", "v1")
        assert slow["version"] == "v1"
        by = managed.json("show", "ext", "--by", "generation", "--version", "v3")
        assert {one["name"]["generation"] for one in by["series"]} == {"v7", "(mock)"}
        assert managed.json("violations", "ext") == []  # an example is an answer, whatever its status
        limited = said | {"code": 429, "details": "request_rate_limited"}
        managed.asked(*(line(at, version=version, **limited) for version in ("v1", "v1", "v2")))
        managed.collector.look()
        apart = managed.json("violations", "ext", "--by", "version")
        assert [(one["version"], one["kind"], one["requests"]) for one in apart] == [
            ("v1", "TooManyRequests", 2),
            ("v2", "TooManyRequests", 1),
        ]
        assert [one["requests"] for one in managed.json("violations", "ext", "--version", "v2")] == [1]
        both = managed.run("violations", "ext", "--by", "generation", "--by", "version")
        assert both.split()[:4] == ["SERVICE", "ENVIRONMENT", "VERSION", "GENERATION"]
        state = ApiClient(client)
        assert state.status("ext")["month"]["requests"] == 10
        assert state.status("ext", "v2")["month"]["requests"] == 3
        with pytest.raises(NotFound, match="no version 'v9'"):
            state.status("ext", "v9")


def test_what_an_api_may_be_asked_has_no_workers(managed: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time() // HOUR * HOUR
    cells = {
        (int(now - hour * HOUR), Key("ext", "", "(other)", "", "app-1", "v1")): Cell(
            [360, 360, 0, 0, 0, 0, 0, 0, 360_000], {160: 360}
        )
        for hour in range(1, 10 * 24)
    }
    managed.collector.calls.add(Batch.of(cells), Place("f", 1))
    with connect.mesh_client(managed.workspace.settings.folder) as client:
        monkeypatch.setattr(connect, "mesh_client", lambda _: nullcontext(client))
        told = managed.json("forecast", "ext")
        assert (told["capacity"], told["patterns"]["why_not"]) == (None, "")
        shown = managed.run("forecast", "ext")
    assert "the next 168 hours: about" in shown
    assert "with about 360 requests" in shown
    assert "worker" not in shown


def test_the_next_week_and_its_workers(counted: Counted) -> None:
    now = time.time() // HOUR * HOUR
    cells: dict[tuple[int, Key], Cell] = {}
    for hour in range(1, 22 * 24):
        at = int(now - hour * HOUR)
        number = 36_000 if at // HOUR % 24 == 9 else 360
        key = Key("calc", "", "POST /who/run", "v1", "app-1")
        cells[at, key] = Cell([number, number, 0, 0, 0, 0, 0, 0, number * 10_000], {235: number})
    counted.collector.calls.add(Batch.of(cells), Place("f", 1))
    found = insight.outlook(
        counted.workspace.settings, counted.workspace.database, counted.collector.calls, "calc", now=now
    )
    assert found.patterns.busiest_hour == 9
    assert found.patterns.forecast is not None
    assert found.patterns.forecast.error < 0.05
    assert found.capacity is not None
    # ten milliseconds each leave a worker idle two fifths of the time at 60 a second; all came in one minute
    assert found.capacity.rate_per_worker == pytest.approx(60)
    assert insight.AIM == autoscale.AIM
    assert found.capacity.workers == 10
    told = insight.outlook(
        counted.workspace.settings,
        counted.workspace.database,
        counted.collector.calls,
        "calc",
        rate_per_worker=5000,
        now=now,
    )
    assert told.capacity is not None
    assert told.capacity.workers == 1
    shown = counted.run("forecast", "calc")
    assert "10 workers instead of 1" in shown
    assert "wrong by" in shown
    with pytest.raises(Invalid):
        insight.outlook(
            counted.workspace.settings,
            counted.workspace.database,
            counted.collector.calls,
            "calc",
            rate_per_worker=-1,
            now=now,
        )
    with pytest.raises(NotFound):
        insight.outlook(
            counted.workspace.settings,
            counted.workspace.database,
            counted.collector.calls,
            "calc",
            "nowhere",
            now=now,
        )


def test_the_thread_counts_judges_and_ends(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_collector, "EVERY_SECONDS", 0.02)
    judged: list[float] = []
    began = time.time()
    counted.collector = CallCollector(counted.workspace, counted=judged.append)
    counted.collector.start()
    counted.asked(*[calc()] * 7)
    until = time.monotonic() + 30
    while counted.total() < 7 or not judged or not last_used(counted.workspace.database):
        assert time.monotonic() < until
        time.sleep(0.02)
    counted.collector.stop()
    assert counted.total() == 7
    assert all(began <= at <= time.time() for at in judged)
    assert not counted.collector._thread.is_alive()


def test_a_failing_look_ends_nothing(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_collector, "EVERY_SECONDS", 0.02)
    monkeypatch.setattr(call_collector, "AGAIN_SECONDS", 0.02)
    failed: list[float] = []

    def judge(at: float) -> None:
        failed.append(at)
        raise ValueError("not yet")

    counted.collector = CallCollector(counted.workspace, counted=judge)
    counted.collector.start()
    until = time.monotonic() + 30
    while len(failed) < 3:
        assert time.monotonic() < until
        time.sleep(0.02)
    counted.collector.stop()
