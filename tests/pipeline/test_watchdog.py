"""The end of a run that takes too long."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tulle.errors import TulleError, Unavailable
from tulle.pipeline.watchdog import Watchdog


def test_the_process_ends_also_when_nobody_can_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    monkeypatch.setattr(Watchdog, "end_process", lambda _self: ended.set())

    def away(_error: TulleError) -> Any:
        raise Unavailable("the database is busy")

    with Watchdog(away, 0):
        assert ended.wait(30)
