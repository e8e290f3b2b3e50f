"""One service as its page shows it: endpoints, versions, where it answers, and requests to try.

Knows declared services, packages and deployments; not how requests are sent.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tulle.catalog.query_masks import masked_body
from tulle.catalog.way_words import in_words
from tulle.config import Settings
from tulle.errors import Broken, NotFound
from tulle.gateway.policies.opening import WaysIn
from tulle.serving.compose import called
from tulle.serving.declared import rows_of
from tulle.serving.generation import Deployment
from tulle.serving.kinds import KINDS
from tulle.serving.log_rows import Shown
from tulle.serving.manifest import OPENAPI, look_ups_of
from tulle.serving.package import Package
from tulle.serving.service import Service
from tulle.serving.snippets import Call, Snippet, snippets
from tulle.state.db import now

Json = Mapping[str, Any]
_MOST_BYTES = 8_000_000  # of an OpenAPI document


@dataclass(frozen=True, slots=True)
class SavedQuery:
    """A request saved with an endpoint, as the text a form starts with."""

    name: str
    body: str


@dataclass(frozen=True, slots=True)
class Source:
    """What an endpoint answers from: a model or a data set, and the page that tells of it."""

    verb: str  # `predicts with`, `looks features up in`, `looks up in`
    name: str
    href: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class EndpointView:
    """One endpoint; `actions` are the last parts of its addresses, the usual one first."""

    name: str
    kind: str
    description: str
    url: str  # of the usual action
    actions: tuple[str, ...]
    queries: tuple[SavedQuery, ...]
    snippets: tuple[Snippet, ...]
    sources: tuple[Source, ...]
    model: str = ""
    data_sets: tuple[tuple[str, str], ...] = ()  # (product, data set) it reads


@dataclass(frozen=True, slots=True)
class ModelView:
    """A model in a package: its metrics, each with the baseline it had to beat, and which form of it answers."""

    name: str
    task: str
    estimator: str
    metrics: tuple[tuple[str, float, float | None], ...]
    form: str
    parity: str  # how the forms compare, or why the native one answers


@dataclass(frozen=True, slots=True)
class VersionView:
    """One version of a service; `role` is active, wanted, previous, beside (it runs all the same) or empty."""

    version: str
    digest: str
    created_at: float
    bytes: int
    files: int
    ref: str
    code_version: str
    commits: tuple[tuple[str, str], ...]  # (repository, commit) its data was read at
    models: tuple[ModelView, ...]
    role: str

    @property
    def is_active(self) -> bool:
        """Whether it answers."""
        return self.role == "active"


@dataclass(frozen=True, slots=True)
class ServiceView:
    """A service; `state` is declared, packaged, starting, active or failed; disabled or ended where it refuses all."""

    name: str
    product: str
    domain: str
    description: str
    state: str
    url: str
    endpoints: tuple[EndpointView, ...]
    versions: tuple[VersionView, ...]  # newest first
    deployment: Deployment | None
    is_declared: bool
    called_by: tuple[str, ...] = ()  # how callers show who they are, in words

    @property
    def active(self) -> VersionView | None:
        """The version that answers most requests."""
        name = self.deployment.active_version if self.deployment else None
        return next((version for version in self.versions if version.version == name), None)

    def reads(self, product: str) -> bool:
        """Whether it answers from data sets of that product."""
        return any(owner == product for endpoint in self.endpoints for owner, _ in endpoint.data_sets)


def service_view(
    settings: Settings,
    name: str,
    *,
    declared: Service | None,
    domain: str,
    product: str,
    versions: Sequence[Package],
    deployment: Deployment | None,
    ways: WaysIn,
    rules: Mapping[str, Shown] | None = None,
) -> ServiceView:
    """Bring together what is known of a service.

    `ways` is what its callers send; `rules` what of saved requests may be shown, by endpoint.
    """
    chosen = shown(versions, deployment)
    base = settings.gateway_url
    owner = product or (chosen.product if chosen else "")
    state = _state(deployment) if deployment else "packaged" if versions else "declared"
    return ServiceView(
        name=name,
        product=owner,
        domain=domain,
        description=declared.description if declared else chosen.manifest.description if chosen else "",
        state=state,
        url=f"{base}/public/api/v1/{name}",
        endpoints=tuple(_endpoints(base, name, owner, declared, chosen, ways, rules or {})),
        versions=tuple(_version(p, deployment) for p in reversed(versions)),
        deployment=deployment,
        is_declared=declared is not None,
        called_by=in_words(ways.all()),
    )


def _state(deployment: Deployment) -> str:
    if deployment.has_ended(now()):
        return "ended"
    return deployment.status if deployment.enabled else "disabled"


def shown(versions: Sequence[Package], deployment: Deployment | None) -> Package | None:
    """The version that answers, else the newest; None before there is one."""
    active = deployment.active_version if deployment else None
    return next((p for p in versions if p.version == active), versions[-1] if versions else None)


def read_document(settings: Settings, chosen: Package) -> Json:
    """The OpenAPI document in a package. Broken when the package is gone or damaged."""
    name = f"the package {chosen.service} {chosen.version}"
    try:
        with tarfile.open(settings.state_folder / chosen.path, mode="r:") as archive:
            member = archive.extractfile(OPENAPI)
            value = json.loads(member.read(_MOST_BYTES)) if member else None
    except (OSError, KeyError, ValueError, tarfile.TarError) as exc:
        hint = f"`tulle service package {chosen.service}` builds it again"
        raise Broken(f"{name} cannot be read: {exc}", hint=hint) from exc
    if not isinstance(value, dict):
        raise Broken(f"{name} holds no OpenAPI document", hint="build it again")
    return value


def endpoint_of(service: ServiceView, name: str, action: str) -> EndpointView:
    """The endpoint that has this action. NotFound: a page may not send requests anywhere else."""
    for endpoint in service.endpoints:
        if endpoint.name == name:
            if action in endpoint.actions:
                return endpoint
            known = ", ".join(endpoint.actions)
            raise NotFound(f"endpoint '{name}' has no action '{action[:100]}'", hint=f"known: {known}")
    known = ", ".join(endpoint.name for endpoint in service.endpoints) or "none"
    raise NotFound(f"service '{service.name}' has no endpoint '{name[:100]}'", hint=f"known: {known}")


def pretty(value: Any) -> str:
    """JSON for people."""
    return json.dumps(value, indent=2, ensure_ascii=False)


# ── endpoints ────────────────────────────────────────────────────────────────────────────────────────────


def _endpoints(
    base: str,
    service: str,
    product: str,
    declared: Service | None,
    chosen: Package | None,
    ways: WaysIn,
    rules: Mapping[str, Shown],
) -> Iterator[EndpointView]:
    """What the package that answers has; before there is one, what is declared."""
    raw: Sequence[Json] = chosen.manifest.endpoints if chosen else ()
    if chosen is None and declared is not None:
        raw = [_raw(spec) for spec in declared.endpoints]
    for one in raw:
        kind, name = str(one["type"]), str(one["name"])
        saved = [(str(q["name"]), q["body"]) for q in one.get("test_queries") or ()]
        queries = [(query, masked_body(kind, rules.get(name), query, body)) for query, body in saved]
        actions = KINDS[kind].actions
        address = f"{base}/public/api/v1/{service}/{name}/{actions[0]}"
        yield EndpointView(
            name=name,
            kind=kind,
            description=str(one.get("description") or ""),
            url=address,
            actions=actions,
            queries=tuple(SavedQuery(query, pretty(body)) for query, body in queries),
            snippets=snippets(
                Call(base, service, name, kind, queries[0][1], ways=ways.at("POST", f"/{name}/{actions[0]}"))
            )
            if queries
            else (),
            sources=tuple(_sources(one, product)),
            model=_model_name(one),
            data_sets=tuple(
                (str(source.get("product") or product), str(source["data_set"]))
                for source in look_ups_of(one)
            ),
        )


def _raw(spec: Any) -> Json:
    """A declared endpoint in the form that a package gives it."""
    raw = {"name": spec.name, "type": spec.type, "description": spec.description}
    raw["test_queries"] = [{"name": query.name, "body": query.body} for query in spec.test_queries]
    raw["model"] = getattr(spec, "model", "")
    found = [
        {"product": rows.product, "data_set": rows.data_set, "key": [name for name, _ in rows.key]}
        for rows in rows_of(spec)
    ]
    raw |= {name: getattr(spec, name, "") for name in ("file", "function")}
    raw["steps"] = getattr(spec, "steps", ())
    raw["reads"] = spec.reads("") if spec.type == "query" else ()
    is_lookup = spec.type == "lookup"
    return raw | ({"rows": found[0], "joined": found[1:]} if is_lookup else {"enrich": found})


def _model_name(one: Json) -> str:
    return str(one.get("model") or "").removeprefix("models/")


def _sources(one: Json, product: str) -> Iterator[Source]:
    if model := _model_name(one):
        yield Source("predicts with", model, f"/products/{product}/models/{model}")
    verb = "looks up in" if one.get("rows") else "looks features up in"
    for rows in look_ups_of(one):
        yield _data_set(verb, rows, product)
    if one.get("function"):
        yield Source("calls", f"{one['file']}: {one['function']}", f"/products/{product}")
    for owner, name in _asked(one):
        yield _data_set("asks", {"product": owner, "data_set": name}, product)
    for name in dict.fromkeys(called(one.get("steps") or ())):
        yield Source("calls", name, f"#endpoint-{name}")


def _asked(one: Json) -> Sequence[tuple[str, str]]:
    """The data sets a query reads, with their products: declared, or as their files lie in the package."""
    files = [file for named in (one.get("files") or {}).values() for file in named]
    packaged = (tuple(file.split("/")[1:3]) for file in files)
    return list(dict.fromkeys([*(one.get("reads") or ()), *packaged]))


def _data_set(verb: str, one: Json, product: str) -> Source:
    owner, name = one.get("product") or product, one["data_set"]
    return Source(
        verb, f"{owner} / {name}", f"/products/{owner}#data-set-{name}", _names(one.get("key") or ())
    )


def _names(columns: Any) -> str:
    """Key columns as text; a declaration names them, a package describes them."""
    if isinstance(columns, str):
        return columns
    return ", ".join(str(c["name"]) if isinstance(c, Mapping) else str(c) for c in columns)


# ── versions ─────────────────────────────────────────────────────────────────────────────────────────────


def _version(package: Package, deployment: Deployment | None) -> VersionView:
    manifest = package.manifest
    roles: dict[str, str] = {}
    if deployment is not None:
        for traffic, role in (
            (deployment.previous, "previous"),
            (deployment.desired, "wanted"),
            (deployment.active, "active"),
        ):
            if traffic is not None:
                roles |= dict.fromkeys((share.generation for share in traffic.shares), role)
        for name in deployment.mounted:
            roles.setdefault(name, "beside")
    return VersionView(
        version=package.version,
        digest=package.digest,
        created_at=package.created_at,
        bytes=package.bytes,
        files=len(manifest.files),
        ref=manifest.ref,
        code_version=manifest.code_version,
        commits=tuple(manifest.commits.items()),
        models=tuple(_model(name, raw) for name, raw in manifest.models.items()),
        role=roles.get(package.version, ""),
    )


def _model(name: str, raw: Json) -> ModelView:
    conversion, baseline = raw.get("conversion") or {}, raw.get("baseline") or {}
    metrics = raw.get("metrics") or {}
    return ModelView(
        name=name,
        task=str(raw.get("task") or ""),
        estimator=str(raw.get("estimator") or ""),
        metrics=tuple((metric, value, baseline.get(metric)) for metric, value in metrics.items()),
        form=str(conversion.get("form") or ""),
        parity=_parity(conversion),
    )


def _parity(conversion: Json) -> str:
    if reason := conversion.get("reason"):
        return str(reason)
    if not conversion.get("rows"):
        return ""
    difference = conversion.get("max_difference")
    largest = f", largest difference {difference:.1g}" if difference is not None else ""
    return f"same answers as the trained model on {conversion['rows']:,} rows{largest}"
