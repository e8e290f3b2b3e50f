"""The Exchange's pages: what is shown of APIs, to whom, and that nobody else finds any of it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from urllib.parse import urlencode

import httpx
import pytest
from click.testing import CliRunner
from tests.control.bazaar import Bazaar
from tests.control.test_deployments import SERVICE
from tests.observe.lines import as_read, line

from tulle.catalog import api_page
from tulle.cli.main import cli
from tulle.gateway.apis import records, remarks
from tulle.observe.calls import Calls, Place
from tulle.observe.operations import Operations
from tulle.observe.tally import Tally

HOSTILE = '<img src=x onerror="hurt()">'


@pytest.fixture(scope="module")
def bazaar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bazaar]:
    deny = "{policies: [{policy: ip-deny, addresses: [192.0.2.1]}], services: [orders], mandatory: true}"
    made = Bazaar(tmp_path_factory.mktemp("bazaar") / "mesh", f"policies: {{walls: {deny}}}\n")
    yield made
    made.close()


def get(bazaar: Bazaar, path: str, status: int = 200, cookie: str = "") -> str:
    answer = bazaar.send("GET", path, accept="text/html", cookie=cookie)
    assert answer.status_code == status, answer.text
    return answer.text


def sign_in(
    bazaar: Bazaar, name: str, secret: str = "", to: str = "/exchange", scheme: str = "http", **headers: str
) -> httpx.Response:
    settings = bazaar.workspace.settings
    here = f"{scheme}://{settings.host}:{settings.control_plane_port}"
    key = bazaar.keys[name]
    form = urlencode({"key": key.id, "secret": secret or key.secret, "to": to})
    said = {
        "origin": here,
        "content-type": "application/x-www-form-urlencoded",
        "accept": "text/html",
        **headers,
    }
    answer = bazaar.transport.handle_request(
        httpx.Request("POST", f"{here}/exchange/sign-in", content=form.encode(), headers=said)
    )
    answer.read()
    return answer


def cookie_of(bazaar: Bazaar, name: str) -> str:
    return sign_in(bazaar, name).headers["set-cookie"].split(";")[0]


# ── the shelf ────────────────────────────────────────────────────────────────────────────────────────────


def test_apis_and_products_are_found_together(bazaar: Bazaar) -> None:
    html = get(bazaar, "/exchange")
    assert "3 results" in html
    assert ["/exchange/apis/orders" in html, "/products/sales" in html, "payroll" in html] == [
        True,
        True,
        False,
    ]
    assert "1 result for" in get(bazaar, "/exchange?q=stock+keeping")  # a field of an answer
    assert "1 result for" in get(bazaar, "/exchange?q=listItems")
    html = get(bazaar, "/exchange?kind=API&tag=logistics&status=draft&way=open+to+all")
    assert "1 result" in html
    assert 'aria-current="true"' in html
    assert "Nothing is like that" in get(bazaar, "/exchange?q=payroll")


def test_apis_are_found_by_the_ways_that_their_policies_open(bazaar: Bazaar) -> None:
    html = get(bazaar, "/exchange?way=password+of+the+mesh")
    assert ["1 result" in html, 'href="/exchange/apis/orders"' in html] == [True, True]
    assert "by contract, open to all, password of the mesh" in html
    assert "Nothing is like that" in get(bazaar, "/exchange?way=password+of+the+directory")


def test_a_product_leads_to_its_apis(bazaar: Bazaar) -> None:
    html = get(bazaar, "/products/sales")
    assert ['href="/exchange/apis/orders"' in html, "payroll" in html] == [True, False]
    assert 'href="/exchange/apis/payroll"' in get(bazaar, "/products/sales", cookie=cookie_of(bazaar, "vic"))
    assert "/exchange/apis/" not in get(bazaar, "/products/features")


def test_search_of_the_mesh_finds_apis_too(bazaar: Bazaar) -> None:
    assert 'href="/exchange/apis/orders"' in get(bazaar, "/search?q=orders")
    assert "/exchange/apis/payroll" not in get(bazaar, "/search?q=payroll")
    assert "/exchange/apis/payroll" in get(bazaar, "/search?q=payroll", cookie=cookie_of(bazaar, "vic"))


# ── one API ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_page_tells_all_of_an_api(bazaar: Bazaar) -> None:
    html = get(bazaar, "/exchange/apis/orders?version=v1")
    for told in (
        "Orders of the shop",
        "Examples answer.",
        "<h3>How to use it</h3>",
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "its stock keeping unit",
        "of twenty",
        "abc-1",
        "curl -sS -X GET http://127.0.0.1:8000/orders/v1/items",
        "10/1s + 1000/1d",
        "Be kind to the orders.",
        "http://127.0.0.1:8000/test/orders/v1",
        "shop@example.com",
    ):
        assert told in html, told
    assert "500/1s" not in html  # a private tier
    assert "<script>alert" not in html


def test_a_page_tells_what_takes_nobody_new(bazaar: Bazaar) -> None:
    database = bazaar.workspace.database
    before = records.find(database, "orders").lives
    ask = 'aria-label="Ask for access"'
    page = get(bazaar, "/exchange/apis/orders?version=v1")
    assert ask in page
    assert "A new contract does not open" not in page
    try:
        for version, life in before.items():
            passed = records.Life("deprecated", 1.0, 2.0, "v2" if version == "v1" else "")
            records.set_life(database, "orders", version, passed, before=life)
            page = get(bazaar, "/exchange/apis/orders?version=v1")
            assert "is past its sunset" in page
            assert "and no new ones" in page
            assert (ask in page) == (version == "v1")
            assert ("A new contract does not open v1" in page) == (version == "v1")
        assert "It takes no new contracts" in page
    finally:
        for version, life in before.items():
            now_ = records.find(database, "orders").lives[version]
            records.set_life(database, "orders", version, life, before=now_)


def test_what_answers_is_told_to_the_products_people_alone(bazaar: Bazaar) -> None:
    path = "/exchange/apis/orders?version=v2"
    html = get(bazaar, path)
    assert "an external service" in html
    assert "orders.example.com" not in html
    assert "https://orders.example.com/base" in get(bazaar, path, cookie=cookie_of(bazaar, "vic"))
    assert "orders.example.com" not in get(bazaar, path, cookie=cookie_of(bazaar, "kim"))


def test_policies_in_force_are_told_with_who_says_them(bazaar: Bazaar) -> None:
    path = "/exchange/apis/orders?version=v3"

    def rows(cookie: str) -> tuple[str, list[str]]:
        html = get(bazaar, path, cookie=cookie)
        (section,) = re.findall(r'<section class="section" id="policies".*?</section>', html, re.DOTALL)
        return html, [re.sub(r"\s+", " ", re.sub("<[^>]+>", "", one)) for one in section.split("<dt")[1:]]

    html, (deny, inject, basic) = rows(cookie_of(bazaar, "vic"))
    assert "ip-deny" in deny
    assert "For all requests; said by the mesh, walls, for all." in deny
    assert "192.0.2.1" in deny
    assert "For POST /items; said by version v3." in basic
    assert "x-team: blue" in inject
    assert "x-api-key: &#39;****&#39;" in inject
    assert "hush-hush" not in html
    # outside, what is done and not how
    html, outside = rows("")
    assert len(outside) == 3
    assert "said by the mesh, walls" in outside[0]
    assert not any(secret in html for secret in ("192.0.2.1", "x-team", "hush-hush"))
    assert "Called by</dt><dd>contract, password of the mesh<" in html


def test_documents_and_examples_go_by_the_policies_in_force(bazaar: Bazaar) -> None:
    found = bazaar.call("GET", "/apis/orders/versions/v3/openapi.json").json()
    assert {"clientId": [], "clientSecret": []} in found["security"]
    assert found["paths"]["/items"]["post"]["security"] == [{"user": []}]
    assert "security" not in found["paths"]["/items"]["get"]
    assert found["components"]["securitySchemes"]["user"]["scheme"] == "basic"


def test_versions_are_compared(bazaar: Bazaar) -> None:
    html = get(bazaar, "/exchange/apis/orders/changes?before=v1&after=v2")
    assert "1 breaking change" in html
    assert "GET /items/{id} is removed" in html
    assert "GET /things/{id} is added" in html
    assert "Nothing breaks" in get(bazaar, "/exchange/apis/orders/changes?before=v2&after=v3")
    assert "there is no" not in get(bazaar, "/exchange/apis/orders/changes")
    get(bazaar, "/exchange/apis/orders/changes?before=v1&after=v9", 404)


def test_the_document_is_that_of_the_gateway(bazaar: Bazaar) -> None:
    found = bazaar.send("GET", "/exchange/apis/orders/openapi.json?version=v1&environment=test").json()
    assert found["servers"] == [{"url": "http://127.0.0.1:8000/test/orders/v1"}]
    assert found == bazaar.call("GET", "/apis/orders/versions/v1/openapi.json?environment=test").json()


def test_what_people_say_is_text(bazaar: Bazaar) -> None:
    database = bazaar.workspace.database
    remarks.rate(database, "orders", "kim", 2, HOSTILE)
    remarks.reply(database, "orders", "kim", HOSTILE, by="ann")
    asked = remarks.ask(database, "orders", "kim", HOSTILE)
    remarks.answer(database, asked.id, "ann", HOSTILE, by_owner=True)
    html = get(bazaar, "/exchange/apis/orders")
    assert "<img" not in html
    assert html.count("&lt;img src=x onerror=&#34;hurt()&#34;&gt;") == 4
    assert "2.0 of 5, 1 rating" in html
    owner = get(bazaar, "/exchange/apis/orders", cookie=cookie_of(bazaar, "ann"))
    assert 'data-lake="/mesh/v1/apis/orders/ratings/kim/reply"' in owner
    assert "ratings/kim/reply" not in get(bazaar, "/exchange/apis/orders", cookie=cookie_of(bazaar, "vic"))
    assert "Change your rating" in get(bazaar, "/exchange/apis/orders", cookie=cookie_of(bazaar, "kim"))


# ── who sees what ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", ["", "/changes", "/openapi.json", "?version=v1"])
def test_of_a_hidden_api_nothing_is_told(bazaar: Bazaar, path: str) -> None:
    for cookie in ("", cookie_of(bazaar, "kim"), "tulle-reader-8080=guessed"):
        html = get(bazaar, f"/exchange/apis/payroll{path}", 404, cookie)
        assert "there is no API" in html
        assert "Payroll" not in html
    get(bazaar, f"/exchange/apis/payroll{path}", cookie=cookie_of(bazaar, "vic"))


def test_a_service_with_the_name_of_a_hidden_api_is_hidden_with_it(bazaar: Bazaar) -> None:
    functions = bazaar.mesh.sales("functions/who.py", "def who() -> dict:\n    return {}\n")
    file = bazaar.mesh.sales("services/payroll.yaml", SERVICE.replace("calc", "payroll"))
    (product,) = {api.declared.product for api in records.recorded(bazaar.workspace.database)}
    ways = (
        *("/services/payroll", "/services/payroll/queries", "/services/payroll/compare"),
        *("/services/payroll/deployments", "/services/payroll/deployments/state", "/services/payroll/load"),
        *("/services/payroll/design", "/services/payroll/openapi.json"),
    )
    lists = ("/", "/services", f"/products/{product}", "/search?q=payroll", "/applications")
    for path in ways:
        assert "there is no service" in get(bazaar, path, 404, cookie_of(bazaar, "kim"))
    for path in lists:
        assert "/services/payroll" not in get(bazaar, path)
    settings = bazaar.workspace.settings
    origin = f"http://{settings.host}:{settings.control_plane_port}"
    body = {"endpoint": "who", "action": "run", "body": "{}"}
    answer = bazaar.send("POST", "/services/payroll/try", body, origin=origin)
    assert (answer.status_code, "there is no service" in answer.text) == (404, True)
    vic = cookie_of(bazaar, "vic")
    get(bazaar, "/services/payroll", cookie=vic)
    for path in lists[:4]:
        assert "/services/payroll" in get(bazaar, path, cookie=vic)
    file.unlink()
    functions.unlink()


def test_no_page_names_a_hidden_api(bazaar: Bazaar) -> None:
    faulty = SERVICE.replace("calc", "payroll").replace("who.py}", "who.py, salary_key: 1}")
    broken = bazaar.mesh.sales("services/payroll.yaml", faulty)
    fresh = bazaar.mesh.sales("apis/wages.yaml", "api: wages\nvisibility: private\nbonus: 1\n")
    lake = bazaar.workspace.lake.create_repository("payroll-queries")
    try:
        for reader in ("", cookie_of(bazaar, "kim")):
            for path in _pages(bazaar):
                html = get(bazaar, path, cookie=reader)
                for word in ("payroll", "salary_key", "wages"):
                    assert word not in html.replace("q=payroll", ""), (path, word)
        vic = cookie_of(bazaar, "vic")
        told = "API &#39;payroll&#39; is added, with v1"
        assert told in get(bazaar, "/plans", cookie=vic)
        assert told in get(bazaar, "/products/sales/plans", cookie=vic)
        assert "salary_key" in get(bazaar, "/services", cookie=vic)
        assert "payroll-queries" in get(bazaar, "/lake", cookie=vic)
        assert "API &#39;orders&#39; is added" in get(bazaar, "/plans")
    finally:
        broken.unlink()
        fresh.unlink()
        bazaar.workspace.lake.delete_repository(lake.name)


def _pages(bazaar: Bazaar) -> list[str]:
    """What is linked from the first page on, as a stranger finds it, and pages that ask for something."""
    found, waiting = set[str](), ["/", "/plans", "/services", "/lake", "/insight", "/access", "/applications"]
    seen = set[str]()
    while waiting:
        path = waiting.pop()
        if (plain := path.split("?")[0]) in seen or path.startswith(("/static", "/openapi", "/docs")):
            continue
        seen.add(plain)
        answer = bazaar.send("GET", path, accept="text/html")
        if answer.status_code != 200 or "text/html" not in answer.headers["content-type"]:
            continue
        found.add(path)
        waiting += [one.split("#")[0] for one in re.findall(r'href="(/[^"]*)"', answer.text)]
    return sorted(found)


def test_who_did_not_sign_in_is_told_that_they_might(bazaar: Bazaar) -> None:
    there, nowhere = (get(bazaar, f"/exchange/apis/{name}", 404) for name in ("payroll", "nowhere"))
    assert 'href="/exchange/sign-in?to=/exchange/apis/payroll"' in there
    assert there.replace("payroll", "nowhere") == nowhere
    assert "/exchange/sign-in?to=" not in get(bazaar, "/exchange/apis/payroll", 404, cookie_of(bazaar, "kim"))


def test_an_apis_page_begins_with_what_somebody_new_asks(bazaar: Bazaar) -> None:
    def top(version: str) -> str:
        page = get(bazaar, f"/exchange/apis/orders?version={version}")
        return page[: page.index('id="status"')]

    for told in (
        "ask for access</a>, given at once",
        "10/1s + 1000/1d",
        "<code>CLIENT_ID</code>",
        "curl -sS -X GET",
    ):
        assert told in top("v1")
    for told in (
        "nothing is to be asked for",
        "5/1s",
        "changes?before=v1&amp;after=v2",
        "/orders/v2/items\n",
    ):
        assert told in top("v2")
    assert "curl" not in top("v3")  # a draft, which is nowhere
    assert "v2 is open to all and needs no contract" in get(bazaar, "/exchange/apis/orders?version=v2")
    assert "and needs no contract" not in get(bazaar, "/exchange/apis/orders?version=v1")


def test_a_hidden_api_cannot_be_tried(bazaar: Bazaar) -> None:
    body = {"method": "get", "path": "/items", "version": "v1"}
    settings = bazaar.workspace.settings
    origin = f"http://{settings.host}:{settings.control_plane_port}"
    answer = bazaar.send("POST", "/exchange/apis/payroll/try", body, origin=origin)
    assert (answer.status_code, "there is no API" in answer.text) == (404, True)
    assert (
        bazaar.send("POST", "/exchange/apis/orders/try", body, origin="http://evil.example").status_code
        == 403
    )
    body["path"] = "/admin"
    answer = bazaar.send("POST", "/exchange/apis/orders/try", body, origin=origin)
    assert (answer.status_code, "has no operation get /admin" in answer.text) == (404, True)
    for given in ("geheim" * 5000, {"geheim": 1}):
        said = {"CLIENT_ID": "ann", "CLIENT_SECRET": given}
        refused = {**body, "path": "/items", "way": "clientId+clientSecret", "given": said}
        answer = bazaar.send("POST", "/exchange/apis/orders/try", refused, origin=origin)
        assert answer.status_code == 422
        assert "geheim" not in answer.text  # what is wrong with it, and not what it was


def test_signing_in_opens_pages_and_nothing_else(bazaar: Bazaar) -> None:
    answer = sign_in(bazaar, "vic", to="/exchange/apis/payroll")
    assert (answer.status_code, answer.headers["location"]) == (303, "/exchange/apis/payroll")
    said = answer.headers["set-cookie"]
    assert re.match(r"tulle-reader-8080=[\w-]{43}; HttpOnly; Max-Age=43200; Path=/; SameSite=strict", said)
    cookie = said.split(";")[0]
    assert "You read as <strong>vic</strong>" in get(bazaar, "/exchange", cookie=cookie)
    assert bazaar.send("GET", "/mesh/v1/apis", cookie=cookie).status_code == 401
    here = f"http://{bazaar.workspace.settings.host}:{bazaar.workspace.settings.control_plane_port}"
    assert bazaar.send("POST", "/exchange/sign-out", cookie=cookie, origin=here).status_code == 303
    assert "You read as" not in get(bazaar, "/exchange", cookie=cookie)


def test_where_the_portal_is_read_over_tls_its_cookie_is_sent_over_tls_alone(bazaar: Bazaar) -> None:
    assert sign_in(bazaar, "vic", scheme="https").headers["set-cookie"].endswith("; Secure")


@pytest.mark.parametrize(
    "to", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:x", "", "/\t/x"]
)
def test_signing_in_leads_to_a_page_of_ours(bazaar: Bazaar, to: str) -> None:
    assert sign_in(bazaar, "vic", to=to).headers["location"] == "/exchange"


def test_a_wrong_key_is_told(bazaar: Bazaar) -> None:
    answer = sign_in(bazaar, "vic", secret="x" * 40)
    assert answer.status_code == 403
    assert "the access key or its secret is wrong" in answer.text
    assert "set-cookie" not in answer.headers
    assert sign_in(bazaar, "vic", origin="http://evil.example").status_code == 403


# ── the doors ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_same_is_found_by_call(bazaar: Bazaar) -> None:
    found = bazaar.call("GET", "/exchange?q=stock+keeping", as_="kim").json()
    assert [(one["kind"], one["name"], one["versions"][0]) for one in found["found"]] == [
        ("API", "orders", {"version": "v1", "status": "published"})
    ]
    assert "detail" not in found["found"][0]
    assert found["choices"]["tag"] == {"logistics": 1, "orders": 1}
    assert bazaar.call("GET", "/exchange?q=payroll", as_="kim").json()["count"] == 0
    assert bazaar.call("GET", "/exchange?q=payroll", as_="vic").json()["count"] == 1
    assert bazaar.call("GET", "/exchange?q=payroll").json()["count"] == 1  # the mesh's token
    assert bazaar.call("GET", "/exchange?kind=product").json()["count"] == 2


def test_the_command_finds_it(bazaar: Bazaar) -> None:
    def tulle(*args: str) -> str:
        done = CliRunner().invoke(cli, ["--mesh", str(bazaar.mesh.folder), "api", "search", *args])
        assert done.exit_code == 0, done.output
        return done.output

    assert "Orders of the shop" in tulle("ordered", "where", "--domain", "shop")
    assert json.loads(tulle("--kind", "product", "--json"))["count"] == 2


def test_many_operations_are_shown_a_part_at_a_time(bazaar: Bazaar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_page, "A_PART", 2)
    first = get(bazaar, "/exchange/apis/orders?version=v1")
    last = get(bazaar, "/exchange/apis/orders?version=v1&part=99")
    assert [html.count('<details class="operation"') for html in (first, last)] == [2, 1]
    assert "part=2#operations" in first
    assert "/items/{id}" in last


# ── what an API is asked ─────────────────────────────────────────────────────────────────────────────────


def test_an_api_that_nobody_asked_has_a_page_of_insight_and_one_that_is_hidden_has_none(
    bazaar: Bazaar,
) -> None:
    page = get(bazaar, "/insight/apis/orders")
    assert "Nothing was asked in prod" in page
    assert "When it is asked, and what may come" not in page  # of nothing there is no pattern
    assert 'href="/insight/apis/orders?version=v2' in page
    assert "nobody asked it" in page
    assert "version=v3" not in page  # a draft
    assert 'href="/exchange/apis/orders"' in page
    assert "/services/orders" not in page
    assert "Nothing was asked in test" in get(bazaar, "/insight/apis/orders?environment=test")
    for near in ("payroll", "payrol"):
        told = get(bazaar, f"/insight/apis/{near}", 404)
        assert "did you mean" not in told
        assert "known: orders" in told
    assert "Nothing was asked" in get(bazaar, "/insight/apis/payroll", cookie=cookie_of(bazaar, "vic"))


def test_versions_of_an_api_have_pages_of_insight_of_their_own(bazaar: Bazaar) -> None:
    calls = Calls(bazaar.workspace.settings.state_folder)
    counting, at = Tally(Operations({"orders": ["GET /items"]}, "/public/api/v1/")), time.time() - 60
    said = {"service": "orders", "generation": None, "method": "GET"}
    mock = said | {
        "version": "v1",
        "reason": "mock",
        "details": "direct_response",
        "path": "/orders/v1/items",
    }
    counting.count(as_read([line(at, **mock)] * 5))
    counting.count(as_read([line(at, **said, version="v2", path="/orders/v2/items", client="evil<b>")] * 3))
    calls.add(counting.taken(), Place("f", 1))
    calls.close()
    page = get(bazaar, "/insight/apis/orders?span=hour")
    assert "8 requests" in page
    assert "(mock)" in page
    one = get(bazaar, "/insight/apis/orders?span=hour&version=v2")
    assert "<h1>orders v2</h1>" in one
    assert 'href="/insight/apis/orders?span=hour&amp;environment=prod">all that' in one
    assert "all that is asked of it" not in page
    assert "3 requests" in one
    assert "evil&lt;b&gt;" in one
    assert "(mock)" not in one
    assert "version=v2" in one.partition('aria-label="Time"')[2]  # another time is of the same version
    exchange = get(bazaar, "/exchange/apis/orders?version=v2")
    assert "3 requests" in exchange
    assert "How v2 is" in exchange
    assert 'href="/insight/apis/orders?version=v2"' in exchange
    assert "it is a draft" in get(bazaar, "/exchange/apis/orders?version=v3")
