"""Tokens that a real server gives, or does not: for trying a connection and for reading rows, never shown."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.gateway.external import Authority
from tests.gateway.token_issuer import Issuer
from tests.pipeline.sources.conftest import Api, Shop, problems

from tulle.config import Settings
from tulle.errors import Denied, Invalid, TulleError, Unavailable
from tulle.pipeline.sources import http, token
from tulle.pipeline.sources.address import made
from tulle.pipeline.sources.probe import probe
from tulle.state.connections import Connection

SECRET = "s3cret:/ ü"
SETTINGS = Settings(folder=Path("/nowhere"), source_addresses=("127.0.0.1", "localhost"))


@pytest.fixture(scope="module")
def server() -> Iterator[Issuer]:
    with Issuer() as found:
        yield found


@pytest.fixture
def issuer(server: Issuer) -> Issuer:
    server.reset()
    return server


def connection(url: str, address: str = "http://127.0.0.1:1/v1", **options: str) -> Connection:
    said = {"auth": "oauth2", "token_url": url, "client_id": "me:shop", **options}
    return made("shop-api", "prod", "http", address, said, {"client_secret": SECRET})


def test_it_is_asked_for_as_the_gateway_asks(issuer: Issuer) -> None:
    url = f"http://127.0.0.1:{issuer.port}/oauth2/token?tenant=1"
    found = token.ask(connection(url, scope="read write", audience="orders"), SETTINGS)
    assert (found.value, found.seconds, found.scope) == ("tok/en-1", 3600, "")
    assert "tok" not in repr(found)
    ((path, headers, body),) = issuer.asked
    assert (path, body) == (
        "/oauth2/token?tenant=1",
        "grant_type=client_credentials&scope=read%20write&audience=orders",
    )
    both = base64.b64decode(headers["authorization"].removeprefix("Basic ")).decode()
    assert both == "me%3Ashop:s3cret%3A%2F%20%C3%BC"
    token.ask(connection(url, client_auth="body"), SETTINGS)
    _, headers, body = issuer.asked[1]
    assert "authorization" not in headers
    assert body.endswith("&client_id=me%3Ashop&client_secret=s3cret%3A%2F%20%C3%BC")


@pytest.mark.parametrize(
    ("said", "seconds"),
    [({}, 300), ({"expires_in": "60"}, 60), ({"expires_in": 10**9}, 86_400), ({"expires_in": "soon"}, 300),
     ({"expires_in": -1, "token_type": "bearer"}, 1), ({"expires_in": "nan"}, 300)],
)  # fmt: skip
def test_how_long_it_counts(issuer: Issuer, said: dict[str, object], seconds: float) -> None:
    issuer.says = lambda _: json.dumps({"access_token": "t", **said})
    assert token.ask(connection(f"http://127.0.0.1:{issuer.port}/"), SETTINGS).seconds == seconds


@pytest.mark.parametrize(
    ("status", "says", "kind", "told"),
    [
        (401, '{"error": "invalid_client", "error_description": "not s3cret:/ ü"}', Denied,
         "answers 401, invalid_client: not …"),
        (400, '{"error": "invalid_scope"}', Denied, "answers 400, invalid_scope"),
        (403, "<html>no</html>", Denied, "answers 403"),
        (404, "", Invalid, "answers 404"),
        (302, "", Invalid, "answers 302, and no redirect is followed"),
        (429, "{}", Unavailable, "answers 429"),
        (503, "[1]", Unavailable, "answers 503"),
        (200, "<html>welcome</html>", Invalid, "its answer is text/html and no JSON"),
        (200, "[]", Invalid, "has no access_token that can be sent"),
        (200, '{"access_token": 1}', Invalid, "has no access_token that can be sent"),
        (200, '{"access_token": "a b"}', Invalid, "has no access_token that can be sent"),
        (200, '{"access_token": "' + "x" * 9000 + '"}', Invalid, "has no access_token that can be sent"),
        (200, '{"access_token": "t", "token_type": "mac"}', Invalid, "a token of type 'mac'"),
        (200, "[" * 50_000, Invalid, "no JSON"),
        (200, " " * 100_000, Invalid, "more than 64 KB"),
    ],
)  # fmt: skip
def test_why_there_is_none(issuer: Issuer, status: int, says: str, kind: type[TulleError], told: str) -> None:
    issuer.status, issuer.says = status, lambda _: says
    issuer.headers = {"content-type": "text/html", "location": "/elsewhere"}
    url = f"http://127.0.0.1:{issuer.port}/token"
    with pytest.raises(kind) as refused:
        token.ask(connection(url + "?key=1"), SETTINGS)
    assert told in refused.value.message
    assert "?key" not in refused.value.message
    assert "s3cret" not in str(refused.value) + str(refused.value.hint)
    assert len(issuer.asked) == 1


def test_nobody_there_or_nobody_in_time(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unavailable, match=r"http://127\.0\.0\.1:1/ gives no token: it cannot be reached"):
        token.ask(connection("http://127.0.0.1:1/"), SETTINGS)
    with pytest.raises(Unavailable, match=r"'token_url' of connection 'shop-api'.*nobody-here\.invalid"):
        token.ask(connection("https://nobody-here.invalid/"), SETTINGS)
    with pytest.raises(Denied, match=r"the 'token_url' of connection 'shop-api': .*127\.0\.0\.1"):
        token.ask(connection(f"http://127.0.0.1:{issuer.port}/"), replace(SETTINGS, source_addresses=()))
    assert issuer.asked == []
    monkeypatch.setattr(token, "PATIENCE", 0.1)
    issuer.slow = 0.3
    with pytest.raises(Unavailable, match="no answer within 0 s"):
        token.ask(connection(f"http://127.0.0.1:{issuer.port}/"), SETTINGS)


def test_by_tls_its_certificate_is_checked_with_what_the_connection_keeps(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    (tmp_path / "ca.pem").write_text(authority.ca)
    with Issuer(authority.context("localhost")) as safe:
        url = f"https://localhost:{safe.port}/"
        with pytest.raises(Unavailable, match="its TLS is not to be trusted") as refused:
            token.ask(connection(url), SETTINGS)
        assert "ca_file" in str(refused.value.hint)
        named = {"ca_file": str(tmp_path / "ca.pem")}
        with pytest.raises(Unavailable, match="its TLS is not to be trusted"):  # it is of another name
            token.ask(connection(url.replace("localhost", "127.0.0.1"), **named), SETTINGS)
        assert safe.asked == []
        assert token.ask(connection(url, **named), SETTINGS).value == "tok/en-1"


def test_a_connection_is_tried_with_a_token(issuer: Issuer, api: Api) -> None:
    url = f"http://127.0.0.1:{issuer.port}/token"
    api.gives(lambda _: [])
    issuer.says = lambda number: json.dumps(
        {"access_token": f"tok-{number}", "expires_in": 90, "scope": "read"}
    )
    leading = connection(url, f"{api.url}/v1")
    said = probe(leading, SETTINGS)
    assert said == f"{url} gives a token for 90 s for the scope 'read'; {api.url}/v1 answers 200"
    assert api.asked[0][2]["authorization"] == "Bearer tok-1"
    api.answer = lambda *_: (403, {}, b"tok-2 is not good enough")
    with pytest.raises(Denied) as refused:
        probe(leading, SETTINGS)
    assert refused.value.message.endswith("/v1 answers 403: … is not good enough")
    assert refused.value.message.startswith(f"{url} gives a token for 90 s")
    issuer.status, issuer.says = 401, lambda _: '{"error": "invalid_client"}'
    api.asked.clear()
    with pytest.raises(Denied, match="answers 401, invalid_client"):
        probe(leading, SETTINGS)
    assert api.asked == []


def test_rows_are_read_with_a_token(
    issuer: Issuer, api: Api, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.connections.save(connection(f"http://127.0.0.1:{issuer.port}/token", f"{api.url}/v1"))
    api.gives(lambda query: [{"id": int(query["page"])}] if query["page"] < "4" else [])
    shop.source(type="http", connection="shop-api", path="orders", paging={"type": "page"})
    shop.good()
    assert [row["id"] for row in shop.rows()] == [1, 2, 3]
    assert {headers["authorization"] for _, _, headers in api.asked} == {"Bearer tok/en-1"}
    assert len(issuer.asked) == 1, "for all pages"
    issuer.status = 401
    assert "gives no token: it answers 401" in problems(shop.run())
    # One that was taken back is asked for anew, once.
    issuer.reset()
    monkeypatch.setattr(http, "_TOKEN_YOUNG", -1.0)

    def until_taken_back(
        _path: str, _query: dict[str, str], headers: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        if headers["authorization"] == "Bearer tok/en-1":
            return 401, {}, b""
        return 200, {}, b'[{"id": 9}]'

    api.answer = until_taken_back
    shop.source(type="http", connection="shop-api", path="orders")
    shop.good()
    assert len(issuer.asked) == 2
