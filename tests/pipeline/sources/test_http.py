"""Rows of a real HTTP server: pages, signing in, failing for a moment, and what must never be reached or shown."""

# ruff: noqa: DTZ001  timestamps of data sets have no zone: they are in UTC
from __future__ import annotations

import base64
import datetime as dt
import json
import socket
import time
from decimal import Decimal
from typing import Any

import pytest
from tests.pipeline.sources.conftest import Api, Shop, problems

from tulle.pipeline import run as runs
from tulle.pipeline.sources import http
from tulle.state import log

ROWS = [{"id": n, "name": f"n{n}", "at": f"2020-01-{n:02d}T00:00:00Z"} for n in range(1, 8)]
COLUMNS = [{"name": "id", "type": "integer"}, {"name": "name"}, {"name": "at", "type": "timestamp"}]


def ids(shop: Shop) -> list[int]:
    return [row["id"] for row in shop.rows()]


def test_one_page_without_anything_declared(shop: Shop, api: Api) -> None:
    api.gives(lambda _q: [{"id": 1, "name": "ü\n", "ratio": 0.5}, {"id": 2, "name": None, "ratio": 2}])
    shop.source(type="http", connection="api", path="orders", params={"active": True})
    shop.good()
    assert shop.rows() == [{"id": 1, "name": "ü\n", "ratio": 0.5}, {"id": 2, "name": None, "ratio": 2.0}]
    path, query, headers = api.asked[0]
    assert (path, query) == ("/v1/orders", {"active": "true"})
    assert headers["authorization"] == "Bearer s3cret-token"
    assert shop.run().status == "unchanged"


def test_a_source_is_told_of_while_it_is_read(shop: Shop, api: Api) -> None:
    seen: list[str] = []

    def slowly(_query: dict[str, str]) -> Any:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            (under_way,) = runs.recent(shop.database)
            step = runs.get(shop.database, under_way.id).steps[0]
            if step.status == "running":
                seen.append(step.name)
                break
        return ROWS

    api.gives(slowly)
    shop.source(type="http", connection="api", path="orders", columns=COLUMNS)
    run = shop.good()
    assert seen == ["orders"]
    assert [entry.kind for entry in log.read(shop.database) if entry.data.get("step") == "orders"] == [
        "step.started",
        "step.finished",
    ]
    api.gives(lambda _q: ROWS)
    again = runs.get(shop.database, shop.run().id)
    assert (again.steps[0].name, again.steps[0].status) == ("orders", "unchanged")
    assert run.steps[0].rows == again.steps[0].rows == len(ROWS)


def page(query: dict[str, str]) -> Any:
    start = 3 * (int(query["page"]) - 1)
    return {"data": {"items": ROWS[start : start + 3]}}


def offset(query: dict[str, str]) -> Any:
    start = int(query["skip"])
    return ROWS[start : start + int(query["limit"])]


def token(query: dict[str, str]) -> Any:
    start = int(query.get("after", "0"))
    return {
        "rows": ROWS[start : start + 4],
        "meta": {"next": str(start + 4) if start + 4 < len(ROWS) else None},
    }


@pytest.mark.parametrize(
    ("answers", "says", "requests"),
    [
        (page, {"records": "data.items", "paging": {"type": "page"}}, 4),
        (page, {"records": "data.items", "paging": {"type": "page", "size": 3}}, 3),
        (offset, {"paging": {"type": "offset", "param": "skip", "size": 2}}, 4),
        (token, {"records": "rows", "paging": {"type": "cursor", "param": "after", "next": "meta.next"}}, 2),
    ],
)
def test_pages(shop: Shop, api: Api, answers: Any, says: dict[str, Any], requests: int) -> None:
    api.gives(answers)
    shop.source(type="http", connection="api", path="orders", columns=COLUMNS, **says)
    shop.good()
    assert ids(shop) == [1, 2, 3, 4, 5, 6, 7]
    assert len(api.asked) == requests
    assert shop.rows()[0]["at"] == dt.datetime(2020, 1, 1)


@pytest.mark.parametrize("kind", ["page", "offset"])
def test_an_api_that_gives_fewer_rows_a_page_than_it_is_asked_for(shop: Shop, api: Api, kind: str) -> None:
    def answers(query: dict[str, str]) -> Any:
        start = 3 * (int(query["page"]) - 1) if kind == "page" else int(query["offset"])
        return ROWS[start : start + 3]

    api.gives(answers)
    shop.source(
        type="http", connection="api", path="orders", columns=COLUMNS, paging={"type": kind, "size": 100}
    )
    said = problems(shop.run())
    assert "gives 3 rows a page, not 100, and has more" in said
    assert "write size: 3" in said
    assert not shop.names()


@pytest.mark.parametrize("kind", ["page", "offset"])
@pytest.mark.parametrize("end", ["empty", "404", "the same"])
def test_a_short_page_alone(shop: Shop, api: Api, kind: str, end: str) -> None:
    def answer(
        _path: str, query: dict[str, str], _headers: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        if query[kind] in {"0", "1"} or end == "the same":
            return 200, {}, json.dumps(ROWS[:2]).encode()
        return (404, {}, b"") if end == "404" else (200, {}, b"[]")

    api.answer = answer
    shop.source(
        type="http", connection="api", path="orders", columns=COLUMNS, paging={"type": kind, "size": 100}
    )
    shop.good()
    assert ids(shop) == [1, 2]


def test_pages_by_link_of_csv(shop: Shop, api: Api) -> None:
    def answer(
        _path: str, query: dict[str, str], _headers: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        link = {} if "p" in query else {"Link": '</v1/orders?p=2>; rel="next", </v1/orders>; rel="first"'}
        return 200, link, b"id,price\n1,0.10\n" if not query else b"id,price\n2,12345678901234567.89\n"

    api.answer = answer
    columns = [{"name": "id", "type": "integer"}, {"name": "price", "type": "decimal(20,2)"}]
    shop.source(
        type="http", connection="api", path="orders", format="csv", paging={"type": "link"}, columns=columns
    )
    shop.good()
    assert [row["price"] for row in shop.rows()] == [Decimal("0.10"), Decimal("12345678901234567.89")]


def test_numbers_of_json_are_kept_exactly(shop: Shop, api: Api) -> None:
    api.answer = lambda *_: (200, {}, b'[{"price": 12345678901234567.89}, {"price": 1e2}]')
    columns = [{"name": "price", "type": "decimal(20,2)"}]
    shop.source(type="http", connection="api", path="orders", columns=columns)
    shop.good()
    assert sorted(row["price"] for row in shop.rows()) == [Decimal("100.00"), Decimal("12345678901234567.89")]


def test_only_what_is_new_is_asked_for(shop: Shop, api: Api) -> None:
    there = ROWS[:3]
    api.gives(lambda query: [row for row in there if row["at"] >= query.get("since", "")])
    shop.source(
        type="http",
        connection="api",
        path="orders",
        columns=COLUMNS,
        load="incremental",
        cursor="at",
        cursor_param="since",
    )
    shop.good()
    there = ROWS[:5]
    shop.good()
    assert api.asked[-1][1] == {"since": "2020-01-03T00:00:00Z"}
    assert ids(shop) == [1, 2, 3, 4, 5]
    there = []
    assert shop.run().status == "unchanged"


def test_it_is_asked_again_when_it_fails_for_a_moment(shop: Shop, api: Api) -> None:
    answers = [(429, {"Retry-After": "0"}, b""), (503, {}, b"busy"), (200, {}, b'[{"id": 1}]')]
    api.answer = lambda *_: answers[len(api.asked) - 1]
    shop.source(type="http", connection="api", path="orders")
    shop.good()
    assert len(api.asked) == 3
    api.answer = lambda *_: (429, {"Retry-After": "86400"}, b"")
    assert "asks to wait 86,400 s" in problems(shop.run())
    assert ids(shop) == [1]


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (401, b"s3cret-token is wrong", "answers 401: … is wrong"),
        (404, b"", "answers 404"),
        (200, b"<html>", "no list of rows"),
        (200, b'{"data": []}', "records: data.items"),
        (200, b"[]", "nobody says which columns"),
        (302, b"", "another host"),
    ],
)
def test_what_it_cannot_be(shop: Shop, api: Api, status: int, body: bytes, says: str) -> None:
    api.answer = lambda *_: (status, {"Location": "http://169.254.169.254/"}, body)
    shop.source(type="http", connection="api", path="orders")
    said = problems(shop.run())
    assert says in said
    assert "s3cret-token" not in said
    assert not shop.names()


def test_a_page_that_leads_away_or_back_is_not_followed(shop: Shop, api: Api) -> None:
    shop.source(type="http", connection="api", path="orders", paging={"type": "link"})
    api.gives(lambda _q: [{"id": 1}], Link='<http://169.254.169.254/v1>; rel="next"')
    assert "another host" in problems(shop.run())
    api.gives(lambda _q: [{"id": 1}], Link='</v1/orders>; rel="next"')
    assert "leads back to a page that was read" in problems(shop.run())


def test_the_next_page_is_found_among_all_links(shop: Shop, api: Api) -> None:
    pages = {
        "1": ('<?p=2>; rel="next"', "</v1>; rel=last"),
        "2": ("</v1>; rel=next-archive", '<?p=3>; rel="last next"'),
    }

    def answer(
        _path: str, query: dict[str, str], _headers: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        number = query.get("p", "1")
        first, second = pages.get(number, ('</v1>; rel="nextcloud"', "</v1>; rel=first"))
        return 200, {"Link": first, "link": second}, json.dumps([{"id": int(number)}]).encode()  # two headers

    api.answer = answer
    shop.source(type="http", connection="api", path="orders", paging={"type": "link"})
    shop.good()
    assert ids(shop) == [1, 2, 3]


def test_a_secret_that_an_answer_repeats_is_not_shown_even_in_part(shop: Shop, api: Api) -> None:
    api.answer = lambda _p, _q, headers: (400, {}, b"x" * 195 + headers["authorization"][7:].encode())
    shop.source(type="http", connection="api", path="orders")
    assert "s3c" not in problems(shop.run())


def test_what_signs_in_is_not_shown_in_any_form(shop: Shop, api: Api) -> None:
    shop.connect("api", "http", api.url, {"password": "p:w/ ü"}, auth="basic", user="me")
    shop.source(type="http", connection="api", path="orders")

    def echo(
        _path: str, _query: dict[str, str], headers: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        forms = [
            headers["authorization"],
            "p:w/ ü",
            "p%3Aw%2F%20%C3%BC",
            "p%3Aw%2F+%C3%BC",
            json.dumps("p:w/ ü"),
        ]
        return 400, {}, " and ".join(forms).encode()

    api.answer = echo
    assert 'answers 400: Basic … and … and … and … and \\"…\\"' in problems(shop.run())


@pytest.mark.parametrize("token", ["s3cret-token ", "\xa0s3cret-token\x7f"])
def test_what_no_request_may_say_is_told_at_once_and_without_the_secret(
    shop: Shop, api: Api, token: str
) -> None:
    shop.connect("api", "http", api.url, {"token": token}, auth="bearer")
    shop.source(type="http", connection="api", path="orders")
    api.gives(lambda _q: [{"id": 1}])
    run = shop.run()
    if run.status == "failed":
        said = problems(run)
        assert "cannot be asked: Illegal header value b'Bearer …'" in said
        assert "s3cret" not in said
    assert len(api.asked) == (run.status == "succeeded")


def test_a_path_and_a_token_may_have_any_signs(shop: Shop, api: Api) -> None:
    shop.connect("api", "http", api.url, {"token": "tök"}, auth="header", header="X-Api-Key")
    shop.source(type="http", connection="api", path="alle aufträge", params={"wo": "Köln"})
    api.gives(lambda _q: [{"id": 1}])
    shop.good()
    ((path, query, headers),) = api.asked
    assert (path, query) == ("/alle%20auftr%C3%A4ge", {"wo": "Köln"})
    assert headers["x-api-key"].encode("latin-1").decode() == "tök"


@pytest.mark.parametrize(("code", "tries"), [(socket.EAI_AGAIN, http.TRIES), (socket.EAI_NONAME, 1)])
def test_a_name_is_looked_up_again_when_it_may_be_known_in_a_moment(
    shop: Shop, api: Api, monkeypatch: pytest.MonkeyPatch, code: int, tries: int
) -> None:
    asked: list[object] = []

    def away(*given: object, **_: object) -> object:
        asked.append(given[0])
        raise socket.gaierror(code, "no answer")

    shop.connect("api", "http", "http://api.example.org/v1", {"token": "s3cret-token"}, auth="bearer")
    shop.source(type="http", connection="api", path="orders")
    monkeypatch.setattr(socket, "getaddrinfo", away)
    monkeypatch.setattr(http.time, "sleep", lambda _seconds: None)
    assert "the name 'api.example.org' cannot be resolved" in problems(shop.run())
    assert asked == ["api.example.org"] * tries


def test_private_addresses_are_reached_only_when_the_mesh_says_so(shop: Shop, api: Api) -> None:
    api.gives(lambda _q: [{"id": 1}])
    shop.settings_are()
    shop.source(type="http", path=f"{api.url}/v1/orders")
    assert "http sources may not reach 127.0.0.1" in problems(shop.run())
    assert not api.asked
    shop.settings_are(source_addresses=[api.url.removeprefix("http://")])
    shop.good()
    assert "authorization" not in api.asked[0][2]


def test_credentials_stay_at_their_address(shop: Shop, api: Api) -> None:
    shop.source(type="http", connection="api", path="http://example.org/orders")
    assert "is not at the address of connection 'api'" in problems(shop.run())


def test_other_ways_to_sign_in(shop: Shop, api: Api) -> None:
    api.gives(lambda _q: [{"id": 1}])
    shop.source(type="http", connection="api", path="orders")
    shop.connect("api", "http", api.url, {"password": "p:w"}, auth="basic", user="me")
    shop.good()
    assert api.asked[-1][2]["authorization"] == "Basic " + base64.b64encode(b"me:p:w").decode()
    shop.connect("api", "http", api.url, {"token": "t"}, auth="header", header="X-Api-Key")
    assert shop.run().status == "unchanged"
    assert api.asked[-1][2]["x-api-key"] == "t"


def test_rows_that_do_not_fit_are_put_aside(shop: Shop, api: Api) -> None:
    api.gives(lambda _q: [*ROWS[:2], {"id": "x", "name": "n", "at": None}, {"id": 9, "more": 1}])
    shop.source(type="http", connection="api", path="orders", columns=COLUMNS)
    said = problems(shop.run())
    assert "column 'id' is" in said
    assert "column 'more' is new" in said
    shop.source(
        type="http",
        connection="api",
        path="orders",
        columns=COLUMNS,
        on_bad_rows="quarantine",
        on_drift="quarantine",
    )
    shop.good()
    assert ids(shop) == [1, 2, 9]
    (bad,) = shop.rows("orders__rejected")
    assert json.loads(bad["row"]) == {"id": "x", "name": "n", "at": None}
    assert bad["place"].endswith("/v1/orders:3")
