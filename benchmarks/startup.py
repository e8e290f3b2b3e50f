"""How long a user waits: the warm demo to its first answered prediction, `--help`, `status`; and the install's size.

The cold figure (an empty machine, so including the download and install of every dependency) is `--cold`: it clones
this repository into a temporary folder and runs `make demo` there.

    python benchmarks/startup.py [--cold]
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TULLE = str(Path(sys.executable).parent / "tulle")
ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cold", action="store_true", help="also clone and `make demo` from nothing")
    options = parser.parse_args()
    for door in ("GATEWAY", "CONTROL_PLANE", "S3"):
        os.environ[f"TULLE_{door}_PORT"] = free_port()
    with tempfile.TemporaryDirectory() as scratch:
        mesh = Path(scratch) / "mesh"
        print(f"tulle --help               {timed([TULLE, '--help'], 10):7.3f} s (median of 10)")
        print(f"first `tulle demo`         {timed([TULLE, 'demo', str(mesh)], 1):7.1f} s (nothing built yet)")
        try:
            status = [TULLE, "--mesh", str(mesh), "status"]
            print(f"tulle status (up)          {timed(status, 10):7.3f} s (median of 10)")
            print(
                f"`tulle demo` again         {timed([TULLE, 'demo', str(mesh)], 3):7.1f} s (up to date, running)"
            )
            subprocess.run([TULLE, "--mesh", str(mesh), "down"], check=True, stdout=subprocess.DEVNULL)
            print(
                f"`tulle demo` after `down`  {timed([TULLE, 'demo', str(mesh)], 1):7.1f} s (up to date, stopped)"
            )
        finally:
            subprocess.run([TULLE, "--mesh", str(mesh), "down"], check=True, stdout=subprocess.DEVNULL)
        print(
            f"data on disk               {size(mesh / '.tulle') / 1e6:7.1f} MB (.tulle of the example mesh)"
        )
    print(f"install                    {size(Path(sys.prefix)) / 1e6:7.0f} MB (this virtual environment)")
    if options.cold:
        cold()


def cold() -> None:
    """From a clone to the first answer, and the size of what was installed for it."""
    with tempfile.TemporaryDirectory() as scratch:
        clone = Path(scratch) / "tulle"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        began = time.perf_counter()
        subprocess.run(["make", "demo"], cwd=clone, check=True, stdout=subprocess.DEVNULL)
        took = time.perf_counter() - began
        subprocess.run(["make", "demo-stop"], cwd=clone, check=True, stdout=subprocess.DEVNULL)
        print(f"cold `make demo`           {took:7.1f} s (fresh clone, empty virtual environment)")
        print(f"install for the demo       {size(clone / '.venv') / 1e6:7.0f} MB")


def timed(command: list[str], runs: int) -> float:
    """The median seconds of a command."""
    seconds = []
    for _ in range(runs):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def free_port() -> str:
    """A port nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


if __name__ == "__main__":
    main()
