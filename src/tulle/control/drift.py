"""What is really there against what was applied: repositories, branches, data, roles, services, contracts.

Looks and changes nothing but its own record. What the folder says and nobody applied yet is no drift: that is what
a plan shows. Data is compared by the record that lies beside it: rows that no run made were put there by hand.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from tulle.control import grants
from tulle.control.applications import PORTAL
from tulle.control.workspace import Workspace
from tulle.errors import NotFound, TulleError
from tulle.gateway import applications
from tulle.gateway.apis import records
from tulle.lake.repository import Repository
from tulle.pipeline.keep import REJECTED_SUFFIX
from tulle.pipeline.record import RECORDS, read_record
from tulle.pipeline.table import columns_in, data_at
from tulle.serving import generation
from tulle.serving.generation import Deployment
from tulle.spec.product import DataProduct, DataSet
from tulle.state import drift, products
from tulle.state.drift import MESH, Drift, Finding
from tulle.state.products import AppliedProduct

PUBLISHED = "main"
SUMMARY = "drift.json"
_MOST = 50  # findings kept of one product
_OUR_FOLDERS = frozenset({"_tulle", "_lakefs_actions", "models"})


def look(workspace: Workspace) -> tuple[Drift, ...]:
    """Look at everything now, remember what was found, and tell it."""
    applied = products.applied(workspace.database)
    found: dict[str, list[Finding]] = {MESH: list(_mesh_findings(workspace, applied))}
    roles = _role_findings(workspace, applied)
    for item in applied:
        findings = []
        for finding in _product_findings(workspace, item.product):
            findings.append(finding)
            if len(findings) == _MOST:
                break
        found[item.product.name] = [*findings, *roles(item.product)]
    drift.save(workspace.database, found)
    _summarise(workspace, found)
    return drift.found(workspace.database)


def _summarise(workspace: Workspace, found: Mapping[str, list[Finding]]) -> None:
    """A file for `tulle status`, which reads no database."""
    folder = workspace.settings.run_folder
    folder.mkdir(parents=True, exist_ok=True)
    counts = {subject: len(findings) for subject, findings in found.items() if findings}
    with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".drift-", delete=False) as file:
        json.dump({"looked_at": time.time(), "findings": counts}, file)
    Path(file.name).replace(folder / SUMMARY)


def as_plain(item: Drift) -> dict[str, object]:
    """What was found of one product as plain values."""
    return {
        "subject": item.subject,
        "looked_at": item.looked_at,
        "findings": [asdict(finding) for finding in item.findings],
    }


# ── one product ──────────────────────────────────────────────────────────────────────────────────────────


def _product_findings(workspace: Workspace, product: DataProduct) -> Iterator[Finding]:
    name = product.name
    try:
        repository = workspace.lake.repository(name)
    except NotFound:
        hint = "`tulle apply` makes it again, empty; `tulle run` then makes its data"
        yield Finding("repository", name, f"repository '{name}' is not in the lake any more", hint)
        return
    try:
        repository.branch(PUBLISHED)
    except NotFound:
        hint = f"`tulle branch create {name} {PUBLISHED} --source COMMIT` brings it back"
        yield Finding("branch", PUBLISHED, f"repository '{name}' has no branch '{PUBLISHED}'", hint)
        return
    try:
        for environment in workspace.settings.environments.values():
            for finding in _branch_findings(repository, product, environment.branch):
                told = f"in environment '{environment.name}': " if environment.branch != PUBLISHED else ""
                yield replace(finding, sentence=told + finding.sentence)
    except (TulleError, OSError, ValueError) as exc:
        told = exc.message if isinstance(exc, TulleError) else str(exc)
        yield Finding("repository", name, f"repository '{name}' cannot be read: {told}")


def _branch_findings(repository: Repository, product: DataProduct, branch: str) -> Iterator[Finding]:
    """What lies on an environment's branch; one that nothing came to yet has no branch.

    Which columns there are is looked at where consumers read: elsewhere runs make what nobody applied yet.
    """
    if branch != PUBLISHED:
        try:
            repository.branch(branch)
        except NotFound:
            return
    yield from _staged(repository, branch)
    yield from _strangers(repository, product, branch)
    for data_set in product.data_sets:
        for finding in _data_set_findings(repository, data_set, branch):
            if branch == PUBLISHED or finding.kind != "column":
                yield finding


def _role_findings(
    workspace: Workspace, applied: Collection[AppliedProduct]
) -> Callable[[DataProduct], Sequence[Finding]]:
    there, others = grants.look(workspace), {item.product.name: item.product for item in applied}
    logs = grants.logs(workspace)

    def of(product: DataProduct) -> Sequence[Finding]:
        hint = "`tulle apply` puts it right; who has a role is written in product.yaml"
        found = grants.changes(there, product, others, logs)
        return [
            Finding("role", c.role.name, f"not as it was applied: {c.sentence}", hint) for c in found[:_MOST]
        ]

    return of


def _staged(repository: Repository, branch: str) -> Iterator[Finding]:
    changes = repository.status(branch)
    if changes:
        count = f"{len(changes)} object{'s' if len(changes) > 1 else ''}"
        first = changes[0].path
        hint = f"`tulle diff {repository.name} {branch}` shows them; commit them or reset the branch"
        told = f"{count} on '{branch}' changed by hand and not committed, first '{first}'"
        yield Finding("file", first, told, hint)


def _strangers(repository: Repository, product: DataProduct, branch: str) -> Iterator[Finding]:
    """Folders and files on a branch that nothing of the product made."""
    records = repository.entries(branch, RECORDS)
    known = {e.path.removeprefix(RECORDS).removesuffix(".json") for e in records}
    ports = {p.data_set for p in product.input_ports}
    known |= {d.name for d in product.data_sets} | ports | {f"{port}{REJECTED_SUFFIX}" for port in ports}
    page = repository.list(branch, delimiter="/")
    places = [*page.prefixes, *(entry.path for entry in page.entries)]
    for place in sorted(places):
        bare = place.rstrip("/")
        if bare not in known and bare not in _OUR_FOLDERS and not bare.startswith("_"):
            hint = "remove it, or declare what it is in product.yaml"
            yield Finding("file", place, f"'{place}' lies in the repository, and no run made it", hint)


def _data_set_findings(repository: Repository, data_set: DataSet, branch: str) -> Iterator[Finding]:
    name = data_set.name
    record, there = read_record(repository, branch, name), data_at(repository, branch, name)
    again = "`tulle run --full` makes it again"
    if record is None and there is None:
        return  # nothing was published yet
    if there is None:
        yield Finding("data-set", name, f"the rows of data set '{name}' are gone, its record is there", again)
        return
    if record is None:
        yield Finding("data-set", name, f"data set '{name}' was put there by hand: no run made it", again)
    elif record.identity != there.identity:
        told = f"data set '{name}' was changed by hand since run {record.run} made it"
        yield Finding("data-set", name, told, again)
    changed = record is None or record.identity != there.identity
    if not changed and record is not None:
        actual = {column.name: column.type for column in record.types()}
    else:
        actual = {column.name: column.type for column in columns_in(there.relation)}
    yield from _column_findings(data_set, actual)


def _column_findings(data_set: DataSet, actual: Mapping[str, str]) -> Iterator[Finding]:
    hint = "`tulle run` publishes it as it was applied"
    for column in data_set.columns:
        name = f"{data_set.name}.{column.name}"
        if column.name not in actual:
            yield Finding("column", name, f"column '{name}' is promised and not published", hint)
        elif actual[column.name] != column.type:
            told = f"column '{name}' is published as {actual[column.name]} and promised as {column.type}"
            yield Finding("column", name, told, hint)


# ── the mesh ─────────────────────────────────────────────────────────────────────────────────────────────


def _mesh_findings(workspace: Workspace, applied: Collection[AppliedProduct]) -> Iterator[Finding]:
    declared = {service: item.product.name for item in applied if item.services for service in item.services}
    unknown = any(item.services is None for item in applied)  # applied before services were kept
    deployments: dict[str, Deployment] = {}
    for deployed in generation.everywhere(workspace.database):
        name = deployed.service
        deployments.setdefault(name, deployed)
        if name not in declared and not unknown:
            hint = f"declare it in services/ of '{deployed.product}' and apply, or destroy that product"
            yield Finding("service", name, f"service '{name}' answers, and no product declares it", hint)
        if deployed.status == "failed":
            told = f"service '{name}' should answer with version {deployed.desired} and does not"
            yield Finding("service", name, f"{told}: {deployed.message}", f"`tulle logs {name}` tells why")
    known = {*declared, *deployments, *records.owners(workspace.database)}
    for application in applications.applications(workspace.database):
        for agreed in application.contracts:
            if agreed.service not in known and not unknown:
                if application.name == PORTAL:
                    continue
                told = f"application '{application.name}' has a contract on '{agreed.service}', which does not exist"
                hint = f"`tulle app withdraw {application.name} {agreed.service}` ends it"
                yield Finding("contract", application.name, told, hint)
