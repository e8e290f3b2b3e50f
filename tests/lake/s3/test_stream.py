"""Bodies: every payload mode both true and tampered with; what is refused leaves nothing behind."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable

import pytest
from tests.lake.s3.client import Answer, Client, sha256
from tests.lake.s3.permits import Permits

from tulle.lake.repository import Repository, open_lake
from tulle.lake.s3 import checksums, s3_application
from tulle.state.db import Database

DATA = bytes(range(256)) * 700  # 175 KiB
KEY = "/sales/main/a"
STREAMING = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"


def b64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def crc32(data: bytes) -> str:
    return b64(zlib.crc32(data).to_bytes(4, "big"))


def nothing_kept(repository: Repository) -> bool:
    """Whether there is neither an entry nor a blob of data."""
    return not repository.status("main") and not list(
        repository.reader.blobs.list(f"{repository.record.storage}/data")
    )


def streamed(
    client: Client,
    mode: str,
    *,
    size: int = 65_536,
    trailers: tuple[tuple[str, str], ...] = (),
    announced: str = "",
    tamper: Callable[[bytes], bytes] = lambda body: body,
    length: int = len(DATA),
) -> Answer:
    """A PUT of DATA as an aws-chunked body, changed by `tamper` after it was signed."""
    headers = {
        "host": client.host,
        "x-amz-decoded-content-length": str(length),
        "content-encoding": "aws-chunked",
    }
    if announced:
        headers["x-amz-trailer"] = announced
    headers = client.signer.sign("PUT", KEY, [], headers, mode)
    body = client.signer.chunked(headers, DATA, size, trailers=trailers, signed="HMAC" in mode)
    body = tamper(body)
    pieces = [body[at : at + 10_001] for at in range(0, len(body), 10_001)]
    return client.raw("PUT", KEY, headers=headers | {"content-length": str(len(body))}, pieces=pieces)


@pytest.mark.parametrize("size", [8192, 65_536, 1_000_000])
def test_signed_chunks(client: Client, repository: Repository, size: int) -> None:
    assert streamed(client, STREAMING, size=size).status == 200
    assert repository.get("main", "a") == DATA
    assert repository.stat("main", "a").metadata == {}  # aws-chunked is of the transport


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (b"\x00\x01\x02", b"\x00\x01\x03", "SignatureDoesNotMatch"),
        (b"chunk-signature=", b"chunk-signature=0", "InvalidRequest"),
        (b";chunk-signature=", b";chunk-signaturf=", "InvalidRequest"),
        (b"10000;", b"fff0;", "SignatureDoesNotMatch"),
        (b"10000;", b"fffffffff;", "EntityTooLarge"),
        (b"10000;", b"g;", "InvalidRequest"),
    ],
)
def test_tampered_chunks(client: Client, repository: Repository, old: bytes, new: bytes, code: str) -> None:
    answer = streamed(client, STREAMING, tamper=lambda body: body.replace(old, new, 1))
    assert answer.code == code
    assert nothing_kept(repository)


@pytest.mark.parametrize("cut", [1, 3, 90, 5000, 100_000])
def test_torn_chunks(client: Client, repository: Repository, cut: int) -> None:
    answer = streamed(client, STREAMING, tamper=lambda body: body[:-cut])
    if cut > 3:  # the very last line end is no loss
        assert answer.code == "IncompleteBody"
        assert nothing_kept(repository)


def test_swapped_and_dropped_chunks(client: Client, repository: Repository) -> None:
    def dropped(body: bytes) -> bytes:
        second = body.index(b"\r\n10000;") + 2
        third = body.index(b"\r\n", second + 60_000)
        return (
            body[:second] + body[body.index(b"\r\nafc0;" if b"\r\nafc0;" in body else b"\r\n", third) + 2 :]
        )

    assert streamed(client, STREAMING, tamper=dropped).code in {
        "SignatureDoesNotMatch",
        "IncompleteBody",
        "InvalidRequest",
    }
    assert nothing_kept(repository)


@pytest.mark.parametrize("length", [0, len(DATA) - 1, len(DATA) + 1])
def test_another_decoded_length(client: Client, repository: Repository, length: int) -> None:
    assert streamed(client, STREAMING, length=length).code == "IncompleteBody"
    assert nothing_kept(repository)


@pytest.mark.parametrize("mode", [f"{STREAMING}-TRAILER", UNSIGNED_TRAILER])
def test_trailers(client: Client, repository: Repository, mode: str) -> None:
    name = "x-amz-checksum-crc32"
    answer = streamed(client, mode, trailers=((name, crc32(DATA)),), announced=name)
    assert (answer.status, answer.headers[name]) == (200, crc32(DATA))
    assert repository.get("main", "a") == DATA


@pytest.mark.parametrize("mode", [f"{STREAMING}-TRAILER", UNSIGNED_TRAILER])
def test_false_trailers(client: Client, repository: Repository, mode: str) -> None:
    name = "x-amz-checksum-crc32"
    asked = {"trailers": ((name, crc32(b"other")),), "announced": name}
    assert streamed(client, mode, **asked).code == "BadDigest"
    assert streamed(client, mode, announced=name).code in {"MalformedTrailerError", "SignatureDoesNotMatch"}
    unannounced = streamed(client, mode, trailers=((name, crc32(DATA)),))
    assert unannounced.code == "MalformedTrailerError"
    assert (
        streamed(
            client, mode, trailers=(("x-amz-checksum-md4", "AAAA"),), announced="x-amz-checksum-md4"
        ).status
        == 400
    )
    assert nothing_kept(repository)


def test_a_signed_trailer_is_held_to_its_signature(client: Client, repository: Repository) -> None:
    name = "x-amz-checksum-crc32"

    def swapped(body: bytes) -> bytes:
        return body.replace(crc32(DATA).encode(), crc32(b"other").encode())

    answer = streamed(
        client, f"{STREAMING}-TRAILER", trailers=((name, crc32(DATA)),), announced=name, tamper=swapped
    )
    assert answer.code == "SignatureDoesNotMatch"
    unsigned = streamed(
        client,
        f"{STREAMING}-TRAILER",
        trailers=((name, crc32(DATA)),),
        announced=name,
        tamper=lambda body: body[: body.index(b"x-amz-trailer-signature")] + b"\r\n",
    )
    assert unsigned.code == "SignatureDoesNotMatch"
    assert nothing_kept(repository)


def test_the_payload_hash_is_held_to(client: Client, repository: Repository) -> None:
    answer = client("PUT", KEY, b"what came", content=sha256(b"what was signed"))
    assert answer.code == "XAmzContentSHA256Mismatch"
    assert nothing_kept(repository)
    assert client("PUT", KEY, b"any", content="UNSIGNED-PAYLOAD").status == 200
    assert client("PUT", KEY, b"any", content="nonsense").code == "InvalidArgument"
    headers = client.signer.sign("PUT", KEY, [], {"host": client.host}, "")
    del headers["x-amz-content-sha256"]
    assert client.raw("PUT", KEY, b"x", headers=headers).code == "InvalidRequest"


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_content_md5(client: Client, repository: Repository, size: int) -> None:
    data = b"x" * size
    wrong = client("PUT", KEY, data, headers={"content-md5": b64(hashlib.md5(b"other").digest())})
    assert wrong.code == "BadDigest"
    for text in ("nonsense", "AAAA", ""):
        assert client("PUT", KEY, data, headers={"content-md5": text}).code == "InvalidDigest"
    assert nothing_kept(repository)
    assert client("PUT", KEY, data, headers={"content-md5": b64(hashlib.md5(data).digest())}).status == 200


# The check values of the catalogue of CRC algorithms, for "123456789".
CHECKS = {
    "crc32": "cbf43926",
    "crc32c": "e3069283",
    "crc64nvme": "ae8b14860a799888",
    "sha1": hashlib.sha1(b"123456789").hexdigest(),
    "sha256": hashlib.sha256(b"123456789").hexdigest(),
}


@pytest.mark.parametrize(("algorithm", "digest"), CHECKS.items())
def test_checksums_in_headers(client: Client, repository: Repository, algorithm: str, digest: str) -> None:
    whole = checksums.new(algorithm)
    for piece in (b"1234", b"", b"56789"):
        whole.update(piece)
    assert whole.digest().hex() == digest
    name, value = f"x-amz-checksum-{algorithm}", b64(bytes.fromhex(digest))
    assert client("PUT", KEY, b"12345678", headers={name: value}).code == "BadDigest"
    assert client("PUT", KEY, b"123456789", headers={name: value[:-4]}).code == "InvalidRequest"
    assert nothing_kept(repository)
    answer = client("PUT", KEY, b"123456789", headers={name: value})
    assert (answer.status, answer.headers[name]) == (200, value)


def test_several_and_unknown_checksums_are_refused(client: Client, repository: Repository) -> None:
    both = {"x-amz-checksum-crc32": crc32(b"x"), "x-amz-checksum-sha1": b64(hashlib.sha1(b"x").digest())}
    assert client("PUT", KEY, b"x", headers=both).code == "InvalidRequest"
    assert client("PUT", KEY, b"x", headers={"x-amz-checksum-xxh3": "AAAA"}).code == "InvalidRequest"
    assert nothing_kept(repository)


@pytest.mark.parametrize("size", [100, 3_000_000])
def test_a_body_shorter_or_longer_than_stated(client: Client, repository: Repository, size: int) -> None:
    data = b"y" * size
    headers = client.signer.sign("PUT", KEY, [], {"host": client.host}, "UNSIGNED-PAYLOAD")
    for stated in (size - 1, size + 1):
        answer = client.raw("PUT", KEY, data, headers=headers | {"content-length": str(stated)})
        assert answer.code == "IncompleteBody"
    assert nothing_kept(repository)


def test_a_caller_that_goes_away_leaves_nothing(client: Client, repository: Repository) -> None:
    headers = client.signer.sign("PUT", KEY, [], {"host": client.host}, "UNSIGNED-PAYLOAD")

    async def receive() -> dict[str, object]:
        if receiving:
            return {"type": "http.request", "body": receiving.pop(), "more_body": True}
        return {"type": "http.disconnect"}

    receiving = [b"x" * 2_000_000]
    import asyncio

    async def send(message: object) -> None:
        sent.append(message)

    sent: list[object] = []
    scope = {
        "type": "http",
        "method": "PUT",
        "path": KEY,
        "raw_path": KEY.encode(),
        "query_string": b"",
        "headers": [(n.encode(), v.encode()) for n, v in (headers | {"content-length": "5000000"}).items()],
    }
    asyncio.run(client.app(scope, receive, send))
    assert nothing_kept(repository)


@pytest.mark.parametrize("size", [100, 9_000_000])
def test_object_stores_keep_nothing_either(database: Database, permits: Permits, size: int) -> None:
    lake = open_lake(database, "memory:///")
    client = Client(s3_application(lake, permits, threads=1))
    repository = lake.create_repository("sales")
    wrong = {"content-md5": b64(hashlib.md5(b"other").digest())}
    answer = client("PUT", KEY, b"z" * size, headers=wrong, content="UNSIGNED-PAYLOAD")
    assert answer.code == "BadDigest"
    assert nothing_kept(repository)
    assert client("PUT", KEY, b"z" * size).status == 200
    assert client("GET", KEY).body == b"z" * size
