"""When queries are collected, and that much of it is a process of its own with the same outcome."""

from __future__ import annotations

import logging

import pytest
from tests.control.logged import LoggedMesh
from tests.control.test_query_log import logged  # noqa: F401  a fixture

from tulle.catalog.query_log import repository_name
from tulle.control import query_collector
from tulle.control.query_collector import Collector
from tulle.control.query_log import waiting_bytes

ASKED = [
    ("/buys/predict", {"features": {"who": "00003"}}),
    ("/person/lookup", {"data": {"customer_id": "00003"}}),
]


@pytest.mark.parametrize("apart", [False, True])
def test_what_is_left_is_collected(logged: LoggedMesh, monkeypatch: pytest.MonkeyPatch, apart: bool) -> None:  # noqa: F811
    monkeypatch.setattr(query_collector, "APART_BYTES", 0 if apart else 1 << 30)
    logged.ask(ASKED)
    assert waiting_bytes(logged.workspace, "scores") > 0
    Collector(logged.workspace).look("scores")
    assert waiting_bytes(logged.workspace, "scores") == 0
    assert [row["endpoint"] for row in logged.rows()] == ["buys", "person"]


def test_a_place_is_left_alone_for_a_while_unless_there_is_much(
    logged: LoggedMesh,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    collector = Collector(logged.workspace)
    collector.look("scores")
    logged.ask(ASKED)
    collector.look("scores")
    assert waiting_bytes(logged.workspace, "scores") > 0
    monkeypatch.setattr(query_collector, "COLLECT_BYTES", 0)
    collector.look("scores")
    assert waiting_bytes(logged.workspace, "scores") == 0


def test_a_process_that_fails_says_why(
    logged: LoggedMesh,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(query_collector, "APART_BYTES", 0)
    logged.ask(ASKED)
    lake = logged.workspace.lake
    lake.create_repository(repository_name("scores"))
    with caplog.at_level(logging.WARNING):
        Collector(logged.workspace).look("scores")
    assert "the queries of 'scores' are collected later" in caplog.text
    assert "is somebody else's" in caplog.text
    assert waiting_bytes(logged.workspace, "scores") > 0
