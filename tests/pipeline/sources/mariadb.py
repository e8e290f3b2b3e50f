"""A real MariaDB server for tests: Debian's, with its data in a folder below the temporary one, on loopback only."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pymysql
from tests.lake.databases import NOBODY

SCRIPTS = Path("/usr/share/mysql")
PASSWORD = "geheim%2F-42"
_BEGIN = "set @skip_auth_anonymous=1, @auth_root_socket=NULL;\nCREATE DATABASE mysql;\nUSE mysql;\n"
_END = f"FLUSH PRIVILEGES;\nCREATE USER reader@'%' IDENTIFIED BY '{PASSWORD}';\n"
_OPTIONS = (
    "--no-defaults",
    "--innodb-log-file-size=4M",
    "--innodb-buffer-pool-size=16M",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-doublewrite=0",
    "--aria-pagecache-buffer-size=1M",
    "--performance-schema=off",
)


class MariaDb:
    """A server that lives until `stop`."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tulle-my-"))
        self.data = self.folder / "data"
        self.data.mkdir()
        self.program = shutil.which("mariadbd", path=f"{os.environ['PATH']}:/usr/sbin")
        assert self.program, "scripts/test-system-packages installs it"
        self.user = NOBODY if os.geteuid() == 0 else None
        if self.user is not None:
            os.chown(self.folder, NOBODY, NOBODY)
            os.chown(self.data, NOBODY, NOBODY)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._log = self.folder / "log"
        tables = ("mysql_system_tables.sql", "mysql_system_tables_data.sql")
        text = _BEGIN + "".join((SCRIPTS / name).read_text() for name in tables) + _END
        try:
            self._process("--bootstrap", text=text).wait(60)
            self._server = self._process(
                f"--port={self.port}", "--bind-address=127.0.0.1", f"--socket={self.folder}/s"
            )
            self._wait()
        except BaseException:
            self.stop()
            raise

    def _process(self, *more: str, text: str = "") -> subprocess.Popen[bytes]:
        given = self.folder / "given.sql"
        given.write_text(text)
        with self._log.open("ab") as log, given.open("rb") as stdin:
            return subprocess.Popen(
                [self.program, *_OPTIONS, f"--datadir={self.data}", f"--tmpdir={self.folder}", *more],
                stdin=stdin,
                stdout=log,
                stderr=log,
                user=self.user,
                group=self.user,
                extra_groups=None if self.user is None else [],
                preexec_fn=end_with_parent,  # noqa: PLW1509  no thread of ours runs yet that could hold a lock
            )

    def _wait(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            # Its line comes last; asking before leaves sockets open that the driver does not close.
            if "ready for connections" in self._log.read_text(errors="replace"):
                self.root().close()
                return
            assert self._server.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.02)

    def root(self, database: str | None = None) -> Any:
        """A connection that may do anything."""
        return pymysql.connect(
            unix_socket=f"{self.folder}/s", user="root", database=database, autocommit=True, ssl_disabled=True
        )

    def change(self, database: str, text: str) -> None:
        """Carry statements out, one a line or a paragraph that ends with a semicolon."""
        with self.root(database) as cx, cx.cursor() as cursor:
            for statement in text.split(";\n"):
                if statement.strip():
                    cursor.execute(statement)

    def stop(self) -> None:
        """End the server and remove what it wrote."""
        server = getattr(self, "_server", None)
        if server is not None and server.poll() is None:
            server.send_signal(signal.SIGKILL)  # its data is of no use any more
            server.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def end_with_parent() -> None:
    """Also when the tests are killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
