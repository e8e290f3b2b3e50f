"""What differs between two declarations of a product's APIs, in sentences, and what of it breaks callers. Pure.

The OpenAPI documents themselves are compared by `spec.openapi_compare`; here it is told that they differ, and which
operations went.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tulle.gateway.apis.declared import ApiDeclared, ApiVersion
from tulle.serving.access import Access


@dataclass(frozen=True, slots=True)
class ApiDifference:
    """One difference of the API `api`; `breaking`: who calls it may be answered otherwise than before."""

    api: str
    sentence: str
    breaking: bool = False


def api_changes(old: Mapping[str, ApiDeclared], new: Mapping[str, ApiDeclared]) -> Iterator[ApiDifference]:
    """The differences from one set of APIs by name to another, in the order of their names."""
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            yield ApiDifference(name, f"API '{name}' is removed: its contracts end", breaking=True)
        elif name not in old:
            versions = ", ".join(one.version for one in new[name].versions)
            yield ApiDifference(name, f"API '{name}' is added, with {versions}")
        else:
            yield from _changed(old[name], new[name])


def _changed(old: ApiDeclared, new: ApiDeclared) -> Iterator[ApiDifference]:
    told = f"API {new.name}"
    for what in ("title", "summary", "contact", "tags", "objectives"):
        if getattr(old, what) != getattr(new, what):
            yield ApiDifference(new.name, f"{told}: its {what} changed")
    if old.pages != new.pages:
        yield ApiDifference(new.name, f"{told}: its pages changed")
    yield from _offer(told, old, new)
    if (old.visibility, old.visible_to) != (new.visibility, new.visible_to):
        whom = ", ".join(new.visible_to) or new.visibility
        before = ", ".join(old.visible_to) or old.visibility
        narrower = old.visibility == "public" or not set(old.visible_to) <= set(new.visible_to)
        breaking = new.visibility != "public" and narrower
        yield ApiDifference(new.name, f"{told}: it is visible to {whom} (was {before})", breaking)
    for version in old.versions:
        now = new.version(version.version)
        if now is None:
            yield ApiDifference(new.name, f"{told}: version {version.version} is removed", breaking=True)
        elif now != version:
            yield from _version(f"{told} {version.version}", new.name, version, now)
    for version in new.versions:
        if old.version(version.version) is None:
            yield ApiDifference(new.name, f"{told}: version {version.version} is added")


def _offer(told: str, old: ApiDeclared, new: ApiDeclared) -> Iterator[ApiDifference]:
    """A tier that goes, or lets through less, is felt by who has a contract under it."""
    before, after = ({tier.name: tier for tier in one.offer.tiers} for one in (old, new))
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            yield ApiDifference(new.name, f"{told}: tier '{name}' is no longer offered")
        elif name not in before:
            yield ApiDifference(new.name, f"{told}: tier '{name}' is offered: {after[name].words}")
        elif before[name] != after[name]:
            said = f"{told}: tier '{name}' is {after[name].words} (was {before[name].words})"
            yield ApiDifference(new.name, said, breaking=before[name].limits != after[name].limits)
    if old.offer.terms != new.offer.terms:
        terms = new.offer.terms
        now = f"version {terms.version}" if terms else "none"
        yield ApiDifference(new.name, f"{told}: its terms changed (now {now})")


def _version(told: str, name: str, old: ApiVersion, new: ApiVersion) -> Iterator[ApiDifference]:
    if old.path != new.path:
        said = f"{told}: it is at {new.path} (was {old.path})"
        yield ApiDifference(name, said, breaking=True)
    if old.hosts != new.hosts:
        gone = bool(set(old.hosts) - set(new.hosts)) if new.hosts else False
        said = f"{told}: it is called by {', '.join(new.hosts) or 'any host'}"
        yield ApiDifference(name, said, breaking=gone or bool(new.hosts and not old.hosts))
    if str(old.target) != str(new.target):
        yield ApiDifference(name, f"{told}: {new.target} answers (was {old.target})")
    elif old.target != new.target:
        yield ApiDifference(name, f"{told}: what answers is spoken to otherwise")
    if old.access != new.access:
        yield from _access(told, name, old.access, new.access)
    if old.policies != new.policies:
        names = ", ".join(str(one["policy"]) for one in new.policies) or "none"
        yield ApiDifference(name, f"{told}: its policies changed (now {names})")
    if old.allows_undeclared != new.allows_undeclared:
        word = "pass" if new.allows_undeclared else "are refused"
        said = f"{told}: operations that are not declared {word}"
        yield ApiDifference(name, said, breaking=not new.allows_undeclared)
    if old.openapi_digest != new.openapi_digest:
        yield from _operations(told, name, old, new)
    yield from _environments(told, name, old, new)
    if old.is_published != new.is_published:
        word = "published" if new.is_published else "a draft"
        yield ApiDifference(name, f"{told}: where it is applied first, it is {word}")


def _operations(told: str, name: str, old: ApiVersion, new: ApiVersion) -> Iterator[ApiDifference]:
    before = {(one.method, one.path) for one in old.operations}
    after = {(one.method, one.path) for one in new.operations}
    for method, path in sorted(before - after):
        yield ApiDifference(name, f"{told}: {method} {path} is removed", breaking=True)
    for method, path in sorted(after - before):
        yield ApiDifference(name, f"{told}: {method} {path} is added")
    if before == after:
        yield ApiDifference(name, f"{told}: its OpenAPI document changed")


def _environments(told: str, name: str, old: ApiVersion, new: ApiVersion) -> Iterator[ApiDifference]:
    for environment in sorted(old.environments.keys() | new.environments.keys()):
        was, now = old.environments.get(environment), new.environments.get(environment)
        if now is None:
            yield ApiDifference(
                name, f"{told}: it is no longer said how it is in '{environment}'", breaking=True
            )
        elif was is None:
            yield ApiDifference(name, f"{told}: it is in '{environment}' as well")
        elif was != now:
            moved = (was.path, was.hosts) != (now.path, now.hosts)
            yield ApiDifference(name, f"{told}: it is otherwise in '{environment}'", breaking=moved)


def _access(told: str, name: str, old: Access, new: Access) -> Iterator[ApiDifference]:
    fewer = bool(set(old.ways()) - set(new.ways()))
    said = f"{told}: it is called by {', '.join(new.ways())} (was {', '.join(old.ways())})"
    if old.ways() == new.ways():
        said = f"{told}: who may call it is said otherwise"
    yield ApiDifference(name, said, breaking=fewer or old.ways() == new.ways())
