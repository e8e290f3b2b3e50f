"""The file in which a product declares a service, and the annotations beside it, read and written anew.

Checked first, and never over what is newer.
What is written is text as it was given, comments and all. A service keeps its name: another name is another file.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tulle.control.idle_policies import IdlePolicies
from tulle.control.policy_names import PolicyNames
from tulle.control.policy_problems import policies_judged
from tulle.control.release import declared_in
from tulle.control.workspace import Workspace
from tulle.errors import Conflict, Denied, Invalid, NotFound, Place, Problem
from tulle.events import SERVICE_WRITTEN, Event
from tulle.serving.overlay import SUFFIX
from tulle.serving.service import annotation_problems, load_service
from tulle.spec.document import refuse
from tulle.spec.load import decoded
from tulle.spec.product import DataProduct
from tulle.state import log
from tulle.state.db import in_turn

MOST_CHARACTERS = 500_000


@dataclass(frozen=True, slots=True)
class ServiceFile:
    """The file of a service: its path in the product's folder, its text, and the SHA-256 of that as it was read."""

    service: str
    product: str
    path: str
    text: str
    digest: str


def read(workspace: Workspace, name: str) -> ServiceFile:
    """The file that declares a service. NotFound with the nearest name."""
    product, file = declared_in(workspace, name)
    data = _bytes_of(file, name)
    path = str(file.relative_to(product.folder))
    return ServiceFile(name, product.name, path, decoded(data, path), _digest(data))


def _bytes_of(file: Path, name: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as exc:
        raise NotFound(f"the file of service '{name}' cannot be read: {exc.strerror}") from exc


def save(workspace: Workspace, name: str, text: str, *, before: str, actor: str = "") -> ServiceFile:
    """Write a service's file, whole or not at all; `before` is the digest of what was looked at.

    Invalid with every problem and its place, Conflict when the file is not what was looked at any more, Denied where
    the mesh may not write.
    """
    known = read(workspace, name)
    _still(known, known.digest, before)
    product, file = declared_in(workspace, name)
    data = _encoded(text, file)
    with _beside(file, known, data) as scratch:
        service = load_service(scratch, name=known.path)  # beside its other files, which are read with it
        names, idle = PolicyNames(workspace), IdlePolicies(workspace)
        refuse(known.path, policies_judged(names, idle, service, product, file=scratch).problems)
        if service.name != name:
            wrong = Problem(
                f"the service is called '{service.name}' here, and '{name}' so far",
                Place(known.path, service.place.line if service.place else 0),
                "a service keeps its name; write another file for another one",
            )
            raise Invalid(f"{known.path} is not that of '{name}'", problems=[wrong])
        scratch.chmod(file.stat().st_mode & 0o777)
        with _turn(workspace, known, file, before, data, actor):
            scratch.replace(file)
    return ServiceFile(name, known.product, known.path, data.decode(), _digest(data))


def read_annotations(workspace: Workspace, name: str) -> ServiceFile:
    """The annotations of a service's API document; empty, with an empty digest, where there are none. NotFound."""
    product, file = _annotations_of(workspace, name)
    path = str(file.relative_to(product.folder))
    if not file.is_file():
        return ServiceFile(name, product.name, path, "", "")
    data = _bytes_of(file, name)
    return ServiceFile(name, product.name, path, decoded(data, path), _digest(data))


def save_annotations(
    workspace: Workspace, name: str, text: str, *, before: str, actor: str = ""
) -> ServiceFile:
    """Write the annotations of a service's API, or with an empty text take their file away; raises as `save` does."""
    known = read_annotations(workspace, name)
    _still(known, known.digest, before)
    product, file = _annotations_of(workspace, name)
    if not text.strip():
        with _turn(workspace, known, file, before, b"", actor), _may_write(known):
            file.unlink(missing_ok=True)
        return ServiceFile(name, product.name, known.path, "", "")
    data = _encoded(text, file)
    declaring = declared_in(workspace, name)[1]
    with _beside(file, known, data) as scratch:
        refuse(known.path, list(annotation_problems(declaring, scratch, known.path)))
        scratch.chmod((file if file.exists() else declaring).stat().st_mode & 0o777)
        with _turn(workspace, known, file, before, data, actor):
            scratch.replace(file)
    return ServiceFile(name, product.name, known.path, data.decode(), _digest(data))


def _encoded(text: str, file: Path) -> bytes:
    """The text with the line ends of the file: browsers send every line end as one character."""
    crlf = "\r" not in text and file.is_file() and b"\r\n" in _bytes_of(file, file.name)
    return (text.replace("\n", "\r\n") if crlf else text).encode()


@contextmanager
def _turn(
    workspace: Workspace, known: ServiceFile, file: Path, before: str, data: bytes, actor: str
) -> Iterator[None]:
    """One who writes at a time, and the event of it. Conflict when the file is not what was looked at any more."""
    with workspace.database.write() as cx:
        in_turn(cx, f"file of {known.service}")  # two who save at once: one of them is told
        _still(known, _digest(_bytes_of(file, known.service)) if file.is_file() else "", before)
        told = {"product": known.product, "file": known.path, "digest": _digest(data) if data else ""}
        log.append(cx, Event(SERVICE_WRITTEN, known.service, told), actor=actor)
        yield


def _still(known: ServiceFile, digest: str, before: str) -> None:
    if digest != before:
        raise Conflict(
            f"{known.path} was changed meanwhile, so it is not written over",
            hint="look at it again, and change that",
        )


@contextmanager
def _beside(file: Path, known: ServiceFile, data: bytes) -> Iterator[Path]:
    """A new file of these bytes, beside the one that it may replace; gone at the end unless it did. Denied."""
    with _may_write(known):
        handle, name = tempfile.mkstemp(prefix=f".{known.service}-", suffix=".new", dir=file.parent)
    scratch = Path(name)
    try:
        with os.fdopen(handle, "wb") as opened:
            opened.write(data)
            opened.flush()
            os.fsync(opened.fileno())
        yield scratch
    finally:
        scratch.unlink(missing_ok=True)


@contextmanager
def _may_write(known: ServiceFile) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise Denied(
            f"the mesh may not write to {known.product}/{known.path}: {exc.strerror}",
            hint="copy the text to where the product's code is kept",
        ) from exc


def _annotations_of(workspace: Workspace, name: str) -> tuple[DataProduct, Path]:
    product, file = declared_in(workspace, name)
    return product, file.parent / f"{name}{SUFFIX}"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
