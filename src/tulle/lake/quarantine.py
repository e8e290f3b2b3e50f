"""What a collection is about to remove, as those see it who would name it anew.

Blobs nobody names are put down as candidates by one collection and removed by a later one. Two things could name
one again. Content that is written anyway and has the same name (ranges, metaranges, manifests): its writer makes
the blob young again and waits while a sweep that may have looked before has it in hand (`reuse`). And data that
is linked by its address: a candidate is refused (`demand_free`). The argument why this suffices is in
docs/decisions/collection.md. Knows nothing of how candidates are found.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from sqlalchemy import bindparam, select
from xxhash import xxh64_intdigest

from tulle.errors import AlreadyExists, Gone, NotFound, Unavailable
from tulle.lake.blobs import Blobs
from tulle.state.db import Database, now
from tulle.state.tables import tasks

KIND = "collect"
DELETED = "collect-deleted"  # of what deleted repositories left
WAIT_SECONDS = 60.0

Names = np.ndarray[Any, np.dtype[np.uint64]]

# A sweep whose lease is over has stopped by itself long before: see `SWEEP_SECONDS` in sweep.
_SWEEPING = select(tasks.c.progress).where(
    tasks.c.kind.in_([KIND, DELETED]), tasks.c.status == "running", tasks.c.owner_until > bindparam("at")
)
_LATEST = (
    select(tasks.c.result)
    .where(tasks.c.kind.in_([KIND, DELETED]), tasks.c.status == "done")
    .order_by(tasks.c.updated_at.desc())
    .limit(1000)
)
_known: OrderedDict[tuple[str, str], Names] = OrderedDict()
_lock = threading.Lock()


def key(name: str) -> int:
    """The number that stands for a blob's name below its storage. Equal numbers only ever keep a blob."""
    return xxh64_intdigest(name.encode())


def reuse(database: Database | None, blobs: Blobs, path: str, data: bytes) -> None:
    """Keep content under the name it has, whether it is there, is not, or is being removed just now."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            blobs.put(path, data)
        except AlreadyExists:
            try:
                blobs.refresh(path, data)
                # Who looked at it before we made it young has said so before looking.
                if database is None or not _in_hand(database, path):
                    blobs.stat(path)
                    return
            except NotFound:
                continue
        else:
            return
        if time.monotonic() > deadline:
            raise Unavailable(f"'{path}' is in the hands of a collection for long", hint="try again")
        time.sleep(0.02)


def demand_free(database: Database, blobs: Blobs, storage: str, name: str) -> None:
    """Gone when a collection found that nobody names the blob `<storage>/<name>`: it is about to be removed."""
    with database.read() as cx:
        found = [put_down for row in cx.execute(_LATEST) if (put_down := _put_down(row.result, storage))]
        sweeping = cx.execute(_SWEEPING, {"at": now()})
        in_hand = any(f"{storage}/{name}" in _names(row.progress) for row in sweeping)
    latest = found[0] if found else ""
    if in_hand or (latest and _is_among(blobs, storage, latest, key(name))):
        raise Gone(
            f"'{name}' is named by nothing for long and about to be collected", hint="write the data again"
        )


def load(blobs: Blobs, storage: str, name: str) -> pa.Table:
    """The candidates a collection put down: name, size, modified, since (seconds since the epoch)."""
    return pa.ipc.open_file(pa.BufferReader(blobs.get(f"{storage}/{name}"))).read_all()


def keys(names: pa.ChunkedArray | pa.Array) -> Names:
    """The numbers of many names."""
    return np.fromiter((key(name) for name in names.to_pylist()), dtype=np.uint64, count=len(names))


def _put_down(result: Mapping[str, Any] | None, storage: str) -> str:
    """Under which name a collection put down the candidates of a storage; "" when it did not."""
    if result is None or result.get("dry_run"):
        return ""
    if result.get("storage") == storage:
        return str(result["candidates"])
    return str((result.get("put_down") or {}).get(storage, ""))


def _in_hand(database: Database, path: str) -> bool:
    with database.read() as cx:
        return any(path in _names(row.progress) for row in cx.execute(_SWEEPING, {"at": now()}))


def _names(progress: Any) -> list[str]:
    return list((progress or {}).get("in_hand", ()))


def _is_among(blobs: Blobs, storage: str, name: str, number: int) -> bool:
    with _lock:
        found = _known.get((storage, name))
    if found is None:
        try:
            found = np.sort(keys(load(blobs, storage, name).column("name")))
        except NotFound:  # of a collection before the last one
            return False
        with _lock:
            _known[storage, name] = found
            while len(_known) > 8:
                _known.popitem(last=False)
    at = int(np.searchsorted(found, np.uint64(number)))
    return at < len(found) and int(found[at]) == number
