"""Profiles of data sets, kept publish after publish: written once a commit, read as history. Knows no data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select

from tulle.quality.column_profile import DataSetProfile
from tulle.state.db import Database, now
from tulle.state.tables import data_set_profiles

MAIN = "main"
KEPT = 100  # of each data set in each environment


@dataclass(frozen=True, slots=True)
class KeptProfile:
    """What a data set looked like at a commit; `at` in seconds since the epoch, `run` empty where none published it.

    `profile` is what `DataSetProfile.as_dict` gives: `rows`, `looked_at`, and `columns`, each a mapping with the
    fields of `ColumnProfile`. `identity` is that of the rows: equal identity, equal rows.
    """

    product: str
    environment: str
    data_set: str
    identity: str
    commit: str
    run: str
    at: float
    profile: Mapping[str, Any]


def keep(
    cx: Connection,
    product: str,
    environment: str,
    data_set: str,
    found: DataSetProfile,
    *,
    identity: str,
    commit: str,
    run: str = "",
) -> None:
    """Keep a profile, once a commit, in the transaction of `cx`; the oldest beyond KEPT are forgotten."""
    table = data_set_profiles.c
    mine = (table.product == product) & (table.environment == environment) & (table.data_set == data_set)
    if cx.execute(select(table.id).where(mine, table.commit_id == commit)).first() is not None:
        return
    cx.execute(
        insert(data_set_profiles).values(
            product=product,
            environment=environment,
            data_set=data_set,
            identity=identity,
            commit_id=commit,
            run=run,
            profile=found.as_dict(),
            at=now(),
        )
    )
    kept = select(table.id).where(mine).order_by(table.id.desc()).limit(KEPT)
    oldest = min(cx.execute(kept).scalars())
    cx.execute(delete(data_set_profiles).where(mine, table.id < oldest))


def forget(cx: Connection, product: str) -> None:
    """Forget the profiles of a product whose data goes: they hold values of it."""
    cx.execute(delete(data_set_profiles).where(data_set_profiles.c.product == product))


def profiles(
    database: Database, product: str, data_set: str, *, environment: str = MAIN, limit: int = 30
) -> tuple[KeptProfile, ...]:
    """The profiles of a data set, newest first."""
    table = data_set_profiles.c
    mine = (table.product == product) & (table.environment == environment) & (table.data_set == data_set)
    query = select(data_set_profiles).where(mine).order_by(table.id.desc()).limit(limit)
    with database.read() as cx:
        return tuple(_kept(row) for row in cx.execute(query))


def with_identity(
    database: Database, product: str, data_set: str, identity: str, *, environment: str = MAIN
) -> KeptProfile | None:
    """The newest profile of just these rows."""
    table = data_set_profiles.c
    mine = (table.product == product) & (table.environment == environment) & (table.data_set == data_set)
    query = (
        select(data_set_profiles).where(mine, table.identity == identity).order_by(table.id.desc()).limit(1)
    )
    with database.read() as cx:
        row = cx.execute(query).first()
    return _kept(row) if row else None


def _kept(row: Row[Any]) -> KeptProfile:
    return KeptProfile(
        row.product, row.environment, row.data_set, row.identity, row.commit_id, row.run, row.at, row.profile
    )
