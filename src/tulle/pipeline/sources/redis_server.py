"""What a connection of the kind redis leads to: a Redis server, in which services look rows up."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from tulle.errors import Denied, Invalid
from tulle.pipeline.sources.hidden import without_secrets
from tulle.pipeline.sources.sql import missing_driver, unreachable
from tulle.state.connections import Connection

USUAL_PORT = 6379
_SECONDS = 10  # that trying a connection takes at most


def demand_redis() -> None:
    """Refuse to go on without the driver; Invalid tells how to install it."""
    try:
        import redis  # noqa: F401, PLC0415  an extra
    except ImportError:
        raise missing_driver("Redis", "redis") from None


def parameters_of(connection: Connection) -> dict[str, Any]:
    """The driver's words for an address and what opens it. Invalid when it is of another kind."""
    if connection.address.partition(":")[0] not in {"redis", "rediss"}:
        message = f"connection '{connection.name}' leads to no Redis, but is of kind {connection.kind}"
        raise Invalid(message, hint="name a connection of kind redis")
    parts = urlsplit(connection.address)
    found: dict[str, Any] = {
        "host": parts.hostname,
        "port": parts.port or USUAL_PORT,
        "db": int(parts.path.strip("/") or 0),
        "username": connection.options.get("user"),
        "password": connection.secrets.get("password"),
    }
    if parts.scheme == "rediss" and "ca_file" in connection.options:
        found["ssl_ca_certs"] = connection.options["ca_file"]
    return found


def is_encrypted(connection: Connection) -> bool:
    """Whether a connection is made by TLS."""
    return connection.address.startswith("rediss:")


def ping(connection: Connection) -> str:
    """What answers, in a few words. Unavailable, Denied, Invalid."""
    demand_redis()
    import redis  # noqa: PLC0415
    from redis.backoff import NoBackoff  # noqa: PLC0415
    from redis.retry import Retry  # noqa: PLC0415

    client = redis.Redis(
        **parameters_of(connection),
        ssl=is_encrypted(connection),
        socket_timeout=_SECONDS,
        socket_connect_timeout=_SECONDS,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )
    try:
        with client:
            client.ping()
    except (redis.AuthenticationError, redis.exceptions.NoPermissionError) as exc:
        said = without_secrets(connection, str(exc))
        hint = f"`tulle connection set {connection.name} …`"
        raise Denied(f"Redis refuses to sign in: {said}", hint=hint) from None
    except (redis.RedisError, OSError) as exc:
        raise unreachable(connection, str(exc)) from None
    return "Redis"
