"""One request on its way through the processor, and its answer: what steps look at and change.

Names of headers are in small letters. Knows nothing of connections, of Envoy and of what steps do.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote_plus

import msgspec

from tulle.gateway.processing.json_paths import Path
from tulle.gateway.processing.json_text import is_packed, name_twice, other_charset, type_of
from tulle.serving.endpoint import NODE_HEADERS
from tulle.serving.tracing import trace_of

Header = tuple[bytes, bytes]

# Set by the gateway alone: it takes what begins with x-tulle- from callers before it reads anything.
ERROR_HEADER: Final = b"x-tulle-error"
KEY_HEADER: Final = b"x-tulle-process"  # by which chain of steps a request is processed
CLIENT_HEADER: Final = b"x-tulle-client"
ADDRESS_HEADER: Final = b"x-tulle-address"  # of the caller
CLAIMS_HEADER: Final = b"x-tulle-claims"  # what a token that was checked says, base64url of JSON
TOKEN_HEADER: Final = b"x-tulle-token"  # the credentials as they were sent, for steps that check them
WAY_HEADER: Final = b"x-tulle-way"  # by which way the caller showed who he is
BY_CONTRACT: Final = "contract"  # the one whose names are those of applications and keys
REQUEST_ID: Final = b"x-request-id"

_JSON: Final = msgspec.json.Decoder()
# Numbers are kept as they are written: 1.10 stays 1.10, and what is too long for a double stays exact.
_JSON_AS_WRITTEN: Final = msgspec.json.Decoder(float_hook=msgspec.Raw)
# What says of a body what a changed body no longer is.
_OF_THE_BODY: Final = frozenset(
    {
        b"etag",
        b"content-md5",
        b"digest",
        b"content-digest",
        b"repr-digest",
        b"accept-ranges",
        b"content-range",
    }
)
_UNREAD: Final = object()


class Refusal(Exception):
    """A request ends here: with a status, in the one shape of errors, maybe with headers."""

    def __init__(
        self, status: int, error_type: str, message: str, detail: str = "", headers: Sequence[Header] = ()
    ) -> None:
        super().__init__(message)
        self.status, self.error_type, self.message, self.detail = status, error_type, message, detail
        self.headers = headers

    def answer(self, call: Call) -> Answer:
        """What is sent for it to whoever made this call."""
        trace = trace_of(call.headers)
        body = msgspec.json.encode(
            {
                "errorType": self.error_type,
                "message": self.message,
                "detailedMessage": f"{self.message}. {self.detail}" if self.detail else self.message,
                "requestId": call.request_id,
                **({"traceId": trace} if trace else {}),
            }
        )
        told = (
            ERROR_HEADER,
            self.error_type.encode(),
        )  # by which the access log tells it from an API's own errors
        headers = [(b"content-type", b"application/json"), told, *NODE_HEADERS, *self.headers]
        return Answer(self.status, headers, body, is_ours=True)


def unavailable(message: str = "A policy of this API cannot be carried out now") -> Refusal:
    """For whatever went wrong in here: nothing gets past a policy because of it, and nothing of it is told."""
    return Refusal(503, "PolicyUnavailable", message, "Try again", [(b"retry-after", b"1")])


class Call:
    """A request, whole. `who` is filled in by the gateway's headers; `notes` are the steps' own, by their number."""

    __slots__ = (
        "_by_name",
        "_claims",
        "_twice",
        "_value",
        "body",
        "headers",
        "method",
        "notes",
        "target",
        "tiers",
        "windows",
    )

    def __init__(
        self, method: str, target: bytes, headers: list[Header], body: bytes, tiers: Mapping[str, str]
    ) -> None:
        self.method = method
        self.target = target  # as it was sent, with the query
        self.headers = headers
        self.body = body
        self.tiers = tiers
        self.windows: Mapping[str, Sequence[str]] = {}  # by client, of the contract
        self.notes: dict[int, Any] = {}
        self._by_name: dict[bytes, bytes] | None = None
        self._value: Any = _UNREAD
        self._twice: Any = _UNREAD
        self._claims: Mapping[str, Any] | None = None

    def header(self, name: bytes) -> bytes | None:
        """The value of a header; the last one of several."""
        if self._by_name is None:
            self._by_name = dict(self.headers)
        return self._by_name.get(name)

    def all_of(self, name: bytes) -> list[bytes]:
        """The values of a header that may be there more than once."""
        return [value for known, value in self.headers if known == name]

    def set_header(self, name: bytes, value: bytes) -> None:
        """Send this value on and no other."""
        self.drop_headers({name})
        self.headers.append((name, value))
        self._by_name = None

    def drop_headers(self, names: Collection[bytes]) -> None:
        """Send none of them on."""
        self.headers = [one for one in self.headers if one[0] not in names]
        self._by_name = None

    def set_body(self, body: bytes) -> None:
        """Send these bytes on."""
        self.body = body
        self._value = self._twice = _UNREAD

    def forget(self) -> None:
        """Keep the body as bytes alone: as a value it is many times as large."""
        self._value = _UNREAD

    @property
    def path(self) -> bytes:
        """The path as it was sent."""
        return self.target.partition(b"?")[0]

    @property
    def query(self) -> list[tuple[str, str]]:
        """The pairs of the query, in their order."""
        query = self.target.partition(b"?")[2].decode("latin-1")
        pairs = (part.partition("=") for part in query.split("&") if part)
        return [(unquote_plus(name), unquote_plus(value)) for name, _, value in pairs]

    @property
    def query_as_sent(self) -> list[tuple[str, bytes]]:
        """The names in the query, each with the whole of its part as it was sent: what differs stays different."""
        parts = [part for part in self.target.partition(b"?")[2].split(b"&") if part]
        return [(unquote_plus(part.partition(b"=")[0].decode("latin-1")), part) for part in parts]

    @property
    def client(self) -> str:
        """The client that the gateway recognised; empty where an API is open to everybody.

        An application or key by its id; whoever came in another way with that way before his name, as in `token:till`,
        so that an issuer who calls somebody as an application of the mesh does not make him that.
        """
        name = (self.header(CLIENT_HEADER) or b"").decode("latin-1")
        way = (self.header(WAY_HEADER) or b"").decode("latin-1")
        return name if way == BY_CONTRACT or not name else f"{way}:{name}"

    @property
    def tier(self) -> str:
        """The tier of the client's contract, empty where it has none."""
        return self.tiers.get(self.client, "")

    @property
    def address(self) -> str:
        """Where the caller is, as the gateway sees it."""
        return (self.header(ADDRESS_HEADER) or b"").decode("latin-1")

    @property
    def request_id(self) -> str:
        """By which the gateway's log knows it."""
        return (self.header(REQUEST_ID) or b"").decode("latin-1")

    @property
    def claims(self) -> Mapping[str, Any]:
        """What the token says that the gateway has checked; nothing where there was none."""
        if self._claims is None:
            self._claims = _claims(self.header(CLAIMS_HEADER))
        return self._claims

    @property
    def content_type(self) -> str:
        """In small letters, without parameters; empty when nothing is said."""
        return type_of(self.header(b"content-type"))

    def json(self) -> Any:
        """The body as a value. Refusal: 400 when it is not JSON, 415 when others may read other JSON in its bytes."""
        if self._value is _UNREAD:
            if is_packed(self.header(b"content-encoding")):
                raise Refusal(
                    415,
                    "UnsupportedEncoding",
                    "The request body is packed",
                    "Send it without content-encoding",
                )
            if (charset := other_charset(self.header(b"content-type"))) is not None:
                raise Refusal(
                    415,
                    "UnsupportedContent",
                    f"A body in the charset '{charset}' is not accepted here",
                    "Send JSON as UTF-8, and content-type without charset",
                )
            try:
                self._value = _JSON.decode(self.body)
            except (msgspec.MsgspecError, RecursionError, ValueError) as exc:
                raise not_json(exc) from None
        return self._value

    def name_twice(self) -> str | None:
        """A name that an object of the body has twice, so that readers differ in what it says. Refusal as `json`."""
        if self._twice is _UNREAD:
            value = self.json()
            try:
                self._twice = name_twice(self.body, value)
            except (RecursionError, ValueError) as exc:
                raise not_json(exc) from None
        found: str | None = self._twice
        return found

    def found(self, path: Path) -> list[Any]:
        """All that a path finds in the body; numbers that are not whole as `msgspec.Raw`. Refusal as `json`."""
        try:
            found = path.found(self.json())
            # As a double, a number is like others that are not the same; few bodies need to be read again for it.
            return path.found(_JSON_AS_WRITTEN.decode(self.body)) if _has_double(found) else found
        except RecursionError as exc:
            raise not_json(exc) from None


class Answer:
    """What is sent back. `is_ours`: it was made here, or kept from before; no target is asked for it.

    `length`: bytes of its body as the target said, None where it did not.
    """

    __slots__ = ("_is_changed", "_value", "body", "headers", "is_ours", "length", "status")

    def __init__(
        self, status: int, headers: list[Header], body: bytes = b"", *, is_ours: bool = False
    ) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.is_ours = is_ours
        self.length: int | None = None
        self._value: Any = _UNREAD
        self._is_changed = False

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header."""
        for known, value in self.headers:
            if known == name:
                return value
        return None

    def set_header(self, name: bytes, value: bytes) -> None:
        """This value and no other."""
        self.headers = [one for one in self.headers if one[0] != name]
        self.headers.append((name, value))

    def drop_headers(self, names: Collection[bytes]) -> None:
        """None of them."""
        self.headers = [one for one in self.headers if one[0] not in names]

    @property
    def content_type(self) -> str:
        """In small letters, without parameters; empty when nothing is said."""
        return type_of(self.header(b"content-type"))

    def json(self) -> Any:
        """The body as a value, numbers that are not whole as `msgspec.Raw`. ValueError when it is not JSON."""
        if self._value is _UNREAD:
            try:
                self._value = _JSON_AS_WRITTEN.decode(self.body)
            except (msgspec.MsgspecError, RecursionError) as exc:
                raise ValueError(_told(exc)) from None
        return self._value

    def set_json(self, value: Any) -> None:
        """Send this value."""
        self._value = value
        self.set_body(msgspec.json.encode(value))

    def set_body(self, body: bytes) -> None:
        """Send these bytes; what was said of others is taken back."""
        self.body = body
        if not self._is_changed:
            self._is_changed = True
            self.drop_headers(_OF_THE_BODY)

    def unpack(self, most: int) -> None:
        """Undo gzip or deflate. ValueError for another encoding, damage, or more than `most` bytes."""
        encoding = (self.header(b"content-encoding") or b"").strip().lower()
        if not is_packed(encoding):
            return
        if encoding not in {b"gzip", b"x-gzip", b"deflate"}:
            raise ValueError(f"its encoding '{encoding.decode('latin-1')[:40]}' is not known")
        self.set_body(inflated(self.body, most))
        self.drop_headers({b"content-encoding"})


def inflated(body: bytes, most: int) -> bytes:
    """What was packed by gzip or deflate; ValueError when it is damaged or more than `most` bytes."""
    try:
        unpacking = zlib.decompressobj(wbits=47)  # the header says whether it is gzip or zlib
        found = unpacking.decompress(body, most + 1)
    except zlib.error as exc:
        raise ValueError(f"it cannot be unpacked ({exc})") from None
    if len(found) > most:
        raise ValueError(f"it is more than {most} bytes when it is unpacked")
    if not unpacking.eof or unpacking.unused_data:
        raise ValueError("it cannot be unpacked as a whole")
    return found


def _claims(packed: bytes | None) -> Mapping[str, Any]:
    if not packed:
        return {}
    import base64  # noqa: PLC0415  only where tokens are

    try:
        found = _JSON.decode(base64.urlsafe_b64decode(packed + b"=" * (-len(packed) % 4)))
    except (ValueError, msgspec.MsgspecError):
        return {}
    return found if isinstance(found, dict) else {}


def _has_double(value: Any) -> bool:
    if isinstance(value, list | dict):
        return any(map(_has_double, value if isinstance(value, list) else value.values()))
    return isinstance(value, float)


def not_json(exc: Exception) -> Refusal:
    """For a body that raised this when it was read."""
    return Refusal(400, "InvalidRequest", f"The body is not read as JSON: {_told(exc)}")


def _told(exc: Exception) -> str:
    return "it is nested too deeply" if isinstance(exc, RecursionError) else str(exc)
