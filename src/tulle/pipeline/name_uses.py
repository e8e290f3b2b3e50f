"""Who relies on a tag or branch of a product's repository, so that nobody deletes it under them.

A release's data is found by its tag, an environment is a branch. Whoever reads a product at a version, runs by a
release, or waits for one to arrive would meet nothing there. Pins to a commit need no name and are not asked about.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import or_, select

from tulle.lake.stale import PREFIXES
from tulle.pipeline import promotion
from tulle.pipeline import run as runs
from tulle.pipeline.pin import pinned_tag
from tulle.pipeline.release import TAG, releases
from tulle.state import products
from tulle.state.db import Database
from tulle.state.tables import environments, promotions
from tulle.state.tables import runs as run_rows


def uses_of(database: Database, repository: str, kind: str, name: str) -> tuple[str, ...]:
    """In sentences, who relies on a name of a repository; `kind` is `tag` or `branch`. Nobody: empty."""
    if kind == "branch" and name.startswith(PREFIXES):
        return ()  # a run's own, which every run deletes: nothing is looked up for that
    return tuple(
        _of_tag(database, repository, name) if kind == "tag" else _of_branch(database, repository, name)
    )


def _of_tag(database: Database, product: str, name: str) -> Iterator[str]:
    known = releases(database, product)
    for item in products.applied(database):
        for port in item.product.input_ports:
            if port.product == product and port.version and pinned_tag(known, port.version) == name:
                yield (
                    f"product '{item.product.name}' reads it by input port '{port.title}', "
                    f"pinned to '{port.version}'"
                )
    if name.startswith(TAG):
        yield from _of_release(database, product, name.removeprefix(TAG))


def _of_release(database: Database, product: str, version: str) -> Iterator[str]:
    is_version = environments.c.version == version
    with database.read() as cx:
        placed = cx.execute(select(environments.c.name).where(environments.c.product == product, is_version))
        yield from [f"release {version} is in force in '{name}'" for name in placed.scalars()]
    moving = or_(promotions.c.version == version, promotions.c.before_version == version)
    yield from _open_promotions(database, product, moving)


def _of_branch(database: Database, product: str, branch: str) -> Iterator[str]:
    mine = (environments.c.product == product) & (environments.c.branch == branch)
    with database.read() as cx:
        placed = cx.execute(select(environments).where(mine, environments.c.version.is_not(None))).all()
        yield from [f"release {row.version} is in force in '{row.name}', which it is" for row in placed]
        working = cx.execute(
            select(run_rows.c.id).where(
                run_rows.c.product == product,
                run_rows.c.environment == branch,
                run_rows.c.status.in_([runs.QUEUED, runs.RUNNING]),
            )
        )
        yield from [f"run {id_} works for it" for id_ in working.scalars()]
    yield from _open_promotions(database, product, promotions.c.branch == branch)


def _open_promotions(database: Database, product: str, which: object) -> Iterator[str]:
    is_open = promotions.c.status.in_([promotion.WAITING, promotion.RUNNING])
    with database.read() as cx:
        found = cx.execute(select(promotions).where(promotions.c.product == product, is_open, which)).all()  # type: ignore[arg-type]
    for row in found:
        yield f"{row.kind} {row.id} to {row.version} in '{row.environment}' is {row.status}"
