"""The policies of APIs through the doors: by their files, set by hand, with those of the mesh; who sees and changes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.control.bazaar import Bazaar
from tests.control.test_service_access import shown

from tulle.cli.main import cli
from tulle.config import PolicySet
from tulle.control import api_policies, apis
from tulle.control.apply import apply_plan
from tulle.errors import Invalid, NotFound
from tulle.gateway.apis import records
from tulle.gateway.versions import pin as versions_pin

V1 = "/apis/orders/versions/v1/policies"
LIST = [{"policy": "compression"}, {"policy": "body-limit", "max_bytes": 100, "environments": ["test"]}]
SECRET = [{"policy": "header-injection", "request": {"x-api-key": "hush", "x-team": "a"}}]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bazaar]:
    made = Bazaar(tmp_path_factory.mktemp("bazaar") / "mesh")
    yield made
    made.close()


@pytest.fixture
def bazaar(made: Bazaar) -> Bazaar:
    """As its files say."""
    for environment in ("", "?environment=test"):
        assert made.call("DELETE", V1 + environment).status_code == 200
    return made


def tulle(bazaar: Bazaar, *args: str, fails: bool = False, typed: str = "") -> str:
    done = CliRunner().invoke(cli, ["--mesh", str(bazaar.mesh.folder), "api", *args], input=typed)
    assert (done.exit_code != 0) == fails, (done.output, done.exception)
    return done.output if done.exception is None else str(shown(done.exception))


def by_hand(bazaar: Bazaar) -> set[tuple[str, str]]:
    return set(records.find(bazaar.workspace.database, "orders").policies)


def test_what_they_name_that_is_not_there_is_told(bazaar: Bazaar) -> None:
    refused = bazaar.call("PUT", V1, {"policies": [{"policy": "quota", "tiers": {"nosuch": "5/1d"}}]})
    assert refused.status_code == 422
    (problem,) = refused.json()["error"]["problems"]
    assert problem["message"] == "there is no tier 'nosuch'"
    assert problem["hint"].startswith("known: ")
    refused = bazaar.call("PUT", V1, {"policies": [{"policy": "token-once"}]})
    assert "'token-once' does nothing here" in refused.json()["error"]["problems"][0]["message"]
    wanted = [{"policy": "basic-auth", "groups": ["nosuch"]}]
    set_ = bazaar.call("PUT", V1, {"policies": wanted}).json()
    assert [one.split("(")[0].rpartition(": ")[2] for one in set_["warnings"]] == [
        "there is no group 'nosuch' "
    ]
    assert bazaar.call("GET", V1).json()["warnings"] == []


def test_they_are_as_the_file_says_or_as_somebody_set_them(bazaar: Bazaar) -> None:
    told = tulle(bazaar, "policies", "orders", "v3")
    assert "orders v3 in prod, as its file says" in told
    assert "basic-auth (operations: [{method: POST, path: /items}])" in told
    told = tulle(bazaar, "policies", "orders", "v1", "--env", "test", "--set", "-", typed=json.dumps(LIST))
    assert "orders v1 in test, set by hand" in told
    apply_plan(bazaar.workspace)
    found = bazaar.call("GET", f"{V1}?environment=test").json()
    assert (found["said_by"], found["policies"], found["sets"]) == ("hand", LIST, [])
    assert [one["policy"] for one in found["joined"]] == ["compression", "body-limit"]
    assert found["changed_at"] > 0
    assert bazaar.call("GET", V1).json()["policies"] == []
    shown_ = bazaar.call("GET", "/apis/orders").json()["versions"][0]["instances"]
    assert [(one["environment"], one["policies"], one["policies_by_hand"]) for one in shown_] == [
        ("prod", [], False),
        ("test", ["compression", "body-limit"], True),
    ]
    assert bazaar.call("PUT", V1, {"policies": []}).status_code == 200
    told = tulle(bazaar, "show", "orders")
    assert "policies: compression, body-limit, set by hand" in told
    assert "policies: none, set by hand" in told
    assert "policies: header-injection, basic-auth\n" in told
    assert by_hand(bazaar) == {("v1", ""), ("v1", "test")}
    assert "as its file says" in tulle(bazaar, "policies", "orders", "v1", "--env", "test", "--reset")
    assert by_hand(bazaar) == {("v1", "")}


def test_what_is_wrong_is_told_with_its_place(bazaar: Bazaar, tmp_path: Path) -> None:
    file = tmp_path / "list.yaml"
    file.write_text("policies:\n- policy: cors\n- policy: ip-deny\n  addresses: [here]\n")
    told = tulle(bazaar, "policies", "orders", "v1", "--set", str(file), fails=True)
    assert "'here' is no address or network" in told
    told = tulle(bazaar, "policies", "orders", "v1", "--set", str(file), "--reset", fails=True)
    assert "--set and --reset exclude one another" in told
    for text, said in (
        ("[{policy: crs}]", "there is no policy 'crs'"),
        ("[{policy: compression, environments: [prd]}]", "there is no environment 'prd'"),
        ("[{policy: without, sets: [walls]}]", "there is no set of policies 'walls'"),
        ("[{policy: mirror, to: 'https://127.0.0.1:9'}]", "127.0.0.1"),
    ):
        with pytest.raises(Invalid) as caught:
            api_policies.set_policies(bazaar.workspace, "orders", "v1", text)
        assert said in caught.value.problems[0].message, text
    assert by_hand(bazaar) == set()
    for name, version, environment, said in (
        ("order", "v1", None, "there is no API 'order'"),
        ("orders", "v7", None, "API 'orders' has no version 'v7'"),
        ("orders", "v2", "test", "is not in the environment 'test'"),
    ):
        with pytest.raises(NotFound, match=said):
            api_policies.policies(bazaar.workspace, name, version, environment)


def test_what_could_not_hold_there_is_not_set(bazaar: Bazaar) -> None:
    own = "[{policy: compression, operations: [{method: PUT, path: /items}]}]"
    told = tulle(bazaar, "policies", "orders", "v1", "--set", "-", typed=own, fails=True)
    assert "the OpenAPI document has no operation 'PUT /items', so this is for no request" in told
    assert by_hand(bazaar) == set()
    told = tulle(bazaar, "policies", "orders", "v1", "--set", "-", typed="- [1", fails=True)
    assert "what was piped in is not valid" in told


def test_what_waits_for_a_pinned_gateway_is_told(bazaar: Bazaar) -> None:
    versions_pin.put(bazaar.workspace.database, 1, [], reason="calm", by="ann")
    try:
        told = tulle(bazaar, "policies", "orders", "v1", "--set", "-", typed=json.dumps(LIST))
        assert "rolled back to version 1 by ann: calm" in told
        assert "what is set waits for `tulle gateway resume`" in told
    finally:
        versions_pin.take_back(bazaar.workspace.database)
    assert "resume" not in tulle(bazaar, "policies", "orders", "v1", "--reset")


def test_secrets_are_carried_out_and_not_shown(bazaar: Bazaar) -> None:
    told = tulle(bazaar, "policies", "orders", "v1", "--set", "-", typed=json.dumps(SECRET))
    assert "hush" not in told
    assert "hush" not in bazaar.call("GET", "/apis/orders").text
    assert records.find(bazaar.workspace.database, "orders").policies["v1", ""].policies == tuple(SECRET)
    text = tulle(bazaar, "policies", "orders", "v1", "--json")
    assert "hush" not in text
    taken = json.loads(text)["policies"]
    assert taken[0]["request"] == {"x-api-key": "****", "x-team": "a"}
    again = bazaar.call("PUT", V1, {"policies": taken})
    assert (again.status_code, "a value in it is hidden" in again.text) == (422, True), again.text


def test_those_of_the_mesh_hold_with_them(bazaar: Bazaar) -> None:
    walls = PolicySet(({"policy": "ip-deny", "addresses": ["192.0.2.1"]},), tags=("logistics",))
    settings = replace(bazaar.workspace.settings, policies={"walls": walls})
    workspace = replace(bazaar.workspace, settings=settings)
    found = api_policies.set_policies(workspace, "orders", "v1", json.dumps(LIST))
    assert found.sets == ("walls",)
    assert [(one.kind, set_) for one, set_ in found.joined] == [("ip-deny", "walls"), ("compression", "")]
    found = api_policies.set_policies(workspace, "orders", "v1", "[{policy: without, sets: [walls]}]")
    assert found.sets == ()


def test_an_api_is_shown_with_the_ways_in_that_policies_and_sets_say(bazaar: Bazaar) -> None:
    login = PolicySet(({"policy": "basic-auth"},), tags=("logistics",), environments=("test",))
    settings = replace(bazaar.workspace.settings, policies={"login": login})
    workspace = replace(bazaar.workspace, settings=settings)

    def called_by() -> dict[tuple[str, str], list[str]]:
        found = api_policies.with_kinds(workspace, apis.shown(workspace, "orders"))
        return {
            (version["version"], one["environment"]): one["called_by"]
            for version in found["versions"]
            for one in version["instances"]
        }

    assert called_by() == {
        ("v1", "prod"): ["contract"],
        ("v1", "test"): ["password of the mesh"],
        ("v2", "prod"): ["open to all"],
        ("v3", "prod"): ["contract", "password of the mesh"],
    }
    api_policies.set_policies(workspace, "orders", "v1", "[{policy: api-key}]")
    assert called_by()["v1", "prod"] == ["API key"]
    assert "called by: API key" in tulle(bazaar, "show", "orders")


def test_what_cannot_be_joined_with_the_sets_is_not_set(bazaar: Bazaar) -> None:
    keep = PolicySet(({"policy": "caching", "ttl": 5, "shared": True},))
    settings = replace(bazaar.workspace.settings, policies={"keep": keep})
    workspace = replace(bazaar.workspace, settings=settings)
    hiding = "[{policy: redaction, fields: [{path: $.ssn, action: remove}]}]"
    with pytest.raises(Invalid, match="API 'orders' v1: its policies cannot be joined with set 'keep'"):
        api_policies.set_policies(workspace, "orders", "v1", hiding)
    assert by_hand(bazaar) == set()


def test_who_sees_them_and_who_changes_them(bazaar: Bazaar) -> None:
    body = {"policies": SECRET}
    for name in (
        "ann",
        "vic",
        "kim",
    ):  # a list may let everybody in, so it takes the mesh's token as a service's does
        assert bazaar.call("PUT", V1, body, as_=name).status_code == 403
        assert bazaar.call("DELETE", V1, as_=name).status_code == 403
    assert by_hand(bazaar) == set()
    reply = bazaar.call("PUT", V1, body)
    assert (reply.status_code, reply.json()["said_by"]) == (200, "hand"), reply.text
    found = bazaar.call("GET", V1, as_="vic").json()  # of the product's people
    assert found["policies"][0]["request"]["x-team"] == "a"
    found = bazaar.call("GET", V1, as_="kim").json()  # of nobody's: what is in force, and not how
    assert (found["said_by"], found["policies"]) == ("hand", [{"policy": "header-injection"}])
    assert found["joined"] == [{"policy": "header-injection", "set": None}]
    hidden = "/apis/payroll/versions/v1/policies"
    assert bazaar.call("GET", hidden, as_="vic").status_code == 200
    missing = bazaar.call("GET", hidden.replace("payroll", "none"), as_="kim")
    told = bazaar.call("GET", hidden, as_="kim")
    assert (told.status_code, missing.status_code) == (404, 404)
    assert told.text.replace("payroll", "none") == missing.text
    many = bazaar.call("PUT", V1, {"policies": [{"policy": "compression"}] * 51})
    assert many.status_code == 422
    page = bazaar.send("GET", "/exchange/apis/orders?version=v1", authorization=bazaar.basic("ann"))
    assert "said by hand" in page.text
