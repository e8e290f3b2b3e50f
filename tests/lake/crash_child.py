"""A process that works on a lake and kills itself at a chosen point; run by test_crash.

    python crash_child.py FOLDER STRIDE [URL]

In FOLDER there are `objects` with an empty repository, and a `state.db` unless URL names a PostgreSQL database. For
point 0, STRIDE, 2·STRIDE … a forked child works on a copy in FOLDER/<point> and kills itself with SIGKILL at the
point-th dangerous moment: around every sync, link and database commit. The last child finds no such moment any more
and finishes. What it was told is done it writes to FOLDER/<point>/done; FOLDER/<point>/url has its database's URL.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa

from tulle.lake import collect, uploads

Content = dict[str, bytes]


def script(lake: Any) -> Iterator[str]:
    """The work; yields the name of a step as soon as it was acknowledged."""
    repository = lake.repository("sales")
    repository.put("main", "a", b"1")
    yield "put a"
    repository.put_many("main", [(f"many/{number}", b"m") for number in range(4)])
    yield "put many"
    repository.commit("main", "one")
    yield "commit one"
    repository.create_branch("try")
    yield "branch"
    place = repository.new_data_path()
    place.path.write_bytes(b"linked")
    repository.link("try", "linked", place.address)
    yield "link"
    repository.commit("try", "try")
    yield "commit try"
    repository.put("main", "b", b"2")
    yield "put b"
    repository.delete("main", "a")
    yield "delete a"
    repository.commit("main", "two")
    yield "commit two"
    repository.merge("try", "main", gate=lambda call: None)
    yield "merge"
    repository.fold("main")
    yield "fold"
    repository.revert("main", "main", parent_number=1)
    yield "revert"
    repository.put("main", "c", b"3")
    yield "put c"
    repository.reset("main")
    yield "reset"
    repository.hard_reset("main", "main~1")
    yield "hard reset"
    repository.delete_branch("try")
    yield "delete branch"
    repository.put("main", "d", b"4")
    yield "put d"
    repository.amend("main", message="amended")
    yield "amend"
    repository.move("main", "d", "e")
    yield "move"
    upload = uploads.start(repository, "main", "up")
    parts = [uploads.put_part(repository, upload, 1, b"upload")]
    uploads.complete(repository, upload, parts)
    yield "upload"
    place = repository.issue_address("main", "issued")
    place.path.write_bytes(b"issued")
    repository.link_issued("main", "issued", place.address, size=6)
    yield "link issued"
    repository.commit("main", "three")
    yield "commit three"
    repository.create_branch("try", "main~1")
    yield "branch again"
    repository.put("try", "f", b"6")
    yield "put f"
    repository.commit("try", "f")
    yield "commit f"
    repository.cherry_pick("main", "try")
    yield "cherry-pick"
    repository.hard_reset("try", "main")
    yield "try on main"
    repository.delete("try", "e")
    yield "delete e"
    repository.commit("try", "without e")
    yield "commit without e"
    repository.merge("try", "main", fast_forward="only")
    yield "fast-forward"
    links = {"path": ["in/1", "in/2"], "address": [repository.stat("main", "b").address] * 2, "size": [1, 1]}
    repository.replace_prefixes("main", [pa.table(links)], ["in/"], "import")
    yield "import"
    collect.collect(lake, "sales", grace_seconds=0)
    yield "collect"
    collect.collect(lake, "sales", grace_seconds=0)
    yield "collect again"


MANY: Content = {f"many/{number}": b"m" for number in range(4)}
STATES: list[tuple[str, Content, Content, Content | None]] = [
    # after this step: what main shows, what main has committed, what try shows
    ("", {}, {}, None),
    ("put a", {"a": b"1"}, {}, None),
    ("put many", {"a": b"1", **MANY}, {}, None),
    ("commit one", {"a": b"1", **MANY}, {"a": b"1", **MANY}, None),
    ("branch", {"a": b"1", **MANY}, {"a": b"1", **MANY}, {"a": b"1", **MANY}),
    ("link", {"a": b"1", **MANY}, {"a": b"1", **MANY}, {"a": b"1", **MANY, "linked": b"linked"}),
    ("commit try", {"a": b"1", **MANY}, {"a": b"1", **MANY}, {"a": b"1", **MANY, "linked": b"linked"}),
    ("put b", {"a": b"1", "b": b"2", **MANY}, {"a": b"1", **MANY}, {"a": b"1", **MANY, "linked": b"linked"}),
    ("delete a", {"b": b"2", **MANY}, {"a": b"1", **MANY}, {"a": b"1", **MANY, "linked": b"linked"}),
    ("commit two", {"b": b"2", **MANY}, {"b": b"2", **MANY}, {"a": b"1", **MANY, "linked": b"linked"}),
]
_AFTER = {"b": b"2", **MANY}
_TRY = {"a": b"1", **MANY, "linked": b"linked"}
_MERGED = {**_AFTER, "linked": b"linked"}
STATES += [
    ("merge", _MERGED, _MERGED, _TRY),
    ("fold", _MERGED, _MERGED, _TRY),
    ("revert", _AFTER, _AFTER, _TRY),
    ("put c", {**_AFTER, "c": b"3"}, _AFTER, _TRY),
    ("reset", _AFTER, _AFTER, _TRY),
    ("hard reset", _MERGED, _MERGED, _TRY),
    ("delete branch", _MERGED, _MERGED, None),
]
_AMENDED = {**_MERGED, "d": b"4"}
_MOVED = {**_MERGED, "e": b"4"}
_UP = {**_MOVED, "up": b"upload"}
_THREE = {**_UP, "issued": b"issued"}
_F = {**_AMENDED, "f": b"6"}
_PICKED = {**_THREE, "f": b"6"}
_LESS = {path: data for path, data in _PICKED.items() if path != "e"}
_IN = {**_LESS, "in/1": b"2", "in/2": b"2"}
STATES += [
    ("put d", _AMENDED, _MERGED, None),
    ("amend", _AMENDED, _AMENDED, None),
    ("move", _MOVED, _AMENDED, None),
    ("upload", _UP, _AMENDED, None),
    ("link issued", _THREE, _AMENDED, None),
    ("commit three", _THREE, _THREE, None),
    ("branch again", _THREE, _THREE, _AMENDED),
    ("put f", _THREE, _THREE, _F),
    ("commit f", _THREE, _THREE, _F),
    ("cherry-pick", _PICKED, _PICKED, _F),
    ("try on main", _PICKED, _PICKED, _PICKED),
    ("delete e", _PICKED, _PICKED, _LESS),
    ("commit without e", _PICKED, _PICKED, _LESS),
    ("fast-forward", _LESS, _LESS, _LESS),
    ("import", _IN, _IN, _LESS),
    ("collect", _IN, _IN, _LESS),
    ("collect again", _IN, _IN, _LESS),
]


def main() -> None:
    import psutil  # noqa: F401  imported once here, not in every child
    import pyarrow.compute
    import pyarrow.ipc  # noqa: F401
    import sqlalchemy.dialects.postgresql.psycopg
    import sqlalchemy.dialects.sqlite  # noqa: F401

    from tulle.lake import staging, upkeep
    from tulle.lake.repository import open_lake
    from tulle.state.db import open_database

    staging.LARGE_BATCH = 3  # batches become runs
    upkeep.LAYERS_IN_A_TIER = 2  # and layers are merged
    upkeep.SMALL_ROWS = 3  # and folded
    folder, stride = Path(sys.argv[1]), int(sys.argv[2])
    point = 0
    gc.freeze()  # what is there already stays: a child that walked over it would have to copy it
    while True:
        place = folder / str(point)
        place.mkdir()
        url = copied(folder, place, sys.argv[3] if len(sys.argv) > 3 else "")
        (place / "url").write_text(url)
        shutil.copytree(folder / "objects", place / "objects")
        child = os.fork()
        if child == 0:
            database = open_database(url, migrate=False)
            lake = open_lake(database, f"local://{place / 'objects'}")
            done = os.open(place / "done", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            die_at(point)
            for step in script(lake):
                os.write(done, f"{step}\n".encode())
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            sys.exit(os.WEXITSTATUS(status))
        assert os.WTERMSIG(status) == signal.SIGKILL
        point += stride


def copied(folder: Path, place: Path, url: str) -> str:
    """A copy of the database for one point; returns its URL."""
    if not url:
        shutil.copy(folder / "state.db", place / "state.db")
        return f"sqlite:///{place / 'state.db'}"
    import psycopg
    from sqlalchemy import make_url

    template = make_url(url)
    name = f"{template.database}_{place.name}_{uuid4().hex[:6]}"  # the template serves other tests, too
    with psycopg.connect(str(template.set(database="postgres")), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template.database}")
    return str(template.set(database=name))


def die_at(point: int) -> None:
    """Kill this process at its point-th dangerous moment from now on."""
    moments = 0

    def moment() -> None:
        nonlocal moments
        if moments == point:
            os.kill(os.getpid(), signal.SIGKILL)
        moments += 1

    def around(real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            moment()
            result = real(*args, **kwargs)
            moment()
            return result

        return wrapped

    os.link = around(os.link)
    os.fsync = around(os.fsync)
    from sqlalchemy.engine.default import DefaultDialect

    DefaultDialect.do_commit = around(DefaultDialect.do_commit)  # type: ignore[method-assign]


if __name__ == "__main__":
    assert sqlite3.threadsafety
    main()
