"""Packages that are damaged, at rest and while they are served: said in words, and mended where that can be."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.serving.conftest import LOOKUPS, PREDICTOR, Mesh, make_mesh, model  # noqa: F401  a fixture
from tests.serving.test_worker import Unix

from tulle.deploy.last_words import why_ended
from tulle.deploy.supervise import DAMAGED, Supervisor, Wanted
from tulle.errors import Broken
from tulle.pipeline.model_file import ModelFile
from tulle.serving import package
from tulle.serving.index import open_index
from tulle.serving.loaded import check_files, load
from tulle.serving.package import Package
from tulle.serving.worker import EXIT_DAMAGED

PROFILE = "/public/api/v1/customer-features/profile/lookup"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory, model: tuple[ModelFile, object]) -> Iterator[Mesh]:  # noqa: F811
    made = make_mesh(tmp_path_factory.mktemp("damaged"), model[0])
    yield made
    made.database.close()


@pytest.fixture(scope="module")
def built(mesh: Mesh) -> tuple[Package, Package]:
    """The predictor and the look-ups."""
    return mesh.build(PREDICTOR), mesh.build(LOOKUPS)


@pytest.fixture(params=[0, 1], ids=["predictor", "look-ups"])
def folder(
    request: pytest.FixtureRequest, mesh: Mesh, built: tuple[Package, Package], tmp_path: Path
) -> Path:
    """An unpacked package, to spoil."""
    return Path(shutil.copytree(mesh.unpacked(built[request.param]), tmp_path / "v1"))


def cut(path: Path, to: int) -> None:
    path.chmod(0o600)
    os.truncate(path, to)


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "signature.json")


def test_a_file_that_is_gone_or_cut_short_is_named(folder: Path) -> None:
    for path in files_of(folder):
        whole = path.read_bytes()
        for size in (0, len(whole) // 2, len(whole) - 1):
            cut(path, size)
            with pytest.raises(Broken) as caught:
                check_files(folder)
            assert path.name in caught.value.message
        path.unlink()
        with pytest.raises(Broken, match=f"lacks .*{path.name}"):
            check_files(folder)
        path.write_bytes(whole)
    check_files(folder)
    load(folder).close()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b'"type": "lookup"', b'"type": "oracle"', "its digest does not match"),
        (b'"format": 1', b'"format": "x"', "cannot be read"),
        (b'"endpoints"', b'"endpoint"', "cannot be read"),
        (b"{", b"[", "cannot be read"),
    ],
)
def test_a_manifest_that_was_changed_is_refused(
    mesh: Mesh, built: tuple[Package, Package], tmp_path: Path, old: bytes, new: bytes, said: str
) -> None:
    path = Path(shutil.copytree(mesh.unpacked(built[1]), tmp_path / "v1")) / "manifest.json"
    path.chmod(0o600)
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(Broken, match=said):
        load(path.parent)


def test_an_index_without_its_last_page_is_not_read(
    mesh: Mesh, built: tuple[Package, Package], tmp_path: Path
) -> None:
    """Wherever it comes from: one that is refreshed in place is in no manifest."""
    index = next(mesh.unpacked(built[1]).rglob("*.mdb"))
    copy = Path(shutil.copy(index, tmp_path / "newest.mdb"))
    cut(copy, index.stat().st_size - 4096)
    with pytest.raises(Broken, match=r"newest.mdb is cut short: it has [\d,]+ of [\d,]+ bytes"):
        open_index(copy)


def test_a_damaged_folder_is_replaced_as_a_whole(
    mesh: Mesh, built: tuple[Package, Package], tmp_path: Path
) -> None:
    chosen = built[1]
    folder = tmp_path / "home" / "v1"
    archive = mesh.settings.state_folder / chosen.path
    package.unpack(archive, folder, digest=chosen.digest)
    for path in files_of(folder):
        cut(path, 1)
    package.unpack(archive, folder, digest=chosen.digest)
    load(folder).close()
    assert [path.name for path in folder.parent.iterdir()] == ["v1"]
    damaged = tmp_path / "cut.tar"
    shutil.copy(archive, damaged)
    cut(damaged, archive.stat().st_size // 2)
    with pytest.raises(Broken):
        package.unpack(damaged, tmp_path / "other" / "v1", digest=chosen.digest)
    assert list((tmp_path / "other").iterdir()) == []


class Kept:
    """Workers kept by a supervisor, as `tulle up` keeps them."""

    def __init__(self, home: Path, mesh: Mesh, chosen: Package) -> None:
        self.home, self.folder = home, home / "v1"
        archive = mesh.settings.state_folder / chosen.path
        self.mended = 0

        def mend() -> None:
            package.unpack(archive, self.folder, digest=chosen.digest)
            self.mended += 1

        package.unpack(archive, self.folder, digest=chosen.digest)
        self.wanted = [self._worker(number, mend) for number in range(2)]
        self.supervisor = Supervisor(home / "table.json", lambda: self.wanted, about={})

    def _worker(self, number: int, mend: Callable[[], None]) -> Wanted:
        argv = [sys.executable, "-m", "tulle.serving.worker", "--package-folder", str(self.folder)]
        argv += ["--socket", f"{number}.sock"]
        ready = lambda: self.ask(number, "GET", "/isAlive/") == 200  # noqa: E731
        return Wanted(
            f"w/{number}", "service", argv, self.home, self.home / f"{number}.log", ready, mend=mend
        )

    def ask(self, number: int, method: str = "POST", path: str = PROFILE, customer: str = "00003") -> int:
        """The status of an answer; 0 when there is none."""
        handle = os.open(self.home, os.O_RDONLY)
        connection = Unix(Path(f"/proc/self/fd/{handle}/{number}.sock"))
        try:
            connection.request(method, path, json.dumps({"data": {"customer_id": customer}}))
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()
            os.close(handle)
        if method == "POST" and answer.status == 200:
            assert json.loads(body)["results"][0]["data"]["customer_id"] == customer
        return answer.status

    def rows(self) -> list[dict[str, object]]:
        return list(json.loads((self.home / "table.json").read_text())["processes"].values())

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, self.rows()
            self.supervisor.tick()
            time.sleep(0.02)

    def all_run(self) -> bool:
        return [row["state"] for row in self.rows()] == ["running", "running"]


@pytest.fixture
def kept(mesh: Mesh, built: tuple[Package, Package], tmp_path: Path) -> Iterator[Kept]:
    made = Kept(tmp_path, mesh, built[1])
    try:
        made.supervisor.tick()
        made.until(made.all_run)
        yield made
    finally:
        made.supervisor.stop_all()


def test_an_index_cut_short_while_it_is_read_is_mended_and_read_again(kept: Kept) -> None:
    for path in kept.folder.rglob("*.mdb"):
        cut(path, 4096)
    found = {kept.ask(number, customer=f"{i:05}") for number in range(2) for i in range(0, 150, 5)}
    assert 0 in found, "nobody noticed"
    kept.until(lambda: kept.mended > 0 and kept.all_run())
    assert {kept.ask(number, customer=f"{i:05}") for number in range(2) for i in range(0, 150, 5)} == {200}
    assert all(row["last_exit"] in DAMAGED for row in kept.rows() if row["restarts"])


def test_an_index_overwritten_while_it_is_read_is_mended_and_read_again(kept: Kept) -> None:
    for path in kept.folder.rglob("*.mdb"):
        path.chmod(0o600)
        with path.open("r+b") as file:  # all but what says where the first page is
            file.seek(8192)
            file.write(b"\x07" * (path.stat().st_size - 8192))
    found = {kept.ask(number, customer=f"{i:05}") for number in range(2) for i in range(0, 150, 5)}
    assert found <= {0, 503}, found
    kept.until(
        lambda: kept.mended > 0 and sum(row["restarts"] for row in kept.rows()) >= 2 and kept.all_run()
    )  # type: ignore[misc]
    assert {kept.ask(number, customer=f"{i:05}") for number in range(2) for i in range(0, 150, 5)} == {200}


def test_what_cannot_be_mended_says_why_it_does_not_run(kept: Kept) -> None:
    kept.wanted[0] = Wanted(
        "w/0", "service", kept.wanted[0].argv, kept.home, kept.wanted[0].log, kept.wanted[0].ready
    )
    model_file = next(kept.folder.rglob("*.mdb"))
    model_file.unlink()
    process = json.loads((kept.home / "table.json").read_text())["processes"]["w/0"]
    os.kill(process["pid"], signal.SIGKILL)
    kept.until(lambda: kept.rows()[0]["restarts"] >= 2)  # type: ignore[operator]
    assert kept.rows()[0]["last_exit"] == EXIT_DAMAGED
    assert why_ended(kept.rows()[0]) == (
        f"the package lacks {model_file.relative_to(kept.folder)}: No such file or directory (build it again)"
    )
    assert kept.ask(1) == 200  # the other one has it open


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"last_exit": None, "restarts": 0}, ""),
        ({"last_exit": -7, "restarts": 1}, "it was ended by signal SIGBUS"),
        ({"last_exit": -99, "restarts": 1}, "it was ended by signal 99"),
        ({"last_exit": 9, "restarts": 1}, "it ended with exit code 9"),
        ({"last_exit": 0, "restarts": 0}, ""),
    ],
)
def test_how_a_process_ended_is_told(row: dict[str, object], said: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"\xff\xfe INFO nothing\n" * 2000)
    assert why_ended({**row, "log": str(tmp_path / "log")}) == said
    assert why_ended({**row, "log": str(tmp_path / "gone")}) == said
