"""The Python client of what services look up.

    features = FeatureClient(client)
    features.look_ups("customer-insights")

Answers are plain values as the API documents them.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from tulle.sdk.client import Client


class FeatureClient:
    """Calls one mesh, through a client of it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def look_ups(self, service: str, version: str | None = None) -> dict[str, Any]:
        """Where a service finds rows, of which commit they are, how old that is and what failed.

        Of the version that answers, else of the newest, where none is named.
        """
        asked = {} if version is None else {"version": version}
        return self._client.call("GET", f"/services/{quote(service, safe='')}/look-ups", params=asked)
