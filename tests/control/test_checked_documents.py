"""Which OpenAPI document requests are checked by where a policy names none."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tulle.control.checked_documents import with_documents
from tulle.control.workspace import Workspace
from tulle.errors import Broken, NotFound
from tulle.gateway.policies.entry import Policy
from tulle.gateway.policy import Backend, ManagedService
from tulle.serving.generation import folder_of
from tulle.serving.traffic import single

OWN = {"openapi": "3.1.0", "paths": {"/own": {}}}
PACKAGED = {"openapi": "3.1.0", "paths": {"/packaged": {}}}


@pytest.fixture
def service(workspace: Workspace) -> ManagedService:
    folder = folder_of(workspace.settings, "sold", "v1")
    folder.mkdir(parents=True)
    (folder / "openapi.json").write_text(json.dumps(PACKAGED))
    policies = (Policy("compression"), Policy("schema-validation", {"answers": True}))
    return ManagedService(
        "sold", (), 1000, traffic=single("v1"), backends=(Backend("v1", ("run/w/a",)),), policies=policies
    )


def test_it_is_that_of_the_package(workspace: Workspace, service: ManagedService) -> None:
    found = with_documents(workspace.settings, workspace.database, service)
    assert found.policies[0] == service.policies[0]
    assert found.policies[1].settings == {"answers": True, "document": PACKAGED}


def test_one_that_is_named_stays(workspace: Workspace, service: ManagedService) -> None:
    named = replace(service, policies=(Policy("schema-validation", {"document": OWN}),))
    assert with_documents(workspace.settings, workspace.database, named) is named
    without = replace(service, policies=())
    assert with_documents(workspace.settings, workspace.database, without) is without


def test_one_that_is_missing_or_damaged_is_told(workspace: Workspace, service: ManagedService) -> None:
    with pytest.raises(NotFound, match="'sold' has no OpenAPI document"):
        with_documents(workspace.settings, workspace.database, replace(service, traffic=None, backends=()))
    file = folder_of(workspace.settings, "sold", "v1") / "openapi.json"
    file.write_text("[")
    with pytest.raises(Broken, match="cannot be read"):
        with_documents(workspace.settings, workspace.database, service)
    file.unlink()
    with pytest.raises(Broken, match=r"lacks openapi\.json"):
        with_documents(workspace.settings, workspace.database, service)
