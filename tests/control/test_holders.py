"""Who relies on an API, by a contract for it or for its product: one answer, by whichever door it is asked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.control.bazaar import Bazaar

from tulle.control import apis, contract_notices, destroy, retirement
from tulle.control.drift import look
from tulle.control.gather import gather
from tulle.events import API_CHANGED, CONTRACT_REQUESTED
from tulle.gateway import applications
from tulle.gateway.contract_record import Place
from tulle.gateway.contract_step import agree_in
from tulle.gateway.holders import holders
from tulle.spec.rate_limit import RateLimit
from tulle.state.log import LogEntry

MAIL = """
alerts: {mail: {type: apprise, url_variable: MAIL_URL, on: []}}
contact_channel: mail
contact_domains: [example.org]
"""
SOME = RateLimit.parse("10/1s")


@pytest.fixture(scope="module")
def bazaar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bazaar]:
    made = Bazaar(tmp_path_factory.mktemp("bazaar") / "mesh", MAIL)
    database = made.workspace.database
    applications.register(database, "till", services={"orders": SOME})
    applications.register(database, "both", services={"orders": SOME})
    applications.register(database, applications.PORTAL, services={"orders": SOME})
    applications.register(database, "prodder")
    for name in ("prodder", "both"):
        client_id = applications.get(database, name).client_id
        with database.write() as cx:
            agree_in(cx, client_id, Place("product", "sales"), (SOME,))
    yield made
    made.close()


def test_a_contract_for_a_product_is_one_for_what_it_has(bazaar: Bazaar) -> None:
    found = holders(bazaar.workspace.database)
    assert [(one.application, one.kind) for one in found["orders"]] == [
        ("both", "api"),
        ("prodder", "product"),
        ("till", "api"),
    ]
    assert "payroll" not in found  # it is private: the product's contract does not open it


def test_everybody_who_asks_is_told_of_them(bazaar: Bazaar) -> None:
    workspace = bazaar.workspace
    who = ["both", "prodder", "till"]
    assert apis.shown(workspace, "orders")["applications"] == who
    told = destroy.preview(workspace, "sales")
    assert {f"application {one}" for one in who} <= set(told.affected)
    ended = [one.sentence for one in told.steps if one.operation == "end-contract"]
    assert "the contract of application 'prodder' on product 'sales' ends" in ended
    assert "the contract of application 'till' on 'orders' ends" in ended
    assert [one for one in retirement.readers(workspace, "sales") if "application" in one] == [
        f"application '{one}'" for one in who
    ]
    assert gather(workspace).callers["orders"] == who


def test_a_contract_on_an_api_is_no_fault(bazaar: Bazaar) -> None:
    assert not [one for found in look(bazaar.workspace) for one in found.findings if one.kind == "contract"]


def test_a_notice_is_for_all_of_them_and_leads_to_a_page(bazaar: Bazaar) -> None:
    workspace = bazaar.workspace
    events = [
        LogEntry(1, 1.0, API_CHANGED, "api:orders", "ann", {"status": "deprecated", "version": "v1"}),
        LogEntry(
            2,
            1.0,
            CONTRACT_REQUESTED,
            "application:till",
            "ann",
            {"kind": "api", "service": "orders", "state": "pending", "contract": "c"},
        ),
    ]
    for name in ("till", "both", "prodder"):
        applications.change(
            workspace.database, name, applications.About(("ann",), contact=f"{name}@example.org")
        )
    ended = [who for _, who, _ in contract_notices._people(workspace, events[0])]
    assert ended == [
        applications.get(workspace.database, name).client_id for name in ("both", "prodder", "till")
    ]
    told = contract_notices.compose(workspace, contract_notices._request(events[1], "sales")).data
    assert told["title"] == "application 'till' asks for access to API 'orders'"
    assert bazaar.send("GET", "/" + told["link"].split("/", 3)[3], accept="text/html").status_code == 200
