"""A pin: the word that the gateway goes on as an earlier version says, until it is taken back.

What a version decides is what becomes of requests: addresses, ways in, policies, limits. The rest goes on following the
present, so that a pin opens nothing to who was shut out since: who may sign in and for what, by which secret, which
services are stopped or end, and which generations answer. Knows nothing of who publishes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Row, insert, select, update

from tulle.errors import Conflict
from tulle.events import GATEWAY_PINNED, GATEWAY_RESUMED, Event
from tulle.gateway.policy import Contract, GatewayPolicy, ManagedService
from tulle.gateway.versions.told import Pin
from tulle.state import log
from tulle.state.db import Database, in_turn, now
from tulle.state.tables import gateway_pins


def pin_of(database: Database) -> Pin | None:
    """The pin in force, if there is one."""
    with database.read() as cx:
        row = cx.execute(select(gateway_pins).where(gateway_pins.c.ended_at.is_(None))).one_or_none()
    return _pin(row) if row is not None else None


def put(database: Database, number: int, known: Collection[str], *, reason: str = "", by: str = "") -> Pin:
    """Pin the gateway to a version, also where it is pinned to another one."""
    at = now()
    with database.write() as cx:
        in_turn(cx, "gateway_pins")
        ending = update(gateway_pins).where(gateway_pins.c.ended_at.is_(None))
        cx.execute(ending.values(ended_at=at, ended_by=by))
        values = {"version": number, "reason": reason, "by": by, "at": at, "known": sorted(known)}
        cx.execute(insert(gateway_pins).values(**values))
        log.append(cx, Event(GATEWAY_PINNED, f"version {number}", {"reason": reason}), actor=by)
    return Pin(number, reason, by, at, frozenset(known))


def take_back(database: Database, *, by: str = "") -> Pin:
    """End the pin; the one there was. Conflict when there is none."""
    with database.write() as cx:
        in_turn(cx, "gateway_pins")
        row = cx.execute(select(gateway_pins).where(gateway_pins.c.ended_at.is_(None))).one_or_none()
        if row is None:
            raise Conflict(
                "the gateway is pinned to no version", hint="it follows what is applied and deployed already"
            )
        cx.execute(
            update(gateway_pins).where(gateway_pins.c.id == row.id).values(ended_at=now(), ended_by=by)
        )
        log.append(cx, Event(GATEWAY_RESUMED, f"version {row.version}"), actor=by)
    return _pin(row)


def pinned_services(pin: Pin, kept: GatewayPolicy, wanted: Sequence[ManagedService]) -> list[ManagedService]:
    """The services of a version as they can be now.

    One that was taken away since the pin stays away; so does one whose workers are no more. An API whose address was
    there leads again to what answered it, if that is of its own product by now, or the present leads it there too. What
    has a name that another product had then is as it is now, or away: its owner never agreed to what was.
    """
    present = {one.path: one for one in wanted}
    found = []
    for one in kept.services:
        same, source = present.get(one.path), present.get(one.answered_by)
        if same is None and (one.path in pin.known or one.front is None):
            continue
        if one.has_workers and source is None:
            continue
        if not _is_agreed(one, same, source):
            if same is not None:
                found.append(same)
            continue
        stopped, notice = (same.stopped, same.notice) if same is not None else (one.stopped, one.notice)
        if not one.has_workers or source is None:
            found.append(replace(one, stopped=stopped, notice=notice))
            continue
        found.append(
            replace(
                one,
                upstreams=source.upstreams,
                backends=source.backends,
                traffic=source.traffic,
                stopped=stopped,
                notice=notice,
            )
        )
    return found


def _is_agreed(one: ManagedService, same: ManagedService | None, source: ManagedService | None) -> bool:
    """Whether the owners of now are those who said how a service of a version is called, and what answers it."""
    if same is not None and one.product and same.product != one.product:
        return False
    if one.front is None or source is None:
        return True
    leads_there = same is not None and same.answered_by == one.answered_by
    return leads_there or (same or one).product == source.product


def pinned_policy(kept: GatewayPolicy, present: GatewayPolicy) -> GatewayPolicy:
    """The present policy, of which the services are the version's already, with the limits of the version.

    Who may sign in, and for what, is as it is now: whoever was revoked stays out, a new secret opens.
    """
    before = {_key(one): one for one in kept.contracts}

    def limited(one: Contract) -> Contract:
        old = before.get(_key(one))
        return one if old is None else replace(one, limit=old.limit, more=old.more, tier=old.tier)

    return replace(present, contracts=tuple(map(limited, present.contracts)))


def _key(one: Contract) -> tuple[str, str, str | None]:
    return one.client_id, one.service, one.environment


def _pin(row: Row[Any]) -> Pin:
    return Pin(row.version, row.reason, row.by, row.at, frozenset(row.known))
