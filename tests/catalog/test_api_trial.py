"""Requests that are tried from a page go to the API's own address and nowhere else, whatever is typed."""

from __future__ import annotations

import base64

import pytest

from tulle.catalog.api_snippets import ApiCall, headers_of, snippets_of, way_of_form
from tulle.catalog.api_trial import ApiRequest, Typed, request_of
from tulle.catalog.openapi import read_api
from tulle.errors import Invalid
from tulle.serving.access import Access, Keys, Public
from tulle.serving.ways_in import Credential, WayIn, ways_of

DOCUMENT = {
    "paths": {
        "/items/{id}/files/{name}.json": {
            "get": {
                "parameters": [
                    {"name": "id", "in": "path"},
                    {"name": "X-Shop", "in": "header"},
                    {"name": "Host", "in": "header"},
                    {"name": "X-Forwarded-For", "in": "header"},
                ]
            }
        },
        "/": {"post": {}},
    }
}
GET, POST = read_api(DOCUMENT).operations
USUAL = {"id": "7", "name": "a"}


def made(**typed: object) -> ApiRequest:
    return request_of(GET, Typed(**{"path": USUAL, **typed}), {}, base="/orders/v1")  # type: ignore[arg-type]


def test_a_request_is_made_of_what_was_typed() -> None:
    one = request_of(
        GET,
        Typed(USUAL, "?page=2&q=a%20b", {"x-shop": "Köln".encode().hex()}, "code=404"),
        {"client_id": "me", "client_secret": "s"},
        base="/orders/v1",
        hosts=("api.example.com", "b.example"),
    )
    assert (one.method, one.target, one.host) == (
        "GET",
        "/orders/v1/items/7/files/a.json?page=2&q=a%20b",
        "api.example.com",
    )
    assert one.headers == {
        "accept": "*/*",
        "x-shop": "4bc3b66c6e",
        "prefer": "code=404",
        "client_id": "me",
        "client_secret": "s",
    }
    assert "secret" not in repr(one)
    sent = request_of(POST, Typed(body="{}"), {}, base="/")
    assert (sent.method, sent.target, sent.body, sent.headers["content-type"]) == (
        "POST",
        "/",
        b"{}",
        "application/json",
    )


@pytest.mark.parametrize(
    "value", ["../../admin", "a/b", "a?b", "a#b", "%2e%2e", "a b", "ü", "@evil.example", "\\"]
)
def test_a_value_stays_within_its_part_of_the_path(value: str) -> None:
    target = made(path={"id": value, "name": "a"}).target
    assert target.startswith("/orders/v1/items/")
    assert target.endswith("/files/a.json")
    assert target.count("/") == 6
    assert not set(target) & set("?#\\ ")


@pytest.mark.parametrize("path", ["/../../public/api/v1/victim/x", "/items/%2e%2E/x", "/items/{id}/."])
def test_a_path_that_leads_out_of_the_api_is_not_tried(path: str) -> None:
    (astray,) = read_api({"paths": {path: {"get": {}}}}).operations
    with pytest.raises(Invalid, match="leads out of the operation"):
        request_of(astray, Typed(USUAL), {}, base="/orders/v1")


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ({"path": {"id": "7"}}, "parameter 'name' of the path"),
        ({"path": {"id": "..", "name": "a"}}, "parameter 'id'"),
        ({"query": "a b"}, "query cannot be sent"),
        ({"query": "a#b"}, "query cannot be sent"),
        ({"query": "a\r\nx: y"}, "query cannot be sent"),
        ({"headers": {"x-other": "1"}}, "takes no header 'x-other'"),
        ({"headers": {"host": "evil.example"}}, "takes no header 'host'"),
        ({"headers": {"X-Forwarded-For": "192.0.2.1"}}, "takes no header 'X-Forwarded-For'"),
        ({"headers": {"x-shop": "a\r\nx-tulle-client: b"}}, "header 'x-shop' cannot be sent"),
        ({"prefer": "a\nb"}, "header 'prefer' cannot be sent"),
        ({"body": "{}", "media": "a\nb"}, "the content type cannot be sent"),
    ],
)
def test_what_cannot_be_sent_is_told(typed: dict[str, object], told: str) -> None:
    with pytest.raises(Invalid, match=told):
        made(**typed)


def test_credentials_are_whole_and_never_told() -> None:
    with pytest.raises(Invalid, match="a part of the credentials is missing"):
        request_of(GET, Typed(USUAL), headers_of("client", {"client_id": "me"}), base="/o")
    with pytest.raises(Invalid) as caught:
        request_of(GET, Typed(USUAL), headers_of("token", {"token": "geheim\n"}), base="/o")
    assert "geheim" not in str(caught.value)
    assert headers_of("none", {"token": "x"}) == {}
    assert headers_of("key", {"token": "x"}) == {"authorization": "Bearer x"}


def test_a_name_and_a_password_are_sent_together() -> None:
    def sent(name: str, password: str) -> str:
        shown_as = headers_of("password", {"user": name, "password": password})
        return request_of(GET, Typed(USUAL), shown_as, base="/o").headers["authorization"]

    assert sent("ann", "pass:word ü") == "Basic " + base64.b64encode("ann:pass:word ü".encode()).decode()
    with pytest.raises(Invalid, match="a name has no colon"):
        sent("an:n", "geheim")
    for name, password in (("", "geheim"), ("ann", "")):
        with pytest.raises(Invalid, match="a part of the credentials is missing") as found:
            sent(name, password)
        assert "geheim" not in str(found.value)


@pytest.mark.parametrize(
    ("way", "begins"),
    [
        ((), "none"),
        ((Credential("user", "basic", ("USER_NAME", "PASSWORD")),), "password"),
        ((Credential("token", "bearer", ("TOKEN",)),), "token"),
        ((Credential("apiKeyInHeader", "header", ("API_KEY",), "x-api-key"),), "key"),
        (ways_of(Access())[0], "client"),
        (ways_of(Access(contracts=False, api_keys=Keys()))[0], "key"),
    ],
)
def test_a_form_begins_with_the_way_that_is_easiest(way: WayIn, begins: str) -> None:
    assert way_of_form(way) == begins


def test_snippets_are_programs() -> None:
    body = '{"a": "it\'s \\"x\\" $HOME"}'
    for access in (Access(), Access(contracts=False, public=Public("1/1s"))):
        call = ApiCall("POST", "http://127.0.0.1:8000/o'rders/v1/x", access, body)
        curl, python, script = snippets_of(call)
        compile(python.text, "snippet", "exec")
        assert ("$CLIENT_ID" in curl.text) == access.contracts
        assert "'http://127.0.0.1:8000/o'\"'\"'rders/v1/x'" in curl.text
        assert 'method: "POST"' in script.text
