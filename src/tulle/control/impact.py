"""Whom a change of a product hits: products that read it, by the columns they use; services and applications.

Pure but for the code it is given: what was read of consumers comes in as values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tulle.engine.columns_used import columns_used
from tulle.pipeline.graph import ProductCode
from tulle.pipeline.job import PORT, SQL
from tulle.pipeline.model_kind import THIS
from tulle.spec.compare import Change
from tulle.spec.product import DataProduct

LONGEST_LIST = 8


@dataclass(frozen=True, slots=True)
class Use:
    """One place where a product uses another's data set; `columns` None: it cannot be told which."""

    product: str
    port: str
    data_set: str  # the other product's
    file: str
    columns: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class ServiceUse:
    """An endpoint that answers from a data set, and the applications that may call its service."""

    service: str
    endpoint: str
    product: str  # whose data set it is
    data_set: str
    columns: frozenset[str] | None
    applications: tuple[str, ...] = ()


class Impact:
    """Answers whom changes hit. `uses` gives the uses that other products make of a product's data sets."""

    def __init__(
        self,
        uses: Callable[[DataProduct, DataProduct | None], Sequence[Use]],
        services: Callable[[], Sequence[ServiceUse]],
    ) -> None:
        self._uses = uses
        self._services = services

    def hits(self, change: Change, old: DataProduct, new: DataProduct | None) -> tuple[str, ...]:
        """Sentences on everybody whom `change` of `old` may hurt."""
        column = change.column
        data_sets = (change.data_set,) if change.data_set else change.withdrawn
        uses = self._uses(old, new)
        found: list[str] = []
        if data_sets:
            for data_set in data_sets:
                met = [u for u in uses if u.data_set == data_set and _needs(u.columns, column)]
                found += [_told(use, column) for use in met]
                found += _of_services(self._services(), old.name, data_set, column)
        elif change.agreed:
            return tuple(agreed_with(one) for one in change.agreed)
        elif change.kind == "removed" or change.subject == "product" or change.agreement:
            found += [f"product '{name}' reads it" for name in sorted({u.product for u in uses})]
        if found and not change.agreement:
            found += [f"agreement '{a.name}' covers it{_until(a.expires)}" for a in old.agreements]
        return tuple(dict.fromkeys(found))


def uses_in(code: ProductCode, known: Mapping[tuple[str, str], Iterable[str]]) -> list[Use]:
    """The uses a product's code makes of other products' data sets; `known` are their columns."""
    name = code.product.name
    found: list[Use] = []
    schemas = _schemas(code, known)
    for job in code.jobs:
        if job.kind != PORT or job.upstream is None:
            continue
        port = job.port.name if job.port else job.name
        upstream = job.upstream
        before = len(found)
        for reader in code.jobs:
            if job.name not in reader.inputs:
                continue
            needed: frozenset[str] | None = None
            if reader.kind == SQL and reader.statement is not None:
                own = {THIS: schemas[reader.name]} if reader.name in schemas else {}
                needed = columns_used(reader.statement, {**schemas, **own}).get(job.name)
            found.append(Use(name, port, upstream[1], reader.file, needed))
        for check in code.checks:
            columns_checked = check.columns if check.data_set == job.name else check.others.get(job.name)
            if columns_checked is not None:
                place = check.place.file if check.place else f"check '{check.name}'"
                found.append(
                    Use(
                        name,
                        port,
                        upstream[1],
                        place,
                        frozenset(columns_checked) if columns_checked else None,
                    )
                )
        if len(found) == before:  # taken in, and so far used by nothing
            found.append(Use(name, port, upstream[1], "", frozenset()))
    return found


def _schemas(code: ProductCode, known: Mapping[tuple[str, str], Iterable[str]]) -> dict[str, tuple[str, ...]]:
    """The columns of what models read, as far as they are declared: a name without its table is found by them all."""
    taken = {j.name: tuple(known.get(j.upstream, ())) for j in code.jobs if j.upstream is not None}
    return taken | {d.name: tuple(c.name for c in d.columns) for d in code.product.data_sets}


def service_uses(
    product: str, services: Mapping[str, Any], applications: Mapping[str, Sequence[str]]
) -> list[ServiceUse]:
    """What a product's declared services answer from, as `declared_as_plain` recorded it."""
    return [
        ServiceUse(
            service,
            endpoint,
            source["product"] or product,
            source["data_set"],
            None if source["columns"] is None else frozenset(source["columns"]),
            tuple(applications.get(service, ())),
        )
        for service, endpoints in services.items()
        for endpoint, said in endpoints.items()
        for source in said["sources"]
    ]


def _needs(columns: frozenset[str] | None, column: str) -> bool:
    if columns is None:
        return True
    return column in columns if column else True


def _told(use: Use, column: str) -> str:
    where = f" in {use.file}" if use.file else ""
    reads = f"product '{use.product}' reads it by input port '{use.port}'"
    if not column:
        return reads
    if use.columns is None:
        return f"{reads} and may use the column{where}"
    return f"{reads} and uses the column{where}"


def _of_services(uses: Iterable[ServiceUse], product: str, data_set: str, column: str) -> list[str]:
    found = []
    for use in uses:
        if (use.product, use.data_set) != (product, data_set) or not _needs(use.columns, column):
            continue
        found.append(f"service '{use.service}' answers from it (endpoint '{use.endpoint}')")
        if use.applications:
            found.append(f"applications with a contract on '{use.service}': {listed(use.applications)}")
    return found


def agreed_with(consumer: str) -> str:
    """Whom an agreement was made with, which names them as a user, `group:NAME` or `product:NAME`."""
    kind, colon, name = consumer.partition(":")
    who = f"{kind} '{name}'" if colon and kind in {"group", "product"} else f"user '{consumer}'"
    return f"{who} is a consumer by this agreement"


def _until(date: str) -> str:
    return f" (until {date})" if date else ""


def listed(names: Iterable[str]) -> str:
    """Names in a sentence, not more than a reader takes in."""
    names = sorted(names)
    more = f" and {len(names) - LONGEST_LIST} more" if len(names) > LONGEST_LIST else ""
    return ", ".join(names[:LONGEST_LIST]) + more
