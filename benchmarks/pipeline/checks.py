"""Twenty checks on ten million rows: Tulle, Great Expectations, pandera and pointblank, on the same file in one run.

Every tool is a process of its own that reads the Parquet file, carries out the same twenty checks and says which of
them failed (three do); they must agree. Great Expectations runs on pandas, pandera and pointblank on Polars, which is
the fastest each has for a file. Measured: from the first byte read to the last verdict, without importing the tool, by
the clock and as the time of all its threads, which other work on the machine changes less; and the most memory the
process had. The peers live in an environment of their own, beside this file.

    python benchmarks/pipeline/checks.py [--rows 10000000] [--times 1] [--only tulle,pandera,pointblank]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDER = HERE / ".peers-checks"
PEERS = (
    "great-expectations==1.24.1",
    "pandera[polars]==0.35.0",
    "pointblank==1.1.1",
    "polars==2.1.0",
    "pandas",
    "pyarrow",
)
TOOLS = ("tulle", "great_expectations", "pandera", "pointblank")


def main() -> None:
    """Make the file, let every tool judge it, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default=",".join(TOOLS), help="tools, with commas between them")
    options = parser.parse_args()
    wanted = [tool for tool in TOOLS if tool in options.only.split(",")]
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "orders.parquet"
        write(file, options.rows, Path(scratch))
        print(
            f"{options.rows:,} rows, {file.stat().st_size / 1e6:,.0f} MB, {options.threads} threads, 20 checks"
        )
        found = {tool: judged(tool, file, options.rows, options.threads, options.times) for tool in wanted}
    report(found)


def write(file: Path, rows: int, scratch: Path) -> None:
    """Orders of which ten are below zero, five of no known land, and one has an id twice."""
    from tulle.config import Warehouse
    from tulle.engine.duck import DuckEngine

    sql = f"""
        SELECT CASE WHEN i = 77 THEN 78 ELSE i END AS id,
            'K' || lpad(CAST(hash(i) % 100000000000 AS VARCHAR), 11, '0') || '-' || i AS key,
            CAST(hash(i * 5) % 1000000 AS BIGINT) AS customer,
            CASE WHEN i % {max(rows // 10, 1)} = 3 THEN -1.0 ELSE (hash(i * 7) % 100000) / 100.0 END AS amount,
            CAST(1 + hash(i * 11) % 20 AS BIGINT) AS quantity,
            DATE '2024-01-01' + CAST(i % 366 AS INTEGER) AS day,
            'user' || (hash(i * 13) % 1000000) || '@example.org' AS mail,
            CASE WHEN i % {max(rows // 5, 1)} = 9 THEN 'XX'
                ELSE list_extract(['DE', 'AT', 'CH', 'FR', 'IT'], CAST(1 + hash(i * 17) % 5 AS BIGINT)) END AS land
        FROM range({rows}) AS r(i)"""
    DuckEngine(Warehouse(threads=os.cpu_count() or 1, memory="2GB"), scratch / "spill").write(sql, [], file)


def judged(tool: str, file: Path, rows: int, threads: int, times: int) -> dict[str, object] | None:
    """The best of several runs of a tool; None, and a word, when it cannot be had or did not end."""
    python = sys.executable if tool == "tulle" else peers()
    if python is None:
        return None
    best: dict[str, object] | None = None
    for _ in range(times):
        command = [python, str(HERE / "checks_with.py"), tool, str(file), str(rows), str(threads)]
        env = {**os.environ, "POLARS_MAX_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            print(f"  {tool}: {last}", file=sys.stderr)
            return best
        one = json.loads(done.stdout.splitlines()[-1])
        if best is None or one["seconds"] < best["seconds"]:
            best = one
    return best


def peers() -> str | None:
    """The interpreter of the peers' environment, made the first time."""
    python = FOLDER / "bin" / "python"
    if not (FOLDER / ".made").exists():
        venv.create(FOLDER, with_pip=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PEERS]
        done = subprocess.run(pip, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"  the peers cannot be installed: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
            return None
        (FOLDER / ".made").touch()
    return str(python)


def report(found: dict[str, dict[str, object] | None]) -> None:
    """A line a tool, with how many times longer than Tulle it took."""
    base = found.get("tulle")
    print(f"{'':22}{'seconds':>9}{'of Tulle':>10}{'CPU s':>8}{'of Tulle':>10}{'memory':>10}  failed")
    for tool, one in found.items():
        if one is None:
            print(f"{tool:22}{'–':>9}")
            continue
        ratio, busy_ratio = (
            f"{float(str(one[key])) / float(str(base[key])):.1f} x" if base else "–"
            for key in ("seconds", "busy")
        )
        failed = ", ".join(map(str, one["failed"])) if isinstance(one["failed"], list) else "?"
        memory = f"{float(str(one['megabytes'])):,.0f} MB"
        busy = float(str(one["busy"]))
        print(
            f"{tool:22}{float(str(one['seconds'])):9.2f}{ratio:>10}{busy:8.2f}{busy_ratio:>10}{memory:>10}  {failed}"
        )
    said = {json.dumps(one["failed"]) for one in found.values() if one is not None}
    print("all agree" if len(said) == 1 else "THEY DO NOT AGREE")


if __name__ == "__main__":
    main()
