"""Collects what workers left of a service's queries, as a process that gives way to others.

python -m tulle.server.collect_queries --mesh DIR --place SERVICE
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import sys
from pathlib import Path

from tulle.config import collector
from tulle.control.query_collector import collect_place
from tulle.errors import TulleError
from tulle.server.app import open_workspace
from tulle.spec.mesh import load_settings

_NICENESS = (
    10  # nine parts of ten for whatever else wants a processor; readers of the log may be waiting, too
)
_AUTOGROUP = Path("/proc/self/autogroup")


def main(arguments: list[str] | None = None) -> int:
    """Collect all that is complete in one place; 0 when it is in the lake, 1 when some stays for later."""
    parser = argparse.ArgumentParser(prog="tulle.server.collect_queries", description="Collect queries.")
    parser.add_argument("--mesh", type=Path, required=True, help="the mesh folder")
    parser.add_argument("--place", required=True, help="a service, or service@environment")
    options = parser.parse_args(arguments)
    os.nice(_NICENESS)
    with contextlib.suppress(OSError):  # a kernel without groups of sessions
        _AUTOGROUP.write_text(str(_NICENESS))
    workspace = open_workspace(load_settings(options.mesh))
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)  # rows are many and have no cycles; looking for some cost a fifth
    try:
        collect_place(workspace, options.place)
    except TulleError as exc:
        sys.stderr.write(f"{exc.message}\n")
        return 1
    finally:
        workspace.database.close()
    return 0


if __name__ == "__main__":
    collector.leave_at_end()
    sys.exit(main())
