"""The ways into services and APIs that need neither a contract nor a key of theirs: who comes in by them, and why.

What holds now, where something is deployed. Knows nothing of applications, keys and roles, and not who may see it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from tulle.config import Settings
from tulle.errors import Broken, TulleError
from tulle.gateway import service_keys, service_policies
from tulle.gateway.apis import records
from tulle.gateway.apis.instance import instances
from tulle.gateway.faults import Fault, read_faults
from tulle.gateway.in_force import target_among, target_named
from tulle.gateway.policies.automated import MeshPolicies, Target
from tulle.gateway.policies.entry import Policy
from tulle.gateway.policies.kind import known_kinds
from tulle.gateway.policies.listed import policies_in, written_of
from tulle.serving import generation, package
from tulle.serving.access import Access, Tokens, access_of
from tulle.spec.environment import places, production
from tulle.spec.product import DataProduct
from tulle.state.db import Database, now

By = Literal["everybody", "tokens", "group", "directory", "others"]
_Row = tuple[By, str, str, str]  # by what, who, limits, why
_AS_BEFORE: Final = "the gateway has not taken what is wanted of it, and it answers as before"
_Faults = Mapping[tuple[str, str], Fault]  # by service or version of an API, and environment


@dataclass(frozen=True, slots=True)
class OpenWay:
    """That whoever shows this may call a service or an API in an environment; `why` is who says so, and where."""

    by: By
    who: str
    service: str
    environment: str
    limits: str
    why: str


def open_ways(
    settings: Settings,
    database: Database,
    documents: Mapping[str, DataProduct],
    only: Collection[str] | None = None,
) -> Iterator[OpenWay]:
    """All of them, or those into some services; `documents` are the products by name.

    What cannot be read is told as a way that is not known.
    """
    of_mesh = MeshPolicies(settings.policies)
    faults = {(one.service, one.environment): one for one in read_faults(settings)}
    for way in _of_services(settings, database, documents, of_mesh, faults):
        if only is None or way.service in only:
            yield way
    yield from _of_apis(settings, database, documents, of_mesh, faults, only)


def _of_services(
    settings: Settings,
    database: Database,
    documents: Mapping[str, DataProduct],
    of_mesh: MeshPolicies,
    faults: _Faults,
) -> Iterator[OpenWay]:
    with database.read() as connection:
        accesses, damaged = service_keys.readable_accesses(connection)
    lists, at = service_policies.said_at_deployment(database), now()
    for one in generation.everywhere(database):
        if one.active is None or one.has_ended(at):
            continue
        at_place = (one.service, one.environment)
        place = one.environment or production(settings).name
        try:
            manifest = package.get(database, one.service, one.active.main).manifest
            by = says = f"as version {one.active.main} says"
            access, plain = accesses.get(at_place), lists.get(at_place)
            if access is None:
                access = access_of(manifest.access)
            else:
                by = "said at its deployment"
            if plain is None:
                plain = tuple(manifest.policies)
            else:
                says = "said at its deployment"
            if at_place in damaged:
                raise Broken(damaged[at_place])
            target = target_named(one.service, place, documents.get(one.product))
            rows = tuple(_rows(of_mesh, target, access, by, plain, says))
        except TulleError as exc:
            rows = (_not_known(exc),)
        for who_by, who, limits, why in _with_fault(rows, faults.get(at_place)):
            yield OpenWay(who_by, who, one.service, place, limits, why)


def _of_apis(
    settings: Settings,
    database: Database,
    documents: Mapping[str, DataProduct],
    of_mesh: MeshPolicies,
    faults: _Faults,
    only: Collection[str] | None,
) -> Iterator[OpenWay]:
    product_of = {one.service: one.product for one in generation.everywhere(database)}
    for one in instances(records.recorded(database, only), places(settings)):
        if not one.answers or one.life.status == "retired":
            continue
        says = f"as version {one.version.version} says"
        try:
            target = target_among(one, documents, product_of)
            by = says if one.by_hand is None else "set by hand"
            rows = tuple(_rows(of_mesh, target, one.version.access, says, one.policies, by))
        except TulleError as exc:
            rows = (_not_known(exc),)
        fault = faults.get((f"{one.api.name}@{one.version.version}", one.environment))
        for who_by, who, limits, why in _with_fault(rows, fault):
            yield OpenWay(who_by, who, one.api.name, one.place, limits, why)


def _with_fault(rows: Sequence[_Row], fault: Fault | None) -> Iterator[_Row]:
    """What is wanted, and beside it what holds where the gateway has not taken that; why is its people's to know."""
    if fault is None:
        yield from rows
        return
    for by, who, limits, why in rows:
        yield by, who, limits, f"{why}; wanted, and not in force"
    if fault.is_kept:
        yield "others", "whoever was let in before", "as before", _AS_BEFORE


def _not_known(problem: TulleError) -> _Row:
    return "others", "not known", "", problem.message


def _rows(
    of_mesh: MeshPolicies,
    target: Target,
    access: Access,
    by: str,
    plain: Sequence[Mapping[str, Any]],
    says: str,
) -> Iterator[_Row]:
    """Of one place: as the policies say where they say who may call, else as `access` does."""
    known = known_kinds()
    own = policies_in(written_of(plain), target.environment)
    opening = [
        (policy, set_, found)
        for policy, set_ in of_mesh.joined_from(target, own)
        if (found := known.opening(policy.kind, policy.settings)) is not None
    ]
    if all(policy.operations for policy, _, _ in opening):  # somewhere none of them holds
        yield from _by_access(access, f"its access, {by}")
    for policy, set_, found in opening:
        where = f" for {', '.join(map(str, policy.operations))}" if policy.operations else ""
        said = f"as the mesh's set {set_} says" if set_ else says
        yield from _by_policy(policy, found, f"policy {policy.kind}{where}, {said}")


def _by_access(access: Access, why: str) -> Iterator[_Row]:
    if (public := access.public) is not None:
        each = "for each address" if public.by == "address" else "together"
        yield "everybody", "without credentials", f"{public.limit} {each}", why
    if (tokens := access.jwt) is not None:
        yield "tokens", _tokens(tokens), _limits(tokens.limit, by_contract=tokens.contract), why


def _by_policy(policy: Policy, opening: Access, why: str) -> Iterator[_Row]:
    said = policy.settings
    if opening.ways():  # contracts and keys are listed with those who have them
        yield from _by_access(opening, why)
        return
    limits = _limits(said.get("limit", ""), by_contract=bool(said.get("contract")))
    groups = said.get("groups", ())
    if policy.kind == "basic-auth":
        for group in groups:
            yield "group", group, limits, why
        if not groups:
            yield "everybody", "with a password of the mesh", limits, why
    elif policy.kind == "ldap":
        for group in groups:
            yield "directory", f"{said['connection']}, group {group}", limits, why
        if not groups:
            yield "directory", f"{said['connection']}, everybody there", limits, why
    elif policy.kind == "oauth2-introspection":
        of = f" of {said['issuer']}" if "issuer" in said else ""
        who = f"that connection {said['connection']} finds good{of}{_scopes(said.get('scopes', ()))}"
        yield "tokens", who, limits, why
    else:  # a kind that somebody added
        yield "others", f"whom {policy.kind} lets in", limits, why


def _tokens(tokens: Tokens) -> str:
    named = ", of an application with a contract" if tokens.contract else ""
    return f"of {tokens.issuer}{_scopes(tokens.scopes)}{named}"


def _scopes(scopes: Sequence[str]) -> str:
    return f" with scope {', '.join(scopes)}" if scopes else ""


def _limits(limit: str, *, by_contract: bool) -> str:
    if by_contract:
        return "of their contracts"
    return f"{limit} each" if limit else "the mesh's, each"
