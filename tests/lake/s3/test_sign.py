"""Signatures: AWS's published examples, every way to sign, and every way a signature can be wrong."""

from __future__ import annotations

import calendar

import pytest
from tests.lake.s3.client import ACCESS_KEY, SECRET, Client, Signer, amz_time, sha256, signing_key
from tests.lake.s3.permits import Key, Permits

from tulle.lake.door import Incoming
from tulle.lake.repository import Lake, Repository
from tulle.lake.s3 import s3_application
from tulle.lake.s3.failure import S3Error
from tulle.lake.s3.sign import Verifier, query_pairs
from tulle.lake.s3.signing_keys import SigningKeys, derived_key

MAY_24 = calendar.timegm((2013, 5, 24, 0, 0, 0))
EMPTY = sha256(b"")


def verify(method: str, path: str, query: str, headers: dict[str, str], moment: float = MAY_24) -> str:
    """The user the published examples' key belongs to, once it is verified."""
    request = Incoming(method, path, path.encode(), query.encode(), headers, "", iter(()))
    verifier = Verifier({ACCESS_KEY: Key("ann", SECRET)}.get, clock=lambda: moment)
    return verifier.verify(request, query_pairs(query.encode())).user


def published(signed: str, signature: str) -> str:
    """The Authorization header of the examples in AWS's documentation."""
    return (
        f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20130524/us-east-1/s3/aws4_request,"
        f"SignedHeaders={signed},Signature={signature}"
    )


def test_published_get() -> None:
    headers = {
        "host": "examplebucket.s3.amazonaws.com",
        "range": "bytes=0-9",
        "x-amz-content-sha256": EMPTY,
        "x-amz-date": "20130524T000000Z",
        "authorization": published(
            "host;range;x-amz-content-sha256;x-amz-date",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
    }
    assert verify("GET", "/test.txt", "", headers) == "ann"


def test_published_put_with_a_path_that_needs_encoding() -> None:
    headers = {
        "host": "examplebucket.s3.amazonaws.com",
        "date": "Fri, 24 May 2013 00:00:00 GMT",
        "x-amz-content-sha256": "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
        "x-amz-date": "20130524T000000Z",
        "x-amz-storage-class": "REDUCED_REDUNDANCY",
        "authorization": published(
            "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
    }
    assert verify("PUT", "/test%24file.text", "", headers) == "ann"
    assert verify("PUT", "/test$file.text", "", headers) == "ann"  # sent as it is, signed by the book


def test_published_subresource_and_list() -> None:
    headers = {
        "host": "examplebucket.s3.amazonaws.com",
        "x-amz-content-sha256": EMPTY,
        "x-amz-date": "20130524T000000Z",
    }
    signed = "host;x-amz-content-sha256;x-amz-date"
    lifecycle = "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
    listing = "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
    assert verify("GET", "/", "lifecycle", headers | {"authorization": published(signed, lifecycle)}) == "ann"
    query = "max-keys=2&prefix=J"
    assert verify("GET", "/", query, headers | {"authorization": published(signed, listing)}) == "ann"
    with pytest.raises(S3Error) as info:
        verify("GET", "/", "max-keys=3&prefix=J", headers | {"authorization": published(signed, listing)})
    assert info.value.code == "SignatureDoesNotMatch"


def test_published_presigned_url() -> None:
    query = (
        "X-Amz-Algorithm=AWS4-HMAC-SHA256"
        f"&X-Amz-Credential={ACCESS_KEY}%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )
    headers = {"host": "examplebucket.s3.amazonaws.com"}
    assert verify("GET", "/test.txt", query, headers, MAY_24 + 86_400) == "ann"
    with pytest.raises(S3Error) as info:
        verify("GET", "/test.txt", query, headers, MAY_24 + 86_401)
    assert (info.value.code, "expired" in info.value.message) == ("AccessDenied", True)


def test_published_version_2() -> None:
    moment = calendar.timegm((2007, 3, 27, 19, 36, 42))
    headers = {
        "host": "awsexamplebucket1.us-west-1.s3.amazonaws.com",
        "date": "Tue, 27 Mar 2007 19:36:42 +0000",
        "authorization": f"AWS {ACCESS_KEY}:qgk2+6Sv9/oM7G3qLEjTH1a1l1g=",
    }
    request = Incoming("GET", "", b"/photos/puppy.jpg", b"", headers, "", iter(()))
    verifier = Verifier({ACCESS_KEY: Key("ann", SECRET)}.get, clock=lambda: moment)
    assert verifier.verify(request, [], "awsexamplebucket1").user == "ann"
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        verifier.verify(request, [], "another")


def test_signing_keys_are_derived_by_the_book_and_kept() -> None:
    keys = SigningKeys(most=2)
    first = keys.get(SECRET, "20130524", "us-east-1")
    assert (
        first == derived_key(SECRET, "20130524", "us-east-1") == signing_key(SECRET, "20130524", "us-east-1")
    )
    assert keys.get(SECRET, "20130524", "us-east-1") is first
    for day in range(10, 20):
        assert keys.get(SECRET, f"201305{day}", "r") == signing_key(SECRET, f"201305{day}", "r")


# ── through the door ─────────────────────────────────────────────────────────────────────────────────────────


def test_nobody_gets_in_unsigned(client: Client, repository: Repository) -> None:
    repository.put("main", "a", b"1")
    for method, path in (("GET", "/"), ("GET", "/sales"), ("GET", "/sales/main/a"), ("PUT", "/sales/main/b")):
        answer = client.raw(method, path)
        assert (answer.status, answer.code) == (403, "AccessDenied")
    assert client.raw("GET", "/sales/main/a", headers={"authorization": "Bearer x"}).code == "AccessDenied"
    assert (
        client.raw("GET", "/sales/main/a", headers={"authorization": "AWS4-ECDSA-P256-SHA256 x"}).status
        == 501
    )
    assert not repository.exists("main", "b")


def test_a_wrong_secret_and_an_unknown_key_are_refused(client: Client) -> None:
    client.signer.secret = "other"
    assert client("GET", "/sales").code == "SignatureDoesNotMatch"
    client.signer = Signer(access_key="AKIANOBODY")
    assert client("GET", "/sales").code == "InvalidAccessKeyId"


def test_a_signature_holds_for_what_was_signed_only(client: Client, repository: Repository) -> None:
    repository.put("main", "a", b"1")
    headers = client.signer.sign("GET", "/sales/main/a", [], {"host": client.host}, EMPTY)
    assert client.raw("GET", "/sales/main/a", headers=headers).body == b"1"
    for changed in (
        {"path": "/sales/main/b"},
        {"method": "DELETE"},
        {"query": [("versionId", "null")]},
        {"headers": headers | {"host": "elsewhere"}},
        {"headers": headers | {"x-amz-date": amz_time(client.signer.now - 60)}},
        {"headers": headers | {"x-amz-content-sha256": sha256(b"x")}},
        {"headers": headers | {"authorization": headers["authorization"][:-1] + "é"}},
    ):
        asked = {"method": "GET", "path": "/sales/main/a", "headers": headers} | changed
        answer = client.raw(asked.pop("method"), asked.pop("path"), **asked)
        assert answer.code == "SignatureDoesNotMatch", changed


def test_headers_that_say_something_must_be_signed(client: Client, repository: Repository) -> None:
    headers = client.signer.sign("PUT", "/sales/main/a", [], {"host": client.host}, sha256(b"1"))
    answer = client.raw(
        "PUT", "/sales/main/a", b"1", headers=headers | {"x-amz-copy-source": "/other/main/b"}
    )
    assert (answer.code, answer.xml.findtext("HeadersNotSigned")) == ("AccessDenied", "x-amz-copy-source")
    unsigned_host = client.signer.sign("GET", "/sales", [], {"x-amz-x": "1"}, EMPTY)
    assert client.raw("GET", "/sales", headers=unsigned_host).code == "AccessDenied"


@pytest.mark.parametrize("drift", [-901, 901, 86_400 * 400])
def test_a_clock_that_is_wrong_is_told(client: Client, drift: int) -> None:
    import time

    client.signer.moment = time.time() + drift
    answer = client("GET", "/sales")
    assert (answer.status, answer.code) == (403, "RequestTimeTooSkewed")
    assert answer.xml.findtext("ServerTime")


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("Credential=", "Credential=x/", "AuthorizationHeaderMalformed"),
        ("/s3/", "/iam/", "AuthorizationHeaderMalformed"),
        ("aws4_request", "aws5_request", "AuthorizationHeaderMalformed"),
        ("Signature=", "Sig=", "SignatureDoesNotMatch"),
        ("SignedHeaders=", "S=", "AccessDenied"),
    ],
)
def test_malformed_authorization(client: Client, field: str, value: str, code: str) -> None:
    headers = client.signer.sign("GET", "/sales", [], {"host": client.host}, EMPTY)
    if field == "Credential=":
        headers["authorization"] = headers["authorization"].replace("us-east-1/", "")
    else:
        headers["authorization"] = headers["authorization"].replace(field, value)
    assert client.raw("GET", "/sales", headers=headers).code == code


def test_session_tokens_are_refused_clearly(client: Client) -> None:
    answer = client("GET", "/sales", headers={"x-amz-security-token": "t"})
    assert (answer.code, "not issued" in answer.message) == ("InvalidToken", True)


def test_every_region_is_accepted(client: Client) -> None:
    client.signer.region = "eu-central-1"
    assert client("HEAD", "/sales").status == 200


@pytest.mark.parametrize("seconds", [0, 604_801])
def test_presigned_urls_live_a_week_at_most(client: Client, seconds: int) -> None:
    query = client.signer.presign("GET", "/sales/main/a", [], {"host": client.host}, seconds)
    assert client.raw("GET", "/sales/main/a", query=query).code == "AuthorizationQueryParametersError"


def test_presigned_urls_read_and_write(client: Client, repository: Repository) -> None:
    query = client.signer.presign("PUT", "/sales/main/a b+c%", [], {"host": client.host}, 60)
    assert client.raw("PUT", "/sales/main/a b+c%", b"1", query=query).status == 200
    query = client.signer.presign(
        "GET", "/sales/main/a b+c%", [("response-expires", "x y")], {"host": client.host}, 60
    )
    answer = client.raw("GET", "/sales/main/a b+c%", query=query)
    assert (answer.body, answer.headers["expires"]) == (b"1", "x y")
    assert client.raw("GET", "/sales/main/other", query=query).code == "SignatureDoesNotMatch"
    client.signer.moment = client.signer.now - 61
    query = client.signer.presign("GET", "/sales/main/a", [], {"host": client.host}, 60)
    assert "expired" in client.raw("GET", "/sales/main/a", query=query).message
    client.signer.moment += 61 + 3600
    query = client.signer.presign("GET", "/sales/main/a", [], {"host": client.host}, 60)
    assert "not valid yet" in client.raw("GET", "/sales/main/a", query=query).message


def test_presigned_and_header_together_are_refused(client: Client) -> None:
    query = client.signer.presign("GET", "/sales", [], {"host": client.host}, 60)
    headers = client.signer.sign("GET", "/sales", query, {"host": client.host}, EMPTY)
    assert client.raw("GET", "/sales", query=query, headers=headers).code == "InvalidArgument"


def test_version_2(client: Client, repository: Repository) -> None:
    import time

    headers = client.signer.sign_v2(
        "PUT", "/sales/main/a", "/sales/main/a", {"content-type": "text/plain", "x-amz-meta-a": "1"}
    )
    assert client.raw("PUT", "/sales/main/a", b"1", headers=headers).status == 200
    assert client.raw("PUT", "/sales/main/a", b"1", headers=headers | {"x-amz-meta-a": "2"}).status == 403
    assert repository.stat("main", "a").metadata == {"a": "1"}
    headers = client.signer.sign_v2("GET", "/sales", "/sales?uploads", {})
    assert client.raw("GET", "/sales", query=b"uploads&prefix=x", headers=headers).status == 200
    later = int(time.time()) + 60
    query = client.signer.presign_v2("GET", "/sales/main/a", later)
    assert client.raw("GET", "/sales/main/a", query=query).body == b"1"
    assert client.raw("GET", "/sales/main/b", query=query).code == "SignatureDoesNotMatch"
    query = client.signer.presign_v2("GET", "/sales/main/a", later - 120)
    assert "expired" in client.raw("GET", "/sales/main/a", query=query).message
    client.signer.moment = time.time() - 1000
    headers = client.signer.sign_v2("GET", "/sales/main/a", "/sales/main/a", {})
    assert client.raw("GET", "/sales/main/a", headers=headers).code == "RequestTimeTooSkewed"


def test_virtual_host_style(lake: Lake, repository: Repository, permits: Permits) -> None:
    repository.put("main", "a", b"1")
    app = s3_application(lake, permits, domain="s3.example.com")
    for host in ("sales.s3.example.com", "sales.s3.example.com:8333", "SALES.localhost:1"):
        assert Client(app, host=host)("GET", "/main/a").body == b"1"
    assert Client(app, host="s3.example.com")("GET", "/sales/main/a").body == b"1"
    assert Client(app, host="127.0.0.1:8333")("GET", "/sales/main/a").body == b"1"
    virtual = Client(app, host="sales.localhost")
    headers = virtual.signer.sign_v2("GET", "/main/a", "/sales/main/a", {})
    assert virtual.raw("GET", "/main/a", headers=headers).body == b"1"
