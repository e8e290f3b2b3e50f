"""The Python client of a mesh's HTTP API (`/mesh/v1`).

    client = Client.connect("http://127.0.0.1:8080", token=…)
    client.apply(client.plan()["digest"])
    ServiceClient(client).package("order-book")

Here are products, their plans, runs and checks; services, applications and the rest have a client each, beside this
module, that calls a mesh through this one.

Answers are plain values as the API documents them; failures come back as the same kinds of error the server
raised. Knows the API and nothing of how a mesh does its work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from tulle.errors import Broken, Unavailable, from_dict
from tulle.sdk.unanswered import unanswered

BY_HEADER = "x-tulle-by"  # who asks, where the credential is the mesh's token; quoted as in a URL


def asking(by: str) -> dict[str, str]:
    """The header that names who asks; none for nobody."""
    return {BY_HEADER: quote(by, safe="")} if by else {}


def part(name: str) -> str:
    """A name as one part of a path."""
    return quote(name, safe="")


class Client:
    """Calls one mesh. Any httpx transport will do: the network, or the application in this process."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    @classmethod
    def connect(cls, url: str, *, token: str, by: str = "", timeout: float = 120.0) -> Client:
        """A client over the network; `by` is who the trail says asks, by default the administrator."""
        headers = {"authorization": f"Bearer {token}", **asking(by)}
        return cls(httpx.Client(base_url=url, timeout=timeout, headers=headers))

    @classmethod
    def as_user(cls, url: str, *, access_key: str, secret: str, timeout: float = 120.0) -> Client:
        """A client with a user's access key, for asking for promotions and deciding about them."""
        return cls(httpx.Client(base_url=url, timeout=timeout, auth=(access_key, secret)))

    def close(self) -> None:
        """Release the connection."""
        self._http.close()

    # ── products ─────────────────────────────────────────────────────────────────────────────────────────

    def status(self) -> dict[str, Any]:
        """The mesh in a few numbers: products, last runs, deployed services."""
        return self.get("/status")

    def validate(self, products: Sequence[str] = ()) -> dict[str, Any]:
        """`problems` and `warnings` of documents and code, and the `products` that were read; default: all."""
        return self.get("/validate", product=list(products) or None)

    def plan(self) -> dict[str, Any]:
        """The `steps` from what is to what the documents say, the plan's `digest`, and `refusals`.

        The whole answer is what `apply(plan=…)` takes.
        """
        return self.get("/plan")

    def apply(
        self, digest: str | None = None, *, plan: Mapping[str, Any] | None = None, wait: bool = True
    ) -> dict[str, Any]:
        """Carry out the plan with this digest or exactly this plan (Conflict when it is no longer the plan), or the
        present one. Without `wait` the answer comes before the first step, with the `record` that `plan_record`
        tells the rest of.
        """
        asked = {"digest": digest, "plan": dict(plan) if plan is not None else None, "wait": wait}
        return self.post("/apply", asked)

    def plans(self, *, product: str = "", limit: int = 20) -> list[dict[str, Any]]:
        """The plans that were carried out, newest first, with the outcome of every step."""
        return list(self.get("/plans", product=product, limit=limit)["plans"])

    def plan_record(self, name: str) -> dict[str, Any]:
        """One plan that was carried out, by its id or the start of its digest."""
        return self.get(f"/plans/{part(name)}")

    def products(self) -> list[dict[str, Any]]:
        """Every product that is applied."""
        return list(self.get("/products")["products"])

    def destruction(self, product: str, *, data: bool = False) -> dict[str, Any]:
        """What destroying a product would remove (`steps`), whom it `hits`, and the `digest` that names it."""
        return self.get(f"/products/{part(product)}/destruction", data=data)

    def destroy(
        self,
        product: str,
        *,
        data: bool = False,
        force: bool = False,
        notice: str = "",
        digest: str | None = None,
    ) -> dict[str, Any]:
        """Destroy a product: its services stop and it leaves the catalogue; its repository stays unless `data`.

        Denied while somebody relies on it, unless it is forced with a notice to them.
        """
        asked = {"data": data, "force": force, "notice": notice, "digest": digest}
        return self.delete(f"/products/{part(product)}", **asked)

    def drift(self) -> list[dict[str, Any]]:
        """What differs now from what was applied, by product."""
        return list(self.get("/drift")["drift"])

    def grants(self, product: str) -> dict[str, Any]:
        """The `roles` of a product in the lake with who has them, who is `waiting`, and what `differs`."""
        return dict(self.get(f"/products/{part(product)}/grants"))

    def capabilities(self) -> list[dict[str, Any]]:
        """Every component type."""
        return list(self.get("/capabilities")["capabilities"])

    def capability(self, name: str) -> dict[str, Any]:
        """One component type with its schema, skeleton and example."""
        return self.get(f"/capabilities/{part(name)}")

    # ── runs ─────────────────────────────────────────────────────────────────────────────────────────────

    def start_run(
        self,
        product: str,
        *,
        full: bool = False,
        environment: str | None = None,
        select: Sequence[str] = (),
        window: tuple[str, str] | None = None,
        resume: str | None = None,
    ) -> str:
        """Start a run of a product, by default in production; its id. `environment` may name a preview.

        `select` names some of its jobs (`customers+`, `tag:nightly`), `window` is a time to make again (two ISO
        times), `resume` the id of a failed run to take up, or `last`.
        """
        body: dict[str, Any] = {"product": product, "full": full, "environment": environment}
        body |= {"select": list(select), "window": window, "resume": resume}
        return str(self.post("/runs", body)["id"])

    def test_models(self, product: str, *, select: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Carry out the tests of a product's models; how each ended, with the rows that differ."""
        return list(self.post(f"/products/{part(product)}/test", {"select": list(select)})["tests"])

    def dry_run(
        self,
        product: str,
        *,
        full: bool = False,
        environment: str | None = None,
        select: Sequence[str] = (),
    ) -> list[dict[str, Any]]:
        """What a run of a product would do now: each job, whether it would be made, and why."""
        path = f"/products/{part(product)}/dry-run"
        return list(self.get(path, full=full, environment=environment, select=list(select))["jobs"])

    def run(self, run_id: str) -> dict[str, Any]:
        """A run with its steps, checks and failing rows."""
        return self.get(f"/runs/{part(run_id)}")

    def runs(self, *, product: str | None = None, limit: int = 20) -> list[dict[str, Any]]:
        """The latest runs, newest first."""
        return list(self.get("/runs", product=product, limit=limit)["runs"])

    def stop_run(self, run_id: str) -> dict[str, Any]:
        """Stop a run; nothing of it is published."""
        return self.post(f"/runs/{part(run_id)}/stop", {})

    # ── checks ───────────────────────────────────────────────────────────────────────────────────────────

    def start_check(self, product: str, *, environment: str = "main", tags: Sequence[str] = ()) -> str:
        """Judge what a product has published, all checks or those with one of `tags`; the id of the run."""
        body = {"environment": environment, "tags": list(tags)}
        return str(self.post(f"/checks/{part(product)}", body)["id"])

    def checks(self, *, product: str | None = None, environment: str = "main") -> list[dict[str, Any]]:
        """Every check with its last result."""
        return list(self.get("/checks", product=product, environment=environment)["checks"])

    def check_history(
        self,
        product: str,
        check: str | None = None,
        *,
        data_set: str | None = None,
        environment: str = "main",
        limit: int = 100,
    ) -> list[dict[str, Any]]:
        """What the checks of a product found, or one of them, newest first."""
        asked = {"check": check, "data_set": data_set, "environment": environment, "limit": limit}
        return list(self.get(f"/checks/{part(product)}/history", **asked)["results"])

    # ── profiles ─────────────────────────────────────────────────────────────────────────────────────────

    def profile(self, product: str, data_set: str, *, environment: str = "main") -> dict[str, Any]:
        """What the columns of a data set hold as it is published now."""
        return self.get(
            f"/products/{part(product)}/datasets/{part(data_set)}/profile", environment=environment
        )

    def profile_history(
        self, product: str, data_set: str, *, environment: str = "main", limit: int = 30
    ) -> list[dict[str, Any]]:
        """The profiles of a data set, publish after publish, newest first."""
        path = f"/products/{part(product)}/datasets/{part(data_set)}/profile/history"
        return list(self.get(path, environment=environment, limit=limit)["profiles"])

    # ── data sets at two refs ────────────────────────────────────────────────────────────────────────────

    def compare(
        self,
        repository: str,
        left: str,
        right: str,
        prefix: str = "",
        *,
        key: str | None = None,
        tolerance: float = 0.0,
        limit: int = 20,
        profile: bool = True,
        header: bool = True,
        masked: bool = False,
    ) -> list[dict[str, Any]]:
        """Rows, columns and values of the data set `prefix` at two refs; without it, of each that differs.

        `key` names columns, apart by commas: None for those the product declares, "" for none.
        """
        found = self.get(
            f"/repositories/{part(repository)}/compare",
            left=left,
            right=right,
            prefix=prefix,
            key=key,
            tolerance=tolerance,
            limit=limit,
            profile=profile,
            header=header,
            masked=masked,
        )
        return list(found["data_sets"])

    def experiments(
        self, repository: str, base: str, refs: Sequence[str], *, profile: bool = True
    ) -> dict[str, Any]:
        """Refs beside a base: commits ahead and behind, changed paths, how data sets differ."""
        path = f"/repositories/{part(repository)}/experiments"
        return self.get(path, base=base, ref=list(refs), profile=profile)

    # ── transport ────────────────────────────────────────────────────────────────────────────────────────

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        """GET of a path below the API's root; a parameter that is None is left out."""
        return self.call("GET", path, params={k: v for k, v in params.items() if v is not None})

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """POST of a JSON body."""
        return self.call("POST", path, json=dict(body))

    def put(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """PUT of a JSON body."""
        return self.call("PUT", path, json=dict(body))

    def patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """PATCH by a JSON body."""
        return self.call("PATCH", path, json=dict(body))

    def delete(self, path: str, **params: Any) -> dict[str, Any]:
        """DELETE; a parameter that is None is left out."""
        return self.call("DELETE", path, params={k: v for k, v in params.items() if v is not None})

    def download(self, path: str, target: Path) -> Mapping[str, str]:
        """Save what a path below the API's root answers, whole or not at all; its headers."""
        unfinished = target.with_name(f".{target.name}.part")
        try:
            with self._http.stream("GET", f"/mesh/v1{path}") as answer, unfinished.open("wb") as file:
                if answer.is_error:
                    answer.read()
                    raise from_dict(answer.json().get("error", {"message": f"HTTP {answer.status_code}"}))
                for chunk in answer.iter_bytes():
                    file.write(chunk)
            unfinished.replace(target)
        except httpx.TransportError as exc:
            raise Unavailable(f"the control plane at {self._http.base_url} broke off: {exc}") from exc
        finally:
            unfinished.unlink(missing_ok=True)
        return dict(answer.headers)

    def call(self, method: str, path: str, **kwargs: Any) -> dict[str, Any]:
        """One call of the API, below its root; for what has no method here. Raises what the server raised."""
        try:
            answer = self._http.request(method, f"/mesh/v1{path}", **kwargs)
        except httpx.TransportError as exc:
            raise unanswered(self._http, method, exc) from exc
        try:
            value = answer.json()
        except ValueError:
            raise Broken(
                f"{method} {path}: HTTP {answer.status_code} with an answer that is not JSON"
            ) from None
        if answer.is_error:
            raise from_dict(value.get("error", {"message": f"HTTP {answer.status_code}"}))
        return dict(value)
