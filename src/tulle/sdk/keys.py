"""The Python client of the keys that open one service, or one API, to whoever sends them.

    keys = KeyClient(client)
    made = keys.create("order-book", label="shop-window")["api_key"]
    KeyClient(client, of="apis").revoke("orders", "shop-window")

Answers are plain values as the API documents them.
"""

from __future__ import annotations

from typing import Any, Literal

from tulle.sdk.client import Client, part


class KeyClient:
    """Calls one mesh, through a client of it; names are of services, or of APIs."""

    def __init__(self, client: Client, *, of: Literal["services", "apis"] = "services") -> None:
        self._client, self._of = client, of

    def keys(self, name: str) -> list[dict[str, Any]]:
        """Every key that it has had, the newest first, without its secret."""
        return list(self._client.get(self._home(name))["keys"])

    def create(
        self,
        name: str,
        *,
        label: str,
        description: str = "",
        expires: str | None = None,
        limit: str | None = None,
    ) -> dict[str, Any]:
        """Make a key; `api_key` of the answer is shown this once."""
        body = {"label": label, "description": description, "expires": expires, "limit": limit}
        return self._client.post(self._home(name), body)

    def change(
        self, name: str, key: str, *, expires: str | None = None, limit: str | None = None
    ) -> dict[str, Any]:
        """Give a key another end (or `never`) or another limit (or `usual`); what is None stays."""
        path = f"{self._home(name)}/{part(key)}"
        return self._client.call("PATCH", path, json={"expires": expires, "limit": limit})

    def revoke(self, name: str, key: str) -> dict[str, Any]:
        """End a key, named by its id or its label."""
        return self._client.delete(f"{self._home(name)}/{part(key)}")

    def _home(self, name: str) -> str:
        return f"/{self._of}/{part(name)}/keys"
