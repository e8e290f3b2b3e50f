"""Carrying out a plan: step by step, each step and its event in one transaction, safe to repeat.

A crash between two steps leaves a mesh whose next plan holds exactly the steps that are still to be done.
"""

from __future__ import annotations

from collections.abc import Sequence
from graphlib import TopologicalSorter

from tulle.control.check_mesh import check_mesh
from tulle.control.plan import Actual, Plan, Step, make_plan
from tulle.control.workspace import Workspace
from tulle.errors import AlreadyExists, Conflict, Invalid, NotFound, did_you_mean
from tulle.events import PRODUCT_APPLIED, PRODUCT_DESTROYED, Event
from tulle.gateway import contract
from tulle.pipeline.graph import load_code
from tulle.serving import generation
from tulle.serving.generation import withdraw
from tulle.spec.mesh import MeshSpec
from tulle.spec.product import DataProduct
from tulle.state import log, products


def current_plan(workspace: Workspace) -> tuple[Plan, MeshSpec]:
    """The plan as documents and mesh stand now. Invalid, with all problems, when the documents do not hold."""
    spec = workspace.spec()
    actual = {
        item.product.name: Actual(item.product, item.code_digest)
        for item in products.applied(workspace.database)
    }
    names = {*actual, *(product.name for product in spec.products)}
    consumers = {
        name: [p.name for p in spec.products if any(port.product == name for port in p.input_ports)]
        for name in names
    }
    plan = make_plan(
        spec.order(),
        {product.name: load_code(product).digest for product in spec.products},
        actual,
        {repository.name for repository in workspace.lake.repositories()},
        consumers,
    )
    return plan, spec


def apply_plan(workspace: Workspace, digest: str | None = None) -> Plan:
    """Carry out the present plan; Conflict when `digest` names another one."""
    plan, spec = current_plan(workspace)
    if digest is not None and not plan.digest.startswith(digest):
        raise Conflict(
            f"the plan is no longer {digest[:12]}, it is {plan.digest[:12]}",
            hint="look at it again with `tulle plan`: documents or mesh changed meanwhile",
        )
    if plan.steps and (problems := check_mesh(workspace).problems):
        raise Invalid("the plan is not carried out: the mesh has problems", problems=problems)
    for step in plan.steps:
        _carry_out(workspace, spec, step)
    return plan


def _carry_out(workspace: Workspace, spec: MeshSpec, step: Step) -> None:
    if step.operation == "create-repository":
        try:
            workspace.lake.create_repository(step.subject, metadata={"product": step.subject})
        except AlreadyExists:
            return  # a crash came between the step and the next plan
    elif step.operation == "retire":
        retire(workspace, step.subject)
    else:
        product = spec.product(step.subject)
        with workspace.database.write() as connection:
            products.save(connection, product, code_digest=load_code(product).digest)
            event = Event(
                PRODUCT_APPLIED, product.name, {"version": product.version, "sentence": step.sentence}
            )
            log.append(connection, event)


def retire(workspace: Workspace, name: str) -> str:
    """Take a product out of the mesh: its services stop, it leaves the catalogue, its data stays; what was done."""
    known = [item.product.name for item in products.applied(workspace.database)]
    if name not in known:
        raise NotFound(f"product '{name}' is not applied", hint=did_you_mean(name, known))
    services = [d.service for d in generation.deployments(workspace.database) if d.product == name]
    with workspace.database.write() as connection:
        for service in services:
            withdraw(connection, service)
        products.remove(connection, name)
        log.append(connection, Event(PRODUCT_DESTROYED, name, {"services": services}))
    for application in contract.applications(workspace.database):
        for agreed in application.contracts:
            if agreed.service in services:
                contract.withdraw(workspace.database, application.name, agreed.service)
    stopped = f", its services {', '.join(services)} stop" if services else ""
    return f"product '{name}' is retired{stopped}; repository '{name}' and its data stay in the lake"


def in_order(known: Sequence[DataProduct]) -> list[str]:
    """The names of applied products, each after those it reads."""
    names = {product.name for product in known}
    upstream = {p.name: {port.product for port in p.input_ports} & names for p in known}
    return list(TopologicalSorter(upstream).static_order())
