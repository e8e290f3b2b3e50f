"""The Python client of schedules and backfills: when products run by themselves, and runs over times gone by.

    schedules = ScheduleClient(client)
    schedules.pause("orders")
    schedules.start_backfill("orders", "2026-01-01", "2026-02-01")

Answers are plain values as the API documents them.
"""

from __future__ import annotations

from typing import Any

from tulle.sdk.client import Client, part


class ScheduleClient:
    """Calls one mesh, through a client of it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def schedules(self) -> list[dict[str, Any]]:
        """Every schedule in force, the next to fire first."""
        return list(self._client.get("/schedules")["schedules"])

    def schedule(self, product: str, *, environment: str = "main") -> dict[str, Any]:
        """The schedule of one product, its next fires and what fired."""
        return self._client.get(f"/schedules/{part(product)}", environment=environment)

    def calendar(self, *, hours: float = 24.0, limit: int = 200) -> list[dict[str, Any]]:
        """The fires to come of all schedules, in order."""
        return list(self._client.get("/calendar", hours=hours, limit=limit)["fires"])

    def pause(self, product: str, *, environment: str = "main") -> dict[str, Any]:
        """Let a schedule fire no more until it is resumed."""
        return self._client.post(f"/schedules/{part(product)}/pause", {"environment": environment})

    def resume(self, product: str, *, environment: str = "main") -> dict[str, Any]:
        """Let a schedule fire again, from now on."""
        return self._client.post(f"/schedules/{part(product)}/resume", {"environment": environment})

    def start_backfill(
        self,
        product: str,
        start: str,
        end: str,
        *,
        step: str = "day",
        environment: str = "main",
        retries: int | None = None,
    ) -> dict[str, Any]:
        """Run a product for each window from `start` until before `end` (ISO); returns at once."""
        body = {"product": product, "start": start, "end": end, "step": step, "environment": environment}
        return self._client.post("/backfills", {**body, "retries": retries})

    def backfills(self, *, product: str | None = None, limit: int = 20) -> list[dict[str, Any]]:
        """The latest backfills, newest first."""
        return list(self._client.get("/backfills", product=product, limit=limit)["backfills"])

    def backfill(self, id_: str) -> dict[str, Any]:
        """One backfill with its windows."""
        return self._client.get(f"/backfills/{part(id_)}")

    def cancel_backfill(self, id_: str) -> dict[str, Any]:
        """Start no further window of it, and stop the run under way."""
        return self._client.post(f"/backfills/{part(id_)}/cancel", {})

    def resume_backfill(self, id_: str) -> dict[str, Any]:
        """Go on with one that failed."""
        return self._client.post(f"/backfills/{part(id_)}/resume", {})
