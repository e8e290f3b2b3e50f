"""Tulle's own HTTP API, `/mesh/v1`: parse, call one function, render. `sdk.client` is its Python side.

Knows HTTP and the names of the functions; decides nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, ConfigDict

from tulle.catalog.routes import Routes
from tulle.control import check_mesh, environments, release
from tulle.control.compare import engine_of
from tulle.control.deployment_api import deployment_view
from tulle.control.order import in_order
from tulle.control.plan_api import plan_routes
from tulle.control.workspace import Workspace
from tulle.deploy import local
from tulle.errors import Invalid
from tulle.pipeline import promotion, queue, run_end, worker
from tulle.pipeline import run as runs
from tulle.pipeline.carry import asked_window
from tulle.pipeline.dry_run import foresee
from tulle.pipeline.graph import load_code
from tulle.pipeline.model_kind import WINDOW
from tulle.pipeline.run import last_failed
from tulle.pipeline.select import chosen
from tulle.pipeline.tester import run_tests
from tulle.quality.contract_rules import with_rules
from tulle.serving import generation, package
from tulle.serving.kinds import KINDS
from tulle.serving.service import Service
from tulle.spec import odcs, odps
from tulle.spec.envelope import json_schema
from tulle.spec.environment import production
from tulle.spec.picture import render
from tulle.state import products

Limit = Annotated[int, Query(ge=1, le=1000)]


class Body(BaseModel):
    """A request body: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class RunBody(Body):
    """What to run."""

    product: str
    full: bool = False
    environment: str | None = None
    select: list[str] = []
    window: tuple[str, str] | None = None
    resume: str | None = None

    def options(self) -> dict[str, Any]:
        """What the run is told."""
        told = {"full": self.full, "select": self.select, "window": self.window, "resume": self.resume}
        return {name: value for name, value in told.items() if value or name == "full"}


class TestBody(Body):
    """Which models' tests to carry out; all without a word."""

    select: list[str] = []


class PackageBody(Body):
    """How a service is packaged: from which environment's data, without it from that of consumers."""

    environment: str | None = None
    allow_failing: bool = False


class VersionBody(Body):
    """Which version of a service."""

    version: str | None = None


def router(workspace: Workspace, settle: Callable[[], bool]) -> Routes:
    """The API on one mesh; `settle` makes the gateway follow what a call recorded, and tells whether it did."""
    api = Routes(prefix="/mesh/v1")
    _product_routes(api, workspace)
    plan_routes(api, workspace, settle)
    _run_routes(api, workspace)
    _service_routes(api, workspace)
    return api


def _product_routes(api: Routes, workspace: Workspace) -> None:
    @api.get("/status")
    def status() -> dict[str, Any]:
        known = products.applied(workspace.database)
        return {
            "mesh": workspace.settings.name,
            "up": local.supervisor_pid(workspace.settings) is not None,
            "products": [item.product.name for item in known],
            "deployments": [
                deployment_view(workspace, d) for d in generation.deployments(workspace.database)
            ],
        }

    @api.get("/validate")
    def validate(product: Annotated[list[str] | None, Query()] = None) -> dict[str, Any]:
        verdict = check_mesh.check_named(workspace, product or ())
        return {
            "products": verdict.products,
            "problems": [{**asdict(problem), "picture": render(problem)} for problem in verdict.problems],
            "warnings": [{**asdict(problem), "picture": render(problem)} for problem in verdict.warnings],
        }

    @api.get("/products/{name}/odcs/{port}")
    def contract(name: str, port: str) -> dict[str, Any]:
        product = workspace.spec().product(name)
        return with_rules(odcs.contract(product, port, workspace.registry), load_code(product).checks)

    @api.get("/products/{name}/odps")
    def envelope(name: str) -> dict[str, Any]:
        made = odps.bundle(workspace.spec().product(name), workspace.registry)
        return {"product": made.product, "contracts": made.contracts}

    @api.get("/schema")
    def schema() -> dict[str, Any]:
        return json_schema(workspace.registry)

    @api.get("/products")
    def list_products() -> dict[str, Any]:
        known = {item.product.name: item for item in products.applied(workspace.database)}
        return {
            "products": [
                {
                    "name": name,
                    "domain": known[name].product.domain,
                    "type": known[name].product.product_type,
                    "version": known[name].product.version,
                    "description": known[name].product.description,
                    "data_sets": [d.name for d in known[name].product.data_sets],
                    "upstream": sorted({p.product for p in known[name].product.input_ports if p.product}),
                    "applied_at": known[name].applied_at,
                }
                for name in in_order(
                    [item.product for item in known.values()], workspace.settings.products_folder
                )
            ]
        }

    @api.get("/capabilities")
    def capabilities() -> dict[str, Any]:
        found = workspace.registry.all()
        return {
            "capabilities": [{"name": c.name, "title": c.title, "description": c.description} for c in found]
        }

    @api.get("/capabilities/{name}")
    def capability(name: str) -> dict[str, Any]:
        found = workspace.registry.get(name)
        return {
            "name": found.name,
            "title": found.title,
            "description": found.description,
            "schema": found.schema,
            "skeleton": found.skeleton,
            "example": found.example,
        }


def _run_routes(api: Routes, workspace: Workspace) -> None:
    database = workspace.database

    @api.post("/runs", status_code=202)
    def start(body: RunBody) -> dict[str, Any]:
        products.applied_product(database, body.product)
        spec = workspace.spec()
        name = body.environment or production(workspace.settings).name
        branch = environments.branch_for_run(workspace, body.product, name)
        code = None
        if promotion.in_force(database, body.product, branch) is None:
            code = load_code(spec.product(body.product), spec=spec)
            code.require_valid()
        run_end.recover(database)
        options = body.options()
        window = asked_window(options.get("window"))
        if window and code is not None and not any(job.way.strategy == WINDOW for job in code.jobs):
            raise Invalid(
                f"product '{body.product}' makes nothing by windows, so there is no time to make again",
                hint=f"make everything again: `tulle run {body.product} --full`",
            )
        if body.select and code is not None:
            chosen(code.jobs, body.select)
        if body.resume == "last":
            options["resume"] = last_failed(database, body.product, branch)
        run_id = queue.request(database, spec, body.product, environment=branch, options=options)
        worker.start(workspace.settings, run_id)
        return {"id": run_id}

    @api.get("/runs")
    def recent(product: str | None = None, limit: Limit = 20) -> dict[str, Any]:
        run_end.recover(database)
        return {
            "runs": [
                _run(run, with_steps=False) for run in runs.recent(database, product=product, limit=limit)
            ]
        }

    @api.post("/products/{name}/test")
    def test_models(name: str, body: TestBody) -> dict[str, Any]:
        product = workspace.spec().product(name)
        warehouse = workspace.settings.warehouse_of(product.warehouse_name)
        return {"product": name, "tests": run_tests(workspace.settings, warehouse, name, body.select)}

    @api.get("/products/{name}/dry-run")
    def foresee_run(
        name: str,
        select: Annotated[list[str] | None, Query()] = None,
        full: bool = False,
        environment: str | None = None,
    ) -> dict[str, Any]:
        spec = workspace.spec()
        product = spec.product(name)
        code = load_code(product, spec=spec)
        code.require_valid()
        where = environment or production(workspace.settings).name
        found = foresee(
            database,
            workspace.lake,
            code,
            engine_of(workspace, product),
            ref=environments.branch_for_run(workspace, name, where),
            words=select or (),
            full=full,
            data_folders=workspace.settings.data_folders,
        )
        return {"product": name, "environment": where, "jobs": [asdict(job) for job in found]}

    @api.get("/runs/{run_id}")
    def one(run_id: str) -> dict[str, Any]:
        run_end.recover(database)
        run = runs.get(database, run_id)
        waits = queue.what_for(database, workspace.settings, run)
        return {**_run(run, with_steps=True), "waits_for": waits}

    @api.post("/runs/{run_id}/stop")
    def stop(run_id: str) -> dict[str, Any]:
        worker.stop(database, run_id)
        return _run(runs.get(database, run_id), with_steps=True)


def _service_routes(api: Routes, workspace: Workspace) -> None:
    @api.get("/services")
    def list_services() -> dict[str, Any]:
        declared, wrong = release.readable_services(workspace)
        return {
            "services": [_service(workspace, item) for _, item in sorted(declared.items())],
            "problems": [str(problem) for exc in wrong for problem in exc.problems or (exc.message,)],
        }

    @api.get("/services/{name}")
    def one(name: str) -> dict[str, Any]:
        return _service(workspace, release.declared_service(workspace, name))

    @api.post("/services/{name}/packages")
    def build(name: str, body: PackageBody | None = None) -> dict[str, Any]:
        said = body or PackageBody()
        built, created = release.build_package(
            workspace, name, environment=said.environment, allow_failing=said.allow_failing
        )
        return {
            "service": name,
            "version": built.version,
            "digest": built.digest,
            "created": created,
            "bytes": built.bytes,
            "manifest": asdict(built.manifest),
        }

    @api.post("/services/{name}/test")
    def test(name: str, body: VersionBody) -> dict[str, Any]:
        version, verdicts = release.run_test_queries(workspace, name, body.version)
        return {"service": name, "version": version, "verdicts": [asdict(verdict) for verdict in verdicts]}

    @api.get("/services/{name}/openapi.json")
    def openapi(name: str) -> dict[str, Any]:
        return dict(release.openapi(workspace, name))


def _run(run: runs.Run, *, with_steps: bool) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(json.dumps(asdict(run), default=str))
    if not with_steps:
        value.pop("steps", None)
    return value


def _service(workspace: Workspace, item: release.Declared) -> dict[str, Any]:
    service: Service = item.service
    versions = package.packages(workspace.database, service.name)
    deployed = generation.find(workspace.database, service.name)
    return {
        "name": service.name,
        "product": item.product.name,
        "description": service.description,
        "endpoints": [
            {
                "name": e.name,
                "type": e.type,
                "description": e.description,
                "actions": list(KINDS[e.type].actions),
            }
            for e in service.endpoints
        ],
        "versions": [
            {
                "version": p.version,
                "digest": p.digest,
                "created_at": p.created_at,
                "manifest": asdict(p.manifest),
            }
            for p in versions
        ],
        "newest_version": versions[-1].version if versions else None,
        "active_version": deployed.active_version if deployed else None,
        "status": deployed.status if deployed else ("packaged" if versions else "declared"),
        "deployment": deployment_view(workspace, deployed) if deployed else None,
        "deployments": [
            deployment_view(workspace, d)
            for d in generation.everywhere(workspace.database)
            if d.service == service.name
        ],
    }
