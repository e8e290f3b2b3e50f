"""Requests that are tried from a page go to the API's own address and nowhere else, whatever is typed."""

from __future__ import annotations

import pytest

from tulle.catalog.api_snippets import ApiCall, snippets_of
from tulle.catalog.api_trial import ApiRequest, Typed, file_name, is_file, request_of
from tulle.catalog.openapi import read_api
from tulle.catalog.way_forms import Sent
from tulle.errors import Invalid
from tulle.serving.access import Access, Public

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
    return request_of(GET, Typed(**{"path": USUAL, **typed}), Sent(), base="/orders/v1")  # type: ignore[arg-type]


def test_a_request_is_made_of_what_was_typed() -> None:
    one = request_of(
        GET,
        Typed(USUAL, "?page=2&q=a%20b", {"x-shop": "Köln".encode().hex()}, "code=404"),
        Sent({"client_id": "me", "client_secret": "s"}, "key=k%261"),
        base="/orders/v1",
        hosts=("api.example.com", "b.example"),
    )
    assert (one.method, one.target, one.host) == (
        "GET",
        "/orders/v1/items/7/files/a.json?page=2&q=a%20b&key=k%261",
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
    assert "k%261" not in repr(one)
    assert request_of(GET, Typed(USUAL), Sent(query="a=b"), base="/o").target.endswith(".json?a=b")
    sent = request_of(POST, Typed(body="{}"), Sent(), base="/")
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
        request_of(astray, Typed(USUAL), Sent(), base="/orders/v1")


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


def test_a_credential_that_cannot_be_sent_is_not_told() -> None:
    with pytest.raises(Invalid) as caught:
        request_of(GET, Typed(USUAL), Sent({"authorization": "Bearer geheim\nx"}), base="/o")
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("media", "content", "is_one"),
    [
        ("application/json; charset=utf-8", b"\xff", False),
        ("application/vnd.shop+json", b"{}", False),
        ("text/csv", b"a,b", False),
        ("image/svg+xml", b"<svg/>", True),
        ("image/png", b"\x89PNG", True),
        ("application/zip", b"plain", True),
        ("application/zip", b"", False),
        ("application/octet-stream", b"\x00\x01", True),
        ("application/octet-stream", "größer".encode()[:-1], False),
        ("application/octet-stream", "größe".encode()[:3], False),
        ("application/octet-stream", b"\xff\xfe\x00\x00\x00\x00", True),
        ("", b"{}", False),
        ("", b"\xff" * 9, True),
        ("", b"", False),
    ],
)
def test_what_is_no_text_is_a_file(media: str, content: bytes, *, is_one: bool) -> None:
    assert is_file(media, content) is is_one


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ('attachment; filename="report 2026.csv"', "report 2026.csv"),
        ("attachment; filename=a.png", "a.png"),
        ('attachment; filename="../../etc/passwd"', "answer"),
        ('attachment; filename=".profile"', "answer"),
        ('attachment; filename="<b>.html"', "answer"),
        ("inline", "answer"),
        ("", "answer"),
    ],
)
def test_a_file_has_the_name_it_says_where_that_is_plain(said: str, name: str) -> None:
    assert file_name(said) == name


def test_snippets_are_programs() -> None:
    body = '{"a": "it\'s \\"x\\" $HOME"}'
    for access in (Access(), Access(contracts=False, public=Public("1/1s"))):
        call = ApiCall("POST", "http://127.0.0.1:8000/o'rders/v1/x", access, body)
        curl, python, script = snippets_of(call)
        compile(python.text, "snippet", "exec")
        assert ("$CLIENT_ID" in curl.text) == access.contracts
        assert "'http://127.0.0.1:8000/o'\"'\"'rders/v1/x'" in curl.text
        assert 'method: "POST"' in script.text
