"""What applications use, by what was counted; what waits for owners; and what of it is shown to whom."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from tests.catalog.test_exchange import cookie_of, get
from tests.control.bazaar import Bazaar
from tests.observe.lines import as_read, line

from tulle.catalog import applications
from tulle.gateway import applications as registered
from tulle.gateway import contract_step
from tulle.gateway.apis import remarks
from tulle.gateway.applications import About
from tulle.gateway.contract_record import Place
from tulle.observe.calls import Calls
from tulle.observe.calls import Place as Read
from tulle.observe.operations import Operations
from tulle.observe.tally import Tally
from tulle.spec.tier import Tier, parse_limits

GOLD = Tier("gold", parse_limits("100/1s"))


@pytest.fixture(scope="module")
def bazaar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bazaar]:
    made = Bazaar(tmp_path_factory.mktemp("bazaar") / "mesh")
    database = made.workspace.database
    till = registered.register(database, "till", about=About(("kim",)))
    for name in ("orders", "payroll"):
        place = Place("api", name)
        contract_step.ask(database, till.client_id, place, GOLD, purpose=f"to use {name}", by="kim")
    remarks.ask(database, "orders", "kim", "How?")
    remarks.ask(database, "payroll", "vic", "Whose?")
    counting, at = Tally(Operations({}, "/public/api/v1/")), time.time() - 60
    usual = {"client": till.client_id, "path": "/items"}
    counting.count(
        as_read(
            [
                *(line(at - 5 * 86_400, service="orders", **usual) for _ in range(2)),
                *(line(at, service="orders", **usual) for _ in range(5)),
                line(at, service="orders", **(usual | {"code": 429, "details": "request_rate_limited"})),
                line(at, service="orders", **(usual | {"code": 500})),
                line(at, service="payroll", **usual),
                line(at, service="gone"),  # it was there once
            ]
        )
    )
    calls = Calls(made.workspace.settings.state_folder)
    calls.add(counting.taken(), Read("f", 1))
    calls.keep(days=30, most_bytes=10**9, now=time.time())
    calls.close()
    yield made
    made.close()


def usage(html: str) -> list[list[str]]:
    """The rows of what an application uses."""
    table = html.split('aria-label="Usage"')[1].split("</table>", maxsplit=1)[0]
    rows = re.findall(r'<tr><th scope="row"><a [^>]*>(.*?)</a></th>(.*?)</tr>', table, re.DOTALL)
    return [[name, *re.findall(r">([\d,]+)</td>", cells)] for name, cells in rows]


def test_an_application_shows_what_it_uses_of_what_its_reader_sees(bazaar: Bazaar) -> None:
    counted = ["7", "1", "1", "1", "9", "1", "1", "1"]
    html = get(bazaar, "/applications/till")
    assert usage(html) == [["orders", *counted]]
    assert "payroll" not in html
    assert "1 contract or request for APIs that are not shown to you" in html
    html = get(bazaar, "/applications/till", cookie=cookie_of(bazaar, "vic"))
    assert [row[0] for row in usage(html)] == ["orders", "payroll"]
    assert "to use payroll" in html


def test_the_list_shows_what_is_asked_and_whose_it_is(bazaar: Bazaar) -> None:
    html = get(bazaar, "/applications", cookie=cookie_of(bazaar, "kim"))
    assert "8 requests in the last day, 2 without success, of which 1 were refused" in " ".join(html.split())
    assert 'href="/applications?owner=kim"' in html
    assert ">till<" in get(bazaar, "/applications?owner=kim", cookie=cookie_of(bazaar, "kim"))


def test_owners_find_what_they_decide_about(bazaar: Bazaar) -> None:
    html = get(bazaar, "/access/requests")
    assert ["to use orders" in html, "payroll" in html] == [True, False]
    assert 'href="/exchange/apis/orders#questions">orders</a> (1)' in html
    owner = get(bazaar, "/access/requests?mine=true", cookie=cookie_of(bazaar, "ann"))
    assert ["to use orders" in owner, "to use payroll" in owner] == [True, True]
    assert 'apis/payroll#questions">payroll</a> (1)' in owner
    other = get(bazaar, "/access/requests?mine=true", cookie=cookie_of(bazaar, "vic"))
    assert ["Nothing of that waits." in other, "to use" in other] == [True, False]
    assert "Nothing of that waits." in get(bazaar, "/access/requests?product=features")
    assert "to use orders" in get(bazaar, "/access/requests?product=sales")


def test_insight_tells_of_a_hidden_api_to_those_who_see_it_alone(bazaar: Bazaar) -> None:
    vic = cookie_of(bazaar, "vic")
    assert "payroll" not in get(bazaar, "/insight")
    assert "payroll" in get(bazaar, "/insight", cookie=vic)
    assert "nothing is known of a service" in get(bazaar, "/insight/apis/payroll", 404)
    get(bazaar, "/insight/apis/payroll", cookie=vic)
    assert "payroll" not in get(bazaar, "/access")


def test_who_may_use_what_is_told_a_page_at_a_time(bazaar: Bazaar, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the API to who may know it, and on pages; a way that is open is nobody's secret where the API is none."""
    database = bazaar.workspace.database
    for label in ("first-app", "second-app"):
        registered.register(
            database, label, about=About(("kim",)), services={"orders": parse_limits("1/1s")[0]}
        )
    whole = bazaar.call("GET", "/access").json()["access"]
    seen, after = [], ""
    for _ in whole:
        page = bazaar.call("GET", f"/access?limit=1&after={after}").json()
        seen += page["access"]
        after = page["next"]
    assert seen == whole
    assert after is None
    told = bazaar.call("GET", "/access?service=orders", as_="kim").json()["access"]
    assert [(one["by"], one["who"]) for one in told] == [
        ("application", "first-app"),
        ("application", "second-app"),
        ("everybody", "without credentials"),
    ]
    assert told[2]["why"] == "its access, as version v2 says"
    assert bazaar.call("GET", "/access?after=nowhere").status_code == 422
    assert bazaar.call("GET", "/access?limit=0").status_code == 422
    monkeypatch.setattr(applications, "A_PAGE_OF_USES", 2)
    html = get(bazaar, "/access?service=orders")
    assert ["second-app" in html, "without credentials" in html] == [True, False]
    (further,) = re.findall(r'rel="next" href="([^"]+)"', html)
    html = get(bazaar, further.replace("&amp;", "&"))
    assert ["second-app" in html, "without credentials" in html] == [False, True]
    assert "From the beginning" in html
    get(bazaar, "/access?after=nowhere", 422)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", {"orders"}),
        ("kim", {"orders"}),
        ("vic", {"orders", "payroll"}),
        ("token", {"orders", "payroll", "gone"}),
    ],
)
def test_prometheus_reads_of_what_who_asks_may_see(bazaar: Bazaar, name: str, told: set[str]) -> None:
    credential = {"": {}, "token": {"authorization": bazaar.token}}.get(name)
    answer = bazaar.send(
        "GET", "/metrics", **(credential if credential is not None else {"authorization": bazaar.basic(name)})
    )
    assert answer.status_code == 200
    assert set(re.findall(r'service="(.*?)"', answer.text)) == told


def test_prometheus_with_a_wrong_credential_is_refused(bazaar: Bazaar) -> None:
    assert bazaar.send("GET", "/metrics", authorization="Bearer wrong").status_code == 401
