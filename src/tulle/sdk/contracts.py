"""The Python client of contracts: what is offered, asked for and decided, and who may use what.

    contracts = ContractClient(client)
    asked = contracts.request("shop-window", api="orders", tier="free", purpose="shows orders")
    contracts.decide(asked["id"], "approve")

Answers are plain values as the API documents them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tulle.sdk.client import Client, part


class ContractClient:
    """Calls one mesh, through a client of it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def offer(self, name: str, *, product: bool = False) -> dict[str, Any]:
        """The `tiers` one may ask for at an API (or a product), and its `terms`."""
        return self._client.get(f"/{'products' if product else 'services'}/{part(name)}/offer")

    def request(self, application: str, **asked: Any) -> dict[str, Any]:
        """Ask for access to an `api` or a `product`: `tier`, `purpose`, the version of the `terms` that is accepted."""
        said = {name: value for name, value in asked.items() if value is not None}
        return self._client.post("/contracts", {"application": application, **said})

    def contracts(
        self,
        *,
        states: Sequence[str] = (),
        application: str | None = None,
        service: str | None = None,
        product: str | None = None,
        limit: int | None = None,
    ) -> list[dict[str, Any]]:
        """Requests and contracts, the newest first: the first `limit` or all of them, asked for a page at a time."""
        asked = {"application": application, "service": service, "product": product}
        found: list[dict[str, Any]] = []
        before: str | None = None
        while limit is None or len(found) < limit:
            left = 1000 if limit is None else min(limit - len(found), 1000)
            page = self._client.get(
                "/contracts", state=list(states) or None, **asked, limit=left, before=before
            )
            found += page["contracts"]
            before = page["before"]
            if before is None:
                break
        return found

    def contract(self, id_: str) -> dict[str, Any]:
        """One request and what became of it."""
        return self._client.get(f"/contracts/{part(id_)}")

    def decide(self, id_: str, step: str, **said: str) -> dict[str, Any]:
        """Approve, reject, revoke, restore or change a contract, with another `tier`, `limits`, a `reason`, an end."""
        return self._client.post(
            f"/contracts/{part(id_)}/{part(step)}", {key: value for key, value in said.items() if value}
        )

    def accepted_terms(self, id_: str) -> dict[str, Any]:
        """The terms as they were accepted last for a contract: `version`, `text`, by whom and when."""
        return self._client.get(f"/contracts/{part(id_)}/terms")

    def accept_terms(self, id_: str, version: str) -> dict[str, Any]:
        """Accept the terms of a contract's API as they are now."""
        return self._client.put(f"/contracts/{part(id_)}/terms", {"version": version})

    def delete(self, id_: str) -> dict[str, Any]:
        """Give up a contract, or take back a request."""
        return self._client.delete(f"/contracts/{part(id_)}")

    def access(
        self, *, product: str | None = None, service: str | None = None, application: str | None = None
    ) -> list[dict[str, Any]]:
        """Who may use what, and why: all of it, asked for a page at a time."""
        found: list[dict[str, Any]] = []
        after: str | None = None
        while True:
            asked = {"product": product, "service": service, "application": application}
            page = self._client.get("/access", **asked, limit=10_000, after=after)
            found += page["access"]
            after = page["next"]
            if after is None:
                return found
