"""The Python client of services: their packages, who may call them and how, tests, comparisons, test queries.

    services = ServiceClient(client)
    services.package("customer-insights")
    services.compare("customer-insights", "v1", "v2")["different"]

Answers are plain values as the API documents them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tulle.sdk.client import Client, part


class ServiceClient:
    """Calls one mesh, through a client of it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def services(self) -> list[dict[str, Any]]:
        """Every declared or packaged service with its versions and what is deployed."""
        return list(self._client.get("/services")["services"])

    def problems(self) -> list[str]:
        """What is wrong with files of services, which are left out of `services`; a line each."""
        return list(self._client.get("/services")["problems"])

    def service(self, name: str) -> dict[str, Any]:
        """One service with its endpoints, versions and deployment."""
        return self._client.get(f"/services/{part(name)}")

    def package(
        self, service: str, *, environment: str | None = None, allow_failing: bool = False
    ) -> dict[str, Any]:
        """Build an immutable version of a service from the published data; unchanged content is not built again.

        One whose test queries fail is refused unless `allow_failing`.
        """
        body = {"environment": environment, "allow_failing": allow_failing}
        return self._client.post(f"/services/{part(service)}/packages", body)

    def test(self, service: str, version: str | None = None) -> dict[str, Any]:
        """Run the test queries saved in a version; the verdicts."""
        return self._client.post(f"/services/{part(service)}/test", {"version": version})

    def openapi(self, service: str) -> dict[str, Any]:
        """The OpenAPI 3.1 document of a service's deployed (else newest) version."""
        return self._client.get(f"/services/{part(service)}/openapi.json")

    def access(self, service: str, *, environment: str | None = None) -> dict[str, Any]:
        """By which ways a service may be called, and who says so."""
        return self._client.get(f"/services/{part(service)}/access", environment=environment)

    def set_access(
        self, service: str, access: Mapping[str, Any] | None, *, environment: str | None = None
    ) -> dict[str, Any]:
        """Say at its deployment by which ways a service may be called; None: as its package says."""
        return self._say(service, "access", None if access is None else dict(access), environment)

    def policies(self, service: str, *, environment: str | None = None) -> dict[str, Any]:
        """What the gateway does with the requests of a service, who says so, and what the mesh adds."""
        return self._client.get(f"/services/{part(service)}/policies", environment=environment)

    def set_policies(
        self, service: str, policies: Sequence[Mapping[str, Any]] | None, *, environment: str | None = None
    ) -> dict[str, Any]:
        """Say at its deployment what the gateway does with a service's requests; None: as its package says."""
        said = None if policies is None else [dict(one) for one in policies]
        return self._say(service, "policies", said, environment)

    def compare(
        self,
        service: str,
        left: str,
        right: str,
        *,
        tolerance: float = 1e-6,
        queries: Sequence[Mapping[str, Any]] | None = None,
    ) -> dict[str, Any]:
        """Two versions asked the same: the test queries of both, or `queries` ({"endpoint", "name", "body"})."""
        asked = {"left": left, "right": right, "tolerance": tolerance, "queries": queries}
        return self._client.call("POST", f"/services/{part(service)}/compare", json=asked)

    def test_generation(
        self, service: str, version: str = "active", *, environment: str | None = None
    ) -> dict[str, Any]:
        """The test queries of a generation that runs, asked of its workers; by default of what most requests meet.

        Without an environment in that of consumers, else in the first one in which it runs.
        """
        path = f"/services/{part(service)}/generations/{part(version)}/test"
        params = {} if environment is None else {"environment": environment}
        return self._client.call("POST", path, params=params)

    def make_queries(self, service: str, endpoint: str, data_set: str, **how: Any) -> dict[str, Any]:
        """Test queries of an endpoint from rows of a data set: `product`, `rows`, `seed`, `expect`, `tolerance`,
        `columns`, `write`.
        """
        path = f"/services/{part(service)}/endpoints/{part(endpoint)}/test-queries"
        return self._client.call("POST", path, json={"data_set": data_set, **how})

    def snippets(self, service: str, endpoint: str | None = None) -> dict[str, Any]:
        """A call of each endpoint, or of one, as curl, Python, dataikuapi and JavaScript write it."""
        asked = {} if endpoint is None else {"endpoint": endpoint}
        return self._client.call("GET", f"/services/{part(service)}/snippets", params=asked)

    def _say(self, service: str, what: str, said: Any, environment: str | None) -> dict[str, Any]:
        path = f"/services/{part(service)}/{what}"
        if said is None:
            return self._client.delete(path, environment=environment)
        where = {} if environment is None else {"environment": environment}
        return self._client.call("PUT", path, json={what: said}, params=where)
