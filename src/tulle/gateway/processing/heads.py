"""The heads of requests that go on and of answers that go back, as bytes.

Headers of one connection alone end here (RFC 9110, 7.6.1), and those that the gateway adds for its processor alone.
Knows nothing of connections and of bodies.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from tulle.gateway.processing.exchange import (
    ADDRESS_HEADER,
    CLAIMS_HEADER,
    KEY_HEADER,
    TOKEN_HEADER,
    Call,
    Header,
)

_STATUS: Final = {int(one): f"HTTP/1.1 {int(one)} {one.phrase}\r\n".encode() for one in HTTPStatus}
# Of this connection alone (RFC 9110, 7.6.1), and the length, which is said anew.
OF_CONNECTION: Final = frozenset(
    {
        *(
            b"connection",
            b"keep-alive",
            b"proxy-connection",
            b"te",
            b"trailer",
            b"transfer-encoding",
            b"upgrade",
        ),
        *(b"content-length", b"expect"),
    }
)
_KEPT_HERE: Final = OF_CONNECTION | {KEY_HEADER, ADDRESS_HEADER, CLAIMS_HEADER, TOKEN_HEADER}
# A step that sees answers gets them whole and unpacked: a part of one, or one in unknown bytes, would get past it.
_WHOLE_ONLY: Final = _KEPT_HERE | {b"accept-encoding", b"range", b"if-range"}
_WITH_LENGTH: Final = frozenset({"POST", "PUT", "PATCH"})
NO_BODY: Final = frozenset({204, 304})


def request_head(call: Call, *, is_whole: bool) -> bytes:
    """Of a request as it is sent on; `is_whole`: steps have to see all of its answer."""
    left_out = _WHOLE_ONLY if is_whole else _KEPT_HERE
    lines = [b"%b %b HTTP/1.1\r\n" % (call.method.encode("latin-1"), call.target)]
    lines += [b"%b: %b\r\n" % one for one in call.headers if one[0] not in left_out]
    if call.body or call.method in _WITH_LENGTH:
        lines.append(b"content-length: %d\r\n" % len(call.body))
    lines.append(b"\r\n")
    return b"".join(lines)


def answer_head(status: int, headers: Sequence[Header], *, is_staying: bool) -> bytes:
    """Of an answer as it is sent back; without `is_staying` the connection ends with it."""
    lines = [_STATUS.get(status) or b"HTTP/1.1 %d \r\n" % status]
    lines += [b"%b: %b\r\n" % one for one in headers]
    lines.append(b"\r\n" if is_staying else b"connection: close\r\n\r\n")
    return b"".join(lines)
