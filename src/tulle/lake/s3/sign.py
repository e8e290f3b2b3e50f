"""Who sent a request: AWS signatures version 4 and 2, in headers and in presigned URLs.

Every request is refused unless its signature proves who sent it. What the signature says of the body is handed
on as a `Payload`, which `stream` holds the body to. Knows neither buckets nor what users may do.
"""

from __future__ import annotations

import base64
import calendar
import hashlib
import hmac
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Protocol
from urllib.parse import quote, unquote_to_bytes

from tulle.lake.door import Incoming
from tulle.lake.s3.failure import S3Error
from tulle.lake.s3.signing_keys import SigningKeys

SKEW_SECONDS = 15 * 60
MOST_SECONDS = 7 * 24 * 3600  # of a presigned URL
UNSIGNED = "UNSIGNED-PAYLOAD"
STREAMING = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
STREAMING_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
STREAMING_UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

_V4 = "AWS4-HMAC-SHA256"
_HEX64 = re.compile(r"[0-9a-f]{64}\Z")
_TIME = re.compile(r"\d{8}T\d{6}Z\Z")
_DAY = re.compile(r"\d{8}\Z")
_BLANKS = re.compile(rb"[ \t]+")
# The body is bound by the canonical request itself, the others change nothing and are added on the way.
_NEED_NO_SIGNATURE = frozenset({"x-amz-content-sha256", "x-amz-user-agent", "x-amz-cf-id", "x-amzn-trace-id"})
_V2_RESOURCES = frozenset(
    {
        "accelerate",
        "acl",
        "cors",
        "defaultObjectAcl",
        "delete",
        "encryption",
        "inventory",
        "lifecycle",
        "location",
        "logging",
        "notification",
        "partNumber",
        "policy",
        "requestPayment",
        "response-cache-control",
        "response-content-disposition",
        "response-content-encoding",
        "response-content-language",
        "response-content-type",
        "response-expires",
        "restore",
        "select",
        "select-type",
        "tagging",
        "torrent",
        "uploadId",
        "uploads",
        "versionId",
        "versioning",
        "versions",
        "website",
    }
)

Pair = tuple[str, str]


class Key(Protocol):
    """An access key: whose it is, and its secret."""

    @property
    def user(self) -> str:
        """The user it belongs to."""
        ...

    @property
    def secret(self) -> str:
        """What signatures are made with."""
        ...


Keys = Callable[[str], Key | None]


@dataclass(frozen=True, slots=True)
class Payload:
    """What a signature says of the body.

    `sha256` is its digest in hex where that was signed; `streaming` one of the three STREAMING modes or "". The
    rest is for modes whose chunks are signed: the key, what the first chunk's signature builds on, the time
    and scope all of them name.
    """

    sha256: str = ""
    streaming: str = ""
    signing_key: bytes = b""
    seed: str = ""
    time: str = ""
    scope: str = ""


@dataclass(frozen=True, slots=True)
class Signed:
    """A request whose signature holds: its user, the access key, what is known of the body."""

    user: str
    access_key: str
    payload: Payload


class Verifier:
    """Verifies requests against access keys. Safe to share between threads. `clock` is in seconds."""

    def __init__(self, keys: Keys, *, clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._clock = clock
        self._signing = SigningKeys()

    def verify(self, request: Incoming, pairs: Sequence[Pair], bucket_of_host: str = "") -> Signed:
        """Who sent the request, or S3Error. `pairs` is its query, decoded by `query_pairs`.

        `bucket_of_host` is what version 2 signs of virtual-host style.
        """
        authorization = request.header("authorization")
        names = {name for name, _ in pairs}
        if "x-amz-security-token" in request.headers or "X-Amz-Security-Token" in names:
            raise S3Error(
                "InvalidToken", "session tokens are not issued here; sign with a lasting access key"
            )
        if authorization:
            if names & {"X-Amz-Signature", "X-Amz-Algorithm"}:
                raise S3Error("InvalidArgument", "only one auth mechanism allowed: header or query")
            if authorization.startswith(_V4 + " "):
                return self._header_v4(request, authorization, pairs)
            if authorization.startswith("AWS "):
                return self._header_v2(request, authorization, pairs, bucket_of_host)
            if authorization.startswith("AWS4-ECDSA-P256-SHA256"):
                raise S3Error("NotImplemented", "signatures of version 4A are not supported; use version 4")
            raise S3Error(
                "AccessDenied", "the authorization mechanism is not supported; sign with AWS version 4"
            )
        if "X-Amz-Algorithm" in names:
            return self._query_v4(request, pairs)
        if {"AWSAccessKeyId", "Signature"} <= names:
            return self._query_v2(request, pairs, bucket_of_host)
        raise S3Error("AccessDenied", "anonymous access is not allowed: sign the request with an access key")

    # ── version 4 ────────────────────────────────────────────────────────────────────────────────────────

    def _header_v4(self, request: Incoming, authorization: str, pairs: Sequence[Pair]) -> Signed:
        fields = _fields(authorization.removeprefix(_V4))
        credential = _Credential.of(fields.get("Credential", ""), "AuthorizationHeaderMalformed")
        signed = tuple(fields.get("SignedHeaders", "").lower().split(";"))
        stated = fields.get("Signature", "")
        stamp = request.header("x-amz-date") or _stamp_of(request.header("date"))
        moment = _moment(stamp)
        if moment is None:
            raise S3Error("AccessDenied", "AWS authentication requires a valid Date or x-amz-date header")
        self._refuse_skew(moment)
        credential.refuse_other_day(stamp, "AuthorizationHeaderMalformed")
        content = request.headers.get("x-amz-content-sha256")
        if content is None:
            raise S3Error("InvalidRequest", "missing required header for this request: x-amz-content-sha256")
        key, signing = self._signing_key(credential)
        _refuse_unsigned(request.headers, signed)
        self._compare(request, pairs, signed, content, stamp, credential.scope, signing, stated)
        return Signed(key.user, credential.key, _payload(content, signing, stated, stamp, credential.scope))

    def _query_v4(self, request: Incoming, pairs: Sequence[Pair]) -> Signed:
        values = dict(pairs)
        if values["X-Amz-Algorithm"] != _V4:
            if values["X-Amz-Algorithm"].startswith("AWS4-ECDSA"):
                raise S3Error("NotImplemented", "signatures of version 4A are not supported; use version 4")
            raise _query_error(f"X-Amz-Algorithm only supports {_V4}")
        missing = [
            name
            for name in ("Credential", "Date", "Expires", "SignedHeaders", "Signature")
            if f"X-Amz-{name}" not in values
        ]
        if missing:
            raise _query_error(f"query-string authentication needs X-Amz-{missing[0]}")
        credential = _Credential.of(values["X-Amz-Credential"], "AuthorizationQueryParametersError")
        stamp = values["X-Amz-Date"]
        moment = _moment(stamp)
        if moment is None:
            raise _query_error("X-Amz-Date must be in the ISO8601 Long Format yyyymmddThhmmssZ")
        credential.refuse_other_day(stamp, "AuthorizationQueryParametersError")
        self._refuse_expired(moment, values["X-Amz-Expires"])
        signed = tuple(values["X-Amz-SignedHeaders"].lower().split(";"))
        content = UNSIGNED
        if "x-amz-content-sha256" in signed:
            content = request.header("x-amz-content-sha256")
        elif "X-Amz-Content-Sha256" in values:
            content = values["X-Amz-Content-Sha256"]
        key, signing = self._signing_key(credential)
        _refuse_unsigned(request.headers, signed)
        stated = values["X-Amz-Signature"]
        rest = [pair for pair in pairs if pair[0] != "X-Amz-Signature"]
        self._compare(request, rest, signed, content, stamp, credential.scope, signing, stated)
        return Signed(key.user, credential.key, _payload(content, signing, stated, stamp, credential.scope))

    def _signing_key(self, credential: _Credential) -> tuple[Key, bytes]:
        key = self._key(credential.key)
        return key, self._signing.get(key.secret, credential.day, credential.region)

    def _compare(
        self,
        request: Incoming,
        pairs: Sequence[Pair],
        signed: Sequence[str],
        content: str,
        stamp: str,
        scope: str,
        signing: bytes,
        stated: str,
    ) -> None:
        if "host" not in signed:
            raise S3Error("AccessDenied", "the Host header must be signed")
        headers = b"".join(
            name.encode("utf-8", "surrogateescape") + b":" + _header_bytes(request.headers, name) + b"\n"
            for name in signed
        )
        query = "&".join(sorted(f"{_quoted(name)}={_quoted(value)}" for name, value in pairs)).encode()
        tail = (
            b"\n"
            + query
            + b"\n"
            + headers
            + b"\n"
            + ";".join(signed).encode("utf-8", "surrogateescape")
            + b"\n"
            + content.encode("utf-8", "surrogateescape")
        )
        raw = request.raw_path.partition(b"?")[0]
        path = quote(unquote_to_bytes(raw), safe="/-_.~").encode() or b"/"
        # Nearly everybody signs the path encoded once more by the book; some sign what they send.
        for candidate in (path,) if path == raw else (path, raw):
            canonical = request.method.encode() + b"\n" + candidate + tail
            text = f"{_V4}\n{stamp}\n{scope}\n{hashlib.sha256(canonical).hexdigest()}"
            found = hmac.digest(signing, text.encode("utf-8", "surrogateescape"), "sha256").hex()
            if hmac.compare_digest(found.encode(), stated.encode("utf-8", "surrogateescape")):
                return
        raise _mismatch()

    def _refuse_expired(self, moment: float, expires: str) -> None:
        if not expires.isascii() or not expires.isdigit() or len(expires) > 9:
            raise _query_error("X-Amz-Expires should be a number")
        if not 1 <= int(expires) <= MOST_SECONDS:
            raise _query_error(f"X-Amz-Expires must be from 1 to {MOST_SECONDS} seconds (a week)")
        if moment > self._clock() + SKEW_SECONDS:
            raise S3Error("AccessDenied", "request is not valid yet")
        if self._clock() > moment + int(expires):
            raise S3Error("AccessDenied", "request has expired")

    # ── version 2 ────────────────────────────────────────────────────────────────────────────────────────

    def _header_v2(self, request: Incoming, authorization: str, pairs: Sequence[Pair], bucket: str) -> Signed:
        name, _, stated = authorization.removeprefix("AWS ").strip().partition(":")
        date = request.header("date")
        moment = _moment(_stamp_of(request.header("x-amz-date") or date))
        if moment is None:
            raise S3Error("AccessDenied", "AWS authentication requires a valid Date or x-amz-date header")
        self._refuse_skew(moment)
        if "x-amz-date" in request.headers:
            date = ""
        return self._v2(request, pairs, bucket, name, date, stated)

    def _query_v2(self, request: Incoming, pairs: Sequence[Pair], bucket: str) -> Signed:
        values = dict(pairs)
        expires = values.get("Expires", "")
        if not expires.isascii() or not expires.isdigit() or len(expires) > 12:
            raise S3Error("AccessDenied", "query-string authentication needs Expires, a time in seconds")
        if self._clock() > int(expires):
            raise S3Error("AccessDenied", "request has expired")
        return self._v2(request, pairs, bucket, values["AWSAccessKeyId"], expires, values["Signature"])

    def _v2(
        self, request: Incoming, pairs: Sequence[Pair], bucket: str, name: str, date: str, stated: str
    ) -> Signed:
        key = self._key(name)
        amz = b"".join(
            name.encode("latin-1") + b":" + _header_bytes(request.headers, name) + b"\n"
            for name in sorted(request.headers)
            if name.startswith("x-amz-")
        )
        resources = sorted(pair for pair in pairs if pair[0] in _V2_RESOURCES)
        bare = {
            part.partition(b"=")[0].decode("latin-1")
            for part in request.raw_query.split(b"&")
            if b"=" not in part
        }
        query = "&".join(name if name in bare else f"{name}={value}" for name, value in resources)
        path = (f"/{bucket}" if bucket else "").encode() + request.raw_path.partition(b"?")[0]
        # Of a bucket itself some clients sign `/bucket/` and send `/bucket`.
        for resource in (path,) if path.count(b"/") > 1 else (path, path + b"/"):
            text = b"\n".join(
                [
                    request.method.encode(),
                    request.header("content-md5").encode("latin-1"),
                    request.header("content-type").encode("latin-1"),
                    date.encode("latin-1"),
                    amz + resource + (f"?{query}".encode("utf-8", "surrogateescape") if query else b""),
                ]
            )
            found = base64.b64encode(hmac.digest(key.secret.encode(), text, "sha1"))
            if hmac.compare_digest(found, stated.encode("utf-8", "surrogateescape")):
                break
        else:
            raise _mismatch()
        # Version 2 says nothing of the body; what a client states of it is checked all the same.
        content = request.header("x-amz-content-sha256", UNSIGNED)
        payload = Payload(content) if _HEX64.match(content) else Payload()
        if content == STREAMING_UNSIGNED_TRAILER:
            payload = Payload(streaming=content)
        return Signed(key.user, name, payload)

    # ── both ─────────────────────────────────────────────────────────────────────────────────────────────

    def _key(self, name: str) -> Key:
        key = self._keys(name) if 0 < len(name) <= 128 and name.isascii() and name.isprintable() else None
        if key is None:
            raise S3Error(
                "InvalidAccessKeyId", "the access key id you provided does not exist in our records"
            )
        return key

    def _refuse_skew(self, moment: float) -> None:
        if abs(self._clock() - moment) > SKEW_SECONDS:
            raise S3Error(
                "RequestTimeTooSkewed",
                "the difference between the request time and the current time is too large",
                {
                    "RequestTime": _written(moment),
                    "ServerTime": _written(self._clock()),
                    "MaxAllowedSkewMilliseconds": str(SKEW_SECONDS * 1000),
                },
            )


@dataclass(frozen=True, slots=True)
class _Credential:
    key: str
    day: str
    region: str

    @property
    def scope(self) -> str:
        return f"{self.day}/{self.region}/s3/aws4_request"

    @classmethod
    def of(cls, text: str, code: str) -> _Credential:
        # An access key may hold slashes, so the scope is counted from the end.
        parts = text.rsplit("/", 4)
        if len(parts) != 5 or not _DAY.match(parts[1]):
            raise S3Error(code, "the credential is malformed; expected KEY/yyyymmdd/REGION/s3/aws4_request")
        if parts[3:] != ["s3", "aws4_request"]:
            raise S3Error(code, f"the credential is for '{'/'.join(parts[3:])}'; expected 's3/aws4_request'")
        return cls(parts[0], parts[1], parts[2])

    def refuse_other_day(self, stamp: str, code: str) -> None:
        if stamp[:8] != self.day:
            raise S3Error(code, f"the date in the credential's scope, {self.day}, is not that of the request")


def _payload(content: str, signing: bytes, seed: str, stamp: str, scope: str) -> Payload:
    if content == UNSIGNED:
        return Payload()
    if content in {STREAMING, STREAMING_TRAILER}:
        return Payload("", content, signing, seed, stamp, scope)
    if content == STREAMING_UNSIGNED_TRAILER:
        return Payload(streaming=content)
    if _HEX64.match(content):
        return Payload(content)
    if content.startswith("STREAMING-AWS4-ECDSA"):
        raise S3Error("NotImplemented", "signatures of version 4A are not supported; use version 4")
    raise S3Error(
        "InvalidArgument",
        f"x-amz-content-sha256 must be {UNSIGNED}, {STREAMING}, {STREAMING_TRAILER}, "
        f"{STREAMING_UNSIGNED_TRAILER} or a valid sha256 value",
        {"ArgumentName": "x-amz-content-sha256", "ArgumentValue": content[:200]},
    )


def _fields(text: str) -> dict[str, str]:
    pairs = (part.strip().partition("=") for part in text.split(","))
    return {name.strip(): value.strip() for name, _, value in pairs}


def _refuse_unsigned(headers: Mapping[str, str], signed: Sequence[str]) -> None:
    unsigned = [
        name
        for name in headers
        if name.startswith("x-amz-") and name not in signed and name not in _NEED_NO_SIGNATURE
    ]
    if unsigned:
        raise S3Error(
            "AccessDenied",
            "there were headers present in the request which were not signed",
            {"HeadersNotSigned": ", ".join(sorted(unsigned))},
        )


def _header_bytes(headers: Mapping[str, str], name: str) -> bytes:
    return _BLANKS.sub(b" ", headers.get(name, "").encode("latin-1").strip())


def query_pairs(raw: bytes) -> list[Pair]:
    """The names and values of a query, in order; bytes that are no UTF-8 become surrogates."""
    pairs: list[Pair] = []
    for part in raw.split(b"&"):
        if part:
            name, _, value = part.partition(b"=")
            pairs.append((_unquoted(name), _unquoted(value)))
    return pairs


def _unquoted(text: bytes) -> str:
    return unquote_to_bytes(text.replace(b"+", b" ")).decode("utf-8", "surrogateescape")


def _quoted(text: str) -> str:
    return quote(text.encode("utf-8", "surrogateescape"), safe="-_.~")


def _moment(stamp: str) -> float | None:
    if not _TIME.match(stamp) or not stamp.isascii():
        return None
    try:
        return _parsed(stamp)
    except ValueError:
        return None


def _parsed(stamp: str) -> float:
    # By hand: strptime takes longer than everything else here together.
    numbers = (stamp[:4], stamp[4:6], stamp[6:8], stamp[9:11], stamp[11:13], stamp[13:15])
    year, month, day, hour, minute, second = map(int, numbers)
    if not (
        year >= 1970 and 1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 61
    ):
        raise ValueError(stamp)
    return calendar.timegm((year, month, day, hour, minute, second))


def _stamp_of(date: str) -> str:
    """A time in ISO form from a Date header, which may be in the form of mails; "" when it is none."""
    if not date or _TIME.match(date):
        return date
    try:
        moment = parsedate_to_datetime(date)
        return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(moment.timestamp()))
    except (ValueError, TypeError, IndexError, OverflowError, OSError):
        return ""


def _written(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def _query_error(message: str) -> S3Error:
    return S3Error("AuthorizationQueryParametersError", message)


def _mismatch() -> S3Error:
    return S3Error(
        "SignatureDoesNotMatch",
        "the request signature we calculated does not match the signature you provided; check your key and "
        "signing method",
    )
