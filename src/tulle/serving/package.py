"""Building an immutable version of a service, recording it, and unpacking it again with every digest checked.

A package is one tar: models, indexes, openapi.json, manifest.json. Its bytes depend on its content, version and
provenance alone. Equal content is never built into a second version: the existing one is returned.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import logging
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import blake3
import msgspec
from sqlalchemy import Connection, Row, insert, select

from tulle.config import Settings
from tulle.engine.duck import DuckEngine
from tulle.engine.engine import Relation
from tulle.errors import AlreadyExists, Broken, Invalid, NotFound, Problem, did_you_mean
from tulle.events import PACKAGE_BUILT, Event
from tulle.lake.repository import Lake, Repository
from tulle.pipeline.pin import version_of
from tulle.pipeline.sources.address import environment_of
from tulle.serving.access import Access
from tulle.serving.bill import bill_of_materials
from tulle.serving.bundle import Bundle
from tulle.serving.declared import rows_of
from tulle.serving.feedback import FEEDBACK_API
from tulle.serving.kinds import KINDS, Entry
from tulle.serving.log_declared import ServiceLog
from tulle.serving.manifest import (
    BILL,
    MANIFEST,
    OPENAPI,
    SIGNATURE,
    FileEntry,
    Manifest,
    Origin,
    digest_of,
    manifest_from,
)
from tulle.serving.openapi import document
from tulle.serving.overlay import laid_over
from tulle.serving.query_declared import QuerySpec
from tulle.serving.seal import seal
from tulle.serving.service import HasFolder, Service
from tulle.serving.software import environment
from tulle.serving.swagger import swagger
from tulle.state import log
from tulle.state.connections import open_connections
from tulle.state.db import Database, now
from tulle.state.tables import packages as table

_VERSION = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_NUMBERED = re.compile(r"v([1-9][0-9]{0,8})")
_CHUNK = 1 << 20
_MOST_FILES = 100_000  # of a package
_LONGEST_HEADER = 1 << 20  # bytes, of a file in an archive
_log = logging.getLogger("tulle.serving")


@dataclass(frozen=True, slots=True)
class Package:
    """One immutable version of a service; `path` is its tar, relative to the mesh's .tulle/ folder."""

    service: str
    version: str
    digest: str
    product: str
    path: str
    manifest: Manifest
    created_at: float

    @property
    def bytes(self) -> int:
        """The size of its files."""
        return sum(file.bytes for file in self.manifest.files.values())


def build(
    service: Service,
    *,
    product: HasFolder,
    lake: Lake,
    database: Database,
    settings: Settings,
    code_version: str,
    ref: str = "main",
    version: str | None = None,
    check: Callable[[Path], None] | None = None,
    others: Mapping[str, Mapping[str, str]] | None = None,
) -> Package:
    """Build a version of `service` from what is published at `ref`; the existing version for equal content.

    `version` defaults to the next of v1, v2, … Raises Invalid, with places in the services file, for models,
    data sets and columns that are not there; AlreadyExists when the version has other content. `check` looks at the
    folder of a version that is new before it is recorded, and raises what refuses it. `others` are the services of the
    mesh that this one may use, with the kinds of their endpoints.
    """
    if version is not None:
        check_version(version)
    home = settings.state_folder / "packages" / service.name
    created = now()  # before anything is read: what is found to be published later is newer than the package
    with _workspace(home) as folder:
        engine = DuckEngine(settings.warehouse, folder / "spill")
        bundle = Bundle(
            folder / "content",
            LakeSource(lake, ref, database),
            product.name,
            engine,
            product.folder,
            lambda name: open_connections(settings, database).get(name, environment_of(ref)),
        )
        bundle.others = {name: kinds for name, kinds in (others or {}).items() if name in service.uses}
        entries = _bundled(service, bundle)
        openapi = _openapi(service, entries, bundle.folder)
        manifest = _manifest(service, product.name, entries, bundle, openapi)
        manifest = replace(manifest, code_version=code_version, ref=ref)
        manifest = replace(manifest, software=environment(bundle.folder, bundle.models))
        if existing := _with_digest(database, service.name, manifest.digest):
            _restore(existing, folder, openapi, settings)
            return existing
        while True:
            chosen = version or _next_version(database, service.name)
            made = _finished(bundle.folder, manifest, openapi, chosen, created)
            seal(bundle.folder, settings)
            if check is not None:
                check(bundle.folder)
                check = None  # another version number changes no answer
            _write_tar(folder / "package.tar", bundle.folder)
            package = Package(
                service.name,
                chosen,
                made.digest,
                product.name,
                f"packages/{service.name}/{chosen}.tar",
                made,
                created,
            )
            if recorded := record(
                database, package, folder / "package.tar", settings, explicit=version is not None
            ):
                return recorded


def check_version(version: str) -> None:
    """Invalid unless a version may have this name."""
    if not _VERSION.fullmatch(version):
        raise Invalid(f"'{version}' is no version: use lower-case letters, digits, '.', '_' and '-'")


def packages(database: Database, service: str) -> tuple[Package, ...]:
    """Every version of a service, oldest first."""
    query = select(table).where(table.c.service == service).order_by(table.c.created_at, table.c.version)
    with database.read() as connection:
        return tuple(_value(row) for row in connection.execute(query))


def products_of(database: Database) -> Mapping[str, frozenset[str]]:
    """By service, the products whose version any of its versions is: more than one where it changed hands."""
    found: dict[str, set[str]] = {}
    with database.read() as connection:
        for row in connection.execute(select(table.c.service, table.c.product).distinct()):
            found.setdefault(row.service, set()).add(row.product)
    return {service: frozenset(products) for service, products in found.items()}


def get(database: Database, service: str, version: str) -> Package:
    """One version of a service; NotFound with the nearest name."""
    with database.read() as connection:
        row = connection.execute(
            select(table).where(table.c.service == service, table.c.version == version)
        ).first()
        if row is None:
            known = (
                connection.execute(select(table.c.version).where(table.c.service == service)).scalars().all()
            )
            hint = did_you_mean(version, known) or f"`tulle service package {service}` builds one"
            raise NotFound(f"service '{service}' has no version '{version}'", hint=hint)
    return _value(row)


def unpack(archive: Path, folder: Path, *, digest: str) -> Manifest:
    """Unpack into `folder`, checking every file; nothing is done when the folder holds it, undamaged, already.

    Raises Broken, naming the file, when the archive is damaged or is not the package of that digest.
    """
    if folder.exists():
        try:
            return verified(folder, digest)
        except Broken as exc:
            _log.warning("%s is unpacked again: %s", folder.name, exc.message)
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    damaged = scratch.with_name(scratch.name + "-damaged")
    try:
        extract(archive, scratch)
        manifest = verified(scratch, digest)
        if folder.exists():  # damaged: out of the way, as a folder only replaces an empty one
            with contextlib.suppress(FileNotFoundError):
                folder.rename(damaged)
        try:
            scratch.rename(folder)
        except OSError:  # somebody else unpacked it meanwhile
            return verified(folder, digest)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(damaged, ignore_errors=True)
    return manifest


class LakeSource:
    """The repositories of a lake, each at the commit its `ref` named when it was first read."""

    def __init__(self, lake: Lake, ref: str, database: Database | None = None) -> None:
        """`database`: where releases are recorded, for versions."""
        self._lake = lake
        self._database = database
        self._ref = ref
        self._commits: dict[str, str] = {}

    def commit(self, product: str) -> str:
        """The commit that is read. NotFound when there is no such repository or ref."""
        if product not in self._commits:
            self._commits[product] = self._repository(product).resolve(self._ref)
        return self._commits[product]

    def read(self, product: str, path: str) -> bytes:
        """The bytes of one object. NotFound."""
        return self._repository(product).get(self.commit(product), path)

    def names(self, product: str, prefix: str = "") -> Sequence[str]:
        """The folders directly under `prefix` (which is empty or ends with a slash)."""
        page = self._repository(product).list(self.commit(product), prefix, delimiter="/")
        return [name.removeprefix(prefix).rstrip("/") for name in page.prefixes]

    def version(self, product: str, version: str) -> str:
        """The commit of a release, a tag or a commit of a product. NotFound."""
        found = version_of(self._database, self._repository(product), version) if self._database else None
        if found is None:
            hint = f"`tulle releases {product}` lists them; branches are no versions, as they move"
            raise NotFound(f"product '{product}' has no release, tag or commit '{version}'", hint=hint)
        return found[0]

    def relation(self, product: str, data_set: str, folder: Path, commit: str = "") -> Relation:
        """The files of a data set; what is not on this machine is copied to `folder`. NotFound when it has none."""
        at = commit[:12] or self._ref
        repository, commit = self._repository(product), commit or self.commit(product)
        paths = [e.path for e in repository.entries(commit, f"{data_set}/") if e.path.endswith(".parquet")]
        if not paths:
            raise NotFound(f"repository '{product}' has no data set '{data_set}' at '{at}'")
        files = [repository.location(repository.stat(commit, path)) for path in paths]
        for position, path in enumerate(paths):
            if not files[position].startswith("/"):
                copy = folder / f"{position:05}.parquet"
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(repository.get(commit, path))
                files[position] = str(copy)
        return Relation(data_set, tuple(files))

    def _repository(self, product: str) -> Repository:
        return self._lake.repository(product)


# ── building ─────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _workspace(home: Path) -> Iterator[Path]:
    """A scratch folder beside the packages; what killed builds left there is removed."""
    home.mkdir(parents=True, exist_ok=True)
    for left in home.glob(".build-*"):
        pid = left.name.split("-")[1]
        if not Path(f"/proc/{pid}").exists():
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f".build-{os.getpid()}-", dir=home) as name:
        (Path(name) / "content").mkdir()
        yield Path(name)


def _bundled(service: Service, bundle: Bundle) -> list[Entry]:
    """The entries of all endpoints; Invalid with the problems of all of them at once."""
    entries: list[Entry] = []
    problems: list[Problem] = []
    bundle.endpoints = {spec.name: spec.type for spec in service.endpoints}
    for spec in service.endpoints:
        try:
            entries.append(KINDS[spec.type].bundle(spec, bundle))
        except Invalid as exc:
            problems += exc.problems or [Problem(exc.message, spec.places.get(""), exc.hint)]
    if problems:
        told = "; ".join(problem.message for problem in problems)
        raise Invalid(
            f"service '{service.name}' cannot be packaged: {told}", hint=problems[0].hint, problems=problems
        )
    return entries


def _openapi(service: Service, entries: Sequence[Entry], folder: Path) -> dict[str, Any]:
    paths = [*(KINDS[entry.type].describe(entry, folder) for entry in entries), deepcopy(FEEDBACK_API)]
    made = document(
        service.name, version="", description=service.description, paths=paths, access=service.access
    )
    return laid_over(made, service.overlay, read=swagger)


def _manifest(
    service: Service, product: str, entries: Sequence[Entry], bundle: Bundle, openapi: dict[str, Any]
) -> Manifest:
    """The manifest without version and provenance, its digest computed."""
    manifest = Manifest(
        service=service.name,
        version="",
        product=product,
        digest="",
        created="",
        ref="",
        commits=dict(sorted(bundle.commits.items())),
        code_version="",
        # plain values exactly as they come back from the file
        endpoints=tuple(msgspec.json.decode(msgspec.json.encode(entry)) for entry in entries),
        files=_files(bundle.folder),
        openapi=blake3.blake3(msgspec.json.encode(openapi)).hexdigest(),
        description=service.description,
        log=None if service.log == ServiceLog() else service.log,
        origins=origins_of(service, product),
        access={} if service.access == Access() else service.access.as_plain(),
        policies=service.policies,
        models={
            name: {
                "task": signature.task,
                "estimator": signature.estimator,
                "conversion": msgspec.to_builtins(signature.conversion),
                "metrics": dict(signature.metrics),
                "baseline": dict(signature.baseline),
            }
            for name, signature in sorted(bundle.models.items())
        },
    )
    return replace(manifest, digest=manifest.content_digest())


def origins_of(service: Service, product: str) -> dict[str, tuple[Origin, ...]]:
    """The data sets behind each endpoint, with the columns that are called otherwise in requests."""
    found = {}
    for spec in service.endpoints:
        origins = [
            Origin(
                rows.product or product,
                rows.data_set,
                {name: column for name, column in (*rows.key, *rows.columns) if name != column},
            )
            for rows in rows_of(spec)
        ]
        if isinstance(spec, QuerySpec):
            origins += [Origin(owner, data_set) for owner, data_set in spec.reads(product)]
        found[spec.name] = tuple(origins)
    return found


def _finished(
    folder: Path, manifest: Manifest, openapi: dict[str, Any], version: str, created: float
) -> Manifest:
    """Write openapi.json, the bill of materials and manifest.json for a version; the complete manifest."""
    openapi["info"]["version"] = version
    (folder / OPENAPI).write_bytes(msgspec.json.format(msgspec.json.encode(openapi), indent=2) + b"\n")
    for name in (MANIFEST, BILL, SIGNATURE):
        (folder / name).unlink(missing_ok=True)
    moment = dt.datetime.fromtimestamp(created, dt.UTC)
    made = replace(
        manifest, version=version, created=moment.isoformat(timespec="seconds"), files=_files(folder)
    )
    if made.software:  # packages that were built before there was a bill have none when they are made again
        bill = bill_of_materials(made)
        (folder / BILL).write_bytes(bill)
        entry = FileEntry(blake3.blake3(bill).hexdigest(), len(bill))
        made = replace(made, files=dict(sorted({**made.files, BILL: entry}.items())))
    (folder / MANIFEST).write_bytes(made.as_bytes())
    return made


def _restore(package: Package, folder: Path, openapi: dict[str, Any], settings: Settings) -> None:
    """Write the tar of a recorded package again, byte for byte, if it is gone or damaged."""
    archive = settings.state_folder / package.path
    try:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            extract(archive, Path(scratch))
            verified(Path(scratch), package.digest)
    except Broken:
        _finished(folder / "content", package.manifest, openapi, package.version, package.created_at)
        seal(folder / "content", settings)
        _write_tar(folder / "package.tar", folder / "content")
        (folder / "package.tar").replace(archive)
        _sync_folder(archive.parent)


def _files(folder: Path) -> dict[str, FileEntry]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): FileEntry(digest_of(path), path.stat().st_size) for path in paths}


def _write_tar(path: Path, folder: Path) -> None:
    """A tar whose bytes depend on names and contents alone; durable when this returns."""
    with path.open("wb") as out:
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for file in sorted(path for path in folder.rglob("*") if path.is_file()):
                entry = tarfile.TarInfo(str(file.relative_to(folder)))
                entry.size, entry.mode = file.stat().st_size, 0o644
                with file.open("rb") as content:
                    tar.addfile(entry, content)
        out.flush()
        os.fsync(out.fileno())


# ── the records ──────────────────────────────────────────────────────────────────────────────────────────


def record(
    database: Database, package: Package, archive: Path, settings: Settings, *, explicit: bool
) -> Package | None:
    """Put the tar in its place and record it; the version somebody else recorded, or None to try the next."""
    with database.write() as connection:
        same = _row_with_digest(connection, package.service, package.digest)
        if same is not None:
            return _value(same)
        taken = connection.execute(
            select(table.c.digest).where(
                table.c.service == package.service, table.c.version == package.version
            )
        ).scalar()
        if taken is not None and explicit:
            raise AlreadyExists(
                f"service '{package.service}' has a version '{package.version}' with other content",
                hint="versions never change; choose another name",
            )
        if taken is not None:
            return None
        target = settings.state_folder / package.path
        archive.replace(target)
        _sync_folder(target.parent)
        connection.execute(
            insert(table).values(
                service=package.service,
                version=package.version,
                digest=package.digest,
                product=package.product,
                path=package.path,
                manifest=msgspec.to_builtins(package.manifest),
                created_at=package.created_at,
            )
        )
        data = {
            "version": package.version,
            "digest": package.digest,
            "commits": dict(package.manifest.commits),
        }
        log.append(connection, Event(PACKAGE_BUILT, package.service, data))
    return package


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _next_version(database: Database, service: str) -> str:
    with database.read() as connection:
        known = connection.execute(select(table.c.version).where(table.c.service == service)).scalars()
        numbers = [int(match[1]) for version in known if (match := _NUMBERED.fullmatch(version))]
    return f"v{max(numbers, default=0) + 1}"


def _with_digest(database: Database, service: str, digest: str) -> Package | None:
    with database.read() as connection:
        row = _row_with_digest(connection, service, digest)
    return None if row is None else _value(row)


def _row_with_digest(connection: Connection, service: str, digest: str) -> Row[Any] | None:
    query = select(table).where(table.c.service == service, table.c.digest == digest)
    return connection.execute(query).first()


def _value(row: Row[Any]) -> Package:
    manifest = msgspec.convert(row.manifest, Manifest)
    return Package(row.service, row.version, row.digest, row.product, row.path, manifest, row.created_at)


# ── unpacking ────────────────────────────────────────────────────────────────────────────────────────────


class _Archive(io.FileIO):
    """A file that is read in pieces: a header of gigabytes is not taken into memory."""

    def read(self, size: int | None = -1, /) -> bytes:
        """As any file does."""
        if size is not None and size > _LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return super().read(size) or b""


def extract(archive: Path, folder: Path) -> None:
    """Unpack an archive without looking at what it holds; Broken when it cannot be read, or holds more than files."""
    try:
        with _Archive(archive) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for number, member in enumerate(tar):
                if not member.isreg() or member.issparse():
                    raise Broken(f"{archive.name} holds {member.name!a}, which is no plain file")
                if number >= _MOST_FILES:
                    raise Broken(f"{archive.name} holds more than {_MOST_FILES:,} files")
                tar.extract(member, folder, filter="data", set_attrs=False)
    except FileNotFoundError as exc:
        raise Broken(
            f"the package {archive.name} is gone from {archive.parent}", hint="build it again"
        ) from exc
    except Broken:
        raise
    except (tarfile.TarError, OSError, ValueError, RecursionError, MemoryError, OverflowError) as exc:
        # names and numbers that are none, headers that lead to headers without end: the reader lets them through
        why = ascii(str(exc) or type(exc).__name__)[1:-1]
        raise Broken(f"the package {archive.name} cannot be read: {why}", hint="build it again") from exc


def verified(folder: Path, digest: str) -> Manifest:
    """The manifest of an unpacked package whose files are all there and undamaged; else Broken."""
    try:
        manifest = manifest_from((folder / MANIFEST).read_bytes())
    except OSError as exc:
        raise Broken(f"the package lacks {MANIFEST}", hint="build it again") from exc
    if manifest.digest != digest:
        raise Broken(f"the package is {manifest.digest[:12]}, expected {digest[:12]}", hint="build it again")
    for name, file in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise Broken(f"the package lacks '{name}'", hint="build it again")
        if path.stat().st_size != file.bytes or digest_of(path) != file.blake3:
            raise Broken(f"the package's file '{name}' is damaged", hint="build it again")
    return manifest
