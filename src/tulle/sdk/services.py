"""The Python client of what is asked of services' generations: tests, comparisons, test queries from data.

    services = ServiceClient(client)
    services.compare("customer-insights", "v1", "v2")["different"]

Answers are plain values as the API documents them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from tulle.sdk.client import Client


class ServiceClient:
    """Calls one mesh, through a client of it."""

    def __init__(self, client: Client) -> None:
        self._client = client

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
        return self._client.call("POST", f"/services/{_part(service)}/compare", json=asked)

    def test_generation(
        self, service: str, version: str = "active", *, environment: str | None = None
    ) -> dict[str, Any]:
        """The test queries of a generation that runs, asked of its workers; by default of what most requests meet.

        Without an environment in that of consumers, else in the first one in which it runs.
        """
        path = f"/services/{_part(service)}/generations/{_part(version)}/test"
        params = {} if environment is None else {"environment": environment}
        return self._client.call("POST", path, params=params)

    def make_queries(self, service: str, endpoint: str, data_set: str, **how: Any) -> dict[str, Any]:
        """Test queries of an endpoint from rows of a data set: `product`, `rows`, `seed`, `expect`, `tolerance`,
        `columns`, `write`.
        """
        path = f"/services/{_part(service)}/endpoints/{_part(endpoint)}/test-queries"
        return self._client.call("POST", path, json={"data_set": data_set, **how})

    def snippets(self, service: str, endpoint: str | None = None) -> dict[str, Any]:
        """A call of each endpoint, or of one, as curl, Python, dataikuapi and JavaScript write it."""
        asked = {} if endpoint is None else {"endpoint": endpoint}
        return self._client.call("GET", f"/services/{_part(service)}/snippets", params=asked)


def _part(text: str) -> str:
    return quote(text, safe="")
