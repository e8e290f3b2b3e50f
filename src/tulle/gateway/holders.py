"""Who may call what by a contract: for an API or a service itself, or for the product that has it.

The one answer to whoever asks who relies on something that changes or ends. Holders of keys are `service_keys`; the
portal's own application, which may try everything, relies on nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from sqlalchemy import select

from tulle.gateway.admitted import Admitted, admitted
from tulle.gateway.applications import PORTAL
from tulle.gateway.contract_record import Kind
from tulle.gateway.policy import RateLimit
from tulle.state.db import Database
from tulle.state.tables import applications


@dataclass(frozen=True, slots=True)
class Holder:
    """An application, and the contract by which it may call: for what, and its limits."""

    application: str
    client_id: str
    kind: Kind
    subject: str
    limits: tuple[RateLimit, ...]


def holders(database: Database) -> Mapping[str, tuple[Holder, ...]]:
    """Of each service and API its holders by name, each once; who has one for itself and one for the product by the
    first."""
    now = admitted(database)
    before = _known.get(database)
    if before is None or before[0] is not now:
        before = _known[database] = (now, _holders(database, now))
    return before[1]


# What was found last, and of whom: of ten thousand applications it takes a tenth of a second, and pages ask often.
_known: WeakKeyDictionary[Database, tuple[Admitted, Mapping[str, tuple[Holder, ...]]]] = WeakKeyDictionary()


def _holders(database: Database, now: Admitted) -> Mapping[str, tuple[Holder, ...]]:
    of_product: dict[str, list[str]] = defaultdict(list)
    for name, owners in now.products.items():
        if len(owners) == 1:
            of_product[next(iter(owners))].append(name)
    query = select(applications.c.client_id, applications.c.name).where(applications.c.revoked_at.is_(None))
    with database.read() as connection:
        names: dict[str, str] = {row.client_id: row.name for row in connection.execute(query)}
    found: dict[str, dict[str, Holder]] = defaultdict(dict)
    for one in sorted(now.held, key=lambda held: (names.get(held.client_id, ""), held.kind)):
        application = names.get(one.client_id, PORTAL)
        if application == PORTAL:
            continue
        holder = Holder(application, one.client_id, one.kind, one.subject, one.limits)
        for name in (one.subject,) if one.kind == "api" else of_product.get(one.subject, ()):
            found[name].setdefault(one.client_id, holder)
    return {name: tuple(of.values()) for name, of in found.items()}
