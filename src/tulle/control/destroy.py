"""Destroying a product: what would go and whom it hits, told first; then done, with notice where somebody relies on it.

A product that others read, or whose services applications have contracts for, is destroyed only by force and with a
notice, which goes into the log for each of them. Its repository stays unless `data` is asked for; then it is
deleted, and its bytes are removed from the store by two collections of leftovers, a grace apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from tulle.catalog.query_log import repository_name
from tulle.control import query_log, retirement
from tulle.control.applications import PORTAL
from tulle.control.apply import one_at_a_time, retire
from tulle.control.endings import endings
from tulle.control.gather import action_of
from tulle.control.plan import digest_of, is_named
from tulle.control.workspace import Workspace
from tulle.errors import Conflict, Denied, Invalid, NotFound, Problem
from tulle.events import NOTICE_GIVEN, Event
from tulle.gateway import contract_record, service_keys
from tulle.gateway.apis import records
from tulle.gateway.holders import holders
from tulle.lake import leftovers
from tulle.lake.repository import Repository
from tulle.pipeline import promotion
from tulle.pipeline.forget import forget_rows
from tulle.quality import history, kept_profiles
from tulle.serving import generation
from tulle.serving.generation import Deployment
from tulle.spec.product import DataProduct
from tulle.spec.tenancy import tenancy_of
from tulle.state import log, plans, products
from tulle.state.db import now

_LONGEST_NOTICE = 2000


@dataclass(frozen=True, slots=True)
class Doom:
    """One thing that would go: what apply calls it, of whom, in a sentence."""

    operation: str  # end-contract | stop-service | take-away | cancel-backfill | take-grants | unregister | …
    subject: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Destruction:
    """What destroying a product would remove, and whom it hits."""

    product: str
    data: bool
    steps: tuple[Doom, ...]
    hits: tuple[str, ...]
    affected: tuple[str, ...] = ()  # products and applications that get the notice

    @property
    def digest(self) -> str:
        """Names exactly this."""
        return digest_of(asdict(self))


def _in(deployed: Deployment) -> str:
    return f" in '{deployed.environment}'" if deployed.environment else ""


def preview(workspace: Workspace, name: str, *, data: bool = False) -> Destruction:
    """What would go. NotFound, with the nearest name, when no such product is applied."""
    applied = products.applied_product(workspace.database, name)
    product = applied.product
    services = [d for d in generation.everywhere(workspace.database) if d.product == name]
    apis = records.of_product(workspace.database, name)
    called = {d.service for d in services} | set(apis)
    steps = [*_contracts_end(workspace, name, called)]
    steps += [
        Doom("stop-service", d.service, f"service '{d.service}' (version {d.desired}) stops{_in(d)}")
        for d in services
    ]
    steps += [
        Doom("take-away", c.name, f"{c.type} '{c.name}' is taken away")
        for c in product.components
        if action_of(workspace.registry, c, "destroy") is not None
    ]
    if product.schedule is not None:
        steps.append(Doom("unschedule", name, "its schedule ends: it no longer runs by itself"))
    steps.append(Doom("take-roles", name, f"its roles {', '.join(tenancy_of(product).roles)} are taken away"))
    steps += [Doom(*ending) for ending in endings(workspace, name)]
    steps.append(Doom("unregister", name, f"product '{name}' leaves the catalogue"))
    if data and (repository := _repository(workspace, name)) is not None:
        steps += _data_goes(repository)
    if data:
        told = "its queries and what turned out are deleted: repository '{}'"
        steps += [
            Doom("delete-queries", service, told.format(repository_name(service)))
            for service in query_log.logged_services(workspace, name)
        ]
    hits, affected = _hits(workspace, product, called)
    for service in sorted(called.union(applied.services or ())):
        keys = [k for k in service_keys.keys(workspace.database, service) if k.state(now()) == "in force"]
        kind = "API" if service in apis else "service"
        hits += [f"{kind} '{service}' has an API key '{key.label}' in force" for key in keys]
        affected += [f"key {key.id}" for key in keys]
    return Destruction(name, data, tuple(steps), tuple(hits), tuple(affected))


def destroy(
    workspace: Workspace,
    name: str,
    *,
    data: bool = False,
    force: bool = False,
    notice: str = "",
    digest: str | None = None,
    actor: str = "",
) -> tuple[Destruction, str]:
    """Destroy a product; what was done, and in a sentence.

    Denied when somebody relies on it and it is not forced with a notice; Conflict when `digest` names another
    preview than the present one, or somebody carries out a plan. Interrupted, it is done again from the start: each
    part may be repeated.
    """
    with one_at_a_time(workspace):
        return _destroy(workspace, name, data=data, force=force, notice=notice, digest=digest, actor=actor)


def _destroy(
    workspace: Workspace, name: str, *, data: bool, force: bool, notice: str, digest: str | None, actor: str
) -> tuple[Destruction, str]:
    if not _is_applied(workspace, name) and data and (left := _orphan(workspace, name)) is not None:
        _delete_data(workspace, name, actor)  # a crash came between the product's end and its data's
        _end_records(workspace, name)
        return left, f"repository '{name}' is deleted"
    if not _is_applied(workspace, name) and _end_records(workspace, name):
        done = f"product '{name}' was destroyed already, by somebody who was interrupted after that"
        return Destruction(name, data, (), ()), done
    found = preview(workspace, name, data=data)
    if digest is not None and not is_named(found.digest, digest):
        raise Conflict(
            f"what destroying '{name}' would remove is no longer what was shown",
            hint=f"look again with `tulle destroy {name}`",
        )
    notice = notice.strip()
    if len(notice) > _LONGEST_NOTICE:
        raise Invalid(f"the notice has {len(notice)} characters, at most {_LONGEST_NOTICE} are kept")
    if found.hits and not (force and notice):
        problems = [Problem(hit) for hit in found.hits]
        missing = "give notice with --notice TEXT" if force else "use --force with --notice TEXT"
        hint = f"end their use first, or {missing}: it is recorded for each of them"
        raise Denied(f"product '{name}' is relied on and is not destroyed", hint=hint, problems=problems)
    steps = [(step.operation, step.subject) for step in found.steps]
    document = {"steps": [asdict(s) for s in found.steps], "hits": list(found.hits), "notice": notice}
    record = plans.begin(workspace.database, found.digest, document, steps, kind="destroy", actor=actor)
    _give_notice(workspace, found, notice, actor)
    sentence = retire(workspace, name, actor=actor)
    retirement.forget(workspace.database, name)
    if data and _repository(workspace, name) is not None:
        _delete_data(workspace, name, actor)
        sentence = sentence.rpartition(";")[0] + f"; repository '{name}' is deleted, its bytes are collected"
    with workspace.database.write() as connection:
        for step in record.steps:
            if step.status != plans.SUCCEEDED:
                plans.step_done(connection, record.id, step.position)
    plans.finish(workspace.database, record.id)
    _end_records(workspace, name)
    return found, sentence


def _end_records(workspace: Workspace, name: str) -> bool:
    """Bring the records of destructions of the product that were interrupted to their end; whether there were any."""
    left = [
        record
        for record in plans.recent(workspace.database, product=name, limit=100)
        if record.kind == "destroy" and record.status != plans.SUCCEEDED
    ]
    for record in left:
        with workspace.database.write() as connection:
            for step in record.steps:
                if step.status != plans.SUCCEEDED:
                    told = "was done when it was interrupted, or by a later one"
                    plans.step_done(connection, record.id, step.position, told)
        plans.finish(workspace.database, record.id)
    return bool(left)


def _is_applied(workspace: Workspace, name: str) -> bool:
    return any(item.product.name == name for item in products.applied(workspace.database))


def _orphan(workspace: Workspace, name: str) -> Destruction | None:
    """The repository that a destroyed product left; None when there is none, or it is somebody else's."""
    repository = _repository(workspace, name)
    if repository is None or repository.record.metadata.get("product") != name:
        return None
    return Destruction(name, True, _data_goes(repository), ())


def _repository(workspace: Workspace, name: str) -> Repository | None:
    try:
        return workspace.lake.repository(name)
    except NotFound:
        return None


def _data_goes(repository: Repository) -> tuple[Doom, ...]:
    name = repository.name
    told = "profiles of its data sets, results of its checks and the rows that failed them are forgotten"
    return Doom("forget-findings", name, told), Doom("delete-repository", name, _size_told(repository))


def _size_told(repository: Repository) -> str:
    branches = repository.branches()
    objects = count = 0
    for entry in repository.entries(repository.record.default_branch):
        objects, count = objects + 1, count + entry.size
    more = f" and {len(branches) - 1} further branches" if len(branches) > 1 else ""
    return (
        f"repository '{repository.name}' is deleted with its history: {objects} objects of {count:,} bytes on"
        f" '{repository.record.default_branch}'{more}; a collection of leftovers removes the bytes later"
    )


def _delete_data(workspace: Workspace, name: str, actor: str) -> None:
    for service in query_log.logged_services(workspace, name):
        query_log.delete(workspace, service)
    with workspace.database.write() as connection:
        promotion.forget(connection, name)  # else a product that is called so again ran the code of this one
        kept_profiles.forget(connection, name)
        history.forget(connection, name)
        forget_rows(connection, name)
    workspace.lake.delete_repository(name)
    try:
        leftovers.start(workspace.lake, actor=actor)
    except Conflict:
        return  # one is under way already; what it does not meet, the next one does


def _contracts_end(workspace: Workspace, product: str, services: set[str]) -> Iterator[Doom]:
    ended = [("api", name) for name in sorted(services)] + [("product", product)]
    with workspace.database.read() as connection:
        for one in contract_record.held(connection, now()):
            if (one.place.kind, one.place.subject) in ended and one.application != PORTAL:
                on = f"'{one.place.subject}'" if one.place.kind == "api" else f"product '{one.place.subject}'"
                told = f"the contract of application '{one.application}' on {on} ends"
                yield Doom("end-contract", one.application, told)


def _hits(workspace: Workspace, product: DataProduct, services: set[str]) -> tuple[list[str], list[str]]:
    """Sentences on everybody who relies on it, and their names."""
    hits: list[str] = []
    affected: list[str] = []
    for item in products.applied(workspace.database):
        ports = [p for p in item.product.input_ports if p.product == product.name]
        if ports and item.product.name != product.name:
            names = ", ".join(f"'{port.name}'" for port in ports)
            hits.append(f"product '{item.product.name}' reads it by input port {names}")
            affected.append(f"product {item.product.name}")
    used: dict[str, list[str]] = {}
    for service, held in sorted(holders(workspace.database).items()):
        for one in held if service in services else ():
            used.setdefault(one.application, []).append(service)
    for caller, callable_ in sorted(used.items()):
        hits.append(f"application '{caller}' has a contract on {', '.join(callable_)}")
        affected.append(f"application {caller}")
    today = datetime.now(UTC).date().isoformat()
    if hits:
        hits += [
            f"agreement '{a.name}' holds{f' until {a.expires}' if a.expires else ', without an end'}"
            for a in product.agreements
            if not a.expires or a.expires >= today
        ]
    return hits, affected


def _give_notice(workspace: Workspace, found: Destruction, notice: str, actor: str) -> None:
    with workspace.database.write() as connection:
        for who in found.affected:
            data: dict[str, Any] = {"product": found.product, "notice": notice}
            log.append(connection, Event(NOTICE_GIVEN, who, data), actor=actor)
