"""The process behind a pool of an endpoint: the part of a package that runs users' code.

python -m tulle.serving.child --package-folder DIR --endpoint NAME --socket N --life N --memory BYTES
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tulle.serving.beside import Handler, answer_requests, with_options
from tulle.serving.kinds import kind_of
from tulle.serving.manifest import MANIFEST, read_manifest


def main() -> int:
    """Answer until the socket closes."""
    parser = argparse.ArgumentParser(prog="tulle.serving.child")
    parser.add_argument("--package-folder", type=Path, required=True)
    parser.add_argument("--endpoint", required=True)
    options = with_options(parser)
    return answer_requests(options, lambda: _handler(options.package_folder, options.endpoint))


def _handler(folder: Path, endpoint: str) -> Handler:
    manifest = read_manifest(folder / MANIFEST)
    raw = next(one for one in manifest.endpoints if one["name"] == endpoint)
    kind = kind_of(raw)
    assert kind.apart is not None
    return kind.apart(kind.read(raw), folder)


if __name__ == "__main__":
    sys.exit(main())
