"""A release: an immutable version of a product, as it is recorded, packed, signed, checked and unpacked again.

The archive is a tar in the lake's store: the product's files below `product/`, the product as it was understood
(`document.json`), what was signed (`statement.json`) and the signature. The statement names every file by its
digest; nothing of an archive is used before all of it was checked. Who may make or promote one is not known here.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import tarfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy import Row, select

from tulle.config import Settings
from tulle.errors import Broken, NotFound, TulleError, did_you_mean
from tulle.lake.repository import Lake
from tulle.spec.product import DataProduct
from tulle.state import products
from tulle.state.db import Database
from tulle.state.secrets import open_secrets
from tulle.state.tables import releases as table

FORMAT = 1
TAG = "release-"  # what the tags of releases begin with, before the version
STATEMENT, DOCUMENT, SIGNATURE, FILES = "statement.json", "document.json", "signature.json", "product/"
MOST_BYTES = 64_000_000  # of a product's code; what is larger is data
_UNPACKING = "unpacking-"  # and whose process it is; beside the folders of versions
_PURPOSE = "the signatures of releases"
_VERSION = re.compile(r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})")

Version = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Release:
    """One immutable version of a product; `statement` is what was signed, `path` names the archive in the store."""

    product: str
    version: str
    content: str
    digest: str
    statement: Mapping[str, Any]
    document: Mapping[str, Any]
    signature: str
    public_key: str
    path: str
    created_by: str
    created_at: float

    @property
    def notes(self) -> str:
        """What whoever released it says of it."""
        return str(self.statement["notes"])

    @property
    def data_commit(self) -> str:
        """The commit of the data that this code had made when it was released."""
        return str(self.statement["data"]["commit"])

    def declared(self) -> DataProduct:
        """The product as it was released."""
        return products.from_document(self.document)


def version_of(text: str) -> Version | None:
    """Three numbers, or None when `text` is no version such as 1.2.0."""
    match = _VERSION.fullmatch(text)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def canonical(value: Any) -> bytes:
    """Plain values as the one text that is digested and signed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest_of(value: Any) -> str:
    """The digest of plain values, in hex."""
    return hashlib.sha256(canonical(value)).hexdigest()


# ── signatures ───────────────────────────────────────────────────────────────────────────────────────────


def signing_key(settings: Settings) -> Ed25519PrivateKey:
    """The key with which this mesh signs releases: derived from the mesh's own, so it is kept as that is."""
    secrets = open_secrets(settings.state_folder / "secret.key")
    return Ed25519PrivateKey.from_private_bytes(secrets.derived(_PURPOSE))


def public_key(settings: Settings) -> str:
    """The public half, in hex: what others check this mesh's releases by."""
    return signing_key(settings).public_key().public_bytes_raw().hex()


def sign(settings: Settings, digest: str) -> str:
    """The signature of a statement's digest, in hex."""
    return signing_key(settings).sign(_signed(digest)).hex()


def _signed(digest: str) -> bytes:
    return b"tulle release\0" + digest.encode()


def check_signature(release: Release, settings: Settings) -> None:
    """Broken unless this mesh signed exactly that statement and it is about what is recorded."""
    where = f"release {release.version} of '{release.product}'"
    if release.public_key != public_key(settings):
        raise Broken(
            f"{where} was signed with the key {release.public_key[:16]}…, which is not this mesh's",
            hint="put back the key file that belongs to this mesh, or release again",
        )
    said = release.statement
    parts = (said.get("product"), said.get("version"), said.get("content"))
    same = parts == (release.product, release.version, release.content)
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(release.public_key)).verify(
            bytes.fromhex(release.signature), _signed(digest_of(said))
        )
    except (InvalidSignature, ValueError):
        same = False
    document = said.get("files", {}).get(DOCUMENT, {}).get("sha256")
    if not same or digest_of(said) != release.digest or digest_of(release.document) != document:
        raise Broken(
            f"{where} is not what was signed: its record was changed",
            hint="restore the control-plane database from a backup, or release the next version",
        )


# ── archives ─────────────────────────────────────────────────────────────────────────────────────────────


def pack(files: Mapping[str, bytes]) -> bytes:
    """A tar whose bytes depend on names and contents alone."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def read_archive(lake: Lake, release: Release) -> dict[str, bytes]:
    """The files of a release's archive, each as it was signed. Broken when one is lost, damaged or too many."""
    where = f"the archive of release {release.version} of '{release.product}'"
    hint = "restore that object of the store from a copy, or release the next version"
    try:
        data = lake.stores.own.get(release.path)
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            found = {m.name: file.read() for m in tar if m.isreg() and (file := tar.extractfile(m))}
    except NotFound:
        raise Broken(f"{where} is gone from the store", hint=hint) from None
    except (tarfile.TarError, OSError, EOFError) as exc:
        raise Broken(f"{where} cannot be read: {exc}", hint=hint) from exc
    said: Mapping[str, Mapping[str, Any]] = release.statement["files"]
    if found.get(STATEMENT) != canonical(release.statement):
        raise Broken(f"{where} holds another statement than the one that is recorded", hint=hint)
    for name, about in said.items():
        if name not in found or hashlib.sha256(found[name]).hexdigest() != about["sha256"]:
            raise Broken(f"{where}: '{name}' is {'damaged' if name in found else 'missing'}", hint=hint)
    extra = set(found) - set(said) - {STATEMENT, SIGNATURE}
    if extra:
        raise Broken(f"{where} holds '{min(extra)}', which was not signed", hint=hint)
    return found


def verify(lake: Lake, release: Release, settings: Settings) -> None:
    """Check signature and archive of a release, every byte. Broken, naming what is wrong."""
    check_signature(release, settings)
    read_archive(lake, release)


def unpack(lake: Lake, release: Release, settings: Settings) -> Path:
    """The folder of a release's product, unpacked on this machine; everything is checked each time."""
    check_signature(release, settings)
    home = settings.state_folder / "releases" / release.product
    folder = home / f"{release.version}-{release.digest[:16]}"
    if _is_whole(folder, release):
        return folder / FILES
    files = read_archive(lake, release)
    _clear(home)
    beside = home / f"{_UNPACKING}{os.getpid()}-{uuid4().hex}"
    try:
        for name, data in files.items():
            target = beside / name
            if not target.resolve().is_relative_to(
                beside.resolve()
            ):  # the names were signed; this costs nothing
                raise Broken(f"release {release.version} of '{release.product}' holds the name '{name}'")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        if folder.exists():
            shutil.rmtree(folder)
        try:
            beside.rename(folder)
        except OSError:  # another process was first
            if not _is_whole(folder, release):
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder / FILES


def remove_unpacked(settings: Settings, applied: Collection[str]) -> int:
    """Remove what killed processes left half unpacked, and the code of products that are no more; how many folders.

    A release that is needed again is unpacked again.
    """
    removed = 0
    top = settings.state_folder / "releases"
    for home in top.iterdir() if top.is_dir() else ():
        if home.name not in applied:
            shutil.rmtree(home, ignore_errors=True)
            removed += 1
        else:
            removed += _clear(home)
    return removed


def _clear(home: Path) -> int:
    """Remove what processes that are no more left half unpacked; how many folders."""
    removed = 0
    for left in home.glob(f"{_UNPACKING}*"):
        pid = left.name.removeprefix(_UNPACKING).partition("-")[0]
        if not Path(f"/proc/{pid}").exists():
            shutil.rmtree(left, ignore_errors=True)
            removed += 1
    return removed


def _is_whole(folder: Path, release: Release) -> bool:
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}
    if there != {*release.statement["files"], STATEMENT, SIGNATURE}:
        return False
    return all(
        not (folder / name).is_symlink()
        and hashlib.sha256((folder / name).read_bytes()).hexdigest() == about["sha256"]
        for name, about in release.statement["files"].items()
    )


# ── records ──────────────────────────────────────────────────────────────────────────────────────────────


def releases(database: Database, product: str | None = None) -> tuple[Release, ...]:
    """Releases, of one product or of all, by product, the highest version first."""
    query = select(table)
    if product is not None:
        query = query.where(table.c.product == product)
    with database.read() as cx:
        found = [value(row) for row in cx.execute(query)]
    found.sort(key=lambda r: version_of(r.version) or (0, 0, 0), reverse=True)
    return tuple(sorted(found, key=lambda r: r.product))


def get(database: Database, product: str, version: str) -> Release:
    """One release. NotFound with the nearest version."""
    with database.read() as cx:
        row = cx.execute(select(table).where(table.c.product == product, table.c.version == version)).first()
    if row is None:
        known = [release.version for release in releases(database, product)]
        if not known:
            products.applied_product(database, product)  # NotFound with the nearest name
        hint = did_you_mean(version, known) or f"`tulle release {product}` makes one"
        raise NotFound(f"product '{product}' has no release '{version}'", hint=hint)
    return value(row)


def is_sound(lake: Lake, release: Release, settings: Settings) -> TulleError | None:
    """What `verify` finds, as a value."""
    try:
        verify(lake, release, settings)
    except TulleError as exc:
        return exc
    return None


def value(row: Row[Any]) -> Release:
    """A row as the release it records."""
    return Release(
        product=row.product,
        version=row.version,
        content=row.content,
        digest=row.digest,
        statement=row.statement,
        document=row.document,
        signature=row.signature,
        public_key=row.public_key,
        path=row.path,
        created_by=row.created_by,
        created_at=row.created_at,
    )
