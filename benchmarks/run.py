"""Run every benchmark, one after the other: `make bench`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent

LAKE = ("lake/engine", "lake/doors", "lake/peers")
# Not the ingest, whose peer's environment has to be named.
PIPELINE = ("models", "overhead", "checks", "plan", "scheduler", "tenancy")

# In short: the long forms take half an hour, and a quiet machine.
SERVING = ("predict", "lookup", "enriched", "switch")

for name in ("startup", "services", *LAKE, *(f"pipeline/{name}" for name in PIPELINE)):
    print(f"\n== {name}", flush=True)
    subprocess.run([sys.executable, str(HERE / f"{name}.py")], check=True)
for name in ("gateway", *(f"serving.{name}" for name in SERVING)):
    print(f"\n== {name}", flush=True)
    module = f"benchmarks.{name}"
    subprocess.run([sys.executable, "-m", module, "--quick"], check=True, cwd=HERE.parent)
