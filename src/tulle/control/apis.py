"""APIs as people look at them: what there is, its versions and instances, how it is, whose it is.

For APIs that are applied, and deployed services, which are APIs as they are. Every function names the environment by
its name, None for that of consumers. Their lives go on in `api_lives`, what answers them in `api_bindings`; their
documents are `api_documents`' matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tulle.catalog.api_status import Answering, status_of
from tulle.control import deployment, release
from tulle.control.workspace import Workspace
from tulle.errors import NotFound, did_you_mean
from tulle.gateway.apis import records
from tulle.gateway.apis.declared import ApiVersion, Target
from tulle.gateway.apis.instance import Instance, instances
from tulle.gateway.apis.records import Life, RecordedApi
from tulle.gateway.apis.service_life import life_of
from tulle.gateway.apis.sight import View
from tulle.gateway.door_certificate import not_for
from tulle.gateway.faults import Fault, read_faults
from tulle.gateway.holders import holders
from tulle.observe.calls import Calls
from tulle.observe.insight import Insight
from tulle.serving import generation
from tulle.spec.environment import places
from tulle.state import products
from tulle.state.db import now

MOST_SHOWN = 1000  # at once


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
        hint = did_you_mean(name, known) or "`tulle new api` declares one, `tulle apply` makes it known"
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


def wanting(workspace: Workspace) -> str:
    """What is to be said of the gateway after something was put in force: whom callers do not meet as it is wanted."""
    told = [uncertified(workspace)]
    for fault in read_faults(workspace.settings):
        place = f" in {fault.environment}" if fault.environment else ""
        told.append(f"service '{fault.service}'{place}: {fault.sentence}")
    return "\n".join(filter(None, told))


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


def version_of(workspace: Workspace, name: str, version: str) -> tuple[RecordedApi, ApiVersion]:
    """One version of an API. NotFound with the nearest name."""
    api = records.find(workspace.database, name)
    found = api.declared.version(version)
    if found is None:
        known = [one.version for one in api.declared.versions]
        raise NotFound(f"API '{name}' has no version '{version}'", hint=did_you_mean(version, known))
    return api, found


def product_of(workspace: Workspace, name: str) -> str:
    """The product whose API or service it is. NotFound with the nearest name."""
    owner = records.owners(workspace.database).get(name)
    if owner is not None:
        return owner
    try:
        return release.declared_service(workspace, name).product.name
    except NotFound as exc:
        known = {*records.owners(workspace.database), *products.declared_services(workspace.database)}
        hint = did_you_mean(name, known) or "`tulle new api` declares one, `tulle apply` makes it known"
        message = f"no applied product has an API or a service '{name}'"
        raise NotFound(message, hint=hint, problems=exc.problems) from None


def instance(workspace: Workspace, name: str, version: str, environment: str | None = None) -> Instance:
    """A version of an API in an environment. NotFound with the nearest name."""
    api, _ = version_of(workspace, name, version)
    return instance_of(workspace, api, version, deployment.place_of(workspace.settings, environment))


def instance_of(workspace: Workspace, api: RecordedApi, version: str, place: str) -> Instance:
    """An API's version in the environment of this place, "" being that of consumers. NotFound."""
    for one in instances([api], places(workspace.settings)):
        if (one.version.version, one.environment) == (version, place):
            return one
    shown_place = deployment.name_of(workspace.settings, place)
    raise NotFound(
        f"API '{api.name}' {version} is not in the environment '{shown_place}'",
        hint=f"add it under `environments:` of the version in apis/ of product '{api.declared.product}'",
    )
