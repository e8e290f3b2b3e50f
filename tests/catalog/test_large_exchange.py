"""Many APIs and applications: pages and lists have a bound, ask as often as for a few, and leave nothing out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import pytest
from sqlalchemy import Engine, delete, event, insert, select
from tests.catalog.test_exchange import cookie_of
from tests.control.bazaar import Bazaar
from tests.control.crowd import WAITS, api_name, application_name, crowd

from tulle.catalog.applications import A_PAGE, OFFERED
from tulle.catalog.uses import uses
from tulle.gateway import applications as registered
from tulle.gateway import contract_record
from tulle.gateway.holders import holders
from tulle.state.tables import contracts

APIS, APPLICATIONS = 60, 700
RESTRICTED = APIS // 10


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bazaar]:
    made = Bazaar(tmp_path_factory.mktemp("large") / "mesh")
    crowd(made, apis=APIS, applications_=APPLICATIONS)
    yield made
    made.close()


@contextmanager
def counted(bazaar: Bazaar) -> Iterator[list[str]]:
    """The questions to the database that are asked meanwhile; the doors have it open on their own."""
    found: list[str] = []

    def note(*arguments: object) -> None:
        found.append(str(arguments[2]))

    event.listen(Engine, "before_cursor_execute", note)
    yield found
    event.remove(Engine, "before_cursor_execute", note)


MOST_QUESTIONS = 45  # to the database, for a page or a list; of each of the APIs one would be more
PAGES = {  # path: kilobytes at most
    "/exchange": 60,
    "/exchange?q=title+77": 60,
    "/exchange?domain=domain-02&page=2": 60,
    "/exchange/apis/api-0050": 60,
    "/applications": 120,
    "/applications?q=app-00": 120,
    "/applications?owner=team-011": 60,
    "/applications/app-00500": 30,
    "/applications/app-00500?q=api-0050": 20,
    "/access": 200,
    "/access?product=product-002": 200,
    "/access?service=api-0050": 60,
    "/access/requests": 300,
    "/access/requests?mine=true": 300,
    "/access/requests?q=api-0019": 60,
}
OF_ONE = ("/exchange/apis/api-0050", "/insight/apis/api-0050", "/applications/app-00500")
LISTS = {
    "/apis": 600,
    "/apis/api-0050": 10,
    "/applications": 120,
    "/applications/app-00005": 10,
    "/contracts": 80,
    "/contracts?state=pending&product=product-002": 80,
    "/access?limit=100": 60,
    "/access?service=api-0050": 30,
    "/services/api-0050/offer": 5,
}


@pytest.mark.parametrize("who", ["", "ann", "kim"])
def test_pages_ask_as_often_as_for_a_few_and_have_a_bound(large: Bazaar, who: str) -> None:
    cookie = cookie_of(large, who) if who else ""
    for path, kilobytes in PAGES.items():
        large.send("GET", path, accept="text/html", cookie=cookie)  # what is remembered is read
        with counted(large) as found:
            answer = large.send("GET", path, accept="text/html", cookie=cookie)
        told = path, len(found), len(answer.content)
        assert answer.status_code == 200, told
        assert len(found) <= MOST_QUESTIONS, told
        assert len(answer.content) <= kilobytes * 1000, told


@pytest.mark.parametrize("path", OF_ONE)
def test_a_page_of_one_does_not_read_all_others(large: Bazaar, path: str) -> None:
    large.send("GET", path, accept="text/html")  # what is remembered is read
    with counted(large) as found:
        assert large.send("GET", path, accept="text/html").status_code == 200
    whole = re.compile(r"SELECT (?=.*\b(apis\.document|applications\.name)\b)(?!.*(WHERE|LIMIT))", re.DOTALL)
    assert [one for one in found if whole.search(one)] == []


@pytest.mark.parametrize("who", ["", "ann"])
def test_lists_ask_as_often_as_for_a_few_and_have_a_bound(large: Bazaar, who: str) -> None:
    for path, kilobytes in LISTS.items():
        with counted(large) as found:
            answer = large.call("GET", path, as_=who)
        told = path, len(found), len(answer.content)
        assert answer.status_code == 200, (told, answer.text)
        assert len(found) <= MOST_QUESTIONS, told
        assert len(answer.content) <= kilobytes * 1000, told


def walked(large: Bazaar, path: str, of: str, by: str = "after", who: str = "") -> list[dict[str, object]]:
    """All of a list, page after page."""
    found: list[dict[str, object]] = []
    place: str | None = ""
    while place is not None:
        page = large.call("GET", f"{path}&{by}={quote(place)}", as_=who).json()
        found += page[of]
        place = page["next" if by == "after" else "before"]
    return found


def test_lists_are_whole_a_page_at_a_time(large: Bazaar) -> None:
    settings, database = large.workspace.settings, large.workspace.database
    every = [f"{one.who} {one.name} {one.why}" for one in uses(settings, database)]
    assert len(every) > APPLICATIONS
    told = walked(large, "/access?limit=500", "access")
    assert [f"{one['who']} {one['name']} {one['why']}" for one in told] == every
    contracts = walked(large, "/contracts?limit=333", "contracts", by="before")
    assert len({one["id"] for one in contracts}) == len(contracts) == 2 * APPLICATIONS
    waiting = walked(large, "/contracts?limit=7&state=pending", "contracts", by="before")
    assert len({one["id"] for one in waiting}) == len(waiting) == 2 * APPLICATIONS // WAITS
    names = [one["name"] for one in walked(large, "/applications?limit=500", "applications")]
    assert names == [application_name(n) for n in range(APPLICATIONS)]
    apis = [str(one["name"]) for one in walked(large, "/apis?limit=50", "apis")]
    assert apis == sorted(["orders", "payroll", *(api_name(n) for n in range(APIS))])
    assert large.call("GET", "/contracts?before=yesterday").status_code == 422


def test_whoever_asks_is_told_what_is_theirs_a_page_at_a_time(large: Bazaar) -> None:
    mine = {application_name(n) for n in range(10)}
    assert {one["name"] for one in walked(large, "/applications?limit=3", "applications", who="ann")} == mine
    seen = walked(large, "/contracts?limit=500", "contracts", by="before", who="ann")
    assert len(seen) == 2 * APPLICATIONS  # she decides about all products
    assert walked(large, "/contracts?limit=500", "contracts", by="before", who="kim") == []
    assert {one["by"] for one in walked(large, "/access?limit=500", "access", who="kim")} == {"everybody"}
    shown = {str(one["name"]) for one in walked(large, "/apis?limit=50", "apis", who="kim")}
    assert len(shown) == APIS + 1 - RESTRICTED
    assert len(registered.names(large.workspace.database, owner="ann")) == 10
    assert registered.names(large.workspace.database, owner="Ann") == {}
    assert registered.names(large.workspace.database, owner='a"nn') == {}


def test_of_an_application_a_page_is_shown_and_the_rest_is_found(large: Bazaar) -> None:
    def shown(rest: str, who: str = "ann") -> str:
        path = f"/applications/{application_name(5)}{rest}"
        return large.send("GET", path, accept="text/html", cookie=cookie_of(large, who)).text

    def offered(page: str) -> list[str]:
        return re.findall(r'<option value="(api-[0-9]+)"', page)

    usual = shown("")
    assert offered(usual) == [api_name(n) for n in range(OFFERED)]
    assert f"The first {OFFERED} of {APIS + 2} services" in usual
    assert offered(shown("?q=I-004")) == [api_name(n) for n in range(40, 50)]
    assert offered(shown("?q=i-004", "kim")) == [api_name(n) for n in range(40, 50) if n != 48]
    assert "Terms of api-0042" in shown("?q=0042")
    assert "No service is called like that" in shown("?q=nowhere")
    with large.workspace.database.write() as cx:
        (like, *_) = cx.execute(
            select(contracts).where(contracts.c.client_id == application_name(5))
        ).mappings()
        more = [{**like, "id": f"c-more-{n:04}", "requested_at": 1.0 + n} for n in range(2 * A_PAGE)]
        cx.execute(insert(contracts), more)
    seen: list[str] = []
    for page in (1, 2, 3):
        html = shown(f"?page={page}")
        seen += re.findall(r"c-more-\d+", html)
        assert ['rel="next"' in html, 'rel="prev"' in html] == [page < 3, page > 1]
        assert len(html) < 100_000
    assert seen == [one["id"] for one in reversed(more)]
    assert "There is no more" in shown("?page=4")
    with large.workspace.database.write() as cx:
        cx.execute(delete(contracts).where(contracts.c.id.startswith("c-more-")))


def test_what_waits_is_shown_a_page_at_a_time(large: Bazaar) -> None:
    waiting = contract_record.heads(large.workspace.database, "pending")
    seen: list[str] = []
    for page in range(1, len(waiting) // A_PAGE + 2):
        html = large.send("GET", f"/access/requests?page={page}", accept="text/html").text
        seen += re.findall(r'data-lake="/mesh/v1/contracts/(c-[0-9a-f]+)"', html)
        assert ('rel="next"' in html) == (page * A_PAGE < len(waiting))
        assert ('rel="prev"' in html) == (page > 1)
    hidden = {api_name(n) for n in range(8, APIS, 10)}
    assert seen == [one.id for one in waiting if one.subject not in hidden]
    last = large.send("GET", "/access/requests?page=99", accept="text/html").text
    assert "There are no more" in last


def test_one_of_many_is_decided_and_another_leaves(large: Bazaar) -> None:
    (first, *_) = contract_record.heads(large.workspace.database, "pending")
    with counted(large) as found:
        answer = large.call("POST", f"/contracts/{first.id}/approve", {}, as_="ann")
    assert answer.status_code == 200, answer.text
    assert answer.json()["state"] == "approved"
    assert len(found) < 100
    with counted(large) as found:
        answer = large.call("DELETE", f"/applications/{first.application}")
    assert answer.json()["revoked"] is True
    assert len(found) < 150
    left = holders(large.workspace.database)
    assert first.application not in {one.application for of in left.values() for one in of}


def test_of_many_requests_those_of_an_application_or_an_api_are_found(large: Bazaar) -> None:
    def shown(rest: str) -> str:
        return large.send("GET", f"/access/requests?{rest}", accept="text/html").text

    (first, *_) = [
        one for one in contract_record.heads(large.workspace.database, "pending") if one.kind == "api"
    ]
    for part in (first.application, first.subject.upper()):
        page = shown(f"q={part}")
        assert f"{first.application}</a> asks for" in page
        asked = re.findall(r">([^<]*)</a> asks for <a[^>]*>([^<]*)<", page)
        assert all(part.lower() in one for one in map(" ".join, asked))
        assert f"{len(asked)} request" in page
    assert "Nothing of that waits." in shown("q=nobody-is-called-so")
    last = shown("q=app-&page=2")
    assert re.search(r"page 2 of \d", last)
    assert "&amp;q=app-&amp;page=1" in last
