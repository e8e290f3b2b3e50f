"""The pages of applications: found by name and owner, what they asked for, what waits, who may use what."""

from __future__ import annotations

import pytest
from tests.catalog.conftest import Browser

from tulle.catalog import applications as pages
from tulle.errors import NotFound
from tulle.gateway import application_secret, contract_step, service_keys
from tulle.gateway import applications as registered
from tulle.gateway.applications import About
from tulle.gateway.contract_record import Place
from tulle.gateway.contract_step import Decision
from tulle.spec.tier import Offer, Terms, Tier, parse_limits

NAME = "customer-totals"
GOLD = Tier("gold", parse_limits("100/1s + 5000/1d"))
HOSTILE = '<img src=x onerror="document.title=1">'


def offer(browser: Browser) -> None:
    with browser.world.database.write() as cx:
        contract_step.record_offer(cx, NAME, Offer((GOLD,), Terms("1", "be kind")), product="people")


def test_applications_are_found_by_name_and_owner_a_page_at_a_time(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "A_PAGE", 3)
    for number in range(4):
        registered.register(browser.world.database, f"app-{number}", about=About((f"tom{number % 2}",)))
    html = browser.get("/applications")
    assert [name in html for name in ("app-0", "app-2", "app-3", "web-shop")] == [True, True, False, False]
    following = html.split("after=")[1].split('"')[0]
    html = browser.get(f"/applications?after={following}")
    assert [name in html for name in ("app-0", "app-3", "web-shop")] == [False, True, True]
    html = browser.get("/applications?owner=tom1")
    assert [f">app-{n}<" in html for n in range(4)] == [False, True, False, True]
    assert ">web-shop<" in browser.get("/applications?q=shop")
    assert "No application is like that" in browser.get("/applications?q=nobody")


def test_an_application_shows_what_it_asked_for_and_never_a_secret(browser: Browser) -> None:
    offer(browser)
    database = browser.world.database
    about = About(("tom",), HOSTILE, HOSTILE, "tom")
    made = registered.register(database, "till", about=about)
    rotated = application_secret.rotate(database, "till", overlap=3600)
    record = contract_step.ask(
        database, made.client_id, Place("api", NAME), GOLD, purpose=HOSTILE, terms=Terms("0", "x"), by="tom"
    )
    contract_step.take(
        database, record.id, "approve", decision=Decision(tier=GOLD, reason=HOSTILE), by="olga"
    )
    html = browser.get("/applications/till")
    assert "<img" not in html
    assert "100/1s + 5000/1d" in html
    assert "terms are 1 by now" in html
    assert "be kind" in html
    assert "Old secret" in html
    assert "End the old one now" in html
    for one in (made, rotated):
        assert one.client_secret not in html
    with pytest.raises(NotFound):
        browser.world.reader().callers.one(registered.PORTAL)


def test_what_waits_is_decided_on_its_page(browser: Browser) -> None:
    offer(browser)
    database = browser.world.database
    assert "Nothing waits." in browser.get("/access/requests")
    made = registered.register(database, "till")
    record = contract_step.ask(database, made.client_id, Place("api", NAME), GOLD, purpose="sells", by="tom")
    html = browser.get("/access/requests")
    assert f'data-lake="/mesh/v1/contracts/{record.id}"' in html
    assert "gold: 100/1s + 5000/1d" in html
    assert 'of <a href="/products/people">people</a>' in html
    assert '<span class="badge warn">1</span>' in browser.get("/applications")
    contract_step.take(database, record.id, "reject", decision=Decision(reason="not now"), by="olga")
    html = browser.get("/access/requests")
    assert "Nothing waits." in html
    assert "not now" in html


def test_who_may_use_what_is_listed_without_people(browser: Browser) -> None:
    database = browser.world.database
    service_keys.create(database, NAME, label="shop key")
    client_id = registered.register(database, "till").client_id
    with database.write() as cx:
        contract_step.agree_in(cx, client_id, Place("product", "people"), GOLD.limits, by="olga")
    html = browser.get("/access")
    assert [name in html for name in ("web-shop", "shop key", ">till<", "tulle-portal")] == [
        True,
        True,
        True,
        False,
    ]
    html = browser.get(f"/access?service={NAME}")
    assert [name in html for name in ("web-shop", "shop key", ">till<")] == [True, True, True]
    assert "Nobody may use it." in browser.get("/access?product=sales")
