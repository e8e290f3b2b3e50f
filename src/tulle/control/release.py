"""Declared services and their packages: which there are, building one, testing one, what its API is.

Deploying a package is `control.deployment`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tulle.control.policy_problems import demand_sound
from tulle.control.shown_features import demand_showable
from tulle.control.workspace import Workspace
from tulle.errors import Conflict, Invalid, NotFound, TulleError, did_you_mean
from tulle.gateway.in_force import of_service, said_at_deployments
from tulle.gateway.policies.opening import WaysIn, ways_in
from tulle.pipeline.graph import load_code
from tulle.serving import generation, package, package_import
from tulle.serving.access import access_of
from tulle.serving.answers import questions_of
from tulle.serving.compose_declared import reaching_out
from tulle.serving.kinds import KINDS
from tulle.serving.loaded import Verdict
from tulle.serving.manifest import MANIFEST, Manifest, read_manifest
from tulle.serving.openapi_access import with_ways
from tulle.serving.package import Package
from tulle.serving.service import Service, file_of, load_services
from tulle.serving.snippets import Call, Snippet, example_of, snippets
from tulle.spec import environment as environments
from tulle.spec.environment import production
from tulle.spec.product import DataProduct
from tulle.state import products


@dataclass(frozen=True, slots=True)
class Declared:
    """A service as a product declares it."""

    product: DataProduct
    service: Service


def declared_services(workspace: Workspace) -> Mapping[str, Declared]:
    """Every service of every applied product, by name, as far as their files can be read; see `readable_services`."""
    return readable_services(workspace)[0]


def readable_services(workspace: Workspace) -> tuple[Mapping[str, Declared], Sequence[Invalid]]:
    """The services that are declared, by name, and what is wrong with the files of others.

    One whose name two products claim is told as wrong, and is neither's.
    """
    found: dict[str, Declared] = {}
    wrong: list[Invalid] = []
    claimed: set[str] = set()
    for item in products.applied(workspace.database):
        try:
            services = load_services(item.product)
        except Invalid as exc:
            wrong.append(exc)
            continue
        for service in services:
            if service.name in claimed:
                if (other := found.pop(service.name, None)) is not None:
                    wrong.append(_twice(service.name, other.product.name, item.product.name))
                continue
            claimed.add(service.name)
            found[service.name] = Declared(item.product, service)
    return found, wrong


def declared_service(workspace: Workspace, name: str) -> Declared:
    """One declared service. NotFound with the nearest name; Invalid when the files of its product cannot be read.

    What is wrong with the files of other products keeps nobody from working on this one.
    """
    found: dict[str, Declared] = {}
    broken: list[Invalid] = []
    wrong: Invalid | None = None  # with the file that means this one
    for item in products.applied(workspace.database):
        try:
            services = load_services(item.product)
        except Invalid as exc:
            broken.append(exc)
            wrong = wrong or (exc if file_of(item.product, name) is not None else None)
            continue
        for service in services:
            if service.name == name and name in found:
                raise _twice(name, found[name].product.name, item.product.name)
            found[service.name] = Declared(item.product, service)
    if name in found:
        return found[name]
    if wrong is not None:
        raise wrong
    hint = did_you_mean(name, found) or "declare it in products/<domain>/<product>/services/"
    problems = [problem for exc in broken for problem in exc.problems]
    raise NotFound(f"no applied product has a service '{name}'", hint=hint, problems=problems)


def declared_in(workspace: Workspace, name: str) -> tuple[DataProduct, Path]:
    """Whose service it is and the file that declares it, also one that is not valid now: that is to be mended.

    A valid one comes first, whoever else claims its name. NotFound with the nearest name.
    """
    try:
        found = declared_service(workspace, name)
    except Invalid:
        for item in products.applied(workspace.database):
            if (file := _broken_file(item.product, name)) is not None:
                return item.product, file
        raise
    return found.product, found.service.file


def _broken_file(product: DataProduct, name: str) -> Path | None:
    try:
        load_services(product)
    except Invalid:
        return file_of(product, name)
    return None


def _readable_services(workspace: Workspace) -> Iterator[Service]:
    """Every service that can be read: a file that is not valid holds up its own product alone."""
    for item in products.applied(workspace.database):
        with contextlib.suppress(Invalid):
            yield from load_services(item.product)


def _twice(name: str, one: str, other: str) -> Invalid:
    return Invalid(f"products '{one}' and '{other}' both have a service '{name}'")


def build_package(
    workspace: Workspace, name: str, *, environment: str | None = None, allow_failing: bool = False
) -> tuple[Package, bool]:
    """Build the next version of a service from what is published; the version, and whether it is a new one.

    Without an environment from what consumers read. Conflict when a test query of a new one fails, unless
    `allow_failing`.
    """
    settings = workspace.settings
    place = environments.environment(settings, environment) if environment else production(settings)
    declared = declared_service(workspace, name)
    demand_sound(workspace, declared.service, declared.product)
    documents = {item.product.name: item.product for item in products.applied(workspace.database)}
    demand_showable(declared.service, declared.product.name, documents.get)
    others = {
        one.name: {endpoint.name: endpoint.type for endpoint in one.endpoints}
        for one in _readable_services(workspace)
    }
    known = {p.version for p in package.packages(workspace.database, name)}
    built = package.build(
        declared.service,
        product=declared.product,
        lake=workspace.lake,
        database=workspace.database,
        settings=workspace.settings,
        code_version=load_code(declared.product).digest,
        ref=place.branch,
        others=others,
        check=None if allow_failing else lambda folder: demand_passing(name, folder),
    )
    return built, built.version not in known


def demand_passing(name: str, folder: Path) -> None:
    """Conflict, naming them, when saved test queries of an unpacked package of a service fail.

    Those that ask what is elsewhere are not held to it: what others answer is no property of a package.
    """
    endpoints = read_manifest(folder / MANIFEST).endpoints
    elsewhere = reaching_out(endpoints)
    if not [one for one in questions_of(endpoints) if one.endpoint not in elsewhere]:
        return
    verdicts = [verdict for verdict in generation.test(folder) if verdict.endpoint not in elsewhere]
    failed = [verdict for verdict in verdicts if not verdict.passed]
    if failed:
        told = "; ".join(f"{v.endpoint}, '{v.name}': {v.message}" for v in failed[:5])
        more = f" and {len(failed) - 5} more" if len(failed) > 5 else ""
        raise Conflict(
            f"{len(failed)} of {len(verdicts)} test queries of service '{name}' fail: {told}{more}",
            hint=f"mend them, or `tulle service package {name} --allow-failing`",
        )


def archive_of(workspace: Workspace, name: str, version: str | None = None) -> tuple[Package, Path]:
    """A version, the one that answers or else the newest by default, and its signed archive, whole and undamaged."""
    chosen = chosen_version(workspace, name, version)
    generation.unpack(chosen, workspace.settings)
    return chosen, workspace.settings.state_folder / chosen.path


def take_in(workspace: Workspace, name: str, archive: Path) -> tuple[Package, bool]:
    """Record the package in an archive as a version of a service; which, and whether it is a new one."""
    declared = declared_service(workspace, name)
    known = {p.version for p in package.packages(workspace.database, name)}
    made = package_import.take_in(
        archive,
        service=name,
        product=declared.product.name,
        database=workspace.database,
        settings=workspace.settings,
    )
    return made, made.version not in known


def chosen_version(workspace: Workspace, name: str, version: str | None = None) -> Package:
    """The package of that version, else of the active one, else the newest. NotFound when there is none."""
    declared_service(workspace, name)
    if version is None:
        current = generation.find(workspace.database, name)
        version = current.active_version if current else None
    if version is not None:
        return package.get(workspace.database, name, version)
    versions = package.packages(workspace.database, name)
    if not versions:
        raise NotFound(f"service '{name}' has no package yet", hint=f"`tulle service package {name}`")
    return versions[-1]


def run_test_queries(
    workspace: Workspace, name: str, version: str | None = None
) -> tuple[str, Sequence[Verdict]]:
    """Run the test queries saved in a version; which version, and a verdict each."""
    chosen = chosen_version(workspace, name, version)
    return chosen.version, generation.test(generation.unpack(chosen, workspace.settings))


def openapi(workspace: Workspace, name: str) -> Mapping[str, Any]:
    """The OpenAPI document in the active (else newest) version, with who may call it now."""
    chosen = chosen_version(workspace, name)
    folder = generation.unpack(chosen, workspace.settings)
    document: Mapping[str, Any] = json.loads((folder / "openapi.json").read_bytes())
    ways = _ways(workspace, name, chosen.manifest)
    return with_ways(
        document, ways.usual, lambda method, path: ways.at(method, path, f"/public/api/v1/{name}")
    )


def snippets_of(
    workspace: Workspace, name: str, endpoint: str | None = None
) -> Mapping[str, Sequence[Snippet]]:
    """A call of each endpoint, or of one, in the words of several clients, with its first test query or else the least
    that its document takes. NotFound.
    """
    chosen = chosen_version(workspace, name)
    known = {str(one["name"]): one for one in chosen.manifest.endpoints}
    if endpoint is not None and endpoint not in known:
        hint = did_you_mean(endpoint, known) or "it has: " + ", ".join(known)
        raise NotFound(f"service '{name}' has no endpoint '{endpoint}'", hint=hint)
    ways = _ways(workspace, name, chosen.manifest)
    settings, paths = workspace.settings, openapi(workspace, name)["paths"]
    base = settings.gateway_url
    found = {}
    for one in [endpoint] if endpoint is not None else list(known):
        kind = str(known[one]["type"])
        path = paths.get(f"/{one}/{KINDS[kind].actions[0]}", {}).get("post", {})
        content = path.get("requestBody", {}).get("content", {}).get("application/json", {})
        queries = known[one].get("test_queries") or ()
        body = queries[0]["body"] if queries else example_of(content.get("schema", {"type": "object"}))
        shown = ways.at("POST", f"/{one}/{KINDS[kind].actions[0]}")
        found[one] = snippets(Call(base, name, one, kind, body, ways=shown))
    return found


def _ways(workspace: Workspace, name: str, manifest: Manifest) -> WaysIn:
    """What callers of a service send where consumers are, as its policies and those of the mesh say."""
    access = access_of(manifest.access)
    product = products.named(workspace.database, [manifest.product]).get(manifest.product)
    try:
        place, said = ("", production(workspace.settings).name), said_at_deployments(workspace.database)
        return of_service(
            workspace.settings, said, name, place, access=access, plain=manifest.policies, product=product
        ).ways
    except TulleError:  # of what is recorded, or of mesh.yaml, which the gateway tells
        return ways_in((), access)
