"""`python -m tulle.server --mesh FOLDER`: the control plane's process, started by the supervisor."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import uvicorn

from tulle.config import collector
from tulle.spec.mesh import load_settings


def main() -> None:
    """Serve until SIGTERM."""
    collector.leave_at_end()
    with collector.importing():
        from tulle.server.app import application  # noqa: PLC0415  with the collector off

    parser = argparse.ArgumentParser(prog="tulle.server")
    parser.add_argument("--mesh", type=Path, required=True)
    settings = load_settings(parser.parse_args().mesh)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    uvicorn.run(
        application(settings, resident=True),
        host=settings.host,
        port=settings.control_plane_port,
        log_level="info",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
    )


if __name__ == "__main__":
    main()
