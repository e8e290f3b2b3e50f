"""A real Redis for tests: Debian's, on loopback only, without anything kept on disk."""

from __future__ import annotations

import datetime as dt
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from tests.pipeline.sources.mariadb import end_with_parent

PASSWORD = "geheim/42:x"


class RedisServer:
    """A server that lives until `stop`; it can be ended and begun again on the same port."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tulle-rd-"))
        program = shutil.which("redis-server")
        assert program, "scripts/test-system-packages installs it"
        self.program = program
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        try:
            self.start()
        except BaseException:
            self.stop()
            raise

    def start(self, *more: str) -> None:
        """Begin, with nothing in it."""
        with (self.folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [
                    *(
                        self.program,
                        "--bind",
                        "127.0.0.1",
                        "--port",
                        str(self.port),
                        "--dir",
                        str(self.folder),
                    ),
                    *("--save", "", "--appendonly", "no", *more),
                ],
                stdout=log,
                stderr=log,
                preexec_fn=end_with_parent,  # noqa: PLW1509  no thread of ours runs yet that could hold a lock
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                with self.client() as client:
                    client.ping()
                return
            except redis.AuthenticationError:
                return
            except redis.ConnectionError:
                assert self._server.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < deadline, (self.folder / "log").read_text()
                time.sleep(0.01)

    def encrypt(self) -> tuple[str, Path]:
        """Answer by TLS as well; its address by that, and the certificate to trust."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        now = dt.datetime.now(dt.UTC)
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        file, secret = self.folder / "server.pem", self.folder / "server.key"
        file.write_bytes(certificate.public_bytes(Encoding.PEM))
        secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with self.client() as client:
            given = {
                "tls-cert-file": file,
                "tls-key-file": secret,
                "tls-auth-clients": "no",
                "tls-port": port,
            }
            client.execute_command("CONFIG", "SET", *(str(part) for pair in given.items() for part in pair))
        return f"rediss://localhost:{port}", file

    def url(self, database: int = 0) -> str:
        """The address of one of its databases."""
        return f"redis://127.0.0.1:{self.port}/{database}"

    def client(self, database: int = 0, **more: str) -> redis.Redis:
        """Somebody who may do anything."""
        return redis.Redis(host="127.0.0.1", port=self.port, db=database, **more)

    def empty(self) -> None:
        """Forget everything."""
        with self.client() as client:
            client.flushall()

    def hang(self) -> None:
        """Let it answer nothing any more until `go_on`."""
        self._server.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it answer again."""
        self._server.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """End it; it can be started again."""
        server = getattr(self, "_server", None)
        if server is not None and server.poll() is None:
            server.kill()
            server.wait()

    def stop(self) -> None:
        """End it for good."""
        self.end()
        shutil.rmtree(self.folder, ignore_errors=True)
