"""Who may call a service, on its page and in its document."""

from __future__ import annotations

import re

from tests.catalog.conftest import Browser

from tulle.gateway import service_keys
from tulle.serving.access import Access, Keys, Public, Tokens
from tulle.state.db import now

NAME = "customer-totals"
PAGE = f"/services/{NAME}"


def test_a_service_that_contracts_alone_open_says_so(browser: Browser) -> None:
    html = browser.get(PAGE)
    assert "As version v1 says" in html
    assert "applications that have a contract" in html
    assert "The service takes none." in html
    assert "web-shop" in html
    assert "/static/lake.js" not in html  # there is nothing to ask for


def test_keys_are_shown_without_their_secrets_and_may_be_made_and_revoked(browser: Browser) -> None:
    database = browser.world.database
    made = service_keys.create(
        database, NAME, label="Tom & Co", description="the <shop>", expires_at=now() + 86_400, actor="ann"
    )
    gone = service_keys.create(database, NAME, label="gone")
    service_keys.revoke(database, NAME, gone.key.id)
    html = browser.get(PAGE)
    assert "There are keys, and the service takes none" in html
    service_keys.set_access(
        database, NAME, Access(contracts=False, api_keys=Keys("7/1s"), public=Public("9/1m"))
    )
    html = browser.get(PAGE)
    assert "Said at its deployment" in html
    assert "whoever has a key of the service, 7/1s each" in html
    assert "everybody, 9/1m together" in html
    assert "Tom &amp; Co" in html
    assert "the &lt;shop&gt;" in html
    assert re.search(r"<time [^>]*>in (1 day|23 hours)</time>", html)
    assert "Authorization: Bearer" not in html  # open to everybody, so snippets send nothing
    service_keys.set_access(database, NAME, Access(contracts=False, api_keys=Keys("7/1s")))
    assert "Authorization: Bearer" in browser.get(PAGE)
    assert made.secret not in html
    assert gone.key.id not in html
    assert "1 key" in html
    (form,) = re.findall(rf'<form data-lake="/mesh/v1{PAGE}/keys".*?</form>', html, re.DOTALL)
    assert f'data-method="DELETE" data-path="/{made.key.id}"' in form
    assert "/static/lake.js" in html
    ids = re.findall(r'\sid="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_tokens_that_open_by_a_contract_are_told_from_those_that_open_by_themselves(browser: Browser) -> None:
    for contract, told in (
        (False, "whoever has a token of https://a/ with read"),
        (True, "applications that have a contract, with a token of https://a/ with read"),
    ):
        jwt = Tokens("https://a/", scopes=("read",), jwks_uri="https://a/keys", contract=contract)
        service_keys.set_access(browser.world.database, NAME, Access(contracts=False, jwt=jwt))
        assert told in browser.get(PAGE)


def test_the_document_says_who_may_call_now(browser: Browser) -> None:
    usual = browser.json(f"{PAGE}/openapi.json")
    assert isinstance(usual, dict)
    assert {"clientId": [], "clientSecret": []} in usual["security"]
    service_keys.set_access(browser.world.database, NAME, Access(contracts=False, public=Public("9/1m")))
    opened = browser.json(f"{PAGE}/openapi.json")
    assert isinstance(opened, dict)
    assert opened["security"] == [{}]
    assert opened["paths"] == usual["paths"]
