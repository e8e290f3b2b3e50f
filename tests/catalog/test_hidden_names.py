"""An API that is not for all: its name is nowhere that somebody comes to whom it is not shown."""

from __future__ import annotations

import html
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urljoin, urlsplit

import pytest
from sqlalchemy import insert
from tests.catalog.test_exchange import cookie_of, get
from tests.catalog.test_models import put_model
from tests.control.bazaar import Bazaar
from tests.observe.lines import as_read, line

from tulle.catalog.hidden_names import HiddenNames
from tulle.catalog.lake.masked import masked
from tulle.catalog.lake.opened import Head
from tulle.catalog.lake.record import HookRunPage
from tulle.catalog.lake.rows import ExperimentsPage
from tulle.catalog.page_values import ProcessView
from tulle.catalog.query_log import repository_name
from tulle.control import release
from tulle.control.apply import apply_plan
from tulle.engine.experiment import DataSetChange, Experiment
from tulle.errors import Broken
from tulle.gateway import applications, contract_step
from tulle.gateway.apis import records, remarks
from tulle.gateway.apis.sight import Sight
from tulle.gateway.applications import About
from tulle.gateway.contract_record import Place
from tulle.lake import pulls
from tulle.lake.hooks.record import HookRun, Run
from tulle.observe.calls import Calls
from tulle.observe.calls import Place as Read
from tulle.observe.operations import Operations
from tulle.observe.tally import Tally
from tulle.pipeline.run import Report
from tulle.server import app
from tulle.serving import generation
from tulle.serving.traffic import single
from tulle.spec.tier import Tier, parse_limits
from tulle.state.tables import deployment_requests, run_steps, runs

HIDDEN = re.compile("payroll|bonuses", re.IGNORECASE)  # the second was taken out of the mesh
SERVICE = """
    service: payroll
    endpoints:
    - {name: who, type: function, file: who.py}
"""
ROWS = """
    service: payroll-rows
    endpoints:
    - {name: earned, type: lookup, data_set: sales, key: [id]}
    - {name: likely, type: predict, model: spends}
"""
GONE = """
    api: bonuses
    visibility: private
    versions: [{version: v1, openapi: newer.openapi.yaml, mock: true, publish: true}]
"""
RUN = "20260101-000000000-abcd"
WHERE = (
    "/",
    "/services",
    "/plans",
    "/insight",
    "/applications/till",
    f"/runs/{RUN}",
    "/products/sales",
    "/products/sales/plans",
    "/products/sales/models/spends",
    "/products/sales/data-sets/sales/lineage",
    "/products/sales/data-sets/scored/lineage",
    "/lake",
    *(
        f"/lake/{name}{page}"
        for name in ("sales", "notes")
        for page in ("", "/commits", "/commits/try", "/refs", "/pulls", "/object?ref=try&path=texts/why.md")
    ),
)
NOT_LOOKED_AT = ("/static/", "/exchange/sign")
OVER_ROWS = """
    api: payroll-rows
    visibility: private
    versions: [{version: v1, service: payroll-rows}]
"""
PRODUCTS = ("sales", "features")


@pytest.fixture(scope="module")
def bazaar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bazaar]:
    with pytest.MonkeyPatch.context() as patched:
        worker = ProcessView("payroll/v1/0", "worker", "restarting", None, 1, "payroll does not start")
        patched.setattr(app, "_processes", lambda _: [worker])
        made = Bazaar(tmp_path_factory.mktemp("bazaar") / "mesh")
        workspace = made.workspace
        made.mesh.sales("functions/who.py", "def who() -> dict:\n    return {}\n")
        made.mesh.sales("services/payroll.yaml", SERVICE)
        made.mesh.sales("apis/bonuses.yaml", GONE)
        apply_plan(workspace)
        version = release.build_package(workspace, "payroll")[0].version
        generation.request(workspace.database, "payroll", version)
        generation.activate(workspace.database, "payroll", version)
        put_model(workspace, "sales")
        _use(made)
        _scored(made)
        _ask_for_deployment(made, "ann")
        _written_in_the_lake(made)
        made.mesh.sales("services/payroll-rows.yaml", ROWS)
        made.mesh.sales("apis/payroll-rows.yaml", OVER_ROWS)
        (made.mesh.folder / "products/shop/sales/apis/bonuses.yaml").unlink()
        apply_plan(workspace)
        yield made
        made.close()


def _use(bazaar: Bazaar) -> None:
    """Contracts and requests for both, a question, and calls."""
    database = bazaar.workspace.database
    applications.register(database, "kiosk", services={"payroll": parse_limits("1/1s")[0]})
    till = applications.register(database, "till", about=About(("vic",)))
    counting, at = Tally(Operations({}, "/public/api/v1/")), time.time() - 60
    for name in ("payroll", "bonuses"):
        tier = Tier("gold", parse_limits("100/1s"))
        contract_step.ask(database, till.client_id, Place("api", name), tier, purpose="to know", by="vic")
        remarks.ask(database, name, "vic", "Whose?")
        usual = {"service": name, "client": till.client_id, "path": f"/{name}/v1/items"}
        refused = {"code": 429, "details": "request_rate_limited"}
        counting.count(
            as_read([line(at, **usual), line(at, **usual, **refused), line(at, us=9_000_000, **usual)])
        )
    calls = Calls(bazaar.workspace.settings.state_folder)
    calls.add(counting.taken(), Read("f", 1))
    calls.close()


def _written_in_the_lake(bazaar: Bazaar) -> None:
    """What people wrote in a product's repository, one of nobody's, and what is kept of the service."""
    lake = bazaar.workspace.lake
    for name in ("sales", "notes"):
        repository = lake.repository(name) if name == "sales" else lake.create_repository(name)
        repository.create_branch("try", "main")
        repository.put("try", "texts/why.md", b"# For payroll\n")
        commit = repository.commit("try", "Rows for payroll\n\nand bonuses", metadata={"for": "payroll"})
        repository.create_tag("first", commit.id)
        pulls.create(repository, "Take what payroll has", "try", "main", description="and bonuses")
        repository.put("main", "texts/none.md", b"none\n")
        repository.commit("main", "What payroll asked for")
    lake.create_repository(repository_name("payroll"))


def _ask_for_deployment(bazaar: Bazaar, asked_by: str) -> None:
    values = {
        "service": "payroll",
        "environment": "",
        "traffic": single("v1").as_plain(),
        "status": "waiting",
    }
    values |= {"requested_by": asked_by, "credential": asked_by, "requested_at": 1.0, "changed_at": 1.0}
    with bazaar.workspace.database.write() as cx:
        cx.execute(insert(deployment_requests).values(id=f"d-{asked_by}", **values))


def _scored(bazaar: Bazaar) -> None:
    """Runs of which the service has answered rows, and failed to."""
    report = Report(
        columns=(("id", "integer"), ("answer", "string")),
        lineage={"id": [["sales", "id"]], "answer": [["sales", "customer"]]},
        inputs={"payroll/who": {"service": "payroll", "package": "v1 abc", "identity": "abc"}},
    )
    failed = Broken("the process that asks endpoint 'payroll/who' ended with 1", hint="see payroll")
    with bazaar.workspace.database.write() as cx:
        for number, (status, error) in enumerate((("failed", failed.as_dict()), ("succeeded", None))):
            run = f"20260101-00000000{number}-abcd"
            times = {"started_at": 1.0 + number, "finished_at": 2.0 + number}
            values = {
                "product": "sales",
                "environment": "main",
                "status": status,
                "error": error,
                "options": {},
            }
            cx.execute(insert(runs).values(id=run, requested_at=1.0 + number, **values, **times))
            step = {"name": "scored", "position": 1, "kind": "score", "report": report.as_dict(), "rows": 3}
            message = "payroll/who v1 refused 0 rows"
            cx.execute(insert(run_steps).values(run_id=run, status=status, message=message, **step, **times))


def _links(page: str, at: str) -> set[str]:
    """Where a page leads within the portal, without what only says which part of a page is meant."""
    found = (urljoin(at, html.unescape(one)) for one in re.findall(r'(?:href|action)="([^"]+)"', page))
    return {one.split("#")[0] for one in found if not urlsplit(one).netloc and not one.startswith("mailto:")}


def _told(bazaar: Bazaar, cookie: str) -> tuple[dict[str, str], int]:
    """What of them the pages tell that links lead to, by the page; each path once. And how many those are."""
    waiting = ["/", "/search?q=payrol", "/plans", "/schedules", "/access", "/insight/clients/till"]
    waiting += [f"/products/{name}/data-sets/{name}/lineage" for name in PRODUCTS]
    waiting += ["/products/sales/data-sets/scored/lineage"]
    seen, told = {one.split("?")[0] for one in waiting}, {}
    while waiting:
        path = waiting.pop()
        answer = bazaar.send("GET", path, accept="text/html", cookie=cookie)
        if found := HIDDEN.search(answer.text):
            told[path] = answer.text[max(0, found.start() - 100) : found.end() + 60]
        for one in sorted(_links(answer.text, path)):
            if (plain := one.split("?")[0]) not in seen and not plain.startswith(NOT_LOOKED_AT):
                seen.add(plain)
                waiting.append(one)
    return told, len(seen)


def test_no_page_that_links_lead_to_has_it(bazaar: Bazaar) -> None:
    told, pages = _told(bazaar, "")
    assert "\n".join(f"{path}: {said}" for path, said in told.items()) == ""
    assert pages > 30


@pytest.mark.parametrize("path", WHERE)
def test_who_may_see_it_finds_it_there(bazaar: Bazaar, path: str) -> None:
    page = get(bazaar, path, cookie=cookie_of(bazaar, "vic"))
    assert HIDDEN.search(page)
    assert not HIDDEN.search(get(bazaar, path, cookie=cookie_of(bazaar, "kim")))


def test_what_is_kept_of_it_is_as_what_is_not_there(bazaar: Bazaar) -> None:
    kept, kim = repository_name("payroll"), cookie_of(bazaar, "kim")
    pages = (
        "",
        "/refs",
        "/commits",
        "/commits/main",
        "/object?path=x",
        "/diff",
        "/settings",
        "/work",
        "/pulls",
    )
    for page in (*pages, "/rows?left=main&right=main&prefix=x", "/compare", "/hooks", "/reflog?branch=main"):
        hidden, none = (get(bazaar, f"/lake/{one}{page}", 404, kim) for one in (kept, "nowhere"))
        assert hidden.replace(kept, "nowhere") == none
    get(bazaar, f"/lake/{kept}", cookie=cookie_of(bazaar, "vic"))
    assert kept in get(bazaar, f"/lake/{kept}x", 404, cookie_of(bazaar, "vic"))  # which may be suggested
    assert not HIDDEN.search(get(bazaar, f"/lake/{kept[2:]}", 404, kim).replace(kept[2:], ""))


def test_what_hooks_are_called_and_why_nothing_is_compared_has_no_hidden_name() -> None:
    head, hidden = Head("notes", False, "main", False), HiddenNames(frozenset({"payroll"}))
    hook = HookRun("h", "check payroll", "payroll-is-whole", "failed", 1, None, None, "payroll has gone")
    run = Run("r", "pre-merge", "main", "main", "", "failed", 1.0, 2.0)
    (shown,) = masked(HookRunPage(head, run, (hook,)), hidden).hooks
    assert (shown.action, shown.hook, shown.output) == ("check ••••", "payroll-is-whole", "•••• has gone")
    change = DataSetChange("rows", problem="payroll cannot be read")
    page = ExperimentsPage(head, "main", "try", (), (Experiment("try", "c", 1, 0, 1, (change,)),))
    (found,) = masked(page, hidden).experiments
    assert found.data_sets[0].problem == "•••• cannot be read"
    assert masked(page, replace(hidden, products=frozenset({"notes"}))) is page


@pytest.mark.parametrize("name", ["payrol", "bonusses"])
def test_a_name_that_is_nearly_right_is_not_set_right(bazaar: Bazaar, name: str) -> None:
    for path in (f"/services/{name}", f"/services/{name}/design", f"/insight/apis/{name}"):
        assert not HIDDEN.search(get(bazaar, path, 404))
    assert not HIDDEN.search(get(bazaar, f"/exchange/apis/{name}", 404))
    for address in (
        "apis/{}",
        "apis/{}/status",
        "services/{}/deployments",
        "services/{}/keys",
        "services/{}/file",
    ):
        answer = bazaar.call("GET", f"/{address.format(name)}", as_="kim")
        assert (address, HIDDEN.search(answer.text)) == (address, None)


def _calls(bazaar: Bazaar) -> Iterator[tuple[str, str]]:
    """The method and path of each call of the API."""
    for path, said in bazaar.call("GET", "/openapi.json").json()["paths"].items():
        yield from ((method.upper(), path) for method in said if path.startswith("/mesh/v1/"))


def test_no_list_of_the_api_has_it(bazaar: Bazaar) -> None:
    lists = [path for method, path in _calls(bazaar) if method == "GET" and "{" not in path]
    answers = {path: bazaar.send("GET", path, authorization=bazaar.basic("kim")) for path in lists}
    assert sum(answer.status_code == 200 for answer in answers.values()) > 8
    assert {path: answer.text for path, answer in answers.items() if HIDDEN.search(answer.text)} == {}
    waiting = "/deployment-requests"
    assert HIDDEN.search(bazaar.call("GET", waiting, as_="ann").text)
    _ask_for_deployment(bazaar, "kim")  # who asked for it knows of it
    assert [one["id"] for one in bazaar.call("GET", waiting, as_="kim").json()["requests"]] == ["d-kim"]


@pytest.mark.parametrize("name", ["payroll", "bonuses"])
def test_the_api_answers_as_for_one_that_is_not_there(bazaar: Bazaar, name: str) -> None:
    def asked(method: str, path: str, one: str) -> tuple[int, str]:
        filled = re.sub(r"{(name|service|api)}", one, path)
        filled = re.sub(r"{[^}]*}", "v1", filled)
        answer = bazaar.send(method, filled, {}, authorization=bazaar.basic("kim"))
        return answer.status_code, answer.text.replace(one, "NAME")

    calls = [one for one in _calls(bazaar) if re.search(r"/(apis|services)/{(name|service|api)}", one[1])]
    assert len(calls) > 40
    differ = {}
    for method, path in calls:
        hidden, none = asked(method, path, name), asked(method, path, "nowhere")
        if hidden != none:
            differ[f"{method} {path}"] = (hidden, none)
    assert "\n".join(f"{call}: {said}" for call, said in differ.items()) == ""


def test_a_removed_api_hides_its_name_until_that_is_used_anew(bazaar: Bazaar) -> None:
    database = bazaar.workspace.database
    sight = Sight(database, bazaar.access)
    assert sight.hidden("kim") >= {"payroll", "bonuses"}
    assert sight.hidden("vic") == sight.hidden(None) == frozenset()
    with database.write() as cx:
        records.save(cx, "features", (), services=("bonuses",))  # a service that everybody may find
    assert "bonuses" not in sight.hidden("kim")
