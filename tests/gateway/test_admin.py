"""Asking Envoy when there is none, or something else; the real one answers in test_envoy."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tulle.errors import Unavailable
from tulle.gateway.admin import Admin, Taken


@contextmanager
def answering(path: Path, *answers: bytes) -> Iterator[list[bytes]]:
    """A socket that answers requests with these bytes in turn; yields what was asked."""
    asked: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            for answer in answers:
                wire, _ = listening.accept()
                with wire:
                    asked.append(wire.recv(10_000))
                    wire.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield asked
        finally:
            thread.join()


def http(text: str, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(text)}\r\n\r\n{text}".encode()


def test_no_socket_or_nobody_behind_it_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        Admin(tmp_path, "admin.sock").get("/ready")
    with pytest.raises(Unavailable):
        Admin(tmp_path / ("x" * 90), "admin.sock").get("/ready")
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(tmp_path / "admin.sock"))
    with pytest.raises(Unavailable, match="does not answer"):
        Admin(tmp_path, "admin.sock").get("/ready")


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", http("not now", "503 Service Unavailable")])
def test_an_answer_that_is_none_is_unavailable(tmp_path: Path, answer: bytes) -> None:
    with answering(tmp_path / "a.sock", answer), pytest.raises(Unavailable):
        Admin(tmp_path, "a.sock").get("/ready")


def test_statistics_are_read_by_name(tmp_path: Path, free_port: Callable[[], int]) -> None:
    versions = 'a.version_text: "abc"\nb.version_text: ""\nnoise\nother.text: "x"\n'
    refused = "a.update_rejected: 1\na.update_failure: 2\n"  # those that are zero are not told
    with answering(tmp_path / "a.sock", http(versions), http(refused)) as asked:
        taken = Admin(tmp_path, "a.sock").taken({"one": "a", "two": "b"})
    assert taken == {"one": Taken("abc", 3), "two": Taken("", 0)}
    assert b"GET /stats?type=TextReadouts " in asked[0]
    assert b"GET /stats?type=Counters&usedonly&filter=%5E%28a%7Cb%29" in asked[1]


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [
        ([b'a.version_text: "2"\n'], "taken"),
        ([b'a.version_text: "1"\n'] * 4 + [b"a.update_rejected: 1\n"], "refused"),
        ([b'a.version_text: "1"\n', b'a.version_text: "2"\n'], "taken"),
        ([b'a.version_text: "1"\n'], "ended"),
    ],
)
@pytest.mark.parametrize("before", [0, 7])  # another process counts anew
def test_what_becomes_of_a_file_is_waited_for(
    tmp_path: Path, answers: list[bytes], outcome: str, before: int
) -> None:
    with answering(tmp_path / "a.sock", *(http(one.decode()) for one in answers)):
        admin = Admin(tmp_path, "a.sock", timeout=0.5)
        # one more is asked of nobody
        assert admin.outcome("a", Taken("1", before), "2", 10) == outcome


def test_clusters_are_taken_when_they_are_warm(tmp_path: Path) -> None:
    cds = "cluster_manager.cds"
    version, cold = f'{cds}.version_text: "2"\n', "cluster_manager.warming_clusters: 1\n"
    answers = [http(one) for one in (version, cold, version, cold.replace("1", "0"))]
    with answering(tmp_path / "a.sock", *answers) as asked:
        assert Admin(tmp_path, "a.sock").outcome(cds, Taken("1", 0), "2", 10) == "taken"
    assert len(asked) == 4
