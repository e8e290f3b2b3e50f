"""What is counted is written down, and is there again; whatever becomes of the file, counting goes on."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from tulle.gateway.processing.window_file import WindowFile
from tulle.gateway.processing.windows import Window, Windows
from tulle.spec.rate_limit import RateLimit

LIMITS = [Window(RateLimit.parse("3/1h"), "fixed")]


def take(windows: Windows, times: int = 1, key: str = "a") -> int:
    return sum(windows.take(key, LIMITS, 1000.0).is_let_on for _ in range(times))


def test_counts_survive_an_end_in_order(tmp_path: Path) -> None:
    file = WindowFile(tmp_path / "sub/counts.db")
    assert take(file.windows("p"), 2) == 2
    assert take(file.windows("q"), 1) == 1
    file.close()
    again = WindowFile(tmp_path / "sub/counts.db")
    assert take(again.windows("p"), 5) == 1
    assert take(again.windows("q"), 5) == 2
    assert (tmp_path / "sub/counts.db").stat().st_mode & 0o777 == 0o600
    again.close()


def test_counts_are_written_down_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tulle.gateway.processing.window_file.WRITE_SECONDS", 0.01)
    file = WindowFile(tmp_path / "counts.db")
    take(file.windows("p"), 2)

    async def run() -> None:
        keeping = asyncio.create_task(file.keep())
        for _ in range(500):
            await asyncio.sleep(0.01)
            other = WindowFile(tmp_path / "counts.db")  # as after a kill: nothing was closed
            if take(other.windows("p"), 5) == 1:
                break
        else:
            pytest.fail("nothing was written down")
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping

    asyncio.run(run())
    file.close()


def test_a_damaged_file_is_put_aside_and_counting_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "counts.db"
    path.write_bytes(b"no database at all" * 1000)
    file = WindowFile(path)
    assert take(file.windows("p"), 5) == 3
    file.close()
    assert path.with_suffix(".damaged").exists()
    again = WindowFile(path)
    assert take(again.windows("p")) == 0
    again.close()


def test_a_file_that_cannot_be_written_hinders_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "counts.db"
    path.mkdir()
    file = WindowFile(path)
    assert take(file.windows("p"), 5) == 3
    file.close()
    assert str(path) in caplog.text
    path.rmdir()  # and what was counted meanwhile is written once it can be
    file.close()
    again = WindowFile(path)
    assert take(again.windows("p")) == 0
    again.close()


def test_damaged_counts_are_none(tmp_path: Path) -> None:
    file = WindowFile(tmp_path / "counts.db")
    take(file.windows("p"))
    file.close()
    file = WindowFile(tmp_path / "counts.db")
    with file._opened() as connection:
        connection.execute("UPDATE counts SET counts = x'ff'")
    assert take(file.windows("p"), 5) == 3
    file.close()
