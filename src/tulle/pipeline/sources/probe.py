"""Trying a connection: sign in, and ask the least there is to ask."""

from __future__ import annotations

from tulle.config import Settings
from tulle.pipeline.sources import http, ldap, redis_server, sql
from tulle.spec.source import HTTP, LDAP, REDIS, SQL
from tulle.state.connections import Connection


def probe(connection: Connection, settings: Settings) -> str:
    """What answered, in a few words. Raises what a reading would raise: Unavailable, Denied, NotFound, Invalid."""
    if connection.kind == SQL:
        with sql.session_of(connection) as session:
            return session.ping()
    if connection.kind == HTTP:
        return http.ping(connection, settings)
    if connection.kind == REDIS:
        return redis_server.ping(connection)
    if connection.kind == LDAP:
        return ldap.ping(connection)
    from tulle.pipeline.sources import store  # noqa: PLC0415

    return store.ping(connection, settings)
