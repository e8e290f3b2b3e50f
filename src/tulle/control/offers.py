"""What APIs offer, on the write side: the mesh's own tiers, and tiers that documents take out too soon.

A tier is deprecated before it is taken out, so that whoever has a contract under it hears of it. Knows nothing of who
asks for what.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from sqlalchemy import Connection

from tulle.config import Settings
from tulle.control.plan import Standing
from tulle.control.workspace import Workspace
from tulle.errors import Place, Problem
from tulle.gateway import contract_step, offer
from tulle.gateway.contract_record import records, under_mesh_tier
from tulle.spec.document import Document
from tulle.spec.tier import Offer, mesh_tiers

_MOST_NAMED = 5  # applications in one message
_DEPRECATE = "write `deprecated: true` to it first, and take it out when nobody has it any more"


def record_mesh_tiers(workspace: Workspace) -> None:
    """Note the tiers that mesh.yaml gives to all APIs that declare none. Invalid for tiers that do not hold."""
    with workspace.database.read() as cx:
        if _is_recorded(cx, workspace.settings):
            return
    with workspace.database.write() as cx:
        record_tiers_of(cx, workspace.settings)


def record_tiers_of(cx: Connection, settings: Settings, *, actor: str = "") -> None:
    """The same of settings that come, in the transaction of `cx`."""
    if not _is_recorded(cx, settings):
        contract_step.record_offer(cx, offer.MESH, _of_mesh(settings), actor=actor)


def _is_recorded(cx: Connection, settings: Settings) -> bool:
    return offer.offers(cx, ()).get(offer.MESH, Offer()) == _of_mesh(settings)


def _of_mesh(settings: Settings) -> Offer:
    return Offer(mesh_tiers(settings) if settings.tiers else ())


def mesh_tiers_taken_out(workspace: Workspace, wanted: Settings, document: Document) -> Iterator[Problem]:
    """The tiers that `document`, a mesh.yaml, has no more, were not deprecated, and have contracts under them."""
    now = {tier.name for tier in _of_mesh(wanted).tiers}
    for tier in _of_mesh(workspace.settings).tiers:
        if tier.name in now or tier.deprecated:
            continue
        if under := under_mesh_tier(workspace.database, tier.name):
            names = ", ".join(f"'{name}'" for name in under[:_MOST_NAMED])
            more = f" and {len(under) - _MOST_NAMED} more" if len(under) > _MOST_NAMED else ""
            message = f"tier '{tier.name}' is taken out, and {names}{more} have contracts under it"
            yield document.problem(message, ("tiers",) if wanted.tiers else (), hint=_DEPRECATE)


def offered(workspace: Workspace, api: str) -> Offer:
    """What an API offers: its own tiers, else those of mesh.yaml, else the usual one; the empty name is the mesh."""
    with workspace.database.read() as cx:
        own = offer.offers(cx, [api]).get(api, Offer())
    return own if own.tiers else replace(own, tiers=mesh_tiers(workspace.settings))


def tiers_taken_out(workspace: Workspace, wanted: Iterable[Standing]) -> tuple[Problem, ...]:
    """A problem for every tier that is no longer declared, was not deprecated, and has contracts under it."""
    with workspace.database.read() as cx:
        known = offer.offers(cx)
    return tuple(problem for one in wanted for problem in _of_product(workspace, one, known))


def _of_product(workspace: Workspace, wanted: Standing, known: Mapping[str, Offer]) -> Iterator[Problem]:
    for service, endpoints in (wanted.services or {}).items():
        now: Mapping[str, str] = next((said.get("tiers", {}) for said in endpoints.values()), {})
        before = known.get(service, Offer())
        told = f"service '{service}'"
        yield from taken_out(workspace, service, before, now, told, wanted.product.place)


def taken_out(
    workspace: Workspace, api: str, before: Offer, now: Collection[str], told: str, place: Place | None
) -> Iterator[Problem]:
    """The tiers of one API that are not among those of `now`, were not deprecated, and have contracts under them."""
    for tier in before.tiers:
        if tier.name in now or tier.deprecated:
            continue
        held = records(workspace.database, states=["approved"], subjects=[("api", api)], limit=1000)
        under = [one.application for one in held if one.tier == tier.name]
        if under:
            yield Problem(
                f"tier '{tier.name}' of {told} is taken out, and {_count(len(under))} under it",
                place,
                "write `deprecated: true` to it first, apply, and take it out when nobody has it any more",
            )


def _count(number: int) -> str:
    return "1 contract is" if number == 1 else f"{number} contracts are"
