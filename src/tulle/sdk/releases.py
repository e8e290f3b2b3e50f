"""The Python client of environments, previews, releases, promotions and the end of products.

    releases = ReleaseClient(client)
    releases.make("purchases", notes="Refunds are rows of their own.", by="ann")
    releases.promote("purchases", "1.1.0", to="prod", by="ann")

Answers are plain values as the API documents them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tulle.sdk.client import Client, part


class ReleaseClient:
    """Calls one mesh, through a client of it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def environments(self) -> list[dict[str, Any]]:
        """Every environment with its bindings and what is in force there, in the order releases go."""
        return list(self._client.get("/environments")["environments"])

    def environment(self, name: str) -> dict[str, Any]:
        """One environment."""
        return self._client.get(f"/environments/{part(name)}")

    def previews(self, product: str | None = None) -> list[dict[str, Any]]:
        """The previews there are."""
        return list(self._client.get("/previews", product=product)["previews"])

    def create_preview(
        self, product: str, name: str, *, source: str | None = None, by: str
    ) -> dict[str, Any]:
        """A short-lived branch of a product off an environment; runs take it as `--environment`."""
        body = {"name": name, "source": source, "by": by}
        return self._client.post(f"/products/{part(product)}/previews", body)

    def remove_preview(self, product: str, name: str, *, by: str) -> dict[str, Any]:
        """Remove a preview with its branches."""
        return self._client.call(
            "DELETE", f"/products/{part(product)}/previews/{part(name)}", params={"by": by}
        )

    def manifest(
        self, product: str, *, environment: str | None = None, run: str | None = None
    ) -> dict[str, Any]:
        """What a run was specified by and what came of it, compared with the run before; by default the newest."""
        return self._client.get(f"/products/{part(product)}/manifest", environment=environment, run=run)

    def releases(self, product: str | None = None) -> list[dict[str, Any]]:
        """Releases, the highest version first."""
        return list(self._client.get("/releases", product=product)["releases"])

    def release(self, product: str, version: str) -> dict[str, Any]:
        """One release with all that was signed."""
        return self._client.get(f"/products/{part(product)}/releases/{part(version)}")

    def make(
        self, product: str, *, environment: str | None = None, notes: str = "", by: str
    ) -> dict[str, Any]:
        """Release what ran last in an environment; `created` is false when that is released already."""
        body = {"environment": environment, "notes": notes, "by": by}
        return self._client.post(f"/products/{part(product)}/releases", body)

    def verify(self, product: str, version: str) -> dict[str, Any]:
        """Whether a release is what was signed; `problem` says what is wrong."""
        return self._client.get(f"/products/{part(product)}/releases/{part(version)}/verify")

    def promotions(self, product: str | None = None, *, status: str | None = None) -> list[dict[str, Any]]:
        """Promotions and rollbacks, newest first."""
        return list(self._client.get("/promotions", product=product, status=status)["promotions"])

    def promotion(self, id_: str) -> dict[str, Any]:
        """One of them, as far as it is."""
        return self._client.get(f"/promotions/{part(id_)}")

    def promote(
        self,
        product: str,
        version: str,
        *,
        to: str,
        by: str | None = None,
        note: str = "",
        accept_breaking: bool = False,
    ) -> dict[str, Any]:
        """Ask that a release be promoted; it starts when nobody has to approve any more."""
        body = {"version": version, "to": to, "by": by, "note": note, "accept_breaking": accept_breaking}
        return self._client.post(f"/products/{part(product)}/promotions", body)

    def decide(
        self, id_: str, *, approved: bool = True, note: str = "", breaking: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Approve a promotion, or refuse it, as the user whose credential the client has (`Client.as_user`).

        `breaking` is what the user was shown that it breaks: Conflict when it would break more by now.
        """
        said = {"approved": approved, "note": note, "breaking": None if breaking is None else list(breaking)}
        return self._client.post(f"/promotions/{part(id_)}/decisions", said)

    def withdraw(self, id_: str, *, by: str | None = None) -> dict[str, Any]:
        """Take back a promotion that waits."""
        return self._client.post(f"/promotions/{part(id_)}/withdraw", {"by": by})

    def rollback(
        self,
        product: str,
        *,
        to: str,
        environment: str | None = None,
        by: str | None = None,
        note: str = "",
    ) -> dict[str, Any]:
        """Put code and data back to where a release left them."""
        body = {"to": to, "environment": environment, "by": by, "note": note}
        return self._client.post(f"/products/{part(product)}/rollback", body)

    def deprecations(self) -> list[dict[str, Any]]:
        """Products that will end."""
        return list(self._client.get("/deprecations")["deprecations"])

    def deprecate(
        self, product: str, *, sunset: str, reason: str, successor: str = "", by: str
    ) -> dict[str, Any]:
        """Say that a product ends, when and why; its consumers are told."""
        body = {"sunset": sunset, "reason": reason, "successor": successor, "by": by}
        return self._client.post(f"/products/{part(product)}/deprecation", body)

    def reinstate(self, product: str, *, by: str) -> dict[str, Any]:
        """Take back that a product ends."""
        return self._client.call("DELETE", f"/products/{part(product)}/deprecation", params={"by": by})

    def retire(self, product: str, *, by: str) -> str:
        """Take a product whose day has come out of the mesh; what was done."""
        return str(self._client.post(f"/products/{part(product)}/retire", {"by": by})["sentence"])
