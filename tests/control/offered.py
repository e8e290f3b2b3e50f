"""A mesh whose product offers an API, for tests of APIs through the doors."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner
from tests.control.conftest import fill, opened
from tests.gateway.apis.conftest import OPENAPI
from tests.pipeline.conftest import Mesh

from tulle.cli.main import cli
from tulle.control.apply import apply_plan, current_plan
from tulle.control.workspace import Workspace
from tulle.gateway.policy import RateLimit

ORDERS = """
    api: orders
    title: Orders
    summary: What was ordered.
    docs: [guide.md]
    tags: [shop]
    versions:
    - {version: v1, service: calc, publish: true, environments: {test: }}
    - version: v2
      upstream: https://orders.example.com/base
      openapi: orders.openapi.yaml
"""
NEWER = OPENAPI.replace("/items/{id}", "/things/{id}")
MESH = (
    "name: test\nwarehouse: {threads: 1, memory: 256MB}\nenvironments: {test: {fallback: prod}, prod: {}}\n"
)
LIMIT = RateLimit(1, 1000)


def declare(mesh: Mesh, text: str = ORDERS) -> None:
    mesh.sales("apis/orders.yaml", text)
    mesh.sales("apis/guide.md", "# How\n")
    mesh.sales("apis/orders.openapi.yaml", OPENAPI)


def offering(folder: Path) -> Mesh:
    """A mesh with the API declared, and nothing applied."""
    made = Mesh(folder)
    made.write("mesh.yaml", MESH)
    declare(made)
    return made


def applied(mesh: Mesh) -> Workspace:
    """The mesh with all applied, and without a service that answers."""
    fill(mesh)
    mesh.sales(
        "services/calc.yaml", "service: calc\nendpoints:\n- {name: who, type: function, file: who.py}\n"
    )
    mesh.sales("functions/who.py", "def who() -> dict:\n    return {}\n")
    made = opened(mesh)
    apply_plan(made)
    return made


def details(workspace: Workspace) -> dict[str, tuple[bool, tuple[str, ...]]]:
    """What a plan says of each thing that changes: whether it breaks a promise, and whom it hits."""
    plan, _ = current_plan(workspace)
    return {d.sentence: (d.breaking, d.hits) for step in plan.steps for d in step.details}


def tulle(mesh: Mesh, *args: str, fails: bool = False) -> str:
    """What `tulle api …` says."""
    done = CliRunner().invoke(cli, ["--mesh", str(mesh.folder), "api", *args])
    assert (done.exit_code != 0) == fails, (done.output, done.exception)
    return done.output if done.exception is None else str(done.exception)
