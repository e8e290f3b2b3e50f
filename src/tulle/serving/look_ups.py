"""The look-ups of a service: where their rows come from, of which commit they are, how old that is, and what failed.

Told of the version that answers, else of the newest. Knows nothing of how rows are found.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from tulle.config import Settings
from tulle.errors import NotFound
from tulle.lake.repository import Lake
from tulle.serving import generation, live, package
from tulle.serving.fill import fill_of, read_done
from tulle.serving.finder import FinderEntry
from tulle.serving.keyed_rows import LATEST, Store
from tulle.serving.package import Package
from tulle.serving.refresh import live_folder
from tulle.state.db import Database


@dataclass(frozen=True, slots=True)
class LookUp:
    """One look-up. Times are seconds since 1970, ages seconds; `behind`: something newer is published."""

    endpoint: str
    product: str
    data_set: str
    source: str  # bundled, latest, the version it is pinned to, or connection and table
    commit: str
    committed_at: float | None
    age_seconds: float | None
    rows: int | None  # None: as many as the database has
    refreshed_at: float
    behind: bool
    message: str = ""  # why what is published could not be taken


def look_ups(
    settings: Settings, database: Database, lake: Lake, name: str, version: str | None = None
) -> tuple[str, Sequence[LookUp]]:
    """Which version of a service is told of, and its look-ups. NotFound."""
    chosen = version_of(database, name, version)
    return chosen.version, [
        _look_up(settings, lake, chosen, str(endpoint["name"]), entry, endpoint.get("commits", {}))
        for endpoint in chosen.manifest.endpoints
        for entry in live.entries_of(endpoint)
    ]


def version_of(database: Database, name: str, version: str | None = None) -> Package:
    """A version of a service: the one that answers, else the newest, where none is named. NotFound."""
    if version is None:
        current = generation.find(database, name)
        version = current.active_version if current else None
    if version is not None:
        return package.get(database, name, version)
    known = package.packages(database, name)
    if not known:
        raise NotFound(f"service '{name}' has no package", hint=f"`tulle service package {name}`")
    return known[-1]


def _filled(
    settings: Settings, lake: Lake, chosen: Package, endpoint: str, entry: FinderEntry, store: Store
) -> LookUp:
    """A look-up in a store that the lake fills, as it was filled last."""
    fill = fill_of(chosen, endpoint, entry, store)
    done = read_done(settings, fill)
    committed, published = None, done.commit
    try:
        repository = lake.repository(entry.product)
        published = repository.resolve(fill.ref)
        committed = repository.commit_info(done.commit).date if done.commit else None
    except NotFound:  # the product, or the commit by retention, is gone; the rows are not
        pass
    message = done.failed.message if done.failed is not None else ""
    if not done.commit and not message:
        message = f"it has not been filled yet: `tulle features publish {chosen.service}/{endpoint}`"
    return LookUp(
        endpoint=endpoint,
        product=entry.product,
        data_set=entry.data_set,
        source=fill.where,
        commit=done.commit,
        committed_at=committed,
        age_seconds=None if committed is None else round(max(0.0, time.time() - committed), 1),
        rows=done.rows if done.commit else None,
        refreshed_at=done.filled_at,
        behind=published != done.commit,
        message=message,
    )


def _look_up(
    settings: Settings,
    lake: Lake,
    chosen: Package,
    endpoint: str,
    entry: FinderEntry,
    commits: Mapping[str, str],
) -> LookUp:
    if entry.store is not None and entry.store.fill:
        return _filled(settings, lake, chosen, endpoint, entry, entry.store)
    if entry.store is not None:
        source = f"{entry.store.connection}: {entry.store.place}"
        now = time.time()
        return LookUp(
            endpoint, entry.product, entry.data_set, source, "", None, None, None, now, behind=False
        )
    commit, rows, message = commits.get(entry.origin, ""), entry.rows, ""
    refreshed = datetime.fromisoformat(chosen.manifest.created).timestamp()
    if entry.source == LATEST:
        state = live.read_state(
            live.home_of(live_folder(settings), live.wanted_by(entry, chosen.manifest.ref))
        )
        if state is not None and state.file and state.noticed_at >= refreshed:
            commit, rows, refreshed = state.commit, state.rows, state.noticed_at
        if state is not None and state.failed is not None:
            message = state.failed.message
    committed, published = None, commit
    try:
        repository = lake.repository(entry.product)
        committed = repository.commit_info(commit).date
        published = repository.resolve(chosen.manifest.ref)
    except NotFound:  # the product, or the commit by retention, is gone; the rows are not
        pass
    return LookUp(
        endpoint=endpoint,
        product=entry.product,
        data_set=entry.data_set,
        source=entry.version or entry.source,
        commit=commit,
        committed_at=committed,
        age_seconds=None if committed is None else round(max(0.0, time.time() - committed), 1),
        rows=rows,
        refreshed_at=refreshed,
        behind=published != commit,
        message=message,
    )
