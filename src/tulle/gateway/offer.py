"""What APIs offer to those who would call them, as it was recorded when their products were applied.

That of the empty name is the mesh's, for all APIs that declare no tiers. Changing one hits every contract under its
tiers with the next publishing. Knows nothing of contracts.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Connection, Text, delete, func, insert, select, type_coerce, update

from tulle.errors import Broken
from tulle.events import OFFER_CHANGED, Event
from tulle.spec.tier import Offer, offer_of
from tulle.state import log
from tulle.state.db import in_turn, now
from tulle.state.tables import offers as table

MESH = ""
_AT_ONCE: Final = 500  # names in a query; of more, all are read
_LONGEST_KEPT: Final = 10_000  # characters of an offer that is not read again; longer ones have long terms


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


def offers(cx: Connection, apis: Collection[str] | None = None) -> Mapping[str, Offer]:
    """By the name of the API; where several versions of one offer something, what the newest does.

    `apis` are those that are wanted, without it all; the mesh's is always there, where it was recorded. One that is
    damaged offers nothing: the contracts under it keep the limits they were given.
    """
    query = select(table.c.api, type_coerce(table.c.offer, Text)).order_by(table.c.changed_at)
    if apis is not None and len(apis) <= _AT_ONCE:
        query = query.where(table.c.api.in_([MESH, *apis]))
    found: dict[str, Offer] = {}
    for api, said in cx.execute(query):
        text = said if isinstance(said, str) else json.dumps(said)  # as PostgreSQL's driver reads it
        try:
            found[api] = _kept(text) if len(text) <= _LONGEST_KEPT else _read(text)
        except Broken:
            continue
    return found


def _read(text: str) -> Offer:
    try:
        plain: Any = json.loads(text)
    except ValueError as exc:
        raise Broken(f"the tiers of an API cannot be read: {exc}", hint="apply its product again") from None
    return offer_of(plain)


_kept = lru_cache(maxsize=4096)(_read)  # a thousand APIs are asked for with every page of contracts
