"""The secrets of client applications: whether one opens, a new one in its place, and their ends.

There may be two for a while, while one takes the other's place. A secret is shown once and kept as a hash
(docs/decisions/gateway-credentials.md). Knows nothing of contracts.
"""

from __future__ import annotations

import hmac
from typing import Any, Final

from sqlalchemy import or_, select, update

from tulle import events
from tulle.errors import Invalid
from tulle.events import Event
from tulle.gateway.applications import Credentials, find_in, forms_of, subject_of
from tulle.gateway.secret import check_end, hash_secret, is_second, new_secret
from tulle.state import log
from tulle.state.db import Database, now
from tulle.state.tables import applications as application_rows

LONGEST_OVERLAP: Final = 90 * 86_400.0  # seconds for which an old secret may go on
TOLD_SECONDS: Final = 7 * 86_400.0  # before a secret ends its owners are told


def opens(database: Database, name: str, client_id: str, secret: str) -> bool:
    """Whether these are credentials in force of the application of this name."""
    columns = application_rows.c
    form = columns.second_hash if is_second(secret) else columns.secret_hash
    until = columns.second_until if is_second(secret) else columns.secret_until
    query = select(form).where(
        columns.name == name,
        columns.client_id == client_id,
        columns.revoked_at.is_(None),
        or_(until.is_(None), until > now()),
    )
    with database.read() as connection:
        known = connection.execute(query).scalar()
    return bool(known) and hmac.compare_digest(str(known), hash_secret(secret))


def rotate(
    database: Database,
    name: str,
    *,
    overlap: float = 0.0,
    expires_at: float | None = None,
    actor: str = "",
) -> Credentials:
    """A new secret for the application; the one before goes on for `overlap` seconds, any older one ends now.

    The client id and the contracts stay. The new one ends at `expires_at`, in seconds since the epoch. Invalid.
    """
    at = now()
    if not 0 <= overlap <= LONGEST_OVERLAP:
        raise Invalid(
            f"an overlap of {overlap:,.0f} seconds: expected 0 to {LONGEST_OVERLAP / 86_400:.0f} days",
            hint="0 ends the old secret at once",
        )
    if expires_at is not None:
        check_end(expires_at, at, past="the secret would have ended before it is made", what="the secret")
    with database.write() as connection:
        client_id, full_name = find_in(connection, name)
        where = application_rows.c.client_id == client_id
        row = connection.execute(select(application_rows).where(where)).one()
        was_second = bool(row.second_hash) and (row.second_made_at or 0.0) >= (row.secret_made_at or 0.0)
        secret = new_secret(second=not was_second)
        ends = row.second_until if was_second else row.secret_until
        former = min(at + overlap, ends) if ends is not None else at + overlap
        new, old = ("secret", "second") if was_second else ("second", "secret")
        values: dict[str, Any] = {
            f"{new}_hash": hash_secret(secret),
            f"{new}_made_at": at,
            f"{new}_until": expires_at,
            f"{old}_until": former,
        }
        if former <= at:
            values[f"{old}_hash"] = ""
        connection.execute(update(application_rows).where(where).values(**values))
        data = {"client_id": client_id, "until": expires_at, "former_until": former if former > at else None}
        log.append(connection, Event(events.APPLICATION_ROTATED, subject_of(full_name), data), actor=actor)
    return Credentials(full_name, client_id, secret, expires_at, former if former > at else None)


def end_former(database: Database, name: str, *, actor: str = "") -> bool:
    """End the secret that goes on beside the newest, now; False where there is none."""
    at = now()
    with database.write() as connection:
        client_id, full_name = find_in(connection, name)
        where = application_rows.c.client_id == client_id
        row = connection.execute(select(application_rows).where(where)).one()
        forms = forms_of(row, at)
        if len(forms) < 2:
            return False
        form, _ = forms[-1]
        values = {f"{form}_hash": "", f"{form}_until": at}
        connection.execute(update(application_rows).where(where).values(**values))
        data = {"client_id": client_id, "former_until": None}
        log.append(connection, Event(events.APPLICATION_ROTATED, subject_of(full_name), data), actor=actor)
    return True


def tell_ends(database: Database) -> None:
    """Tell once of each secret that ends soon and that no newer one takes the place of."""
    at, columns = now(), application_rows.c
    soon = or_(columns.secret_until < at + TOLD_SECONDS, columns.second_until < at + TOLD_SECONDS)
    with database.read() as connection:
        found = connection.execute(select(application_rows).where(columns.revoked_at.is_(None), soon)).all()
    for row in found:
        forms = forms_of(row, at)
        if not forms or forms[0][1].until is None or forms[0][1].until >= at + TOLD_SECONDS:
            continue
        until = forms[0][1].until
        unknown = or_(columns.told_until.is_(None), columns.told_until != until)
        with database.write() as connection:
            mine = update(application_rows).where(columns.client_id == row.client_id, unknown)
            if connection.execute(mine.values(told_until=until)).rowcount:
                data = {"client_id": row.client_id, "application": row.name, "until": until}
                log.append(connection, Event(events.APPLICATION_SECRET_ENDS, subject_of(row.name), data))
