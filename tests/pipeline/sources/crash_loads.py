"""Kill a load at one point after another, for real, and look at what is left, by content.

    python crash_loads.py CASE FOLDER FIRST STRIDE [URL]

Each point: a child process loads what is new and kills itself right after its n-th step that outlasts it: a commit to
the control-plane database, a batch or the end of a Parquet file, a file moved into the store. Then the survivors look:
what is published is the old or the new as a whole, loading again gives the new, and once more finds nothing. Prints
one JSON line a point. A script of its own, because it forks: it must not have started threads. URL is where the
database or the API of a case is.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from tests.pipeline.crash_points import in_child
from tests.pipeline.sources.conftest import Shop

from tulle.errors import NotFound
from tulle.pipeline import run as runs
from tulle.pipeline import run_end
from tulle.state.db import Database

MOST_STEPS = 300
COLUMNS = [{"name": "id", "type": "integer"}, {"name": "price", "type": "decimal(10,2)"}]


# ── cases: how it begins, and what is new ────────────────────────────────────────────────────────────────


def _write(shop: Shop, name: str, text: str) -> None:
    (shop.product / "data" / name).write_text(text)


def _files(shop: Shop, load: str, **more: Any) -> None:
    shop.source(type="file", path="data/*.csv", columns=COLUMNS, load=load, on_bad_rows="quarantine", **more)
    _write(shop, "1.csv", "id,price\n1,1.50\n2,dear\n")


def full(shop: Shop, _url: str, *, new: bool) -> None:
    if not new:
        _files(shop, "full")
    else:
        _write(shop, "1.csv", "id,price\n1,2.50\n3,3.50\nx,1\n")


def incremental(shop: Shop, _url: str, *, new: bool) -> None:
    if not new:
        _files(shop, "incremental")
    else:
        _write(shop, "2.csv", "id,price\n3,3.50\n4,cheap\n")


def merge(shop: Shop, _url: str, *, new: bool) -> None:
    if not new:
        _files(shop, "merge", key=["id"])
    else:
        _write(shop, "2.csv", "id,price\n1,9.50\n3,3.50\n4,cheap\n")


def _sqlite(shop: Shop, *statements: str) -> None:
    with closing(sqlite3.connect(shop.folder / "shop.db")) as cx:
        for statement in statements:
            cx.execute(statement)
        cx.commit()


def widen(shop: Shop, _url: str, *, new: bool) -> None:
    if not new:
        _sqlite(
            shop, "CREATE TABLE orders (id INTEGER, at INTEGER)", "INSERT INTO orders VALUES (1, 1), (2, 2)"
        )
        shop.connect("db", "sql", f"sqlite:///{shop.folder}/shop.db")
        says = {"load": "incremental", "cursor": "at", "on_drift": "widen"}
        shop.source(type="sql", connection="db", table="orders", **says)
    else:
        _sqlite(
            shop,
            "ALTER TABLE orders ADD COLUMN note TEXT",
            "INSERT INTO orders VALUES (3, 2, 'ü'), (4, 3, NULL)",
        )


def http(shop: Shop, url: str, *, new: bool) -> None:
    if not new:
        shop.settings_are(source_addresses=["127.0.0.1"])
        says = {"load": "merge", "key": ["id"], "cursor": "at", "paging": {"type": "page"}}
        shop.source(type="http", connection="api", path="orders", **says)
    shop.connect("api", "http", f"{url}/{'new' if new else 'old'}")


def postgres(shop: Shop, url: str, *, new: bool) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as cx:
        if not new:
            shop.connect("db", "sql", url)
            shop.source(type="sql", connection="db", table="orders", load="incremental", cursor="at")
            cx.execute("DROP TABLE IF EXISTS orders")
            cx.execute("CREATE TABLE orders (id int, at timestamptz)")
            cx.execute("INSERT INTO orders VALUES (1, '2020-01-01'), (2, '2020-01-02'), (2, '2020-01-02')")
        else:
            cx.execute("INSERT INTO orders VALUES (2, '2020-01-02'), (3, '2020-01-02'), (4, '2020-01-03')")


CASES: dict[str, Callable[..., None]] = {
    case.__name__: case for case in (full, incremental, merge, widen, http, postgres)
}


# ── points ───────────────────────────────────────────────────────────────────────────────────────────────


def killed_after(steps: int) -> None:
    """From now on, this process dies right after that many steps that outlast it."""
    left = steps

    def step() -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(owner: Any, name: str) -> None:
        plain = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            result = plain(*args, **kwargs)
            step()
            return result

        setattr(owner, name, call)

    counted(pq.ParquetWriter, "write_batch")
    counted(pq.ParquetWriter, "close")
    counted(shutil, "move")
    write = Database.write

    class Counted:
        """A transaction, and a step when it was committed."""

        def __init__(self, database: Database) -> None:
            self.inner = write(database)

        def __enter__(self) -> Any:
            return self.inner.__enter__()

        def __exit__(self, *about: Any) -> Any:
            result = self.inner.__exit__(*about)
            step()
            return result

    def counted_write(self: Database) -> Any:
        return Counted(self)

    Database.write = counted_write  # type: ignore[method-assign]


def content(shop: Shop) -> dict[str, list[str]]:
    """The rows of each data set, in no order, without what says which run put them aside."""
    found = {}
    for name in ("orders", "orders__rejected"):
        try:
            rows = shop.rows(name)
        except (NotFound, ValueError):
            rows = []
        kept = [
            {key: value for key, value in row.items() if key not in {"run", "at"} or name == "orders"}
            for row in rows
        ]
        found[name] = sorted(json.dumps(row, default=str) for row in kept)
    return found


def opened(folder: Path) -> Shop:
    return Shop(folder)


def crash(folder: Path, steps: int) -> str:
    shop = opened(folder)
    killed_after(steps)
    return shop.run().status


def look(folder: Path) -> dict[str, Any]:
    shop = opened(folder)
    run_end.recover(shop.database)
    crashed = runs.recent(shop.database, limit=1)[0].status
    published = content(shop)
    again, then = shop.run(), None
    after = content(shop)
    then = shop.run().status
    return {
        "crashed": crashed,
        "published": published,
        "again": again.status,
        "error": again.error,
        "after": after,
        "then": then,
        "last": content(shop),
        "alive": [run.id for run in runs.recent(shop.database) if not run.ended],
    }


def begun(case: str, folder: Path, url: str) -> dict[str, list[str]]:
    shop = opened(folder)
    CASES[case](shop, url, new=False)
    shop.good()
    return content(shop)


def changed(case: str, folder: Path, url: str) -> None:
    CASES[case](opened(folder), url, new=True)


def main(case: str, folder: Path, first: int, stride: int, url: str) -> None:
    there, kept = folder / "mesh", folder / "kept"
    old = in_child(lambda: begun(case, there, url))
    in_child(lambda: changed(case, there, url))
    shutil.copytree(there, kept)
    new = in_child(lambda: look(there))
    assert new["after"] != old
    print(json.dumps({"old": old, "new": new["after"]}), flush=True)
    for steps in range(first, MOST_STEPS, stride):
        shutil.rmtree(there)
        shutil.copytree(kept, there)
        ended = in_child(lambda steps=steps: crash(there, steps))  # type: ignore[misc]
        print(json.dumps({"point": steps, "ended": ended, **in_child(lambda: look(there))}), flush=True)
        if ended is not None:
            return  # the load was over before its n-th step
    raise AssertionError("a load has more steps than that, or fails at once")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), "".join(sys.argv[5:]))
