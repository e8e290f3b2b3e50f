"""Exporting what a ref holds to a plain place."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tulle.errors import Broken, Conflict, Denied, Invalid, NotFound
from tulle.lake import export
from tulle.lake.blobs import StoreBlobs
from tulle.lake.export import ExportStatus
from tulle.lake.repository import Lake, Repository, open_lake
from tulle.state import tasks
from tulle.state.db import Database
from tulle.state.tables import tasks as task_table

DATABASES = ("sqlite", "postgres")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder that may be exported to."""
    folder = tmp_path / "place"
    folder.mkdir()
    return folder


@pytest.fixture
def lake(database: Database, tmp_path: Path, place: Path) -> Lake:
    """A lake that may export there and to memory."""
    return open_lake(
        database, f"local://{tmp_path / 'objects'}", stores=[f"local://{place}", "memory:///out"]
    )


@pytest.fixture
def repository(lake: Lake) -> Repository:
    """A repository with a few files."""
    made = lake.create_repository("sales")
    made.put_many("main", [("a", b"1"), ("d/b", b"22"), ("d/e/c", b"333"), ("ü", b"4")])
    made.commit("main", "data")
    return made


def run(lake: Lake, ref: str, to: str, **options: object) -> ExportStatus:
    id_ = export.start(lake, "sales", ref, to, **options)  # type: ignore[arg-type]
    assert tasks.run_one(lake.database, export.handlers(lake), "worker")
    return export.status(lake, "sales", id_)


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and file.name != export.STATE
    }


def state(folder: Path) -> dict[str, object]:
    return dict(json.loads((folder / export.STATE).read_bytes()))


class TestAFolder:
    def test_gets_everything_and_says_of_which_commit(
        self, lake: Lake, repository: Repository, place: Path
    ) -> None:
        repository.put("main", "staged", b"not this")
        ended = run(lake, "main", f"local://{place}/x/y/")
        assert (ended.status, ended.completed, ended.copied, ended.copied_bytes) == ("done", True, 4, 7)
        assert files(place / "x/y") == {"a": b"1", "d/b": b"22", "d/e/c": b"333", "ü": b"4"}
        told = state(place / "x/y")
        assert (told["commit"], told["complete"], told["repository"]) == (
            repository.resolve("main"),
            True,
            "sales",
        )

    def test_gets_what_is_below_a_prefix(self, lake: Lake, repository: Repository, place: Path) -> None:
        run(lake, "main", f"local://{place}", prefix="d")
        assert files(place) == {"b": b"22", "e/c": b"333"}

    def test_gets_only_differences_the_second_time(
        self, lake: Lake, repository: Repository, place: Path
    ) -> None:
        run(lake, "main", f"local://{place}")
        (place / "beside").write_bytes(b"mine")
        repository.put("main", "d/b", b"new")
        repository.put("main", "f/g", b"5")
        repository.delete("main", "d/e/c")
        repository.delete("main", "a")
        repository.commit("main", "more")
        kept = run(lake, "main", f"local://{place}")
        assert (kept.copied, kept.deleted, kept.kept) == (2, 0, 2)
        assert files(place)["a"] == b"1"
        assert run(lake, "main", f"local://{place}").copied == 0
        gone = run(lake, "main~1", f"local://{place}", delete=True)
        assert (gone.copied, gone.deleted) == (3, 1)
        assert files(place) == {"a": b"1", "d/b": b"22", "d/e/c": b"333", "ü": b"4", "beside": b"mine"}
        assert not (place / "f").exists()

    def test_that_was_damaged_is_mended_when_it_is_checked(
        self, lake: Lake, repository: Repository, place: Path
    ) -> None:
        run(lake, "main", f"local://{place}")
        (place / "a").unlink()
        (place / "d/b").write_bytes(b"shortened")
        assert run(lake, "main", f"local://{place}").copied == 0
        assert run(lake, "main", f"local://{place}", check=True).copied == 2
        assert files(place) == {"a": b"1", "d/b": b"22", "d/e/c": b"333", "ü": b"4"}

    def test_is_not_left_through_a_link(
        self, lake: Lake, repository: Repository, place: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "elsewhere").mkdir()
        (place / "d").symlink_to(tmp_path / "elsewhere")
        (place / "a").symlink_to(tmp_path / "victim")
        assert isinstance(run(lake, "main", f"local://{place}").error, Conflict)
        assert not list((tmp_path / "elsewhere").iterdir())
        assert not (tmp_path / "victim").exists()
        assert state(place)["complete"] is False

    def test_with_paths_no_folder_can_hold_is_refused_before_anything_is_written(
        self, lake: Lake, repository: Repository, place: Path
    ) -> None:
        for path in ("../up", "x//y", "a/below", "z" * 300, "dir/"):
            repository.put("main", path, b"1")
        repository.commit("main", "odd")
        ended = run(lake, "main", f"local://{place}")
        assert isinstance(ended.error, Invalid)
        assert "3 path(s) that no folder can hold" in ended.error.message
        assert "1 path(s) with a name longer than 255 bytes" in ended.error.message
        assert "1 path(s) below another object" in ended.error.message
        assert "1 path(s) with others below them" in ended.error.message
        assert not list(place.iterdir())

    def test_where_a_file_becomes_a_folder(self, lake: Lake, repository: Repository, place: Path) -> None:
        run(lake, "main", f"local://{place}")
        repository.put("main", "a/below", b"1")
        repository.commit("main", "both")
        assert isinstance(run(lake, "main", f"local://{place}").error, Invalid)
        assert state(place)["complete"] is True
        repository.delete("main", "a")
        repository.commit("main", "a folder")
        assert isinstance(run(lake, "main", f"local://{place}").error, Conflict)  # the file is still there
        assert run(lake, "main", f"local://{place}", delete=True).completed
        assert files(place)["a/below"] == b"1"


class TestAnObjectStore:
    def test_gets_everything_then_differences(self, lake: Lake, repository: Repository) -> None:
        store = lake.external_blobs("memory:///out/x")
        assert isinstance(store, StoreBlobs)
        assert run(lake, "main", "memory:///out/x").copied == 4
        assert store.get("d/e/c") == b"333"
        repository.put("main", "d/e/c", b"x" * 9_000_000)
        repository.delete("main", "a")
        repository.commit("main", "more")
        ended = run(lake, "main", "memory:///out/x", delete=True)
        assert (ended.copied, ended.deleted) == (1, 1)
        assert store.stat("d/e/c").size == 9_000_000
        assert sorted(info.path for info in store.list()) == [export.STATE, "d/b", "d/e/c", "ü"]
        store.delete("d/b")
        assert run(lake, "main", "memory:///out/x", check=True).copied == 1


class TestAnExport:
    def test_is_refused_where_it_may_not_go(
        self, lake: Lake, repository: Repository, place: Path, tmp_path: Path
    ) -> None:
        (place / "objects").symlink_to(tmp_path / "objects")
        for url in (
            f"local://{tmp_path}/objects/sales",
            f"local://{place}/objects/sales",
            f"local://{tmp_path}",
            "local:///etc",
            "s3://bucket",
        ):
            with pytest.raises(Denied):
                export.start(lake, "sales", "main", url)
        with pytest.raises(NotFound):
            export.start(lake, "sales", "nowhere", f"local://{place}")

    def test_does_not_write_over_another_ones(self, lake: Lake, repository: Repository, place: Path) -> None:
        run(lake, "main", f"local://{place}")
        assert isinstance(run(lake, "main", f"local://{place}", prefix="d").error, Conflict)
        (place / export.STATE).write_bytes(b"nonsense")
        assert isinstance(run(lake, "main", f"local://{place}").error, Conflict)

    def test_is_alone_at_its_place(self, lake: Lake, repository: Repository, place: Path) -> None:
        id_ = export.start(lake, "sales", "main", f"local://{place}/x")
        for url in (f"local://{place}/x", f"local://{place}/x/y", f"local://{place}"):
            with pytest.raises(Conflict, match="under way"):
                export.start(lake, "sales", "main", url)
        export.cancel(lake, "sales", id_)
        assert export.status(lake, "sales", id_).status == "cancelled"
        export.start(lake, "sales", "main", f"local://{place}")

    def test_of_damaged_data_is_not_taken_for_whole(
        self, lake: Lake, repository: Repository, place: Path
    ) -> None:
        data = Path(repository.location(repository.stat("main", "d/b")))
        data.chmod(0o600)
        data.write_bytes(b"33")
        assert isinstance(run(lake, "main", f"local://{place}").error, Broken)
        assert "d/b" not in files(place)
        assert state(place)["complete"] is False


class Dies(BaseException):
    """As a kill would: nothing after it happens."""


def test_taken_up_by_another_worker_goes_on_where_it_was(
    lake: Lake, repository: Repository, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "BATCH", 1)
    real = export.LocalTarget.put
    written: list[str] = []

    def dying(self: export.LocalTarget, path: str, data: Iterator[bytes]) -> None:
        if path == "d/e/c" and "d/e/c" not in written:
            written.append(path)
            raise Dies
        written.append(path)
        real(self, path, data)

    monkeypatch.setattr(export.LocalTarget, "put", dying)
    id_ = export.start(lake, "sales", "main", f"local://{place}")
    with pytest.raises(Dies):
        tasks.run_one(lake.database, export.handlers(lake), "first")
    assert state(place)["complete"] is False
    with lake.database.write() as cx:
        cx.execute(task_table.update().values(owner_until=0))
    tasks.run_one(lake.database, export.handlers(lake), "second")
    ended = export.status(lake, "sales", id_)
    assert (ended.completed, ended.copied) == (True, 4)
    assert written.count("a") == written.count("d/b") == 1
    assert files(place) == {"a": b"1", "d/b": b"22", "d/e/c": b"333", "ü": b"4"}


def test_what_an_unfinished_export_left_is_set_right_by_the_next(
    lake: Lake, repository: Repository, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(lake, "main", f"local://{place}")
    repository.create_branch("try")
    repository.put("try", "a", b"tried")
    repository.put("try", "new", b"tried")
    repository.commit("try", "try")
    with monkeypatch.context() as patch:
        patch.setattr(export.LocalTarget, "settle", lambda self: None)
        patch.setattr(export._Export, "_ended", lambda self: 1 / 0)
        patch.setattr(export._Export, "_write_state", _only_unfinished(export._Export._write_state))
        assert isinstance(run(lake, "try", f"local://{place}").error, Broken)
    assert files(place)["a"] == b"tried"
    ended = run(lake, "main", f"local://{place}", delete=True)
    assert (ended.copied, ended.deleted) == (1, 1)
    assert files(place) == {"a": b"1", "d/b": b"22", "d/e/c": b"333", "ü": b"4"}


def _only_unfinished(real: Callable[..., None]) -> Callable[..., None]:
    def write(self: object, commit: str, unfinished: list[str]) -> None:
        if unfinished:
            real(self, commit, unfinished)

    return write
