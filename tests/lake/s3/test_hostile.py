"""Whatever is sent, the answer is one of S3's and never a defect of ours."""

from __future__ import annotations

import string
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.lake.s3.client import ACCESS_KEY, SECRET, Client, signing_key
from tests.lake.s3.permits import Key, Permits

from tulle.lake.door import Incoming
from tulle.lake.repository import open_lake
from tulle.lake.s3 import attributes, conditions, s3_application, xml
from tulle.lake.s3.address import bucket_and_key, checked_key
from tulle.lake.s3.failure import STATUS, S3Error
from tulle.lake.s3.sign import (
    STREAMING,
    STREAMING_TRAILER,
    STREAMING_UNSIGNED_TRAILER,
    Payload,
    Verifier,
    query_pairs,
)
from tulle.lake.s3.stream import Body
from tulle.state.db import open_database

LATIN = st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=60)
PATHS = st.text(max_size=40)
FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
MANY = settings(max_examples=300, deadline=None)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """One door for all examples."""
    folder: Path = tmp_path_factory.mktemp("hostile")
    database = open_database(f"sqlite:///{folder / 'state.db'}")
    lake = open_lake(database, f"local://{folder / 'objects'}")
    repository = lake.create_repository("sales")
    repository.put("main", "a", b"0123456789")
    yield Client(s3_application(lake, Permits({ACCESS_KEY: SECRET}), threads=1))
    database.close()


WORDS = [
    *(
        "uploads",
        "uploadId",
        "partNumber",
        "versionId",
        "prefix",
        "delimiter",
        "marker",
        "max-keys",
        "list-type",
    ),
    *(
        "continuation-token",
        "start-after",
        "encoding-type",
        "delete",
        "acl",
        "tagging",
        "attributes",
        "versions",
    ),
    *("max-parts", "part-number-marker", "key-marker", "upload-id-marker", "max-uploads", "response-expires"),
]
HEADERS = [
    *(
        "range",
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
        "content-md5",
        "if-range",
    ),
    *("x-amz-copy-source", "x-amz-copy-source-range", "x-amz-metadata-directive", "x-amz-storage-class"),
    *("x-amz-meta-a", "content-type", "content-encoding", "expires", "x-amz-checksum-crc32", "x-amz-trailer"),
    *(
        "x-amz-decoded-content-length",
        "x-amz-object-attributes",
        "x-amz-checksum-mode",
        "x-amz-mp-object-size",
    ),
    *("x-amz-checksum-algorithm", "x-amz-checksum-type", "x-amz-acl"),
]
VALUES = st.one_of(
    LATIN,
    st.sampled_from(
        ["", "0", "1", "2", "-1", "99999999999999999999", "/sales/main/a", "bytes=1-3", "*", "main/"]
    ),
)


@FEW
@given(
    method=st.sampled_from(["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "X"]),
    bucket=st.sampled_from(["", "sales", "nope", ".."]),
    ref=st.sampled_from(["", "main", "main@", "v~1", "~", "^"]),
    path=PATHS,
    query=st.lists(st.tuples(st.sampled_from(WORDS), VALUES), max_size=4),
    headers=st.dictionaries(st.sampled_from(HEADERS), VALUES, max_size=4),
    data=st.one_of(st.binary(max_size=60), st.just(b"<Delete><Object><Key>main/a</Key></Object></Delete>")),
)
def test_signed_nonsense(
    door: Client,
    method: str,
    bucket: str,
    ref: str,
    path: str,
    query: list[tuple[str, str]],
    headers: dict[str, str],
    data: bytes,
) -> None:
    try:
        path.encode()
    except UnicodeEncodeError:
        return
    where = f"/{bucket}" + (f"/{ref}/{path}" if ref else "")
    answer = door(method, where, data, query=query, headers=headers)
    assert answer.status in set(STATUS.values()) | {200, 204, 206}
    assert answer.status != 500, answer.body
    if answer.status >= 400 and answer.body:
        assert answer.code in STATUS


@MANY
@given(raw=st.binary(max_size=60), query=st.binary(max_size=80), authorization=LATIN, host=LATIN, date=LATIN)
def test_unsigned_nonsense(raw: bytes, query: bytes, authorization: str, host: str, date: str) -> None:
    verifier = Verifier({ACCESS_KEY: Key("ann", SECRET)}.get)
    start = f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20130524/us-east-1/s3/aws4_request,SignedHeaders=host,Signature="
    for text in (
        "",
        authorization,
        start + authorization,
        "AWS4-HMAC-SHA256 " + authorization,
        "AWS " + authorization,
    ):
        headers = {"host": host, "x-amz-date": date, "date": date}
        if text:
            headers["authorization"] = text
        for more in (
            query,
            query + b"&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=" + query,
            b"AWSAccessKeyId=a&Signature=" + query,
        ):
            request = Incoming("GET", "", raw, more, headers, "", iter(()))
            with pytest.raises(S3Error) as info:
                verifier.verify(request, query_pairs(more), "b")
            assert info.value.code in STATUS


@MANY
@given(
    data=st.one_of(
        st.binary(max_size=200),
        st.lists(
            st.sampled_from(
                [
                    b"5\r\n",
                    b"hello",
                    b"\r\n",
                    b"0\r\n",
                    b";chunk-signature=" + b"0" * 64,
                    b"x-amz-checksum-crc32:AAAA\r\n",
                    b"\n",
                    b"ffffffffff\r\n",
                ]
            ),
            max_size=12,
        ).map(b"".join),
    ),
    cut=st.integers(1, 9),
    mode=st.sampled_from([STREAMING, STREAMING_TRAILER, STREAMING_UNSIGNED_TRAILER]),
    length=st.integers(0, 20),
)
def test_chunked_nonsense(data: bytes, cut: int, mode: str, length: int) -> None:
    headers = {"x-amz-decoded-content-length": str(length)}
    pieces = iter([data[at : at + cut] for at in range(0, len(data), cut)])
    request = Incoming("PUT", "", b"", b"", headers, "", pieces)
    payload = Payload("", mode, signing_key(SECRET, "20130524"), "0" * 64, "20130524T000000Z", "scope")
    try:
        taken = b"".join(Body(request, payload))
    except S3Error as exc:
        assert exc.code in STATUS
    else:
        assert mode == STREAMING_UNSIGNED_TRAILER
        assert len(taken) == length


@MANY
@given(
    st.one_of(st.binary(max_size=200), st.text("<>/abDelete&;! \"'=[]ENTITY", max_size=80).map(str.encode))
)
def test_documents(data: bytes) -> None:
    try:
        root = xml.read(data, "Delete")
    except S3Error as exc:
        assert exc.code == "MalformedXML"
    else:
        assert root.name == "Delete"


@MANY
@given(text=st.text(max_size=60))
def test_what_is_written_can_be_read(text: str) -> None:
    allowed = "".join(
        c for c in text if c >= " " and not "\ud800" <= c <= "\udfff" and c not in "\ufffe\uffff"
    )
    assert xml.read(xml.document("A", [xml.element("B", allowed)]), "A").get("B") == allowed


@MANY
@given(header=st.one_of(LATIN, st.text("bytes=-0123456789, ", max_size=30)), size=st.integers(0, 200))
def test_ranges_lie_inside(header: str, size: int) -> None:
    try:
        found = conditions.bytes_asked_for(header, size)
    except S3Error as exc:
        assert exc.code == "InvalidRange"
    else:
        assert found is None or 0 <= found[0] < found[1] <= size


@MANY
@given(host=LATIN, path=LATIN)
def test_addresses(host: str, path: str) -> None:
    bucket, key = bucket_and_key(host, path, ["s3.example.com"])
    assert isinstance(bucket, str)
    try:
        checked_key(key)
    except S3Error as exc:
        assert exc.code in STATUS


@MANY
@given(st.dictionaries(st.text(string.ascii_lowercase + "-", min_size=1, max_size=8), LATIN, max_size=4))
def test_metadata_comes_back(said: dict[str, str]) -> None:
    from tulle.lake.entry import Entry, encode_metadata

    try:
        content_type, kept = attributes.from_headers(
            {f"x-amz-meta-{name}": value for name, value in said.items()}
        )
    except S3Error as exc:
        assert exc.code == "MetadataTooLarge"
        return
    encode_metadata(kept)
    told = dict(attributes.to_headers(Entry("a", "b", 1, content_type=content_type, metadata=kept), {}))
    assert {f"x-amz-meta-{name}" for name in said} <= set(told)
    again = attributes.from_headers(told)[1]
    assert {name: value for name, value in again.items() if name[0] != ":"} == kept
