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


def sent(port: int, head: list[str], body: bytes = b"", *, torn: bool = False) -> tuple[int, str]:
    """The status and S3 code of the answer to exactly these bytes, 0 for none; `torn`: nothing comes after them."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as line:
        line.sendall("\r\n".join([*head, "", ""]).encode("latin-1") + body)
        if torn:
            line.shutdown(socket.SHUT_WR)
        answer = b""
        while data := line.recv(65536):
            answer += data
    code = answer.partition(b"<Code>")[2].partition(b"</Code>")[0].decode()
    return (int(answer.split()[1]) if answer else 0), code


def lines(port: int, method: str, path: str, query: str = "", *more: str, **headers: str) -> list[str]:
    """The lines of a signed request with no words about its length but those that are given."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    pairs = [(name, value) for name, _, value in (part.partition("=") for part in query.split("&") if part)]
    full = Signer().sign(method, path, pairs, {"host": f"127.0.0.1:{port}", **named}, "UNSIGNED-PAYLOAD")
    asked = f"{path}?{query}" if query else path
    full["connection"] = "close"
    return [f"{method} {asked} HTTP/1.1", *(f"{name}: {value}" for name, value in full.items()), *more]


CHUNKED = b"5\r\nhello\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("more", "body", "expected"),
    [
        (["content-length: 5"], b"hello", (200, "")),
        (["transfer-encoding: chunked"], CHUNKED, (200, "")),
        ([], b"", (411, "MissingContentLength")),
        (["content-length: 5", "content-length: 3"], b"hello", (400, "")),
        (["content-length: 18", "transfer-encoding: chunked"], CHUNKED, (400, "")),
        (["transfer-encoding: gzip"], b"hello", (400, "")),
        (["transfer-encoding: chunked"], b"5\r\nhel", (0, "")),
        (["transfer-encoding: chunked"], b"-1\r\nhello", (400, "")),
        (["content-length: 9"], b"hello", (0, "")),
        (["content-length: -1"], b"", (400, "")),
        (["content-length: +5"], b"hello", (400, "")),
        (["content-length: 99999999999999999999"], b"", (400, "")),
        (["content-length: 5", "x-a: a\0b"], b"hello", (400, "")),
        (["content-length: 5", "x-a : b"], b"hello", (400, "")),
        (["content-length: 5", "x-a: b", "  folded"], b"hello", (400, "")),
        (["content-length: 5", "x-amz-meta-a: unsigned"], b"hello", (403, "AccessDenied")),
        (["content-length: 5", "x-amz-copy-source: /sales/main/a"], b"hello", (403, "AccessDenied")),
        (["content-length: 5", "x-amz-date: 20200101T000000Z"], b"hello", (403, "AccessDenied")),
        (["content-length: 5", "host: other"], b"hello", (403, "SignatureDoesNotMatch")),
        (["content-length: 5", "content-type: " + "a" * 9000], b"hello", (400, "MetadataTooLarge")),
        (["content-length: 5", "cache-control: " + "a" * 9000], b"hello", (400, "MetadataTooLarge")),
    ],
)
def test_only_what_is_surely_meant_is_written(
    port: int, repository: Repository, more: list[str], body: bytes, expected: tuple[int, str]
) -> None:
    head = lines(port, "PUT", "/sales/main/new", "", *more)
    assert sent(port, head, body, torn=not expected[0]) == expected
    if expected[0] == 200:
        assert repository.get("main", "new") == b"hello"
    else:
        assert not repository.exists("main", "new")
    assert sent(port, lines(port, "HEAD", "/sales", "", "content-length: 0"))[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "query", "expected"),
    [
        ("DELETE", "/sales/main/a", "versionId=null&versionId=1", (400, "InvalidArgument")),
        ("DELETE", "/sales/main/a", "versionId=1&versionId=null", (400, "InvalidArgument")),
        ("PUT", "/sales/main/a", "partNumber=1&uploadId=x&uploadId=y", (400, "InvalidArgument")),
        ("GET", "/sales/main/a", "versionId=null&versionId=null", (200, "")),
        ("GET", "//sales/main/a", "", (400, "InvalidBucketName")),
        ("DELETE", "//sales/main/a", "", (400, "InvalidBucketName")),
        ("GET", "/sales//a", "", (404, "NoSuchKey")),
        ("PUT", "/sales//a", "", (404, "NoSuchKey")),
        ("GET", "/nope/main/a", "", (404, "NoSuchBucket")),
    ],
)
def test_what_a_request_names_is_no_guess(
    port: int, repository: Repository, method: str, path: str, query: str, expected: tuple[int, str]
) -> None:
    repository.put("main", "a", b"there")
    assert sent(port, lines(port, method, path, query, "content-length: 0")) == expected
    assert repository.get("main", "a") == b"there"


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
