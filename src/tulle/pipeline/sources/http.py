"""Rows of an HTTP API: page after page, signed in, no faster than it allows, and again when it fails for a moment.

A connection's credentials go to its own address only: redirects and links to other pages are followed there and
nowhere else. Addresses that are not public are reached only where the mesh says so.
"""

from __future__ import annotations

import base64
import email.utils
import hashlib
import random
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode, urljoin, urlsplit, urlunsplit

import httpcore
import msgspec

from tulle.config import Settings
from tulle.errors import Denied, Invalid, LimitExceeded, NotFound, Problem, TulleError, Unavailable
from tulle.pipeline.ingest import SourceFile
from tulle.pipeline.sources.client_credentials import OAUTH2
from tulle.pipeline.sources.cursor import Cursor
from tulle.pipeline.sources.files import Files, scratch
from tulle.pipeline.sources.hidden import without_secrets
from tulle.pipeline.sources.judged import Judged
from tulle.pipeline.sources.reading import Ask, Reading
from tulle.pipeline.sources.token import Token
from tulle.pipeline.sources.token import ask as ask_for_token
from tulle.spec.source import Paging, Source
from tulle.state.connections import Connection

TRIES = 6
MOST_PAGES = 100_000
MOST_BYTES = 256 << 20  # of one answer
LONGEST_WAIT_SECONDS = 300.0
_TIMEOUT = {"connect": 15.0, "read": 120.0, "write": 60.0, "pool": 15.0}
_PASSING = {408, 425, 429, 500, 502, 503, 504}
_REDIRECTS = {301, 302, 303, 307, 308}
_MOST_REDIRECTS = 5
_TOKEN_SHARE = (
    0.9  # of the time that a token is good: then another one is asked for; on its way it must not end
)
_TOKEN_YOUNG = 10.0  # seconds of age, before a token that was refused is given up
_SAFE = "%/:?@!$&'()*+,;=~[]"
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_NEXT = re.compile(
    r'<([^>]*)>\s*;[^,]*\brel=(?:next(?![^\s;,])|"(?:[^"]*\s)?next(?:\s[^"]*)?")', re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Api:
    """One API: its address, what signs in, and how fast it may be asked."""

    def __init__(
        self, connection: Connection | None, settings: Settings, requests_per_second: float = 0
    ) -> None:
        self._connection = connection
        self._pool = httpcore.ConnectionPool(network_backend=Judged(settings), max_connections=2)
        self._pause = 1 / requests_per_second if requests_per_second else 0.0
        self._last = 0.0
        self._settings = settings
        self._token: Token | None = None
        self._token_since = 0.0  # monotonic
        self._signed_by_token = connection is not None and connection.options.get("auth") == OAUTH2
        self._headers = _headers(None if self._signed_by_token else connection)

    def close(self) -> None:
        """Close its connections."""
        self._pool.close()

    def address(self, path: str) -> str:
        """The URL of a path. Denied when it leads away from the connection."""
        if self._connection is None:
            return path
        base = self._connection.address
        url = path if "://" in path else base.rstrip("/") + "/" + path.lstrip("/")
        if _origin(url) != _origin(base):
            hint = "make a connection of its own for it"
            raise Denied(
                f"{_shown(url)} is not at the address of connection '{self._connection.name}'", hint=hint
            )
        return url

    def get(self, url: str, *, tries: int = TRIES) -> Answer:
        """The answer to a GET, asked again while it may pass. Unavailable, Denied, NotFound, Invalid."""
        url = _encoded(url)
        for number in range(tries):
            wait, told = 0.5 * 2**number * random.uniform(0.8, 1.2), ""  # noqa: S311  no secret
            try:
                answer = self._followed(url)
            except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.RemoteProtocolError) as exc:
                told = f"{_shown(url)} does not answer: {self._plain(str(exc)) or type(exc).__name__}"
            else:
                if answer.status < 300:
                    return answer
                if answer.status not in _PASSING:
                    raise self._refusal(url, answer)
                told = f"{_shown(url)} answers {answer.status}"
                wait = max(wait, _retry_after(answer.headers.get("retry-after", "")))
            if number + 1 == tries:
                raise Unavailable(f"{told}, {tries} times" if tries > 1 else told, hint="try again later")
            if wait > LONGEST_WAIT_SECONDS:
                raise Unavailable(f"{told} and asks to wait {wait:,.0f} s", hint="run again later")
            time.sleep(wait)
        raise AssertionError

    def _followed(self, url: str) -> Answer:
        for _ in range(_MOST_REDIRECTS):
            answer = self._once(url)
            if answer.status not in _REDIRECTS or "location" not in answer.headers:
                return answer
            target = urljoin(url, answer.headers["location"])
            if _origin(target) != _origin(url):
                raise Denied(
                    f"{_shown(url)} sends on to {_shown(target)}, another host", hint="name that address"
                )
            url = _encoded(target)
        raise Invalid(f"{_shown(url)} sends on in a circle")

    def sign_in(self) -> str:
        """Get a token where it takes one: what came, but never the token itself; nothing where it takes none."""
        self._signed()
        if self._token is None or self._connection is None:
            return ""
        scope = f" for the scope '{self._plain(self._token.scope)}'" if self._token.scope else ""
        where = _shown(self._connection.options["token_url"])
        return f"{where} gives a token for {self._token.seconds:,.0f} s{scope}; "

    def _signed(self) -> list[tuple[bytes, bytes]]:
        """The headers, with a token that is good where it takes one."""
        if not self._signed_by_token or self._connection is None:
            return self._headers
        token, age = self._token, time.monotonic() - self._token_since
        if token is None or age >= token.seconds * _TOKEN_SHARE:
            self._token_since = time.monotonic()
            token = self._token = ask_for_token(self._connection, self._settings)
        return [*self._headers, (b"Authorization", f"Bearer {token.value}".encode())]

    def _once(self, url: str, *, is_last: bool = False) -> Answer:
        wait = self._last + self._pause - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        self._last = time.monotonic()
        try:
            with self._pool.stream(
                "GET", url, headers=self._signed(), extensions={"timeout": _TIMEOUT}
            ) as response:
                body = bytearray()
                for piece in response.iter_stream():
                    body += piece
                    if len(body) > MOST_BYTES:
                        hint = "ask for smaller pages"
                        raise LimitExceeded(
                            f"{_shown(url)} answers more than {MOST_BYTES >> 20} MB", hint=hint
                        )
                answer = Answer(response.status, _joined(response.headers), bytes(body))
        except (httpcore.UnsupportedProtocol, httpcore.LocalProtocolError, TypeError, ValueError) as exc:
            # It is we who may not send that: an address that is none, a header with signs that no header may have.
            raise Invalid(f"{_shown(url)} cannot be asked: {self._plain(str(exc))}") from None
        is_old = self._token is not None and time.monotonic() - self._token_since > _TOKEN_YOUNG
        if answer.status == 401 and is_old and not is_last:
            self._token = None  # it may have been taken back
            return self._once(url, is_last=True)
        return answer

    def _plain(self, text: str) -> str:
        if self._token is not None:
            text = text.replace(self._token.value, "…")
        return without_secrets(self._connection, text)

    def _refusal(self, url: str, answer: Answer) -> TulleError:
        said = answer.body[:4000].decode("utf-8", "replace")
        # Before it is cut: the beginning of a secret is one too.
        said = " ".join(self._plain(said).split())[:200]
        message = f"{_shown(url)} answers {answer.status}" + (f": {said}" if said else "")
        name = self._connection.name if self._connection else ""
        if answer.status in {401, 403}:
            hint = f"`tulle connection set {name} …`" if name else "name a connection that signs in"
            return Denied(message, hint=hint)
        return NotFound(message) if answer.status in {404, 410} else Invalid(message)


def ping(connection: Connection, settings: Settings) -> str:
    """What the address of a connection answers, and where it signs in with tokens, what came when one was asked for."""
    api, came = Api(connection, settings), ""
    try:
        came = api.sign_in()
        answer = api.get(connection.address, tries=1)
    except NotFound as exc:
        return f"{came}{exc.message}; it is there and lets us in"
    except TulleError as exc:
        raise type(exc)(f"{came}{exc.message}", hint=exc.hint) from exc
    finally:
        api.close()
    return f"{came}{_shown(connection.address)} answers {answer.status}"


@contextmanager
def opened(ask: Ask) -> Iterator[Reading]:
    """The rows an http source gives, fetched to this disk page by page."""
    source = ask.source
    api = Api(ask.connection, ask.settings, source.requests_per_second)
    try:
        files = list(_Pages(ask, api).fetched())
    except TulleError as exc:
        problem = Problem(exc.message, source.place, exc.hint)
        raise type(exc)(exc.message, hint=exc.hint, problems=[problem, *exc.problems]) from exc
    finally:
        api.close()
    try:
        yield Files(ask, files, f"{_shown(api.address(source.path))}", {})
    finally:
        for file in files:
            file.path.unlink(missing_ok=True)


class _Pages:
    """Asks for one page after another and keeps each as a file of rows."""

    def __init__(self, ask: Ask, api: Api) -> None:
        self.ask, self.api, self.source = ask, api, ask.source
        self.url = api.address(self.source.path)
        self.asked: set[str] = set()

    def fetched(self) -> Iterator[SourceFile]:
        """A file a page that has rows."""
        paging, number, url, last = self.source.paging, 0, self._first(), b""
        while url:
            if url in self.asked:
                raise Invalid(
                    f"{_shown(url)} leads back to a page that was read", hint="see 'paging' of the source"
                )
            if number >= MOST_PAGES:
                raise LimitExceeded(
                    f"{_shown(self.url)} has more than {MOST_PAGES:,} pages", hint="raise 'size'"
                )
            self.asked.add(url)
            answer = self.api.get(url)
            label = _shown(self.url) + (f" page {number + 1:,}" if paging.type != "none" else "")
            self._demand_rows(answer, label)
            rows, file = self._kept(answer, number, label)
            content = hashlib.sha256(answer.body).digest()
            if rows and content == last and paging.type != "none":
                hint = "see 'param' of 'paging': the API does not seem to know the parameter that asks for a page"
                raise Invalid(f"{label} is the same as the page before it, to the last byte", hint=hint)
            last = content
            if number == 0 and 0 < rows < paging.size:
                self._demand_all(url, rows, answer.body)
            if file is not None:
                yield SourceFile(file, label)
            number += 1
            url = self._next(url, answer, rows, number)

    def _first(self) -> str:
        paging, params = self.source.paging, dict(self.source.params)
        if paging.size and (paging.size_param or paging.type == "offset"):
            params[paging.size_param or "limit"] = str(paging.size)
        if self.source.cursor_param and self.ask.since is not None:
            params[self.source.cursor_param] = _since(self.ask.since)
        return _with(self.url, {**params, **_start(paging)})

    def _next(self, url: str, answer: Answer, rows: int, number: int) -> str:
        paging = self.source.paging
        match paging.type:
            case "link":
                found = _NEXT.search(answer.headers.get("link", ""))
                return self.api.address(self._same(urljoin(url, found[1]))) if found else ""
            case "page" if rows and (not paging.size or rows >= paging.size):
                return _with(url, {paging.param or "page": str(paging.start + number)})
            case "offset" if rows >= paging.size:
                return _with(url, {paging.param or "offset": str(number * paging.size)})
            case "cursor":
                token = _at(answer.body, paging.next, self.url)
                value = msgspec.json.decode(token) if token is not None else None
                return (
                    _with(url, {paging.param or "cursor": str(value)})
                    if value not in {None, "", False}
                    else ""
                )
        return ""

    def _demand_all(self, first: str, rows: int, body: bytes) -> None:
        """A first page with fewer rows than a page has is the last, unless the API gives no more at once. Invalid."""
        paging = self.source.paging
        following = {"page": ("page", paging.start + 1), "offset": ("offset", rows)}.get(paging.type)
        if following is None:
            return
        url = _with(first, {paging.param or following[0]: str(following[1])})
        try:
            answer = self.api.get(url)
            more = self._count(answer.body, _shown(url)) if answer.body != body else 0
        except (NotFound, Invalid, Denied):
            return  # as many an API says of a page that is not there
        if more:
            hint = f"write size: {rows} in 'paging' of the source, if that is the most it gives"
            raise Invalid(
                f"{_shown(url)} gives {rows:,} rows a page, not {paging.size:,}, and has more", hint=hint
            )

    def _same(self, url: str) -> str:
        if _origin(url) != _origin(self.url):
            raise Denied(f"the next page of {_shown(self.url)} is at {_shown(url)}, another host")
        return url

    def _demand_rows(self, answer: Answer, label: str) -> None:
        """A page for people is no rows, whatever its status says."""
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind in {"text/html", "application/xhtml+xml"}:
            hint = "is the path right, and does the connection sign in? A page for people was answered"
            raise Invalid(f"{label} answers {kind}, not {self.source.format}", hint=hint)

    def _kept(self, answer: Answer, number: int, label: str) -> tuple[int, Path | None]:
        if self.source.format != "json":
            file = scratch(self.ask.folder, number, ".csv")
            file.write_bytes(answer.body)
            rows = self._count(answer.body, label)
            return rows, file if rows else None
        found = _records(answer.body, self.source, label)
        if not found:
            return 0, None
        file = scratch(self.ask.folder, number, ".json")
        with file.open("wb") as out:
            for row in found:  # a line break outside of a text is only space
                out.write(bytes(row).replace(b"\n", b" ").replace(b"\r", b" ") + b"\n")
        return len(found), file

    def _count(self, body: bytes, label: str) -> int:
        if self.source.format == "json":
            return len(_records(body, self.source, label))
        return max(sum(1 for line in body.splitlines() if line.strip()) - self.source.header, 0)


def _records(body: bytes, source: Source, label: str) -> list[msgspec.Raw]:
    part = _at(body, source.records, label) if source.records else body
    if part is None:
        hint = "see 'records' of the source"
        raise Invalid(f"the answer of {label} has nothing at '{source.records}'", hint=hint)
    try:
        return msgspec.json.decode(part, type=list[msgspec.Raw])
    except _NOT_JSON as exc:
        what = f"'{source.records}' of the answer" if source.records else "the answer"
        advice = None if source.records else "name where the list is: records: data.items"
        raise Invalid(f"{what} of {label} is no list of rows: {exc}", hint=advice) from None


def _at(body: bytes, path: str, label: str) -> bytes | None:
    """The JSON at a dotted path of a JSON text, None when there is none."""
    part: bytes | msgspec.Raw = body
    try:
        for step in path.split("."):
            found = msgspec.json.decode(part, type=dict[str, msgspec.Raw] | None)
            if not found or step not in found:
                return None
            part = found[step]
    except _NOT_JSON as exc:
        raise Invalid(f"the answer of {label} is not the JSON it should be: {exc}") from None
    return bytes(part)


def _start(paging: Paging) -> dict[str, str]:
    if paging.type == "page":
        return {paging.param or "page": str(paging.start)}
    return {paging.param or "offset": "0"} if paging.type == "offset" else {}


def _since(cursor: Cursor) -> str:
    return cursor.text.replace(" ", "T") + "Z" if cursor.type == "timestamp" else cursor.text


def _joined(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by name; what is said several times, such as links, is one list as it would be on one line."""
    found: dict[str, str] = {}
    for raw, value in headers:
        name, text = raw.decode("latin-1").lower(), value.decode("latin-1")
        found[name] = f"{found[name]}, {text}" if name in found else text
    return found


def _with(url: str, params: Mapping[str, str]) -> str:
    parts = urlsplit(url)
    kept = [(k, v) for k, v in parse_qsl(parts.query, keep_blank_values=True) if k not in params]
    return urlunsplit(parts._replace(query=urlencode([*kept, *params.items()]), fragment=""))


def _origin(url: str) -> tuple[str, str, int | None]:
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        raise Invalid("an address cannot be read") from None
    return parts.scheme, parts.hostname or "", port


def _shown(url: str) -> str:
    """An address without what follows its path: parameters may be anybody's business."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _encoded(url: str) -> str:
    """An address with what no address may have in it percent-encoded. Invalid."""
    try:
        parts = urlsplit(url)
        host = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode()
    except ValueError as exc:
        raise Invalid(f"an address cannot be read: {exc}") from None
    path, query = (quote(part, safe=_SAFE) for part in (parts.path, parts.query))
    return urlunsplit((parts.scheme, host, path, query, ""))


def _headers(connection: Connection | None) -> list[tuple[bytes, bytes]]:
    found = [("Accept", "application/json, text/csv;q=0.9, */*;q=0.5"), ("User-Agent", "tulle")]
    found.append(("Accept-Encoding", "identity"))
    if connection is not None:
        found += signing_headers(connection).items()
    return [(name.encode(), value.encode()) for name, value in found]


def signing_headers(connection: Connection) -> dict[str, str]:
    """The headers that sign in where a connection leads. Invalid where that takes more than headers."""
    options, secrets = connection.options, connection.secrets
    match options.get("auth"):
        case "bearer":
            return {"Authorization": f"Bearer {secrets['token']}"}
        case "basic":
            both = f"{options['user']}:{secrets['password']}".encode()
            return {"Authorization": f"Basic {base64.b64encode(both).decode()}"}
        case "header":
            return {options["header"]: secrets["token"]}
        case "oauth2":
            raise Invalid(
                f"connection '{connection.name}' signs in with tokens of OAuth2, which APIs and sources do alone",
                hint="take one with auth=bearer, basic or header here",
            )
    return {}


def _retry_after(text: str) -> float:
    if text.strip().isdigit():
        return float(text)
    when = email.utils.parsedate_tz(text)
    return max(0.0, email.utils.mktime_tz(when) - time.time()) if when else 0.0
