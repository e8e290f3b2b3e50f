"""What can be done with contracts: asking, deciding, ending. One small state machine (`STEPS`).

Every step and the event that tells of it are one transaction. Knows nothing of people's rights, nothing of Envoy, and
not which APIs and products there are.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import Connection, func, insert, or_, select, update

from tulle import events
from tulle.errors import AlreadyExists, Conflict, Invalid
from tulle.events import Event
from tulle.gateway import offer
from tulle.gateway.contract_record import ContractRecord, Kind, Place, State, get_in, of_client
from tulle.gateway.secret import check_end
from tulle.spec.rate_limit import RateLimit
from tulle.spec.tier import Offer, Terms, Tier
from tulle.state import log
from tulle.state.db import Database, in_turn, now
from tulle.state.tables import accepted_terms
from tulle.state.tables import contracts as table

Step = Literal["approve", "reject", "revoke", "restore", "expire", "delete", "change"]

# From which states a step leads, and to which one; None: the state stays.
STEPS: Final[Mapping[Step, tuple[frozenset[State], State | None]]] = {
    "approve": (frozenset({"pending"}), "approved"),
    "reject": (frozenset({"pending"}), "rejected"),
    "revoke": (frozenset({"approved"}), "revoked"),
    "restore": (frozenset({"revoked", "expired"}), "approved"),
    "expire": (frozenset({"approved"}), "expired"),
    "delete": (frozenset({"pending", "approved", "rejected", "revoked", "expired"}), "deleted"),
    "change": (frozenset({"approved"}), None),
}
_OPEN: Final = ("pending", "approved")
_TOLD: Final[Mapping[Step, str]] = {
    "approve": events.CONTRACT_APPROVED,
    "reject": events.CONTRACT_REJECTED,
    "revoke": events.CONTRACT_REVOKED,
    "restore": events.CONTRACT_RESTORED,
    "expire": events.CONTRACT_EXPIRED,
    "delete": events.CONTRACT_DELETED,
    "change": events.CONTRACT_CHANGED,
}
LONGEST_TEXT: Final = 2000  # of a purpose or a reason
MOST_OPEN: Final = 1000  # requests and contracts of one application
NOTICE_SECONDS: Final = 7 * 86_400.0  # before the end, people are told


@dataclass(frozen=True, slots=True)
class Decision:
    """What somebody decides beside the step itself; None leaves it as it is."""

    tier: Tier | None = None
    limits: tuple[RateLimit, ...] | None = None  # instead of a tier's
    reason: str = ""
    until: float | None = None
    no_end: bool = False


# ── asking and deciding ──────────────────────────────────────────────────────────────────────────────────


def ask(
    database: Database,
    client_id: str,
    place: Place,
    tier: Tier,
    *,
    purpose: str = "",
    terms: Terms | None = None,
    by: str = "",
) -> ContractRecord:
    """Ask for access under a tier; approved at once where its approval is automatic and nothing speaks against it.

    `terms` are those that who asks has accepted. What was revoked before is not had again by asking: a person decides.
    AlreadyExists while the same is pending or in force.
    """
    _check_text("purpose", purpose)
    at = now()
    with database.write() as cx:
        in_turn(cx, f"contracts of {client_id}")
        known = of_client(cx, client_id)
        mine = [one for one in known if one.place == place]
        for one in mine:
            if one.state == "pending" or one.in_force(at):
                what = "waits for its approval" if one.state == "pending" else "is in force"
                raise AlreadyExists(
                    f"'{one.application}' has asked for {place} already: {one.id} {what}",
                    hint="`tulle app limits` changes that one, `tulle app delete` gives it up",
                )
        _refuse_many(cx, client_id)
        if terms is not None:
            _keep_terms(cx, terms)
        id_ = f"c-{secrets.token_hex(8)}"
        cx.execute(
            insert(table).values(
                id=id_,
                client_id=client_id,
                **_placed(place),
                tier=tier.name,
                limits=[str(limit) for limit in tier.limits],
                purpose=purpose,
                state="pending",
                requested_by=by,
                requested_at=at,
                terms_version=terms.version if terms else "",
                terms_digest=terms.digest if terms else "",
                terms_by=by if terms else "",
                terms_at=at if terms else None,
                changed_at=at,
            )
        )
        record = get_in(cx, id_)
        _tell(cx, events.CONTRACT_REQUESTED, record, {"purpose": purpose}, by)
        # In whichever environment: what was taken away there is not to be had by asking for it here.
        of_the_same = (
            one for one in known if (one.place.kind, one.place.subject) == (place.kind, place.subject)
        )
        if tier.approval == "automatic" and not any(one.state == "revoked" for one in of_the_same):
            record = _do(cx, record, "approve", Decision(tier=tier, reason="automatically"), "", at)
    return record


def take(
    database: Database, id_: str, step: Step, *, decision: Decision = Decision(), by: str = ""
) -> ContractRecord:
    """Take one step with a contract. NotFound; Conflict where the step does not lead on from its state."""
    _check_text("reason", decision.reason)
    at = now()
    if decision.until is not None:
        check_end(
            decision.until, at, past="the contract would have ended by now: revoke it instead", what="it"
        )
    with database.write() as cx:
        record = get_in(cx, id_)
        in_turn(cx, f"contracts of {record.client_id}")
        record = get_in(cx, id_)
        if step in {"approve", "restore"}:
            rivals = [
                one
                for one in of_client(cx, record.client_id)
                if one.place == record.place and one.id != id_ and one.in_force(at)
            ]
            if rivals:
                raise Conflict(
                    f"'{record.application}' has {rivals[0].id} for {record.place}, which is in force",
                    hint="change or delete that one",
                )
        return _do(cx, record, step, decision, by, at)


def _do(
    cx: Connection, record: ContractRecord, step: Step, decision: Decision, by: str, at: float
) -> ContractRecord:
    before, after = STEPS[step]
    if record.state not in before:
        able = [name for name, (sources, _) in STEPS.items() if record.state in sources and name != "expire"]
        hint = f"what can be done: {', '.join(able)}" if able else "ask anew"
        raise Conflict(
            f"contract {record.id} of '{record.application}' for {record.place} is {record.state}: "
            f"it cannot be {_PAST[step]}",
            hint=hint,
        )
    values: dict[str, Any] = {"changed_at": at}
    if after is not None:
        values["state"] = after
    if decision.limits is not None:
        values |= {"tier": "", "limits": [str(limit) for limit in decision.limits]}
    elif decision.tier is not None:
        values |= {"tier": decision.tier.name, "limits": [str(limit) for limit in decision.tier.limits]}
    if step != "expire":
        values |= {"decided_by": by, "decided_at": at, "reason": decision.reason}
    if step in {"approve", "restore"}:
        lasts = decision.tier.seconds if decision.tier is not None else None
        values |= {"since": at, "until": at + lasts if lasts else None}
        if step == "restore" and record.until is not None and record.until > at:
            values["until"] = record.until
    if decision.until is not None or decision.no_end:
        values["until"] = decision.until
    cx.execute(update(table).where(table.c.id == record.id).values(**values))
    made = get_in(cx, record.id)
    told = {"before": record.words, "after": made.words if made.state == "approved" else None}
    _tell(cx, _TOLD[step], made, {**told, "reason": decision.reason}, by)
    return made


_PAST: Final[Mapping[Step, str]] = {
    "approve": "approved",
    "reject": "rejected",
    "revoke": "revoked",
    "restore": "restored",
    "expire": "expired",
    "delete": "deleted",
    "change": "changed",
}


def accept(database: Database, id_: str, terms: Terms, *, by: str = "") -> ContractRecord:
    """Note that the applicant accepts another text of the terms. Conflict for a contract that is over."""
    at = now()
    with database.write() as cx:
        record = get_in(cx, id_)
        if record.state not in _OPEN:
            raise Conflict(f"contract {id_} is {record.state}: there is nothing to accept", hint="ask anew")
        _keep_terms(cx, terms)
        values = {
            "terms_version": terms.version,
            "terms_digest": terms.digest,
            "terms_by": by,
            "terms_at": at,
        }
        cx.execute(update(table).where(table.c.id == id_).values(**values, changed_at=at))
        made = get_in(cx, id_)
        _tell(cx, events.TERMS_ACCEPTED, made, {"version": terms.version, "digest": terms.digest}, by)
    return made


def agree_in(
    cx: Connection, client_id: str, place: Place, limits: Sequence[RateLimit], *, by: str = ""
) -> ContractRecord:
    """Give access that nobody asked for, with limits of its own, or change the limits of what is in force."""
    at = now()
    in_turn(cx, f"contracts of {client_id}")
    current = [one for one in of_client(cx, client_id) if one.place == place and one.in_force(at)]
    if current:
        if current[0].is_own and current[0].limits == tuple(limits):
            return current[0]
        return _do(cx, current[0], "change", Decision(limits=tuple(limits)), by, at)
    _refuse_many(cx, client_id)
    id_ = f"c-{secrets.token_hex(8)}"
    cx.execute(
        insert(table).values(
            id=id_,
            client_id=client_id,
            **_placed(place),
            limits=[str(limit) for limit in limits],
            state="approved",
            requested_by=by,
            requested_at=at,
            decided_by=by,
            decided_at=at,
            since=at,
            changed_at=at,
        )
    )
    made = get_in(cx, id_)
    _tell(cx, events.CONTRACT_CHANGED, made, {"before": None, "after": made.words}, by)
    return made


def end_all(cx: Connection, client_id: str, *, reason: str, by: str = "") -> None:
    """Delete whatever an application has or waits for, in the transaction of `cx`."""
    at = now()
    for one in of_client(cx, client_id):
        if one.state in _OPEN:
            _do(cx, one, "delete", Decision(reason=reason), by, at)


def record_offer(
    cx: Connection, api: str, wanted: Offer, *, product: str = "", version: str = "", actor: str = ""
) -> bool:
    """Record what an API offers, in the transaction of `cx`; whether it is another than before.

    Whoever has a contract under a tier that is taken out keeps the limits that it had last.
    """
    # Those with tiers of their own are asked for only where what all others have changes.
    known = offer.offers(cx, None if api == offer.MESH else [api])
    names = {tier.name for tier in wanted.tiers}
    own = [name for name, one in known.items() if name and one.tiers]
    for tier in known.get(api, Offer()).tiers:
        if tier.name not in names:
            under = (table.c.tier == tier.name) & table.c.state.in_(("pending", "approved", "revoked"))
            of_it = (
                table.c.subject == api if api else (table.c.kind == "product") | table.c.subject.not_in(own)
            )
            limits = [str(limit) for limit in tier.limits]
            cx.execute(update(table).where(under, of_it).values(limits=limits))
    return offer.record(cx, api, wanted, product=product, version=version, actor=actor)


def end_for(database: Database, kind: Kind, subjects: Sequence[str], *, reason: str, by: str = "") -> None:
    """Delete whatever applications have, or wait for, at APIs or products that are no longer there."""
    mine = (table.c.kind == kind) & table.c.subject.in_(subjects) & table.c.state.in_(_OPEN)
    with database.read() as cx:
        found = cx.execute(select(table.c.id).where(mine)).scalars().all()
    for id_ in found:
        with database.write() as cx:
            record = get_in(cx, id_)
            if record.state in _OPEN:
                _do(cx, record, "delete", Decision(reason=reason), by, now())


# ── ends ─────────────────────────────────────────────────────────────────────────────────────────────────


def keep(database: Database) -> int:
    """Say of contracts that have ended that they have, and tell once of those that end soon; how many there were."""
    at = now()
    soon = (table.c.state == "approved") & (table.c.until < at + NOTICE_SECONDS)
    untold = or_(table.c.told_until.is_(None), table.c.told_until != table.c.until)
    with database.read() as cx:
        found = cx.execute(select(table.c.id).where(soon & (untold | (table.c.until <= at)))).scalars().all()
    for id_ in found:
        with database.write() as cx:
            record = get_in(cx, id_)
            if record.state != "approved" or record.until is None:
                continue
            if record.until <= at:
                _do(cx, record, "expire", Decision(), "", at)
            else:
                cx.execute(update(table).where(table.c.id == id_).values(told_until=record.until))
                _tell(cx, events.CONTRACT_EXPIRING, record, {}, "")
    return len(found)


def _placed(place: Place) -> dict[str, Any]:
    return {
        "kind": place.kind,
        "subject": place.subject,
        "version": place.version,
        "environment": place.environment,
    }


def _refuse_many(cx: Connection, client_id: str) -> None:
    mine = (table.c.client_id == client_id) & table.c.state.in_(_OPEN)
    if int(cx.execute(select(func.count()).where(mine)).scalar() or 0) >= MOST_OPEN:
        raise Conflict(
            f"the application has {MOST_OPEN} contracts and requests", hint="delete those nobody uses"
        )


def _keep_terms(cx: Connection, terms: Terms) -> None:
    in_turn(cx, "accepted terms")
    known = select(accepted_terms.c.digest).where(accepted_terms.c.digest == terms.digest)
    if cx.execute(known).first() is None:
        cx.execute(insert(accepted_terms).values(digest=terms.digest, version=terms.version, text=terms.text))


def _check_text(what: str, text: str) -> None:
    if len(text) > LONGEST_TEXT:
        raise Invalid(f"the {what} is longer than {LONGEST_TEXT} characters")
    if "\0" in text:
        raise Invalid(f"the {what} has a character that is no text")


def _tell(cx: Connection, kind: str, record: ContractRecord, more: Mapping[str, Any], by: str) -> None:
    data = {
        "contract": record.id,
        "client_id": record.client_id,
        "application": record.application,
        "kind": record.place.kind,
        "service" if record.place.kind == "api" else "product": record.place.subject,
        "version": record.place.version,
        "environment": record.place.environment,
        "tier": record.tier,
        "state": record.state,
        "until": record.until,
        **more,
    }
    log.append(cx, Event(kind, f"application:{record.application}", data), actor=by)
