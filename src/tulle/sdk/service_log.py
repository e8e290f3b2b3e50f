"""What a mesh keeps of a service's queries, over its API: the log, what turned out, drift, comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tulle.sdk.client import Client, part


class ServiceLog:
    """The log of one service."""

    def __init__(self, client: Client, service: str) -> None:
        self._client = client
        self._home = f"/services/{part(service)}"

    def queries(self, **wanted: Any) -> dict[str, Any]:
        """`queries`, newest first: those since a moment, of an endpoint, with `errors`, at most `limit`."""
        return self._get("/queries", wanted)

    def state(self, *, since: float | None = None) -> dict[str, Any]:
        """How much is kept for how long, and by endpoint and generation what was asked since a moment."""
        return self._get("/log", {"since": since})

    def tell(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Tell what turned out: `requestId`, `item` (0 without) and `outcome` each. Telling twice does no harm."""
        return self._client.call("POST", f"{self._home}/feedback", json={"items": list(items)})

    def tell_from(self, product: str, data_set: str) -> dict[str, Any]:
        """Tell what the rows of a data set say, which has `request_id` and `outcome`, and maybe `item`."""
        body = {"product": product, "data_set": data_set}
        return self._client.call("POST", f"{self._home}/feedback/from", json=body)

    def feedback(self) -> dict[str, Any]:
        """How many answers something is known of, and which ids are unknown."""
        return self._get("/feedback", {})

    def drift(self, **window: Any) -> dict[str, Any]:
        """`measured`, by endpoint and generation: inputs, predictions and qualities in a window (`since`, `until`)."""
        return self._get("/drift", window)

    def drift_history(self, *, days: int = 30) -> list[dict[str, Any]]:
        """What was measured of the last days, as rows."""
        return list(self._get("/drift/history", {"days": days})["history"])

    def measure_days(self) -> list[str]:
        """Measure the last week's days that have something new, and keep what was found; which days."""
        return list(self._client.call("POST", f"{self._home}/drift")["days"])

    def compare_recorded(self, left: str, right: str, **how: Any) -> dict[str, Any]:
        """What two generations answered to the same requests, where one was the other's shadow."""
        return self._get("/compare/recorded", {"left": left, "right": right, **how})

    def compare_again(self, left: str, right: str, **how: Any) -> dict[str, Any]:
        """Two versions asked the newest recorded requests again (`most`), in processes of their own."""
        body = {"left": left, "right": right, **{k: v for k, v in how.items() if v is not None}}
        return self._client.call("POST", f"{self._home}/compare/replay", json=body)

    def _get(self, path: str, params: Mapping[str, Any]) -> dict[str, Any]:
        given = {name: value for name, value in params.items() if value is not None}
        return self._client.call("GET", self._home + path, params=given)
