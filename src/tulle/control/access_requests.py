"""Asking for access to an API or a product, and deciding about it: who may, under which tier, on which terms.

Who owns the application asks; who may change what the product publishes decides. With the mesh's token (no user) one
may do both. Knows nothing of HTTP; what becomes of a contract is in `gateway.contract_step`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tulle.catalog.uses import owners
from tulle.control import api_lives, apis, applications, deployment, release
from tulle.control.offers import offered
from tulle.control.service_access import moment_of
from tulle.control.workspace import Workspace
from tulle.errors import Conflict, Denied, Invalid, NotFound, PreconditionFailed, did_you_mean
from tulle.gateway import applications as registered
from tulle.gateway import contract_record, contract_step, offer
from tulle.gateway.apis import records
from tulle.gateway.apis.sight import Sight
from tulle.gateway.contract_record import STATES, Concerning, ContractRecord, Kind, Moment, Place, State
from tulle.gateway.contract_step import Decision, Step
from tulle.gateway.offer import MESH
from tulle.lake.access import Access
from tulle.spec.environment import production
from tulle.spec.tier import Offer, Tier, parse_limits
from tulle.state import products
from tulle.state.db import now

MOST_SHOWN: Final = 1000
_BY_OWNERS: Final = ("approve", "reject", "revoke", "restore", "change")
_NEVER: Final = "never"


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for; `terms` is the version that who asks accepts, empty for none."""

    application: str
    subject: str
    kind: Kind = "api"
    tier: str = ""
    purpose: str = ""
    terms: str = ""
    environment: str | None = None
    version: str = ""


@dataclass(frozen=True, slots=True)
class Said:
    """What comes with a decision: another tier, limits of its own, a reason, an end (a time, 90d, or never)."""

    tier: str = ""
    limits: str = ""
    reason: str = ""
    expires: str = ""


def offer_for(workspace: Workspace, kind: Kind, subject: str) -> Offer:
    """The tiers and terms of an API or a product that is there. NotFound."""
    if kind == "product":
        products.applied_product(workspace.database, subject)
        return offered(workspace, MESH)
    apis.product_of(workspace, subject)
    return offered(workspace, subject)


def demand_seen(workspace: Workspace, access: Access, place: Place, user: str | None) -> None:
    """Refuse an API that is hidden from who asks. NotFound, the same where there is none."""
    if place.kind == "api":
        Sight(workspace.database, access).demand(user, place.subject)


def ask(
    workspace: Workspace, access: Access, asked: Asked, *, by: str = "", user: str | None = None
) -> ContractRecord:
    """Ask for access under a tier.

    NotFound for an application, API or tier that is not there, or an API that is hidden from a user; Invalid without a
    purpose, PreconditionFailed with the terms where they are not accepted.
    """
    application = applications.one(workspace, asked.application, user=user)
    demand_seen(workspace, access, Place(asked.kind, asked.subject), user)
    offer = offer_for(workspace, asked.kind, asked.subject)
    if asked.kind == "api":
        api_lives.demand_open(workspace, asked.subject, _place(workspace, asked.environment))
    tier = _asked_tier(offer, asked)
    if not asked.purpose.strip():
        raise Invalid("what the access is for is not said", hint="--purpose, in a sentence")
    if offer.terms is not None and asked.terms != offer.terms.version:
        said = f"version {asked.terms} is not the one" if asked.terms else "they were not accepted"
        raise PreconditionFailed(
            f"'{asked.subject}' has terms, version {offer.terms.version}: {said}",
            hint=f"read them (`tulle app tiers {asked.subject}`) and accept: --accept-terms {offer.terms.version}",
        )
    if asked.version:
        raise Invalid(
            f"a contract is for all of {asked.kind} '{asked.subject}'", hint="leave the version out"
        )
    place = Place(asked.kind, asked.subject, asked.version, _place(workspace, asked.environment))
    applications.demand_pace(workspace, user)
    return contract_step.ask(
        workspace.database,
        application.client_id,
        place,
        tier,
        purpose=asked.purpose.strip(),
        terms=offer.terms,
        by=by,
    )


def _asked_tier(offer: Offer, asked: Asked) -> Tier:
    open_ones = [tier for tier in offer.tiers if tier.visibility == "public" and not tier.deprecated]
    if not asked.tier:
        if len(open_ones) == 1:
            return open_ones[0]
        names = ", ".join(f"{tier.name} ({tier.words})" for tier in open_ones)
        raise Invalid(
            f"which tier of '{asked.subject}' is not said", hint=f"one of {names}" if names else "it has none"
        )
    tier = next((one for one in offer.tiers if one.name == asked.tier), None)
    # Of a private tier nobody is told but by its owners.
    if tier is None or tier.visibility == "private":
        raise NotFound(
            f"'{asked.subject}' offers no tier '{asked.tier}'",
            hint=did_you_mean(asked.tier, [one.name for one in open_ones]),
        )
    if tier.deprecated:
        raise Conflict(
            f"tier '{tier.name}' of '{asked.subject}' is deprecated, and given to nobody new",
            hint="known: " + ", ".join(one.name for one in open_ones),
        )
    return tier


def _place(workspace: Workspace, environment: str | None) -> str | None:
    return None if environment is None else deployment.place_of(workspace.settings, environment)


# ── deciding ─────────────────────────────────────────────────────────────────────────────────────────────


def decide(
    workspace: Workspace,
    access: Access,
    id_: str,
    step: Step,
    said: Said = Said(),
    *,
    by: str = "",
    user: str | None = None,
) -> ContractRecord:
    """Take a step with a contract: approve, reject, revoke, restore, change or delete.

    Denied for who may not; Conflict where the step does not follow from its state, what it is for takes nobody new any
    more, or the terms are others by now.
    """
    record = contract_record.get(workspace.database, id_)
    _demand_may(workspace, access, record, step, user)
    if step == "reject" and not said.reason.strip():
        raise Invalid("why the request is rejected is not said", hint="--reason, which the applicant reads")
    tier: Tier | None = None
    if step in {"approve", "restore", "change"} and not said.limits:
        tier = _tier_given(workspace, record, said.tier, step)
    if step in {"approve", "restore"}:
        if record.place.kind == "api":
            api_lives.demand_open(workspace, record.place.subject, record.place.environment)
        _demand_terms(workspace, record)
    until = moment_of(said.expires) if said.expires and said.expires != _NEVER else None
    if step == "change" and not (said.tier or said.limits or said.expires):
        raise Invalid("what is to be another is not said", hint="--tier, --limits or --expires")
    decision = Decision(
        tier=tier,
        limits=parse_limits(said.limits) if said.limits else None,
        reason=said.reason.strip(),
        until=until,
        no_end=said.expires == _NEVER,
    )
    if step not in _BY_OWNERS:
        applications.demand_pace(workspace, user)
    return contract_step.take(workspace.database, id_, step, decision=decision, by=by)


def accept_terms(
    workspace: Workspace, id_: str, version: str, *, by: str = "", user: str | None = None
) -> ContractRecord:
    """Accept the terms of a contract's API as they are now. Conflict for another version than that."""
    record = contract_record.get(workspace.database, id_)
    applications.one(workspace, record.client_id, user=user)
    terms = offer_for(workspace, record.place.kind, record.place.subject).terms
    if terms is None:
        raise Conflict(f"{record.place} has no terms", hint="there is nothing to accept")
    if terms.version != version:
        raise Conflict(
            f"the terms of {record.place} are version {terms.version}, not {version}",
            hint=f"read them: `tulle app tiers {record.place.subject}`",
        )
    return contract_step.accept(workspace.database, id_, terms, by=by)


def accepted_terms(
    workspace: Workspace, access: Access, id_: str, *, user: str | None = None
) -> dict[str, Any]:
    """The text of the terms that was accepted last for a contract, word for word, by whom and when.

    For whoever sees the contract. NotFound where none was accepted.
    """
    record = seen(workspace, access, id_, user=user)
    terms = contract_record.terms_of(workspace.database, record.terms_digest)
    if terms is None:
        raise NotFound(
            f"no terms were accepted for contract {record.id}",
            hint=f"`tulle app tiers {record.place.subject}` shows those of now, if there are any",
        )
    return {
        "contract": record.id,
        record.place.kind: record.place.subject,
        "version": terms.version,
        "text": terms.text,
        "digest": terms.digest,
        "accepted_by": record.terms_by or None,
        "accepted_at": record.terms_at,
    }


def may_decide(workspace: Workspace, access: Access, place: Place, user: str | None) -> bool:
    """Whether who asks may decide about a contract: who may change what its product publishes."""
    if user is None:
        return True
    product = _product_of(workspace, place)
    if product is None:
        return False
    resource = access.resource_branch(product, production(workspace.settings).branch)
    return access.decide(user, "fs:CreateCommit", resource).allowed


def _demand_may(
    workspace: Workspace, access: Access, record: ContractRecord, step: Step | None, user: str | None
) -> None:
    """Refuse who may not take a step; None: only see it."""
    if user is None:
        return
    owns = user in _owners(workspace, record)
    decides = may_decide(workspace, access, record.place, user)
    if not owns and not decides:  # of what is not one's own matter one is told nothing
        raise NotFound(f"there is no contract '{record.id}'", hint="`tulle app requests` shows yours")
    # Without what was revoked, asking again would be a request like any other.
    is_kept = step == "delete" and record.state == "revoked"
    if (step in _BY_OWNERS or is_kept) and not decides:
        raise Denied(
            f"user '{user}' may not {step} a contract for {record.place}",
            hint="who may change what its product publishes decides",
        )


def _owners(workspace: Workspace, record: ContractRecord) -> tuple[str, ...]:
    try:
        return applications.one(workspace, record.client_id).about.owners
    except NotFound:
        return ()


def _product_of(workspace: Workspace, place: Place) -> str | None:
    if place.kind == "product":
        return place.subject
    try:
        return apis.product_of(workspace, place.subject)
    except NotFound:
        return None


def _tier_given(workspace: Workspace, record: ContractRecord, name: str, step: Step) -> Tier | None:
    """The tier that holds from now on; None where it stays as it is, or has limits of its own."""
    wanted = name or ("" if step == "change" else record.tier)
    if not wanted:
        return None
    tiers = offer_for(workspace, record.place.kind, record.place.subject).tiers
    found = next((tier for tier in tiers if tier.name == wanted), None)
    if found is None:
        raise Conflict(
            f"{record.place} has no tier '{wanted}'",
            hint=did_you_mean(wanted, [tier.name for tier in tiers]) or "give another one: --tier",
        )
    if found.deprecated and wanted != record.tier:
        raise Conflict(f"tier '{wanted}' is deprecated, and given to nobody new", hint="give another one")
    return found


def _demand_terms(workspace: Workspace, record: ContractRecord) -> None:
    terms = offer_for(workspace, record.place.kind, record.place.subject).terms
    if terms is not None and record.terms_digest != terms.digest and record.tier:
        raise PreconditionFailed(
            f"the terms of {record.place} are version {terms.version} by now, and '{record.application}' has "
            f"accepted {f'version {record.terms_version}' if record.terms_version else 'none'}",
            hint=f"its owners accept them: `tulle app accept {record.id} {terms.version}`",
        )


def seen(workspace: Workspace, access: Access, id_: str, *, user: str | None = None) -> ContractRecord:
    """One contract, for whoever owns its application or decides about it. NotFound, also for anybody else."""
    record = contract_record.get(workspace.database, id_)
    _demand_may(workspace, access, record, None, user)
    return record


# ── looking ──────────────────────────────────────────────────────────────────────────────────────────────


def listed(
    workspace: Workspace,
    access: Access,
    *,
    states: tuple[str, ...] = (),
    application: str | None = None,
    api: str | None = None,
    product: str | None = None,
    before: Moment | None = None,
    limit: int = 100,
    user: str | None = None,
) -> tuple[ContractRecord, ...]:
    """Requests and contracts, the newest first; for a user those of their applications, and those they decide about.

    `product` counts the contracts for all its APIs as well.
    """
    for state in states:
        if state not in STATES:
            raise Invalid(f"there is no state '{state}' of a contract", hint=did_you_mean(state, STATES))
    subjects: list[tuple[Kind, str]] | None = None
    if api is not None:
        subjects = [("api", api)]
    elif product is not None:
        declared = release.declared_services(workspace)
        offers = {name for name, one in declared.items() if one.product.name == product}
        offers |= records.of_product(workspace.database, product).keys()
        subjects = [("product", product), *(("api", name) for name in sorted(offers))]
    chosen: tuple[State, ...] | None = tuple(s for s in STATES if s in states) if states else None
    return contract_record.records(
        workspace.database,
        states=chosen,
        application=application,
        subjects=subjects,
        without=applications.PORTAL,
        before=before,
        concerning=None if user is None else concerning(workspace, access, user),
        limit=min(limit, MOST_SHOWN),
    )


def concerning(workspace: Workspace, access: Access, user: str) -> Concerning:
    """What a user is told of: contracts of their own applications, and those that they decide about."""
    decided: dict[str, bool] = {}

    def decides(product: str) -> bool:
        if product not in decided:
            place = Place("product", product)
            decided[product] = bool(product) and may_decide(workspace, access, place, user)
        return decided[product]

    declared = release.declared_services(workspace)  # also what was not applied yet
    product_of = {name: one.product.name for name, one in declared.items()} | dict(owners(workspace.database))
    subjects: list[tuple[Kind, str]] = [("api", name) for name, of in product_of.items() if decides(of)]
    known = {*product_of.values(), *products.versions(workspace.database)}
    subjects += [("product", name) for name in sorted(known) if decides(name)]
    mine = registered.names(workspace.database, owner=user)
    return Concerning(frozenset(mine.values()), subjects)


def all_as_plain(
    workspace: Workspace, found: Sequence[ContractRecord], used: Mapping[tuple[str, str], float]
) -> list[dict[str, Any]]:
    """Contracts as plain values, with when they were last used."""
    with workspace.database.read() as cx:
        known = offer.offers(cx, {one.place.subject for one in found})
    return [_plain(workspace, one, known, used) for one in found]


def as_plain(
    workspace: Workspace, record: ContractRecord, used: Mapping[tuple[str, str], float] | None = None
) -> dict[str, Any]:
    """A contract as plain values; `terms_outdated` says that the terms are others than those accepted."""
    (found,) = all_as_plain(workspace, [record], used or {})
    return found


def _plain(
    workspace: Workspace,
    record: ContractRecord,
    known: Mapping[str, Offer],
    used: Mapping[tuple[str, str], float],
) -> dict[str, Any]:
    place = record.place
    terms = known.get(place.subject if place.kind == "api" else MESH, Offer()).terms
    environment = (
        None if place.environment is None else deployment.name_of(workspace.settings, place.environment)
    )
    return {
        "id": record.id,
        "application": record.application,
        "client_id": record.client_id,
        "kind": place.kind,
        place.kind: place.subject,
        "version": place.version or None,
        "environment": environment,
        "tier": record.tier or None,
        "limits": [str(limit) for limit in record.limits],
        "purpose": record.purpose,
        "state": record.state,
        "in_force": record.in_force(now()),
        "requested_by": record.requested_by,
        "requested_at": record.requested_at,
        "decided_by": record.decided_by,
        "decided_at": record.decided_at,
        "reason": record.reason,
        "since": record.since,
        "until": record.until,
        "terms": record.terms_version or None,
        "terms_accepted_by": record.terms_by or None,
        "terms_accepted_at": record.terms_at,
        "terms_outdated": bool(record.tier and terms is not None and record.terms_digest != terms.digest),
        "last_used_at": used.get((record.client_id, place.subject)),
    }


def offer_as_plain(offer: Offer, *, for_owners: bool) -> dict[str, Any]:
    """What one may ask for, and on which terms; private tiers for owners alone."""
    plain = offer.as_plain()
    if not for_owners:
        plain["tiers"] = [tier for tier in plain["tiers"] if tier["visibility"] == "public"]
    return plain
