"""What of a policy ends with the next one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tests.gateway.conftest import PLENTY

from tulle.gateway.ended import without_ended
from tulle.gateway.policy import Client, Contract, GatewayPolicy, ManagedService, RateLimit
from tulle.gateway.secret import hash_secret


def test_what_ends_is_told_from_what_changes() -> None:
    first, second = (ManagedService("orders", (), 1, environment=place) for place in ("", "test"))
    clients = [Client(name, hash_secret("x")) for name in ("app-a", "app-b")]
    contracts = [Contract(name, "orders", PLENTY) for name in ("app-a", "app-b")]
    last = GatewayPolicy.of(services=[first, second], clients=clients, contracts=contracts)
    other = RateLimit(1, 1000)

    def left(*wanted: Contract, services: Sequence[ManagedService] = (first, second)) -> list[Contract]:
        new = GatewayPolicy.of(services=services, clients=clients, contracts=wanted)
        return list(without_ended(last, new).contracts)

    changed = [replace(one, limit=other) for one in contracts]
    assert left(*changed) == contracts  # none has ended
    assert left(contracts[0]) == [contracts[0]]
    in_test = replace(contracts[1], environment="test")
    assert left(contracts[0], in_test) == [contracts[0], in_test]
    assert left(contracts[0], in_test, replace(in_test, environment="")) == contracts
    assert left(services=()) == contracts  # they go with the service
    shut = replace(contracts[0], not_in=("v1",))  # given back after the sunset of a version
    assert left(shut, contracts[1])[:2] == [replace(shut, environment=place) for place in ("", "test")]
    fresh = replace(clients[0], secret_hash=hash_secret("y"))
    new = replace(last, clients=(fresh,), contracts=(contracts[0],))
    assert without_ended(last, new) == new
    assert without_ended(last, last) is last
