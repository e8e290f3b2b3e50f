"""An HTTP service of somebody else's on this machine, with or without TLS, and an authority that signs for it."""

from __future__ import annotations

import datetime as dt
import http.server
import ipaddress
import json
import ssl
import threading
import time
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        path = self.path.partition("?")[0]
        if path.endswith("/slow"):
            time.sleep(1.0)
        if path.endswith("/garbage"):
            self.wfile.write(b"this is no HTTP\r\n\r\n")
            self.close_connection = True
            return
        said = {
            "server": self.server.said,  # type: ignore[attr-defined]
            "method": self.command,
            "target": self.path,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "bytes": len(body),
        }
        self.server.heads.append(said["headers"])  # type: ignore[attr-defined]
        text = json.dumps(said).encode()
        self.send_response(418 if path.endswith("/teapot") else 401 if path.endswith("/refused") else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        for name in ("generation", "error", "mock", "reason", "client"):
            self.send_header(f"x-tulle-{name}", "Forged")  # as if it were one of ours
        self.send_header("x-envoy-overloaded", "true")
        for cookie in filter(None, self.headers.get("x-sets", "").split("|")):
            self.send_header("set-cookie", cookie)
        for name, value in json.loads(self.headers.get("x-answers", "{}")).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = _answer  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Nothing to the terminal."""


class Service:
    """A running server; `with` ends it."""

    def __init__(self, said: str = "it", context: ssl.SSLContext | None = None) -> None:
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.said = said  # type: ignore[attr-defined]
        self.heads: list[dict[str, str]] = []  # of each request that came
        self._server.heads = self.heads  # type: ignore[attr-defined]
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = int(self._server.server_address[1])
        self.scheme = "http" if context is None else "https"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def url(self, base: str = "", host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{base}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Authority:
    """Signs certificates; `ca` is its own, PEM."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority")])
        own = self._builder(self._name, self._key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.ca = own.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def _builder(self, name: x509.Name, key: Any) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=1))
        )

    def context(self, host: str) -> ssl.SSLContext:
        """TLS of a server that is called `host`."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        try:
            called: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            called = x509.DNSName(host)
        made = self._builder(name, key.public_key()).add_extension(
            x509.SubjectAlternativeName([called]), critical=False
        )
        signed = made.sign(self._key, hashes.SHA256())
        file = self._folder / f"{host}-{id(key)}.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file.write_bytes(signed.public_bytes(serialization.Encoding.PEM) + private)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context
