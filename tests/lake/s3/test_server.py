"""A few requests through a real server: bodies in pieces, 100-continue, keep-alive, a caller that hangs up."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from tests.lake.s3.client import Signer, sha256
from tests.lake.s3.permits import Permits

from tulle.lake.repository import Lake, Repository
from tulle.lake.s3 import s3_application

DATA = bytes(range(256)) * 20_000  # 5 MB


@pytest.fixture
def port(lake: Lake, repository: Repository, permits: Permits) -> Iterator[int]:
    """The port of a door in a server of its own thread."""
    config = uvicorn.Config(s3_application(lake, permits, threads=2), log_level="error", access_log=False)
    server = uvicorn.Server(config)
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield sock.getsockname()[1]
    server.should_exit = True
    thread.join(10)
    sock.close()


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, data: bytes = b"", content: str = ""
) -> tuple[int, bytes, dict[str, str]]:
    host = f"{connection.host}:{connection.port}"
    headers = Signer().sign(method, path, [], {"host": host}, content or sha256(data))
    connection.request(method, path, data, headers)
    answer = connection.getresponse()
    return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}


def test_large_and_small_over_one_connection(port: int, repository: Repository) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    assert ask(connection, "PUT", "/sales/main/big", DATA)[0] == 200
    assert ask(connection, "PUT", "/sales/main/small", b"x")[0] == 200
    assert ask(connection, "GET", "/sales/main/big")[1] == DATA
    status, body, headers = ask(connection, "HEAD", "/sales/main/big")
    assert (status, body, headers["content-length"]) == (200, b"", str(len(DATA)))
    assert ask(connection, "GET", "/sales/main/none")[0] == 404
    assert ask(connection, "PUT", "/sales/main/no", DATA, sha256(b"other"))[0] == 400
    assert ask(connection, "GET", "/sales/main/small")[1] == b"x"  # the connection lives on
    connection.close()
    assert not repository.exists("main", "no")


def test_a_caller_that_waits_to_be_let_on(port: int, repository: Repository) -> None:
    headers = Signer().sign("PUT", "/sales/main/a", [], {"host": f"127.0.0.1:{port}"}, "UNSIGNED-PAYLOAD")
    headers |= {"content-length": "5", "expect": "100-continue"}
    with socket.create_connection(("127.0.0.1", port), timeout=30) as line:
        head = (
            "PUT /sales/main/a HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in headers.items()) + "\r\n"
        )
        line.sendall(head.encode())
        assert line.recv(1000).startswith(b"HTTP/1.1 100")
        line.sendall(b"hello")
        assert line.recv(1000).startswith(b"HTTP/1.1 200")
    assert repository.get("main", "a") == b"hello"


def test_a_caller_that_hangs_up_leaves_nothing(port: int, repository: Repository) -> None:
    headers = Signer().sign("PUT", "/sales/main/a", [], {"host": f"127.0.0.1:{port}"}, "UNSIGNED-PAYLOAD")
    with socket.create_connection(("127.0.0.1", port), timeout=30) as line:
        head = "PUT /sales/main/a HTTP/1.1\r\n" + "".join(
            f"{n}: {v}\r\n" for n, v in (headers | {"content-length": "3000000"}).items()
        )
        line.sendall(head.encode() + b"\r\n" + b"x" * 2_000_000)
    until = time.time() + 10
    store = repository.reader.blobs
    while list(store.list(f"{repository.record.storage}/data")) and time.time() < until:
        time.sleep(0.05)
    assert not repository.exists("main", "a")
    assert not list(store.list(f"{repository.record.storage}/data"))
