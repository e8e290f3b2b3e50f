"""The Python client of alerts: their channels, what was sent, and incidents.

    alerts = AlertClient(client)
    alerts.incidents(is_open=True)

Answers are plain values as the API documents them.
"""

from __future__ import annotations

from typing import Any

from tulle.sdk.client import Client, part


class AlertClient:
    """Calls one mesh, through a client of it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def channels(self) -> list[dict[str, Any]]:
        """Where alerts go, and where each channel's URL comes from; never a URL."""
        return list(self._client.get("/alerts")["channels"])

    def set_url(self, channel: str, url: str) -> dict[str, Any]:
        """Keep a channel's URL, encrypted."""
        return self._client.post(f"/alerts/{part(channel)}/url", {"url": url})

    def test(self, channel: str) -> dict[str, Any]:
        """Send a test message to a channel now."""
        return self._client.post(f"/alerts/{part(channel)}/test", {})

    def incidents(
        self, *, product: str | None = None, is_open: bool = False, limit: int = 50
    ) -> list[dict[str, Any]]:
        """What is or was wrong with products, newest first."""
        return list(self._client.get("/incidents", product=product, open=is_open, limit=limit)["incidents"])

    def deliveries(self, *, limit: int = 50) -> list[dict[str, Any]]:
        """What was sent where, newest first, and why not."""
        return list(self._client.get("/alerts/deliveries", limit=limit)["deliveries"])
