"""Carrying out a plan: step by step, each step, its event and its record in one transaction, safe to repeat.

A crash anywhere leaves a mesh whose next plan holds exactly the steps that are still to be done; what a capability
provisions comes before the step that makes it count, so it is provisioned again rather than forgotten. Applying
again carries on the record of the plan that was interrupted.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection

from tulle.control import environments, grants, identities, plan_file
from tulle.control.check_mesh import check_mesh
from tulle.control.declared_apis import api_tiers_taken_out, offers_of
from tulle.control.declared_services import declared_as_plain
from tulle.control.gather import Gathered, action_of, component_changes, gather, provisioning
from tulle.control.notice import ends_too_soon
from tulle.control.offers import tiers_taken_out
from tulle.control.plan import Plan, Step, basis_of, is_named, make_plan
from tulle.control.workspace import Workspace
from tulle.errors import AlreadyExists, Broken, Conflict, Denied, Invalid, NotFound, TulleError, did_you_mean
from tulle.events import PRODUCT_APPLIED, PRODUCT_DESTROYED, Event
from tulle.gateway import contract_step, offer, service_keys, service_policies
from tulle.gateway.apis import records
from tulle.gateway.apis.load import load_apis
from tulle.pipeline import backfill, promotion, worker
from tulle.pipeline.graph import load_code
from tulle.serving import generation
from tulle.serving.service import load_services
from tulle.spec.mesh import MeshSpec
from tulle.spec.product import DataProduct
from tulle.state import log, plans, products

Progress = Callable[[int, int, str], None]  # position, of how many, sentence
Begun = Callable[[str], None]  # with the record's id
_TRIES, _PAUSE = 5, 0.02


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of applying: the plan, what of it was done now, and the record's id (empty: nothing to do)."""

    plan: Plan
    record: str = ""
    done: tuple[int, ...] = ()
    note: str = ""


def current_plan(workspace: Workspace) -> tuple[Plan, MeshSpec]:
    """The plan as documents and mesh stand now. Invalid, with all problems, when the documents do not hold."""
    gathered = gather(workspace)
    return plan_of(gathered), gathered.spec


def plan_of(gathered: Gathered) -> Plan:
    """The plan from what was gathered."""
    return make_plan(
        gathered.desired,
        gathered.actual,
        gathered.repositories,
        hits=gathered.impact.hits,
        provision=provisioning(gathered.workspace.registry),
        grants=gathered.granting,
        ending=gathered.ending,
        apis=gathered.apis,
        refusals=(
            *gathered.collisions(),
            *gathered.contested(),
            *ends_too_soon(gathered.workspace, gathered.spec.products),
            *tiers_taken_out(gathered.workspace, gathered.desired),
            *api_tiers_taken_out(gathered.workspace, gathered.offered_apis),
        ),
        today=str(dt.datetime.now(dt.UTC).date()),
    )


def apply_plan(
    workspace: Workspace,
    digest: str | None = None,
    *,
    document: Mapping[str, Any] | None = None,
    actor: str = "",
    progress: Progress | None = None,
    begun: Begun | None = None,
) -> Applied:
    """Carry out the present plan; `begun` is told its record before the first step.

    With `digest` (or its start) or a plan's `document` exactly that one: Conflict says what moved when it is no
    longer the plan. Denied, with every reason, when the plan is refused; Invalid when the mesh has problems.
    """
    with one_at_a_time(workspace):
        gathered = gather(workspace)
        plan = plan_of(gathered)
        if document is not None:
            wanted = _agreed_document(gathered, plan, plan_file.checked(document, "the plan"))
        else:
            wanted = _agreed_digest(gathered, plan, digest)
        if not plan.steps:
            return _nothing_left(workspace, plan, wanted)
        if plan.refusals:
            raise Denied(f"the plan is refused for {_reasons(plan)}", problems=plan.refusals)
        if problems := check_mesh(workspace, spec=gathered.spec, only=_concerned(gathered, plan)).problems:
            raise Invalid("the plan is not carried out: the mesh has problems", problems=problems)
        return _carry_out(gathered, plan, wanted, actor, progress, begun)


@contextmanager
def one_at_a_time(workspace: Workspace) -> Iterator[None]:
    """Plans of one mesh, and ends of products, are carried out one after another; who comes meanwhile is told so."""
    folder = workspace.settings.run_folder
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "apply.lock").open("w") as lock:
        for left in reversed(range(_TRIES)):  # somebody may just be looking whether one is under way
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if not left:
                    raise Conflict(
                        "a plan is being carried out at this moment",
                        hint="`tulle plans` shows how far it is; try again then",
                    ) from None
                time.sleep(_PAUSE)
        yield


def is_under_way(workspace: Workspace) -> bool:
    """Whether anybody, in any process of this machine, is carrying out a plan of the mesh."""
    file = workspace.settings.run_folder / "apply.lock"
    if not file.exists():
        return False
    with file.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _reasons(plan: Plan) -> str:
    return "1 reason" if len(plan.refusals) == 1 else f"{len(plan.refusals)} reasons"


def _concerned(gathered: Gathered, plan: Plan) -> set[str]:
    """Products whose files have to hold for the plan: those with a step, and those that read them."""
    changed = {step.subject for step in plan.steps}
    readers = {
        p.name for p in gathered.spec.products if any(port.product in changed for port in p.input_ports)
    }
    return changed | readers


# ── which plan ───────────────────────────────────────────────────────────────────────────────────────────


def _agreed_digest(gathered: Gathered, plan: Plan, digest: str | None) -> Mapping[str, Any]:
    """The document of the plan to carry out: the present one, or one that was interrupted and is as far."""
    workspace = gathered.workspace
    present = plan_file.document_of(plan, workspace.settings.name)
    if digest is not None and is_named(plan.digest, digest):
        return present
    now = basis_of(gathered.desired, gathered.actual, gathered.repositories)
    for record in plans.recent(workspace.database, limit=5) if plan.steps else ():
        if record.kind != "apply" or record.status == plans.SUCCEEDED:
            continue
        if digest is not None and not is_named(record.digest, digest):
            continue
        same = not plan_file.moved(record.document, now, resuming=True)
        if same and plan_file.remaining(record.document["steps"], present["steps"]) is not None:
            return record.document
    if digest is not None:
        raise Conflict(
            f"the plan is no longer '{digest[:12]}', it is {plan.digest[:12]}",
            hint="look at it again with `tulle plan`: documents or mesh changed meanwhile",
        )
    return present


def _agreed_document(gathered: Gathered, plan: Plan, document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The document, if what it was made from still stands. Conflict names all that moved."""
    mesh = gathered.workspace.settings.name
    if document.get("mesh") != mesh:
        raise Conflict(
            f"the plan was made for the mesh '{str(document.get('mesh'))[:63]}', this is '{mesh}'",
            hint="carry it out where it was made, or make one here with `tulle plan --out`",
        )
    now = basis_of(gathered.desired, gathered.actual, gathered.repositories)
    found = plan_file.moved(document, now, resuming=_was_begun(gathered.workspace, document["digest"]))
    steps = plan_file.document_of(plan, mesh)["steps"]
    if not found and plan_file.remaining(document["steps"], steps) is None:
        found = ["what the plan does or whom it hits is no longer the same"]
    if found:
        shown = "; ".join(found[:6]) + (f"; and {len(found) - 6} more" if len(found) > 6 else "")
        raise Conflict(f"the plan {document['digest'][:12]} is no longer the plan: {shown}", hint=_AGAIN)
    return document


_AGAIN = "look at the present one with `tulle plan`, and make the file again with `--out`"


def _was_begun(workspace: Workspace, digest: str) -> bool:
    return any(record.digest == digest for record in plans.recent(workspace.database, limit=100))


def _nothing_left(workspace: Workspace, plan: Plan, wanted: Mapping[str, Any]) -> Applied:
    """Nothing is to do; a record that was interrupted after its last step is brought to its end."""
    if not wanted["steps"]:
        plans.superseded(workspace.database, "")
        return Applied(plan)
    for record in plans.recent(workspace.database, limit=100):
        if record.digest == wanted["digest"]:
            if record.status != plans.SUCCEEDED:
                _mark_done(workspace, record, set())
                plans.finish(workspace.database, record.id)
            return Applied(plan, record.id, note="this plan was carried out already: nothing is left to do")
    return Applied(plan, note="nothing is left to do: the mesh is as the plan would make it")


# ── carrying out ─────────────────────────────────────────────────────────────────────────────────────────


def _carry_out(
    gathered: Gathered,
    plan: Plan,
    document: Mapping[str, Any],
    actor: str,
    progress: Progress | None,
    begun: Begun | None,
) -> Applied:
    workspace = gathered.workspace
    steps = [(step["operation"], step["subject"]) for step in document["steps"]]
    record = plans.begin(workspace.database, document["digest"], document, steps, actor=actor)
    if begun is not None:
        begun(record.id)
    now = [plan_file.step_as_plain(step) for step in plan.steps]
    positions = plan_file.remaining(document["steps"], now)
    if positions is None:
        raise Broken("the plan that is carried out is not the plan that was agreed to")
    _mark_done(workspace, record, set(positions))
    for position, step in zip(positions, plan.steps, strict=True):
        if progress is not None:
            progress(position, len(steps), step.sentence)
        plans.step_started(workspace.database, record.id, position)
        try:
            _step(gathered, step, record.id, position, actor)
        except Exception as exc:
            told = exc.message if isinstance(exc, TulleError) else repr(exc)
            plans.step_failed(workspace.database, record.id, position, told)
            raise
    plans.finish(workspace.database, record.id)
    plans.superseded(workspace.database, record.id)
    return Applied(plan, record.id, tuple(positions))


def _mark_done(workspace: Workspace, record: plans.PlanRecord, left: set[int]) -> None:
    """Steps that were done when the plan was interrupted, though nobody came to note it."""
    for step in record.steps:
        if step.position not in left and step.status != plans.SUCCEEDED:
            with workspace.database.write() as connection:
                plans.step_done(connection, record.id, step.position, "was done when it was interrupted")


def _step(gathered: Gathered, step: Step, record: str, position: int, actor: str) -> None:
    workspace = gathered.workspace
    if step.operation == "retire":
        done = partial(plans.step_done, plan_id=record, position=position)
        _retire(workspace, step.subject, done, actor)
        return
    if step.operation in {"register", "update"}:
        _save(gathered, step, record, position, actor)
        return
    message = ""
    if step.operation == "create-repository":
        try:
            workspace.lake.create_repository(step.subject, metadata={"product": step.subject})
        except AlreadyExists:
            message = "it was there already"  # a crash came between the step and the next plan
        environments.ensure_branches(workspace, step.subject)
    elif step.operation == "grant":
        with workspace.database.write() as connection:
            grants.carry_out(connection, step.subject, gathered.grants[step.subject], actor=actor)
            plans.step_done(connection, record, position)
        return
    else:
        applied = gathered.applied.get(step.subject)
        provision(workspace, gathered.spec.product(step.subject), applied.product if applied else None)
    with workspace.database.write() as connection:
        plans.step_done(connection, record, position, message)


def _save(gathered: Gathered, step: Step, record: str, position: int, actor: str) -> None:
    """Record a product as applied; its services that are no longer declared stop answering."""
    workspace, product = gathered.workspace, gathered.spec.product(step.subject)
    declared = load_services(product)
    code, services = load_code(product).digest, declared_as_plain(declared)
    gone = [one for one in generation.of_product(workspace.database, product.name) if one not in services]
    offered = load_apis(product)
    had = set(records.of_product(workspace.database, product.name)) - {one.api.name for one in offered}
    end_contracts(workspace, sorted(had - services.keys()), actor)
    with workspace.database.write() as connection:
        products.save(connection, product, code_digest=code, files=gathered.files(product), services=services)
        records.save(connection, product.name, offered, services=services.keys(), actor=actor)
        for service in gone:
            generation.withdraw(connection, service, actor=actor)
        offers = offers_of(declared, offered)
        for name, one in offers.items():
            contract_step.record_offer(connection, name, one, product=product.name, actor=actor)
        offer.keep_only(connection, product.name, list(offers))
        data = {"version": product.version, "sentence": step.sentence, "plan": record}
        log.append(connection, Event(PRODUCT_APPLIED, product.name, data), actor=actor)
        plans.step_done(connection, record, position, f"services stopped: {', '.join(gone)}" if gone else "")
    end_contracts(workspace, gone, actor)
    end_keys(workspace, actor)


def provision(workspace: Workspace, new: DataProduct | None, old: DataProduct | None) -> None:
    """Let capabilities provide what a product's components need, and take away what is no longer there.

    A capability's action may be called again for what it did already. Broken names the one that failed.
    """
    wanted, gone = component_changes(new, old)
    for component in gone:
        if old is not None and (action := action_of(workspace.registry, component, "destroy")):
            _called(action, f"destroy {component.type} '{component.name}'", component, old)
    for component, _ in wanted:
        if new is not None and (action := action_of(workspace.registry, component, "provision")):
            _called(action, f"provision {component.type} '{component.name}'", component, new)


def _called(action: Callable[..., Any], what: str, *arguments: object) -> None:
    try:
        action(*arguments)
    except TulleError:
        raise
    except Exception as exc:
        raise Broken(
            f"the capability could not {what}: {exc!r}",
            hint="mend it and apply again: what was done stays, the rest follows",
        ) from exc


def end_contracts(workspace: Workspace, services: Sequence[str], actor: str = "") -> None:
    """End every application's contract on services that stopped."""
    contract_step.end_for(workspace.database, "api", services, reason="the service is gone", by=actor)


def end_keys(workspace: Workspace, actor: str = "") -> None:
    """End keys of services and APIs that no applied product has, and such services' identities and policies."""
    declared = [item.services for item in products.applied(workspace.database)]
    if all(services is not None for services in declared):  # else it is not known what there is
        known = {name for services in declared if services is not None for name in services}
        service_keys.end_others(workspace.database, known, records.owners(workspace.database), actor=actor)
        identities.end_others(workspace, known, actor=actor)
        service_policies.end_others(workspace.database, sorted(known))


def retire(workspace: Workspace, name: str, *, actor: str = "") -> str:
    """Take a product out of the mesh: its services stop, it leaves the catalogue, its data stays; what was done."""
    known = [item.product.name for item in products.applied(workspace.database)]
    if name not in known:
        raise NotFound(f"product '{name}' is not applied", hint=did_you_mean(name, known))
    return _retire(workspace, name, lambda _: None, actor)


def _retire(workspace: Workspace, name: str, note: Callable[[Connection], None], actor: str) -> str:
    # Contracts and what capabilities provided go first: a crash after the product is gone would leave them for good.
    services = generation.of_product(workspace.database, name)
    end_contracts(workspace, [*services, *records.of_product(workspace.database, name)], actor)
    contract_step.end_for(workspace.database, "product", [name], reason="the product is gone", by=actor)
    applied = products.applied_product(workspace.database, name).product
    provision(workspace, None, applied)
    taken = grants.taken_with(workspace, name)
    with workspace.database.write() as connection:
        for service in services:
            generation.withdraw(connection, service, actor=actor)
        records.remove_of(connection, name, actor=actor)
        running = backfill.end_of_product(connection, name, actor=actor)
        promotion.end_open(connection, name, [promotion.WAITING], "the product left the mesh")
        grants.remove_roles(connection, applied, actor=actor)
        for other, found in taken.items():
            grants.carry_out(connection, other, found, actor=actor)
        products.remove(connection, name)
        offer.keep_only(connection, name, ())
        log.append(connection, Event(PRODUCT_DESTROYED, name, {"services": services}), actor=actor)
        note(connection)
    end_keys(workspace, actor)
    for run_id in running:
        worker.stop(workspace.database, run_id)
    stopped = f", its services {', '.join(services)} stop" if services else ""
    return f"product '{name}' is retired{stopped}; repository '{name}' and its data stay in the lake"
