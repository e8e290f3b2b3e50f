"""What turned out of answers, told by people and products: kept beside the log and joined to it by request id.

It takes the way of what callers tell: a segment that is collected, so it is durable before it is acknowledged. What
is told again and is the same is not kept again; of what is told otherwise the last counts.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from tulle.catalog.query_log import LAST_TOLD, QueryLog
from tulle.catalog.service_feedback import SHOWN_IDS
from tulle.config import Warehouse
from tulle.control.query_log import collect_all
from tulle.control.query_log_rows import outcomes_of
from tulle.control.workspace import Workspace
from tulle.engine.duck import DuckEngine
from tulle.engine.engine import literal, quoted
from tulle.errors import Invalid, NotFound, did_you_mean
from tulle.pipeline.table import data_at
from tulle.serving.feedback import MOST_ITEMS, read_feedback
from tulle.serving.log_segment import FEEDBACK, SegmentHeader, SegmentWriter, Told
from tulle.serving.request import RequestError

MOST_ROWS = 1_000_000  # of a data set
_Item = tuple[str, int, bytes]


def tell(workspace: Workspace, log: QueryLog, service: str, raw: Any, *, by: str) -> dict[str, Any]:
    """Keep what a body tells; how many were new, and whose requests are known. Invalid."""
    try:
        items = read_feedback(raw)
    except RequestError as exc:
        raise Invalid(exc.message, hint=exc.detail or None) from None
    return _keep(workspace, log, service, items, by)


def tell_from(
    workspace: Workspace, log: QueryLog, service: str, product: str, data_set: str, *, by: str
) -> dict[str, Any]:
    """The same of the rows of a product's published data set. NotFound, Invalid."""
    repository = workspace.lake.repository(product)
    found = data_at(repository, repository.default_branch, data_set)
    if found is None:
        raise NotFound(f"product '{product}' has published no data set '{data_set}'")
    engine = DuckEngine(
        Warehouse(threads=1, memory="512MB", temp_disk="1GB"), workspace.settings.run_folder / "feedback"
    )
    columns = [column.name for column in engine.describe(f"FROM {quoted(data_set)}", [found.relation])]
    for name in ("request_id", "outcome"):
        if name not in columns:
            raise Invalid(
                f"data set '{data_set}' of '{product}' has no column '{name}'",
                hint=did_you_mean(name, columns) or "it needs request_id and outcome, and may have item",
            )
    item = "coalesce(item, 0)" if "item" in columns else "0"
    rows = engine.query(
        f"SELECT request_id, {item} AS item, outcome FROM {quoted(data_set)} "  # noqa: S608  names are quoted
        f"WHERE request_id IS NOT NULL AND outcome IS NOT NULL LIMIT {MOST_ROWS + 1}",
        [found.relation],
    ).to_pylist()
    if len(rows) > MOST_ROWS:
        raise Invalid(
            f"data set '{data_set}' of '{product}' has more than {MOST_ROWS:,} outcomes",
            hint="publish those that are new in a data set of their own",
        )
    encoder = msgspec.json.Encoder(decimal_format="number")
    try:
        items = [
            read_feedback(
                {"requestId": row["request_id"], "item": row["item"], "outcome": _plain(encoder, row)}
            )
            for row in rows
        ]
    except RequestError as exc:
        raise Invalid(
            f"data set '{data_set}' of '{product}': {exc.message}", hint=exc.detail or None
        ) from None
    return _keep(workspace, log, service, [one for (one,) in items], by)


def _keep(
    workspace: Workspace, log: QueryLog, service: str, items: Sequence[_Item], by: str
) -> dict[str, Any]:
    collect_all(workspace, service)
    told = dict(_told_before(log, service, [one[0] for one in items]))
    shown = outcomes_of(workspace, service).shown  # what was told before is compared as it is kept
    new = list({(i, n): (i, n, o) for i, n, o in items if told.get((i, n)) != shown(o).decode()}.values())
    if new:
        folder = workspace.settings.queries_folder / service
        name = f"{time.time_ns():020}-told-{secrets.token_hex(4)}"
        writer = SegmentWriter(folder, name, SegmentHeader(service, "", "", []))
        now = time.time_ns()
        for first in range(0, len(new), MOST_ITEMS):
            some = new[first : first + MOST_ITEMS]
            writer.add(FEEDBACK, [Told(now, *one, by.encode()) for one in some])
        writer.close()
        collect_all(workspace, service)
    known = _known(log, service, {(i, n) for i, n, _ in items})
    unknown = sorted({(i, n) for i, n, _ in items} - known)
    return {
        "taken": len(items),
        "new": len(new),
        "known": len(known),
        "unknown": len(unknown),
        "unknown_ids": [{"request_id": i, "item": n} for i, n in unknown[:SHOWN_IDS]],
    }


def _told_before(log: QueryLog, service: str, ids: Sequence[str]) -> Iterator[tuple[tuple[str, int], str]]:
    for some in _parts(sorted(set(ids))):
        sql = f"SELECT * FROM ({LAST_TOLD}) WHERE request_id IN ({some})"  # noqa: S608  values are literals
        for row in log.rows(service, sql):
            yield (row["request_id"], row["item"]), row["outcome"]


def _known(log: QueryLog, service: str, told: set[tuple[str, int]]) -> set[tuple[str, int]]:
    found: set[tuple[str, int]] = set()
    for some in _parts(sorted({id_ for id_, _ in told})):
        sql = f"SELECT DISTINCT request_id, item FROM queries WHERE request_id IN ({some})"  # noqa: S608
        found |= {(row["request_id"], row["item"]) for row in log.rows(service, sql)}
    return found & told


def _parts(ids: Sequence[str]) -> Iterator[str]:
    for first in range(0, len(ids), MOST_ITEMS):
        yield ", ".join(literal(one) for one in ids[first : first + MOST_ITEMS])


def _plain(encoder: msgspec.json.Encoder, row: dict[str, Any]) -> Any:
    return msgspec.json.decode(encoder.encode(row["outcome"]))
