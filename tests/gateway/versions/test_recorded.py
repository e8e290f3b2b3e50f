"""The versions of the gateway's policy: kept once, read back, thinned; no secret is in them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import func, select

from tulle.errors import Broken, NotFound
from tulle.events import CONTRACT_APPROVED, RUN_FINISHED, Event
from tulle.gateway.policies.entry import Policy
from tulle.gateway.policy import Backend, Client, Contract, GatewayPolicy, ManagedService, RateLimit
from tulle.gateway.secret import hash_secret
from tulle.gateway.versions import recorded
from tulle.gateway.versions.recorded import (
    CAUSES,
    Versions,
    plain,
    policy_of_version,
    surplus,
    version,
    versions,
)
from tulle.serving.traffic import single
from tulle.state import log
from tulle.state.db import Database
from tulle.state.tables import gateway_parts, gateway_versions

DATABASES = ("sqlite", "postgres")


def a_policy(services: int = 2, clients: int = 2, **more: object) -> GatewayPolicy:
    return GatewayPolicy.of(
        services=[ManagedService(f"s{n}", (f"run/w/s{n}.sock",), 10_000 + n) for n in range(services)],
        clients=[Client(f"app-{n}", hash_secret(f"{n:040}")) for n in range(clients)],
        contracts=[Contract(f"app-{n}", "s0", RateLimit.parse("5/1s")) for n in range(clients)],
    )


def parts(database: Database) -> int:
    with database.read() as cx:
        return int(cx.execute(select(func.count()).select_from(gateway_parts)).scalar_one())


def test_what_was_published_is_kept_once_and_read_back(database: Database) -> None:
    keeper, policy = Versions(database), a_policy()
    made = keeper.note(policy)
    assert made is not None
    assert (made.number, made.services, made.clients, made.contracts) == (1, 2, 2, 2)
    assert keeper.note(policy) is None
    assert Versions(database).note(a_policy()) is None  # another process, and equal values
    kept = policy_of_version(database, 1)
    assert kept.services == tuple(map(plain, policy.services))
    assert (kept.clients, kept.contracts) == (policy.clients, policy.contracts)
    assert version(database) == version(database, 1) == made


def test_where_workers_listen_and_who_is_leaving_makes_no_version(database: Database) -> None:
    one = ManagedService(
        "one",
        (),
        10_000,
        traffic=single("v2"),
        backends=(Backend("v2", ("run/w/a.sock",)),),
        identity="spiffe://x/s",
    )
    keeper = Versions(database)
    keeper.note(GatewayPolicy((one,)))
    leaving = replace(one, backends=(*one.backends, Backend("v1", ("run/w/b.sock",))), identity="")
    assert keeper.note(GatewayPolicy((leaving,), is_guarded=True, is_alive=False)) is None
    other = replace(one, policies=(Policy("ip-deny", {"addresses": ["192.0.2.1"]}),))
    assert keeper.note(GatewayPolicy((other,))) is not None


def test_a_change_among_many_keeps_little(database: Database) -> None:
    keeper, policy = Versions(database), a_policy(300, 2000)
    keeper.note(policy)
    before = parts(database)
    changed = replace(policy.services[7], max_request_bytes=5)
    keeper.note(replace(policy, services=(*policy.services[:7], changed, *policy.services[8:])))
    assert parts(database) == before + 1
    keeper.note(replace(policy, clients=policy.clients[:-1]))
    assert parts(database) == before + 2  # the share that it was in
    assert len(policy_of_version(database, 3).clients) == 1999
    with database.read() as cx:
        sizes = cx.execute(select(func.length(gateway_versions.c.parts))).scalars().all()
    assert max(sizes) < 8_000
    keeper.note(policy)  # as it was: all of it is there
    assert parts(database) == before + 2
    assert policy_of_version(database, 4) == policy_of_version(database, 1)


def test_what_happens_after_the_policy_was_read_is_a_cause_of_the_next_one(database: Database) -> None:
    keeper = Versions(database)
    with database.write() as cx:
        log.append(cx, Event(CONTRACT_APPROVED, "shop for s0"), actor="ann")
    with database.read() as cx:
        read_at = log.newest(cx)
    with database.write() as cx:  # while it is on its way to Envoy
        log.append(cx, Event(CONTRACT_APPROVED, "desk for s0"), actor="bob")
    first, second = keeper.note(a_policy(), read_at), keeper.note(a_policy(3))
    assert first is not None
    assert second is not None
    assert [(one.subject, one.actor) for one in first.causes] == [("shop for s0", "ann")]
    assert [(one.subject, one.actor) for one in second.causes] == [("desk for s0", "bob")]


def test_it_says_what_came_before_it(database: Database) -> None:
    keeper = Versions(database)
    with database.write() as cx:
        log.append(cx, Event(RUN_FINISHED, "orders"))
        log.append(cx, Event(CONTRACT_APPROVED, "shop for s0"), actor="ann")
    made = keeper.note(a_policy())
    assert made is not None
    assert [(one.kind, one.subject, one.actor) for one in made.causes] == [
        ("contract.approved", "shop for s0", "ann")
    ]
    assert (made.by, made.reason) == ("ann", "contract.approved shop for s0")
    later = keeper.note(a_policy(3))
    assert later is not None
    assert (later.causes, later.reason) == ((), "settings of the mesh, or another Tulle")
    last = version(database)
    keeper.note(a_policy(4), 0)  # an end that lies before the last version's takes nothing back
    with database.read() as cx:
        told = cx.execute(
            select(gateway_versions.c.event_id).order_by(gateway_versions.c.number.desc()).limit(2)
        ).scalars()
        assert len(set(told)) == 1
    assert last.number + 1 == version(database).number
    assert {"contract.approved", "gateway.pinned", "api.changed", "product.applied"} <= set(CAUSES)


def test_old_ones_are_thinned_and_their_parts_with_them(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded, "KEPT", 3)
    monkeypatch.setattr(recorded, "_SPARE", 4)
    keeper, policy = Versions(database), a_policy(1, 1)
    (one,) = policy.services
    for n in range(7):
        keeper.note(replace(policy, services=(replace(one, max_request_bytes=n + 1),)))
    # the newest three, and the last of the day before those, which is today's last
    assert [found.number for found in versions(database)] == [7, 6, 5]
    assert (
        parts(database) == 3 + len({*policy.clients}) * 2 + 1
    )  # a service each; a share each; and the empty one
    with pytest.raises(NotFound, match="no version 1 of the gateway"):
        policy_of_version(database, 1)


def test_of_older_days_the_last_one_is_kept() -> None:
    day = 86_400.0
    known = [(n, 1000 * day + (n // 2) * day / 2) for n in range(400, 0, -1)]
    gone = set(surplus(known, {2}, known[0][1]))
    kept = [number for number, _ in known if number not in gone]
    assert kept[:100] == list(range(400, 300, -1))
    assert 2 in kept  # pinned
    older = [number for number in kept[100:] if number != 2]
    assert older == list(range(299, 42, -4))
    assert surplus([], set(), 0.0) == []


def test_a_part_that_is_lost_is_told(database: Database) -> None:
    Versions(database).note(a_policy())
    with database.write() as cx:
        cx.execute(gateway_parts.delete())
    with pytest.raises(Broken, match="version 1 of the gateway cannot be read"):
        policy_of_version(database, 1)


def test_no_secret_is_in_it(database: Database) -> None:
    Versions(database).note(a_policy())
    with database.read() as cx:
        told = repr(cx.execute(select(gateway_parts)).all()) + repr(policy_of_version(database, 1))
    assert f"{0:040}" not in told
    assert hash_secret(f"{0:040}") in told
