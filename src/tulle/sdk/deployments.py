"""The Python client of deployed services: traffic over generations, workers, endings, what waits for approval.

    deployments = DeploymentClient(client)
    deployments.share("predictor", {"v1": 0.9, "v2": 0.1}, sticky=True)
    deployments.preload("predictor", "v3")

Without an environment all of it is of that of consumers. Answers are plain values as the API documents them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tulle.sdk.client import Client, part


class DeploymentClient:
    """Calls one mesh, through a client of it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def deploy(
        self,
        service: str,
        version: str | None = None,
        *,
        environment: str | None = None,
        note: str = "",
        test_queries: str = "",
    ) -> dict[str, Any]:
        """Deploy a version (the newest by default); returns at once, `service` shows the progress.

        `test_queries`: what they lead to that are asked then: tell, rollback or skip; empty: as the environment says.
        """
        body = {"version": version, "environment": environment, "note": note, "test_queries": test_queries}
        return self._client.post(f"/services/{part(service)}/deploy", body)

    def rollback(
        self, service: str, *, environment: str | None = None, test_queries: str = ""
    ) -> dict[str, Any]:
        """Go back to the generations that answered before."""
        body = {"environment": environment, "test_queries": test_queries}
        return self._client.post(f"/services/{part(service)}/rollback", body)

    def deployments(self, service: str) -> list[dict[str, Any]]:
        """Where a service is deployed, and which generations answer there."""
        return list(self._client.call("GET", f"{_of(service)}/deployments")["deployments"])

    def deployment(self, service: str, environment: str | None = None) -> dict[str, Any] | None:
        """Its deployment in one environment, without a name in that of consumers; None when there is none."""
        found = self.deployments(service)
        if environment is None:
            return next((one for one in found if one["is_consumers"]), None)
        return next((one for one in found if one["environment"] == environment), None)

    def share(
        self,
        service: str,
        shares: Mapping[str, float],
        *,
        sticky: bool = False,
        shadow: tuple[str, float] | None = None,
        preloaded: Sequence[str] = (),
        environment: str | None = None,
        note: str = "",
        test_queries: str = "",
    ) -> dict[str, Any]:
        """Let several generations answer, each its share of 1; the deployment, or the request for one.

        `test_queries`: what they lead to that are asked then: tell, rollback or skip; empty: as the environment says.
        """
        body = {
            "shares": [{"generation": name, "share": share} for name, share in shares.items()],
            "sticky": sticky,
            "shadow": {"generation": shadow[0], "share": shadow[1]} if shadow else None,
            "preloaded": list(preloaded),
            "environment": environment,
            "note": note,
            "test_queries": test_queries,
        }
        return self._client.call("PUT", f"{_of(service)}/traffic", json=body)

    def preload(
        self, service: str, version: str, *, environment: str | None = None, test_queries: str = ""
    ) -> dict[str, Any]:
        """Start a generation beside those that answer; the deployment, or the request for one."""
        path = f"{_of(service)}/generations/{part(version)}/preload"
        body = {"environment": environment, "test_queries": test_queries}
        return self._client.call("POST", path, json=body)

    def unload(self, service: str, version: str, *, environment: str | None = None) -> dict[str, Any]:
        """Stop a generation that gets no requests of its own."""
        path = f"{_of(service)}/generations/{part(version)}/unload"
        return self._client.call("POST", path, json={"environment": environment})

    def enable(
        self, service: str, is_enabled: bool = True, *, environment: str | None = None
    ) -> dict[str, Any]:
        """Let a service answer, or refuse everybody."""
        what = "enable" if is_enabled else "disable"
        return self._client.call("POST", f"{_of(service)}/{what}", json={"environment": environment})

    def bound(
        self,
        service: str,
        *,
        floor: int | None = None,
        ceil: int | None = None,
        most_requests: int | None = None,
        environment: str | None = None,
    ) -> dict[str, Any]:
        """Say how many workers each generation has, and how many requests they hold at once."""
        body = {"floor": floor, "ceil": ceil, "most_requests": most_requests, "environment": environment}
        return self._client.call("PUT", f"{_of(service)}/bounds", json=body)

    def end(
        self,
        service: str,
        *,
        sunset: str | None = None,
        successor: str = "",
        environment: str | None = None,
    ) -> dict[str, Any]:
        """Tell callers that a service ends, on a date such as 2027-03-31."""
        body = {"sunset": sunset, "successor": successor, "environment": environment}
        return self._client.call("PUT", f"{_of(service)}/ending", json=body)

    def go_on(self, service: str, *, environment: str | None = None) -> dict[str, Any]:
        """It does not end after all."""
        return self._client.call("DELETE", f"{_of(service)}/ending", params=_where(environment))

    def withdraw(self, service: str, *, environment: str | None = None) -> dict[str, Any]:
        """Let it answer no more; its packages stay."""
        return self._client.call("DELETE", f"{_of(service)}/deployment", params=_where(environment))

    def clean(self, service: str | None = None, *, dry_run: bool = False) -> list[dict[str, Any]]:
        """Remove the folders of generations that do not run; what was removed."""
        body = {"service": service, "dry_run": dry_run}
        return list(self._client.call("POST", "/services-clean", json=body)["removed"])

    def export(self, service: str, target: Path, version: str | None = None) -> tuple[str, str]:
        """Save the signed archive of a version; which version, and the public key it is signed with."""
        path = f"{_of(service)}/packages/{part(version or 'active')}/archive"
        headers = self._client.download(path, target)
        return headers["x-tulle-version"], headers["x-tulle-public-key"]

    def take_in(self, service: str, source: Path) -> dict[str, Any]:
        """Import an archive as a version of a service."""
        with source.open("rb") as file:
            return self._client.call("POST", f"{_of(service)}/packages/archive", content=file)

    def requests(self, service: str | None = None, *, status: str | None = None) -> list[dict[str, Any]]:
        """Deployments that were asked for, the newest first."""
        params = {k: v for k, v in {"service": service, "status": status}.items() if v is not None}
        return list(self._client.call("GET", "/deployment-requests", params=params)["requests"])

    def decide(self, id_: str, *, approved: bool = True, note: str = "") -> dict[str, Any]:
        """Approve or refuse one, as the user whose credential the client has."""
        path = f"/deployment-requests/{part(id_)}/decision"
        return self._client.call("POST", path, json={"approved": approved, "note": note})

    def cancel(self, id_: str) -> dict[str, Any]:
        """Take one back that waits."""
        return self._client.call("POST", f"/deployment-requests/{part(id_)}/cancel")


def _of(service: str) -> str:
    return f"/services/{part(service)}"


def _where(environment: str | None) -> dict[str, str]:
    return {} if environment is None else {"environment": environment}
