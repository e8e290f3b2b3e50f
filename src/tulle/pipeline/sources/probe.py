"""Trying a connection: sign in, and ask the least there is to ask."""

from __future__ import annotations

from tulle.config import Settings
from tulle.errors import Invalid
from tulle.pipeline.sources import http, ldap, redis_server, sql
from tulle.pipeline.sources.client_credentials import OAUTH2
from tulle.spec.source import HTTP, LDAP, REDIS, SQL
from tulle.state.connections import Connection


def probe(connection: Connection, settings: Settings) -> str:
    """What answered, in a few words. Raises what a reading would raise: Unavailable, Denied, NotFound, Invalid."""
    if connection.kind == SQL:
        with sql.session_of(connection) as session:
            return session.ping()
    if connection.kind == HTTP:
        if connection.options.get("auth") == OAUTH2:
            raise Invalid(
                f"connection '{connection.name}' signs in by OAuth2, which the gateway alone does: it cannot be tried",
                hint="call an API that leads there; `tulle logs gateway` tells why where there is no token",
            )
        return http.ping(connection, settings)
    if connection.kind == REDIS:
        return redis_server.ping(connection)
    if connection.kind == LDAP:
        return ldap.ping(connection)
    from tulle.pipeline.sources import store  # noqa: PLC0415

    return store.ping(connection, settings)
