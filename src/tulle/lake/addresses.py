"""Issued addresses: places given to writers that write straight to the store and link what they wrote later.

Recorded so that only such a writer can link the place, once, and a collector lets it be until then. Functions on
rows, each inside a transaction of the caller.
"""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select

from tulle.errors import NotFound
from tulle.state.db import now
from tulle.state.tables import lake_addresses


def add(cx: Connection, repository: int, address: str, branch: str, path: str, expires_at: float) -> None:
    """Record that an address was issued; `expires_at` is in seconds since the epoch."""
    cx.execute(
        insert(lake_addresses).values(
            repository_id=repository,
            address=address,
            branch=branch,
            path=path.encode(),
            expires_at=expires_at,
        )
    )


def take(cx: Connection, repository: int, address: str) -> None:
    """Use up an address. NotFound when it was not issued, was used, or its time is up."""
    query = delete(lake_addresses).where(
        lake_addresses.c.repository_id == repository,
        lake_addresses.c.address == address,
        lake_addresses.c.expires_at > now(),
    )
    if not cx.execute(query).rowcount:
        raise NotFound(
            f"'{address}' was not issued for this repository, was linked already, or its time is up",
            hint="ask for a new physical address and write there",
        )


def issued_for(cx: Connection, repository: int, address: str) -> tuple[str, str] | None:
    """The branch and path an address was issued for, or None when it is not known."""
    query = select(lake_addresses.c.branch, lake_addresses.c.path).where(
        lake_addresses.c.repository_id == repository, lake_addresses.c.address == address
    )
    row = cx.execute(query).first()
    return None if row is None else (row.branch, bytes(row.path).decode())


def live(cx: Connection, repository: int) -> list[str]:
    """The addresses whose time is not up."""
    query = select(lake_addresses.c.address).where(
        lake_addresses.c.repository_id == repository, lake_addresses.c.expires_at > now()
    )
    return list(cx.execute(query).scalars())
