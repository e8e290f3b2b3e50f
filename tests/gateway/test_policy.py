"""The neutral model: what it accepts, and that equal policies are equal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.errors import Invalid
from tulle.gateway.policy import Client, Contract, GatewayPolicy, ManagedService, RateLimit
from tulle.gateway.secret import hash_secret

HASH = hash_secret("x")


@pytest.mark.parametrize(
    ("text", "requests", "period_ms", "again"),
    [
        ("50/1s", 50, 1000, "50/1s"),
        ("1000/1m", 1000, 60_000, "1000/1m"),
        ("10/500ms", 10, 500, "10/500ms"),
        ("5/h", 5, 3_600_000, "5/1h"),
        (" 7 / 2 d ", 7, 172_800_000, "7/2d"),
        ("3/60s", 3, 60_000, "3/1m"),
        ("1/50ms", 1, 50, "1/50ms"),
    ],
)
def test_a_rate_limit_is_read_and_written(text: str, requests: int, period_ms: int, again: str) -> None:
    limit = RateLimit.parse(text)
    assert (limit.requests, limit.period_ms) == (requests, period_ms)
    assert str(limit) == again


@given(st.integers(1, 10**9), st.integers(1, 7 * 24 * 3600 * 20))
def test_a_rate_limit_survives_writing_and_reading(requests: int, steps: int) -> None:
    limit = RateLimit(requests, steps * 50)
    assert RateLimit.parse(str(limit)) == limit


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not understood"),
        ("50", "not understood"),
        ("50/", "not understood"),
        ("50/1w", "not understood"),
        ("-1/1s", "not understood"),
        ("1.5/1s", "not understood"),
        ("50/1s; drop", "not understood"),
        ("0/1s", "0 requests"),
        ("10000000000/1s", "10000000000 requests"),
        ("1/49ms", "49 ms"),
        ("1/0s", "0 ms"),
        ("1/8d", "7 days"),
        ("1/75ms", "multiple of 50 ms"),
    ],
)
def test_a_rate_limit_that_cannot_be_enforced_is_refused(text: str, why: str) -> None:
    with pytest.raises(Invalid, match=why):
        RateLimit.parse(text)


@pytest.mark.parametrize(
    "name", ["", "a", "A-service", "under_score", "-x", "x" * 64, "a/b", "a b", "ä-b", "a\n"]
)
def test_a_service_name_is_kebab_case(name: str) -> None:
    with pytest.raises(Invalid, match="service name"):
        ManagedService(name, (), 1)


@pytest.mark.parametrize(
    "upstream", ["", "localhost:80", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:99999", ":80", "1.2.3.4:x"]
)
def test_an_address_that_is_none_is_refused(upstream: str) -> None:
    with pytest.raises(Invalid, match="no address of a worker"):
        ManagedService("service", (upstream,), 1)


def test_a_socket_path_that_no_socket_can_have_is_refused() -> None:
    assert ManagedService("service", ("run/" + "x" * 103,), 1).upstreams
    with pytest.raises(Invalid, match="longer than 107 bytes"):
        ManagedService("service", ("run/" + "x" * 104,), 1)


@pytest.mark.parametrize(
    ("client_id", "secret_hash"),
    [
        ("a:b", HASH),
        ("a\nb:{SHA}", HASH),
        ("", HASH),
        ("a.b", HASH),
        ("app", ""),
        ("app", HASH + "\n"),
        ("app", HASH[:-1]),
    ],
)
def test_a_client_cannot_add_a_line_to_the_credentials(client_id: str, secret_hash: str) -> None:
    with pytest.raises(Invalid):
        Client(client_id, secret_hash)


def test_the_order_things_come_in_makes_no_difference() -> None:
    services = [ManagedService("two", (), 1), ManagedService("one", ("127.0.0.1:1", "[::1]:2"), 1)]
    clients = [Client("b", HASH), Client("a", HASH)]
    contracts = [Contract(c, s, RateLimit(1, 1000)) for s in ("two", "one") for c in ("b", "a")]
    one = GatewayPolicy.of(services=services, clients=clients, contracts=contracts)
    other = GatewayPolicy.of(services=services[::-1], clients=clients[::-1], contracts=contracts[::-1])
    assert one == other
    assert one.digest() == other.digest()
    assert [c.client_id for c in one.contracts if c.service == "one"] == ["a", "b"]


def test_every_change_changes_the_digest() -> None:
    service, client = ManagedService("one", ("127.0.0.1:1",), 1), Client("a", HASH)
    contract = Contract("a", "one", RateLimit(1, 1000))

    def digest(s: ManagedService = service, c: Client = client, k: Contract | None = contract) -> str:
        return GatewayPolicy.of(services=[s], clients=[c], contracts=[k] if k else []).digest()

    digests = [
        digest(),
        digest(ManagedService("one", ("127.0.0.1:2",), 1)),
        digest(ManagedService("one", ("127.0.0.1:1",), 2)),
        digest(ManagedService("one", ("127.0.0.1:1",), 1, timeout_seconds=1)),
        digest(ManagedService("one", ("127.0.0.1:1",), 1, may_repeat=False)),
        digest(c=Client("a", hash_secret("y"))),
        digest(k=Contract("a", "one", RateLimit(2, 1000))),
        digest(k=None),
    ]
    assert len(set(digests)) == len(digests)


def test_what_is_there_twice_or_belongs_to_nobody_is_refused() -> None:
    service, client, limit = ManagedService("one", (), 1), Client("a", HASH), RateLimit(1, 1000)
    with pytest.raises(Invalid, match="service 'one' is in the policy twice"):
        GatewayPolicy.of(services=[service, service])
    with pytest.raises(Invalid, match="client 'a' is in the policy twice"):
        GatewayPolicy.of(clients=[client, client])
    with pytest.raises(Invalid, match="contract 'a for one' is in the policy twice"):
        GatewayPolicy.of(services=[service], clients=[client], contracts=[Contract("a", "one", limit)] * 2)
    with pytest.raises(Invalid, match="unknown client 'b'"):
        GatewayPolicy.of(services=[service], contracts=[Contract("b", "one", limit)])


def test_a_contract_for_what_is_not_deployed_waits() -> None:
    kept = GatewayPolicy.of(
        clients=[Client("a", HASH)], contracts=[Contract("a", "later", RateLimit(1, 1000))]
    )
    assert kept.contracts == ()
