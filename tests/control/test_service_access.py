"""Keys and ways of a service through the doors: commands, the API, and what ends with the service."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
from click.testing import CliRunner
from tests.control.test_apply import PRICES
from tests.control.test_approvals import Office
from tests.gateway.conftest import current_policy
from tests.gateway.tokens import Issuer
from tests.pipeline.conftest import Mesh
from tests.serving.conftest import parquet

from tulle.cli.connect import InProcess
from tulle.cli.main import cli
from tulle.cli.service import service as service_commands
from tulle.config import PolicySet
from tulle.control import destroy, release, service_access
from tulle.control.apply import apply_plan, retire
from tulle.control.identities import application_of
from tulle.control.workspace import Workspace
from tulle.errors import Denied, Invalid, NotFound
from tulle.gateway import applications, service_keys, service_policies
from tulle.gateway.envoy import Gateway
from tulle.gateway.faults import Fault, write_faults
from tulle.gateway.last_used import note
from tulle.gateway.policy import RateLimit
from tulle.server.app import application
from tulle.server.lake_doors import lake_access
from tulle.state import log
from tulle.state.db import now


@pytest.fixture
def applied(mesh: Mesh, workspace: Workspace) -> Workspace:
    """The mesh with a service."""
    mesh.sales("services/sold.yaml", PRICES)
    apply_plan(workspace)
    return workspace


def tulle(mesh: Mesh, *args: str, fails: bool = False, typed: str = "") -> str:
    done = CliRunner().invoke(cli, ["--mesh", str(mesh.folder), *args], input=typed)
    assert (done.exit_code != 0) == fails, done.output
    return done.output if done.exception is None else str(shown(done.exception))


def shown(exc: BaseException) -> str:
    """What a failure tells, with all its problems."""
    return f"{exc} {[problem.message for problem in getattr(exc, 'problems', ())]}"


def test_a_key_is_made_listed_and_revoked_by_commands(mesh: Mesh, applied: Workspace) -> None:
    told = tulle(mesh, "service", "key", "create", "sold", "--label", "web shop", "--expires", "90d")
    (key,) = service_keys.keys(applied.database, "sold")
    assert f"      {key.id}." in told
    assert "takes no API keys yet" in told
    assert key.expires_at is not None
    assert abs(key.expires_at - now() - 90 * 86_400) < 60
    made = json.loads(
        tulle(mesh, "service", "key", "create", "sold", "--label", "b", "--limit", "5/1m", "--json")
    )
    assert made["api_key"].startswith(made["id"] + ".")
    assert (made["limit"], made["state"], made["opens"]) == ("5/1m", "in force", False)
    listed = tulle(mesh, "service", "key", "list", "sold")
    assert "web shop" in listed
    assert made["api_key"] not in listed
    tulle(mesh, "service", "key", "change", "sold", "b", "--expires", "30d")
    again = tulle(mesh, "service", "key", "change", "sold", made["id"], "--limit", "usual")
    assert "in force" in again
    changed = next(k for k in service_keys.keys(applied.database, "sold") if k.label == "b")
    assert changed.limit is None
    assert changed.expires_at is not None
    tulle(mesh, "service", "key", "change", "sold", "b", "--expires", "never")
    assert "is not said" in tulle(mesh, "service", "key", "change", "sold", "b", fails=True)
    tulle(mesh, "service", "key", "revoke", "sold", "web shop")
    assert "web shop" not in tulle(mesh, "service", "key", "list", "sold")
    assert "revoked" in tulle(mesh, "service", "key", "list", "sold", "--all")
    kinds = [event.kind for event in log.read(applied.database)]
    assert kinds[-2:] == ["service_key.changed", "service_key.revoked"]
    assert kinds.count("service_key.changed") == 3
    assert made["api_key"].split(".")[1] not in str(log.read(applied.database))


def test_what_is_wrong_with_a_key_is_told(mesh: Mesh, applied: Workspace) -> None:
    for args, told in (
        (("create", "sole", "--label", "x"), "no applied product has a service 'sole'"),
        (("create", "sold", "--label", "x", "--expires", "soon"), "'soon' is no time"),
        (("create", "sold", "--label", "x", "--expires", "2001-01-01"), "expired before it is made"),
        (("create", "sold", "--label", "x", "--limit", "many"), "rate limit 'many' is not understood"),
        (("create", "sold", "--label", " "), "a key has a label"),
        (("revoke", "sold", "x"), "has no key 'x'"),
        (("change", "sold", "x", "--limit", "usual"), "has no key 'x'"),
    ):
        assert told in tulle(mesh, "service", "key", *args, fails=True)
    assert service_access.moment_of("2030-12-31T12:00:00+02:00") == 1924941600.0
    assert service_access.moment_of("2030-12-31") == 1924905600.0


def test_who_may_call_is_said_by_deployment_package_or_file(mesh: Mesh, applied: Workspace) -> None:
    assert "as its file says" in tulle(mesh, "service", "access", "sold")
    ways = {"contracts": True, "public": {"limit": "5/1s", "by": "address"}}
    told = tulle(mesh, "service", "access", "sold", "--set", "-", typed=json.dumps(ways))
    assert "said at its deployment" in told
    assert "public     everybody, 5/1s for each address" in told
    found = json.loads(tulle(mesh, "service", "access", "sold", "--json"))
    assert (found["said_by"], found["ways"]) == ("deployment", ["contracts", "public"])
    assert "as its file says" in tulle(mesh, "service", "access", "sold", "--as-packaged")
    for bad, problem in (
        ("{public: {limit: often}}", "rate limit 'often' is not understood"),
        ("{publik: true}", "unknown property 'publik'"),
        ("contracts: false", "nobody may call the service"),
        ("3", "holds no ways to call a service"),
    ):
        assert problem in tulle(mesh, "service", "access", "sold", "--set", "-", typed=bad, fails=True)
    with pytest.raises(NotFound):
        service_access.access(applied, "sold", "nowhere")
    with pytest.raises(Invalid):
        service_access.set_access(applied, "sold", "{jwt: {issuer: x, jwks_file: /etc/passwd}}")


def test_a_package_holds_who_may_call_and_its_document_says_so(mesh: Mesh, applied: Workspace) -> None:
    keys = Issuer().public_keys()
    mesh.sales("services/keys.json", json.dumps(keys))
    declared = PRICES.replace(
        "endpoints:",
        "access:\n  api_keys: true\n  jwt: {issuer: https://i/, jwks_file: keys.json, scopes: [a]}\nendpoints:",
    )
    mesh.sales("services/sold.yaml", declared)
    apply_plan(applied)
    rows = pa.table({"id": [1, 2], "customer": ["a", "b"], "amount": [1.5, 2.5]})
    sales = applied.lake.repository("sales")
    sales.put("main", "sales/part-0000.parquet", parquet(rows))
    sales.commit("main", "rows")
    built, _ = release.build_package(applied, "sold")
    assert json.loads(built.manifest.access["jwt"]["jwks"]) == keys
    assert service_access.access(applied, "sold").said_by == "v1"
    document = release.openapi(applied, "sold")
    assert document["security"] == [{"apiKey": []}, {"basic": []}, {"token": ["a"]}]
    assert set(document["components"]["securitySchemes"]) == {"apiKey", "basic", "token"}
    service_access.set_access(applied, "sold", "public: {limit: 5/1s}")
    opened = release.openapi(applied, "sold")
    assert opened["security"] == [{}]
    assert "securitySchemes" not in opened["components"]
    # policies say who may call instead, those of the mesh before the service's own
    own = [{"policy": "ldap", "connection": "staff", "base": "dc=a"}]
    service_policies.set_policies(applied.database, "sold", own)
    assert release.openapi(applied, "sold")["security"] == [{"ldap": []}]
    mesh_set = PolicySet(({"policy": "basic-auth"},), services=("sold",))
    ruled = replace(applied, settings=replace(applied.settings, policies={"people": mesh_set}))
    assert release.openapi(ruled, "sold")["security"] == [{"user": []}]
    (made,) = release.snippets_of(ruled, "sold").values()
    assert '-u "$USER_NAME:$PASSWORD"' in made[0].text
    damaged = replace(ruled, settings=replace(ruled.settings, policies={"a": PolicySet(({"policy": "no"},))}))
    assert release.openapi(damaged, "sold")["security"][0] == {"apiKey": []}
    service_policies.set_policies(applied.database, "sold", None)


def test_keys_end_with_their_service(mesh: Mesh, applied: Workspace) -> None:
    made = service_keys.create(applied.database, "sold", label="web shop")
    service_access.set_access(applied, "sold", "public: {limit: 5/1s}")
    with pytest.raises(Denied) as caught:
        destroy.destroy(applied, "sales")
    assert any("an API key 'web shop' in force" in p.message for p in caught.value.problems)
    identity = applications.register(applied.database, application_of("sold"))
    retire(applied, "sales", actor="ann")
    assert identity.client_id not in {one.client_id for one in applications.applications(applied.database)}
    (key,) = service_keys.keys(applied.database, "sold")
    assert (key.id, key.state(now())) == (made.key.id, "revoked")
    assert service_keys.said_at_deployment(applied.database) == {}


def test_people_make_keys_with_a_credential_of_their_own_where_they_may(applied: Workspace) -> None:
    access = lake_access(applied.settings, applied.database)
    people = {
        name: Office.user(access, name, group) for name, group in (("ann", "Developers"), ("vic", "Viewers"))
    }
    app = application(applied.settings)
    url = f"http://{applied.settings.host}:{applied.settings.control_plane_port}/mesh/v1/services"

    def call(method: str, path: str, who: str, body: object = None) -> httpx.Response:
        held = people[who]
        signed = base64.b64encode(f"{held.id}:{held.secret}".encode()).decode()
        headers = {"authorization": f"Basic {signed}"}
        answer = transport.handle_request(httpx.Request(method, url + path, json=body, headers=headers))
        answer.read()
        return answer

    with InProcess(app) as transport:
        made = call("POST", "/sold/keys", "ann", {"label": "x", "expires": "", "limit": ""})
        assert made.status_code == 201
        assert made.json()["created_by"] == "ann"
        refused = call("POST", "/sold/keys", "vic", {"label": "y"})
        assert refused.status_code == 403
        assert call("DELETE", f"/sold/keys/{made.json()['id']}", "vic").status_code == 403
        assert call("DELETE", f"/sold/keys/{made.json()['id']}", "ann").status_code == 200
        for method, path, body in (("GET", "/sold/keys", None), ("PATCH", "/sold/keys/x", {"expires": "9d"})):
            assert call(method, path, "ann", body).status_code in {200, 404}
            assert call(method, path, "vic", body).status_code == 403
        for method, path in (("PUT", "/sold/access"), ("DELETE", "/sold/access"), ("GET", "/sold/access")):
            assert call(method, path, "ann", {"access": {}}).status_code == 403
        assert "x" not in [k.label for k in service_access.keys(applied, "sold") if k.revoked_at is None]
    app.state.close()


def test_commands_sign_in_with_a_key_of_ones_own(
    mesh: Mesh, applied: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = lake_access(applied.settings, applied.database)
    groups = {"ann": "Developers", "vic": "Viewers"}
    files = {name: Office.key_file(access, name, group, tmp_path) for name, group in groups.items()}
    ann, vic = (("--key", files[name]) for name in ("ann", "vic"))
    tulle(mesh, "service", "key", "create", "sold", "--label", "shop", *ann)
    (key,) = service_keys.keys(applied.database, "sold")
    assert key.created_by == "ann"
    tulle(mesh, "service", "key", "change", "sold", "shop", "--limit", "1/1s", *ann)
    assert "shop" in tulle(mesh, "service", "key", "list", "sold", *ann)
    assert "vic" in tulle(mesh, "service", "key", "list", "sold", *vic, fails=True)
    monkeypatch.setenv("TULLE_KEY", files["ann"])
    tulle(mesh, "service", "key", "revoke", "sold", "shop")
    revoked = [event for event in log.read(applied.database) if event.kind == "service_key.revoked"]
    assert [event.actor for event in revoked] == ["ann"]
    # what says who deploys and decides takes one as well
    for command in sorted(SIGNED):
        options = {option for one in service_commands.commands[command].params for option in one.opts}
        assert "--key" in options, command


def test_who_is_refused_while_the_mesh_is_down_is_refused_when_it_starts(
    mesh: Mesh, applied: Workspace
) -> None:
    made = applications.register(applied.database, "till")
    known = applied.settings.state_folder / "run/gateway/auth.json"
    tulle(mesh, "app", "create", "before", "--service", "sold")
    assert not known.exists()  # there was no gateway yet
    Gateway(applied.settings).publish(current_policy(applied.database, []))
    assert made.client_id in known.read_text()
    tulle(mesh, "app", "revoke", "till")
    assert made.client_id not in known.read_text()


SIGNED = {
    "deploy",
    "traffic",
    "rollback",
    "preload",
    "enable",
    "disable",
    "workers",
    "deprecate",
    "withdraw",
} | {*("requests", "approve", "cancel")}


def test_when_a_caller_was_last_there_is_told(mesh: Mesh, applied: Workspace) -> None:
    key = service_keys.create(applied.database, "sold", label="shop").key
    service_keys.create(applied.database, "sold", label="never used")
    made = applications.register(applied.database, "till", services={"sold": RateLimit.parse("1/1s")})
    at = 1_772_359_200.0
    note(applied.database, {(key.id, "sold", ""): at - 60, (key.id, "sold", "test"): at})
    note(applied.database, {(made.client_id, "sold", ""): at - 5})
    listed = json.loads(tulle(mesh, "service", "key", "list", "sold", "--json"))
    assert {one["label"]: one["last_used_at"] for one in listed} == {"shop": at, "never used": None}
    (application,) = json.loads(tulle(mesh, "app", "list", "--json"))
    assert application["last_used_at"] == at - 5
    assert application["contracts"] == [
        {"service": "sold", "environment": None, "limit": "1/1s", "last_used_at": at - 5}
    ]


def test_what_the_gateway_does_not_take_is_told_where_one_looks(mesh: Mesh, applied: Workspace) -> None:
    write_faults(applied.settings, [Fault("sold", "", "no such address", now(), True, "mend it")])
    told = "the gateway does not take what is wanted of it, it answers as before: no such address (mend it)"
    assert told in tulle(mesh, "service", "access", "sold")
    ways = json.dumps({"public": {"limit": "5/1s"}})
    said = json.loads(tulle(mesh, "service", "access", "sold", "--set", "-", "--json", typed=ways))
    assert said["in_force"] is False
    assert said["fault"] == told
    write_faults(applied.settings, [])
    found = service_access.access(applied, "sold")
    assert service_access.access_as_plain(applied.settings, found)["fault"] is None
