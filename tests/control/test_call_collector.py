"""The reader of the access log while the gateway writes faster than it reads."""

from __future__ import annotations

import threading
import time

import pytest
from tests.control.test_insight import Counted, calc, counted
from tests.observe.lines import NOON

from tulle.control import call_collector
from tulle.control.call_collector import CallCollector
from tulle.gateway import access_log, log_place
from tulle.gateway.last_used import last_used
from tulle.gateway.log_line import LineReader, Lines
from tulle.observe.calls import State

__all__ = ["counted"]  # a fixture


class Door:
    """An admin door of a gateway that opens its log anew at each line."""

    def get(self, _: str) -> str:
        return "LIVE"

    def post(self, _: str) -> str:
        return "OK"


def test_a_look_ends_in_time_and_says_up_to_when_it_counted(
    counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_place, "CHUNK", 4096)
    counted.asked(*(calc(NOON + n) for n in range(100)))
    until = counted.collector.look(NOON + 1000, seconds=0)
    state = counted.collector.calls.state()
    assert state is not None
    assert 0 < state.lines < 20
    assert until == state.latest == pytest.approx(NOON + state.lines - 1, abs=0.01)
    assert counted.collector.look(NOON + 1, seconds=0) == NOON + 1  # what is counted already is of later
    assert counted.collector.look(NOON + 1000) == NOON + 1000
    counted.asked(*(calc(NOON + n, client=f"app-{n}") for n in range(100, 200)))
    shown = []
    for _ in range(2):
        counted.collector.show(seconds=0)
        shown.append(len(last_used(counted.workspace.database)))
    assert 1 < shown[0] < shown[1] < 40


def test_what_cannot_be_read_leaves_it_unknown_up_to_when_it_counted(
    counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_place, "CHUNK", 4096)
    counted.asked(*[b"no line" * 100] * 20)
    assert counted.collector.look(NOON, seconds=0) == 0
    assert counted.collector.look(NOON) == NOON


def test_a_log_that_grows_faster_than_it_is_read_stays_bounded_and_what_is_lost_is_said(
    counted: Counted, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(call_collector, "EVERY_SECONDS", 0.02)
    monkeypatch.setattr(call_collector, "LOOK_SECONDS", 0)
    monkeypatch.setattr(log_place, "CHUNK", 4096)
    monkeypatch.setattr(access_log, "LARGEST", 40_000)
    judged: list[float] = []
    counted.collector = CallCollector(counted.workspace, counted=judged.append)
    counted.collector._admin = Door()  # type: ignore[assignment]
    read, written, stays = LineReader.read, [0], threading.Event()

    def grows(reader: LineReader, data: bytes) -> Lines:
        if not stays.is_set():
            counted.asked(*[calc()] * 60)  # some 24,000 bytes for 4,096
            written[0] += 60
        return read(reader, data)

    monkeypatch.setattr(LineReader, "read", grows)
    counted.asked(*[calc()] * 30)
    counted.collector.start()

    def state() -> State | None:
        return counted.collector.calls.state()

    until = time.monotonic() + 30
    while (found := state()) is None or found.lost < 2 or written[0] < 1500:  # some 600,000 bytes
        assert time.monotonic() < until
        time.sleep(0.02)
    files = [*counted.log.parent.glob("gateway-access*.jsonl")]
    assert len(files) <= access_log.KEPT + 1
    assert all(file.stat().st_size < 80_000 for file in files)
    assert len(judged) > 3
    with counted.collector.calls.read() as cx:
        assert cx.execute("SELECT count(*) FROM alive").fetchone()[0] > 0
    stays.set()
    stopped = time.time()
    while judged[-1] < stopped:  # it has come to the end
        assert time.monotonic() < until
        time.sleep(0.02)
    counted.collector.stop()
    assert 0 < counted.total() < written[0] + 30
    said = [one.getMessage() for one in caplog.records if "is not all counted" in one.getMessage()]
    assert len(said) == counted.collector.calls.state().lost  # type: ignore[union-attr]
    assert said[0].startswith("what services were asked after 20")
    assert "Traceback" not in caplog.text
