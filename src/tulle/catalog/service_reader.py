"""The services of one mesh as their pages show them: what is declared, packaged, deployed and in force of each.

What cannot be read (a broken file, a damaged package) is told on the page it belongs to and never takes another page
down. Changes nothing and knows nothing of HTML.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tulle.catalog.log_masks import shown_of
from tulle.catalog.mesh_reader import DeclaredService, Mesh, MeshReader
from tulle.catalog.openapi import read_api
from tulle.catalog.page_values import Consumer, ProcessView, ServicePage
from tulle.catalog.query_masks import masked_document, rules_of
from tulle.catalog.service import ServiceView, read_document, service_view, shown
from tulle.catalog.service_access import AccessView, access_now, access_view
from tulle.catalog.service_compare import ComparePage, compare_page
from tulle.catalog.service_design import DesignPage, Suggested, design_page, suggested
from tulle.catalog.service_policies import PoliciesView, policies_view
from tulle.config import Settings
from tulle.errors import Invalid, NotFound, TulleError, did_you_mean
from tulle.gateway.apis.sight import Sight
from tulle.gateway.faults import fault_of
from tulle.gateway.holders import holders
from tulle.gateway.in_force import InForce, Said, of_service, said_at_deployments
from tulle.gateway.policies.opening import WaysIn, ways_in
from tulle.lake.repository import Lake
from tulle.serving import generation, package
from tulle.serving.access import Access, access_of
from tulle.serving.look_ups import LookUp, look_ups
from tulle.serving.openapi_access import with_ways
from tulle.serving.package import Package
from tulle.serving.service import file_of
from tulle.spec.environment import production
from tulle.spec.product import DataProduct
from tulle.spec.tier import limits_in_words
from tulle.state.db import Database


class ServiceReader:
    """Answers the portal's questions about services. Safe to share between threads."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        lake: Lake,
        meshes: MeshReader,
        sight: Sight,
        processes: Callable[[], Sequence[ProcessView]],
    ) -> None:
        """`sight` decides who finds which, `processes` are those of the running mesh."""
        self.settings = settings
        self._database = database
        self._lake = lake
        self._meshes = meshes
        self._sight = sight
        self._processes = processes

    def take_up(self, settings: Settings) -> None:
        """Answer by other settings from now on."""
        self.settings = settings

    def all(self, user: str | None = None) -> tuple[ServiceView, ...]:
        """Every service that `user` may see, by name; None sees all."""
        return self.seen(self._meshes.now(), user)

    def demand_seen(self, name: str, user: str) -> None:
        """NotFound, as for a service that is not there, where `user` may not see the API of this name."""
        hidden, mesh = self._sight.hidden(user), self._meshes.now()
        known = {*mesh.declared, *(one.service for one in generation.everywhere(self._database))}
        is_there = name in known or self._file_of(name) or package.packages(self._database, name)
        if name in hidden or not is_there:
            raise _no_service(name, known - hidden)

    def one(self, name: str) -> ServiceView:
        """One service. NotFound with the nearest name."""
        known = {service.name: service for service in self.all()}
        if name not in known:
            if (broken := self._file_of(name)) is not None:
                raise Invalid(
                    f"{broken[1].name} of product '{broken[0].name}' is not valid",
                    hint=f"/services/{name}/design shows the file and what is wrong with it",
                )
            raise _no_service(name, known)
        return known[name]

    def page(self, name: str) -> ServicePage:
        """One service with its API, who may call it and what answers. NotFound with the nearest name."""
        service = self.one(name)
        api, problem = None, ""
        try:
            api = read_api(self.openapi(name))
        except NotFound:
            problem = "The API is described once there is a package."
        except TulleError as exc:
            problem = str(exc)
        consumers = [
            Consumer(one.application, one.client_id, limits_in_words(one.limits))
            for one in holders(self._database).get(name, ())
        ]
        workers = [p for p in self._processes() if p.name.split("/")[0] == name]
        usual = production(self.settings).name
        fault = fault_of(self.settings, name)
        return ServicePage(
            service,
            api,
            problem,
            tuple(consumers),
            tuple(workers),
            self._access(name),
            self._look_ups(service),
            tuple(sorted(self.settings.environments, key=lambda one: (one != usual, one))),
            fault.sentence if fault is not None else "",
            self._policies(name),
        )

    def _policies(self, name: str) -> PoliciesView:
        chosen = shown(package.packages(self._database, name), generation.find(self._database, name))
        own = "its file" if chosen is None else f"version {chosen.version}"
        return policies_view(self.settings, partial(self.in_force, name), own)

    def in_force(self, name: str) -> InForce:
        """What holds for a service where consumers are."""
        declared = self._meshes.now().declared.get(name)
        chosen = shown(package.packages(self._database, name), generation.find(self._database, name))
        return self._held(said_at_deployments(self._database), name, declared, chosen)

    def _ways(
        self, said: Said, name: str, declared: DeclaredService | None, chosen: Package | None
    ) -> WaysIn:
        """What callers of a service send; the usual where that cannot be read, which its page tells."""
        try:
            return self._held(said, name, declared, chosen).ways
        except TulleError:
            return ways_in((), declared.service.access if declared is not None else Access())

    def _held(
        self, said: Said, name: str, declared: DeclaredService | None, chosen: Package | None
    ) -> InForce:
        place = ("", production(self.settings).name)
        product = declared.product if declared is not None else None
        if chosen is not None:
            access, plain = access_of(chosen.manifest.access), chosen.manifest.policies
        elif declared is not None:
            access, plain = declared.service.access, declared.service.policies
        else:
            access, plain = Access(), ()
        return of_service(self.settings, said, name, place, access=access, plain=plain, product=product)

    def _look_ups(self, service: ServiceView) -> tuple[LookUp, ...]:
        if not service.versions:
            return ()
        with contextlib.suppress(NotFound):  # a package that was removed a moment ago
            return tuple(look_ups(self.settings, self._database, self._lake, service.name)[1])
        return ()

    def compare(self, name: str, left: str = "", right: str = "") -> ComparePage:
        """Two versions of a service, to be compared. NotFound."""
        return compare_page(self._database, name, left, right)

    def design(self, name: str) -> DesignPage:
        """A service as its product declares it now. NotFound."""
        found = self._file_of(name)
        if found is None:
            self.one(name)
            raise NotFound(f"service '{name}' is declared no longer", hint="its versions are on its page")
        product, file = found
        return design_page(name, product.name, product.folder, file)

    def _file_of(self, name: str) -> tuple[DataProduct, Path] | None:
        """Whose service it is and the file that declares it, whatever is wrong with that."""
        mesh = self._meshes.now()
        if (declared := mesh.declared.get(name)) is not None:
            return declared.product, declared.service.file
        for product in map(mesh.by_name.__getitem__, mesh.problems):
            if (file := file_of(product, name)) is not None:
                return product, file
        return None

    def suggested(self, name: str, product: str, data_set: str) -> Suggested:
        """What a look-up of a declared service may mean; without a product in its own one. NotFound."""
        found = self._file_of(name)
        own = found[0].name if found else self.one(name).product
        return suggested(self._meshes.products(), product or own, data_set)

    def access_now(self, name: str) -> Access:
        """By which ways a service is called now."""
        declared = self._meshes.now().declared.get(name)
        chosen = shown(package.packages(self._database, name), generation.find(self._database, name))
        usual = declared.service.access if declared is not None else Access()
        return access_now(self._database, name, usual, chosen)[0]

    def _access(self, name: str) -> AccessView:
        declared = self._meshes.now().declared.get(name)
        versions = package.packages(self._database, name)
        chosen = shown(versions, generation.find(self._database, name))
        usual = declared.service.access if declared is not None else Access()
        return access_view(self._database, name, usual, chosen)

    def openapi(self, name: str) -> Mapping[str, Any]:
        """The OpenAPI document of the version that answers, else of the newest. NotFound before there is one."""
        versions = package.packages(self._database, name)
        chosen = shown(versions, generation.find(self._database, name))
        if chosen is None:
            self.one(name)
            raise NotFound(f"service '{name}' has no package yet", hint=f"`tulle service package {name}`")
        document: Mapping[str, Any] = self._meshes.remembered(
            ("openapi", name),
            (chosen.version, chosen.digest),
            partial(read_document, self.settings, chosen),
        )
        kinds = {str(one["name"]): str(one["type"]) for one in chosen.manifest.endpoints}
        document = masked_document(document, shown_of(chosen.manifest, self._meshes.product), kinds)
        try:
            ways = self.in_force(name).ways
        except TulleError:  # of what is recorded, or of mesh.yaml, which the gateway tells
            return document
        return with_ways(
            document, ways.usual, lambda method, path: ways.at(method, path, f"/public/api/v1/{name}")
        )

    def seen(self, mesh: Mesh, user: str | None) -> tuple[ServiceView, ...]:
        """The services but for those with the name of an API that is hidden from `user`: an API may be over its own."""
        hidden = frozenset[str]() if user is None else self._sight.hidden(user)
        return tuple(service for service in self.of_mesh(mesh) if service.name not in hidden)

    def of_mesh(self, mesh: Mesh) -> tuple[ServiceView, ...]:
        """Every service, by name."""
        deployed = {d.service: d for d in generation.deployments(self._database)}
        said = said_at_deployments(self._database)
        found = []
        for name in sorted({*mesh.declared, *deployed}):
            declared, deployment = mesh.declared.get(name), deployed.get(name)
            owner = declared.product.name if declared else deployment.product if deployment else ""
            product = mesh.find(owner)
            versions = package.packages(self._database, name)
            spec = declared.service if declared else None
            view = service_view(
                self.settings,
                name,
                declared=spec,
                product=owner,
                domain=product.domain if product else "",
                versions=versions,
                deployment=deployment,
                ways=self._ways(said, name, declared, shown(versions, deployment)),
                rules=rules_of(shown(versions, deployment), spec, product, mesh.find),
            )
            found.append(view)
        return tuple(found)


def _no_service(name: str, known: Collection[str]) -> NotFound:
    hint = did_you_mean(name, known) or "declare it in products/<domain>/<product>/services/"
    return NotFound(f"there is no service '{name}'", hint=hint)
