"""A service's policies through the doors: by its file, its package and its deployment, with those of the mesh."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.control.test_apply import PRICES
from tests.control.test_service_access import tulle
from tests.pipeline.conftest import Mesh

from tulle.cli.connect import mesh_client
from tulle.config import PolicySet
from tulle.control import service_policies
from tulle.control.apply import apply_plan, retire
from tulle.control.workspace import Workspace
from tulle.errors import Invalid
from tulle.gateway.applications import register
from tulle.gateway.policies.kind import known_kinds
from tulle.gateway.service_policies import said_at_deployment

LIST = "policies:\n- {policy: cors, origins: ['*']}\n- {policy: rate-limit, limits: 5/1s, environments: [prod]}\n"


@pytest.fixture
def applied(mesh: Mesh, workspace: Workspace) -> Workspace:
    """The mesh with a service that lists policies."""
    mesh.sales("services/sold.yaml", PRICES + LIST)
    apply_plan(workspace)
    return workspace


def test_they_are_as_the_file_or_the_deployment_says(mesh: Mesh, applied: Workspace) -> None:
    told = tulle(mesh, "service", "policies", "sold")
    assert "as its file says" in told
    assert "cors (origins: ['*'])" in told
    assert "rate-limit (limits: 5/1s, environments: [prod])" in told
    wanted = json.dumps([{"policy": "compression"}])
    told = tulle(mesh, "service", "policies", "sold", "--set", "-", typed=wanted)
    assert "said at its deployment" in told
    assert "compression" in told
    found = json.loads(tulle(mesh, "service", "policies", "sold", "--json"))
    assert (found["said_by"], found["policies"]) == ("deployment", [{"policy": "compression"}])
    assert (found["joined"], found["sets"], found["fault"]) == ([{"policy": "compression"}], [], None)
    assert "as its file says" in tulle(mesh, "service", "policies", "sold", "--as-packaged")
    tulle(mesh, "service", "policies", "sold", "--set", "-", typed="policies: []")
    assert "none" in tulle(mesh, "service", "policies", "sold")
    retire(applied, "sales")
    assert said_at_deployment(applied.database) == {}


def test_secrets_are_carried_out_and_not_shown(mesh: Mesh, applied: Workspace) -> None:
    wanted = [{"policy": "header-injection", "request": {"x-api-key": "hush", "x-team": "a"}}]
    told = tulle(mesh, "service", "policies", "sold", "--set", "-", typed=json.dumps(wanted))
    assert "hush" not in told
    assert said_at_deployment(applied.database)[("sold", "")] == tuple(wanted)
    text = tulle(mesh, "service", "policies", "sold", "--json")
    assert "hush" not in text
    (shown,) = json.loads(text)["policies"]
    assert shown["request"] == {"x-api-key": "****", "x-team": "a"}
    # what was taken from there is not what it was
    told = tulle(mesh, "service", "policies", "sold", "--set", "-", typed=json.dumps([shown]), fails=True)
    assert "a value in it is hidden" in told
    assert said_at_deployment(applied.database)[("sold", "")] == tuple(wanted)


def test_what_is_wrong_is_told_with_its_place(mesh: Mesh, applied: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "list.yaml"
    file.write_text("policies:\n- policy: cors\n- policy: ip-deny\n  addresses: [here]\n")
    told = tulle(mesh, "service", "policies", "sold", "--set", str(file), fails=True)
    assert "'here' is no address or network" in told
    assert said_at_deployment(applied.database) == {}
    for text, said in (
        ("[{policy: crs}]", "there is no policy 'crs'"),
        ("[{policy: compression, environments: [prd]}]", "there is no environment 'prd'"),
        ("[{policy: without, sets: [walls]}]", "there is no set of policies 'walls'"),
    ):
        with pytest.raises(Invalid) as caught:
            service_policies.set_policies(applied, "sold", text)
        assert said in caught.value.problems[0].message
    told = tulle(mesh, "service", "policies", "sole", fails=True)
    assert "no applied product has a service 'sole'" in told


def test_what_it_names_that_is_not_there_is_told(mesh: Mesh, applied: Workspace) -> None:
    till = register(applied.database, "till").client_id
    for text, place, said, hint in (
        ("[{policy: quota, tiers: {gold: 5/1d}}]", "1:32", "there is no tier 'gold'", "known: standard"),
        (
            "[{policy: quota, tiers: {standart: 5/1d}}]",
            "1:36",
            "there is no tier 'standart'",
            "did you mean 'standard'?",
        ),
        (
            "[{policy: redaction, fields: [{path: $.a, except: {tiers: [vip]}}]}]",
            "1:60",
            "there is no tier 'vip'",
            "known: standard",
        ),
        (
            "[{policy: redaction, fields: [{path: $.a, except: {clients: [till]}}]}]",
            "1:62",
            f"'till' is the name of an application, whose id is '{till}'",
            f"write '{till}'",
        ),
        (
            "[{policy: body-limit, max_bytes: 5, operations: [{path: /by-id/lookp}]}]",
            "1:50",
            "service 'sold' has no operation '/by-id/lookp', so this is for no request that it answers",
            "did you mean '/by-id/lookup'?",
        ),
        (
            "[{policy: body-limit, max_bytes: 5, operations: [{method: GET, path: /by-id/lookup}]}]",
            "1:50",
            "service 'sold' has no operation 'GET /by-id/lookup', so this is for no request that it answers",
            "did you mean 'POST /by-id/lookup'?",
        ),
    ):
        with pytest.raises(Invalid) as caught:
            service_policies.set_policies(applied, "sold", text)
        (problem,) = caught.value.problems
        assert (str(problem.place), problem.message, problem.hint) == (f"policies:{place}", said, hint)
    assert said_at_deployment(applied.database) == {}
    fine = "[{policy: quota, tiers: {standard: 5/1d}, operations: [{path: '/{any}/lookup'}, {method: GET}]}]"
    assert service_policies.set_policies(applied, "sold", fine).warnings == ()


def test_a_wrong_name_is_found_behind_many_doubtful_ones(applied: Workspace) -> None:
    ids = ", ".join(f"gone-{number}" for number in range(60))
    hiding = f"{{policy: redaction, fields: [{{path: $.a, except: {{clients: [{ids}]}}}}]}}"
    with pytest.raises(Invalid) as told:
        service_policies.set_policies(
            applied, "sold", f"[{hiding}, {{policy: quota, tiers: {{gold: 5/1d}}}}]"
        )
    assert [problem.message for problem in told.value.problems] == ["there is no tier 'gold'"]
    assert len(service_policies.set_policies(applied, "sold", f"[{hiding}]").warnings) == 50


def test_what_may_be_made_later_is_told_and_set(mesh: Mesh, applied: Workspace) -> None:
    seen_by = f"[tull, token:till, user:ann, {register(applied.database, 'till').client_id}]"
    fields = f"[{{path: $.a, except: {{clients: {seen_by}}}}}]"
    wanted = f"[{{policy: basic-auth, groups: [Developrs]}}, {{policy: redaction, fields: {fields}}}]"
    told = tulle(mesh, "service", "policies", "sold", "--set", "-", typed=wanted)
    assert "there is no group 'Developrs' (did you mean 'Developers'?)" in told
    assert "no application and no key has the id 'tull' (did you mean 'till" in told
    assert "there is no user 'ann' (`tulle user create ann` makes one)" in told
    found = service_policies.policies(applied, "sold")
    assert [one.policy.kind for one in found.written] == ["basic-auth", "redaction"]
    answer = service_policies.set_policies(applied, "sold", wanted)
    assert len(service_policies.in_force_as_plain(applied.settings, answer)["warnings"]) == 3


def test_a_connection_and_a_package_may_come_later(applied: Workspace) -> None:
    wanted = "[{policy: oauth2-introspection, connection: login}, {policy: custom, plugin: nosuch}]"
    found = service_policies.set_policies(applied, "sold", wanted)
    assert [(one.message, one.hint) for one in found.warnings] == [
        ("there is no connection 'login'", "`tulle connection set` makes one"),
        (
            "no installed package brings the policy 'nosuch'",
            "install one that has it in the entry points 'tulle.processor_policies'",
        ),
    ]


def test_two_that_cannot_be_meant_together_are_not_set(applied: Workspace) -> None:
    allow = "{policy: ip-allow, addresses: [10.0.0.%d]}"
    with pytest.raises(Invalid) as caught:
        service_policies.set_policies(applied, "sold", f"[{allow % 1}, {allow % 2}, {allow % 2}]")
    assert [(str(one.place), one.message.partition(":")[0]) for one in caught.value.problems] == [
        ("policies:1:97", "the same 'ip-allow' is listed twice, here and as number 2"),
        ("policies:1:118", "nobody passes"),
    ]


def test_what_does_nothing_there_is_not_set(applied: Workspace) -> None:
    for text, message in (
        ("[{policy: token-once}]", "'token-once' does nothing here"),
        ("[{policy: rate-limit, limits: 5/1s, by: 'claim:sub'}]", "'claim:sub' of 'rate-limit' does nothing"),
        (
            "[{policy: public, limit: 5/1s}, {policy: quota, tiers: {standard: 5/1d}}]",
            "'tiers' of 'quota' does",
        ),
    ):
        with pytest.raises(Invalid) as caught:
            service_policies.set_policies(applied, "sold", text)
        assert message in caught.value.problems[0].message
    seen = "[{policy: redaction, fields: [{path: $.a, except: {claims: {role: [hr]}}}]}]"
    (warning,) = service_policies.set_policies(applied, "sold", seen).warnings
    assert "'claims' of 'redaction' does nothing here" in warning.message


def test_those_of_the_mesh_are_shown_with_it(applied: Workspace) -> None:
    walls = PolicySet(({"policy": "ip-deny", "addresses": ["192.0.2.1"]},), mandatory=True)
    workspace = replace(applied, settings=replace(applied.settings, policies={"walls": walls}))
    found = service_policies.policies(workspace, "sold")
    assert found.sets == ("walls",)
    assert [one.kind for one in found.joined] == ["cors", "ip-deny", "rate-limit"]


def test_what_cannot_be_joined_with_the_sets_is_not_set(applied: Workspace) -> None:
    keep = PolicySet(({"policy": "caching", "ttl": 5, "shared": True},))
    workspace = replace(applied, settings=replace(applied.settings, policies={"keep": keep}))
    hiding = "[{policy: redaction, fields: [{path: $.ssn, action: remove}]}]"
    with pytest.raises(Invalid, match="service 'sold': its policies cannot be joined with set 'keep'"):
        service_policies.set_policies(workspace, "sold", hiding)
    assert said_at_deployment(applied.database) == {}


def test_the_kinds_are_told(mesh: Mesh) -> None:
    names = sorted(kind.name for kind in known_kinds())
    assert [one["name"] for one in json.loads(tulle(mesh, "policy", "list", "--json"))] == names
    shown = tulle(mesh, "policy", "show", "rate-limit")
    assert "limits" in shown
    assert "- policy: rate-limit" in shown
    assert json.loads(tulle(mesh, "policy", "schema"))["type"] == "array"
    assert "there is no policy" in tulle(mesh, "policy", "show", "rate-limt", fails=True)
    with mesh_client(mesh.folder) as client:
        assert [one["name"] for one in client.call("GET", "/policy-kinds")["kinds"]] == names
