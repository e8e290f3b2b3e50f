"""One hundred small SQL models with three checks each: a first run, one with nothing new, one with one model changed.

    python benchmarks/pipeline/models.py [--models 100] [--repeats 3]

The same models over the same 1,000 rows for Tulle, dbt-duckdb and SQLMesh, each with two threads where it has a say.
The peers are commands and run as processes; what starting one costs (`--version`) is measured and taken off. Tulle's
run is called in a process that runs; it also makes branches, commits and a durable publication of all data sets, which
the peers do not. Afterwards the rows of the last model are compared. The peers live in environments of their own,
made beside this file.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import duckdb

from tulle.pipeline import run as runs
from tulle.pipeline.execute import execute
from tulle.pipeline.mesh_lake import open_mesh_lake
from tulle.spec.mesh import load_mesh
from tulle.state.db import open_database

HERE = Path(__file__).parent
PEERS = {
    "dbt": ("dbt-core==1.11.16", "dbt-duckdb==1.11.1"),  # from 1.12 on parts come from outside the index
    "sqlmesh": ("sqlmesh==0.236.4",),
}
WANTED = {"first run": 5.0, "nothing new": 10.0}  # of both peers
RAW = "id,grp,amount\n" + "".join(f"{i},{i % 7},{i * 3 % 101}.5\n" for i in range(1000))


def select(number: int, name: Callable[[str], str], extra: int = 0) -> str:
    """The statement of one model; ten of them read the raw rows, every other one reads one of those before."""
    above = name("raw" if number < 10 else f"m{number - 10:03d}")
    return (
        f"SELECT id, grp, amount + {number + extra} AS amount FROM {above} "
        f"WHERE id % 50 <> {number % 50} ORDER BY id"
    )


class Tulle:
    """A mesh with one product."""

    name = "tulle"

    def __init__(self, folder: Path, models: int) -> None:
        self.folder, self.models = folder / "tulle", models
        product = self.folder / "products/sales/many"
        for part in ("transform", "checks", "data"):
            (product / part).mkdir(parents=True)
        (self.folder / "mesh.yaml").write_text("name: bench\nwarehouse: {threads: 2}\n")
        (product / "data/raw.csv").write_text(RAW)
        columns = (
            "{name: id, type: integer}, {name: grp, type: integer}, {name: amount, type: 'decimal(10,1)'}"
        )
        (product / "product.yaml").write_text(
            "apiVersion: core.oam.dev/v1beta1\nkind: DataProduct\nmetadata: {name: many}\nspec:\n  components:\n"
            "  - {name: sales, type: domain, properties: {description: d}}\n"
            "  - {name: many, type: data-product, properties: {definition: d}}\n"
            "  - {name: raw, type: input-port, properties: {description: r, data_set: raw, "
            f"source: {{type: file, path: data/raw.csv, columns: [{columns}]}}}}}}\n"
        )
        checks = ["checks:"]
        for n in range(models):
            self.write(n)
            checks += [
                f"- {{data_set: m{n:03d}, type: not_null, columns: [id]}}",
                f"- {{data_set: m{n:03d}, type: unique, columns: [id]}}",
                f"- {{data_set: m{n:03d}, type: range, column: amount, min: 0, max: 100000}}",
            ]
        (product / "checks/all.yaml").write_text("\n".join(checks))
        spec = load_mesh(self.folder)
        self.database = open_database(spec.settings.database_url)
        self.lake = open_mesh_lake(spec.settings, self.database)
        self.lake.create_repository("many")

    def write(self, number: int, extra: int = 0) -> None:
        """Write one model."""
        file = self.folder / f"products/sales/many/transform/m{number:03d}.sql"
        file.write_text(select(number, str, extra) + "\n")

    def run(self) -> float:
        """Seconds of one run."""
        began = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            run_id = runs.request(self.database, "many")
            done = execute(self.database, self.lake, load_mesh(self.folder), run_id)
        if done.status not in {"succeeded", "unchanged"}:
            raise SystemExit(f"the run {done.status}: {done.error}")
        return time.perf_counter() - began

    def rows(self) -> list[tuple[object, ...]]:
        """The rows of the last model."""
        files = self.lake.repository("many").files("main", f"m{self.models - 1:03d}/")
        return duckdb.read_parquet(files).order("id").fetchall()


class Command:
    """A peer that is a command."""

    name = ""

    def __init__(self, folder: Path, python: Path) -> None:
        self.folder = folder / self.name
        self.bin = python.parent
        self.environment = {**os.environ, "DO_NOT_TRACK": "1", "SQLMESH__DISABLE_ANONYMIZED_ANALYTICS": "1"}
        self.start = statistics.median(self._timed("--version") for _ in range(3))

    def _timed(self, *words: str) -> float:
        began = time.perf_counter()
        done = subprocess.run(
            [self.bin / self.name, *words],
            cwd=self.folder if self.folder.is_dir() else None,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        took = time.perf_counter() - began
        if done.returncode:
            raise SystemExit(
                f"{self.name} {' '.join(words)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
            )
        return took


class Dbt(Command):
    """dbt with DuckDB."""

    name = "dbt"

    def __init__(self, folder: Path, python: Path, models: int) -> None:
        super().__init__(folder, python)
        self.models = models
        for part in ("models", "seeds", "tests/generic"):
            (self.folder / part).mkdir(parents=True)
        (self.folder / "dbt_project.yml").write_text(
            "name: bench\nversion: '1.0'\nprofile: bench\nmodels: {bench: {+materialized: table}}\n"
            "flags: {send_anonymous_usage_stats: false}\n"
        )
        (self.folder / "profiles.yml").write_text(
            "bench: {target: dev, outputs: {dev: {type: duckdb, path: bench.duckdb, threads: 2}}}\n"
        )
        (self.folder / "raw.csv").write_text(RAW)
        (self.folder / "models/raw.sql").write_text(
            "SELECT id, grp, CAST(amount AS decimal(10,1)) AS amount FROM read_csv('raw.csv')\n"
        )
        (self.folder / "tests/generic/within.sql").write_text(
            "{% test within(model, column_name, least, most) %}SELECT * FROM {{ model }} WHERE {{ column_name }} "
            "< {{ least }} OR {{ column_name }} > {{ most }}{% endtest %}\n"
        )
        lines = ["models:"]
        for n in range(models):
            self.write(n)
            lines.append(
                f"- name: m{n:03d}\n  columns:\n  - {{name: id, data_tests: [not_null, unique]}}\n"
                "  - {name: amount, data_tests: [{within: {arguments: {least: 0, most: 100000}}}]}"
            )
        (self.folder / "models/schema.yml").write_text("version: 2\n" + "\n".join(lines))

    def write(self, number: int, extra: int = 0) -> None:
        """Write one model."""
        text = select(number, lambda name: f"{{{{ ref('{name}') }}}}", extra)
        (self.folder / f"models/m{number:03d}.sql").write_text(text + "\n")

    def run(self) -> float:
        """Seconds of one run, without what starting takes."""
        return self._timed("build", "--profiles-dir", ".", "--quiet") - self.start

    def rows(self) -> list[tuple[object, ...]]:
        """The rows of the last model."""
        return _asked(self.bin / "python", f"m{self.models - 1:03d}", self.folder)


class Sqlmesh(Command):
    """SQLMesh with DuckDB."""

    name = "sqlmesh"

    def __init__(self, folder: Path, python: Path, models: int) -> None:
        super().__init__(folder, python)
        self.models = models
        (self.folder / "models").mkdir(parents=True)
        (self.folder / "config.yaml").write_text(
            "gateways: {local: {connection: {type: duckdb, database: bench.duckdb, concurrent_tasks: 2}}}\n"
            "default_gateway: local\nmodel_defaults: {dialect: duckdb, start: '2024-01-01'}\n"
            "disable_anonymized_analytics: true\n"
        )
        (self.folder / "raw.csv").write_text(RAW)
        (self.folder / "models/raw.sql").write_text(
            "MODEL (name s.raw, kind FULL);\n"
            "SELECT id, grp, amount::decimal(10,1) AS amount FROM read_csv('raw.csv')\n"
        )
        for n in range(models):
            self.write(n)

    def write(self, number: int, extra: int = 0) -> None:
        """Write one model."""
        audits = "not_null(columns := (id)), unique_values(columns := (id)), "
        audits += "accepted_range(column := amount, min_v := 0, max_v := 100000)"
        text = select(number, lambda name: f"s.{name}", extra)
        (self.folder / f"models/m{number:03d}.sql").write_text(
            f"MODEL (name s.m{number:03d}, kind FULL, audits ({audits}));\n{text}\n"
        )

    def run(self) -> float:
        """Seconds of one plan that is applied, without what starting takes."""
        return self._timed("plan", "--auto-apply", "--no-prompts") - self.start

    def rows(self) -> list[tuple[object, ...]]:
        """The rows of the last model."""
        return _asked(self.bin / "python", f"s.m{self.models - 1:03d}", self.folder)


def _asked(python: Path, table: str, folder: Path) -> list[tuple[object, ...]]:
    query = f"FROM {table} ORDER BY id"
    script = f"import duckdb; print(duckdb.connect('bench.duckdb').sql({query!r}).fetchall())"
    done = subprocess.run([python, "-c", script], cwd=folder, capture_output=True, text=True, check=True)
    return list(eval(done.stdout, {"Decimal": Decimal}))  # what our own script printed


def python_of(peer: str) -> Path:
    """The interpreter of a peer's environment, made when it is not there."""
    folder = HERE / ".peers" / peer
    if not (folder / "made").exists():
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        pip = [folder / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *PEERS[peer]], check=True, capture_output=True)
        (folder / "made").touch()
    return folder / "bin/python"


def main() -> None:
    """Run all three and print seconds and ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f} before, {os.cpu_count()} processors, {options.models} models")
    pythons = {peer: python_of(peer) for peer in PEERS}
    took: dict[tuple[str, str], list[float]] = {}
    for _ in range(options.repeats):
        with tempfile.TemporaryDirectory(prefix="tulle-bench-") as name:
            folder = Path(name)
            sides = [
                Tulle(folder, options.models),
                Dbt(folder, pythons["dbt"], options.models),
                Sqlmesh(folder, pythons["sqlmesh"], options.models),
            ]
            for side in sides:
                took.setdefault((side.name, "first run"), []).append(side.run())
                took.setdefault((side.name, "nothing new"), []).append(side.run())
                side.write(options.models // 2, 1)
                took.setdefault((side.name, "one model changed"), []).append(side.run())
            rows = [side.rows() for side in sides]
            if any(found != rows[0] for found in rows):
                sys.exit("the rows of the last model differ")
    for what in ("first run", "nothing new", "one model changed"):
        print(f"\n{what}")
        ours = statistics.median(took["tulle", what])
        for name in ("tulle", *PEERS):
            median = statistics.median(took[name, what])
            ratio = median / ours
            met = "" if name == "tulle" or what == "one model changed" else f"   wanted {WANTED[what]:.0f}x: "
            met += "" if not met else ("met" if ratio >= WANTED[what] else "NOT MET")
            print(f"  {name:8} {median:9.3f} s" + ("" if name == "tulle" else f"  {ratio:7.1f}x{met}"))


if __name__ == "__main__":
    main()
