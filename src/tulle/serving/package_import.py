"""Taking in the archive of a package that was built elsewhere, or before: checked whole, then a version like any other.

An archive holds models and functions, which are code: who may import one may run code in a service's workers.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path

from tulle.config import Settings
from tulle.errors import Broken, Conflict, Invalid, LimitExceeded, NotFound, Unavailable
from tulle.serving import package
from tulle.serving.manifest import MANIFEST, SIGNATURE, read_manifest
from tulle.serving.package import Package
from tulle.serving.seal import check_seal, public_key
from tulle.state.db import Database, now

MOST_BYTES = 20 * 2**30  # of an archive
_COPIES = 3  # of an archive while it is taken in: what came, what is kept, and its content
FOLDER = "imports"  # of .tulle/: archives are taken from here and from nowhere else


def folder_of(settings: Settings) -> Path:
    """Where archives lie that may be imported."""
    return settings.state_folder / FOLDER


def demand_room(settings: Settings, size: int) -> None:
    """LimitExceeded for an archive of so many bytes when it is too large, Unavailable when the disk has no room."""
    if size > MOST_BYTES:
        raise LimitExceeded(f"the archive has {size:,} bytes, at most {MOST_BYTES:,} are accepted")
    free = shutil.disk_usage(settings.state_folder).free
    if free < _COPIES * size:
        raise Unavailable(
            f"the disk of {settings.state_folder} has {free:,} bytes left, "
            f"which is too little for an archive of {size:,}",
            hint="it is copied and unpacked; `tulle service clean` removes what nobody needs",
        )


def archive_in(settings: Settings, path: str) -> Path:
    """The archive at `path`, absolute or below the folder of imports. Invalid outside it, NotFound without a file."""
    home = folder_of(settings).resolve()
    if "\0" in path:
        raise Invalid("the path of the archive is none")
    found = (home / path).resolve()
    if not found.is_relative_to(home):
        raise Invalid(f"'{path}' is not in {home}", hint="archives are imported from this folder alone")
    try:
        is_file = stat.S_ISREG(found.stat().st_mode)
    except OSError:
        is_file = False
    if not is_file:
        raise NotFound(f"there is no archive at {found}")
    return found


def take_in(archive: Path, *, service: str, product: str, database: Database, settings: Settings) -> Package:
    """Record the package in `archive` as a version of `service`; the existing one for equal content.

    LimitExceeded when it is too large, Unavailable without room for it, Broken when it is damaged, Denied when nobody
    who is trusted has signed it, Conflict when it is of another service or product, AlreadyExists when its version has
    other content.
    """
    demand_room(settings, archive.stat().st_size)
    home = settings.state_folder / "packages" / service
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".build-{os.getpid()}-", dir=home) as name:
        scratch = Path(name)
        shutil.copyfile(archive, scratch / "package.tar")  # what is checked is what is kept
        package.extract(scratch / "package.tar", scratch / "content")
        told = read_manifest(scratch / "content" / MANIFEST)
        manifest = package.verified(scratch / "content", told.digest)
        there = {
            str(p.relative_to(scratch / "content")) for p in (scratch / "content").rglob("*") if p.is_file()
        }
        if more := sorted(there - {MANIFEST, SIGNATURE, *manifest.files}):
            raise Broken(f"the package holds '{more[0]}', of which its {MANIFEST} knows nothing")
        check_seal(scratch / "content", {public_key(settings), *settings.trusted_keys})
        if (manifest.service, manifest.product) != (service, product):
            raise Conflict(
                f"the archive is of service '{manifest.service}' of product '{manifest.product}', "
                f"not of '{service}' of '{product}'"
            )
        package.check_version(manifest.version)
        made = Package(
            service,
            manifest.version,
            manifest.digest,
            product,
            f"packages/{service}/{manifest.version}.tar",
            manifest,
            now(),
        )
        recorded = package.record(database, made, scratch / "package.tar", settings, explicit=True)
    if recorded is None:  # it is told by an error when the version is given
        raise Conflict(f"service '{service}' has a version '{manifest.version}' by now")
    return recorded
