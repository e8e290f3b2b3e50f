"""What people do with APIs: look at them, publish, deprecate and retire versions, bind instances to what answers.

For APIs that are applied; the gateway follows with the next settling, which is at once where the mesh is up. Every
function names the environment by its name, None for that of consumers.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from tulle.catalog.api_status import Answering, status_of
from tulle.control import deployment, release
from tulle.control.declared_apis import demand_reachable
from tulle.control.workspace import Workspace
from tulle.errors import Conflict, Denied, Invalid, NotFound, Problem, did_you_mean
from tulle.gateway.apis import records
from tulle.gateway.apis.declared import ApiVersion, Target
from tulle.gateway.apis.document import as_met
from tulle.gateway.apis.instance import Instance, instances
from tulle.gateway.apis.misplaced import at_workers
from tulle.gateway.apis.records import Binding, Life, RecordedApi
from tulle.gateway.apis.service_life import life_of
from tulle.gateway.apis.sight import View
from tulle.gateway.door_certificate import not_for
from tulle.gateway.faults import Fault, read_faults
from tulle.gateway.front import External, check_url
from tulle.gateway.holders import holders
from tulle.gateway.in_force import ways_of_instance
from tulle.gateway.policies.listed import written_of
from tulle.observe.calls import Calls
from tulle.observe.insight import Insight
from tulle.serving import generation
from tulle.spec.environment import places
from tulle.spec.openapi_compare import ApiChange, compare_openapi
from tulle.spec.openapi_document import METHODS
from tulle.state import products
from tulle.state.db import now

LONGEST_REASON = 500
MOST_SHOWN = 1000  # at once


# ── looking ──────────────────────────────────────────────────────────────────────────────────────────────


def listed(
    workspace: Workspace,
    view: View,
    *,
    tag: str = "",
    product: str = "",
    after: str = "",
    limit: int = MOST_SHOWN,
) -> tuple[list[dict[str, Any]], str | None]:
    """APIs by name, after a name, so many: those declared and seen, and deployed services, which are APIs as they are.

    The second is where the page ends, None where there are no more.
    """
    recorded = records.followed(workspace.database)
    names = {one.name for one in recorded}
    found: list[RecordedApi | str] = [
        one
        for one in recorded
        if tag in ("", *one.declared.tags)
        and product in ("", one.declared.product)
        and view.sees(one.declared.product, one.declared.visibility, one.declared.visible_to)
    ]
    if not tag:  # of services there are none
        deployed = {
            d.service for d in generation.everywhere(workspace.database) if product in ("", d.product)
        }
        found += sorted(deployed - names)
    named = sorted(
        (((one if isinstance(one, str) else one.name), one) for one in found), key=lambda pair: pair[0]
    )
    some = [(name, one) for name, one in named if name > after]
    shown = [
        _of_service(workspace, one) if isinstance(one, str) else _summary(workspace, one)
        for _, one in some[:limit]
    ]
    return shown, some[limit - 1][0] if len(some) > limit else None


def shown(workspace: Workspace, name: str) -> dict[str, Any]:
    """One API with its versions and instances. NotFound with the nearest name."""
    found = records.recorded(workspace.database, [name])
    if not found:
        deployed = {d.service for d in generation.everywhere(workspace.database)}
        if name in deployed:
            return _of_service(workspace, name)
        known = {*records.owners(workspace.database), *deployed}
        hint = did_you_mean(name, known) or "declare it in products/<domain>/<product>/apis/"
        raise NotFound(f"there is no API '{name}'", hint=hint)
    (api,) = found
    declared = api.declared
    return {
        **_summary(workspace, api),
        "pages": [asdict(page) for page in declared.pages],
        "tiers": declared.offer.as_plain()["tiers"],
        "terms": declared.offer.as_plain()["terms"],
        "contact": dict(declared.contact),
        "applications": callers(workspace, name),
    }


def uncertified(workspace: Workspace) -> str:
    """What is to be said of hosts of APIs in force that the gateway's certificate is not for; empty for nothing."""
    if workspace.settings.gateway_tls is None:
        return ""
    found = instances(records.followed(workspace.database), places(workspace.settings))
    return not_for(workspace.settings, {host for one in found if _answers(one) for host in one.hosts})


def _answers(one: Instance) -> bool:
    return one.answers and one.life.status != "retired"


def callers(workspace: Workspace, name: str) -> list[str]:
    """The applications that may call an API by a contract, for it or for its product."""
    return [one.application for one in holders(workspace.database).get(name, ())]


def _summary(workspace: Workspace, api: RecordedApi) -> dict[str, Any]:
    declared = api.declared
    found = list(instances([api], places(workspace.settings)))
    faults = {(one.service, one.environment): one for one in read_faults(workspace.settings)}
    return {
        "name": api.name,
        "product": declared.product,
        "declared": True,
        "title": declared.title or api.name,
        "summary": declared.summary,
        "visibility": declared.visibility,
        "visible_to": list(declared.visible_to),
        "tags": list(declared.tags),
        "objectives": dict(declared.objectives),
        "versions": [_version(workspace, api, one, found, faults) for one in declared.versions],
    }


def _version(
    workspace: Workspace,
    api: RecordedApi,
    version: ApiVersion,
    found: Sequence[Instance],
    faults: Mapping[tuple[str, str], Fault],
) -> dict[str, Any]:
    life = api.lives.get(version.version, Life())
    return {
        "version": version.version,
        "status": life.status,
        "deprecated_at": life.deprecated_at,
        "sunset_at": life.sunset_at,
        "successor": life.successor,
        "takes_contracts": life.takes_contracts(now()),
        "changed_at": life.changed_at,
        "changed_by": life.changed_by,
        "ways": list(version.access.ways()),
        "undeclared": "allow" if version.allows_undeclared else "refuse",
        "operations": len(version.operations),
        "instances": [
            _instance(workspace, one, faults.get((f"{api.name}@{version.version}", one.environment)))
            for one in found
            if one.version.version == version.version
        ],
    }


def _instance(workspace: Workspace, one: Instance, fault: Fault | None) -> dict[str, Any]:
    settings = workspace.settings
    host = one.hosts[0] if one.hosts else ""
    return {
        "environment": deployment.name_of(settings, one.environment),
        "is_consumers": not one.environment,
        "path": one.path,
        "hosts": list(one.hosts),
        "url": f"{settings.gateway_url_at(host)}{one.path}",
        "target": str(one.target),
        "declared_target": str(one.declared),
        "mock": one.target.mock,
        "bound_by_hand": one.binding is not None,
        "bound_by": one.binding.changed_by if one.binding else None,
        "bound_at": one.binding.changed_at if one.binding else None,
        "reason": one.binding.reason if one.binding else "",
        "answers": _answers(one),
        "uncertified": not_for(settings, one.hosts),
        "fault": fault.sentence if fault is not None else None,
    }


def _of_service(workspace: Workspace, name: str) -> dict[str, Any]:
    """A deployed service as the API that it is."""
    settings = workspace.settings
    deployed = [d for d in generation.everywhere(workspace.database) if d.service == name]
    at = now()
    life = life_of(next((d.ending for d in deployed if not d.environment), None), at)
    return {
        "name": name,
        "product": deployed[0].product,
        "declared": False,
        "title": name,
        "summary": "",
        "visibility": "public",
        "visible_to": [],
        "tags": [],
        "versions": [
            {
                "version": next((d.active_version for d in deployed if not d.environment), None) or "",
                "status": life.status,
                "deprecated_at": life.deprecated_at,
                "sunset_at": life.sunset_at,
                "successor": life.successor,
                "takes_contracts": life.takes_contracts(at),
                "instances": [
                    {
                        "environment": deployment.name_of(settings, d.environment),
                        "is_consumers": not d.environment,
                        "path": f"{f'/{d.environment}' if d.environment else ''}/public/api/v1/{name}",
                        "hosts": [],
                        "target": f"service:{name}",
                        "answers": d.active is not None and d.enabled and not d.has_ended(at),
                    }
                    for d in deployed
                ],
            }
        ],
    }


def status(calls: Calls, api: Mapping[str, Any], version: str = "") -> dict[str, Any]:
    """How an API that is shown, or a version of it, is where consumers are, and whether it keeps its objectives.

    NotFound for a version that it has not.
    """
    versions = [one for one in api["versions"] if version in {"", one["version"]}]
    if not versions:
        known = [str(one["version"]) for one in api["versions"]]
        raise NotFound(f"API '{api['name']}' has no version '{version}'", hint=did_you_mean(version, known))
    places = [one for each in versions for one in each["instances"] if one["is_consumers"]]
    up = [one for one in places if one["answers"] and one["target"] != str(Target())]
    fault = next((one["fault"] for one in places if one.get("fault")), "") or ""
    answering = Answering(bool(up), bool(up) and all(one.get("mock") for one in up), fault)
    promised = api.get("objectives", {})
    return status_of(Insight(calls), api["name"], "", answering, promised, version).as_plain()


# ── operations and documents ─────────────────────────────────────────────────────────────────────────────


def version_of(workspace: Workspace, name: str, version: str) -> tuple[RecordedApi, ApiVersion]:
    """One version of an API. NotFound with the nearest name."""
    api = records.find(workspace.database, name)
    found = api.declared.version(version)
    if found is None:
        known = [one.version for one in api.declared.versions]
        raise NotFound(f"API '{name}' has no version '{version}'", hint=did_you_mean(version, known))
    return api, found


def openapi(workspace: Workspace, name: str, version: str, environment: str | None = None) -> dict[str, Any]:
    """The OpenAPI document of a version as its callers meet it: at the gateway's address, by its ways in.

    NotFound where there is none: an external service that was declared without, or nothing that answers.
    """
    api, chosen = version_of(workspace, name, version)
    place = deployment.place_of(workspace.settings, environment)
    found = _instance_of(workspace, api, version, place)
    ways = ways_of_instance(workspace.settings, workspace.database, found)
    return as_met(workspace.settings, _document(workspace, api, chosen, found.target), found, ways)


def _document(
    workspace: Workspace, api: RecordedApi, version: ApiVersion, target: Target
) -> Mapping[str, Any]:
    text = records.openapi_text(workspace.database, api.name, version.version)
    if text is not None:
        found: Mapping[str, Any] = json.loads(text)
        return found
    if target.service:
        return release.openapi(workspace, target.service)
    raise NotFound(
        f"API '{api.name}' {version.version} has no OpenAPI document",
        hint="give it as `openapi:` in its file and `tulle apply`",
    )


def operations(workspace: Workspace, name: str, version: str) -> list[dict[str, Any]]:
    """The operations of a version, in the order of its document."""
    document = openapi(workspace, name, version)
    return [
        {
            "method": method.upper(),
            "path": path,
            "id": item[method].get("operationId", ""),
            "summary": item[method].get("summary", ""),
            "deprecated": bool(item[method].get("deprecated")),
        }
        for path, item in document["paths"].items()
        for method in METHODS
        if isinstance(item, dict) and isinstance(item.get(method), dict)
    ]


def diff(workspace: Workspace, name: str, one: str, other: str) -> tuple[ApiChange, ...]:
    """What differs between two versions of an API, and what of it breaks who calls by the first."""
    return compare_openapi(openapi(workspace, name, one), openapi(workspace, name, other))


# ── the life of a version ────────────────────────────────────────────────────────────────────────────────


def publish(workspace: Workspace, name: str, version: str, *, actor: str = "") -> dict[str, Any]:
    """Let consumers call a version: a draft, or one that is to end no more after all."""
    api, _ = version_of(workspace, name, version)
    before = api.lives[version]
    if before.status != "published":
        life = Life("published")
        records.set_life(workspace.database, name, version, life, before=before, actor=actor)
    return shown(workspace, name)


def deprecate(
    workspace: Workspace,
    name: str,
    version: str,
    *,
    sunset: dt.date | None = None,
    successor: str = "",
    actor: str = "",
) -> dict[str, Any]:
    """Tell every caller of a version that it ends, and when (at the beginning of a day, UTC), and what comes after it.

    From that day on nobody new may use it, and it may be retired.
    """
    api, _ = version_of(workspace, name, version)
    before = api.lives[version]
    if before.status not in {"published", "deprecated"}:
        raise Conflict(
            f"API '{name}' {version} is {_in_words(before)}, so there is nobody to tell",
            hint=f"`tulle api publish {name} {version}`" if before.status == "retired" else None,
        )
    if successor:
        if successor == version:
            raise Invalid(f"version '{version}' cannot come after itself")
        version_of(workspace, name, successor)
    sunset_at = None
    if sunset is not None:
        sunset_at = dt.datetime.combine(sunset, dt.time(), dt.UTC).timestamp()
        if sunset_at <= now():
            raise Invalid(
                f"API '{name}' {version} is to end on {sunset}, which is not in the future",
                hint=f"`tulle api retire {name} {version} --force` ends it at once",
            )
    since = before.deprecated_at if before.status == "deprecated" and before.deprecated_at else now()
    life = Life("deprecated", since, sunset_at, successor)
    records.set_life(workspace.database, name, version, life, before=before, actor=actor)
    return shown(workspace, name)


def retire(
    workspace: Workspace, name: str, version: str, *, force: bool = False, actor: str = ""
) -> dict[str, Any]:
    """End a version: it answers 410. Denied, with who may call it, before its sunset, unless `force`."""
    api, _ = version_of(workspace, name, version)
    before = api.lives[version]
    if before.status == "retired":
        return shown(workspace, name)
    over = before.sunset_at is not None and before.sunset_at <= now()
    if not over and before.status != "draft" and not force:
        when = "it has none" if before.sunset_at is None else f"that is {_day(before.sunset_at)}"
        who = [Problem(f"application '{one}' has a contract on it") for one in callers(workspace, name)]
        raise Denied(
            f"API '{name}' {version} is not retired before its sunset: {when}",
            hint=f"`tulle api deprecate {name} {version} --sunset DATE` tells its callers; --force ends it at once",
            problems=who,
        )
    life = replace(before, status="retired", deprecated_at=before.deprecated_at or now())
    records.set_life(workspace.database, name, version, life, before=before, actor=actor)
    return shown(workspace, name)


def _in_words(life: Life) -> str:
    return "a draft" if life.status == "draft" else life.status


def _day(at: float) -> str:
    return dt.datetime.fromtimestamp(at, dt.UTC).date().isoformat()


def product_of(workspace: Workspace, name: str) -> str:
    """The product whose API or service it is. NotFound with the nearest name of a service."""
    owner = records.owners(workspace.database).get(name)
    return owner if owner is not None else release.declared_service(workspace, name).product.name


def demand_open(workspace: Workspace, name: str, environment: str | None = None) -> None:
    """Refuse a new contract on what is no service and no API, or takes nobody new any more. NotFound, Conflict.

    Of an API one version that takes contracts is enough. A service counts as it is in that environment, without one
    where consumers are; one that is not deployed there yet may be.
    """
    at = now()
    known = {one.name: one for one in records.recorded(workspace.database, [name])}
    services = set(products.declared_services(workspace.database))
    ending = None
    if name not in known and name not in services:
        release.declared_service(
            workspace, name
        )  # what is declared and not told by the applied ones, or NotFound
        services.add(name)
    if name in services:
        here = (d for d in generation.everywhere(workspace.database) if d.service == name)
        ending = next((d.ending for d in here if d.environment == (environment or "")), None)
        if life_of(ending, at).takes_contracts(at):
            return
    if name in known and known[name].takes_contracts(at):
        return
    if name in known:
        raise Conflict(
            f"API '{name}' takes no new contracts: each of its versions is a draft, past its sunset or retired",
            hint=f"`tulle api show {name}`",
        )
    when = _day(ending.sunset_at) if ending is not None and ending.sunset_at is not None else "over"
    after = ending.successor.strip("/").rpartition("/")[2] if ending is not None else ""
    raise Conflict(
        f"service '{name}' takes no new contracts: it ended on {when}",
        hint=f"'{after}' comes after it" if after else f"`tulle api show {name}` shows it",
    )


# ── bindings ─────────────────────────────────────────────────────────────────────────────────────────────


def bind(
    workspace: Workspace,
    name: str,
    version: str,
    to: str | None,
    *,
    environment: str | None = None,
    actor: str = "",
) -> dict[str, Any]:
    """Let something else answer an instance from now on; None: what is declared.

    `to` is `service:<name>`, with `@<generation>` for one generation of it alone, or the URL of an external service,
    which is spoken to as the declared one is. The workload itself is left as it is.
    """
    api, chosen = version_of(workspace, name, version)
    place = deployment.place_of(workspace.settings, environment)
    found = _instance_of(workspace, api, version, place)
    binding = None if to is None else Binding(_target(workspace, chosen, found, to, place))
    _demand_fitting(found, found.declared if binding is None else binding.target)
    records.bind(workspace.database, name, version, place, binding, actor=actor)
    return shown(workspace, name)


def unbind(
    workspace: Workspace,
    name: str,
    version: str,
    *,
    environment: str | None = None,
    reason: str = "",
    actor: str = "",
) -> dict[str, Any]:
    """Let nothing answer an instance: its callers get 503, and `reason` is shown to who looks at it."""
    api, _ = version_of(workspace, name, version)
    place = deployment.place_of(workspace.settings, environment)
    _instance_of(workspace, api, version, place)
    if len(reason) > LONGEST_REASON:
        raise Invalid(f"the reason has {len(reason)} characters, at most {LONGEST_REASON} are kept")
    records.bind(workspace.database, name, version, place, Binding(Target(), reason), actor=actor)
    return shown(workspace, name)


def instance(workspace: Workspace, name: str, version: str, environment: str | None = None) -> Instance:
    """A version of an API in an environment. NotFound with the nearest name."""
    api, _ = version_of(workspace, name, version)
    return _instance_of(workspace, api, version, deployment.place_of(workspace.settings, environment))


def _instance_of(workspace: Workspace, api: RecordedApi, version: str, place: str) -> Instance:
    for one in instances([api], places(workspace.settings)):
        if (one.version.version, one.environment) == (version, place):
            return one
    shown_place = deployment.name_of(workspace.settings, place)
    raise NotFound(
        f"API '{api.name}' {version} is not in the environment '{shown_place}'",
        hint=f"add it under `environments:` of the version in apis/ of product '{api.declared.product}'",
    )


def _target(workspace: Workspace, version: ApiVersion, found: Instance, to: str, place: str) -> Target:
    if not to.startswith("service:"):
        upstream = check_url(to)
        demand_reachable(workspace.settings, upstream)
        usual = found.declared.external or version.target.external or External(())
        return Target(external=replace(usual, upstreams=(upstream,), connection=""))
    name, _, chosen = to.removeprefix("service:").partition("@")
    declared = release.declared_service(workspace, name).service.name
    current = generation.find(workspace.database, declared, place)
    if current is None or current.active is None:
        where = deployment.name_of(workspace.settings, place)
        raise Conflict(
            f"service '{name}' does not answer in '{where}', so nothing can be bound to it",
            hint=f"deploy it first: `tulle service deploy {name}`",
        )
    if chosen and chosen not in current.active.mounted:
        known = ", ".join(current.active.mounted)
        raise Conflict(f"generation '{chosen}' of '{name}' does not run", hint=f"these do: {known}")
    return Target(declared, chosen)


def _demand_fitting(found: Instance, target: Target) -> None:
    """Refuse what answers where the version has policies that could not hold then. Conflict."""
    written = [one for one in written_of(found.policies) if one.is_in(found.place)]
    for one in at_workers(target.service, written) if target.service else ():
        hint = f"take it from the policies of {found.api.name} {found.version.version} first"
        raise Conflict(one.message, hint=hint)
