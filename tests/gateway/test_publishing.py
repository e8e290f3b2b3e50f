"""A service that the gateway refuses keeps no other one's changes from it: which is at fault, what stays, what is told."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from tests.gateway.conftest import (
    API,
    CONTRACTS,
    PLENTY,
    SECRETS,
    WORKERS,
    Mesh,
    as_client,
    check_error,
    policy,
)

from tulle.config import Settings
from tulle.errors import Broken, TulleError
from tulle.gateway import publishing
from tulle.gateway.envoy import Gateway, PublishResult
from tulle.gateway.envoy_validation import TooSlow
from tulle.gateway.faults import fault_of, file_of, read_faults
from tulle.gateway.policies.entry import Operation, Policy
from tulle.gateway.policy import Backend, Client, Contract, GatewayPolicy, ManagedService, Notice
from tulle.gateway.publishing import IN_FORCE, Publisher, Unmade, fitting
from tulle.gateway.secret import hash_secret
from tulle.serving.access import Access, Keys, Public, Tokens
from tulle.serving.traffic import split

NO_KEYS = Access(contracts=False, jwt=Tokens("https://issuer.example/", jwks='{"keys": []}'))
OPEN = Access(contracts=False, public=Public("1000/1s"))


def service(name: str, requests: int = 100, **more: object) -> ManagedService:
    return ManagedService(name, (f"run/w/{name}.sock",), 1000, most_requests=requests, **more)  # type: ignore[arg-type]


def whole(services: Collection[ManagedService]) -> GatewayPolicy:
    return GatewayPolicy.of(services=services)


# ── whose fault it is ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("faulty", [{3}, {0, 1}, {0, 31}, {5, 6, 7, 20}, set(range(32))])
def test_all_that_is_accepted_is_found_with_few_questions(faulty: set[int]) -> None:
    wanted = {f"s{n:02}": service(f"s{n:02}") for n in range(32)}
    bad = {f"s{n:02}" for n in faulty}
    asked = 0

    def accept(forms: object) -> str:
        nonlocal asked
        asked += 1
        return ", ".join(sorted(bad & set(forms)))  # type: ignore[call-overload]

    chosen, refused = fitting(wanted, {}, accept, "all")
    assert set(chosen) == set(wanted) - bad
    assert set(refused) == bad
    assert asked <= 2 + 2 * 5 * len(bad)


def test_what_stands_takes_the_place_of_what_is_refused() -> None:
    wanted = {"aa": service("aa", 1), "bb": service("bb", 1), "cc": service("cc", 1)}
    standing = {"aa": service("aa", 2), "bb": service("bb", 2)}

    def accept(forms: object) -> str:
        assert isinstance(forms, dict)
        return "no" if wanted["aa"] in forms.values() or wanted["cc"] in forms.values() else ""

    chosen, refused = fitting(wanted, standing, accept, "no")
    assert chosen == {"aa": standing["aa"], "bb": wanted["bb"]}
    assert refused == {"aa": "no", "cc": "no"}


def test_what_stood_may_be_refused_by_now_as_well() -> None:
    wanted = {"aa": service("aa", 1), "bb": service("bb", 1), "cc": service("cc", 1)}
    standing = {"aa": service("aa", 2), "bb": service("bb", 2), "cc": service("cc", 1)}

    def accept(forms: object) -> str:
        assert isinstance(forms, dict)
        known = [wanted["aa"], standing["aa"], wanted["bb"]]
        return "no" if any(one in forms.values() for one in known) else ""

    chosen, refused = fitting(wanted, standing, accept, "no")
    assert chosen == {"bb": standing["bb"], "cc": wanted["cc"]}
    assert set(refused) == {"aa", "bb"}


def test_what_is_no_services_fault_is_raised() -> None:
    with pytest.raises(Broken, match="the credentials"):
        fitting({"aa": service("aa")}, {"aa": service("aa")}, lambda _: "the credentials", "the credentials")


# ── what is remembered ───────────────────────────────────────────────────────────────────────────────────


@dataclass
class Picky:
    """A gateway that refuses services whose timeout is 13 seconds, and is otherwise content."""

    seen: list[GatewayPolicy] = field(default_factory=list)
    checks: int = 0
    only_when_published: bool = False
    wrong: type[TulleError] = Broken
    too_slow: int = 0  # how often whatever it is is not read in time

    def check(self, policy: GatewayPolicy) -> None:
        self.checks += 1
        if not self.only_when_published:
            self._refuse(policy)

    def publish(self, policy: GatewayPolicy) -> PublishResult:
        self._refuse(policy)
        self.seen.append(policy)
        return PublishResult(policy.digest(), (), confirmed=True, seconds=0)

    def _refuse(self, policy: GatewayPolicy) -> None:
        bad = [one.path for one in policy.services if one.timeout_seconds == 13]
        if bad:
            raise self.wrong(f"no: {bad}")
        if self.too_slow:
            self.too_slow -= 1
            raise TooSlow("busy")

    @property
    def has(self) -> set[tuple[str, int]]:
        return {(one.path, one.most_requests) for one in self.seen[-1].services}


@dataclass
class Board:
    """A publisher whose gateway and clock the test has."""

    settings: Settings
    picky: Picky = field(default_factory=Picky)
    at: float = 0.0
    it: Publisher = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.it = Publisher(self.settings, self.picky, clock=lambda: self.at)  # type: ignore[arg-type]

    def publish(self, *wanted: ManagedService, **unmade: str) -> set[tuple[str, int]]:
        self.it.publish(wanted, whole, {(name, ""): Unmade(said) for name, said in unmade.items()})
        return self.picky.has

    def faults(self) -> dict[str, bool]:
        return {one.service: one.is_kept for one in read_faults(self.settings)}


@pytest.fixture
def board(tmp_path: Path) -> Board:
    settings = Settings(folder=tmp_path)
    (settings.state_folder / IN_FORCE).parent.mkdir(parents=True)
    return Board(settings)


BAD = {"timeout_seconds": 13.0}


def test_a_faulty_service_stays_as_it_was_and_others_are_published(
    board: Board, caplog: pytest.LogCaptureFixture
) -> None:
    assert board.publish(service("aa", 1), service("bb", 1)) == {("aa", 1), ("bb", 1)}
    with caplog.at_level(logging.WARNING, "tulle"):
        found = board.publish(service("aa", 2, **BAD), service("bb", 2), service("new", 2, **BAD))
    assert found == {("aa", 1), ("bb", 2)}
    assert board.faults() == {"aa": True, "new": False}
    assert (
        "service 'aa': the gateway does not take what is wanted of it, it answers as before: no: ['aa'"
        in caplog.text
    )
    assert "service 'new': the gateway does not take what is wanted of it, it answers nobody" in caplog.text
    # whoever comes after knows what stood, and what was told is not told anew
    board.start()
    assert board.publish(service("aa", 3, **BAD), service("bb", 3)) == {("aa", 1), ("bb", 3)}
    assert board.faults() == {"aa": True}
    assert board.publish(service("aa", 4), service("bb", 3)) == {("aa", 4), ("bb", 3)}
    assert board.faults() == {}
    assert "the gateway has it as it is wanted again" in caplog.text


def test_what_was_refused_is_tried_again_after_a_while_and_at_once_when_it_is_another(board: Board) -> None:
    board.publish(service("aa", 1))
    board.publish(service("aa", 2, **BAD))
    before = board.picky.checks
    for _ in range(5):
        assert board.publish(service("aa", 2, **BAD)) == {("aa", 1)}
    assert board.picky.checks == before
    board.at += publishing.AGAIN_SECONDS
    board.publish(service("aa", 2, **BAD))
    assert board.picky.checks > before
    before = board.picky.checks
    board.at += publishing.AGAIN_SECONDS  # it was refused twice: now it waits twice as long
    board.publish(service("aa", 2, **BAD))
    assert board.picky.checks == before
    assert board.publish(service("aa", 3)) == {("aa", 3)}
    assert board.faults() == {}


def test_a_service_of_which_nothing_can_be_made_stays_too(board: Board) -> None:
    board.publish(service("aa", 1), service("bb", 1))
    assert board.publish(service("bb", 2), aa="its package is damaged", cc="so is this") == {
        ("aa", 1),
        ("bb", 2),
    }
    assert board.faults() == {"aa": True, "cc": False}
    fault = fault_of(board.settings, "aa")
    assert fault is not None
    assert fault.message == "its package is damaged"
    assert "(take back what was changed of it last, or say it otherwise" in fault.sentence
    assert fault_of(board.settings, "aa", "test") is None
    assert board.publish(service("aa", 2), service("bb", 2)) == {("aa", 2), ("bb", 2)}
    assert board.faults() == {}


def test_what_is_stopped_stops_also_when_the_rest_of_it_is_not_taken(board: Board) -> None:
    board.publish(service("aa", 1), service("bb", 1))

    def stopped() -> dict[str, str | None]:
        return {one.path: one.stopped for one in board.picky.seen[-1].services}

    bad = service("aa", 2, **BAD)
    board.publish(bad, service("bb", 1))
    assert stopped() == {"aa": None, "bb": None}
    board.publish(replace(bad, stopped="disabled"), service("bb", 1))
    assert stopped() == {"aa": "disabled", "bb": None}
    board.publish(bad, service("bb", 1))
    assert stopped() == {"aa": None, "bb": None}
    assert board.picky.has == {("aa", 1), ("bb", 1)}
    board.it.publish([service("bb", 1)], whole, {("aa", ""): Unmade("damaged", "retired")})
    assert stopped() == {"aa": "retired", "bb": None}


def test_a_service_that_takes_too_long_to_read_holds_up_no_other(board: Board) -> None:
    board.publish(service("aa", 1), service("bb", 1))
    board.picky.wrong = TooSlow
    assert board.publish(service("aa", 2, **BAD), service("bb", 2)) == {("aa", 1), ("bb", 2)}
    assert board.faults() == {"aa": True}


def test_what_takes_too_long_once_is_nobodys_fault(board: Board) -> None:
    board.picky.too_slow = 1
    assert board.publish(service("aa", 1), service("bb", 1)) == {("aa", 1), ("bb", 1)}
    assert board.faults() == {}


def test_what_only_the_running_gateway_refuses_is_found_by_publishing(board: Board) -> None:
    board.picky.only_when_published = True
    board.publish(service("aa", 1), service("bb", 1), service("cc", 1))
    found = board.publish(service("aa", 2), service("bb", 2, **BAD), service("cc", 2))
    assert found == {("aa", 2), ("bb", 1), ("cc", 2)}
    assert board.faults() == {"bb": True}


def test_nothing_is_taken_away_when_nothing_is_known_to_be_good(board: Board) -> None:
    board.picky.only_when_published = True
    with pytest.raises(Broken):
        board.publish(service("aa", 2, **BAD), service("bb", 1))
    assert board.picky.seen == []


def test_a_service_that_goes_takes_its_fault_along(board: Board) -> None:
    board.publish(service("aa", 1, **BAD), service("bb", 1))
    assert board.faults() == {"aa": False}
    assert board.publish(service("bb", 1)) == {("bb", 1)}
    assert board.faults() == {}


def test_files_that_are_damaged_are_none(board: Board) -> None:
    board.publish(service("aa", 1))
    (board.settings.state_folder / IN_FORCE).write_text('[{"name": "A!"}]')
    file_of(board.settings).write_text('[{"what": 1}]')
    board.start()
    assert board.publish(service("aa", 2)) == {("aa", 2)}
    assert read_faults(board.settings) == ()


def test_every_part_of_a_service_is_remembered(board: Board) -> None:
    tokens = Tokens("https://i.example/", ("aa",), ("bb",), jwks_uri="https://i.example/keys")
    every = service(
        "aa",
        environment="test",
        traffic=None,
        notice=Notice(1.0, 2.0, "/x"),
        stopped="disabled",
        access=Access(True, Keys("1/1s"), Public("2/1s", "address"), tokens),
        policies=(
            Policy("cors", {"origins": ["*"]}),
            Policy("body-limit", {"max_bytes": 1}, (Operation("GET", "/a"),)),
        ),
    )
    shared = replace(
        service("bb"), traffic=split({"v1": 0.5, "v2": 0.5}), upstreams=(), backends=backends("v1", "v2")
    )
    board.publish(every, shared)
    board.start()
    assert dict(board.it._in_force()) == {"test/aa": every, "bb": shared}


def backends(*names: str) -> tuple[Backend, ...]:
    return tuple(Backend(name, (f"run/w/{name}.sock",)) for name in names)


# ── the real Envoy ───────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def publisher(mesh: Mesh) -> Iterator[Publisher]:
    yield Publisher(mesh.settings, mesh.gateway)
    (mesh.settings.state_folder / IN_FORCE).unlink(missing_ok=True)
    file_of(mesh.settings).unlink(missing_ok=True)


def usual(*, without: Sequence[tuple[str, str]] = ()) -> tuple[dict[str, ManagedService], publishing.Whole]:
    found = policy(WORKERS, CONTRACTS)

    def of(services: Collection[ManagedService]) -> GatewayPolicy:
        clients = [Client(name, hash_secret(secret)) for name, secret in SECRETS.items()]
        kept = [Contract(c, s, PLENTY) for (c, s) in CONTRACTS if (c, s) not in without]
        return GatewayPolicy.of(services=services, clients=clients, contracts=kept)

    return {one.name: one for one in found.services}, of


@pytest.mark.system
def test_a_service_that_envoy_refuses_keeps_nobody_elses_changes(mesh: Mesh, publisher: Publisher) -> None:
    services, of = usual()
    services["first"] = replace(services["first"], access=OPEN)
    publisher.publish(list(services.values()), of)
    assert mesh.ask(API + "first/x").status == 200
    assert mesh.ask(API + "second/x", as_client("app-b")).status == 200
    # two are faulty, a third is opened, a contract ends: all at once
    wanted = {
        **services,
        "first": replace(services["first"], access=NO_KEYS),
        "second": replace(services["second"], access=OPEN),
        "third": ManagedService("third", WORKERS["second"], 10_000, access=NO_KEYS),
    }
    _, without = usual(without=[("app-a", "down")])
    result = publisher.publish(list(wanted.values()), without)
    assert result.confirmed
    assert mesh.ask(API + "first/x").status == 200  # as it was
    assert mesh.ask(API + "second/x").status == 200  # as it is wanted
    check_error(mesh.ask(API + "third/x", as_client("app-a")), 404, "UnknownService")
    check_error(mesh.ask(API + "down/x", as_client("app-a")), 403, "NoContract")
    told = {one.service: one for one in read_faults(mesh.settings)}
    assert {name: one.is_kept for name, one in told.items()} == {"first": True, "third": False}
    # in Envoy's words, without when it said them: the same fault is told once
    refused = "Envoy refuses the gateway's configuration: Provider 'first' in jwt_authn config has invalid local jwks"
    assert told["first"].message.startswith(refused)
    # a control plane that comes after goes on so, and what is mended comes into force by itself
    after = Publisher(mesh.settings, mesh.gateway)
    after.publish(list(wanted.values()), without)
    assert mesh.ask(API + "first/x").status == 200
    wanted["first"] = replace(wanted["first"], access=Access())
    wanted["third"] = replace(wanted["third"], access=OPEN)
    after.publish(list(wanted.values()), without)
    check_error(mesh.ask(API + "first/x"), 401, "InvalidClient")
    assert mesh.ask(API + "third/x").status == 200
    assert read_faults(mesh.settings) == ()


@pytest.mark.system
def test_a_bad_policy_is_refused_with_the_reason_and_keeps_nobody_elses_changes(
    mesh: Mesh, publisher: Publisher
) -> None:
    services, of = usual()
    publisher.publish(list(services.values()), of)
    bad = {
        "first": Policy("no-such-policy", {}),
        "second": Policy("rate-limit", {"limits": "often"}),
        "down": Policy("header-injection", {"response": {"x-a": "\x00"}}),
        "empty": Policy("ip-deny", {"addresses": ["127.0.0.0/8"]}),  # this one is fine
    }
    wanted = {name: replace(one, policies=(bad[name],)) for name, one in services.items()}
    publisher.publish(list(wanted.values()), of)
    told = {one.service: one.message for one in read_faults(mesh.settings)}
    assert set(told) == {"first", "second", "down"}
    assert "nothing here carries out the policy 'no-such-policy'" in told["first"]
    assert "rate limit 'often' is not understood" in told["second"]
    assert "x-a" in told["down"]
    assert mesh.ask(API + "first/x", as_client("app-a")).status == 200
    check_error(mesh.ask(API + "empty/x", as_client("app-a")), 403, "AddressNotAllowed")


@pytest.mark.system
def test_what_cannot_be_rendered_is_a_refusal_too(gateway: Gateway) -> None:
    endless = replace(service("first"), notice=Notice(1.0, 1e300))
    with pytest.raises(Broken, match="cannot be rendered"):
        gateway.publish(whole([endless]))
    with pytest.raises(Broken, match="cannot be rendered"):
        gateway.check(whole([replace(endless, notice=Notice(1.0, None, "\ud800"))]))
    gateway.check(whole([service("first")]))
