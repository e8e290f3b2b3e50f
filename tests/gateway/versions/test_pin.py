"""A pin: what of a version comes back, and what follows the present all the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tulle.config import Settings
from tulle.errors import Conflict
from tulle.gateway.front import External, Front, Upstream
from tulle.gateway.policies.entry import Policy
from tulle.gateway.policy import Backend, Client, Contract, GatewayPolicy, ManagedService, Notice, RateLimit
from tulle.gateway.secret import hash_secret
from tulle.gateway.versions.pin import pin_of, pinned_policy, pinned_services, put, take_back
from tulle.gateway.versions.recorded import plain
from tulle.gateway.versions.told import Pin, tell, told
from tulle.serving.traffic import single
from tulle.state.db import Database

DATABASES = ("sqlite", "postgres")
OLD, NEW = Policy("rate-limit", {"limits": "5/1s"}), Policy("rate-limit", {"limits": "1/1h"})
ONE = ManagedService(
    "one", (), 10_000, traffic=single("v1"), backends=(Backend("v1", ("run/w/1.sock",)),), policies=(OLD,)
)
NOW = replace(
    ONE,
    traffic=single("v2"),
    backends=(Backend("v2", ("run/w/2.sock",)),),
    policies=(NEW,),
    max_request_bytes=5,
)
OVER = ManagedService("shop", (), 10_000, front=Front("v1", "/shop", serves="one"))
OUTER = ManagedService(
    "bank", (), 10_000, front=Front("v1", "/bank", external=External((Upstream("https://bank.example.com"),)))
)


def pinned(
    kept: tuple[ManagedService, ...], wanted: tuple[ManagedService, ...], *known: str
) -> list[ManagedService]:
    pin = Pin(1, "", "", 0.0, frozenset(known))
    return pinned_services(pin, GatewayPolicy(tuple(map(plain, kept))), wanted)


def test_what_becomes_of_requests_is_the_versions_and_who_answers_is_the_presents() -> None:
    (got,) = pinned((ONE,), (NOW,), "one")
    assert (got.policies, got.max_request_bytes) == ((OLD,), 10_000)
    assert (got.traffic, got.backends) == (NOW.traffic, NOW.backends)


def test_what_is_stopped_stays_stopped() -> None:
    (got,) = pinned((ONE,), (replace(NOW, stopped="disabled"),), "one")
    assert got.stopped == "disabled"


def test_what_ends_by_now_ends_for_who_comes_after_it() -> None:
    ends = Notice(1.0, 2.0)
    for one in (ONE, OVER, OUTER):
        (*_, got) = pinned((ONE, one), (NOW, replace(one, notice=ends)), "one", one.path)
        assert got.notice == ends, one.path


def test_what_is_new_waits_and_what_runs_no_more_is_away() -> None:
    new = replace(NOW, name="new")
    assert [one.name for one in pinned((ONE,), (NOW, new), "one")] == ["one"]
    assert pinned((ONE,), (new,)) == []


def test_an_api_leads_again_to_what_answered_it() -> None:
    elsewhere = replace(OVER, front=replace(OVER.front, serves="two"))  # type: ignore[type-var]
    two = replace(NOW, name="two", backends=(Backend("v2", ("run/w/3.sock",)),))
    one, over = pinned((ONE, OVER), (NOW, two, elsewhere), "one", "two", "shop@v1")
    assert over.front is not None
    assert (over.front.serves, over.backends) == ("one", NOW.backends)
    assert one.name == "one"


def of(product: str, one: ManagedService, **more: object) -> ManagedService:
    return replace(one, product=product, **more)  # type: ignore[arg-type]


def test_what_has_another_owner_by_now_is_not_opened_by_what_the_one_before_said() -> None:
    elsewhere = replace(OVER, front=replace(OVER.front, serves=""))  # type: ignore[type-var]
    a, b = of("a", ONE), of("b", NOW)
    assert pinned((a, of("a", OVER)), (b, of("a", elsewhere)), "one", "shop@v1") == [b, of("a", elsewhere)]
    assert pinned((of("a", OVER),), (b,)) == []
    assert pinned((OVER,), (b,)) == []  # whose it was nobody knows
    # the name of the API is another owner's, who may not lead to what was the first one's
    foreign = of("b", OUTER, name="shop", front=replace(OUTER.front, path="/shop"))  # type: ignore[type-var]
    assert pinned((of("a", OVER),), (of("a", NOW), foreign)) == [foreign]
    assert pinned((of("a", OUTER),), (of("b", OUTER),)) == [of("b", OUTER)]


def test_what_was_bound_over_products_and_is_so_still_comes_back() -> None:
    (got,) = pinned((of("a", OVER, policies=(OLD,)),), (of("b", NOW), of("a", OVER)))
    assert (got.policies, got.backends) == ((OLD,), NOW.backends)
    (got,) = pinned((of("a", OVER),), (of("a", NOW),))  # lost, and of one product
    assert got.backends == NOW.backends


def test_an_api_that_was_lost_before_the_rollback_comes_back_and_one_removed_since_stays_away() -> None:
    assert [one.name for one in pinned((OUTER,), ())] == ["bank"]
    assert pinned((OUTER,), (), "bank@v1") == []
    assert [one.name for one in pinned((ONE, OVER), (NOW,), "one")] == ["one", "shop"]
    assert pinned((OVER,), ()) == []  # nothing could answer


def test_who_may_call_is_as_it_is_now_with_the_limits_of_before() -> None:
    limit, other = RateLimit.parse("5/1s"), RateLimit.parse("1/1h")
    ann, bob, eve = (Client(name, hash_secret(f"{n}" * 40)) for n, name in enumerate(("ann", "bob", "eve")))
    kept = GatewayPolicy(
        (ONE,), (ann, bob), (Contract("ann", "one", limit, tier="gold"), Contract("bob", "one", limit))
    )
    rotated = replace(ann, secret_hash=hash_secret("9" * 40))
    present = GatewayPolicy(
        (ONE,),
        (rotated, eve),
        (Contract("ann", "one", other), Contract("eve", "one", other)),
        is_guarded=True,
    )
    got = pinned_policy(kept, present)
    assert got.clients == (rotated, eve)  # bob was revoked
    assert got.contracts == (Contract("ann", "one", limit, tier="gold"), Contract("eve", "one", other))
    assert got.is_guarded


def test_it_holds_until_it_is_taken_back(database: Database, tmp_path: Path) -> None:
    assert pin_of(database) is None
    with pytest.raises(Conflict, match="pinned to no version"):
        take_back(database)
    put(database, 3, ["one"], reason="orders are refused", by="ann")
    put(database, 2, ["two"], by="bob")  # further back
    found = pin_of(database)
    assert found is not None
    assert (found.version, found.by, found.known) == (2, "bob", {"two"})
    assert take_back(database, by="ann").version == 2
    assert pin_of(database) is None


def test_it_is_told_to_whoever_opens_no_database(tmp_path: Path) -> None:
    settings, pin = Settings(folder=tmp_path), Pin(3, "orders are refused", "ann", 1000.0)
    assert told(settings) is None
    tell(settings, pin)
    assert told(settings) == pin
    assert pin.sentence == (
        "the gateway was rolled back to version 3 by ann: orders are refused; nothing newer is in force"
    )
    tell(settings, None)
    tell(settings, None)
    assert told(settings) is None
