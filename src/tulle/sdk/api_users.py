"""The Python client of the users who call APIs by name and password.

    users = ApiUserClient(client)
    users.set_password("anna", password)

Answers are plain values as the API documents them.
"""

from __future__ import annotations

from typing import Any

from tulle.sdk.client import Client, part


class ApiUserClient:
    """Calls one mesh, through a client of it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def users(self) -> list[dict[str, Any]]:
        """The users who have a password, with their groups and since when."""
        found: list[dict[str, Any]] = self._client.get("/api-users")["users"]
        return found

    def set_password(self, user: str, password: str) -> dict[str, Any]:
        """Set the password with which a user calls APIs, in place of one there is."""
        return self._client.put(f"/api-users/{part(user)}/password", {"password": password})

    def remove_password(self, user: str) -> dict[str, Any]:
        """Let a user have no password; NotFound where there is none."""
        return self._client.delete(f"/api-users/{part(user)}/password")
