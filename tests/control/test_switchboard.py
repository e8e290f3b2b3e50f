"""The switchboard: what waits to answer, what has failed, what the gateway is told meanwhile."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import update
from tests.control.test_deployments import SERVICE, active, with_versions
from tests.gateway.apis.conftest import read
from tests.pipeline.conftest import Mesh

from tulle.config import GatewayTls, PolicySet
from tulle.control import activation, apis, deployment, release, switchboard, wanted_services
from tulle.control.apply import apply_plan
from tulle.control.switchboard import Switchboard
from tulle.control.workspace import Workspace
from tulle.deploy.local import Process
from tulle.errors import Broken, Conflict, LimitExceeded
from tulle.events import CONTRACT_APPROVED, Event
from tulle.gateway import applications, envoy_validation, service_policies
from tulle.gateway.apis import records
from tulle.gateway.door_certificate import shown
from tulle.gateway.envoy_validation import TooSlow
from tulle.gateway.envoy_values import FOLDER
from tulle.gateway.faults import read_faults
from tulle.gateway.policies.entry import Policy
from tulle.gateway.policy import GatewayPolicy, ManagedService, RateLimit
from tulle.gateway.processing import handed
from tulle.gateway.processing.handed import Handed, HandedConnection, Hands
from tulle.gateway.publishing import IN_FORCE
from tulle.gateway.settled import settled
from tulle.gateway.versions.pin import put
from tulle.gateway.versions.recorded import version
from tulle.serving import generation
from tulle.serving.manifest import MANIFEST
from tulle.serving.traffic import Traffic, single
from tulle.state import log, products
from tulle.state.connections import Connection, open_connections
from tulle.state.secrets import open_secrets
from tulle.state.tables import connections


class Board:
    """A switchboard whose processes, clock and gateway are told by the test."""

    def __init__(self, workspace: Workspace, patch: pytest.MonkeyPatch) -> None:
        self.workspace = workspace
        self.clock = 1000.0
        self.running: Mapping[str, Process] = {}
        self.published: list[GatewayPolicy] = []
        self.meanwhile = lambda: None
        for module in (activation, wanted_services):
            patch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.clock))
        patch.setattr(switchboard.local, "processes", lambda _settings: self.running)
        self.it = Switchboard(workspace)
        patch.setattr(self.it._publisher, "_gateway", self)
        self.refused: Traffic | None = None

    def check(self, policy: GatewayPolicy) -> None:
        if any(one.traffic == self.refused for one in policy.services):
            raise Broken("no such address")

    def publish(self, policy: GatewayPolicy) -> SimpleNamespace:
        self.check(policy)
        self.published.append(policy)
        self.meanwhile()
        return SimpleNamespace(changed=())

    def worker(self, version: str, state: str, restarts: int = 0) -> None:
        name = f"calc/{version}/0"
        self.running = {**self.running, name: Process(name, "service", state, 1, None, restarts, "")}

    def status(self) -> str:
        self.it.settle()
        return generation.deployment(self.workspace.database, "calc").status


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    workspace = with_versions(Mesh(tmp_path / "mesh"), 2)
    active(workspace, single("v1"))
    yield Board(workspace, monkeypatch)
    workspace.database.close()


def test_what_is_wanted_again_has_its_whole_time_again(board: Board) -> None:
    board.worker("v1", "running")
    board.worker("v2", "starting")
    deployment.share(board.workspace, "calc", single("v2"))
    assert board.status() == "starting"
    board.clock += 5
    deployment.share(board.workspace, "calc", single("v1"))
    assert board.status() == "active"
    board.clock += 3600
    deployment.share(board.workspace, "calc", single("v2"))
    assert board.status() == "starting"
    board.clock += activation.START_SECONDS + 1
    assert board.status() == "failed"


def test_what_a_worker_did_before_does_not_count(board: Board) -> None:
    board.worker("v1", "running")
    board.worker("v2", "restarting", restarts=7)
    deployment.share(board.workspace, "calc", single("v2"))
    assert board.status() == "starting"
    board.worker("v2", "restarting", restarts=9)
    assert board.status() == "starting"
    board.worker("v2", "restarting", restarts=10)
    assert board.status() == "failed"
    found = generation.deployment(board.workspace.database, "calc")
    assert found.message.startswith("a worker of v2 ended 3 times while starting")
    assert found.active == single("v1")


def test_what_is_wanted_no_more_is_not_published(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    board.worker("v1", "running")
    board.worker("v2", "running")
    deployment.share(board.workspace, "calc", single("v2"))
    is_running = activation._is_running

    def changed_meanwhile(name: str, running: Mapping[str, Process]) -> bool:
        deployment.share(board.workspace, "calc", single("v1"))
        return is_running(name, running)

    with monkeypatch.context() as patch:
        patch.setattr(activation, "_is_running", changed_meanwhile)
        with pytest.raises(Conflict, match="is not the one that is wanted now"):
            board.it.settle()
    (service,) = board.published[-1].services
    assert service.traffic == single("v1")
    assert board.status() == "active"


def test_a_version_of_the_gateway_names_nobody_who_came_while_it_was_published(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = board.workspace.database
    board.worker("v1", "running")

    def approved() -> None:
        board.meanwhile = lambda: None
        with database.write() as cx:
            log.append(cx, Event(CONTRACT_APPROVED, "desk for calc"), actor="bob")

    board.meanwhile = approved
    board.it.settle()
    first = version(database)
    assert first.by != "bob"
    assert "desk for calc" not in {one.subject for one in first.causes}
    after = Board(board.workspace, monkeypatch)  # as a control plane that is started anew
    for name in ("v1", "v2"):
        after.worker(name, "running")
    deployment.share(board.workspace, "calc", single("v2"))
    after.it.settle()
    second = version(database)
    assert second.number == first.number + 1
    assert ("desk for calc", "bob") in {(one.subject, one.actor) for one in second.causes}


def test_a_generation_that_the_gateway_refuses_fails_and_the_one_before_answers_on(board: Board) -> None:
    board.worker("v1", "running")
    board.worker("v2", "running")
    assert board.status() == "active"
    board.refused = single("v2")
    deployment.share(board.workspace, "calc", single("v2"))
    assert board.status() == "failed"
    found = generation.deployment(board.workspace.database, "calc")
    assert found.message == "the gateway cannot take it: no such address"
    assert found.active == single("v1")
    assert board.published[-1].services[0].traffic == single("v1")
    assert read_faults(board.workspace.settings) == ()  # as it is wanted now it answers
    board.refused = None
    deployment.share(board.workspace, "calc", single("v2"))
    assert board.status() == "active"


def test_who_waits_for_the_mesh_is_told_how_far_it_has_come(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said() -> tuple[bool, tuple[str, ...], str]:
        found = settled(board.workspace.settings)
        assert found is not None
        return found.is_published, found.starting, found.trouble

    def full(*_: object) -> None:
        raise LimitExceeded("disk full")

    board.worker("v1", "running")
    assert board.status() == "active"
    assert said() == (True, (), "")
    deployment.share(board.workspace, "calc", single("v2"))
    assert board.status() == "starting"
    assert said() == (True, ("calc",), "")
    with monkeypatch.context() as patch:
        patch.setattr(board, "publish", full)
        with pytest.raises(LimitExceeded):
            board.it.settle()
        assert said() == (False, ("calc",), "disk full")
        patch.setattr(board, "publish", lambda _policy: SimpleNamespace(changed=()))
        patch.setattr(board.it, "_keep_trust", full)
        with pytest.raises(LimitExceeded):
            board.it.settle()
        assert said() == (True, ("calc",), "disk full"), "all else was put in force"
    board.worker("v2", "running")
    assert board.status() == "active"
    assert said() == (True, (), "")


def test_what_hinders_one_service_hinders_no_other(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    board.worker("v1", "running")
    board.worker("v2", "running")
    database = board.workspace.database
    assert board.status() == "active"
    monkeypatch.setattr(wanted_services, "managed", broken)
    board.it.settle()
    assert board.published[-1].services[0].traffic == single("v1")  # as it was
    (fault,) = read_faults(board.workspace.settings)
    assert (fault.service, fault.message, fault.is_kept) == ("calc", "its manifest is damaged", True)
    deployment.share(board.workspace, "calc", single("v2"))
    assert board.status() == "failed"
    assert (
        generation.deployment(database, "calc").message
        == "the gateway cannot take it: its manifest is damaged"
    )


def broken(*_: object) -> ManagedService:
    raise Broken("its manifest is damaged")


def test_what_the_mesh_has_for_many_services_is_published_with_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = with_versions(Mesh(tmp_path / "mesh"), 1)
    active(workspace, single("v1"))
    owner = generation.deployment(workspace.database, "calc").product
    domain = products.applied_product(workspace.database, owner).product.domain
    deny = {"policy": "ip-deny", "addresses": ["192.0.2.1"]}
    sets = {
        "a": PolicySet((deny,), domains=(domain,), environments=("prod",)),
        "b": PolicySet(({"policy": "compression"},), domains=("another",)),
    }
    board = Board(replace(workspace, settings=replace(workspace.settings, policies=sets)), monkeypatch)
    board.it.settle()
    (service,) = board.published[-1].services
    assert service.policies == (Policy("ip-deny", {"addresses": ["192.0.2.1"]}),)
    workspace.database.close()


def test_a_set_that_cannot_be_read_keeps_those_it_is_for_and_nobody_from_being_revoked(
    tmp_path: Path,
) -> None:
    """By Envoy's own word: both sets and the service's own list take away what could be said once."""
    workspace = with_versions(Mesh(tmp_path / "mesh"), 1)
    active(workspace, single("v1"))
    database, settings = workspace.database, workspace.settings
    once = {"policy": "header-removal", "response": ["server", "x-debug-*"]}
    service_policies.set_policies(database, "calc", [once])
    applications.register(database, "leaves", services={"calc": RateLimit(5, 1000)})

    def kinds(sets: Mapping[str, PolicySet]) -> list[str]:
        board = Switchboard(replace(workspace, settings=replace(settings, policies=sets)))
        board.settle()
        (service,) = board._publisher.in_force()
        return [one.kind for one in service.policies]

    sets = {"usual": PolicySet((once, {"policy": "compression"}))}
    assert sorted(kinds(sets)) == ["compression", "header-removal", "header-removal"]
    assert not read_faults(settings)
    auth = settings.state_folder / FOLDER / "auth.json"
    client = applications.client_ids(database, "")["leaves"]
    assert client in auth.read_text()
    applications.revoke(database, "leaves")
    bad = {"walls": PolicySet(({"policy": "of-a-package-that-is-gone"},), services=("calc",))}
    others = {"others": PolicySet(({"policy": "ip-deny", "addresses": ["here"]},), services=("another",))}
    assert sorted(kinds({**bad, **others})) == ["compression", "header-removal", "header-removal"]
    (fault,) = read_faults(settings)
    assert (fault.service, fault.is_kept) == ("calc", True)
    assert "set 'walls' of mesh.yaml cannot be read: there is no policy" in fault.message
    assert client not in auth.read_text()
    assert kinds(others) == ["header-removal"]
    workspace.database.close()


def test_a_service_whose_package_cannot_be_read_keeps_its_policies_or_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh = Mesh(tmp_path / "mesh")
    workspace = with_versions(mesh, 1)
    mesh.sales("services/calc.yaml", f"{SERVICE}policies: [{{policy: ip-deny, addresses: [192.0.2.1]}}]\n")
    apply_plan(workspace)
    release.build_package(workspace, "calc")
    active(workspace, single("v2"))
    in_force = workspace.settings.state_folder / IN_FORCE
    in_force.parent.mkdir(parents=True)  # which a real gateway does
    Board(workspace, monkeypatch).it.settle()
    (generation.folder_of(workspace.settings, "calc", "v2") / MANIFEST).write_text("{")
    board = Board(workspace, monkeypatch)
    board.it.settle()
    assert board.published[-1].services[0].policies == (Policy("ip-deny", {"addresses": ["192.0.2.1"]}),)
    (fault,) = read_faults(workspace.settings)
    assert (fault.service, fault.is_kept) == ("calc", True)
    in_force.unlink()
    board = Board(workspace, monkeypatch)
    board.it.settle()
    assert board.published[-1].services == ()
    workspace.database.close()


def test_processors_are_handed_the_connections_that_policies_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = with_versions(Mesh(tmp_path / "mesh"), 1)
    active(workspace, single("v1"))
    sets = {"a": PolicySet(({"policy": "oauth2-introspection", "connection": "login"},), services=("calc",))}
    settings = replace(workspace.settings, policies=sets, source_addresses=("127.0.0.1:9",))
    board = Board(replace(workspace, settings=settings), monkeypatch)
    hands = Hands(settings.state_folder / handed.FILE, open_secrets(settings.state_folder / handed.KEY_FILE))
    board.it.settle()
    (fault,) = read_faults(settings)
    assert "there is no connection 'login' in environment 'prod'" in fault.message
    assert hands.now() == Handed()
    known = open_connections(settings, workspace.database)
    for kind, address, told in (
        ("sql", "postgresql://db/x", "of kind 'sql', expected http"),
        ("http", "http://login.example.com/introspect", "spoken to without TLS"),
    ):
        known.save(Connection("login", "prod", kind, address))
        board.it.settle()
        assert told in read_faults(settings)[0].message
    known.save(Connection("login", "prod", "http", "https://login.example.com/i", {"auth": "oauth2"}))
    board.it.settle()
    assert (
        "signs in with tokens of OAuth2, which APIs and sources do alone" in read_faults(settings)[0].message
    )
    secret = {"password": "s3cret"}
    for address in ("http://127.0.0.1:9/introspect", "https://login.example.com/introspect"):
        known.save(Connection("login", "prod", "http", address, {"auth": "basic", "user": "mesh"}, secret))
        board.it.settle()
        assert read_faults(settings) == ()
        headers = {"Authorization": "Basic bWVzaDpzM2NyZXQ="}
        assert hands.now() == Handed({"prod login": HandedConnection(address, headers)})
    assert [one.kind for one in board.published[-1].services[0].policies] == ["oauth2-introspection"]
    assert "s3cret" not in repr(board.published[-1])
    workspace.database.close()


def test_a_connection_that_cannot_be_read_holds_up_its_own_services_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a row from another machine, or with the key file gone: who is revoked is revoked all the same."""
    workspace = with_versions(Mesh(tmp_path / "mesh"), 1)
    active(workspace, single("v1"))
    sets = {
        name: PolicySet(({"policy": "oauth2-introspection", "connection": name},), services=(service,))
        for name, service in (("login", "calc"), ("other", "shop"))
    }
    settings = replace(workspace.settings, policies=sets)
    owner = generation.deployment(workspace.database, "calc").product
    text = "api: shop\nversions: [{version: v1, upstream: 'https://shop.example.com', undeclared: allow, publish: true}]\n"
    with workspace.database.write() as connection:
        records.save(connection, owner, [read(text, owner)])
    known = open_connections(settings, workspace.database)
    for name in ("login", "other"):
        known.save(Connection(name, "prod", "http", f"https://{name}.example.com/introspect"))
    board = Board(replace(workspace, settings=settings), monkeypatch)
    board.refused = single("v9")  # an API over another address has no traffic
    hands = Hands(settings.state_folder / handed.FILE, open_secrets(settings.state_folder / handed.KEY_FILE))
    board.it.settle()
    assert read_faults(settings) == ()
    assert set(hands.now().connections) == {"prod login", "prod other"}
    before, kept = len(board.published), hands.now().connections["prod login"]
    with workspace.database.write() as connection:
        connection.execute(update(connections).where(connections.c.name == "login").values(sealed=b"damaged"))
    known.save(Connection("other", "prod", "http", "https://moved.example.com/introspect"))
    board.it.settle()
    assert len(board.published) == before + 1
    assert [one.service for one in read_faults(settings)] == ["calc"]
    assert "cannot be decrypted" in read_faults(settings)[0].message
    found = hands.now().connections
    assert found["prod other"].address == "https://moved.example.com/introspect"
    assert found["prod login"] == kept  # what is in force goes on as it was
    workspace.database.close()


@pytest.mark.parametrize(
    ("whose", "wrong"),
    [
        ("_handing.hand", PermissionError(13, "no")),
        ("_certificate.keep", ValueError("of a library")),
        ("_trust.keep", PermissionError(13, "no")),
    ],
)
def test_whatever_goes_wrong_beside_it_the_gateway_is_published_and_the_fault_told(
    board: Board, monkeypatch: pytest.MonkeyPatch, whose: str, wrong: Exception
) -> None:
    def broken(*_: object) -> None:
        raise wrong

    board.worker("v1", "running")
    board.worker("v2", "running")
    assert board.status() == "active"
    before = len(board.published)
    part, name = whose.split(".")
    monkeypatch.setattr(getattr(board.it, part), name, broken)
    deployment.share(board.workspace, "calc", single("v2"))
    with pytest.raises(type(wrong)):
        board.it.settle()
    assert len(board.published) > before
    assert board.published[-1].services[0].traffic == single("v2")
    assert generation.deployment(board.workspace.database, "calc").active == single("v2")


def test_processors_are_handed_the_directory_that_a_policy_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = with_versions(Mesh(tmp_path / "mesh"), 1)
    active(workspace, single("v1"))
    sets = {"a": PolicySet(({"policy": "ldap", "connection": "staff", "base": "dc=x"},), services=("calc",))}
    settings = replace(workspace.settings, policies=sets)
    board = Board(replace(workspace, settings=settings), monkeypatch)
    hands = Hands(settings.state_folder / handed.FILE, open_secrets(settings.state_folder / handed.KEY_FILE))
    known = open_connections(settings, workspace.database)
    for kind, address, told in (
        ("http", "https://a.example.com/", "of kind 'http', expected ldap"),
        ("ldap", "ldap://10.0.0.1", "10.0.0.1"),  # not public, and not among `source_addresses`
    ):
        known.save(Connection("staff", "prod", kind, address))
        board.it.settle()
        assert told in read_faults(settings)[0].message
        assert hands.now() == Handed()
    options, secret = {"user": "cn=tulle", "ca_file": "/ca.pem"}, {"password": "s3cret"}
    known.save(Connection("staff", "prod", "ldap", "ldaps://directory.example.com", options, secret))
    board.it.settle()
    assert read_faults(settings) == ()
    wanted = HandedConnection("ldaps://directory.example.com", {}, "cn=tulle", "s3cret", options)
    assert hands.now() == Handed({"prod staff": wanted})
    workspace.database.close()


def test_what_the_mesh_demands_of_a_service_holds_for_apis_over_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = with_versions(Mesh(tmp_path / "mesh"), 1)
    active(workspace, single("v1"))
    owner = generation.deployment(workspace.database, "calc").product
    text = "api: shop\nversions: [{version: v1, service: calc, access: {public: {limit: 1/1s}}, publish: true}]\n"
    with workspace.database.write() as connection:
        records.save(connection, owner, [read(text, owner)])
    deny = {"policy": "ip-deny", "addresses": ["192.0.2.1"]}
    sets = {
        "walls": PolicySet(({"policy": "client-id"}, deny), services=("calc",), mandatory=True),
        "usual": PolicySet(({"policy": "compression"},), services=("calc",)),
    }
    board = Board(replace(workspace, settings=replace(workspace.settings, policies=sets)), monkeypatch)
    board.it.settle()
    kinds = {one.path: {policy.kind for policy in one.policies} for one in board.published[-1].services}
    assert kinds == {"calc": {"ip-deny", "client-id", "compression"}, "shop@v1": {"ip-deny", "client-id"}}
    workspace.database.close()


def test_certificates_that_cannot_be_written_hold_up_nothing_else(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise LimitExceeded("disk full")

    board.worker("v1", "running")
    assert board.status() == "active"
    monkeypatch.setattr(board.it._trust, "keep", full)
    before = len(board.published)
    with pytest.raises(LimitExceeded):
        board.it.settle()
    assert len(board.published) == before + 1


def test_a_service_without_a_sidecar_holds_up_nobody_else(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the Envoy of the sidecars takes nothing more: whoever is revoked is revoked at the gateway all the same."""

    def refused(*_: object) -> None:
        raise Broken("the sidecars' Envoy refused its new listeners")

    def wants_v2(services: Collection[ManagedService]) -> list[ManagedService]:
        return [one for one in services if one.traffic == single("v2")]

    board.worker("v1", "running")
    board.worker("v2", "running")
    assert board.status() == "active"
    monkeypatch.setattr(board.it._trust, "put_before", refused)
    monkeypatch.setattr(board.it._trust, "without_sidecar", wants_v2)
    before = len(board.published)
    deployment.share(board.workspace, "calc", single("v2"))
    assert board.status() == "failed"
    assert len(board.published) > before
    (service,) = board.published[-1].services
    assert service.traffic == single("v1")
    found = generation.deployment(board.workspace.database, "calc")
    assert "it has no sidecar: the sidecars' Envoy refused" in found.message
    assert found.active == single("v1")


def test_after_a_new_start_who_was_revoked_is_refused_though_a_service_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Envoy is asked for real, until it takes too long over a service."""
    workspace = with_versions(Mesh(tmp_path / "mesh"), 1)
    active(workspace, single("v1"))
    database, settings = workspace.database, workspace.settings
    stays, leaves = (
        applications.register(database, name, services={"calc": RateLimit(5, 1000)}).client_id
        for name in ("stays", "leaves")
    )
    Switchboard(workspace).settle()
    auth = settings.state_folder / FOLDER / "auth.json"
    assert leaves in auth.read_text()
    applications.revoke(database, "leaves")

    def too_slow(*_: object) -> None:
        raise TooSlow("30 s")

    monkeypatch.setattr(envoy_validation, "validate", too_slow)
    sets = {"a": PolicySet(({"policy": "compression"},), services=("calc",))}
    board = Switchboard(replace(workspace, settings=replace(settings, policies=sets)))
    board.settle()
    (fault,) = read_faults(settings)
    assert (fault.service, fault.is_kept) == ("calc", True)
    assert leaves not in auth.read_text()
    assert stays in auth.read_text()
    workspace.database.close()


def test_a_rollback_goes_past_nothing_that_the_mesh_demands_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version is from before the mesh shut an address out, and names a connection that may be used no more."""
    workspace = with_versions(Mesh(tmp_path / "mesh"), 1)
    active(workspace, single("v1"))
    database, settings = workspace.database, workspace.settings
    asked = {"policy": "oauth2-introspection", "connection": "login"}
    known = open_connections(settings, database)
    known.save(Connection("login", "prod", "http", "https://login.example.com/introspect"))
    sets = {"a": PolicySet((asked, {"policy": "compression"}), services=("calc",))}
    first = Board(replace(workspace, settings=replace(settings, policies=sets)), monkeypatch)
    first.it.settle()
    number = version(database).number
    put(database, number, ["calc"])
    deny = {"policy": "ip-deny", "addresses": ["192.0.2.1"]}
    sets = {"walls": PolicySet((deny, {"policy": "compression"}), mandatory=True)}
    board = Board(replace(workspace, settings=replace(settings, policies=sets)), monkeypatch)
    for _ in range(2):
        board.it.settle()
    kinds = [one.kind for one in board.published[-1].services[0].policies]
    assert sorted(kinds) == ["compression", "ip-deny", "oauth2-introspection"]
    assert board.it.demand_fits(number) == {"calc"}
    known.save(Connection("login", "prod", "http", "http://login.example.com/introspect"))
    board.it.settle()
    (fault,) = read_faults(settings)
    assert "spoken to without TLS" in fault.message
    workspace.database.close()


def test_the_certificate_follows_the_hosts_of_apis_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = with_versions(Mesh(tmp_path / "mesh"), 1)
    active(workspace, single("v1"))
    owner = generation.deployment(workspace.database, "calc").product
    text = "api: shop\nversions: [{version: v1, service: calc, hosts: [%s], publish: true}]\n"
    tls = GatewayTls(self_signed=True, names=("example.com",))
    board = Board(replace(workspace, settings=replace(workspace.settings, gateway_tls=tls)), monkeypatch)

    def names(hosts: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        with workspace.database.write() as connection:
            records.save(connection, owner, [read(text % hosts, owner)])
        board.it.settle()
        found = shown(board.workspace.settings)
        assert found is not None
        return tuple(one for one in found.names if one.endswith("example.com")), found.uncovered

    assert names("api.example.com, api.example.org") == (
        ("example.com", "api.example.com"),
        ("api.example.org",),
    )
    said = apis.uncertified(board.workspace)
    assert said.startswith(
        "the gateway's certificate is not for api.example.org: name it in gateway_tls.names"
    )
    (instance,) = apis.shown(board.workspace, "shop")["versions"][0]["instances"]
    assert instance["uncertified"] == said
    assert names("api2.example.com") == (("example.com", "api2.example.com"), ())
    assert apis.uncertified(board.workspace) == ""
    workspace.database.close()
