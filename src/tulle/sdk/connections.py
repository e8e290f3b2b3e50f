"""The Python client of connections to databases, files and other systems.

    connections = ConnectionClient(client)
    connections.test("warehouse")

Answers are plain values as the API documents them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tulle.sdk.client import Client, part


class ConnectionClient:
    """Calls one mesh, through a client of it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def connections(self) -> list[dict[str, Any]]:
        """Every connection of every environment, with the names of its secrets."""
        return list(self._client.get("/connections")["connections"])

    def connection(self, name: str, *, environment: str = "prod") -> dict[str, Any]:
        """One connection, without its secrets."""
        return self._client.get(f"/connections/{part(environment)}/{part(name)}")

    def set(self, name: str, body: Mapping[str, Any], *, environment: str = "prod") -> dict[str, Any]:
        """Record a connection: `kind`, `address`, `options` and `secrets`."""
        return self._client.put(f"/connections/{part(environment)}/{part(name)}", dict(body))

    def test(self, name: str, *, environment: str = "prod") -> dict[str, Any]:
        """Try a connection; Unavailable or Denied tell why it does not answer."""
        return self._client.post(f"/connections/{part(environment)}/{part(name)}/test", {})

    def describe_table(self, name: str, table: str, *, environment: str = "prod") -> dict[str, Any]:
        """What the database of a connection says of a table: columns, types, key, comments."""
        return self._client.post(f"/connections/{part(environment)}/{part(name)}/describe", {"table": table})

    def remove(self, name: str, *, environment: str = "prod") -> dict[str, Any]:
        """Forget a connection."""
        return self._client.delete(f"/connections/{part(environment)}/{part(name)}")
