"""The environment the peers live in: made once beside this folder, with plain pip; kept for the next time."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).parent
FOLDER = HERE / ".peers"


def python_of(*packages: str) -> Path | None:
    """The interpreter of the environment with these packages, or None (and a word) when they cannot be had."""
    python = FOLDER / "bin" / "python"
    if not python.exists():
        venv.create(FOLDER, with_pip=True)
    lines = [
        line
        for line in (HERE / "requirements-peers.txt").read_text().splitlines()
        if line[:1] not in {"#", ""}
    ]
    wanted = [line for line in lines if line.partition("==")[0].partition("[")[0] in packages]
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["?"])[-1]
        print(f"  {', '.join(wanted)} cannot be installed: {last}", file=sys.stderr)
        return None
    return python


def git_lfs() -> Path | None:
    """The folder git-lfs is in: this system's, or one unpacked here from the Debian package. None, and a word."""
    installed = shutil.which("git-lfs")
    if installed:
        return Path(installed).parent
    place = FOLDER / "git-lfs"
    binaries = place / "usr" / "bin"
    if (binaries / "git-lfs").exists():
        return binaries
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        print("  git-lfs is not installed, and there is no apt to have it from", file=sys.stderr)
        return None
    place.mkdir(parents=True, exist_ok=True)
    got = subprocess.run(
        ["apt-get", "download", "git-lfs"], cwd=place, capture_output=True, text=True, check=False
    )
    packages = sorted(place.glob("*.deb"))
    if got.returncode or not packages:
        last = (got.stderr.strip().splitlines() or ["?"])[-1]
        print(f"  git-lfs cannot be had: {last} (`apt-get update` may help)", file=sys.stderr)
        return None
    subprocess.run(["dpkg", "-x", str(packages[-1]), str(place)], check=True)
    return binaries
