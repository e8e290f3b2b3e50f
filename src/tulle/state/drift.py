"""What was found to differ from what was applied, product by product, when it was looked last.

Knows the columns of one table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import delete, insert, select

from tulle.state.db import Database, in_turn, now
from tulle.state.tables import drift

MESH = ""  # the subject of what belongs to no product


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference: what kind of thing, which one, in a sentence, and what to do."""

    kind: str  # repository | branch | data-set | column | file | role | service | contract
    name: str
    sentence: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Drift:
    """The findings of one product (of the mesh as a whole: MESH) at one time."""

    subject: str
    looked_at: float
    findings: tuple[Finding, ...]


def save(database: Database, found: Mapping[str, Sequence[Finding]]) -> None:
    """Replace all that was found before."""
    at = now()
    rows = [
        {"subject": subject, "looked_at": at, "findings": [asdict(f) for f in findings]}
        for subject, findings in found.items()
    ]
    with database.write() as connection:
        in_turn(connection, "drift")
        connection.execute(delete(drift))
        if rows:
            connection.execute(insert(drift), rows)


def found(database: Database) -> tuple[Drift, ...]:
    """What was found last, by subject."""
    with database.read() as connection:
        rows = connection.execute(select(drift).order_by(drift.c.subject)).all()
    return tuple(
        Drift(row.subject, row.looked_at, tuple(Finding(**item) for item in row.findings)) for row in rows
    )


def found_of(database: Database, subject: str) -> Drift | None:
    """What was found last of one product; None when it was not looked at yet."""
    with database.read() as connection:
        row = connection.execute(select(drift).where(drift.c.subject == subject)).first()
    if row is None:
        return None
    return Drift(row.subject, row.looked_at, tuple(Finding(**item) for item in row.findings))
