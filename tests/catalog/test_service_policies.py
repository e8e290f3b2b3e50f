"""The policies of a service, on its page: each with who says so."""

from __future__ import annotations

import re
from dataclasses import replace

from tests.catalog.conftest import Browser

from tulle.catalog.service_policies import policies_view
from tulle.config import PolicySet
from tulle.gateway import service_policies

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
    view = policies_view(settings, database, NAME, OWN, None, domain="sales", tags=())
    assert [(one.kind, one.said_by) for one in view.rows] == [
        ("ip-deny", "the mesh, walls, for all"),
        ("compression", "the mesh, usual"),
        ("header-injection", "its file"),
        ("body-limit", "the mesh, walls, for all"),
        ("body-limit", "its file"),
    ]
    bad = replace(settings, policies={"a": PolicySet(({"policy": "ip-deny", "addresses": ["here"]},))})
    view = policies_view(bad, database, NAME, OWN, None, domain="", tags=())
    assert view.rows == ()
    assert "mesh.yaml" in view.problem
    view = policies_view(
        settings, database, NAME, ({"policy": 5, "operations": [{}]},), None, domain="", tags=()
    )
    assert view.problem
