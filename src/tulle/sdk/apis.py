"""The Python client of managed APIs: what there is, their versions' lives, what answers each instance.

    apis = ApiClient(client)
    apis.publish("orders", "v1")
    apis.bind("orders", "v1", to="service:orders-next", environment="test")

Without an environment all of it is of that of consumers. Answers are plain values as the API documents them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tulle.sdk.client import Client, part


class ApiClient:
    """Calls one mesh, through a client of it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def apis(self, *, tag: str = "", product: str = "") -> list[dict[str, Any]]:
        """Every API by name, deployed services among them."""
        found: list[dict[str, Any]] = []
        after: str | None = ""
        while after is not None:
            params = {"tag": tag, "product": product, "limit": 1000, "after": after}
            page = self._client.call("GET", "/apis", params=params)
            found += page["apis"]
            after = page["next"]
        return found

    def api(self, name: str) -> dict[str, Any]:
        """One API with its versions, instances and pages."""
        return self._client.call("GET", _of(name))

    def operations(self, name: str, version: str) -> list[dict[str, Any]]:
        """The operations of a version."""
        return list(self._client.call("GET", f"{_of(name, version)}/operations")["operations"])

    def openapi(self, name: str, version: str, *, environment: str | None = None) -> dict[str, Any]:
        """The OpenAPI document of a version at the gateway's address."""
        return self._client.call("GET", f"{_of(name, version)}/openapi.json", params=_in(environment))

    def diff(self, name: str, before: str, after: str) -> dict[str, Any]:
        """What differs between two versions, and what of it breaks callers."""
        return self._client.call("GET", f"{_of(name)}/diff", params={"before": before, "after": after})

    def search(self, words: str = "", *, page: int = 1, **chosen: str) -> dict[str, Any]:
        """APIs and products, with words the nearest first: `found`, `count`, `choices`.

        `chosen` are kind, domain, tag, status and way.
        """
        return self._client.call("GET", "/exchange", params={"q": words, "page": page, **chosen})

    def status(self, name: str, version: str = "") -> dict[str, Any]:
        """How an API is, or a version of it: `word`, `why`, its last `hour`, `day`, `month`, `objectives`.

        Latencies are in microseconds.
        """
        return self._client.call("GET", f"{_of(name)}/status", params={"version": version} if version else {})

    def policies(self, name: str, version: str, *, environment: str | None = None) -> dict[str, Any]:
        """What the gateway does with the requests of a version, who says so, and what the mesh adds."""
        return self._client.call("GET", f"{_of(name, version)}/policies", params=_in(environment))

    def set_policies(
        self,
        name: str,
        version: str,
        policies: Sequence[Mapping[str, Any]] | None,
        *,
        environment: str | None = None,
    ) -> dict[str, Any]:
        """Say by hand what the gateway does with a version's requests; None: as its file says."""
        path = f"{_of(name, version)}/policies"
        if policies is None:
            return self._client.call("DELETE", path, params=_in(environment))
        body = {"policies": [dict(one) for one in policies]}
        return self._client.call("PUT", path, json=body, params=_in(environment))

    def ratings(self, name: str) -> dict[str, Any]:
        """What is thought of an API: `ratings`, `count`, `mean`, `by_stars`."""
        return self._client.call("GET", f"{_of(name)}/ratings")

    def rate(self, name: str, stars: int, text: str = "") -> dict[str, Any]:
        """Rate an API as oneself, with an access key of one's own; what one said before goes."""
        return self._client.call("PUT", f"{_of(name)}/rating", json={"stars": stars, "text": text})

    def unrate(self, name: str, user: str | None = None) -> dict[str, Any]:
        """Take back one's own rating, or with the mesh's token somebody's."""
        path = "/rating" if user is None else f"/ratings/{part(user)}"
        return self._client.call("DELETE", f"{_of(name)}{path}")

    def reply(self, name: str, user: str, text: str) -> dict[str, Any]:
        """Say something to somebody's rating, as an owner."""
        path = f"{_of(name)}/ratings/{part(user)}/reply"
        return self._client.call("PUT", path, json={"text": text})

    def questions(self, name: str) -> list[dict[str, Any]]:
        """What was asked about an API, the newest first, each with its `answers`."""
        return list(self._client.call("GET", f"{_of(name)}/questions")["questions"])

    def ask(self, name: str, text: str) -> dict[str, Any]:
        """Ask something about an API as oneself; its owners are told."""
        return self._client.call("POST", f"{_of(name)}/questions", json={"text": text})

    def answer(self, name: str, question: str, text: str) -> dict[str, Any]:
        """Answer a question, by its id; the question with all its answers."""
        path = f"{_of(name)}/questions/{part(question)}/answers"
        return self._client.call("POST", path, json={"text": text})

    def remove(self, name: str, question: str, answer: str | None = None) -> list[dict[str, Any]]:
        """Take back a question, or one answer to it; the questions that are left."""
        path = f"{_of(name)}/questions/{part(question)}"
        path += "" if answer is None else f"/answers/{part(answer)}"
        return list(self._client.call("DELETE", path)["questions"])

    def publish(self, name: str, version: str) -> dict[str, Any]:
        """Let consumers call a version."""
        return self._client.call("POST", f"{_of(name, version)}/publish")

    def deprecate(
        self, name: str, version: str, *, sunset: str | None = None, successor: str = ""
    ) -> dict[str, Any]:
        """Tell its callers that it ends; `sunset` is a date, such as 2027-03-31."""
        body = {"sunset": sunset, "successor": successor}
        return self._client.call("POST", f"{_of(name, version)}/deprecate", json=body)

    def retire(self, name: str, version: str, *, force: bool = False) -> dict[str, Any]:
        """End it: from now on it answers 410."""
        return self._client.call("POST", f"{_of(name, version)}/retire", json={"force": force})

    def bind(self, name: str, version: str, to: str, *, environment: str | None = None) -> dict[str, Any]:
        """Let something else answer an instance: `service:<name>`, maybe `@<generation>`, or a URL."""
        body = {"to": to, "environment": environment}
        return self._client.call("PUT", f"{_of(name, version)}/binding", json=body)

    def reset(self, name: str, version: str, *, environment: str | None = None) -> dict[str, Any]:
        """Let what is declared answer again."""
        return self._client.call("DELETE", f"{_of(name, version)}/binding", params=_in(environment))

    def unbind(
        self, name: str, version: str, *, environment: str | None = None, reason: str = ""
    ) -> dict[str, Any]:
        """Let nothing answer an instance."""
        body = {"environment": environment, "reason": reason}
        return self._client.call("POST", f"{_of(name, version)}/unbind", json=body)


def _of(name: str, version: str | None = None) -> str:
    base = f"/apis/{part(name)}"
    return base if version is None else f"{base}/versions/{part(version)}"


def _in(environment: str | None) -> dict[str, str]:
    return {} if environment is None else {"environment": environment}
