"""What a mesh's services are asked and how they fare, over its API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tulle.sdk.client import Client, part


class InsightClient:
    """Asks one mesh. Latencies are in microseconds, times in seconds since the epoch."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def told(self, *, by: str = "api", span: str = "hour", **which: Any) -> dict[str, Any]:
        """`series` by api, operation, generation, client or mesh over the last hour, day, week or month."""
        return self._get("", by=by, span=span, **which)

    def slow(self, **which: Any) -> list[dict[str, Any]]:
        """The slowest requests that are kept, with their ids."""
        return list(self._get("/slow", **which)["slow"])

    def violations(self, *, by: Sequence[str] = (), **which: Any) -> list[dict[str, Any]]:
        """What the gateway refused, and what it got no answer to, by kind, and `by` version, generation or both."""
        return list(self._get("/violations", by=list(by), **which)["violations"])

    def unused(self, *, days: int = 30) -> list[dict[str, Any]]:
        """Services that nobody asked for so many days."""
        return list(self._get("/unused", days=days)["unused"])

    def forecast(self, service: str, **how: Any) -> dict[str, Any]:
        """Patterns of a service, a forecast of a week, and the workers for it."""
        return self._get("/forecast", service=service, **how)

    def watches(self) -> list[dict[str, Any]]:
        """Every watch, and how it stands on each service."""
        return list(self._get("/watches")["watches"])

    def add_watch(self, name: str, what: Mapping[str, Any]) -> dict[str, Any]:
        """Make a watch: `measure`, `above` or `below`, and the rest as in mesh.yaml."""
        return self._client.call("POST", f"/insight/watches/{part(name)}", json=dict(what))

    def remove_watch(self, name: str) -> dict[str, Any]:
        """Remove a watch that was made so; what it told is closed."""
        return self._client.call("DELETE", f"/insight/watches/{part(name)}")

    def mute_watch(self, name: str, until: float | None) -> dict[str, Any]:
        """Have a watch tell nothing until a time; None: tell again."""
        return self._client.call("PUT", f"/insight/watches/{part(name)}/mute", json={"until": until})

    def resolve_watch(self, name: str) -> int:
        """Close what a watch told; how many."""
        return int(self._client.call("POST", f"/insight/watches/{part(name)}/resolve")["resolved"])

    def replay(self, **how: Any) -> dict[str, Any]:
        """Ask recorded `requests` (ids) again, or those of a `service` that the rest holds for; how answers differ."""
        given = {name: value for name, value in how.items() if value not in (None, "", [])}
        return self._client.call("POST", "/insight/replay", json=given)

    def state(self) -> dict[str, Any]:
        """How far the access log is counted."""
        return self._get("/state")

    def _get(self, path: str, **params: Any) -> dict[str, Any]:
        given = {name: value for name, value in params.items() if value not in (None, "", [])}
        return self._client.call("GET", f"/insight{path}", params=given)
