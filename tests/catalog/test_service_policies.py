"""The policies of a service, on its page: each with who says so."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from tests.catalog.conftest import Browser

from tulle.catalog.service_policies import PoliciesView, policies_view
from tulle.config import PolicySet, Settings
from tulle.gateway import service_policies
from tulle.gateway.in_force import InForce, of_service, said_at_deployments
from tulle.serving.access import Access
from tulle.state import products

NAME = "customer-totals"
PAGE = f"/services/{NAME}"
OWN = (
    {
        "policy": "header-injection",
        "request": {"x-api-key": "hush-hush"},
        "response": {"x-a": "<b>${service}</b>"},
        "operations": [{"path": "/a"}],
    },
    {"policy": "body-limit", "max_bytes": 10},
)


def test_a_service_without_policies_says_so(browser: Browser) -> None:
    html = browser.get(PAGE)
    assert 'id="policies"' in html
    assert "None beside its limits" in html


def test_policies_are_shown_with_what_they_are_for(browser: Browser) -> None:
    service_policies.set_policies(browser.world.database, NAME, OWN)
    html = browser.get(PAGE)
    (section,) = re.findall(r'<section class="section" id="policies".*?</section>', html, re.DOTALL)
    assert section.count("<dt") == 2
    assert "max_bytes: 10" in section
    assert "x-api-key" in section
    assert "hush" not in html
    assert "its deployment" in section
    assert "<b>" not in section.replace("<br>", "")
    assert "&lt;b&gt;${service}&lt;/b&gt;" in section
    assert ">/a</span>" in section
    assert "all requests" in section
    assert "say who may call instead" not in html
    service_policies.set_policies(browser.world.database, NAME, [*OWN, {"policy": "basic-auth"}])
    assert re.search(r"say who may call instead: <span[^>]*>basic-auth<", browser.get(PAGE))


def test_by_what_is_counted_and_kept_is_no_secret(browser: Browser) -> None:
    given = (
        {"policy": "quota", "limits": ["10/1d"], "key": ["client", "path"]},
        {"policy": "caching", "ttl": 5, "key": {"query": ["page"]}},
    )
    service_policies.set_policies(browser.world.database, NAME, given)
    html = browser.get(PAGE)
    assert "key: [client, path]" in html
    assert "query: [page]" in html
    assert "****" not in html


def test_those_of_the_mesh_come_with_their_set(browser: Browser) -> None:
    database = browser.world.database
    deny = {"policy": "ip-deny", "addresses": ["192.0.2.1"]}
    sets = {
        "walls": PolicySet((deny, {"policy": "body-limit", "max_bytes": 5}), mandatory=True),
        "usual": PolicySet(({"policy": "compression"},), domains=("sales",)),
        "others": PolicySet(({"policy": "compression"},), tags=("pii",)),
    }
    settings = replace(browser.world.settings, policies=sets)
    product = replace(products.named(database, ["sales"])["sales"], domain="sales", tags=())

    def view_of(settings: Settings, plain: Any = OWN) -> PoliciesView:
        def held() -> InForce:
            said, place = said_at_deployments(database), ("", "prod")
            return of_service(settings, said, NAME, place, access=Access(), plain=plain, product=product)

        return policies_view(settings, held, "its file")

    view = view_of(settings)
    assert [(one.kind, one.said_by) for one in view.rows] == [
        ("ip-deny", "the mesh, walls, for all"),
        ("compression", "the mesh, usual"),
        ("header-injection", "its file"),
        ("body-limit", "the mesh, walls, for all"),
        ("body-limit", "its file"),
    ]
    outside = view.without_settings()
    assert [one.kind for one in outside.rows] == [one.kind for one in view.rows]
    assert not any(one.settings for one in outside.rows)
    view = view_of(
        replace(settings, policies={"a": PolicySet(({"policy": "ip-deny", "addresses": ["here"]},))})
    )
    assert view.rows == ()
    assert "mesh.yaml" in view.problem
    assert "mesh.yaml" not in view.without_settings().problem
    assert view_of(settings, ({"policy": 5, "operations": [{}]},)).problem
