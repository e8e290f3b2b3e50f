"""What a product's places are called in everything that keeps products apart: the one rule, and its collisions.

Repository, SQL schema, metric namespace, catalogue community and roles follow from the product's name and domain.
Two products whose names differ can end in the same place (`2x-y` and `p-2x-y` want the same schema), so all of
them are looked at before anything is made. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tulle.errors import Place, Problem
from tulle.spec.product import DataProduct
from tulle.spec.roles import ROLES, role_name
from tulle.spec.source import QUARANTINE

REJECTED = "__rejected"  # rows a port refused lie beside the accepted ones, under this suffix
RESERVED_SCHEMAS = frozenset(
    {"information_schema", "pg_catalog", "main", "public", "temp", "system", "tulle"}
)
_LONGEST_SCHEMA = 63  # of PostgreSQL, whose clients are to see it


@dataclass(frozen=True, slots=True)
class Tenancy:
    """Where one product is in everything that keeps products apart."""

    repository: str
    schema: str
    metrics: str
    community: str
    roles: tuple[str, ...]
    warehouse: str

    def as_dict(self) -> dict[str, object]:
        """As plain values."""
        return {
            "repository": self.repository,
            "schema": self.schema,
            "metrics": self.metrics,
            "community": self.community,
            "roles": list(self.roles),
            "warehouse": self.warehouse,
        }


def tenancy_of(product: DataProduct) -> Tenancy:
    """The places of a product."""
    return Tenancy(
        repository=product.name,
        schema=schema_name(product.name),
        metrics=f"tulle_{_word(product.domain)}_{_word(product.name)}",
        community=f"{product.domain}/{product.name}",
        roles=tuple(role_name(product.name, role) for role in ROLES),
        warehouse=product.warehouse_name,
    )


def schema_name(product: str) -> str:
    """The SQL schema of a product: a plain identifier, which needs no quotes."""
    word = _word(product)
    return (word if word[:1].isalpha() else f"p_{word}")[:_LONGEST_SCHEMA]


def _word(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


@dataclass(frozen=True, slots=True)
class _Claim:
    product: str
    what: str  # in words: the SQL schema of product 'x'
    place: Place | None


def collisions(
    products: Sequence[DataProduct],
    *,
    services: Mapping[str, Sequence[tuple[str, Place | None]]] | None = None,
    foreign_repositories: Iterable[str] = (),
) -> tuple[Problem, ...]:
    """Every two things that want the same place, each told with both places.

    `services` are the names (with places) that each product declares, `foreign_repositories` those in the lake
    that no product made.
    """
    claims: dict[tuple[str, str], list[_Claim]] = {}
    for product in products:
        for kind, name, what, place in _claims(product):
            claims.setdefault((kind, name), []).append(_Claim(product.name, what, place))
        for service, place in (services or {}).get(product.name, ()):
            what = f"service '{service}' of product '{product.name}'"
            claims.setdefault(("service", service), []).append(_Claim(product.name, what, place))
    problems = [p for (kind, name), held in claims.items() for p in _shared(kind, name, held)]
    problems += _domains(products)
    taken = set(foreign_repositories)
    for product in products:
        if product.name in taken:
            message = f"repository '{product.name}' exists in the lake and belongs to no product"
            hint = "name the product differently, or delete the repository: `tulle repo delete`"
            problems.append(Problem(message, product.place, hint))
    return tuple(problems)


def _claims(product: DataProduct) -> Iterator[tuple[str, str, str, Place | None]]:
    """Everything a product wants for itself: kind of place, name there, in words, where it is written."""
    of = f"of product '{product.name}'"
    tenancy = tenancy_of(product)
    yield "schema", tenancy.schema, f"the SQL schema {of}", product.place
    yield "metrics", tenancy.metrics, f"the metric namespace {of}", product.place
    for role in tenancy.roles:
        yield "role", role, f"the role '{role}' {of}", product.place
    tables: dict[str, tuple[str, Place | None]] = {}
    for data_set in product.data_sets:
        tables[data_set.name] = (f"data set '{data_set.name}' {of}", data_set.place)
    for port in product.input_ports:
        if port.data_set:
            tables.setdefault(port.data_set, (f"the rows of input port '{port.name}' {of}", port.place))
    for name, (what, place) in tables.items():
        yield "table", f"{tenancy.schema}.{name}", what, place
    for port in product.input_ports:
        if port.data_set and port.source is not None and port.source.on_bad_rows == QUARANTINE:
            what = f"the rejected rows of input port '{port.name}' {of}"
            yield "table", f"{tenancy.schema}.{port.data_set}{REJECTED}", what, port.place


_KINDS = {
    "schema": "SQL schema",
    "metrics": "metric namespace",
    "role": "role",
    "table": "table",
    "service": "service",
}


def _shared(kind: str, name: str, held: Sequence[_Claim]) -> Iterator[Problem]:
    first = held[0]
    if kind == "schema" and name in RESERVED_SCHEMAS:
        message = f"{first.what} would be '{name}', which the engine keeps for itself"
        yield Problem(message, first.place, "name the product differently")
    if kind == "table" and first.product != held[-1].product:
        return  # they share the schema, which is told
    for other in held[1:]:
        where = f" ({first.place})" if first.place else ""
        message = f"{other.what} and {first.what}{where} would both be the {_KINDS[kind]} '{name}'"
        yield Problem(message, other.place, "name one of them differently")


def _domains(products: Sequence[DataProduct]) -> Iterator[Problem]:
    """Domains written differently that become one name: their products would share warehouse and community."""
    first: dict[str, DataProduct] = {}
    for product in products:
        known = first.setdefault(product.domain, product)
        if _letters(known.domain_title) != _letters(product.domain_title):
            where = f" ({known.place})" if known.place else ""
            message = (
                f"the domains '{product.domain_title}' of product '{product.name}' and '{known.domain_title}'"
                f" of product '{known.name}'{where} would both be '{product.domain}'"
            )
            yield Problem(message, product.place, "write the domain's name the same, or name one differently")


def _letters(title: str) -> str:
    """A title as far as it counts: case, blanks and punctuation are how people write, not what they mean."""
    return re.sub(r"[\W_]+", "", title.casefold())
