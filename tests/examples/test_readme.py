"""What README.md, CONTRIBUTING.md and the other pages say is true: commands exist and work, links lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tulle.cli.main import COMMANDS, Commands
from tulle.config import Settings, Warehouse
from tulle.engine.duck import DuckEngine
from tulle.engine.engine import Relation
from tulle.pipeline.job import transform_jobs
from tulle.pipeline.model import ModelRun, call_model
from tulle.quality import kind
from tulle.quality.check import Check, read_checks
from tulle.quality.verdict import evaluate
from tulle.serving.kinds import KINDS
from tulle.serving.service import load_service
from tulle.spec.capability import load_registry

ROOT = Path(__file__).resolve().parents[2]
GUIDE = "docs/writing-a-product.md"
PAGES = [
    ROOT / name
    for name in (
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "THIRD_PARTY.md",
        "examples/cdnow/README.md",
        "examples/journey/README.md",
    )
] + sorted((ROOT / "docs").rglob("*.md"))


def blocks(page: str, language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    assert found
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    gone = [t for t in targets if not t.startswith("http") and not (page.parent / t).exists()]
    assert gone == []


def test_every_page_is_linked_from_another() -> None:
    linked = {
        (page.parent / target).resolve()
        for page in PAGES
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
        if not target.startswith("http")
    }
    listed = {folder for folder in linked if folder.is_dir()} - {ROOT / "docs/reference"}  # one by one
    pages = set((ROOT / "docs").rglob("*.md"))
    assert len(pages) > 50
    assert {page for page in pages - linked if page.parent not in listed} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_and_files_that_are_named_exist(page: Path) -> None:
    text = page.read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)`|^    make ([a-z-]+)", text, re.MULTILINE)) <= {
        pair for name in targets for pair in ((name, ""), ("", name))
    }
    main = Commands("tulle")
    for name, second in re.findall(
        r"(?:`|^    )tulle(?: --mesh \S+)? ([a-z]+)(?: ([a-z][a-z-]*))?", text, re.MULTILINE
    ):
        assert name in COMMANDS, name
        command = main.get_command(click.Context(main), name)
        if isinstance(command, click.Group) and second:
            assert second in command.commands, f"{name} {second}"
    for path in re.findall(r"`((?:src|tests|docs|examples|benchmarks)/[\w./-]+\.\w+)`", text):
        assert (ROOT / path).is_file(), path


def test_the_glossary_has_each_word_once() -> None:
    rows = re.findall(r"^\| \*\*(.+?)\*\* \|", (ROOT / "docs/glossary.md").read_text(), re.MULTILINE)
    assert len(rows) == len(set(rows))
    assert len(rows) > 60


def test_the_kind_of_check_that_contributing_adds_works(tmp_path: Path) -> None:
    code = blocks("CONTRIBUTING.md", "python")[0]
    before = dict(kind.KINDS)
    try:
        exec(compile(code, "CONTRIBUTING.md", "exec"), vars(kind))
        check = Check("names", "not_blank", "people", settings={"column": "name"})
        assert check.columns == ("name",)
        pq.write_table(pa.table({"name": ["a", " ", None]}), tmp_path / "people.parquet")
        people = Relation("people", (str(tmp_path / "people.parquet"),))
        engine = DuckEngine(Warehouse(), tmp_path / "spill")
        (verdict,) = evaluate(engine, [check], {"people": people}, now=datetime.now(UTC))
        assert (verdict.passed, verdict.failing_count) == (False, 1)
        assert [row["name"] for row in verdict.failing_rows] == [" "]
    finally:
        kind.KINDS.clear()
        kind.KINDS.update(before)


def test_the_component_type_that_contributing_adds_works(tmp_path: Path) -> None:
    (tmp_path / "capabilities").mkdir()
    (tmp_path / "capabilities/nightly.yaml").write_text(blocks("CONTRIBUTING.md", "yaml")[0])
    capability = load_registry(Settings(folder=tmp_path)).get("nightly-output-port")
    assert "ready_by" in capability.schema["required"]
    assert capability.defaults["protocol"] == "files"


def test_the_models_of_the_guide_run(tmp_path: Path) -> None:
    engine = DuckEngine(Warehouse(), tmp_path / "spill")
    orders = {"customer_id": ["C-2", "C-1", "C-1"], "amount": [7.0, 100.0, 20.0]}
    pq.write_table(pa.table(orders), tmp_path / "orders.parquet")
    known = {"orders": Relation("orders", (str(tmp_path / "orders.parquet"),))}
    target = tmp_path / "customers.parquet"
    engine.write(blocks(GUIDE, "sql")[0], [known["orders"]], target)
    assert [row["spent"] for row in pq.read_table(target).to_pylist()] == [120.0, 7.0]
    transform = tmp_path / "transform"
    transform.mkdir()
    (transform / "best_customers.py").write_text(blocks(GUIDE, "python")[0])
    jobs, _, problems = transform_jobs(transform, "transform")
    assert problems == []
    assert jobs[0].inputs == ("customers",)
    known = {"customers": Relation("customers", (str(target),))}
    run = ModelRun("a-run", jobs[0], engine, known, tmp_path / "models", lambda _: None)
    assert call_model(jobs[0], (), run).to_pylist() == [{"customer_id": "C-1", "orders": 2, "spent": 120.0}]
    assert run.logged == ["1 of 2 customers"]
    assert [(metric.name, metric.value) for metric in run.metrics] == [("share_of_best", 0.5)]


def test_the_checks_and_the_service_of_the_guide_are_valid(tmp_path: Path) -> None:
    checks, service = blocks(GUIDE, "yaml")
    (tmp_path / "orders.yaml").write_text(checks)
    found, problems = read_checks(tmp_path, "checks")
    assert problems == ()
    # A program is a file of its own; the reference has them.
    assert {check.kind for check in found} == {k.name for k in kind.KINDS.values() if not k.is_program}
    assert {endpoint.type for endpoint in load_service(service, name="services/s.yaml").endpoints} == set(
        KINDS
    )


@pytest.mark.system
def test_the_first_product_by_hand(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text()
    section = text[text.index("## Your first product by hand") : text.index("## The lake alone")]
    lines = re.findall(r"^    (tulle .*?)(?: +#.*)?$", section, re.MULTILINE)
    assert [shlex.split(line)[1] for line in lines] == [
        "init", "new", "validate", "plan", "apply", "run", "log", "up", "status", "down",
    ]  # fmt: skip
    script = "set -e\n" + "\n".join(lines)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TULLE_CONTROL_PLANE_PORT": str(free_port()),
        "TULLE_GATEWAY_PORT": str(free_port()),
        "TULLE_S3_PORT": str(free_port()),
    }
    try:
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=250,
            check=False,
        )
    finally:
        stop = [
            sys.executable,
            "-c",
            "from tulle.cli.main import main; main()",
            "--mesh",
            str(tmp_path / "my-mesh"),
            "down",
        ]
        subprocess.run(stop, env=environment, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "published as" in done.stdout
    assert "control_plane" in done.stdout
    assert done.stdout.rstrip().endswith("stopped")


def test_the_lake_alone(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text()
    section = text[text.index("## The lake alone") : text.index("## Where things are")]
    lines = re.findall(r"^    (tulle .*?)$", section, re.MULTILINE)
    assert len(lines) == 6
    script = "\n".join(["set -e", "tulle init my-mesh", "cd my-mesh", *lines])
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "+ notes/README.md" in done.stdout
    assert "main is now" in done.stdout


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
