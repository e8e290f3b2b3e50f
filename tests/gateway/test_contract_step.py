"""Requests for access and what becomes of them: the states, who is told, what is in force."""

from __future__ import annotations

import itertools

import pytest
from sqlalchemy import update
from tests.gateway.conftest import current_policy

from tulle.errors import AlreadyExists, Conflict, Invalid, NotFound, TulleError
from tulle.gateway import admitted, applications, contract_record, contract_step
from tulle.gateway.contract_record import STATES, ContractRecord, Place
from tulle.gateway.contract_step import STEPS, Decision
from tulle.gateway.policy import ManagedService, RateLimit
from tulle.spec.tier import Offer, Terms, Tier, parse_limits
from tulle.state import log
from tulle.state.db import Database, now
from tulle.state.tables import contracts as rows

DATABASES = ("sqlite", "postgres")
PREDICT = Place("api", "predict")
FREE = Tier("free", parse_limits("5/1s + 100/1d"), approval="automatic")
GOLD = Tier("gold", parse_limits("100/1s"))
SERVICES = [
    ManagedService("predict", (), 1000),
    ManagedService("predict", (), 1000, environment="dev"),
    ManagedService("lookup", (), 1000),
]


def offered(database: Database, *tiers: Tier, api: str = "predict", terms: Terms | None = None) -> None:
    with database.write() as cx:
        contract_step.record_offer(cx, api, Offer(tiers, terms))


@pytest.fixture
def client(database: Database) -> str:
    offered(database, FREE, GOLD)
    return applications.register(database, "till").client_id


def kinds(database: Database) -> list[str]:
    return [e.kind for e in log.read(database, subject="application:till")][1:]


def limits(database: Database, client: str) -> dict[tuple[str, str | None], str]:
    policy = current_policy(database, SERVICES)
    return {
        (c.service, c.environment): " + ".join(map(str, c.windows))
        for c in policy.contracts
        if c.client_id == client
    }


def test_an_automatic_tier_lets_in_at_once(database: Database, client: str) -> None:
    record = contract_step.ask(database, client, PREDICT, FREE, purpose="the till", by="ann")
    assert (record.state, record.tier, record.words, record.requested_by) == (
        "approved",
        "free",
        "5/1s + 100/1d",
        "ann",
    )
    assert record.since is not None
    assert limits(database, client) == {("predict", None): "5/1s + 100/1d"}
    assert kinds(database) == ["contract.requested", "contract.approved"]
    assert log.verify(database) is None


def test_a_manual_tier_waits_for_a_decision(database: Database, client: str) -> None:
    record = contract_step.ask(database, client, PREDICT, GOLD, purpose="the till", by="ann")
    assert record.state == "pending"
    assert limits(database, client) == {}
    assert contract_record.waiting(database) == 1
    decided = contract_step.take(database, record.id, "approve", decision=Decision(tier=FREE), by="olga")
    assert (decided.state, decided.tier, decided.decided_by) == ("approved", "free", "olga")
    assert limits(database, client) == {("predict", None): "5/1s + 100/1d"}
    assert contract_record.waiting(database) == 0


def test_every_step_leads_from_its_states_alone(database: Database, client: str) -> None:
    for number, (step, state) in enumerate(itertools.product(STEPS, STATES)):
        record = contract_step.ask(database, client, Place("api", f"api-{number}"), GOLD)
        with database.write() as cx:
            cx.execute(update(rows).where(rows.c.id == record.id).values(state=state))
        before, after = STEPS[step]
        if state in before:
            assert contract_step.take(database, record.id, step).state == (after or state)
            continue
        with pytest.raises(Conflict, match=f"is {state}: it cannot be"):
            contract_step.take(database, record.id, step)
        assert contract_record.get(database, record.id).state == state


def test_what_is_revoked_is_not_had_again_by_asking(database: Database, client: str) -> None:
    first = contract_step.ask(database, client, PREDICT, FREE)
    contract_step.take(database, first.id, "revoke", decision=Decision(reason="too much"), by="olga")
    assert limits(database, client) == {}
    second = contract_step.ask(database, client, PREDICT, FREE)
    assert second.state == "pending"
    contract_step.take(database, second.id, "approve")
    with pytest.raises(Conflict, match="which is in force"):
        contract_step.take(database, first.id, "restore")
    contract_step.take(database, second.id, "delete")
    assert contract_step.take(database, first.id, "restore").state == "approved"


def test_what_is_revoked_in_one_environment_is_not_had_by_asking_in_another(
    database: Database, client: str
) -> None:
    first = contract_step.ask(database, client, PREDICT, FREE)
    contract_step.take(database, first.id, "revoke", decision=Decision(reason="too much"), by="olga")
    for environment in ("dev", "prod"):
        elsewhere = contract_step.ask(
            database, client, Place("api", "predict", environment=environment), FREE
        )
        assert elsewhere.state == "pending"


def test_the_same_is_asked_for_once(database: Database, client: str) -> None:
    contract_step.ask(database, client, PREDICT, GOLD)
    with pytest.raises(AlreadyExists, match="waits for its approval"):
        contract_step.ask(database, client, PREDICT, FREE)
    dev = Place("api", "predict", environment="dev")
    contract_step.ask(database, client, dev, FREE)  # elsewhere is something else
    with pytest.raises(AlreadyExists, match="is in force"):
        contract_step.ask(database, client, dev, FREE)


def test_who_owns_changes_what_was_given(database: Database, client: str) -> None:
    record = contract_step.ask(database, client, PREDICT, FREE)
    own = Decision(limits=parse_limits("7/1m"), until=now() + 3600)
    changed = contract_step.take(database, record.id, "change", decision=own)
    assert (changed.tier, changed.is_own, changed.words) == ("", True, "7/1m")
    assert changed.until is not None
    assert contract_step.take(database, record.id, "change", decision=Decision(no_end=True)).until is None
    assert limits(database, client) == {("predict", None): "7/1m"}


def test_a_changed_tier_hits_whoever_is_under_it(database: Database, client: str) -> None:
    contract_step.ask(database, client, PREDICT, FREE)
    offered(database, Tier("free", parse_limits("1/1s"), approval="automatic"))
    assert limits(database, client) == {("predict", None): "1/1s"}
    offered(database, GOLD)  # taken out: who has it keeps what it was last
    assert limits(database, client) == {("predict", None): "1/1s"}


def test_the_mesh_s_tiers_are_those_of_apis_without_any(database: Database) -> None:
    client = applications.register(database, "till").client_id
    offered(database, FREE, api="")
    contract_step.ask(database, client, PREDICT, FREE)
    offered(database, Tier("free", parse_limits("2/1s")), api="")
    assert limits(database, client) == {("predict", None): "2/1s"}
    offered(database, Tier("free", parse_limits("3/1s")))
    assert limits(database, client) == {("predict", None): "3/1s"}


def test_what_says_most_exactly_holds(
    database: Database, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"predict": frozenset({"shop"}), "lookup": frozenset({"shop"}), "lost": frozenset({"shop", "x"})}
    monkeypatch.setattr(admitted, "products_of", lambda _: found)
    with database.write() as cx:
        contract_step.agree_in(cx, client, Place("product", "shop"), parse_limits("1/1s"))
    assert limits(database, client) == {("predict", None): "1/1s", ("lookup", None): "1/1s"}
    with database.write() as cx:
        contract_step.agree_in(cx, client, PREDICT, parse_limits("2/1s"))
        contract_step.agree_in(cx, client, Place("api", "predict", environment="dev"), parse_limits("3/1s"))
    assert limits(database, client) == {
        ("predict", ""): "2/1s",
        ("predict", "dev"): "3/1s",
        ("lookup", None): "1/1s",
    }


def test_a_contract_ends_and_people_are_told_before(database: Database, client: str) -> None:
    lasting = Tier("trial", parse_limits("5/1s"), approval="automatic", seconds=3600)
    record = contract_step.ask(database, client, PREDICT, lasting)
    assert record.until == pytest.approx(now() + 3600, abs=60)
    for _ in range(2):  # told once
        contract_step.keep(database)
    assert kinds(database)[2:] == ["contract.expiring"]
    assert limits(database, client) == {("predict", None): "5/1s"}
    over(database, record)
    assert limits(database, client) == {}  # before anybody has noted it
    contract_step.keep(database)
    assert contract_record.get(database, record.id).state == "expired"
    assert kinds(database)[3:] == ["contract.expired"]
    again = contract_step.take(database, record.id, "restore", decision=Decision(tier=lasting))
    assert again.in_force(now())


def over(database: Database, record: ContractRecord) -> None:
    """Its end has come. What is known of it was read for as long as nothing ends."""
    with database.write() as cx:
        cx.execute(update(rows).where(rows.c.id == record.id).values(until=now() - 1))
    admitted.forget(database)


def test_accepted_terms_are_kept_word_for_word(database: Database, client: str) -> None:
    first, second = Terms("1", "be kind"), Terms("2", "be kind and quick")
    record = contract_step.ask(database, client, PREDICT, FREE, terms=first, by="ann")
    assert (record.terms_version, record.terms_by) == ("1", "ann")
    assert contract_step.accept(database, record.id, second, by="bob").terms_digest == second.digest
    assert contract_record.terms_of(database, first.digest) == first
    assert contract_record.terms_of(database, second.digest) == second
    contract_step.take(database, record.id, "delete")
    with pytest.raises(Conflict, match="nothing to accept"):
        contract_step.accept(database, record.id, first)


def test_a_revoked_application_has_no_contracts(database: Database, client: str) -> None:
    record = contract_step.ask(database, client, PREDICT, FREE)
    waiting = contract_step.ask(database, client, Place("api", "lookup"), GOLD)
    applications.revoke(database, "till", actor="ann")
    assert {contract_record.get(database, one.id).state for one in (record, waiting)} == {"deleted"}
    assert current_policy(database, SERVICES).contracts == ()


def test_what_is_gone_ends_its_contracts(database: Database, client: str) -> None:
    record = contract_step.ask(database, client, PREDICT, FREE)
    contract_step.end_for(database, "api", ["predict"], reason="the service is gone")
    assert contract_record.get(database, record.id).state == "deleted"


@pytest.mark.parametrize(
    "decision",
    [Decision(reason="x" * 2001), Decision(until=1.0), Decision(until=float("inf")), Decision(reason="a\0b")],
)
def test_what_nobody_can_mean_is_refused(database: Database, client: str, decision: Decision) -> None:
    record = contract_step.ask(database, client, PREDICT, GOLD)
    with pytest.raises(TulleError):
        contract_step.take(database, record.id, "approve", decision=decision)
    assert contract_record.get(database, record.id).state == "pending"


def test_there_are_so_many_and_no_more(
    database: Database, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contract_step, "MOST_OPEN", 2)
    for number in range(2):
        contract_step.ask(database, client, Place("api", f"api-{number}"), GOLD)
    with pytest.raises(Conflict, match="2 contracts and requests"):
        contract_step.ask(database, client, PREDICT, GOLD)
    with pytest.raises(Invalid):
        contract_step.ask(database, client, PREDICT, GOLD, purpose="x" * 2001)


def test_lists_are_paged_and_filtered(database: Database, client: str) -> None:
    made = [contract_step.ask(database, client, Place("api", f"api-{n}"), GOLD) for n in range(5)]
    contract_step.take(database, made[0].id, "reject")
    other = applications.register(database, "other").client_id
    theirs = contract_step.ask(database, other, Place("product", "shop"), GOLD)
    first = contract_record.records(database, limit=3)
    rest = contract_record.records(database, limit=10, before=(first[-1].requested_at, first[-1].id))
    assert {r.id for r in (*first, *rest)} == {r.id for r in (*made, theirs)}
    assert [r.id for r in contract_record.records(database, states=["rejected"])] == [made[0].id]
    assert [r.id for r in contract_record.records(database, application="other")] == [theirs.id]
    assert [r.id for r in contract_record.records(database, subjects=[("product", "shop")])] == [theirs.id]
    assert contract_record.records(database, subjects=[("api", "shop")]) == ()
    with pytest.raises(NotFound, match="there is no contract"):
        contract_record.get(database, "c-0")


def test_what_has_not_changed_is_not_read_again(database: Database, client: str) -> None:
    first = admitted.admitted(database)
    assert admitted.admitted(database) is first
    contract_step.ask(database, client, PREDICT, FREE)
    assert admitted.admitted(database) is not first


def test_limits_are_told_in_the_order_they_were_written() -> None:
    assert parse_limits("100/1d + 5/1s")[0] == RateLimit(100, 86_400_000)
