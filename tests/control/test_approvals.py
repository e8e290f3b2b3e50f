"""Who approves is who holds the credential: through the API and the command line, with users' own access keys."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from click.testing import CliRunner
from sqlalchemy import update
from tests.control.released import Team

from tulle.cli.connect import InProcess, key_of
from tulle.cli.main import cli
from tulle.control import product_release
from tulle.errors import Invalid
from tulle.events import PROMOTION_DECIDED, PROMOTION_REQUESTED
from tulle.lake.access import Access, people
from tulle.lake.access.people import AccessKey
from tulle.pipeline import promotion
from tulle.server.app import application
from tulle.server.lake_doors import lake_access
from tulle.server.token import read_token
from tulle.state import log
from tulle.state.tables import promotions

CAREFUL = """
    name: test
    warehouse: {threads: 1, memory: 256MB}
    environments:
      dev: {fallback: prod}
      prod: {approvers: [ann, bob, eve, admin], approvals: 2}
"""


class Office:
    """A mesh with a release that waits to be promoted, its API, and people with keys of their own."""

    def __init__(self, folder: Path) -> None:
        self.team = Team(folder, CAREFUL)
        self.workspace = self.team.workspace
        assert self.team.run("dev").status == "succeeded"
        product_release.make(self.workspace, "sales", by="ann")
        self.access = lake_access(self.workspace.settings, self.workspace.database)
        self.keys = {
            name: self.user(self.access, name, "Developers") for name in ("ann", "bob", "eve", "zoe")
        }
        self.keys["vic"] = self.user(self.access, "vic", "Viewers")
        self.app = application(self.workspace.settings)
        self.transport = InProcess(self.app)
        self.token = read_token(self.workspace.settings)

    @staticmethod
    def user(access: Access, name: str, group: str) -> AccessKey:
        access.change("", "access.user.created", f"user/{name}", lambda cx: people.add_user(cx, name))
        access.change(
            "", "access.user.created", f"user/{name}", lambda cx: people.add_member(cx, group, name)
        )
        return access.create_key("", name)

    @classmethod
    def key_file(cls, access: Access, name: str, group: str, folder: Path) -> str:
        """A file with the key of a new user, as `--key` takes it."""
        held = cls.user(access, name, group)
        file = folder / f"{name}.yaml"
        said = {"access_key_id": held.id, "secret_access_key": held.secret}
        file.write_text(json.dumps({"credentials": said}))
        return str(file)

    def call(self, method: str, path: str, body: object = None, *, credential: str) -> httpx.Response:
        settings = self.workspace.settings
        url = f"http://{settings.host}:{settings.control_plane_port}/mesh/v1{path}"
        request = httpx.Request(method, url, json=body, headers={"authorization": credential})
        response = self.transport.handle_request(request)
        response.read()
        return response

    def basic(self, name: str) -> str:
        key = self.keys[name]
        return "Basic " + base64.b64encode(f"{key.id}:{key.secret}".encode()).decode()

    def bearer(self, name: str) -> str:
        return "Bearer " + self.access.issue_token(name, key=self.keys[name].id)[0]

    def mesh(self) -> str:
        return f"Bearer {self.token}"

    def ask(self, credential: str, **body: object) -> httpx.Response:
        asked = {"version": "1.0.0", "to": "prod", **body}
        return self.call("POST", "/products/sales/promotions", asked, credential=credential)

    def decide(self, id_: str, credential: str, **body: object) -> httpx.Response:
        return self.call("POST", f"/promotions/{id_}/decisions", body, credential=credential)

    def close(self) -> None:
        self.transport.__exit__()
        self.app.state.close()
        self.workspace.database.close()


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path / "mesh")
    yield made
    made.close()


def message(response: httpx.Response) -> str:
    return str(response.json()["error"]["message"])


def test_two_people_agree_with_their_own_credentials(office: Office, tmp_path: Path) -> None:
    asked = office.ask(office.basic("ann"), by="bob")
    assert (asked.status_code, message(asked)) == (403, "the credential is that of 'ann', not of 'bob'")
    asked = office.ask(office.basic("ann"))
    assert asked.status_code == 202
    assert asked.json()["requested_by"] == "ann"
    id_ = asked.json()["id"]
    for credential, said in (
        (office.basic("ann"), "'ann' asked for it"),
        (office.basic("zoe"), "'zoe' may not approve"),
        (office.mesh(), ""),
    ):
        answer = office.decide(id_, credential, by="bob")  # nobody approves in bob's name
        assert answer.status_code == 403
        assert "not of 'bob'" in message(answer)
        if said:
            assert said in message(office.decide(id_, credential))
    assert office.decide(id_, office.bearer("bob"), note="seen").json()["status"] == "waiting"

    file = tmp_path / "eve.yaml"
    key = {"access_key_id": office.keys["eve"].id, "secret_access_key": office.keys["eve"].secret}
    file.write_text(yaml.safe_dump({"credentials": key}))
    words = ["--mesh", str(office.team.mesh.folder), "approve", id_, "--key", str(file), "--no-wait"]
    told = CliRunner().invoke(cli, words)
    assert told.exception is None, told.output
    done = office.team.wait(promotion.get(office.workspace.database, id_))
    assert done.status == "done"
    trail = log.read(office.workspace.database, subject="sales", limit=1000)
    assert [e.actor for e in trail if e.kind == PROMOTION_DECIDED] == ["bob", "eve"]
    (request,) = [e for e in trail if e.kind == PROMOTION_REQUESTED]
    assert (request.actor, request.data["credential"]) == ("ann", "ann")
    secrets = [key.secret for key in office.keys.values()]
    assert not any(secret in str([e.data for e in trail]) for secret in secrets)


def test_who_approves_by_a_command_is_told_what_it_breaks(office: Office, tmp_path: Path) -> None:
    id_ = office.ask(office.basic("ann")).json()["id"]
    with office.workspace.database.write() as cx:
        cx.execute(update(promotions).where(promotions.c.id == id_).values(breaking=["a column is gone"]))
    file = tmp_path / "bob.yaml"
    key = {"access_key_id": office.keys["bob"].id, "secret_access_key": office.keys["bob"].secret}
    file.write_text(yaml.safe_dump({"credentials": key}))
    words = ["--mesh", str(office.team.mesh.folder), "approve", id_, "--key", str(file), "--no-wait"]
    told = CliRunner().invoke(cli, words)
    assert told.exception is None, told.output
    assert told.output.startswith("      breaks: a column is gone\n")
    assert "waits for 1 of eve" in told.output


def test_whose_token_asked_may_not_approve_whomever_it_named(office: Office) -> None:
    asked = office.ask(office.mesh(), by="ann").json()
    assert (asked["requested_by"], asked["credential"]) == ("ann", "admin")
    refused = office.decide(asked["id"], office.mesh())  # the mesh's token is the administrator's
    assert refused.status_code == 403
    assert "'admin' asked for it" in message(refused)
    assert refused.json()["error"]["hint"] == "who may: bob, eve"
    assert office.decide(asked["id"], office.basic("ann")).status_code == 403
    answer = office.call("POST", f"/promotions/{asked['id']}/withdraw", {}, credential=office.basic("bob"))
    assert answer.status_code == 403
    assert "'bob' did not ask" in message(answer)
    answer = office.call("POST", f"/promotions/{asked['id']}/withdraw", {}, credential=office.basic("ann"))
    assert answer.json()["status"] == "withdrawn"


def test_a_key_of_ones_own_opens_what_concerns_promotions_and_nothing_else(office: Office) -> None:
    assert office.call("GET", "/promotions", credential=office.basic("vic")).status_code == 200
    refused = office.ask(office.basic("vic"))
    assert refused.status_code == 403
    assert "user 'vic' may not fs:CreateCommit" in message(refused)
    for method, path in (
        ("POST", "/apply"),
        ("POST", "/runs"),
        ("GET", "/connections"),
        ("POST", "/products/sales/retire"),
        ("DELETE", "/products/sales"),
        ("POST", "/products/sales/releases"),
        ("POST", "/promotions/x/decisions/../../../apply"),
    ):
        answer = office.call(method, path, {}, credential=office.basic("ann"))
        assert (answer.status_code, "needs the mesh's token" in answer.text) == (403, True), path
    key = office.keys["ann"]
    wrong = base64.b64encode(f"{key.id}:{'x' * 40}".encode()).decode()
    for credential in (f"Basic {wrong}", "Basic ???", "Bearer x.y.z", "Bearer ", "Basic", "", "Digest x"):
        answer = office.call("GET", "/promotions", credential=credential)
        assert answer.status_code == 401, credential
        assert key.secret not in answer.text


@pytest.mark.parametrize("text", ["credentials: []", "{", "", "credentials: {access_key_id: x}", "\x00"])
def test_a_file_without_a_key_is_told(tmp_path: Path, text: str) -> None:
    file = tmp_path / "key.yaml"
    file.write_text(text)
    with pytest.raises(Invalid, match="holds no access key"):
        key_of(file)
