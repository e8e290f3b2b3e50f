"""What APIs offer to those who would call them, as it was recorded when their products were applied.

That of the empty name is the mesh's, for all APIs that declare no tiers. Changing one hits every contract under its
tiers with the next publishing. Knows nothing of contracts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import Connection, delete, func, insert, select, update

from tulle.errors import Broken
from tulle.events import OFFER_CHANGED, Event
from tulle.spec.tier import Offer, offer_of
from tulle.state import log
from tulle.state.db import in_turn, now
from tulle.state.tables import offers as table

MESH = ""


def record(
    cx: Connection, api: str, offer: Offer, *, product: str = "", version: str = "", actor: str = ""
) -> bool:
    """Record what an API offers, in the transaction of `cx`; whether it is another than before."""
    in_turn(cx, "offers")
    where = (table.c.api == api) & (table.c.version == version)
    plain = offer.as_plain()
    before = cx.execute(select(table.c.offer, table.c.product).where(where)).first()
    if before is not None and (before.offer, before.product) == (plain, product):
        return False
    values = {"offer": plain, "product": product, "changed_at": now()}
    if before is None:
        cx.execute(insert(table).values(api=api, version=version, **values))
    else:
        cx.execute(update(table).where(where).values(**values))
    told = {
        "version": version,
        "tiers": {tier.name: tier.words for tier in offer.tiers},
        "terms": offer.terms.version if offer.terms else "",
    }
    log.append(cx, Event(OFFER_CHANGED, api or "mesh", told), actor=actor)
    return True


def keep_only(cx: Connection, product: str, apis: Collection[str]) -> None:
    """Forget what a product's APIs offered that it no longer has."""
    cx.execute(delete(table).where(table.c.product == product, table.c.api.not_in(apis)))


def stamp(cx: Connection) -> object:
    """What is another value when anything that is offered is."""
    return tuple(cx.execute(select(func.count(), func.max(table.c.changed_at))).one())


def offers(cx: Connection) -> Mapping[str, Offer]:
    """By the name of the API; where several versions of one offer something, what the newest does.

    One that is damaged offers nothing: the contracts under it keep the limits they were given.
    """
    found: dict[str, Offer] = {}
    for row in cx.execute(select(table.c.api, table.c.offer).order_by(table.c.changed_at)):
        try:
            found[row.api] = offer_of(row.offer)
        except Broken:
            continue
    return found
