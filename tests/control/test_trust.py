"""What is told of a mesh's trust; with processes it is in tests/system/test_mutual_tls.py."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tulle.control import trust
from tulle.control.workspace import Workspace
from tulle.errors import Conflict
from tulle.gateway.trust.keeper import Keeper


def secured(workspace: Workspace) -> Workspace:
    return replace(workspace, settings=replace(workspace.settings, mutual_tls=True))


def test_without_mutual_tls_there_is_nothing_to_show_or_to_replace(workspace: Workspace) -> None:
    assert trust.view(workspace) == {
        "mutual_tls": False,
        "domain": "",
        "authorities": [],
        "certificates": [],
        "calls": [],
    }
    with pytest.raises(Conflict, match="without TLS") as refused:
        trust.rotate(workspace)
    assert refused.value.hint is not None
    assert "mutual_tls: true" in refused.value.hint


def test_authorities_and_certificates_are_shown_without_keys(workspace: Workspace) -> None:
    mesh = secured(workspace)
    Keeper(mesh.settings, mesh.database).keep({("offers", ""), ("offers", "test")})
    shown = trust.view(mesh)
    domain = shown["domain"]
    assert [one["identity"] for one in shown["certificates"]] == [
        f"spiffe://{domain}/gateway",
        f"spiffe://{domain}/env/prod/service/offers",
        f"spiffe://{domain}/env/test/service/offers",
    ]
    (authority,) = shown["authorities"]
    assert (authority["signs"], authority["is_trusted"], authority["trusted_until"]) == (True, True, None)
    assert "PRIVATE" not in repr(shown)
    made = trust.rotate(mesh, actor="ann")
    assert (made["signs"], made["is_trusted"]) == (False, True)
    assert [one["signs"] for one in trust.view(mesh)["authorities"]] == [False, True]
    at_once = trust.rotate(mesh, at_once=True, actor="ann")
    assert [one["id"] for one in trust.view(mesh)["authorities"]] == [at_once["id"]]
