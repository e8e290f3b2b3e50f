"""A worker's own certificate for calls of other services: read from files that the control plane changes while it runs.

Knows how the files look (as Envoy reads secrets) and makes of them what Python's TLS needs. No key is ever told.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from pathlib import Path
from typing import Any

import msgspec

Stamp = tuple[tuple[int, int], ...]


class Mutual(msgspec.Struct, frozen=True):
    """How services are called by mutual TLS: files relative to the mesh's state, and whom the other side has to be."""

    socket: str
    certificate: str
    roots: str
    host: str


def stamp_of(state: Path, by: Mutual) -> Stamp:
    """What changes whenever one of the files does. OSError."""
    found = [(state / name).stat() for name in (by.certificate, by.roots)]
    return tuple((one.st_mtime_ns, one.st_ino) for one in found)


def context_of(state: Path, by: Mutual) -> ssl.SSLContext:
    """TLS 1.3 under this service's certificate, to nobody but whom the mesh's roots vouch for.

    OSError (ssl.SSLError is one) or ValueError when the files cannot be used.
    """
    certificate = _secret(state / by.certificate, "tls_certificate")
    roots = _secret(state / by.roots, "validation_context")
    try:
        pair = certificate["certificate_chain"]["inline_string"] + certificate["private_key"]["inline_string"]
        trusted = roots["trusted_ca"]["inline_string"]
    except (LookupError, TypeError):
        raise ValueError("a certificate's file is not as it was written") from None
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.load_verify_locations(cadata=trusted)
    # The library reads keys from files only: one that nobody else may read, for as long as that takes.
    with tempfile.NamedTemporaryFile(dir=(state / by.certificate).parent, prefix=".", suffix=".pem") as file:
        file.write(pair.encode())
        file.flush()
        made.load_cert_chain(file.name)
    return made


def pinned(shown: str) -> ssl.SSLContext:
    """TLS that believes the first certificate of a PEM text, whoever signed it, and no other one. ssl.SSLError."""
    end = "-----END CERTIFICATE-----\n"
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    made.load_verify_locations(cadata=shown.partition(end.strip())[0] + end)
    return made


def reachable(socket: Path) -> tuple[str, int | None]:
    """A path that a socket's address can hold, and the open folder that it needs, if it does."""
    short = os.path.relpath(socket)
    if len(os.fsencode(short)) <= 100:
        return short, None
    handle = os.open(socket.parent, os.O_RDONLY | os.O_DIRECTORY)
    return f"/proc/self/fd/{handle}/{socket.name}", handle


def _secret(file: Path, kind: str) -> Any:
    try:
        (resource,) = msgspec.json.decode(file.read_bytes())["resources"]
        return resource[kind]
    except (LookupError, TypeError, msgspec.MsgspecError):
        raise ValueError("a certificate's file is not as it was written") from None
