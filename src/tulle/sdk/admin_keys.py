"""The Python client of the keys of the admin API that tools for API nodes speak; without one it is off.

    admin_keys = AdminKeyClient(client)
    made = admin_keys.create("deployer")["key"]

Answers are plain values as the API documents them.
"""

from __future__ import annotations

from typing import Any

from tulle.sdk.client import Client, part


class AdminKeyClient:
    """Calls one mesh, through a client of it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def keys(self) -> list[dict[str, Any]]:
        """The keys of the admin API of API nodes, without their secrets."""
        return list(self._client.get("/admin-keys")["keys"])

    def create(self, label: str, *, description: str = "", expires: str | None = None) -> dict[str, Any]:
        """Make a key of the admin API, which turns it on; `key` of the answer is shown this once."""
        body = {"label": label, "description": description, "expires": expires}
        return self._client.post("/admin-keys", body)

    def delete(self, key: str) -> dict[str, Any]:
        """End a key of the admin API, named by its id."""
        return self._client.delete(f"/admin-keys/{part(key)}")
