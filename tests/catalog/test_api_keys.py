"""The keys of an API on its page: who sees them, and whether the API takes any."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.catalog.test_exchange import cookie_of, get
from tests.control.bazaar import Bazaar

from tulle.catalog.api_keys import takes_keys
from tulle.config import PolicySet
from tulle.gateway import service_keys
from tulle.gateway.apis import records

HOSTILE = '<img src=x onerror="hurt()">'
PAGE = "/exchange/apis/orders"


@pytest.fixture(scope="module")
def bazaar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bazaar]:
    made = Bazaar(tmp_path_factory.mktemp("bazaar") / "mesh")
    yield made
    made.close()


def test_those_who_keep_an_api_alone_see_its_keys(bazaar: Bazaar) -> None:
    database = bazaar.workspace.database
    assert "It takes none" in get(bazaar, PAGE, cookie=cookie_of(bazaar, "ann"))
    made = service_keys.create(database, "orders", label=HOSTILE, kind="API", actor="ann")
    gone = service_keys.create(database, "orders", label="gone", kind="API")
    service_keys.revoke(database, "orders", "gone", kind="API")
    html = get(bazaar, PAGE, cookie=cookie_of(bazaar, "ann"))
    assert made.key.id in html
    assert "no version takes them" in html
    assert "1 key expired or revoked" in html
    assert HOSTILE not in html
    assert "&lt;img src=x" in html
    assert not [secret for secret in (made.secret, gone.secret) if secret in html]
    for cookie in ("", cookie_of(bazaar, "vic")):
        assert made.key.id not in get(bazaar, PAGE, cookie=cookie)


@pytest.mark.parametrize(
    ("policies", "taken"),
    [
        ([{"policy": "api-key"}], True),
        ([{"policy": "api-key", "operations": [{"path": "/items"}]}], True),
        ([{"policy": "client-id"}], False),
    ],
)
def test_an_api_takes_keys_where_the_mesh_says_so(
    bazaar: Bazaar, policies: list[dict[str, object]], taken: bool
) -> None:
    settings, database = bazaar.workspace.settings, bazaar.workspace.database
    api = records.find(database, "orders")
    assert not takes_keys(settings, database, api)
    of_mesh = {"usual": PolicySet(policies=policies)}
    assert takes_keys(replace(settings, policies=of_mesh), database, api) == taken
    elsewhere = {"usual": PolicySet(policies=policies, services=("stock",))}
    assert not takes_keys(replace(settings, policies=elsewhere), database, api)
