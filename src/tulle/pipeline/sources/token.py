"""Tokens of OAuth2 that a connection is given as a client with credentials of its own: asked for, and judged.

Asked as the gateway asks for them (`gateway/envoy_sign_in.py`), and taken or not as there (`gateway/sign_in.lua`), so
that what is found here holds there. No error has the secret or a token. Knows nothing of what a token opens.
"""

from __future__ import annotations

import base64
import ssl
import time
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

import httpcore
import msgspec

from tulle.config import Settings
from tulle.errors import Denied, Invalid, TulleError, Unavailable
from tulle.pipeline.sources.hidden import without_secrets
from tulle.pipeline.sources.judged import Judged
from tulle.pipeline.sources.kept_certificates import with_certificates
from tulle.state.connections import Connection

PATIENCE: Final = 5.0  # seconds, as long as the gateway waits
USUAL_SECONDS: Final = 300.0  # that a token counts where it is not said
_LONGEST_SECONDS: Final = 86_400.0
_MOST_BYTES: Final = 64 * 1024  # of an answer
_LONGEST: Final = 8192  # characters of a token, as the gateway sends it
_NOT_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Token:
    """What opens something for `seconds`, counted from before it was asked for; its text never has it."""

    value: str = field(repr=False)
    seconds: float
    scope: str = ""


def ask(connection: Connection, settings: Settings) -> Token:
    """A token for a connection with auth=oauth2, asked for once.

    Denied where it is refused, or where that address may not be asked; Unavailable where nobody answers in time;
    Invalid for an answer that has no token.
    """
    said = connection.options
    url = said["token_url"]
    shown, began = _shown(url), time.monotonic()
    try:
        with httpcore.ConnectionPool(
            network_backend=Judged(settings), ssl_context=_trusting(connection)
        ) as pool:
            status, kind, body = _answer(pool, url, *_request(connection), began)
    except httpcore.TimeoutException:
        raise Unavailable(
            f"{shown} gives no token: no answer within {PATIENCE:.0f} s",
            hint="is that where tokens are given?",
        ) from None
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol, ValueError) as exc:
        raise _unreached(shown, without_secrets(connection, str(exc)) or type(exc).__name__) from None
    except TulleError as exc:  # the address is one that may not be asked, or has none
        told = f"the 'token_url' of connection '{connection.name}': {exc.message}"
        raise type(exc)(told, hint=exc.hint) from None
    if status != 200:
        raise _refusal(connection, shown, status, body)
    return _token(shown, kind, body)


def _request(connection: Connection) -> tuple[list[tuple[bytes, bytes]], bytes]:
    said, secret = connection.options, connection.secrets["client_secret"]
    form = {"grant_type": "client_credentials", "scope": said.get("scope"), "audience": said.get("audience")}
    headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
    headers["user-agent"] = "tulle"
    if said.get("client_auth") == "body":
        form |= {"client_id": said["client_id"], "client_secret": secret}
    else:  # both encoded as in a form before they are joined (RFC 6749, 2.3.1)
        both = ":".join(quote(one, safe="") for one in (said["client_id"], secret))
        headers["authorization"] = f"Basic {base64.b64encode(both.encode()).decode()}"
    body = urlencode({name: value for name, value in form.items() if value}, quote_via=quote).encode()
    headers["content-length"] = str(len(body))
    return [(name.encode(), value.encode()) for name, value in headers.items()], body


def _trusting(connection: Connection) -> ssl.SSLContext:
    """What the certificate of who gives tokens is checked with; that is what the gateway trusts, too."""
    kept = with_certificates(connection).certificates
    return ssl.create_default_context(cadata=kept or None)


def _answer(
    pool: httpcore.ConnectionPool, url: str, headers: list[tuple[bytes, bytes]], content: bytes, began: float
) -> tuple[int, str, bytes]:
    timeout = {"connect": PATIENCE, "read": PATIENCE, "write": PATIENCE, "pool": PATIENCE}
    with pool.stream("POST", url, headers=headers, content=content, extensions={"timeout": timeout}) as got:
        body = bytearray()
        for piece in got.iter_stream():
            body += piece
            if len(body) > _MOST_BYTES:
                raise Invalid(
                    f"the answer has more than {_MOST_BYTES >> 10} KB, which is no token",
                    hint="is it the right address?",
                )
            if time.monotonic() - began > PATIENCE:
                raise httpcore.ReadTimeout
        kind = next((v.decode("latin-1") for n, v in got.headers if n.lower() == b"content-type"), "")
        return got.status, kind.partition(";")[0].strip().lower()[:80], bytes(body)


def _unreached(shown: str, said: str) -> Unavailable:
    if "SSL" in said.upper() or "CERTIFICATE" in said.upper():
        return Unavailable(
            f"{shown} gives no token: its TLS is not to be trusted: {said}",
            hint="--option ca_file=/… names the certificates to check it with; its certificate must have that name",
        )
    return Unavailable(
        f"{shown} gives no token: it cannot be reached: {said}", hint="see the option 'token_url'"
    )


def _refusal(connection: Connection, shown: str, status: int, body: bytes) -> TulleError:
    """Why there is no token, by the words of OAuth2 where there are some."""
    words = [str(value) for name in ("error", "error_description") if (value := _part(body, name))]
    # Before it is cut: the beginning of a secret is one too.
    said = " ".join(without_secrets(connection, ": ".join(words)).split())[:200]
    message = f"{shown} gives no token: it answers {status}" + (f", {said}" if said else "")
    if status >= 500 or status in {408, 429}:
        return Unavailable(message, hint="try again later")
    if 300 <= status < 400:
        return Invalid(
            f"{message}, and no redirect is followed", hint="name the address it leads to as 'token_url'"
        )
    if status in {404, 405, 410}:
        return Invalid(message, hint="see the option 'token_url'")
    return Denied(
        message,
        hint=f"see client_id, scope, audience and client_auth (header or body), and the secret: "
        f"`tulle connection set {connection.name} …`",
    )


def _part(body: bytes, name: str) -> Any:
    """What an answer says under a name; nothing where it is no object."""
    try:
        found = msgspec.json.decode(body)
    except _NOT_JSON:
        return None
    return found.get(name) if isinstance(found, dict) else None


def _token(shown: str, kind: str, body: bytes) -> Token:
    try:
        found = msgspec.json.decode(body)
    except _NOT_JSON:
        what = kind or "something"
        raise Invalid(
            f"{shown} gives no token: its answer is {what} and no JSON", hint="see the option 'token_url'"
        ) from None
    value = found.get("access_token") if isinstance(found, dict) else None
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST or not _can_be_sent(value):
        raise Invalid(
            f"{shown} gives no token: its answer has no access_token that can be sent",
            hint=f"up to {_LONGEST:,} visible characters of ASCII are, as RFC 6750 has them",
        )
    type_ = found.get("token_type", "Bearer")
    if not isinstance(type_, str) or type_[:6].lower() != "bearer":
        raise Invalid(f"{shown} gives a token of type '{str(type_)[:40]}', none of type Bearer")
    scope = found.get("scope")
    return Token(value, _seconds(found.get("expires_in")), scope[:200] if isinstance(scope, str) else "")


def _can_be_sent(value: str) -> bool:
    return all("!" <= one <= "~" for one in value) and not set(value) & {'"', "\\"}


def _seconds(said: object) -> float:
    try:
        found = float(str(said)) if said is not None else USUAL_SECONDS
    except ValueError:
        found = USUAL_SECONDS
    return min(max(found, 1.0), _LONGEST_SECONDS) if found == found else USUAL_SECONDS  # noqa: PLR0124  no number


def _shown(url: str) -> str:
    """An address without what follows its path."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
