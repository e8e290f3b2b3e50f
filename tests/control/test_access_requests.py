"""Asking for access and deciding about it, through commands with people's own keys, and who may use what."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.control.conftest import opened
from tests.control.test_apply import PRICES
from tests.control.test_approvals import Office
from tests.control.test_service_access import tulle
from tests.gateway.conftest import current_policy
from tests.pipeline.conftest import Mesh

from tulle.control import access_requests, applications, offers
from tulle.control.apply import apply_plan, current_plan
from tulle.control.workspace import Workspace
from tulle.errors import Denied, Invalid
from tulle.gateway import admitted, application_secret, contract_record, contract_step, envoy_files
from tulle.gateway import applications as registered
from tulle.gateway.contract_record import Place
from tulle.gateway.last_used import note
from tulle.gateway.policy import ManagedService
from tulle.server.lake_doors import lake_access
from tulle.spec.tier import parse_limits
from tulle.state import log

OFFER = """
tiers:
- {name: free, limits: [5/1s, 1000/1d], approval: automatic}
- {name: gold, limits: [100/1s]}
- {name: partner, limits: [500/1s], visibility: private}
- {name: old, limits: [1/1s], deprecated: true}
terms: {version: "1.0", text: be kind}
"""
Tulle = Callable[..., Any]


@pytest.fixture
def applied(mesh: Mesh, workspace: Workspace) -> Workspace:
    """The mesh with a service that has tiers and terms."""
    mesh.sales("services/sold.yaml", PRICES + OFFER)
    apply_plan(workspace)
    return workspace


@pytest.fixture
def office(mesh: Mesh, applied: Workspace, tmp_path: Path) -> Tulle:
    """Commands with the key of somebody: `olga` may change the product, `tom` and `eve` may not."""
    access = lake_access(applied.settings, applied.database)
    groups = {"olga": "Developers", "tom": "Viewers", "eve": "Viewers"}
    files = {name: Office.key_file(access, name, group, tmp_path) for name, group in groups.items()}

    def call(who: str, *args: str, fails: bool = False) -> Any:
        told = tulle(mesh, "app", *args, "--key", files[who], *(() if fails else ("--json",)), fails=fails)
        return told if fails else json.loads(told)

    return call


def ask(call: Tulle, who: str = "tom", *more: str, tier: str = "gold", fails: bool = False) -> Any:
    words = ["request", "till", "sold", "--tier", tier, "--purpose", "the till asks", "--accept-terms", "1.0"]
    return call(who, *words, *more, fails=fails)


def limits(workspace: Workspace) -> dict[str, str]:
    policy = current_policy(workspace.database, [ManagedService("sold", (), 1000)])
    return {c.client_id.rpartition("-")[0]: " + ".join(map(str, c.windows)) for c in policy.contracts}


def test_the_way_from_the_request_to_the_end(applied: Workspace, office: Tulle) -> None:
    made = office("tom", "create", "till", "--purpose", "sells", "--contact", "till@example.org")
    assert made["client_secret"]
    asked = ask(office)
    assert (asked["state"], asked["in_force"], asked["requested_by"]) == ("pending", False, "tom")
    assert limits(applied) == {}
    assert [one["id"] for one in office("olga", "requests")] == [asked["id"]]
    assert office("eve", "requests") == []
    approved = office("olga", "approve", asked["id"], "--tier", "partner", "--expires", "30d")
    assert (approved["state"], approved["tier"], approved["decided_by"]) == ("approved", "partner", "olga")
    assert limits(applied) == {"till": "500/1s"}
    assert office("olga", "requests") == []
    revoked = office("olga", "revoke", asked["id"], "--reason", "too loud")
    assert (revoked["state"], revoked["reason"]) == ("revoked", "too loud")
    assert limits(applied) == {}
    again = ask(office, tier="free")
    assert again["state"] == "pending"  # automatic, but it was revoked before
    assert "may not delete" in office(
        "tom", "delete", asked["id"], fails=True
    )  # which would be forgotten then
    assert [one["state"] for one in office("tom", "show", "till")["requests"]].count("revoked") == 1
    office("tom", "delete", again["id"])
    restored = office("olga", "restore", asked["id"])
    assert restored["state"] == "approved"
    changed = office("olga", "limits", asked["id"], "--limits", "3/1s + 9/1d")
    assert (changed["tier"], changed["limits"]) == (None, ["3/1s", "9/1d"])
    assert limits(applied) == {"till": "3/1s + 9/1d"}
    shown = office("tom", "show", "till")
    assert (shown["owners"], shown["contact"]) == (["tom"], "till@example.org")
    assert {one["state"] for one in shown["requests"]} == {"approved", "deleted"}
    kinds = [e.kind for e in log.read(applied.database, subject="application:till")]
    assert kinds == [
        "application.registered",
        *("contract.requested", "contract.approved", "contract.revoked"),
        *("contract.requested", "contract.deleted", "contract.restored", "contract.changed"),
    ]


def test_nobody_is_called_as_an_application_s_id(applied: Workspace, office: Tulle) -> None:
    made = office("tom", "create", "till")
    assert "looks like the id" in office("tom", "create", made["client_id"], fails=True)
    # As one may have been registered before there was that rule.
    registered.register(applied.database, made["client_id"], owner="eve")
    assert registered.get(applied.database, made["client_id"]).name == "till"


def test_an_automatic_tier_is_given_at_once(applied: Workspace, office: Tulle) -> None:
    office("tom", "create", "till")
    assert ask(office, tier="free")["state"] == "approved"
    assert limits(applied) == {"till": "5/1s + 1000/1d"}


def test_the_webhook_of_an_application_by_the_commands(applied: Workspace, office: Tulle) -> None:
    office("tom", "create", "till")
    made = office("tom", "hook", "till", "https://93.184.215.14/told")
    assert len(made["signing_secret"]) == 64
    assert "there is no application 'till' of 'eve'" in office("eve", "hook", "till", "--remove", fails=True)
    assert "may not reach 127.0.0.1" in office("tom", "hook", "till", "https://127.0.0.1/", fails=True)
    assert "what is to be told is not said" in office("tom", "hook", "till", fails=True)
    assert office("tom", "hook", "till", "--remove")["removed"] is True
    assert office("tom", "hook", "till", "--remove")["removed"] is False


def test_what_tiers_give_is_known_before_anybody_has_it(applied: Workspace, office: Tulle) -> None:
    """So that asking and giving up change nothing that would fill everybody's buckets."""

    def file() -> object:
        policy = current_policy(applied.database, [ManagedService("sold", (), 1000)])
        return envoy_files.limits(policy)

    before = file()
    office("tom", "create", "till")
    made = ask(office, tier="free")
    assert limits(applied) == {"till": "5/1s + 1000/1d"}
    assert file() == before
    office("tom", "delete", made["id"])
    assert file() == before


def test_who_may_not_is_refused_and_learns_nothing(applied: Workspace, office: Tulle) -> None:
    office("tom", "create", "till")
    asked = ask(office)
    for words in (
        ("show", "till"),
        ("rotate", "till"),
        ("revoke", "till"),
        ("change", "till", "--owner", "eve"),
    ):
        assert "there is no application 'till' of 'eve'" in office("eve", *words, fails=True)
    assert "no application 'till' of 'eve'" in ask(office, "eve", fails=True)
    for words in (
        ("approve", asked["id"]),
        ("delete", asked["id"]),
        ("reject", asked["id"], "--reason", "x"),
    ):
        assert "there is no contract" in office("eve", *words, fails=True)
    assert "user 'tom' may not approve" in office("tom", "approve", asked["id"], fails=True)
    assert "may not give access" in office("tom", "create", "other", "--service", "sold", fails=True)
    assert [one["name"] for one in office("eve", "list")] == []
    assert office("eve", "access") == []
    assert contract_record.get(applied.database, asked["id"]).state == "pending"


_FREE = ("request", "till", "sold", "--purpose", "x", "--tier", "free")
WRONG = (
    (("request", "till", "sold", "--purpose", "x"), "which tier of 'sold' is not said"),
    (("request", "till", "sold", "--purpose", "x", "--tier", "partner"), "offers no tier 'partner'"),
    (("request", "till", "sold", "--purpose", "x", "--tier", "fre"), "offers no tier 'fre'"),
    (("request", "till", "sold", "--purpose", "x", "--tier", "old"), "deprecated"),
    (("request", "till", "sold", "--purpose", " ", "--tier", "free"), "what the access is for"),
    (("request", "till", "sold", "--purpose", "x", "--tier", "free"), "they were not accepted"),
    (
        ("request", "till", "sold", "--purpose", "x", "--tier", "free", "--accept-terms", "0.9"),
        "version 0.9 is not the one",
    ),
    (("request", "till", "solt", "--purpose", "x"), "has an API or a service 'solt'"),
    (("request", "till", "salez", "--product", "--purpose", "x"), "is not applied"),
    (("request", "tull", "sold", "--purpose", "x"), "tull"),
    (
        (*_FREE, "--accept-terms", "1.0", "--env", "moon"),
        "there is no environment 'moon'",
    ),
    (("approve", "till"), "is no id of a contract"),
    (("approve", "c-0123456789abcdef"), "there is no contract"),
    (("rotate", "till", "--overlap", "long"), "is no duration"),
    (("rotate", "till", "--overlap", "500w"), "an overlap of"),
    (("rotate", "till", "--expires", "2001-01-01"), "ended before it is made"),
    (("rotate", "till", "--end-old", "--overlap", "1h"), "--end-old goes with neither"),
    (("requests", "--state", "lost"), "there is no state 'lost'"),
    (("access", "--product", "salez"), "is not applied"),
    (("change", "till"), "what is to be another is not said"),
    (("create", "c-0123456789abcdef"), "looks like the id of a contract"),
)


def test_what_is_misspelt_is_told_with_the_nearest_name(mesh: Mesh, applied: Workspace) -> None:
    tulle(mesh, "app", "create", "till")
    for words in (
        ["request", "till", "soldd", "--purpose", "x"],
        ["tiers", "soldd"],
        ["access", "--service", "soldd"],
    ):
        told = tulle(mesh, "app", *words, fails=True)
        assert "no applied product has an API or a service 'soldd'" in told, words


def test_what_nobody_can_mean_is_told(mesh: Mesh, applied: Workspace) -> None:
    registered.register(applied.database, "till", owner="tom")
    for words, told in WRONG:
        assert told in tulle(mesh, "app", *words, fails=True), words
    assert limits(applied) == {}


def test_what_is_changed_by_hand_is_told_as_json_too(mesh: Mesh, applied: Workspace, office: Tulle) -> None:
    office("tom", "create", "till")
    assert office("tom", "change", "till", "--purpose", "the tills")["purpose"] == "the tills"
    granted = json.loads(tulle(mesh, "app", "grant", "till", "sold", "--limit", "7/1s", "--json"))
    assert (granted["name"], granted["service"], granted["limit"]) == ("till", "sold", "7/1s")
    assert limits(applied) == {"till": "7/1s"}
    withdrawn = json.loads(tulle(mesh, "app", "withdraw", "till", "sold", "--json"))
    assert (withdrawn["service"], withdrawn["limit"]) == ("sold", None)
    assert limits(applied) == {}


def test_terms_are_asked_for_again_when_they_change(mesh: Mesh, applied: Workspace, office: Tulle) -> None:
    office("tom", "create", "till")
    asked = ask(office)
    mesh.sales("services/sold.yaml", PRICES + OFFER.replace('"1.0", text: be kind', '"2.0", text: be quick'))
    apply_plan(applied)
    assert "accepted version 1.0" in office("olga", "approve", asked["id"], fails=True)
    assert office("tom", "requests")[0]["terms_outdated"]
    accepted = office("tom", "terms", asked["id"])  # as they were then
    assert (accepted["version"], accepted["text"], accepted["accepted_by"]) == ("1.0", "be kind", "tom")
    assert "be kind" in tulle(mesh, "app", "terms", asked["id"])
    assert "no contract" in office("eve", "terms", asked["id"], fails=True)
    assert "are version 2.0, not 1.0" in office("tom", "accept", asked["id"], "1.0", fails=True)
    assert json.loads(tulle(mesh, "app", "accept", asked["id"], "2.0", "--json"))["terms"] == "2.0"
    approved = office("olga", "approve", asked["id"])
    assert (approved["terms"], approved["terms_outdated"]) == ("2.0", False)
    assert office("tom", "tiers", "sold")["terms"] == {"version": "2.0", "text": "be quick"}
    accepted = office("tom", "terms", asked["id"])
    assert (accepted["version"], accepted["text"]) == ("2.0", "be quick")
    assert [t["name"] for t in office("tom", "tiers", "sold")["tiers"]] == ["free", "gold", "old"]
    assert "partner" in [t["name"] for t in office("olga", "tiers", "sold")["tiers"]]


def test_a_changed_tier_hits_contracts_and_one_in_use_is_not_taken_out(
    mesh: Mesh, applied: Workspace, office: Tulle
) -> None:
    office("tom", "create", "till")
    ask(office, tier="free")
    edited = PRICES + OFFER.replace("[5/1s, 1000/1d]", "[2/1s]")
    mesh.sales("services/sold.yaml", edited)
    plan, _ = current_plan(applied)
    told = [detail.sentence for step in plan.steps for detail in step.details]
    assert "service sold: tier 'free' is 2/1s (was 5/1s + 1000/1d)" in told
    apply_plan(applied)
    assert limits(applied) == {"till": "2/1s"}
    without = PRICES + "tiers:\n- {name: gold, limits: [100/1s]}\n"
    mesh.sales("services/sold.yaml", without)
    with pytest.raises(Denied) as refused:
        apply_plan(applied)
    assert "tier 'free' of service 'sold' is taken out, and 1 contract is under it" in str(
        refused.value.problems[0]
    )
    mesh.sales("services/sold.yaml", edited.replace("[2/1s], ", "[2/1s], deprecated: true, "))
    apply_plan(applied)
    mesh.sales("services/sold.yaml", without)
    apply_plan(applied)
    assert limits(applied) == {"till": "2/1s"}


def test_a_product_is_asked_for_as_a_whole(
    mesh: Mesh, applied: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered.register(applied.database, "till", owner="tom")
    made = json.loads(
        tulle(mesh, "app", "request", "till", "sales", "--product", "--purpose", "all of it", "--json")
    )
    assert (made["product"], made["tier"], made["state"]) == ("sales", "standard", "pending")
    tulle(mesh, "app", "approve", made["id"])
    monkeypatch.setattr(admitted, "products_of", lambda _: {"sold": frozenset({"sales"})})
    admitted.forget(applied.database)
    assert limits(applied) == {"till": "50/1s"}


def test_who_may_use_what_and_why(mesh: Mesh, applied: Workspace, office: Tulle) -> None:
    office("tom", "create", "till")
    asked = ask(office, tier="free")
    client_id = registered.get(applied.database, "till").client_id
    note(applied.database, {(client_id, "sold", ""): 1_772_359_200.0})
    (use,) = office("tom", "access")
    assert (use["by"], use["who"], use["name"], use["product"]) == ("application", "till", "sold", "sales")
    assert (use["tier"], use["purpose"], use["contract"]) == ("free", "the till asks", asked["id"])
    assert use["why"].endswith("approved automatically")
    assert use["last_used_at"] == 1_772_359_200.0
    tulle(mesh, "service", "key", "create", "sold", "--label", "shop")
    everything = office("olga", "access", "--service", "sold")
    assert {(one["by"], one["who"]) for one in everything} == {("application", "till"), ("key", "shop")}
    text = tulle(mesh, "app", "access", "--product", "sales")
    assert "application till" in text
    assert "key shop" in text
    with applied.database.write() as cx:
        contract_step.agree_in(cx, client_id, Place("product", "sales"), parse_limits("1/1s"), by="olga")
    assert len(office("olga", "access", "--application", "till")) == 2
    assert len(office("olga", "access", "--service", "sold")) == 3


def test_one_sees_what_is_one_s_own_among_many(applied: Workspace, office: Tulle) -> None:
    office("tom", "create", "till")
    mine = ask(office)
    for number in range(3):
        client_id = registered.register(applied.database, f"other-{number}", owner="eve").client_id
        with applied.database.write() as cx:
            contract_step.agree_in(cx, client_id, Place("api", "sold"), parse_limits("1/1s"))
    access = lake_access(applied.settings, applied.database)
    found = access_requests.listed(applied, access, limit=1, user="tom")
    assert [one.id for one in found] == [mine["id"]]
    assert len(access_requests.listed(applied, access, limit=2, user="olga")) == 2


def test_rotation_by_the_commands(mesh: Mesh, applied: Workspace) -> None:
    first = json.loads(tulle(mesh, "app", "create", "till", "--expires", "90d", "--json"))
    told = tulle(mesh, "app", "rotate", "till")
    assert "the secret before it goes on until" in told
    second = json.loads((mesh.folder / ".tulle/credentials/till.json").read_text())
    assert len(registered.get(applied.database, "till").secrets) == 2
    shown = tulle(mesh, "app", "show", "till")
    assert "old secret" in shown
    assert first["client_secret"] not in shown
    assert second["client_secret"] not in shown
    assert "the old secret of till is refused" in tulle(mesh, "app", "rotate", "till", "--end-old")
    assert "has the one secret" in tulle(mesh, "app", "rotate", "till", "--end-old")
    assert application_secret.opens(applied.database, "till", second["client_id"], second["client_secret"])
    assert not application_secret.opens(applied.database, "till", first["client_id"], first["client_secret"])


def test_applications_are_listed_a_page_at_a_time(mesh: Mesh, applied: Workspace) -> None:
    names = [f"app-{number:02}" for number in range(7)]
    for name in names:
        registered.register(applied.database, name)
    registered.revoke(applied.database, "app-03")
    registered.register(applied.database, "app-03")
    registered.register(applied.database, registered.PORTAL)
    seen: list[str] = []
    after = ""
    while True:
        page = applications.visible(applied, after=after, limit=3)
        seen += [one.name for one in page]
        if len(page) < 3:
            break
        after = applications.place_of(page[-1])
    assert seen == sorted([*names, "app-03"])
    assert [a.name for a in applications.visible(applied, containing="p-05")] == ["app-05"]


def test_the_tiers_of_a_mesh_are_noted_when_it_is_opened(mesh: Mesh, applied: Workspace) -> None:
    assert [t.name for t in offers.offered(applied, "").tiers] == ["standard"]
    text = (mesh.folder / "mesh.yaml").read_text()
    (mesh.folder / "mesh.yaml").write_text(text + "\ntiers:\n- {name: usual, limits: [7/1s]}\n")
    again = opened(mesh)
    offers.record_mesh_tiers(again)
    offers.record_mesh_tiers(again)
    assert [t.words for t in offers.offered(again, "").tiers] == ["7/1s"]
    assert [e.kind for e in log.read(again.database)].count("offer.changed") == 2  # sold's, and the mesh's
    again.database.close()
    (mesh.folder / "mesh.yaml").write_text(text + "\ntiers:\n- {name: Usual, limits: [7/1s]}\n")
    with pytest.raises(Invalid, match="setting 'tiers'"):
        opened(mesh)


API = """
api: prices
terms: {version: "3", file: terms.md}
tiers:
- {name: basic, limits: [4/1s], approval: automatic}
versions:
- {version: v1, service: sold, publish: true}
"""


def test_an_api_of_a_product_s_folder_is_asked_for_by_its_own_tiers(
    mesh: Mesh, applied: Workspace, office: Tulle
) -> None:
    mesh.sales("apis/prices.yaml", API)
    mesh.sales("apis/terms.md", "Be kind.")
    apply_plan(applied)
    office("tom", "create", "till")
    offer = office("tom", "tiers", "prices")
    assert [one["name"] for one in offer["tiers"]] == ["basic"]
    assert offer["terms"] == {"version": "3", "text": "Be kind."}
    words = ("request", "till", "prices", "--purpose", "x")
    assert "has terms, version 3" in office("tom", *words, fails=True)
    made = office("tom", *words, "--accept-terms", "3")
    assert (made["state"], made["tier"], made["api"]) == ("approved", "basic", "prices")
    held = registered.get(applied.database, "till").contracts
    assert [(one.service, str(one.limit)) for one in held] == [("prices", "4/1s")]
    assert [one["name"] for one in office("olga", "access", "--service", "prices")] == ["prices"]
    mesh.sales("apis/prices.yaml", API.replace("basic", "other"))
    with pytest.raises(Denied) as refused:
        apply_plan(applied)
    assert "tier 'basic' of API 'prices' is taken out" in str(refused.value.problems[0])


def test_owners_that_somebody_names_are_users_of_the_mesh(office: Tulle) -> None:
    told = office("tom", "create", "till", "--owner", "boss@example.org", fails=True)
    assert "owner 'boss@example.org' of application 'till' is no user of the mesh" in told
    office("tom", "create", "till", "--owner", "eve")
    assert "owner 'ev' of application 'till' is no user" in office(
        "tom", "change", "till", "--owner", "tom", "--owner", "ev", fails=True
    )
    office("tom", "change", "till", "--owner", "eve", "--owner", "olga")
    assert office("eve", "show", "till")["owners"] == ["eve", "olga"]
