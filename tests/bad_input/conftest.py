"""A small mesh whose files are spoilt, and the commands as a person meets them: what they say, and their exit code."""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tulle.cli import main
from tulle.control import apply
from tulle.control.workspace import Workspace
from tulle.pipeline import queue
from tulle.pipeline.execute import execute
from tulle.pipeline.run import Run
from tulle.server.app import open_workspace
from tulle.spec.mesh import load_settings

ORDERS = "products/sales/orders"
SPENDERS = "products/marketing/big-spenders"
SETTINGS = """\
name: shop
control_plane_port: 8080
gateway_port: 8000
warehouse: {threads: 2, memory: 2GB, concurrent_runs: 2}
environments:
  dev: {fallback: prod}
  prod: {after: dev, approvers: [ann, bob]}
"""


@dataclass(frozen=True)
class Said:
    """What a command printed, and how it ended."""

    code: int
    text: str

    def refuses(self, *parts: str, code: int = 1) -> None:
        """Ended as asked, in words of ours, with all of `parts` among them."""
        assert self.code == code, self.text
        assert "Traceback" not in self.text
        assert "a defect in tulle" not in self.text
        for part in parts:
            assert part in self.text, f"{part!r} is not said:\n{self.text}"


def tulle(folder: Path, *words: str, given: str = "") -> Said:
    """One command, through the same function as the program."""
    out = io.StringIO()
    before = sys.argv, sys.stdin
    sys.argv, sys.stdin = ["tulle", "--mesh", str(folder), *words], io.StringIO(given)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            main.main()
    except SystemExit as exc:
        return Said(int(exc.code or 0), out.getvalue())
    finally:
        sys.argv, sys.stdin = before
    raise AssertionError("the program ends by its exit code")


def replaced(folder: Path, file: str, old: str, new: str) -> None:
    """Change a file in one place."""
    text = (folder / file).read_text()
    assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {file}"
    (folder / file).write_text(text.replace(old, new))


def written(folder: Path, file: str, content: str | bytes) -> Path:
    """Make a file, with the folders it lies in."""
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.fixture(scope="session")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two products of `tulle new product`, one of which takes from the other."""
    folder = tmp_path_factory.mktemp("bad") / "mesh"
    made = [
        tulle(folder, "init", str(folder)),
        tulle(folder, "new", "product", "orders", "--domain", "sales"),
        tulle(
            folder,
            *("new", "product", "big-spenders", "--domain", "marketing", "--kind", "aggregate"),
            *("--from", "orders"),
        ),
    ]
    assert [one.code for one in made] == [0, 0, 0], made
    (folder / "mesh.yaml").write_text(SETTINGS)
    return folder


@pytest.fixture(scope="session")
def _copy(documents: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(documents, tmp_path_factory.mktemp("spoilt") / "mesh"))


@pytest.fixture
def folder(documents: Path, _copy: Path) -> Iterator[Path]:
    """The files of the mesh, to spoil; nothing is applied. They are as before afterwards."""
    yield _copy
    for entry in _copy.iterdir():
        if entry.name == ".tulle":  # a database takes longer to make than a test
            continue
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    shutil.copytree(documents, _copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".tulle"))


@dataclass(frozen=True)
class Built:
    """The mesh applied and run once; what consumers see is as it was after whatever a test tries."""

    folder: Path
    workspace: Workspace

    def run(self, product: str) -> Run:
        """A run in this process; it need not succeed."""
        spec = self.workspace.spec()
        return execute(
            self.workspace.database,
            self.workspace.lake,
            spec,
            queue.request(self.workspace.database, spec, product),
        )

    def published(self) -> dict[str, str]:
        """The commit that consumers see, by repository."""
        return {one.name: one.resolve("main") for one in self.workspace.lake.repositories()}

    @contextlib.contextmanager
    def spoilt(self, file: str) -> Iterator[Path]:
        """A file that may be changed or removed, and is as before afterwards."""
        path = self.folder / file
        before = path.read_bytes() if path.exists() else None
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)
            if before is not None:
                path.write_bytes(before)


@pytest.fixture(scope="session")
def applied(documents: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """The mesh, applied and run once."""
    folder = tmp_path_factory.mktemp("built") / "mesh"
    shutil.copytree(documents, folder, ignore=shutil.ignore_patterns(".tulle"))
    workspace = open_workspace(load_settings(folder, {}))
    apply.apply_plan(workspace)
    made = Built(folder, workspace)
    for product in ("orders", "big-spenders"):
        run = made.run(product)
        assert run.status == "succeeded", run.error
    yield made
    workspace.database.close()


@pytest.fixture
def built(applied: Built) -> Iterator[Built]:
    """The built mesh, of which nothing may be lost."""
    before = applied.published()
    yield applied
    assert applied.published() == before
