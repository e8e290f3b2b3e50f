"""The products that are applied: what the mesh agreed to provide, kept whole so that it can be compared and shown.

Knows the columns of one table and the shape of `spec.product`; nothing of plans or pages.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, insert, select, update

from tulle.errors import NotFound, did_you_mean
from tulle.spec.product import DataProduct
from tulle.state.db import Database, now
from tulle.state.tables import products

_AT_ONCE = 500  # names in a query


@dataclass(frozen=True, slots=True)
class AppliedProduct:
    """A product as it was when it was applied last; times in seconds since the epoch.

    `files` has the digest of each file of its code, by path in its folder (None when it was applied before they
    were kept), `services` what its services declared.
    """

    product: DataProduct
    code_digest: str
    applied_at: float
    files: Mapping[str, str] | None = None
    services: Mapping[str, Any] | None = None


def applied(database: Database) -> tuple[AppliedProduct, ...]:
    """Every applied product, by domain and name."""
    with database.read() as connection:
        rows = connection.execute(select(products).order_by(products.c.domain, products.c.name)).all()
    return tuple(_value(row) for row in rows)


def versions(database: Database) -> dict[str, tuple[str, str, float]]:
    """By name, in the order of `applied`: what changes whenever a product is applied again. Reads no document."""
    table = products.c
    columns = select(table.name, table.digest, table.code_digest, table.applied_at)
    with database.read() as connection:
        rows = connection.execute(columns.order_by(table.domain, table.name))
        return {row.name: (row.digest, row.code_digest, row.applied_at) for row in rows}


def some(database: Database, names: Sequence[str]) -> dict[str, AppliedProduct]:
    """Applied products by name; one that is not applied is left out."""
    found: dict[str, AppliedProduct] = {}
    with database.read() as connection:
        for start in range(0, len(names), _AT_ONCE):
            query = select(products).where(products.c.name.in_(names[start : start + _AT_ONCE]))
            found |= {row.name: _value(row) for row in connection.execute(query)}
    return found


def applied_product(database: Database, name: str) -> AppliedProduct:
    """One applied product. NotFound with the nearest name."""
    with database.read() as connection:
        row = connection.execute(select(products).where(products.c.name == name)).first()
        if row is None:
            known = connection.execute(select(products.c.name)).scalars().all()
            hint = did_you_mean(name, known) or "`tulle apply` registers the products of this mesh"
            raise NotFound(f"product '{name}' is not applied", hint=hint)
    return _value(row)


def after(database: Database, name: str, limit: int) -> tuple[DataProduct, ...]:
    """The applied products whose names come after `name`, in the order of their names, at most `limit`."""
    query = select(products.c.document).where(products.c.name > name).order_by(products.c.name).limit(limit)
    with database.read() as connection:
        return tuple(from_document(document) for document in connection.execute(query).scalars())


def named(database: Database, names: Collection[str]) -> dict[str, DataProduct]:
    """Those of these products that are applied, by name."""
    query = select(products.c.name, products.c.document).where(products.c.name.in_(names))
    with database.read() as connection:
        return {row.name: from_document(row.document) for row in connection.execute(query)}


def domains(database: Database) -> dict[str, list[str]]:
    """The names of each domain's applied products. Reads no document."""
    query = select(products.c.domain, products.c.name).order_by(products.c.domain, products.c.name)
    found: dict[str, list[str]] = {}
    with database.read() as connection:
        for domain, name in connection.execute(query):
            found.setdefault(domain, []).append(name)
    return found


def declared_services(database: Database) -> dict[str, str]:
    """The services that applied products declared, each with its product. Reads no document."""
    columns = select(products.c.name, products.c.services).order_by(products.c.domain, products.c.name)
    with database.read() as connection:
        return {service: row.name for row in connection.execute(columns) for service in row.services or ()}


def save(
    connection: Connection,
    product: DataProduct,
    *,
    code_digest: str,
    files: Mapping[str, str] | None = None,
    services: Mapping[str, Any] | None = None,
) -> None:
    """Record `product` as applied, replacing an earlier version of it."""
    values: dict[str, Any] = {
        "domain": product.domain,
        "folder": str(product.folder),
        "digest": product.digest,
        "document": as_document(product),
        "code_digest": code_digest,
        "applied_at": now(),
        "files": None if files is None else dict(files),
        "services": None if services is None else dict(services),
    }
    changed = connection.execute(update(products).where(products.c.name == product.name).values(**values))
    if changed.rowcount == 0:
        connection.execute(insert(products).values(name=product.name, **values))


def remove(connection: Connection, name: str) -> None:
    """Forget an applied product."""
    connection.execute(delete(products).where(products.c.name == name))


def as_document(product: DataProduct) -> dict[str, Any]:
    """A product as plain values, whole: `from_document` gives it back."""
    document: dict[str, Any] = msgspec.to_builtins(product, enc_hook=str)
    return document


def from_document(document: Mapping[str, Any]) -> DataProduct:
    """The product behind plain values; what later versions of Tulle added has its default."""
    return msgspec.convert(document, DataProduct, dec_hook=_decode)


def _value(row: Row[Any]) -> AppliedProduct:
    product = from_document(row.document)
    return AppliedProduct(product, row.code_digest, row.applied_at, row.files, row.services)


def _decode(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(value)
    raise TypeError(kind)
