"""How long before an end consumers are told, and ends that documents declare sooner than that.

A product or an output port that ends sooner than its agreements promise (at least the mesh's `notice_days`) is
refused when that is new to this mesh. An end that was applied or told before was agreed then: it holds as it comes
nearer, and can be put off, never brought forward. Of a product that is not applied yet nobody was promised anything.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence

from sqlalchemy import select

from tulle.control.workspace import Workspace
from tulle.errors import Place, Problem
from tulle.spec.period import days_of
from tulle.spec.product import DataProduct, OutputPort
from tulle.spec.written import problem_at
from tulle.state import products
from tulle.state.tables import deprecations


def notice_days(workspace: Workspace, *versions: DataProduct) -> int:
    """How many days before its end the consumers of a product must be told: the longest that a version promises."""
    promised = [days_of(a.notice_period) for product in versions for a in product.agreements]
    return max([workspace.settings.notice_days, *promised])


def ends_too_soon(workspace: Workspace, wanted: Sequence[DataProduct]) -> tuple[Problem, ...]:
    """A problem for every end in these documents that comes sooner than consumers were promised."""
    ending = [p for p in wanted if p.sunset or any(port.sunset for port in p.output_ports)]
    if not ending:
        return ()
    applied = products.some(workspace.database, [product.name for product in ending])
    told = _told(workspace)
    today = dt.datetime.now(dt.UTC).date()
    found: list[Problem] = []
    for product in ending:
        if product.name in applied:
            old = applied[product.name].product
            earliest = today + dt.timedelta(days=notice_days(workspace, old, product))
            found += _of_product(old, product, str(earliest), told.get(product.name, ""))
    return tuple(found)


def _told(workspace: Workspace) -> Mapping[str, str]:
    """The days that `tulle deprecate` told, by product."""
    with workspace.database.read() as cx:
        return {row.product: row.sunset for row in cx.execute(select(deprecations))}


def _of_product(old: DataProduct, new: DataProduct, earliest: str, told: str) -> Iterator[Problem]:
    if _is_new(new.sunset, old.sunset):
        known = max(told, old.sunset)
        yield from _judged(new, new.place, f"product '{new.name}'", new.sunset, earliest, known)
    ports: dict[str, OutputPort] = {port.name: port for port in old.output_ports}
    for port in new.output_ports:
        before = ports.get(port.name)  # a port that is new has no readers yet
        if before is not None and _is_new(port.sunset, before.sunset):
            subject = f"output-port '{port.title}'"
            yield from _judged(new, port.place, subject, port.sunset, earliest, before.sunset)


def _is_new(day: str, before: str) -> bool:
    return bool(day) and day != before


def _judged(
    product: DataProduct, part: Place | None, subject: str, day: str, earliest: str, known: str
) -> Iterator[Problem]:
    if day < (known or earliest):
        reason = f"its consumers were told {known}" if known else "they must be told longer before"
        hint = "it can be put off, not brought forward" if known else f"the first day is {earliest}"
        message = f"{subject} cannot end on {day}: {reason}"
        yield problem_at(product, part, "sunset", message=message, hint=hint)
