"""What an application may call of services by its owner's word alone, without a request: granted, changed, withdrawn.

The rows are `contract_record`'s and the steps `contract_step`'s, whoever takes them. Knows nothing of secrets.
"""

from __future__ import annotations

from collections.abc import Sequence

from tulle.errors import NotFound
from tulle.gateway import contract_record, contract_step
from tulle.gateway.applications import check_service, find_in
from tulle.gateway.contract_record import Place
from tulle.gateway.policy import RateLimit
from tulle.state.db import Database, now


def grant(
    database: Database,
    name: str,
    service: str,
    limit: RateLimit | Sequence[RateLimit],
    *,
    actor: str = "",
) -> None:
    """Let the application call `service` so often; changes the limits when it may already."""
    check_service(service)
    limits = (limit,) if isinstance(limit, RateLimit) else tuple(limit)
    with database.write() as connection:
        client_id, _ = find_in(connection, name)
        contract_step.agree_in(connection, client_id, Place("api", service), limits, by=actor)


def withdraw(database: Database, name: str, service: str, *, actor: str = "") -> None:
    """End the application's contracts for `service`, in whichever environment; NotFound when it has none."""
    with database.read() as connection:
        client_id, full_name = find_in(connection, name)
        mine = contract_record.held(connection, now(), client_ids=[client_id])
    ended = [one for one in mine if one.place.kind == "api" and one.place.subject == service]
    if not ended:
        raise NotFound(f"application '{full_name}' has no contract for the service '{service}'")
    for one in ended:
        contract_step.take(database, one.id, "revoke", by=actor)
