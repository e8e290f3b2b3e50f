"""`python -m tulle.server.s3_door --mesh FOLDER`: the process of the lake's S3 door, started by the supervisor."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import uvicorn

from tulle.config import collector
from tulle.lake.repository import open_lake
from tulle.spec.mesh import load_settings
from tulle.state.db import open_database


def main() -> None:
    """Serve until SIGTERM."""
    collector.leave_at_end()
    with collector.importing():
        from tulle.server import lake_doors  # noqa: PLC0415  with the collector off

    parser = argparse.ArgumentParser(prog="tulle.server.s3_door")
    parser.add_argument("--mesh", type=Path, required=True)
    settings = load_settings(parser.parse_args().mesh)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    database = open_database(settings.database_url)
    lake = open_lake(
        database,
        settings.storage_namespace,
        stores=settings.object_stores,
        cache=settings.state_folder / "cache" / "ranges",
    )  # without hooks: this door stages only, and what is staged fires none
    access = lake_doors.lake_access(settings, database)
    uvicorn.run(
        lake_doors.s3(settings, lake, access),
        host=settings.host,
        port=settings.s3_port,
        log_level="info",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # policies may name networks: nobody says for himself where he is
        timeout_graceful_shutdown=3,
        timeout_keep_alive=75,
    )


if __name__ == "__main__":
    main()
