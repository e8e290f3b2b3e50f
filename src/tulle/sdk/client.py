"""The Python client of a mesh's HTTP API (`/mesh/v1`).

    client = Client.connect("http://127.0.0.1:8080", token=…)
    client.apply(client.plan()["digest"])

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

BY_HEADER = "x-tulle-by"  # who asks, where the credential is the mesh's token; quoted as in a URL


def asking(by: str) -> dict[str, str]:
    """The header that names who asks; none for nobody."""
    return {BY_HEADER: quote(by, safe="")} if by else {}


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
        return self._get("/status")

    def validate(self, products: Sequence[str] = ()) -> dict[str, Any]:
        """`problems` and `warnings` of documents and code, and the `products` that were read; default: all."""
        return self._get("/validate", product=list(products) or None)

    def plan(self) -> dict[str, Any]:
        """The `steps` from what is to what the documents say, the plan's `digest`, and `refusals`.

        The whole answer is what `apply(plan=…)` takes.
        """
        return self._get("/plan")

    def apply(
        self, digest: str | None = None, *, plan: Mapping[str, Any] | None = None, wait: bool = True
    ) -> dict[str, Any]:
        """Carry out the plan with this digest or exactly this plan (Conflict when it is no longer the plan), or the
        present one. Without `wait` the answer comes before the first step, with the `record` that `plan_record`
        tells the rest of.
        """
        asked = {"digest": digest, "plan": dict(plan) if plan is not None else None, "wait": wait}
        return self._post("/apply", asked)

    def plans(self, *, product: str = "", limit: int = 20) -> list[dict[str, Any]]:
        """The plans that were carried out, newest first, with the outcome of every step."""
        return list(self._get("/plans", product=product, limit=limit)["plans"])

    def plan_record(self, name: str) -> dict[str, Any]:
        """One plan that was carried out, by its id or the start of its digest."""
        return self._get(f"/plans/{_part(name)}")

    def products(self) -> list[dict[str, Any]]:
        """Every product that is applied."""
        return list(self._get("/products")["products"])

    def destruction(self, product: str, *, data: bool = False) -> dict[str, Any]:
        """What destroying a product would remove (`steps`), whom it `hits`, and the `digest` that names it."""
        return self._get(f"/products/{_part(product)}/destruction", data=data)

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
        return self._delete(f"/products/{_part(product)}", **asked)

    def drift(self) -> list[dict[str, Any]]:
        """What differs now from what was applied, by product."""
        return list(self._get("/drift")["drift"])

    def grants(self, product: str) -> dict[str, Any]:
        """The `roles` of a product in the lake with who has them, who is `waiting`, and what `differs`."""
        return dict(self._get(f"/products/{_part(product)}/grants"))

    def capabilities(self) -> list[dict[str, Any]]:
        """Every component type."""
        return list(self._get("/capabilities")["capabilities"])

    def capability(self, name: str) -> dict[str, Any]:
        """One component type with its schema, skeleton and example."""
        return self._get(f"/capabilities/{_part(name)}")

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
        return str(self._post("/runs", body)["id"])

    def test_models(self, product: str, *, select: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Carry out the tests of a product's models; how each ended, with the rows that differ."""
        return list(self._post(f"/products/{_part(product)}/test", {"select": list(select)})["tests"])

    def dry_run(
        self,
        product: str,
        *,
        full: bool = False,
        environment: str | None = None,
        select: Sequence[str] = (),
    ) -> list[dict[str, Any]]:
        """What a run of a product would do now: each job, whether it would be made, and why."""
        path = f"/products/{_part(product)}/dry-run"
        return list(self._get(path, full=full, environment=environment, select=list(select))["jobs"])

    def run(self, run_id: str) -> dict[str, Any]:
        """A run with its steps, checks and failing rows."""
        return self._get(f"/runs/{_part(run_id)}")

    def runs(self, *, product: str | None = None, limit: int = 20) -> list[dict[str, Any]]:
        """The latest runs, newest first."""
        return list(self._get("/runs", product=product, limit=limit)["runs"])

    def stop_run(self, run_id: str) -> dict[str, Any]:
        """Stop a run; nothing of it is published."""
        return self._post(f"/runs/{_part(run_id)}/stop", {})

    # ── checks ───────────────────────────────────────────────────────────────────────────────────────────

    def start_check(self, product: str, *, environment: str = "main", tags: Sequence[str] = ()) -> str:
        """Judge what a product has published, all checks or those with one of `tags`; the id of the run."""
        body = {"environment": environment, "tags": list(tags)}
        return str(self._post(f"/checks/{_part(product)}", body)["id"])

    def checks(self, *, product: str | None = None, environment: str = "main") -> list[dict[str, Any]]:
        """Every check with its last result."""
        return list(self._get("/checks", product=product, environment=environment)["checks"])

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
        return list(self._get(f"/checks/{_part(product)}/history", **asked)["results"])

    # ── models ───────────────────────────────────────────────────────────────────────────────────────────

    def train_model(self, product: str, model: str, **asked: Any) -> str:
        """Train a model on what is published: `data_set`, `target`, and what else may be said; the id of the run."""
        return str(self._post(f"/models/{_part(product)}/{_part(model)}", asked)["id"])

    def models(self, *, product: str | None = None, environment: str = "main") -> list[dict[str, Any]]:
        """The models that are published, with the experiments they are of."""
        return list(self._get("/models", product=product, environment=environment)["models"])

    def model(self, product: str, model: str, *, environment: str = "main") -> dict[str, Any]:
        """A model: what it takes and gives, its experiments, the services that answer from it."""
        return self._get(f"/models/{_part(product)}/{_part(model)}", environment=environment)

    def delete_model(self, product: str, model: str, *, environment: str = "main") -> str:
        """Take a model out of what is published; the commit that does. Conflict where a service names it."""
        path = f"/models/{_part(product)}/{_part(model)}"
        return str(self._delete(path, environment=environment)["commit"])

    def serve_model(self, product: str, model: str, service: str | None = None) -> str:
        """Declare a service that answers from a model; the file that does."""
        path = f"/models/{_part(product)}/{_part(model)}/service"
        return str(self._post(path, {"service": service})["file"])

    def experiment(self, experiment_id: str) -> dict[str, Any]:
        """An experiment with all that is told of it."""
        return self._get(f"/experiments/{_part(experiment_id)}")

    def compare_experiments(self, *experiments: str) -> dict[str, Any]:
        """Two or more experiments beside one another: metrics, what differs, curves, whether the rows are the same."""
        return self._get("/experiments/compare", id=list(experiments))

    def profile(self, product: str, data_set: str, *, environment: str = "main") -> dict[str, Any]:
        """What the columns of a data set hold as it is published now."""
        return self._get(
            f"/products/{_part(product)}/datasets/{_part(data_set)}/profile", environment=environment
        )

    def profile_history(
        self, product: str, data_set: str, *, environment: str = "main", limit: int = 30
    ) -> list[dict[str, Any]]:
        """The profiles of a data set, publish after publish, newest first."""
        path = f"/products/{_part(product)}/datasets/{_part(data_set)}/profile/history"
        return list(self._get(path, environment=environment, limit=limit)["profiles"])

    # ── schedules ────────────────────────────────────────────────────────────────────────────────────────

    def schedules(self) -> list[dict[str, Any]]:
        """Every schedule in force, the next to fire first."""
        return list(self._get("/schedules")["schedules"])

    def schedule(self, product: str, *, environment: str = "main") -> dict[str, Any]:
        """The schedule of one product, its next fires and what fired."""
        return self._get(f"/schedules/{_part(product)}", environment=environment)

    def calendar(self, *, hours: float = 24.0, limit: int = 200) -> list[dict[str, Any]]:
        """The fires to come of all schedules, in order."""
        return list(self._get("/calendar", hours=hours, limit=limit)["fires"])

    def pause_schedule(self, product: str, *, environment: str = "main") -> dict[str, Any]:
        """Let a schedule fire no more until it is resumed."""
        return self._post(f"/schedules/{_part(product)}/pause", {"environment": environment})

    def resume_schedule(self, product: str, *, environment: str = "main") -> dict[str, Any]:
        """Let a schedule fire again, from now on."""
        return self._post(f"/schedules/{_part(product)}/resume", {"environment": environment})

    def start_backfill(
        self,
        product: str,
        start: str,
        end: str,
        *,
        step: str = "day",
        environment: str = "main",
        retries: int | None = None,
    ) -> dict[str, Any]:
        """Run a product for each window from `start` until before `end` (ISO); returns at once."""
        body = {"product": product, "start": start, "end": end, "step": step, "environment": environment}
        return self._post("/backfills", {**body, "retries": retries})

    def backfills(self, *, product: str | None = None, limit: int = 20) -> list[dict[str, Any]]:
        """The latest backfills, newest first."""
        return list(self._get("/backfills", product=product, limit=limit)["backfills"])

    def backfill(self, id_: str) -> dict[str, Any]:
        """One backfill with its windows."""
        return self._get(f"/backfills/{_part(id_)}")

    def cancel_backfill(self, id_: str) -> dict[str, Any]:
        """Start no further window of it, and stop the run under way."""
        return self._post(f"/backfills/{_part(id_)}/cancel", {})

    def resume_backfill(self, id_: str) -> dict[str, Any]:
        """Go on with one that failed."""
        return self._post(f"/backfills/{_part(id_)}/resume", {})

    # ── connections ──────────────────────────────────────────────────────────────────────────────────────

    def connections(self) -> list[dict[str, Any]]:
        """Every connection of every environment, with the names of its secrets."""
        return list(self._get("/connections")["connections"])

    def connection(self, name: str, *, environment: str = "prod") -> dict[str, Any]:
        """One connection, without its secrets."""
        return self._get(f"/connections/{_part(environment)}/{_part(name)}")

    def set_connection(
        self, name: str, body: Mapping[str, Any], *, environment: str = "prod"
    ) -> dict[str, Any]:
        """Record a connection: `kind`, `address`, `options` and `secrets`."""
        return self._put(f"/connections/{_part(environment)}/{_part(name)}", dict(body))

    def set_password(self, user: str, password: str) -> dict[str, Any]:
        """Set the password with which a user calls APIs, in place of one there is."""
        return self._put(f"/api-users/{_part(user)}/password", {"password": password})

    def remove_password(self, user: str) -> dict[str, Any]:
        """Let a user have no password; NotFound where there is none."""
        return self._delete(f"/api-users/{_part(user)}/password")

    def api_users(self) -> list[dict[str, Any]]:
        """The users who have a password, with their groups and since when."""
        found: list[dict[str, Any]] = self._get("/api-users")["users"]
        return found

    def test_connection(self, name: str, *, environment: str = "prod") -> dict[str, Any]:
        """Try a connection; Unavailable or Denied tell why it does not answer."""
        return self._post(f"/connections/{_part(environment)}/{_part(name)}/test", {})

    def describe_table(self, name: str, table: str, *, environment: str = "prod") -> dict[str, Any]:
        """What the database of a connection says of a table: columns, types, key, comments."""
        return self._post(f"/connections/{_part(environment)}/{_part(name)}/describe", {"table": table})

    def remove_connection(self, name: str, *, environment: str = "prod") -> dict[str, Any]:
        """Forget a connection."""
        return self._delete(f"/connections/{_part(environment)}/{_part(name)}")

    # ── alerts ───────────────────────────────────────────────────────────────────────────────────────────

    def alert_channels(self) -> list[dict[str, Any]]:
        """Where alerts go, and where each channel's URL comes from; never a URL."""
        return list(self._get("/alerts")["channels"])

    def set_alert_url(self, channel: str, url: str) -> dict[str, Any]:
        """Keep a channel's URL, encrypted."""
        return self._post(f"/alerts/{_part(channel)}/url", {"url": url})

    def test_alert(self, channel: str) -> dict[str, Any]:
        """Send a test message to a channel now."""
        return self._post(f"/alerts/{_part(channel)}/test", {})

    def incidents(
        self, *, product: str | None = None, is_open: bool = False, limit: int = 50
    ) -> list[dict[str, Any]]:
        """What is or was wrong with products, newest first."""
        return list(self._get("/incidents", product=product, open=is_open, limit=limit)["incidents"])

    def alert_deliveries(self, *, limit: int = 50) -> list[dict[str, Any]]:
        """What was sent where, newest first, and why not."""
        return list(self._get("/alerts/deliveries", limit=limit)["deliveries"])

    # ── services ─────────────────────────────────────────────────────────────────────────────────────────

    def services(self) -> list[dict[str, Any]]:
        """Every declared or packaged service with its versions and what is deployed."""
        return list(self._get("/services")["services"])

    def service_problems(self) -> list[str]:
        """What is wrong with files of services, which are left out of `services`; a line each."""
        return list(self._get("/services")["problems"])

    def service(self, name: str) -> dict[str, Any]:
        """One service with its endpoints, versions and deployment."""
        return self._get(f"/services/{_part(name)}")

    def package(
        self, service: str, *, environment: str | None = None, allow_failing: bool = False
    ) -> dict[str, Any]:
        """Build an immutable version of a service from the published data; unchanged content is not built again.

        One whose test queries fail is refused unless `allow_failing`.
        """
        body = {"environment": environment, "allow_failing": allow_failing}
        return self._post(f"/services/{_part(service)}/packages", body)

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
        return self._post(f"/services/{_part(service)}/deploy", body)

    def rollback(
        self, service: str, *, environment: str | None = None, test_queries: str = ""
    ) -> dict[str, Any]:
        """Go back to the generations that answered before."""
        body = {"environment": environment, "test_queries": test_queries}
        return self._post(f"/services/{_part(service)}/rollback", body)

    def test_service(self, service: str, version: str | None = None) -> dict[str, Any]:
        """Run the test queries saved in a version; the verdicts."""
        return self._post(f"/services/{_part(service)}/test", {"version": version})

    def service_keys(self, service: str) -> list[dict[str, Any]]:
        """Every API key that a service has had, the newest first, without its secret."""
        return list(self._get(f"/services/{_part(service)}/keys")["keys"])

    def create_service_key(
        self,
        service: str,
        *,
        label: str,
        description: str = "",
        expires: str | None = None,
        limit: str | None = None,
    ) -> dict[str, Any]:
        """Make an API key of a service; `api_key` of the answer is shown this once."""
        body = {"label": label, "description": description, "expires": expires, "limit": limit}
        return self._post(f"/services/{_part(service)}/keys", body)

    def change_service_key(
        self, service: str, key: str, *, expires: str | None = None, limit: str | None = None
    ) -> dict[str, Any]:
        """Give an API key another end (or `never`) or another limit (or `usual`); what is None stays."""
        path = f"/services/{_part(service)}/keys/{_part(key)}"
        return self.call("PATCH", path, json={"expires": expires, "limit": limit})

    def revoke_service_key(self, service: str, key: str) -> dict[str, Any]:
        """End an API key, named by its id or its label."""
        return self._delete(f"/services/{_part(service)}/keys/{_part(key)}")

    def admin_keys(self) -> list[dict[str, Any]]:
        """The keys of the admin API of API nodes, without their secrets."""
        return list(self._get("/admin-keys")["keys"])

    def create_admin_key(
        self, label: str, *, description: str = "", expires: str | None = None
    ) -> dict[str, Any]:
        """Make a key of the admin API, which turns it on; `key` of the answer is shown this once."""
        body = {"label": label, "description": description, "expires": expires}
        return self._post("/admin-keys", body)

    def delete_admin_key(self, key: str) -> dict[str, Any]:
        """End a key of the admin API, named by its id."""
        return self._delete(f"/admin-keys/{_part(key)}")

    def service_access(self, service: str, *, environment: str | None = None) -> dict[str, Any]:
        """By which ways a service may be called, and who says so."""
        return self._get(f"/services/{_part(service)}/access", environment=environment)

    def set_service_access(
        self, service: str, access: Mapping[str, Any] | None, *, environment: str | None = None
    ) -> dict[str, Any]:
        """Say at its deployment by which ways a service may be called; None: as its package says."""
        path = f"/services/{_part(service)}/access"
        if access is None:
            return self._delete(path, environment=environment)
        where = {} if environment is None else {"environment": environment}
        return self.call("PUT", path, json={"access": dict(access)}, params=where)

    def service_policies(self, service: str, *, environment: str | None = None) -> dict[str, Any]:
        """What the gateway does with the requests of a service, who says so, and what the mesh adds."""
        return self._get(f"/services/{_part(service)}/policies", environment=environment)

    def set_service_policies(
        self, service: str, policies: Sequence[Mapping[str, Any]] | None, *, environment: str | None = None
    ) -> dict[str, Any]:
        """Say at its deployment what the gateway does with a service's requests; None: as its package says."""
        path = f"/services/{_part(service)}/policies"
        if policies is None:
            return self._delete(path, environment=environment)
        where = {} if environment is None else {"environment": environment}
        return self.call("PUT", path, json={"policies": [dict(one) for one in policies]}, params=where)

    def openapi(self, service: str) -> dict[str, Any]:
        """The OpenAPI 3.1 document of a service's deployed (else newest) version."""
        return self._get(f"/services/{_part(service)}/openapi.json")

    # ── applications ─────────────────────────────────────────────────────────────────────────────────────

    def applications(self, *, containing: str = "", limit: int | None = None) -> list[dict[str, Any]]:
        """Client applications with their contracts, by name, the first `limit` or all of them; never a secret."""
        found: list[dict[str, Any]] = []
        after: str | None = ""
        while after is not None and (limit is None or len(found) < limit):
            left = 1000 if limit is None else min(limit - len(found), 1000)
            page = self._get("/applications", q=containing, limit=left, after=after)
            found += page["applications"]
            after = page["next"]
        return found

    def application(self, name: str) -> dict[str, Any]:
        """One application with everything it asked for."""
        return self._get(f"/applications/{_part(name)}")

    def create_application(
        self,
        name: str,
        *,
        services: Mapping[str, str | None] | None = None,
        owner: str = "",
        owners: Sequence[str] = (),
        description: str = "",
        purpose: str = "",
        contact: str = "",
        expires: str | None = None,
    ) -> dict[str, Any]:
        """Register an application, for services (with rate limits each, or None for the default) or for none yet.

        The answer holds `client_id`, `client_secret` and `api_key`; they are never shown again.
        """
        asked = {
            "name": name,
            "owner": owner,
            "owners": list(owners),
            "description": description,
            "purpose": purpose,
            "contact": contact,
            "expires": expires,
            "services": dict(services or {}),
        }
        return self._post("/applications", asked)

    def change_application(self, name: str, **said: Any) -> dict[str, Any]:
        """Say something else of an application: `owners`, `description`, `purpose`, `contact`."""
        return self._patch(f"/applications/{_part(name)}", said)

    def revoke_application(self, name: str) -> dict[str, Any]:
        """Refuse an application from now on."""
        return self._delete(f"/applications/{_part(name)}")

    def rotate_application(
        self, name: str, *, overlap: str | None = None, expires: str | None = None
    ) -> dict[str, Any]:
        """Give an application a new secret; the old one goes on for `overlap`, by default 24h, with 0 not at all."""
        said = {"overlap": overlap, "expires": expires}
        return self._post(
            f"/applications/{_part(name)}/rotate", {key: value for key, value in said.items() if value}
        )

    def end_former_secret(self, name: str) -> dict[str, Any]:
        """End the secret that goes on beside an application's newest one."""
        return self._delete(f"/applications/{_part(name)}/former-secret")

    def set_application_hook(self, name: str, url: str) -> dict[str, Any]:
        """Tell a URL of each step of an application's contracts; with the secret that signs, this one time."""
        return self._put(f"/applications/{_part(name)}/hook", {"url": url})

    def remove_application_hook(self, name: str) -> dict[str, Any]:
        """Tell it no more."""
        return self._delete(f"/applications/{_part(name)}/hook")

    def change_contract(self, name: str, service: str, limit: str | None) -> dict[str, Any]:
        """Let an application call a service at a rate (several: `100/1s + 10000/1d`), or (None) not at all."""
        return self._post(f"/applications/{_part(name)}/contracts", {"service": service, "limit": limit})

    def trust(self) -> dict[str, Any]:
        """The mesh's authorities, the certificates of its parts, and which service may call which."""
        return self._get("/trust")

    def rotate_authority(self, *, at_once: bool = False) -> dict[str, Any]:
        """Replace the mesh's authority; `at_once`: what it signed until now holds no more."""
        return self._post("/trust/rotate", {"at_once": at_once})

    # ── contracts ────────────────────────────────────────────────────────────────────────────────────────

    def offer(self, name: str, *, product: bool = False) -> dict[str, Any]:
        """The `tiers` one may ask for at an API (or a product), and its `terms`."""
        return self._get(f"/{'products' if product else 'services'}/{_part(name)}/offer")

    def request_access(self, application: str, **asked: Any) -> dict[str, Any]:
        """Ask for access to an `api` or a `product`: `tier`, `purpose`, the version of the `terms` that is accepted."""
        said = {name: value for name, value in asked.items() if value is not None}
        return self._post("/contracts", {"application": application, **said})

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
            page = self._get("/contracts", state=list(states) or None, **asked, limit=left, before=before)
            found += page["contracts"]
            before = page["before"]
            if before is None:
                break
        return found

    def contract(self, id_: str) -> dict[str, Any]:
        """One request and what became of it."""
        return self._get(f"/contracts/{_part(id_)}")

    def decide_contract(self, id_: str, step: str, **said: str) -> dict[str, Any]:
        """Approve, reject, revoke, restore or change a contract, with another `tier`, `limits`, a `reason`, an end."""
        return self._post(
            f"/contracts/{_part(id_)}/{_part(step)}", {key: value for key, value in said.items() if value}
        )

    def accept_terms(self, id_: str, version: str) -> dict[str, Any]:
        """Accept the terms of a contract's API as they are now."""
        return self._put(f"/contracts/{_part(id_)}/terms", {"version": version})

    def delete_contract(self, id_: str) -> dict[str, Any]:
        """Give up a contract, or take back a request."""
        return self._delete(f"/contracts/{_part(id_)}")

    def access(
        self, *, product: str | None = None, service: str | None = None, application: str | None = None
    ) -> list[dict[str, Any]]:
        """Who may use what, and why: all of it, asked for a page at a time."""
        found: list[dict[str, Any]] = []
        after: str | None = None
        while True:
            asked = {"product": product, "service": service, "application": application}
            page = self._get("/access", **asked, limit=10_000, after=after)
            found += page["access"]
            after = page["next"]
            if after is None:
                return found

    # ── the lake ─────────────────────────────────────────────────────────────────────────────────────────

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
        found = self._get(
            f"/repositories/{_part(repository)}/compare",
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
        path = f"/repositories/{_part(repository)}/experiments"
        return self._get(path, base=base, ref=list(refs), profile=profile)

    # ── transport ────────────────────────────────────────────────────────────────────────────────────────

    def _get(self, path: str, **params: Any) -> dict[str, Any]:
        return self.call("GET", path, params={k: v for k, v in params.items() if v is not None})

    def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self.call("POST", path, json=dict(body))

    def _put(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self.call("PUT", path, json=dict(body))

    def _patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self.call("PATCH", path, json=dict(body))

    def _delete(self, path: str, **params: Any) -> dict[str, Any]:
        return self.call("DELETE", path, params={k: v for k, v in params.items() if v is not None})

    def download(self, path: str, target: Path) -> Mapping[str, str]:
        """Save what a path below the API's root answers, whole or not at all; its headers."""
        part = target.with_name(f".{target.name}.part")
        try:
            with self._http.stream("GET", f"/mesh/v1{path}") as answer, part.open("wb") as file:
                if answer.is_error:
                    answer.read()
                    raise from_dict(answer.json().get("error", {"message": f"HTTP {answer.status_code}"}))
                for chunk in answer.iter_bytes():
                    file.write(chunk)
            part.replace(target)
        except httpx.TransportError as exc:
            raise Unavailable(f"the control plane at {self._http.base_url} broke off: {exc}") from exc
        finally:
            part.unlink(missing_ok=True)
        return dict(answer.headers)

    def call(self, method: str, path: str, **kwargs: Any) -> dict[str, Any]:
        """One call of the API, below its root; for what has no method here. Raises what the server raised."""
        try:
            answer = self._http.request(method, f"/mesh/v1{path}", **kwargs)
        except httpx.TransportError as exc:
            raise Unavailable(
                f"the control plane at {self._http.base_url} does not answer: {exc}",
                hint="`tulle status` shows what runs, `tulle logs control_plane` what it says",
            ) from exc
        try:
            value = answer.json()
        except ValueError:
            raise Broken(
                f"{method} {path}: HTTP {answer.status_code} with an answer that is not JSON"
            ) from None
        if answer.is_error:
            raise from_dict(value.get("error", {"message": f"HTTP {answer.status_code}"}))
        return dict(value)


def _part(name: str) -> str:
    return quote(name, safe="")
