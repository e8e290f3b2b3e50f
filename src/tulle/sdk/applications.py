"""The Python client of client applications: who they are of, their secrets, the services they may call.

    applications = ApplicationClient(client)
    made = applications.create("shop-window", owner="web")

Answers are plain values as the API documents them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tulle.sdk.client import Client, part


class ApplicationClient:
    """Calls one mesh, through a client of it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def applications(self, *, containing: str = "", limit: int | None = None) -> list[dict[str, Any]]:
        """Client applications with their contracts, by name, the first `limit` or all of them; never a secret."""
        found: list[dict[str, Any]] = []
        after: str | None = ""
        while after is not None and (limit is None or len(found) < limit):
            left = 1000 if limit is None else min(limit - len(found), 1000)
            page = self._client.get("/applications", q=containing, limit=left, after=after)
            found += page["applications"]
            after = page["next"]
        return found

    def application(self, name: str) -> dict[str, Any]:
        """One application with everything it asked for."""
        return self._client.get(f"/applications/{part(name)}")

    def create(
        self,
        name: str,
        *,
        services: Mapping[str, str | None] | None = None,
        owner: str = "",
        owners: Sequence[str] = (),
        description: str = "",
        purpose: str = "",
        contact: str = "",
        expires: str | None = None,
    ) -> dict[str, Any]:
        """Register an application, for services (with rate limits each, or None for the default) or for none yet.

        The answer holds `client_id`, `client_secret` and `api_key`; they are never shown again.
        """
        asked = {
            "name": name,
            "owner": owner,
            "owners": list(owners),
            "description": description,
            "purpose": purpose,
            "contact": contact,
            "expires": expires,
            "services": dict(services or {}),
        }
        return self._client.post("/applications", asked)

    def change(self, name: str, **said: Any) -> dict[str, Any]:
        """Say something else of an application: `owners`, `description`, `purpose`, `contact`."""
        return self._client.patch(f"/applications/{part(name)}", said)

    def revoke(self, name: str) -> dict[str, Any]:
        """Refuse an application from now on."""
        return self._client.delete(f"/applications/{part(name)}")

    def rotate(self, name: str, *, overlap: str | None = None, expires: str | None = None) -> dict[str, Any]:
        """Give an application a new secret; the old one goes on for `overlap`, by default 24h, with 0 not at all."""
        said = {"overlap": overlap, "expires": expires}
        return self._client.post(
            f"/applications/{part(name)}/rotate", {key: value for key, value in said.items() if value}
        )

    def end_former_secret(self, name: str) -> dict[str, Any]:
        """End the secret that goes on beside an application's newest one."""
        return self._client.delete(f"/applications/{part(name)}/former-secret")

    def set_hook(self, name: str, url: str) -> dict[str, Any]:
        """Tell a URL of each step of an application's contracts; with the secret that signs, this one time."""
        return self._client.put(f"/applications/{part(name)}/hook", {"url": url})

    def remove_hook(self, name: str) -> dict[str, Any]:
        """Tell it no more."""
        return self._client.delete(f"/applications/{part(name)}/hook")

    def change_contract(self, name: str, service: str, limit: str | None) -> dict[str, Any]:
        """Let an application call a service at a rate (several: `100/1s + 10000/1d`), or (None) not at all."""
        return self._client.post(
            f"/applications/{part(name)}/contracts", {"service": service, "limit": limit}
        )
