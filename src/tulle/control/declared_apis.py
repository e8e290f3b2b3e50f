"""The APIs that the products of a mesh declare: what is wrong with them together, and what a plan tells of them.

Reads files; what is in force is read from the records. Decides nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from tulle.config import Settings
from tulle.control.impact import listed
from tulle.control.offers import taken_out
from tulle.control.plan import Detail
from tulle.control.workspace import Workspace
from tulle.errors import Invalid, Place, Problem, TulleError
from tulle.gateway.apis.changes import ApiDifference, api_changes
from tulle.gateway.apis.conflicts import Known, conflicts
from tulle.gateway.apis.declared import ApiDeclared, Target
from tulle.gateway.apis.load import Loaded, load_apis
from tulle.gateway.apis.records import openapi_text, recorded
from tulle.gateway.door_certificate import would_lack
from tulle.gateway.front import Upstream, is_address
from tulle.gateway.offer import offers
from tulle.gateway.policies.kind import known_kinds
from tulle.gateway.policies.listed import written_of
from tulle.lake.hooks.outbound import Outbound
from tulle.serving.service import Service, load_services
from tulle.spec.environment import places, production
from tulle.spec.mesh import MeshSpec
from tulle.spec.openapi_compare import compare_openapi
from tulle.spec.tier import Offer

_JUDGE_SECONDS = 2.0
_MOST_TOLD = 30  # differences within the operations of a version


def api_problems(
    workspace: Workspace,
    spec: MeshSpec,
    looked_at: Collection[str],
    services: Mapping[str, Sequence[Service]],
    further: Callable[[Loaded], Iterator[Problem]] = lambda _: iter(()),
) -> Iterator[Problem]:
    """Everything wrong with the APIs of the products that are looked at; `services` are those read already.

    `further` tells what else is wrong with one of them. What is in force keeps its name and address, also where its own
    product is not looked at.
    """
    settings = workspace.settings
    found: list[Loaded] = []
    unread: set[str] = set()
    for product in spec.products:
        try:
            found += load_apis(product)
        except Invalid as exc:
            unread.add(product.name)
            if product.name in looked_at:
                yield from exc.problems or (Problem(exc.message, hint=exc.hint),)
    if not found:
        return
    owners: dict[str, str] = {}
    written: dict[str, Place | None] = {}
    for product in spec.products:
        try:
            declared = services[product.name] if product.name in services else load_services(product)
        except TulleError:  # told where that product is looked at
            continue
        owners |= {service.name: product.name for service in declared}
        if product.name in looked_at:
            written |= {service.name: service.place for service in declared}
    files = {one.source.name for one in found if one.api.product in looked_at}
    files |= {place.file for place in written.values() if place is not None}
    in_force = kept_of(workspace, found, unread)
    known = Known(
        owners, tuple(settings.environments), production(settings).name, in_force, written, looked_at
    )
    told = [*conflicts(found, known), *(problem for one in found for problem in _unreachable(settings, one))]
    told += [problem for one in found if one.api.product in looked_at for problem in further(one)]
    yield from (one for one in told if one.place is None or one.place.file in files)


def kept_of(workspace: Workspace, found: Sequence[Loaded], unread: Collection[str]) -> list[ApiDeclared]:
    """The APIs in force, but for those that their product's files no longer have: these give up what they had.

    `found` are those of the files that were read, `unread` the products whose files were not.
    """
    declared = {(one.api.product, one.api.name) for one in found}
    return [
        one.declared
        for one in recorded(workspace.database)
        if (one.declared.product, one.name) in declared or one.declared.product in unread
    ]


def _unreachable(settings: Settings, loaded: Loaded) -> Iterator[Problem]:
    """External services that the gateway of this mesh may not lead to."""
    for number, version in enumerate(loaded.api.versions):
        targets: list[tuple[Target, tuple[str | int, ...]]] = [
            (version.target, ("versions", number, "upstream"))
        ]
        targets += [
            (said.target, ("versions", number, "environments", name, "upstream"))
            for name, said in version.environments.items()
            if said.target is not None
        ]
        known = known_kinds()
        for position, policy in enumerate(written_of(version.policies)):
            for url in known.reached(policy.policy.kind, policy.policy.settings):
                try:
                    demand_reachable(settings, Upstream(url))
                except TulleError as exc:
                    yield loaded.problem(exc.message, "versions", number, "policies", position, hint=exc.hint)
        for target, steps in targets:
            for upstream in target.external.upstreams if target.external else ():
                try:
                    demand_reachable(settings, upstream)
                except TulleError as exc:
                    yield loaded.problem(exc.message, *steps, hint=exc.hint)


def demand_reachable(settings: Settings, upstream: Upstream) -> None:
    """Refuse an external service that APIs may not lead to. Invalid, or Denied for an address that is not public.

    A name is not resolved: that it leads to a private address is the matter of who owns it, and without TLS and a
    certificate for that name nothing is sent.
    """
    judge = Outbound(settings.source_addresses, who="APIs", setting="source_addresses")
    place = f"{upstream.host}:{upstream.port}"
    if judge.lists(upstream.host, upstream.port):
        return
    if not upstream.is_secure:
        raise Invalid(
            f"'{upstream.url}' is spoken to without TLS, where anybody on the way reads along",
            hint=f"give its https:// address, or write '{place}' under `source_addresses:` in mesh.yaml",
        )
    name = upstream.host.rstrip(".")
    if is_address(upstream.host) or name == "localhost" or name.endswith(".localhost"):
        judge.addresses(upstream.host, upstream.port, time.monotonic() + _JUDGE_SECONDS)


def uncertified_hosts(settings: Settings, found: Sequence[Loaded]) -> Iterator[Problem]:
    """Where callers of APIs would not believe the gateway: hosts that its certificate is not for, each at its place."""
    written = [
        (host, one, (*steps, "hosts", position))
        for one in found
        for steps, hosts in _hosts(one.api)
        for position, host in enumerate(hosts)
    ]
    try:
        lacking, hint = would_lack(settings, {host for host, _, _ in written})
    except Invalid as exc:
        host, first, steps = written[0]
        told = f"whether callers believe the gateway at {host} is not known: {exc.message}"
        yield first.problem(told, *steps, hint=exc.hint)
        return
    for host, one, steps in written:
        if host in lacking:
            yield one.problem(f"the gateway's certificate is not for {host}", *steps, hint=hint)


def _hosts(api: ApiDeclared) -> Iterator[tuple[tuple[str | int, ...], Sequence[str]]]:
    """The hosts that a file has for each version, and for each of its environments."""
    for number, version in enumerate(api.versions):
        yield ("versions", number), version.hosts
        for name, said in version.environments.items():
            yield ("versions", number, "environments", name), said.hosts or ()


def offers_of(services: Sequence[Service], apis: Sequence[Loaded]) -> dict[str, Offer]:
    """What each service and API of a product offers; an API that is called as a service says it for both."""
    found = {one.name: one.offer for one in services}
    for loaded in apis:
        if loaded.api.name not in found or loaded.api.offer != Offer():
            found[loaded.api.name] = loaded.api.offer
    return found


def api_tiers_taken_out(workspace: Workspace, apis: Sequence[Loaded]) -> tuple[Problem, ...]:
    """A problem for every tier of an API that is no longer declared, was not deprecated, and has contracts under it."""
    with workspace.database.read() as cx:
        known = offers(cx, [one.api.name for one in apis])
    return tuple(
        problem
        for one in apis
        for problem in taken_out(
            workspace,
            one.api.name,
            known.get(one.api.name, Offer()),
            {tier.name for tier in one.api.offer.tiers},
            f"API '{one.api.name}'",
            one.source.place(("tiers",)),
        )
    )


def api_details(
    workspace: Workspace,
    old: Mapping[str, ApiDeclared],
    loaded: Sequence[Loaded],
    callers: Mapping[str, Sequence[str]],
) -> tuple[Detail, ...]:
    """What a plan tells of a product's APIs; `callers` are the applications that may call each."""
    new = {one.api.name: one.api for one in loaded}

    def hits(api: str) -> tuple[str, ...]:
        names = callers.get(api, ())
        return (f"applications with a contract on '{api}': {listed(names)}",) if names else ()

    found = [
        *api_changes(old, new),
        *(change for one in loaded for change in _documents(workspace, old, one)),
        *_kept_by_hand(workspace, old, new),
    ]
    return tuple(Detail(one.sentence, one.breaking, hits(one.api) if one.breaking else ()) for one in found)


def _kept_by_hand(
    workspace: Workspace, old: Mapping[str, ApiDeclared], new: Mapping[str, ApiDeclared]
) -> Iterator[ApiDifference]:
    """Where the policies that a file now has are not those that hold, as others were set by hand."""
    changed = {
        (name, version.version)
        for name, api in new.items()
        for version in api.versions
        if name in old
        and (was := old[name].version(version.version)) is not None
        and was.policies != version.policies
    }
    names = {place: name for name, place in places(workspace.settings).items()}
    for api in recorded(workspace.database, sorted({name for name, _ in changed})) if changed else ():
        for (version_name, place), _ in sorted(api.policies.items()):
            if (api.name, version_name) in changed:
                where = names.get(place, place)
                command = f"tulle api policies {api.name} {version_name} --env {where} --reset"
                told = (
                    f"those set by hand in '{where}' hold there all the same (`{command}` takes the file's)"
                )
                yield ApiDifference(api.name, f"API {api.name} {version_name}: {told}")


def _documents(
    workspace: Workspace, old: Mapping[str, ApiDeclared], loaded: Loaded
) -> Iterator[ApiDifference]:
    """What differs within operations that a version had before, by its OpenAPI documents."""
    name = loaded.api.name
    if (before := old.get(name)) is None:
        return
    for version in loaded.api.versions:
        was = before.version(version.version)
        if was is None or was.openapi_digest == version.openapi_digest:
            continue
        text, now = (
            openapi_text(workspace.database, name, version.version),
            loaded.documents.get(version.version),
        )
        if text is None or now is None:
            continue
        changes = [one for one in compare_openapi(json.loads(text), json.loads(now)) if one.kind == "changed"]
        for one in changes[:_MOST_TOLD]:
            yield ApiDifference(name, f"API {name} {version.version}: {one.sentence}", one.breaking)
        if rest := changes[_MOST_TOLD:]:
            told = f"API {name} {version.version}: {len(rest)} further differences of its operations"
            yield ApiDifference(name, told, any(one.breaking for one in rest))
