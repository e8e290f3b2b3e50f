"""The Python client of the gateway's operation: how it fares, its versions, rollback and back again.

    gateway = GatewayClient(client)
    gateway.rollback(reason="orders are refused")
    gateway.resume()

Answers are plain values as the API documents them.
"""

from __future__ import annotations

from typing import Any

from tulle.sdk.client import Client


class GatewayClient:
    """Calls one mesh, through a client of it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def status(self) -> dict[str, Any]:
        """How it fares, which version is in force, whether it is pinned."""
        return self._client.call("GET", "/gateway")

    def versions(self, *, limit: int = 50, before: int | None = None) -> list[dict[str, Any]]:
        """The versions that are kept, the newest first."""
        params = {"limit": limit} | ({"before": before} if before is not None else {})
        return list(self._client.call("GET", "/gateway/versions", params=params)["versions"])

    def version(self, number: int) -> dict[str, Any]:
        """One version with its content and what it changed."""
        return self._client.call("GET", f"/gateway/versions/{number}")

    def diff(self, first: int | None = None, second: int | None = None) -> dict[str, Any]:
        """What differs between two versions, or between what is pinned and what waits.

        Without `second` up to the newest, with `second` alone since the one before it.
        """
        params = {name: one for name, one in (("from", first), ("to", second)) if one is not None}
        return self._client.call("GET", "/gateway/diff", params=params)

    def check(self) -> dict[str, Any]:
        """Whether what is recorded now would be published, and why not what would not."""
        return self._client.call("POST", "/gateway/check")

    def reload(self, *, dry_run: bool = False) -> dict[str, Any]:
        """Take up what mesh.yaml says now, as far as that needs no restart; with `dry_run` only say what it is."""
        return self._client.call("POST", "/gateway/reload", json={"dry_run": dry_run})

    def rollback(self, version: int | None = None, *, reason: str = "") -> dict[str, Any]:
        """Do as a version says, by default the one before, until it is resumed."""
        return self._client.call("POST", "/gateway/rollback", json={"version": version, "reason": reason})

    def restart(self) -> dict[str, Any]:
        """Have another process take it over without a lost request."""
        return self._client.call("POST", "/gateway/restart")

    def resume(self) -> dict[str, Any]:
        """Follow what is applied and deployed again."""
        return self._client.call("POST", "/gateway/resume")

    def trust(self) -> dict[str, Any]:
        """The mesh's authorities, the certificates of its parts, and which service may call which."""
        return self._client.get("/trust")

    def rotate_authority(self, *, at_once: bool = False) -> dict[str, Any]:
        """Replace the mesh's authority; `at_once`: what it signed until now holds no more."""
        return self._client.post("/trust/rotate", {"at_once": at_once})
