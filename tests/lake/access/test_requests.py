"""The log of requests: every line arrives, files are rotated, nobody waits."""

import json
import stat
import threading
import time
from types import SimpleNamespace

import pytest

from tulle.lake.access import AccessLog, requests


@pytest.fixture
def made(tmp_path):
    logs = []

    def make(**more):
        log = AccessLog(tmp_path / "log", "lake-api", **more)
        logs.append(log)
        return log

    yield make
    for log in logs:
        log.close()


def lines(tmp_path, name="lake-api.jsonl"):
    return [json.loads(line) for line in (tmp_path / "log" / name).read_text().splitlines()]


def test_a_request_is_one_line_without_headers_or_query(made, tmp_path):
    log = made()
    request = SimpleNamespace(
        client="10.0.0.1",
        method="GET",
        path="/api/v1/x\n\udc80",
        headers={"authorization": "Basic c2VjcmV0"},
        raw_query=b"signature=hush",
    )
    log.request("ann", request, "getObject", 200, 0.0123)
    log.close()
    (line,) = lines(tmp_path)
    assert line.pop("at") == pytest.approx(time.time(), abs=5)
    assert line == {
        "user": "ann",
        "client": "10.0.0.1",
        "method": "GET",
        "path": "/api/v1/x\n\udc80",
        "operation": "getObject",
        "status": 200,
        "ms": 12.3,
    }
    text = (tmp_path / "log" / "lake-api.jsonl").read_text()
    assert "c2VjcmV0" not in text
    assert "hush" not in text


def test_the_files_are_their_owners_alone(made, tmp_path):
    log = made()
    log.write(status=1)
    log.close()
    assert stat.S_IMODE((tmp_path / "log" / "lake-api.jsonl").stat().st_mode) == 0o600


def test_it_is_rotated_by_size_and_keeps_so_many_files(made, tmp_path):
    log = made(file_bytes=2000, files=3)
    for number in range(200):
        log.write(number=number, filler="x" * 100)
        if number % 10 == 9:
            log.close()
    log.close()
    assert sorted(each.name for each in (tmp_path / "log").iterdir()) == [
        "lake-api.1.jsonl",
        "lake-api.2.jsonl",
        "lake-api.jsonl",
    ] or sorted(each.name for each in (tmp_path / "log").iterdir()) == [
        "lake-api.1.jsonl",
        "lake-api.2.jsonl",
    ]
    newest = lines(tmp_path, "lake-api.1.jsonl")
    older = lines(tmp_path, "lake-api.2.jsonl")
    assert older[-1]["number"] + 1 == newest[0]["number"]


def test_a_line_is_soon_on_disk_while_others_come(made, tmp_path):
    log, began = made(), time.monotonic()
    while time.monotonic() - began < 0.6:
        log.write(status=200)
        time.sleep(0.01)
    assert len(lines(tmp_path)) > 10


def test_writing_costs_a_request_little_and_what_is_too_much_is_counted(made, tmp_path, monkeypatch):
    log = made()
    append = log._append
    monkeypatch.setattr(log, "_append", lambda waiting: (time.sleep(0.05), append(waiting)))
    began = time.perf_counter()
    for number in range(12_000):
        log.write(number=number)
    assert (time.perf_counter() - began) / 12_000 < 0.001
    log.close()
    found = lines(tmp_path)
    dropped = sum(line.get("dropped", 0) for line in found)
    assert len([line for line in found if "number" in line]) + dropped == 12_000


def test_a_folder_that_cannot_be_written_stops_no_request(tmp_path, caplog):
    (tmp_path / "log").write_text("a file")
    log = AccessLog(tmp_path / "log", "lake-api")
    log.write(status=200)
    log.close()
    assert "cannot be written" in caplog.text


def test_a_log_that_nobody_writes_to_has_no_thread_and_loses_no_line(made, tmp_path, monkeypatch):
    monkeypatch.setattr(requests, "GATHER_SECONDS", 0.0005)
    monkeypatch.setattr(requests, "IDLE_ROUNDS", 0)
    log = made()

    def write(number):
        for line in range(100):
            log.write(line=(number, line))
            time.sleep(0.0005 * (line % 4))  # now it ends between two lines, now it does not

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    deadline = time.monotonic() + 20
    while log._thread is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert sorted(line["line"] for line in lines(tmp_path)) == [[n, i] for n in range(4) for i in range(100)]
    log.write(line="and one more")
    log.close()
    assert lines(tmp_path)[-1]["line"] == "and one more"
