"""A client of the S3 door written from the published rules, apart from the code it tests.

It calls an ASGI application in this process, signs as it is told to, and can be made to lie.
"""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import hashlib
import hmac
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any
from urllib.parse import quote, urlencode
from xml.etree import ElementTree as ET

ACCESS_KEY = "AKIAIOSFODNN7EXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
REGION = "us-east-1"
Headers = Mapping[str, str]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def mac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def signing_key(secret: str, day: str, region: str = REGION) -> bytes:
    return mac(mac(mac(mac(("AWS4" + secret).encode(), day), region), "s3"), "aws4_request")


def amz_time(moment: float) -> str:
    return dt.datetime.fromtimestamp(moment, dt.UTC).strftime("%Y%m%dT%H%M%SZ")


@dataclass
class Answer:
    """What the door answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def xml(self) -> ET.Element:
        """The body, without namespaces."""
        root = ET.fromstring(self.body)
        for node in root.iter():
            node.tag = node.tag.rpartition("}")[2]
        return root

    @property
    def code(self) -> str:
        """The error's code."""
        return self.xml.findtext("Code") or ""

    @property
    def message(self) -> str:
        return self.xml.findtext("Message") or ""

    def texts(self, path: str) -> list[str]:
        return [node.text or "" for node in self.xml.findall(path)]


@dataclass
class Signer:
    """Signs requests, version 4."""

    access_key: str = ACCESS_KEY
    secret: str = SECRET
    region: str = REGION
    moment: float | None = None

    @property
    def now(self) -> float:
        return time.time() if self.moment is None else self.moment

    @staticmethod
    def canonical(
        method: str,
        path: str,
        query: Sequence[tuple[str, str]],
        headers: Headers,
        signed: Sequence[str],
        content: str,
    ) -> str:
        pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in query)
        return "\n".join(
            [
                method,
                quote(path, safe="/-_.~"),
                "&".join(f"{name}={value}" for name, value in pairs),
                "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in signed),
                ";".join(signed),
                content,
            ]
        )

    def signature(self, stamp: str, canonical: str) -> str:
        scope = f"{stamp[:8]}/{self.region}/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{sha256(canonical.encode('latin-1'))}"
        return mac(signing_key(self.secret, stamp[:8], self.region), text).hex()

    def sign(
        self, method: str, path: str, query: Sequence[tuple[str, str]], headers: Headers, content: str
    ) -> dict[str, str]:
        stamp = amz_time(self.now)
        full = dict(headers) | {"x-amz-date": stamp, "x-amz-content-sha256": content}
        signed = sorted(
            name for name in full if name == "host" or name.startswith("x-amz-") or name == "range"
        )
        signature = self.signature(stamp, self.canonical(method, path, query, full, signed, content))
        scope = f"{stamp[:8]}/{self.region}/s3/aws4_request"
        full["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.access_key}/{scope}, SignedHeaders={';'.join(signed)}, "
            f"Signature={signature}"
        )
        return full

    def presign(
        self, method: str, path: str, query: Sequence[tuple[str, str]], headers: Headers, seconds: int
    ) -> list[tuple[str, str]]:
        stamp = amz_time(self.now)
        signed = sorted(headers)
        pairs = [
            *query,
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            ("X-Amz-Credential", f"{self.access_key}/{stamp[:8]}/{self.region}/s3/aws4_request"),
            ("X-Amz-Date", stamp),
            ("X-Amz-Expires", str(seconds)),
            ("X-Amz-SignedHeaders", ";".join(signed)),
        ]
        canonical = self.canonical(method, path, pairs, headers, signed, "UNSIGNED-PAYLOAD")
        return [*pairs, ("X-Amz-Signature", self.signature(stamp, canonical))]

    def chunked(
        self,
        headers: Headers,
        data: bytes,
        size: int,
        *,
        trailers: Sequence[tuple[str, str]] = (),
        signed: bool = True,
    ) -> bytes:
        """The aws-chunked body of signed headers; trailers are signed where the chunks are."""
        stamp = headers.get("x-amz-date", "")
        scope = f"{stamp[:8]}/{self.region}/s3/aws4_request"
        key = signing_key(self.secret, stamp[:8], self.region) if signed else b""
        last = headers["authorization"].rpartition("Signature=")[2] if signed else ""
        out = b""
        for chunk in [*(data[at : at + size] for at in range(0, len(data), size)), b""]:
            head = f"{len(chunk):x}"
            if signed:
                text = f"AWS4-HMAC-SHA256-PAYLOAD\n{stamp}\n{scope}\n{last}\n{sha256(b'')}\n{sha256(chunk)}"
                last = mac(key, text).hex()
                head += f";chunk-signature={last}"
            out += head.encode() + b"\r\n"
            if chunk:
                out += chunk + b"\r\n"
        lines = "".join(f"{name}:{value}\n" for name, value in trailers)
        out += lines.replace("\n", "\r\n").encode()
        if trailers and signed:
            text = f"AWS4-HMAC-SHA256-TRAILER\n{stamp}\n{scope}\n{last}\n{sha256(lines.encode())}"
            out += f"x-amz-trailer-signature:{mac(key, text).hex()}\r\n".encode()
        return out + b"\r\n"

    def sign_v2(self, method: str, path: str, resource: str, headers: Headers) -> dict[str, str]:
        full = dict(headers) | {"date": formatdate(self.now, usegmt=True)}
        amz = "".join(f"{name}:{full[name]}\n" for name in sorted(full) if name.startswith("x-amz-"))
        text = "\n".join(
            [method, full.get("content-md5", ""), full.get("content-type", ""), full["date"], amz + resource]
        )
        digest = base64.b64encode(
            hmac.new(self.secret.encode(), text.encode(), hashlib.sha1).digest()
        ).decode()
        return full | {"authorization": f"AWS {self.access_key}:{digest}"}

    def presign_v2(self, method: str, resource: str, expires: int) -> list[tuple[str, str]]:
        text = f"{method}\n\n\n{expires}\n{resource}"
        digest = base64.b64encode(
            hmac.new(self.secret.encode(), text.encode(), hashlib.sha1).digest()
        ).decode()
        return [("AWSAccessKeyId", self.access_key), ("Expires", str(expires)), ("Signature", digest)]


@dataclass
class Client:
    """Calls a door in this process."""

    app: Any
    signer: Signer = field(default_factory=Signer)
    host: str = "localhost:8333"

    def __call__(
        self,
        method: str,
        path: str,
        data: bytes = b"",
        *,
        query: Sequence[tuple[str, str]] = (),
        headers: Headers | None = None,
        content: str | None = None,
    ) -> Answer:
        """A request signed in its headers; `content` is the payload's hash or mode, the true hash by default."""
        stated = sha256(data) if content is None else content
        full = {"host": self.host} | dict(headers or {})
        full = self.signer.sign(method, path, query, full, stated)
        return self.raw(method, path, data, query=query, headers=full)

    def raw(
        self,
        method: str,
        path: str,
        data: bytes = b"",
        *,
        query: Sequence[tuple[str, str]] | bytes = (),
        headers: Headers | None = None,
        pieces: Sequence[bytes] | None = None,
        path_as_sent: bytes | None = None,
    ) -> Answer:
        """A request exactly as given."""
        sent = dict(headers or {})
        sent.setdefault("host", self.host)
        sent.setdefault("content-length", str(len(data)))
        raw = quote(path, safe="/-_.~").encode() if path_as_sent is None else path_as_sent
        text = query if isinstance(query, bytes) else urlencode(query, quote_via=quote, safe="-_.~").encode()
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": raw,
            "query_string": text,
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in sent.items()],
            "client": ("127.0.0.1", 1),
            "scheme": "http",
        }
        return asyncio.run(self._call(scope, [data] if pieces is None else list(pieces)))

    async def _call(self, scope: dict[str, Any], pieces: list[bytes]) -> Answer:
        status, headers, body = 0, {}, b""

        async def receive() -> dict[str, Any]:
            if not pieces:  # the caller stays until it is answered
                await asyncio.Event().wait()
            piece = pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

        async def send(message: dict[str, Any]) -> None:
            nonlocal status, headers, body
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = {name.decode(): value.decode("utf-8") for name, value in message["headers"]}
            else:
                body += message.get("body", b"")

        await self.app(scope, receive, send)
        return Answer(status, headers, body)
