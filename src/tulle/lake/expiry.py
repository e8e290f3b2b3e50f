"""Which commits are past their retention, and marking them so that nobody can take them up again.

Kept are, for each branch, its head, the commits of its first-parent line that are within the branch's days and
the first older one; whatever a tag or a task under way names; and other commits (merged-in lines whose branch is
gone, what was amended or reset away) within the default days. Without rules everything is kept. Knows nothing of
blobs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, select, update

from tulle.lake import refs
from tulle.lake.refs import RepositoryRecord
from tulle.state.db import Database
from tulle.state.tables import lake_branches, lake_commits, lake_repositories, lake_tags, tasks

DAY = 86_400.0
_ID = re.compile(r"\b[0-9a-f]{64}\b")


def expire(database: Database, record: RepositoryRecord, at: float, *, dry_run: bool = False) -> set[str]:
    """Mark the commits that are past their retention at a time; returns those that were not before.

    A ref that is set at the same moment wins: it locks the commit's row and is seen here, or waits for us and is
    refused.
    """
    with database.read() as cx:
        found = _past(cx, record.id, at)
    if not found or dry_run:
        return found
    day = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")
    with database.write() as cx:
        rows = cx.execute(
            select(lake_commits.c.id, lake_commits.c.manifest)
            .where(lake_commits.c.repository_id == record.id)
            .order_by(lake_commits.c.id)
            .with_for_update()
        ).all()
        found &= _past(cx, record.id, at)  # the same question again, now that no ref can be set on a commit
        for row in rows:
            if row.id in found:
                cx.execute(
                    update(lake_commits)
                    .where(lake_commits.c.repository_id == record.id, lake_commits.c.id == row.id)
                    .values(manifest=refs.mark_expired(row.manifest, day))
                )
    return found


def named_by_tasks(cx: Connection) -> set[str]:
    """Every name of 64 hex digits (commits, trees) that a task under way mentions."""
    query = select(tasks.c.request, tasks.c.progress).where(
        tasks.c.status.in_(["waiting", "running"]), tasks.c.kind.not_in(["collect", "collect-deleted"])
    )
    return {id_ for row in cx.execute(query) for id_ in _ID.findall(json.dumps([row.request, row.progress]))}


def _past(cx: Connection, repository: int, at: float) -> set[str]:
    settings = cx.execute(
        select(lake_repositories.c.settings).where(lake_repositories.c.id == repository)
    ).scalar()
    rules: Mapping[str, Any] | None = (settings or {}).get("retention")
    if not rules:
        return set()
    default = at - rules["default_retention_days"] * DAY
    days = {rule["branch_id"]: at - rule["retention_days"] * DAY for rule in rules.get("branches") or ()}
    c = lake_commits.c
    commits = {
        row.id: row
        for row in cx.execute(
            select(c.id, c.parents, c.date, c.published, c.manifest).where(c.repository_id == repository)
        )
    }
    kept = named_by_tasks(cx)
    kept |= set(
        cx.execute(select(lake_tags.c.commit_id).where(lake_tags.c.repository_id == repository)).scalars()
    )
    heads = cx.execute(
        select(lake_branches.c.name, lake_branches.c.commit_id).where(
            lake_branches.c.repository_id == repository
        )
    ).all()
    lines: set[str] = set()
    for head in heads:
        limit = days.get(head.name, default)
        id_: str | None = head.commit_id
        within = True
        while id_ is not None and id_ in commits:
            row = commits[id_]
            if not within and id_ in lines:
                break
            lines.add(id_)
            if within:
                kept.add(id_)
                within = row.date / 1_000_000 >= limit
            id_ = row.parents[0] if row.parents else None
    for id_, row in commits.items():
        if id_ not in lines and row.date / 1_000_000 >= default:
            kept.add(id_)
    return {
        id_
        for id_, row in commits.items()
        if id_ not in kept and row.published and not refs.manifest_of(row.manifest)[1]
    }
