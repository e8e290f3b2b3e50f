"""The end of a product: deprecated with a date, its consumers told, retired when that day has come and not before.

How long before is the longest notice period of the product's agreements, at least the mesh's `notice_days`. Whoever is
told is told through the event log, from which alerts are made. What retiring does is in `apply`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, insert, select

from tulle.control import apply
from tulle.control.notice import notice_days
from tulle.control.product_release import consumers
from tulle.control.workspace import Workspace
from tulle.errors import Conflict, Denied, Invalid, NotFound, Problem
from tulle.events import PRODUCT_DEPRECATED, PRODUCT_REINSTATED, Event
from tulle.gateway import service_keys
from tulle.gateway.apis import records
from tulle.gateway.holders import holders
from tulle.serving import generation
from tulle.state import log, products
from tulle.state.db import Database, now
from tulle.state.tables import deprecations as table


@dataclass(frozen=True, slots=True)
class Deprecation:
    """A product that will end; `sunset` is the first day on which it may be retired."""

    product: str
    sunset: str
    reason: str
    successor: str
    told: Sequence[str]
    deprecated_by: str
    deprecated_at: float


def deprecate(
    workspace: Workspace, name: str, *, sunset: str, reason: str, successor: str = "", by: str
) -> Deprecation:
    """Say that a product ends, when and why, and tell whoever reads it. Denied when that is too soon for them.

    Saying it again moves the day further away, never nearer.
    """
    product = products.applied_product(workspace.database, name).product
    today = dt.datetime.now(dt.UTC).date()
    try:
        day = dt.date.fromisoformat(sunset)
    except ValueError:
        raise Invalid(f"'{sunset}' is no date", hint="write the day of its end as 2030-12-31") from None
    if not reason.strip() or len(reason) > 2000:
        raise Invalid("a product does not end without a reason", hint="--reason 'in a sentence or two'")
    if successor:
        products.applied_product(workspace.database, successor)
        if successor == name:
            raise Invalid(f"'{name}' cannot be its own successor")
    notice = notice_days(workspace, product)
    earliest = today + dt.timedelta(days=notice)
    known = find(workspace.database, name)
    if known is not None:  # they know that day; whatever lies after it is no worse for them
        earliest = dt.date.fromisoformat(known.sunset)
    if day < earliest:
        who = "its consumers were told so" if known else f"its consumers are told {notice} days before"
        raise Denied(
            f"product '{name}' cannot end on {day}: {who}",
            hint=f"the first day is {earliest}: --sunset {earliest}",
            problems=[Problem(f"{reader} is to be told") for reader in readers(workspace, name)],
        )
    told = readers(workspace, name)
    made = Deprecation(name, str(day), reason.strip(), successor, told, by, now())
    with workspace.database.write() as cx:
        cx.execute(delete(table).where(table.c.product == name))
        cx.execute(
            insert(table).values(
                product=name,
                sunset=made.sunset,
                reason=made.reason,
                successor=successor,
                told=list(told),
                deprecated_by=by,
                deprecated_at=made.deprecated_at,
            )
        )
        data = {"sunset": made.sunset, "reason": made.reason, "successor": successor, "told": list(told)}
        log.append(cx, Event(PRODUCT_DEPRECATED, name, data), actor=by)
    return made


def reinstate(workspace: Workspace, name: str, *, by: str) -> Deprecation:
    """Take back that a product ends. NotFound when it does not."""
    known = _get(workspace.database, name)
    with workspace.database.write() as cx:
        cx.execute(delete(table).where(table.c.product == name))
        log.append(cx, Event(PRODUCT_REINSTATED, name, {"told": list(known.told)}), actor=by)
    return known


def retire(workspace: Workspace, name: str, *, by: str) -> str:
    """Take a product whose day has come out of the mesh; what was done. Denied before that day.

    Conflict while another product reads it: that one would not run any more.
    """
    known = find(workspace.database, name)
    try:
        products.applied_product(workspace.database, name)
    except NotFound:
        if known is None:
            raise
        # It was retired, and whoever did it died before this was noted.
        forget(workspace.database, name)
        return f"product '{name}' is retired (by {by})"
    if known is None:
        raise Denied(
            f"product '{name}' is not deprecated, so nobody knows that it ends",
            hint=f"`tulle deprecate {name} --sunset DAY --reason …` tells its consumers",
        )
    today = dt.datetime.now(dt.UTC).date().isoformat()
    if today < known.sunset:
        raise Denied(
            f"product '{name}' ends on {known.sunset}, and today is {today}",
            hint="its consumers were told that day; it can only be put off",
        )
    reading = consumers(workspace, name)
    if reading:
        raise Conflict(
            f"product '{name}' is still read",
            hint=f"let them read {known.successor or 'something else'} first",
            problems=[Problem(f"{reader} reads it") for reader in reading],
        )
    with apply.one_at_a_time(workspace):
        sentence = apply.retire(workspace, name, actor=by)
    forget(workspace.database, name)
    return f"{sentence} (by {by})"


def forget(database: Database, name: str) -> None:
    """A product that is gone will not end any more."""
    with database.write() as cx:
        cx.execute(delete(table).where(table.c.product == name))


def readers(workspace: Workspace, name: str) -> tuple[str, ...]:
    """Whoever reads a product or calls its services, as sentences may name them."""
    services = generation.of_product(workspace.database, name)
    apis = records.of_product(workspace.database, name)
    held = holders(workspace.database)
    applications = [
        f"application '{application}'"
        for application in sorted({one.application for of in (*services, *apis) for one in held.get(of, ())})
    ]
    keys = [
        f"key '{key.label}' of {'API' if key.service in apis else 'service'} '{key.service}'"
        for key in service_keys.held(workspace.database)
        if key.service in services or key.service in apis
    ]
    return (*consumers(workspace, name), *applications, *keys)


def deprecations(database: Database) -> tuple[Deprecation, ...]:
    """All products that will end, the next first."""
    query = select(table).order_by(table.c.sunset, table.c.product)
    with database.read() as cx:
        return tuple(_value(row) for row in cx.execute(query))


def find(database: Database, name: str) -> Deprecation | None:
    """That a product will end, if it will."""
    with database.read() as cx:
        row = cx.execute(select(table).where(table.c.product == name)).first()
    return None if row is None else _value(row)


def _get(database: Database, name: str) -> Deprecation:
    known = find(database, name)
    if known is None:
        raise NotFound(f"product '{name}' is not deprecated")
    return known


def _value(row: object) -> Deprecation:
    return Deprecation(**{name: getattr(row, name) for name in Deprecation.__slots__})
