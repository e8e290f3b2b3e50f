"""What has to be looked at again of a policy, by what was looked at before."""

from __future__ import annotations

from dataclasses import replace

from tulle.gateway.policy import Client, Contract, GatewayPolicy, ManagedService, RateLimit
from tulle.gateway.secret import hash_secret
from tulle.gateway.unread import READ_AGAIN, unread

MANY = READ_AGAIN + 10
LIMIT = RateLimit.parse("10/1s")
CLIENTS = tuple(Client(f"app-{n:03}", hash_secret(str(n))) for n in range(MANY))


def policy(*services: str, contracts: tuple[Contract, ...] = (), timeout: float = 30.0) -> GatewayPolicy:
    made = [ManagedService(one, (f"run/w/{one}.sock",), 100, timeout_seconds=timeout) for one in services]
    return GatewayPolicy.of(services=made, clients=CLIENTS, contracts=contracts)


def named(found: GatewayPolicy) -> tuple[list[str], int, int]:
    return [one.name for one in found.services], len(found.contracts), len(found.clients)


HELD = tuple(Contract(one.client_id, "first", LIMIT) for one in CLIENTS)


def test_to_who_has_read_nothing_all_is_new() -> None:
    whole = policy("first", "second", contracts=HELD)
    assert unread(whole, GatewayPolicy()) == replace(whole, contracts=whole.contracts)


def test_of_what_was_read_nothing_is_new() -> None:
    whole = policy("first", "second", contracts=HELD)
    assert named(unread(whole, whole)) == ([], 0, 0)
    assert named(unread(policy("first", contracts=HELD), whole)) == ([], 0, 0)  # what leaves neither


def test_a_service_that_is_otherwise_comes_with_some_of_who_may_call_it() -> None:
    last = policy("first", "second", contracts=HELD)
    changed = replace(last, services=(replace(last.services[0], timeout_seconds=3.0), last.services[1]))
    assert named(unread(changed, last)) == (["first"], READ_AGAIN, READ_AGAIN)


def test_a_contract_that_is_new_comes_with_what_it_is_for() -> None:
    last = policy("first", "second", contracts=HELD)
    new = policy("first", "second", contracts=(*HELD, Contract("app-000", "second", LIMIT)))
    assert named(unread(new, last)) == (["second"], 1, 1)
    slower = tuple(replace(one, limit=RateLimit.parse("1/1s")) for one in HELD)
    assert named(unread(policy("first", "second", contracts=slower), last)) == (["first"], MANY, MANY)


def test_a_client_that_is_new_is_read_without_anything_else() -> None:
    last = policy("first")
    more = replace(last, clients=(*last.clients, Client("app-new", hash_secret("x"))))
    assert named(unread(more, last)) == ([], 0, 1)


def test_what_holds_for_all_is_always_there() -> None:
    last = policy("first")
    assert unread(replace(last, is_guarded=True), last).is_guarded
