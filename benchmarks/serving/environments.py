"""The environments the peers live in: one each, made once with plain pip, at fixed versions, and kept.

Each is in a folder of its own under the one that is given, outside the project's own environment. Peers are left as
pip installs them; scikit-learn and ONNX Runtime are those of the project, so that the model is the same.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

_MODEL = ("scikit-learn==1.9.1", "numpy==2.4.6", "onnxruntime==1.31.1")
PACKAGES = {
    "fastapi": ("fastapi==0.165.0", "uvicorn[standard]==0.54.0", *_MODEL),
    "bentoml": ("bentoml==1.4.39", *_MODEL),
    "litserve": ("litserve==0.2.19", *_MODEL),
    "mlflow": ("mlflow==3.17.2", "uvicorn==0.54.0", "onnx==1.23.2", *_MODEL),
    "ray": ("ray[serve]==2.60.0", *_MODEL),
    "feast": ("feast[redis]==0.67.0",),
}
DEBIAN = ("redis-tools", "liblzf1", "libjemalloc2", "libatomic1")
DEFAULT = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tulle-bench" / "peers"


def python_of(peer: str, folder: Path) -> Path | None:
    """The interpreter of a peer's environment; None, and a word, when it cannot be had."""
    home = folder / peer
    python, done = home / "bin" / "python", home / "installed"
    wanted = PACKAGES[peer]
    if done.exists() and done.read_text().split() == list(wanted):
        return python
    print(f"  installing {', '.join(wanted)} in {home}", file=sys.stderr, flush=True)
    if not python.exists():
        venv.create(home, with_pip=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted]
    made = subprocess.run(pip, capture_output=True, text=True, check=False)
    if made.returncode:
        last = (made.stderr.strip().splitlines() or ["?"])[-1]
        print(f"  {peer} cannot be installed and is left out: {last}", file=sys.stderr)
        return None
    done.write_text("\n".join(wanted))
    return python


def redis_server(folder: Path) -> tuple[Path, dict[str, str]] | None:
    """A redis-server and what its process needs to know: this system's, or one unpacked from Debian's packages."""
    installed = shutil.which("redis-server")
    if installed:
        return Path(installed), {}
    place = folder / "redis"
    binary = place / "usr" / "bin" / "redis-server"
    program = place / "usr" / "bin" / "redis-check-rdb"  # it is one program that looks at its name
    if not program.exists():
        if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
            print("  redis-server is not installed, and there is no apt to have it from", file=sys.stderr)
            return None
        place.mkdir(parents=True, exist_ok=True)
        got = subprocess.run(
            ["apt-get", "download", *DEBIAN], cwd=place, capture_output=True, text=True, check=False
        )
        if got.returncode:
            last = (got.stderr.strip().splitlines() or ["?"])[-1]
            print(f"  redis-server cannot be had: {last} (`apt-get update` may help)", file=sys.stderr)
            return None
        for package in place.glob("*.deb"):
            subprocess.run(["dpkg", "-x", str(package), str(place)], check=True)
    if not binary.exists():
        binary.symlink_to(program.name)
    libraries = sorted({str(path.parent) for path in place.rglob("*.so.*")})
    return binary, {"LD_LIBRARY_PATH": ":".join(libraries)}
