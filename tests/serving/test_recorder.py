"""A worker's part of the query log: what is noted is in segments, whatever happens, and nobody waits for it."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from tests.serving.test_worker import running, start

from tulle.serving import log_segment, recorder
from tulle.serving.log_segment import (
    CLOSED,
    OPEN,
    QUERIES,
    Record,
    SegmentHeader,
    SegmentWriter,
    Told,
    complete,
    read_segment,
)
from tulle.serving.recorder import Recorder, is_sampled

HEADER = SegmentHeader("s", "v1", "v1", [])
RECORD = Record(0, 5, 7, "r", 200, b"till", None, b"{}", b"{}", [1, None, "x"], b"contract")


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def note(log: Recorder, number: int, content: Any = b"{}") -> None:
    log.note(0, time.perf_counter_ns(), 1000, f"r{number}", 200, None, None, None, content, b"{}", None)


def test_an_open_segment_is_left_alone_and_one_that_was_cut_short_is_read(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path, "1", HEADER)
    for _ in range(3):
        writer.add(QUERIES, [RECORD])
    assert complete(tmp_path) == []
    final = writer.close()
    assert complete(tmp_path) == [final]
    assert list(read_segment(final).records) == [RECORD] * 3
    older = {**msgspec.structs.asdict(RECORD), "way": None}  # as before there was a way
    writer = SegmentWriter(tmp_path, "0", HEADER)
    writer.add(QUERIES, [list(older.values())[:-1]])
    before = writer.close()
    assert list(read_segment(before).records) == [Record(**older)]
    before.unlink()
    data = final.read_bytes()
    final.write_bytes(data[:-1])
    assert len(read_segment(final).records) == 2
    final.write_bytes(data[:-1] + b"\0")
    assert len(read_segment(final).records) == 2
    final.write_bytes(data[:5])
    assert read_segment(final).header is None
    final.rename(tmp_path / f"2{OPEN}")  # as whoever was killed leaves it
    assert complete(tmp_path) == [tmp_path / f"2{OPEN}"]
    assert oct((tmp_path / f"2{OPEN}").stat().st_mode)[-3:] == "600"


def test_nothing_is_lost_when_it_ends_in_order(tmp_path: Path) -> None:
    log = Recorder(tmp_path, "s", "v1", "v1")
    log.start()
    for number in range(1000):
        note(log, number)
    log.close()
    found = [record.request_id for path in complete(tmp_path) for record in read_segment(path).records]
    assert found == [f"r{number}" for number in range(1000)]
    assert (log.written, log.dropped) == (1000, 0)


def test_what_cannot_be_written_is_dropped_and_counted(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    log = Recorder(tmp_path / "taken", "s", "v1", "v1")  # a file: there can be no folder
    log.start()
    note(log, 0)
    until(lambda: log.dropped == 1)
    (tmp_path / "taken").unlink()
    note(log, 1)
    log.close()
    (path,) = complete(tmp_path / "taken")
    segment = read_segment(path)
    assert ([record.request_id for record in segment.records], segment.dropped) == (["r1"], 1)


def test_a_folder_that_goes_is_made_anew(tmp_path: Path) -> None:
    log = Recorder(tmp_path / "log", "s", "v1", "v1")
    note(log, 0)
    log.start()
    until(lambda: log.written == 1)
    shutil.rmtree(tmp_path / "log")  # as when all that was kept of a service is deleted
    until(lambda: log._writer is None)  # it was to get its final name
    note(log, 1)
    log.close()
    (path,) = complete(tmp_path / "log")
    assert [record.request_id for record in read_segment(path).records] == ["r1"]


def test_memory_and_disk_have_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "WAITING_BYTES", 1000)
    monkeypatch.setattr(recorder, "CONTENT_BYTES", 300)
    monkeypatch.setattr(recorder, "BATCH", 1)
    log = Recorder(tmp_path, "s", "v1", "v1")
    for number in range(10):
        note(log, number, b"x" * 301 if number == 0 else b"y" * 150)
    log.start()
    log.close()
    (path,) = complete(tmp_path)
    segment = read_segment(path)
    assert (len(segment.records), segment.dropped) == (7, 3)
    assert [record.content for record in segment.records[:2]] == [None, b"y" * 150]

    monkeypatch.setattr(recorder, "FOLDER_BYTES", 10)
    full = Recorder(tmp_path, "s", "v1", "v1")
    note(full, 0)
    full.start()
    full.close()
    assert (full.written, full.dropped) == (0, 1)
    assert complete(tmp_path) == [path]


def test_requests_are_encoded_together_and_a_large_one_at_once(tmp_path: Path) -> None:
    log = Recorder(tmp_path, "s", "v1", "v1")
    for number in range(recorder.BATCH + 5):
        note(log, number)
    assert len(log.pending) == 5
    note(log, recorder.BATCH + 5, b"x" * (recorder.BATCH_BYTES + 1))
    assert not log.pending
    log.start()
    log.close()
    (path,) = complete(tmp_path)
    found = [record.request_id for record in read_segment(path).records]
    assert found == [f"r{number}" for number in range(recorder.BATCH + 6)]


def test_of_requests_put_by_only_the_one_that_cannot_be_written_is_dropped(tmp_path: Path) -> None:
    log = Recorder(tmp_path, "s", "v1", "v1")
    for number, rows in enumerate([[1], [object()], ["x"]]):
        log.note(0, 1, 2, f"r{number}", 200, None, None, None, b"{}", b"{}", rows)
    log.start()
    log.close()
    (path,) = complete(tmp_path)
    segment = read_segment(path)
    assert ([record.rows for record in segment.records], segment.dropped) == ([[1], ["x"]], 1)


def test_a_share_is_the_same_for_every_generation() -> None:
    ids = [f"request-{number}" for number in range(10_000)]
    chosen = {id_ for id_ in ids if is_sampled(id_, 0.1)}
    assert 900 < len(chosen) < 1100
    assert chosen <= {id_ for id_ in ids if is_sampled(id_, 0.2)}
    assert not any(is_sampled(id_, 0.0) for id_ in ids)


def test_a_worker_logs_and_is_killed(predictor_folder: Path, tmp_path: Path) -> None:
    def called(line: str, number: int) -> None:
        url = re.findall(r"answers on (\S+)", line)[0]
        answer = httpx.post(
            f"http://{url}/public/api/v1/high-value-predictor/high-value/predict",
            json={"features": {"customer_id": "00003"}},
            headers={"x-request-id": f"r{number}", "x-tulle-client": "till", "host": "any-shadow"},
        )
        assert answer.status_code == 200

    ended, killed = tmp_path / "ended", tmp_path / "killed"
    with running(predictor_folder, "--port", "0", "--log-folder", str(ended)) as (_, line):
        called(line, 0)
    (path,) = complete(ended)
    (record,) = read_segment(path).records
    assert (record.request_id, record.caller, record.host) == ("r0", b"till", b"any-shadow")
    assert record.rows == [9, 22, 5.25]

    process = start(predictor_folder, "--port", "0", "--log-folder", str(killed))
    assert process.stderr is not None
    called(process.stderr.readline(), 1)
    # It is with the system after a fifth of a second.
    until(lambda: [one for path in killed.glob("*") for one in read_segment(path).records])
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    (path,) = complete(killed)
    assert [one.request_id for one in read_segment(path).records] == ["r1"]


def test_what_cannot_be_written_is_counted_and_harms_no_other(tmp_path: Path) -> None:
    log = Recorder(tmp_path, "s", "v1", "v1")
    note(log, 1)
    log.note(0, 0, 0, "r2", 200, None, None, None, b"{}", b"{}", ["a", object()])
    note(log, 3)
    log.start()
    log.close()
    (path,) = complete(tmp_path)
    segment = read_segment(path)
    assert [record.request_id for record in segment.records] == ["r1", "r3"]
    assert (segment.dropped, log.written, log.dropped) == (1, 2, 1)


def test_a_full_disk_leaves_neither_files_nor_handles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "no space left on device")

    folder = tmp_path / "log"
    log = Recorder(folder, "s", "v1", "v1")
    before = len(list(Path("/proc/self/fd").iterdir()))
    with monkeypatch.context() as patched:
        patched.setattr(log_segment.os, "write", full)
        for number in range(5):
            note(log, number)
            log._write()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert list(folder.iterdir()) == []
    write = os.write

    def nearly_full(handle: int, data: Any) -> int:  # the beginning of a segment is all there is room for
        return write(handle, data) if len(data) < 100 else full()

    with monkeypatch.context() as patched:
        patched.setattr(log_segment.os, "write", nearly_full)
        for number in range(5):
            note(log, number, b"x" * 100)
            log._write()
    assert list(folder.iterdir()) == []
    note(log, 9)
    log._write(final=True)
    (path,) = complete(folder)
    segment = read_segment(path)
    assert ([record.request_id for record in segment.records], segment.dropped) == (["r9"], 10)


def test_a_part_that_nobody_would_read_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_segment, "MOST_FRAME", 2000)
    log = Recorder(tmp_path, "s", "v1", "v1")
    note(log, 0, b"x" * 3000)
    log._write()
    note(log, 1)
    log._write(final=True)
    (path,) = complete(tmp_path)
    segment = read_segment(path)
    assert ([record.request_id for record in segment.records], segment.dropped) == (["r1"], 1)


def test_the_end_of_a_segment_may_be_zeros(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path, "1", HEADER)
    writer.add(QUERIES, [RECORD])
    final = writer.close()
    final.write_bytes(final.read_bytes() + bytes(4096))  # as a machine that fails may leave it
    assert list(read_segment(final).records) == [RECORD]


def test_a_segment_that_is_just_begun_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"1{OPEN}"
    path.touch()  # made, and not locked yet
    assert complete(tmp_path) == []
    os.utime(path, (0, 0))  # who began it was killed
    assert complete(tmp_path) == [path]
    path.write_bytes(b"x")
    lock = log_segment.fcntl.flock

    def late(handle: int, how: int) -> None:  # it got its final name after it was opened
        path.rename(path.with_suffix(CLOSED))
        lock(handle, how)

    monkeypatch.setattr(log_segment.fcntl, "flock", late)
    assert complete(tmp_path) == []


def test_a_segment_that_is_collected_meanwhile_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "_files", lambda folder: [folder / f"gone{CLOSED}"])
    log = Recorder(tmp_path, "s", "v1", "v1")
    note(log, 0)
    log._write(final=True)
    assert (log.written, log.dropped) == (1, 0)


def test_what_is_told_is_kept_while_it_is_open_only(tmp_path: Path) -> None:
    told = [Told(1, "r", 0, b"1", None)]

    async def tell(log: Recorder) -> bool:
        return await asyncio.wait_for(log.tell(told), 10)

    log = Recorder(tmp_path, "s", "v1", "v1")
    assert asyncio.run(tell(log)) is False  # nobody writes
    log.start()
    assert asyncio.run(tell(log)) is True
    log.close()
    assert asyncio.run(tell(log)) is False
    (path,) = complete(tmp_path)
    assert list(read_segment(path).told) == told
