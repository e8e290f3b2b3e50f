"""The Python client of the API keys of services, and of those of the admin API.

    keys = ServiceKeyClient(client)
    made = keys.create("order-book", label="shop-window")["api_key"]

Answers are plain values as the API documents them.
"""

from __future__ import annotations

from typing import Any

from tulle.sdk.client import Client, part


class ServiceKeyClient:
    """Calls one mesh, through a client of it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def keys(self, service: str) -> list[dict[str, Any]]:
        """Every API key that a service has had, the newest first, without its secret."""
        return list(self._client.get(f"/services/{part(service)}/keys")["keys"])

    def create(
        self,
        service: str,
        *,
        label: str,
        description: str = "",
        expires: str | None = None,
        limit: str | None = None,
    ) -> dict[str, Any]:
        """Make an API key of a service; `api_key` of the answer is shown this once."""
        body = {"label": label, "description": description, "expires": expires, "limit": limit}
        return self._client.post(f"/services/{part(service)}/keys", body)

    def change(
        self, service: str, key: str, *, expires: str | None = None, limit: str | None = None
    ) -> dict[str, Any]:
        """Give an API key another end (or `never`) or another limit (or `usual`); what is None stays."""
        path = f"/services/{part(service)}/keys/{part(key)}"
        return self._client.call("PATCH", path, json={"expires": expires, "limit": limit})

    def revoke(self, service: str, key: str) -> dict[str, Any]:
        """End an API key, named by its id or its label."""
        return self._client.delete(f"/services/{part(service)}/keys/{part(key)}")

    def admin_keys(self) -> list[dict[str, Any]]:
        """The keys of the admin API of API nodes, without their secrets."""
        return list(self._client.get("/admin-keys")["keys"])

    def create_admin_key(
        self, label: str, *, description: str = "", expires: str | None = None
    ) -> dict[str, Any]:
        """Make a key of the admin API, which turns it on; `key` of the answer is shown this once."""
        body = {"label": label, "description": description, "expires": expires}
        return self._client.post("/admin-keys", body)

    def delete_admin_key(self, key: str) -> dict[str, Any]:
        """End a key of the admin API, named by its id."""
        return self._client.delete(f"/admin-keys/{part(key)}")
