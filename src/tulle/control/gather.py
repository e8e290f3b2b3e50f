"""What a plan is made of, gathered: the documents and code of the folder, what is applied, who uses what.

Reads and decides nothing. Code of consumers is read only when a change may break them, files only when they
changed on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tulle.control import grants
from tulle.control.declared_apis import api_details, kept_of
from tulle.control.declared_services import declared_as_plain
from tulle.control.endings import endings
from tulle.control.impact import Impact, ServiceUse, Use, service_uses, uses_in
from tulle.control.plan import Detail, Standing
from tulle.control.product_files import FileDigests
from tulle.control.workspace import Workspace
from tulle.errors import NotFound, Problem, TulleError
from tulle.gateway import service_keys
from tulle.gateway.apis import records
from tulle.gateway.apis.conflicts import Known, contested
from tulle.gateway.apis.declared import ApiDeclared
from tulle.gateway.apis.load import FOLDER, Loaded, load_apis
from tulle.gateway.holders import holders
from tulle.lake.access.overview import Overview
from tulle.pipeline.graph import ProductCode, load_code
from tulle.serving.service import Service, load_services
from tulle.spec.capability import Registry
from tulle.spec.environment import production
from tulle.spec.mesh import MeshSpec
from tulle.spec.product import Component, DataProduct
from tulle.spec.tenancy import collisions
from tulle.state import products
from tulle.state.products import AppliedProduct

DIGESTS = FileDigests()


@dataclass
class Gathered:
    """Everything of one mesh at one moment that a plan needs; each part is read when it is asked for, once."""

    workspace: Workspace
    spec: MeshSpec
    _codes: dict[str, ProductCode] = field(default_factory=dict)
    _uses: dict[tuple[str, str], list[Use]] = field(default_factory=dict)
    _apis: dict[str, tuple[Loaded, ...] | None] = field(default_factory=dict)
    _files: dict[str, Mapping[str, str]] = field(default_factory=dict)

    @cached_property
    def applied(self) -> Mapping[str, AppliedProduct]:
        """What is applied, by name."""
        return {item.product.name: item for item in products.applied(self.workspace.database)}

    @cached_property
    def repositories(self) -> Mapping[str, Mapping[str, str]]:
        """The metadata of every repository in the lake, by name."""
        return {r.name: r.record.metadata for r in self.workspace.lake.repositories()}

    @cached_property
    def desired(self) -> tuple[Standing, ...]:
        """The products as their folders say, each after those it reads."""
        return tuple(self._desired(product) for product in self.spec.order())

    @cached_property
    def actual(self) -> Mapping[str, Standing]:
        """The products as they were applied."""
        return {
            name: Standing(item.product, item.code_digest, item.files, item.services)
            for name, item in self.applied.items()
        }

    def files(self, product: DataProduct) -> Mapping[str, str]:
        """The digests of a product's files."""
        if product.name not in self._files:
            self._files[product.name] = DIGESTS.of_product(product.folder)
        return self._files[product.name]

    def _desired(self, product: DataProduct) -> Standing:
        files, item = self.files(product), self.applied.get(product.name)
        if item is not None and item.files is None:  # applied before files were kept
            return Standing(product, self.code(product).digest, None, self._services(product))
        if (
            item is not None
            and item.services is not None
            and _of_folder(files, "services") == _of_folder(item.files, "services")
        ):
            return Standing(product, "", files, item.services)
        return Standing(product, "", files, self._services(product))

    def _services(self, product: DataProduct) -> Mapping[str, Any] | None:
        try:
            return declared_as_plain(load_services(product))
        except TulleError:
            return None  # `validate` and `apply` say what is wrong with them

    @cached_property
    def _recorded_apis(self) -> Mapping[str, Mapping[str, ApiDeclared]]:
        return records.by_product(self.workspace.database)

    def apis(self, product: DataProduct) -> tuple[Detail, ...]:
        """What a plan shows of the APIs that a product declares; nothing where they cannot be read."""
        had = self._recorded_apis.get(product.name, {})
        if self._has_same_apis(product):
            return ()
        loaded = self._loaded_apis(product)
        if loaded is None:
            return ()  # `validate` and `apply` say what is wrong with them
        return api_details(self.workspace, had, loaded, self.callers)

    def _loaded_apis(self, product: DataProduct) -> tuple[Loaded, ...] | None:
        """The APIs that a product declares, read once; None where they cannot be read."""
        if product.name not in self._apis:
            try:
                self._apis[product.name] = load_apis(product)
            except TulleError:
                self._apis[product.name] = None
        return self._apis[product.name]

    @property
    def offered_apis(self) -> tuple[Loaded, ...]:
        """The APIs of products that declare other ones than were applied."""
        changed = [p for p in self.spec.products if not self._has_same_apis(p)]
        return tuple(one for product in changed for one in self._loaded_apis(product) or ())

    def contested(self) -> tuple[Problem, ...]:
        """The names and addresses of APIs that a product would take from another one."""
        changed = {p.name for p in self.spec.products if not self._has_same_apis(p)}
        settings = self.workspace.settings
        known = Known(
            {name: one.product.name for one in self.desired for name in one.services or ()},
            tuple(settings.environments),
            production(settings).name,
            kept_of(self.workspace, self.offered_apis, {p.name for p in self.spec.products} - changed),
            looked_at=changed,
        )
        return tuple(contested(self.offered_apis, known))

    def _has_same_apis(self, product: DataProduct) -> bool:
        item = self.applied.get(product.name)
        files = self.files(product)
        return item is not None and _of_folder(files, FOLDER) == _of_folder(item.files, FOLDER)

    def code(self, product: DataProduct) -> ProductCode:
        """A product's code, read once."""
        if product.name not in self._codes:
            self._codes[product.name] = load_code(product, spec=self.spec)
        return self._codes[product.name]

    def uses(self, old: DataProduct, new: DataProduct | None) -> Sequence[Use]:
        """The uses the mesh's other products make of a product, by the columns it had or will have."""
        key = (old.name, new.digest if new else "")
        if key not in self._uses:
            known: dict[tuple[str, str], set[str]] = {}
            for product in (old, new) if new else (old,):
                for data_set in product.data_sets:
                    columns = {c.name for c in data_set.columns}
                    known.setdefault((old.name, data_set.name), set()).update(columns)
            readers = [
                p for p in self.spec.products if any(port.product == old.name for port in p.input_ports)
            ]
            beside = {port.product for p in readers for port in p.input_ports} - {old.name, ""}
            for product in self.spec.products:
                if product.name in beside:
                    for d in product.data_sets:
                        known[product.name, d.name] = {c.name for c in d.columns}
            self._uses[key] = [
                use
                for reader in readers
                for use in uses_in(self.code(reader), known)
                if any(p.name == use.port and p.product == old.name for p in reader.input_ports)
            ]
        return self._uses[key]

    @cached_property
    def callers(self) -> Mapping[str, Sequence[str]]:
        """Who may call each service and API: applications, and holders of keys."""
        callers = {
            name: [one.application for one in of] for name, of in holders(self.workspace.database).items()
        }
        for key in service_keys.held(self.workspace.database):
            callers.setdefault(key.service, []).append(f"{key.label} (API key)")
        return callers

    @cached_property
    def service_uses(self) -> tuple[ServiceUse, ...]:
        """What the services of the mesh answer from, and who may call them."""
        standing = {s.product.name: s for s in self.desired}
        found: list[ServiceUse] = []
        for name in self.actual.keys() | standing.keys():
            said = (standing[name] if name in standing else self.actual[name]).services
            found += service_uses(name, said or {}, self.callers)
        return tuple(sorted(found, key=lambda use: (use.service, use.endpoint, use.data_set)))

    @cached_property
    def roles_there(self) -> Overview:
        """The groups and policies there are, and who has them."""
        return grants.look(self.workspace)

    @cached_property
    def grants(self) -> Mapping[str, tuple[grants.GrantChange, ...]]:
        """What the roles of each product need, by its name."""
        there = self.roles_there
        others = {product.name: product for product in self.spec.products}
        logs = grants.logs(self.workspace)
        return {name: grants.changes(there, product, others, logs) for name, product in others.items()}

    def granting(self, product: DataProduct) -> tuple[Detail, ...]:
        """What a plan shows of a product's roles."""
        return tuple(Detail(change.sentence) for change in self.grants[product.name])

    def ending(self, product: DataProduct) -> tuple[Detail, ...]:
        """What a plan shows of what ends with a product that is retired."""
        return tuple(Detail(sentence) for _, _, sentence in endings(self.workspace, product.name))

    @property
    def impact(self) -> Impact:
        """Whom changes hit."""
        return Impact(self.uses, lambda: self.service_uses)

    def collisions(self) -> tuple[Problem, ...]:
        """Things of the mesh that want the same place."""
        foreign = [
            name
            for name, metadata in self.repositories.items()
            if name not in self.applied and metadata.get("product") != name
        ]
        found = collisions(
            self.spec.products, services=places_of(self._all_services()), foreign_repositories=foreign
        )
        new = [product for product in self.spec.products if product.name not in self.applied]
        return (*found, *grants.taken_names(self.roles_there, new))

    def _all_services(self) -> Mapping[str, Sequence[Service]]:
        """Services with their places, read only where two products want the same name."""
        owners: dict[str, set[str]] = {}
        for standing in self.desired:
            for service in standing.services or ():
                owners.setdefault(service, set()).add(standing.product.name)
        doubtful = {name for names in owners.values() if len(names) > 1 for name in names}
        found = {}
        for name in doubtful:
            try:
                found[name] = load_services(self.spec.product(name))
            except TulleError:
                continue
        return found


def places_of(services: Mapping[str, Sequence[Service]]) -> dict[str, list[tuple[str, Any]]]:
    """Names and places of services, by product."""
    return {name: [(s.name, s.place) for s in declared] for name, declared in services.items()}


def gather(workspace: Workspace) -> Gathered:
    """The mesh as its documents say now. Invalid, with every problem, when they do not hold."""
    return Gathered(workspace, workspace.spec())


def _of_folder(files: Mapping[str, str] | None, folder: str) -> dict[str, str]:
    return {path: digest for path, digest in (files or {}).items() if path.startswith(f"{folder}/")}


# ── what capabilities have to do ─────────────────────────────────────────────────────────────────────────


def action_of(registry: Registry, component: Component, event: str) -> Callable[..., Any] | None:
    """The hook for a component, or None; also None when its type is not known any more."""
    try:
        return registry.action(component.type, event)
    except NotFound:
        return None


def component_changes(
    new: DataProduct | None, old: DataProduct | None
) -> tuple[list[tuple[Component, Component | None]], list[Component]]:
    """Components to provision, each with what it was before, and components to take away."""
    before = _by_name(old.components if old else ())
    after = _by_name(new.components if new else ())
    wanted = [(c, before.get(key)) for key, c in after.items() if before.get(key) != c]
    return wanted, [c for key, c in before.items() if key not in after]


def _by_name(components: Iterable[Component]) -> dict[tuple[str, str], Component]:
    return {(c.type, c.name): c for c in components}


def provisioning(registry: Registry) -> Callable[[DataProduct, DataProduct | None], tuple[Detail, ...]]:
    """What a plan shows of the capabilities' own work for a product."""

    def details(new: DataProduct, old: DataProduct | None) -> tuple[Detail, ...]:
        found: list[Detail] = []
        wanted, gone = component_changes(new, old)
        for component, before in wanted:
            if action_of(registry, component, "provision") is not None:
                planned = action_of(registry, component, "plan")
                said = _planned(planned, component, new, before) if planned else []
                told = said or [f"provision {component.type} '{component.name}'"]
                found += [Detail(sentence) for sentence in told]
        found += [
            Detail(f"take away {component.type} '{component.name}'")
            for component in gone
            if action_of(registry, component, "destroy") is not None
        ]
        return tuple(found)

    return details


def _planned(
    action: Callable[..., Any], component: Component, product: DataProduct, before: Component | None
) -> list[str]:
    try:
        return [str(sentence)[:500] for sentence in action(component, product, before) or ()]
    except Exception as exc:  # noqa: BLE001  a third party's code may fail in any way; the plan says whose
        return [f"{component.type} '{component.name}' cannot say what it will do: {exc!r}"[:500]]
