"""What a package says of itself: service, endpoints, where its content came from, and the digest of every file.

The digest of a package is over its content: files, endpoints, API. When, under which version and from which
commits it was built is recorded and not part of the digest, so building equal content again is recognised.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import blake3
import msgspec

from tulle.errors import Broken
from tulle.serving.log_declared import ServiceLog

MANIFEST, OPENAPI = "manifest.json", "openapi.json"
# What helps where a part of a package is missing on this machine.
WHOLE_AGAIN: Final = "package the service anew and deploy it, or put the package back from a copy"
BILL, SIGNATURE = "sbom.cdx.json", "signature.json"
_CHUNK = 1 << 20
_NOT_CONTENT = (OPENAPI, BILL)  # they tell of the version, or of what it was built with
_PROVENANCE = ("version", "digest", "created", "code_version", "commits", "ref", "origins", "software")


@dataclass(frozen=True, slots=True)
class Origin:
    """A data set behind an endpoint; `columns` are those with another name in requests, by that name."""

    product: str
    data_set: str
    columns: Mapping[str, str] = field(default_factory=dict)


def look_ups_of(raw: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The look-ups of an endpoint of any kind, as a manifest has them."""
    rows = [raw["rows"]] if raw.get("type") == "lookup" and raw.get("rows") else []
    return [*rows, *(raw.get("joined") or ()), *(raw.get("enrich") or ())]


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a package."""

    blake3: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """The contents of manifest.json."""

    service: str
    version: str
    product: str
    digest: str
    created: str  # ISO time, UTC
    ref: str
    commits: Mapping[str, str]  # repository → commit the content was read at
    code_version: str
    endpoints: tuple[Mapping[str, Any], ...]
    files: Mapping[str, FileEntry]
    openapi: str  # the digest of the API's description, whatever the version
    description: str = ""
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # parity, metrics, by model
    log: ServiceLog | None = None  # what of the queries is kept; None: the usual
    # Where what is sent and answered comes from, by endpoint: product, data set, its columns by their names there.
    origins: Mapping[str, tuple[Origin, ...]] = field(default_factory=dict)
    access: Mapping[str, Any] = field(default_factory=dict)  # empty: by contract
    policies: tuple[Mapping[str, Any], ...] = ()  # what the gateway does with requests, as written
    software: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # by name, as `software` tells
    format: int = 1

    def content_digest(self) -> str:
        """The digest of what is in the package, hexadecimal."""
        content = {name: value for name, value in asdict(self).items() if name not in _PROVENANCE}
        if self.log is None:  # as in packages that were built before there was one
            del content["log"]
        if not self.access:  # as packages were before there was another way
            del content["access"]
        if not self.policies:  # as packages were before there were any
            del content["policies"]
        content["endpoints"] = [
            {name: value for name, value in endpoint.items() if name != "commits"}
            for endpoint in self.endpoints
        ]
        content["files"] = {name: file for name, file in content["files"].items() if name not in _NOT_CONTENT}
        return blake3.blake3(msgspec.json.encode(content, order="deterministic")).hexdigest()

    def query_log(self) -> ServiceLog:
        """What of the queries is kept."""
        return self.log or ServiceLog()

    def as_bytes(self) -> bytes:
        """The file's content."""
        return msgspec.json.format(msgspec.json.encode(self, order="deterministic"), indent=2) + b"\n"


def read_manifest(path: Path) -> Manifest:
    """The manifest of an unpacked package; Broken when there is none or it is damaged."""
    try:
        return manifest_from(path.read_bytes())
    except OSError as exc:
        raise Broken(f"the package lacks {MANIFEST}: {exc.strerror}", hint=WHOLE_AGAIN) from exc


def changed_file(folder: Path, names: Iterable[str], *, thoroughly: bool = False) -> str:
    """The first of these files of an unpacked package that is not as it was packaged, and how; nothing when all are.

    `thoroughly`: all its bytes are read; else the size alone is looked at.
    """
    try:
        known = read_manifest(folder / MANIFEST).files
        for name in names:
            if (folder / name).stat().st_size != known[name].bytes:
                return f"{name} has another size"
            if thoroughly and digest_of(folder / name) != known[name].blake3:
                return f"{name} has other content"
    except Broken as exc:
        return exc.message
    except OSError as exc:
        return f"{exc.filename}: {exc.strerror}"
    return ""


def digest_of(path: Path) -> str:
    """The digest of a file, as a manifest has it."""
    digest = blake3.blake3()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def manifest_from(data: bytes) -> Manifest:
    """The manifest in `data`; Broken when it is damaged."""
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as exc:
        raise Broken(
            f"the package's {MANIFEST} cannot be read: {exc}", hint="build the package again"
        ) from exc
    if manifest.content_digest() != manifest.digest:
        raise Broken(f"the package's {MANIFEST} is damaged: its digest does not match", hint="build it again")
    return manifest
