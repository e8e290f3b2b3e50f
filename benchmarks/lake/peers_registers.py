"""Peers that register files where they are, in this process: delta-rs and icechunk. Run by the peers' interpreter.

Reads requests as JSON lines ({"side": …, "step": …, "turn": …}) and answers each with seconds and what was found.
All start from the same: lists of names and the size. Each is asked in the way that is quickest for it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import deltalake
import icechunk
import pyarrow as pa
import pyarrow.compute as pc
import zarr
from deltalake.schema import Field, PrimitiveType
from deltalake.transaction import AddAction
from peers_work import PER_FOLDER, SIZE, Done, Took, Work, doing, timed

MODIFIED = 1_700_000_000_000


class Delta:
    """A table whose log adds the files. It knows files by their names alone: a change adds them under new ones."""

    def __init__(self, work: Work, folder: Path, _: Path) -> None:
        self.work = work
        self.place = str(folder / "delta")
        self.schema = deltalake.Schema([Field("v", PrimitiveType("long"))])
        self.table = deltalake.DeltaTable.create(self.place, self.schema)

    def _append(self, names: list[str]) -> None:
        stats = '{"numRecords":1}'
        adds = [AddAction(name, SIZE, {}, MODIFIED, True, stats) for name in names]
        self.table.create_write_transaction(adds, "append", self.schema)

    def register(self, _: int) -> Done:
        names = self.work.names(self.work.all)
        done = doing(lambda: self._append(names))
        self.table.update_incremental()
        self.old = deltalake.DeltaTable(self.place, version=1)
        done.answer = len(self.old.file_uris())
        return done

    def relink(self, turn: int) -> Done:
        names = [f"{name}.{turn}" for name in self.work.names(self.work.changed(turn))]
        done = doing(lambda: self._append(names))
        self.table.update_incremental()
        return done

    def diff(self, turn: int) -> Done:
        before, after = (deltalake.DeltaTable(self.place, version=1 + at) for at in (turn - 1, turn))
        done = doing(lambda: sorted(set(after.file_uris()) - set(before.file_uris())))
        done.answer = [name.removeprefix(f"{self.place}/").removesuffix(f".{turn}") for name in done.answer]
        return done

    def list(self, _: int) -> Done:
        below = f"{self.place}/{self.work.prefix}"
        done = doing(lambda: [name for name in self.old.file_uris() if name.startswith(below)])
        done.answer = [name.removeprefix(f"{self.place}/") for name in done.answer]
        return done


class DeltaArrow(Delta):
    """The same, its log asked as Arrow columns."""

    def __init__(self, work: Work, folder: Path, source: Path) -> None:
        super().__init__(work, folder / "arrow", source)
        super().register(0)

    def list(self, _: int) -> Done:
        def listed() -> list[Any]:
            table = pa.table(self.old.get_add_actions(flatten=True)).select(["path", "size_bytes"])
            return table.filter(pc.starts_with(table["path"], self.work.prefix)).to_pylist()

        done = doing(listed)
        done.answer = [row["path"] for row in done.answer]
        return done


class Icechunk:
    """One array whose chunks are the files, by virtual references."""

    def __init__(self, work: Work, folder: Path, source: Path) -> None:
        self.work = work
        self.base = f"file://{source}/"
        config = icechunk.RepositoryConfig.default()
        store = icechunk.local_filesystem_store(f"{source}/")
        config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(self.base, store))
        self.repository = icechunk.Repository.create(
            icechunk.local_filesystem_storage(str(folder / "icechunk")),
            config=config,
            authorize_virtual_chunk_access={self.base: None},
        )
        self.snapshots: list[str] = []

    def _create(self, session: icechunk.Session, path: str, chunks: int) -> None:
        zarr.create_array(
            session.store,
            name=path,
            shape=(chunks * SIZE,),
            chunks=(SIZE,),
            dtype="u1",
            compressors=None,
            filters=None,
            fill_value=0,
        )

    def _link(
        self, session: icechunk.Session, path: str, numbers: range, names: list[str], first: int = 0
    ) -> None:
        base = self.base
        specs = [
            icechunk.VirtualChunkSpec([number - first], base + name, 0, SIZE)
            for number, name in zip(numbers, names, strict=True)
        ]
        session.store.set_virtual_refs(path, specs)

    def register(self, _: int) -> Done:
        names = self.work.names(self.work.all)
        took = Took()
        with timed(took):
            session = self.repository.writable_session("main")
            self._create(session, "files", self.work.files)
            self._link(session, "files", self.work.all, names)
            self.snapshots.append(session.commit("register"))
        self.old = self.repository.readonly_session(snapshot_id=self.snapshots[0])
        return Done(took, len(self.old.all_virtual_chunk_locations()))

    def relink(self, turn: int) -> Done:
        numbers = self.work.changed(turn)
        names = [f"{name}.{turn}" for name in self.work.names(numbers)]
        took = Took()
        with timed(took):
            session = self.repository.writable_session("main")
            self._link(session, "files", numbers, names)
            self.snapshots.append(session.commit("change"))
        return Done(took)

    def diff(self, turn: int) -> Done:
        before, after = self.snapshots[turn - 1], self.snapshots[turn]
        done = doing(
            lambda: self.repository.diff(from_snapshot_id=before, to_snapshot_id=after).updated_chunks
        )
        done.answer = [self.work.name(where[0]) for where in done.answer["/files"]]
        return done

    def list(self, _: int) -> Done:
        below = self.base + self.work.prefix
        done = doing(
            lambda: [name for name in self.old.all_virtual_chunk_locations() if name.startswith(below)]
        )
        done.answer = [name.removeprefix(self.base) for name in done.answer]
        return done

    def read(self, _: int) -> Done:
        array = zarr.open_array(self.old.store, path="files", mode="r")
        first = self.work.one * SIZE
        done = doing(lambda: bytes(array[first : first + SIZE]))
        done.answer = done.answer.hex()
        return done


class IcechunkFolders(Icechunk):
    """An array for each folder; lists tell which chunks there are, not of which files."""

    def __init__(self, work: Work, folder: Path, source: Path) -> None:
        super().__init__(work, folder / "folders", source)
        session = self.repository.writable_session("main")
        for first in range(0, work.files, PER_FOLDER):
            numbers = range(first, first + PER_FOLDER)
            self._create(session, f"part-{first}", PER_FOLDER)
            self._link(session, f"part-{first}", numbers, work.names(numbers), first)
        self.old = self.repository.readonly_session(snapshot_id=session.commit("register"))

    def list(self, _: int) -> Done:
        first = self.work.folder[0]

        async def coordinates() -> list[Any]:
            return [where async for where in self.old.chunk_coordinates(f"/part-{first}")]

        done = doing(lambda: asyncio.run(coordinates()))
        done.answer = sorted(self.work.name(first + where[0]) for where in done.answer)
        return done


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    work, folder, source = Work(int(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3])
    kinds = {
        "delta-rs": Delta,
        "delta-rs, Arrow": DeltaArrow,
        "icechunk": Icechunk,
        "icechunk, coordinates": IcechunkFolders,
    }
    for place in (folder, folder / "arrow", folder / "folders"):
        place.mkdir(exist_ok=True)
    sides: dict[str, Any] = {}
    for line in sys.stdin:
        request = json.loads(line)
        name = request["side"]
        if name not in sides:
            sides[name] = kinds[name](work, folder, source)
        done = getattr(sides[name], request["step"])(request["turn"])
        answers.write(json.dumps(asdict(done)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
