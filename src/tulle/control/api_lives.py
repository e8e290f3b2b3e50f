"""The life of versions of APIs: published, deprecated, retired; and whether anybody new may use one.

The gateway follows with the next settling, which is at once where the mesh is up. Knows nothing of what answers them.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

from tulle.control.apis import callers, product_of, shown, version_of
from tulle.control.workspace import Workspace
from tulle.errors import Conflict, Denied, Invalid, Problem
from tulle.gateway.apis import records
from tulle.gateway.apis.records import Life
from tulle.gateway.apis.service_life import life_of
from tulle.serving import generation
from tulle.state import products
from tulle.state.db import now


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
        product_of(workspace, name)  # what is declared and not told by the applied ones, or NotFound
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


def _in_words(life: Life) -> str:
    return "a draft" if life.status == "draft" else life.status


def _day(at: float) -> str:
    return dt.datetime.fromtimestamp(at, dt.UTC).date().isoformat()
