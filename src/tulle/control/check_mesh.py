"""Every problem of a mesh at once: documents, code, checks and services, without running anything of the user's."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from tulle.control.api_connections import connection_problems
from tulle.control.application_people import contact_problems
from tulle.control.declared_apis import api_problems, offers_of, uncertified_hosts
from tulle.control.gather import places_of
from tulle.control.identities import use_problems
from tulle.control.idle_policies import IdlePolicies
from tulle.control.notice import ends_too_soon
from tulle.control.policy_names import PolicyNames
from tulle.control.policy_problems import Judged, judged_api, mesh_policies_judged, policies_judged
from tulle.control.set_problems import SetProblems
from tulle.control.shown_features import hidden_features
from tulle.control.watches import watch_problems
from tulle.control.workspace import Workspace
from tulle.errors import Invalid, NotFound, Problem, TulleError, did_you_mean
from tulle.gateway.apis.load import Loaded
from tulle.pipeline.check_fit import unfit_checks
from tulle.pipeline.graph import ProductCode, load_code
from tulle.pipeline.ingest import missing_file
from tulle.serving.fit import Columns, NoSuchProduct, misfits
from tulle.serving.service import Service, load_services
from tulle.spec.folders import misspelt_folders
from tulle.spec.mesh import MeshSpec
from tulle.spec.product import DataProduct
from tulle.spec.source import FILE
from tulle.spec.tenancy import collisions
from tulle.spec.written import problem_at


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was read, what is wrong with it, and what is not wrong but most likely not meant."""

    products: tuple[str, ...]
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...] = ()


def check_mesh(
    workspace: Workspace, *, spec: MeshSpec | None = None, only: Collection[str] | None = None
) -> Verdict:
    """Read all of the mesh's files and gather their problems.

    `spec` has the documents when they were read already; `only` are the products whose code is looked at.
    """
    try:
        spec = spec or workspace.spec()
    except Invalid as exc:
        return Verdict((), _problems(exc))
    problems: list[Problem] = []
    warnings: list[Problem] = []
    services: dict[str, Sequence[Service]] = {}
    sets = SetProblems(workspace.settings)
    documents = {one.name: one for one in spec.products}
    looked_at = [p for p in spec.order() if only is None or p.name in only]
    for product in looked_at:
        code = load_code(product, spec=spec)
        problems += code.problems
        problems += unfit_checks(code)
        problems += misspelt_folders(product)
        warnings += _missing_files(product)
        warnings += _ending_sources(product, spec)
        try:
            services[product.name] = load_services(product)
        except Invalid as exc:
            problems += _problems(exc)
        else:
            problems += misfits(services[product.name], _Known(spec, code).columns_of)
            problems += hidden_features(services[product.name], product.name, documents.get)
            for service in services[product.name]:
                problems += sets.of_service(service, product)
    problems += contact_problems(workspace.settings)
    problems += watch_problems(workspace.settings)
    problems += _used(spec, services)
    apis: list[Loaded] = []
    names = PolicyNames(workspace)
    further = partial(_of_api, workspace, sets, documents, apis)
    problems += api_problems(workspace, spec, {product.name for product in looked_at}, services, further)
    for judged in _policies(names, IdlePolicies(workspace), documents, services, apis):
        problems += judged.problems
        warnings += judged.warnings
    warnings += uncertified_hosts(workspace.settings, apis)
    problems += ends_too_soon(workspace, looked_at)
    problems += collisions(spec.products, services=places_of(services))
    return Verdict(tuple(product.name for product in looked_at), tuple(problems), tuple(warnings))


def check_named(workspace: Workspace, names: Sequence[str]) -> Verdict:
    """The same of the products with these names; of all when none is named. NotFound for a name that is none.

    Documents hang together: when one of them does not hold, all are told.
    """
    if not names:
        return check_mesh(workspace)
    try:
        spec = workspace.spec()
    except Invalid as exc:
        return Verdict((), _problems(exc))
    return check_mesh(workspace, spec=spec, only={spec.product(name).name for name in names})


def _of_api(
    workspace: Workspace,
    sets: SetProblems,
    documents: Mapping[str, DataProduct],
    seen: list[Loaded],
    loaded: Loaded,
) -> Iterator[Problem]:
    seen.append(loaded)
    yield from connection_problems(workspace.settings, workspace.database, loaded)
    yield from sets.of_api(loaded, documents[loaded.api.product])


def _policies(
    names: PolicyNames,
    idle: IdlePolicies,
    documents: Mapping[str, DataProduct],
    services: Mapping[str, Sequence[Service]],
    apis: Sequence[Loaded],
) -> Iterator[Judged]:
    """Of the policies of services, APIs and the mesh; tiers may be of any of them that is looked at."""
    found = [service for of_product in services.values() for service in of_product]
    offered = offers_of(found, apis)
    for product, of_product in services.items():
        for service in of_product:
            tiers = names.tiers_of(offered[service.name])
            yield policies_judged(names, idle, service, documents[product], tiers)
    for loaded in apis:
        tiers = names.tiers_of(offered[loaded.api.name])
        yield judged_api(names, idle, loaded, documents[loaded.api.product], tiers)
    yield mesh_policies_judged(names, {tier.name for one in offered.values() for tier in one.tiers})


def _problems(exc: TulleError) -> tuple[Problem, ...]:
    return exc.problems or (Problem(exc.message, hint=exc.hint),)


def _used(spec: MeshSpec, services: Mapping[str, Sequence[Service]]) -> Iterator[Problem]:
    """What is wrong with services that use others, told of those that are looked at."""
    if not any(service.uses for of_product in services.values() for service in of_product):
        return
    known: dict[str, tuple[DataProduct, Service]] = {}
    for product in spec.order():
        try:
            found = services[product.name] if product.name in services else load_services(product)
        except Invalid:  # told where that product is looked at
            continue
        known |= {service.name: (product, service) for service in found}
    files = {service.place.file for found in services.values() for service in found if service.place}
    yield from (one for one in use_problems(known) if one.place is None or one.place.file in files)


def _missing_files(product: DataProduct) -> Iterator[Problem]:
    """Sources on this disk that have nothing to read yet: a run would fail, and the file may still come."""
    for port in product.input_ports:
        if port.source is None or port.source.type != FILE:
            continue
        if (found := missing_file(port, product.folder)) is not None:
            message = f"{found.message} yet: a run of input port '{port.title}' would fail"
            yield problem_at(product, port.place, "source", "path", message=message, hint=found.hint)


def _ending_sources(product: DataProduct, spec: MeshSpec) -> Iterator[Problem]:
    """What the product takes from others and will not stay: a run reads it as long as it is there."""
    for port in product.input_ports:
        if (found := spec.source_of(port)) is None:
            continue
        owner, taken = found
        if taken.deprecated or taken.sunset:
            what = f"output port '{taken.title}' of product '{owner.name}'"
            sunset, instead = taken.sunset, taken.replaced_by
        elif owner.status == "deprecated" or owner.sunset:
            what, sunset, instead = f"product '{owner.name}'", owner.sunset, owner.replaced_by
        else:
            continue
        end = f"ends on {sunset}" if sunset else "is deprecated"
        message = f"input port '{port.title}' takes from {what}, which {end}"
        hint = f"'{instead}' takes its place" if instead else "its owner knows what to take instead"
        yield problem_at(product, port.place, "product", message=message, hint=hint)


class _Known:
    """The columns that a product's services may name: of its own data sets, and of those of others."""

    def __init__(self, spec: MeshSpec, code: ProductCode) -> None:
        self._spec = spec
        self._code = code

    def columns_of(self, product: str, data_set: str) -> Columns:
        """The columns as far as they are known before a run. NoSuchProduct, or NotFound for the data set."""
        if product in {"", self._code.product.name}:
            code = self._code
        else:
            try:
                other = self._spec.product(product)
            except NotFound as exc:
                raise NoSuchProduct(exc.message, hint=exc.hint) from None
            if declared := _declared(other, data_set):
                return declared
            code = load_code(other, spec=self._spec)
        names = {job.name for job in code.jobs} or {d.name for d in code.product.data_sets}
        if data_set not in names and not (data_set.endswith("__rejected") and code.jobs):
            hint = did_you_mean(data_set, names)
            raise NotFound(f"product '{code.product.name}' has no data set '{data_set}'", hint=hint)
        if (followed := code.columns.get(data_set)) is not None:
            return {column.name: column.type for column in followed}
        return _declared(code.product, data_set) or None


def _declared(product: DataProduct, data_set: str) -> dict[str, str]:
    return {c.name: c.type for d in product.data_sets if d.name == data_set for c in d.columns}
