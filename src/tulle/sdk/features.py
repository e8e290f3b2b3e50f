"""The Python client of what services look up, of training sets made of it, of whole data sets answered,
and of stores filled from the lake.

    features = FeatureClient(client)
    features.look_ups("customer-insights")
    begun = features.training_set("customer-insights", "will-return", entities="visits", time="at", out="learned_from")
    features.wait(begun["id"])

Answers are plain values as the API documents them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import monotonic, sleep
from typing import Any

from tulle.errors import Invalid, Unavailable
from tulle.sdk.client import Client, part


class FeatureClient:
    """Calls one mesh, through a client of it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def look_ups(self, service: str, version: str | None = None) -> dict[str, Any]:
        """Where a service finds rows, of which commit they are, how old that is and what failed.

        Of the version that answers, else of the newest, where none is named.
        """
        asked = {} if version is None else {"version": version}
        return self._client.call("GET", f"/services/{part(service)}/look-ups", params=asked)

    def training_set(
        self, service: str, endpoint: str, *, entities: str, time: str, out: str, version: str | None = None
    ) -> dict[str, Any]:
        """Begin to make a training set: the entities with the features that the endpoint would have had at their times.

        Data sets are named `data_set`, or `product/data_set`; `time` is a column of the entities. The answer has an
        `id`, which `wait` waits for.
        """
        asked = {"entities": entities, "time": time, "out": out, "version": version}
        return self._begin(service, endpoint, "training-set", asked)

    def score(
        self,
        service: str,
        endpoint: str,
        *,
        rows: str,
        out: str,
        renamed: Mapping[str, str] | None = None,
        keep: Sequence[str] | None = None,
        version: str | None = None,
    ) -> dict[str, Any]:
        """Begin to have the rows of a data set answered, each with what the endpoint would say to it.

        `renamed` says which column is sent by another name, `keep` which columns stay beside the answers.
        """
        asked: dict[str, Any] = {"rows": rows, "out": out, "map": dict(renamed or {}), "version": version}
        asked["keep"] = None if keep is None else list(keep)
        return self._begin(service, endpoint, "score", asked)

    def publish(
        self,
        service: str,
        *,
        endpoint: str | None = None,
        version: str | None = None,
        commit: str | None = None,
    ) -> dict[str, Any]:
        """Begin to fill the stores in which a service looks rows up, those that the lake fills.

        All of them where no endpoint is named; from what is published where no commit is.
        """
        asked = {"endpoint": endpoint, "version": version, "commit": commit}
        return self._client.call("POST", f"/services/{part(service)}/publish", json=asked)

    def batch(self, batch: str) -> dict[str, Any]:
        """How a training set, the scoring of a data set, or publishing goes."""
        return self._client.call("GET", f"/batches/{part(batch)}")

    def wait(
        self,
        batch: str,
        *,
        seconds: float | None = None,
        told: Callable[[int, int], object] | None = None,
    ) -> dict[str, Any]:
        """Wait until it has ended, so long at most, and tell what came of it. Invalid when it failed; Unavailable.

        `told` is told how many rows are published, of how many.
        """
        deadline = None if seconds is None else monotonic() + seconds
        while True:
            found = self.batch(batch)
            if told is not None and found["progress"]:
                told(*found["progress"])
            if found["status"] == "failed":
                raise Invalid(found["message"], hint=found["hint"])
            if found["status"] == "succeeded":
                return found
            if deadline is not None and monotonic() > deadline:
                raise Unavailable(f"batch '{batch}' is not done after {seconds:.0f} s", hint="it goes on")
            sleep(0.2)

    def _begin(self, service: str, endpoint: str, what: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        path = f"/services/{part(service)}/endpoints/{part(endpoint)}/{what}"
        return self._client.call("POST", path, json=dict(asked))
