"""Where immutable things are kept: bytes under a path, written once, never changed.

`Blobs` is the port; `LocalBlobs` keeps them on this machine's disk, `StoreBlobs` in any object store (S3,
GCS, Azure, memory) through obstore. What both promise:

- a `put` that returned is durable, and readers see all of it or nothing;
- a path that exists is never overwritten (`AlreadyExists`);
- a failed `put` leaves nothing at the path.

Paths are relative, made by us of plain segments, never derived from what users call things. Knows nothing of
what is stored.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, runtime_checkable
from uuid import uuid4

from tulle.errors import AlreadyExists, Broken, Denied, Invalid, LimitExceeded, NotFound, Unavailable
from tulle.lake.feed import fed

if TYPE_CHECKING:
    from obstore.store import ObjectStore

CHUNK_BYTES = 4 * 1024 * 1024
LOCAL_CHUNK_BYTES = (
    1024 * 1024
)  # asking a disk costs little, and what is small stays in the processor's cache
_PATH = re.compile(r"(?!\.)[\w=.-]+(/(?!\.)[\w=.-]+)*\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """One stored blob: its path, size in bytes and time of writing in seconds since the epoch."""

    path: str
    size: int
    modified: float


@runtime_checkable
class Blobs(Protocol):
    """The port to an object store."""

    def put(self, path: str, data: bytes | Iterable[bytes]) -> int:
        """Store `data` durably and return its size. AlreadyExists when the path is taken."""
        ...

    def get(self, path: str, start: int = 0, end: int | None = None) -> bytes:
        """Bytes `start` up to (without) `end`; beyond the end of the blob there are none. NotFound."""
        ...

    def stat(self, path: str, *, settle: bool = False) -> BlobInfo:
        """Size and time. With `settle` the blob is durable afterwards, whoever wrote it. NotFound."""
        ...

    def refresh(self, path: str, data: bytes) -> None:
        """Make a blob that has this content durable and as young as one written now. NotFound (on a disk)."""
        ...

    def delete(self, path: str) -> None:
        """Remove the blob; no error when there is none."""
        ...

    def list(self, folder: str = "") -> Iterator[BlobInfo]:
        """Every blob under `folder`, in no promised order."""
        ...

    def url(self, path: str, *, for_writing: bool = False) -> str:
        """What an engine opens: an absolute file name or a URL. `for_writing` makes the folder exist."""
        ...

    def signed_url(self, path: str, method: str, seconds: float) -> str | None:
        """A URL that works for `method` (GET, PUT) for a while without other credentials, if the store has them."""
        ...


def open_blobs(namespace: str, *, any_path: bool = False) -> Blobs:
    """Open the store a namespace names: `local:///absolute/folder`, `s3://bucket/prefix`, `gs://…`, `memory:///`.

    With `any_path`, for places outside of a lake, an object store's paths need not be plain. Credentials of
    object stores come from their usual environment variables. Raises Invalid for a namespace that names no store.
    """
    if namespace.startswith("local://"):
        folder = Path(namespace.removeprefix("local://"))
        if not folder.is_absolute():
            raise Invalid(
                f"storage namespace '{namespace}' names no absolute folder",
                hint="write local:///absolute/folder, with three slashes",
            )
        return LocalBlobs(folder)
    scheme, _, rest = namespace.partition("://")
    if scheme == "file":
        raise Invalid(
            f"storage namespace '{namespace}' would not be durable", hint=f"write local://{rest} instead"
        )
    from obstore.store import from_url  # noqa: PLC0415  costs 40 ms and only object stores need it

    try:
        store = from_url(namespace)
    except Exception as exc:
        raise Invalid(
            f"storage namespace '{namespace}' cannot be opened: {_first_line(exc)}",
            hint="known forms: local:///folder, s3://bucket/prefix, gs://bucket/prefix, memory:///",
        ) from exc
    return StoreBlobs(store, f"{scheme}://{rest.rstrip('/')}", any_path=any_path)


class LocalBlobs:
    """Blobs as files in a folder of this machine: write beside, sync, link into place, sync the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._half_written = folder / "_tmp"
        self._known_folders: set[Path] = set()
        self._settled_folders: set[Path] = set()
        with _named_errors(folder):
            self._folder(self._half_written)
        self._sweep()

    def put(self, path: str, data: bytes | Iterable[bytes]) -> int:
        """Store `data` durably and return its size."""
        target = self._file(path)
        with _named_errors(target):
            folder = self._folder(target.parent)
            temporary = self._half_written / uuid4().hex
            try:
                size = self._write(temporary, data)
                os.link(temporary, target)  # unlike a rename, fails when the path is taken
            except FileExistsError:
                raise AlreadyExists(f"blob '{path}' exists; stored content is never overwritten") from None
            finally:
                temporary.unlink(missing_ok=True)
            _sync(folder)
        return size

    def get(self, path: str, start: int = 0, end: int | None = None) -> bytes:
        """Bytes `start` up to (without) `end`."""
        file = self._file(path)
        with _named_errors(file), file.open("rb") as stream:
            if start:
                stream.seek(start)
            return stream.read() if end is None else stream.read(max(0, end - start))

    def stat(self, path: str, *, settle: bool = False) -> BlobInfo:
        """Size and time; with `settle`, sync the file and the folders above it."""
        file = self._file(path)
        with _named_errors(file):
            if not file.is_file():
                raise NotFound(f"there is no blob '{path}'")
            if settle:
                os.utime(file)  # whoever names it now has a grace in which it is not collected
                _sync(file)
                _sync(file.parent)
                self._settle_above(file.parent)
            status = file.stat()
        return BlobInfo(path, status.st_size, status.st_mtime)

    def refresh(self, path: str, data: bytes) -> None:  # noqa: ARG002  it has this content
        """Give the file today's time; synced with the folders above it."""
        self.stat(path, settle=True)

    def delete(self, path: str) -> None:
        """Remove the file."""
        file = self._file(path)
        with _named_errors(file):
            file.unlink(missing_ok=True)

    def list(self, folder: str = "") -> Iterator[BlobInfo]:
        """Every file under `folder`."""
        top = self._file(folder) if folder else self.folder
        for where, folders, names in os.walk(top):
            if Path(where) == self.folder and "_tmp" in folders:
                folders.remove("_tmp")
            for name in names:
                file = Path(where) / name
                with contextlib.suppress(FileNotFoundError):  # removed while we were walking
                    status = file.stat()
                    yield BlobInfo(file.relative_to(self.folder).as_posix(), status.st_size, status.st_mtime)

    def url(self, path: str, *, for_writing: bool = False) -> str:
        """The absolute file name."""
        file = self._file(path)
        if for_writing:
            with _named_errors(file):
                self._folder(file.parent)
        return str(file)

    def signed_url(self, path: str, method: str, seconds: float) -> str | None:  # noqa: ARG002  a disk has none
        """None: a disk signs nothing."""
        return None

    def _file(self, path: str) -> Path:
        return self.folder / _checked(path)

    def _write(self, file: Path, data: bytes | Iterable[bytes]) -> int:
        size = 0
        with file.open("xb") as stream:
            for chunk in (data,) if isinstance(data, bytes) else data:
                size += stream.write(chunk)
            stream.flush()
            os.fsync(stream.fileno())
        return size

    def _folder(self, folder: Path) -> Path:
        # A new folder is durable only when the folder above it is synced.
        if folder not in self._known_folders:
            missing = [folder]
            while not missing[-1].parent.is_dir():
                missing.append(missing[-1].parent)
            folder.mkdir(parents=True, exist_ok=True)
            for made in reversed(missing):
                _sync(made.parent)
            self._known_folders.add(folder)
        elif not folder.is_dir():
            self._known_folders.discard(folder)
            self._settled_folders.discard(folder)
            return self._folder(folder)
        return folder

    def _settle_above(self, folder: Path) -> None:
        # Whoever made a folder synced the one above it, unless it was another process that is not done yet.
        if folder in self._settled_folders:
            return
        above = folder
        while above != self.folder:
            above = above.parent
            _sync(above)
        self._settled_folders.add(folder)

    def _sweep(self) -> None:
        # What a killed writer left half written; a day is longer than any write takes.
        yesterday = time.time() - 86_400
        for left in self._half_written.iterdir():
            with contextlib.suppress(OSError):
                if left.stat().st_mtime < yesterday:
                    left.unlink()


class StoreBlobs:
    """Blobs in an object store, through obstore."""

    def __init__(self, store: ObjectStore, base_url: str, *, any_path: bool = False) -> None:
        self._store = store
        self._base_url = base_url
        self._any_path = any_path

    def put(self, path: str, data: bytes | Iterable[bytes]) -> int:
        """Store `data`; more than one chunk's worth goes up in parts."""
        import obstore  # noqa: PLC0415

        self._checked(path)
        size = 0

        def counted(chunks: Iterable[bytes]) -> Iterator[bytes]:
            nonlocal size
            for chunk in chunks:
                size += len(chunk)
                yield chunk

        with _store_errors(path):
            if isinstance(data, bytes):
                obstore.put(self._store, path, data, mode="create")
                return len(data)
            chunks = counted(data)
            head, more = _first_chunks(chunks)
            if not more:
                obstore.put(self._store, path, head, mode="create")
                return size
            # Parts cannot be put under the condition that nothing is there, so look first.
            with contextlib.suppress(FileNotFoundError):
                obstore.head(self._store, path)
                raise AlreadyExists(f"blob '{path}' exists; stored content is never overwritten")
            with fed(_chain(head, chunks)) as pieces:
                obstore.put(self._store, path, pieces)
        return size

    def get(self, path: str, start: int = 0, end: int | None = None) -> bytes:
        """Bytes `start` up to (without) `end`."""
        import obstore  # noqa: PLC0415

        with _store_errors(self._checked(path)):
            if not start and end is None:
                return bytes(obstore.get(self._store, path).bytes())
            if end is not None and start < end:
                with contextlib.suppress(Exception):  # one request, unless the range leads beyond the end
                    return bytes(obstore.get_range(self._store, path, start=start, end=end))
            size = obstore.head(self._store, path)["size"]
            stop = size if end is None else min(end, size)
            if start >= stop:
                return b""
            return bytes(obstore.get_range(self._store, path, start=start, end=stop))

    def stat(self, path: str, *, settle: bool = False) -> BlobInfo:  # noqa: ARG002  a stored object is durable
        """Size and time."""
        import obstore  # noqa: PLC0415

        with _store_errors(self._checked(path)):
            return self._info(obstore.head(self._store, path))

    def refresh(self, path: str, data: bytes) -> None:
        """Store the object again."""
        import obstore  # noqa: PLC0415

        with _store_errors(self._checked(path)):
            obstore.put(self._store, path, data)

    def delete(self, path: str) -> None:
        """Remove the object."""
        import obstore  # noqa: PLC0415

        with contextlib.suppress(NotFound), _store_errors(self._checked(path)):
            obstore.delete(self._store, path)

    def list(self, folder: str = "") -> Iterator[BlobInfo]:
        """Every object under `folder`."""
        import obstore  # noqa: PLC0415

        with _store_errors(folder):
            for batch in obstore.list(self._store, prefix=folder or None):
                for item in batch:
                    yield self._info(item)

    def replace(self, path: str, data: Iterable[bytes]) -> None:
        """Store an object in place of what is there: for places outside of a lake."""
        import obstore  # noqa: PLC0415

        with _store_errors(self._checked(path)):
            head, more = _first_chunks(chunks := iter(data))
            if not more:
                obstore.put(self._store, path, head)
                return
            with fed(_chain(head, chunks)) as pieces:
                obstore.put(self._store, path, pieces)

    def list_after(self, after: str, rows: int) -> Iterator[Sequence[Any]]:
        """Objects whose key comes after another in pieces, as obstore tells them, in the order of the store."""
        import obstore  # noqa: PLC0415

        with _store_errors(after):
            yield from obstore.list(self._store, offset=after or None, chunk_size=rows)

    def head(self, path: str) -> Any:
        """What obstore tells of one object. NotFound."""
        import obstore  # noqa: PLC0415

        with _store_errors(self._checked(path)):
            return obstore.head(self._store, path)

    def url(self, path: str, *, for_writing: bool = False) -> str:  # noqa: ARG002  object stores have no folders
        """The object's URL."""
        return f"{self._base_url}/{self._checked(path)}"

    def signed_url(self, path: str, method: str, seconds: float) -> str | None:
        """A URL that works for `method` (GET, PUT) for a while without other credentials, if the store has them."""
        import obstore  # noqa: PLC0415

        if type(self._store).__name__ == "MemoryStore":
            return None
        with _store_errors(path):
            signed = obstore.sign(self._store, method, self._checked(path), timedelta(seconds=seconds))  # type: ignore[call-overload]
        return str(signed)

    def _checked(self, path: str) -> str:
        return path if self._any_path else _checked(path)

    @staticmethod
    def _info(item: Any) -> BlobInfo:
        return BlobInfo(item["path"], item["size"], item["last_modified"].timestamp())


def read_chunks(
    blobs: Blobs, path: str, size: int, start: int = 0, end: int | None = None
) -> Iterator[bytes]:
    """The bytes of a blob of `size` bytes in pieces of a few MiB at most."""
    stop = size if end is None else min(end, size)
    most = LOCAL_CHUNK_BYTES if isinstance(blobs, LocalBlobs) else CHUNK_BYTES
    while start < stop:
        chunk = blobs.get(path, start, min(stop, start + most))
        if not chunk:
            raise Broken(
                f"blob '{path}' ends at byte {start}, expected {size} bytes",
                hint="restore that object of the store from a copy",
            )
        yield chunk
        start += len(chunk)


def stat_external(url: str) -> int:
    """The size in bytes of a local file outside the lake. NotFound."""
    file = _local(url)
    with _named_errors(file):
        return file.stat().st_size


def read_external(url: str, size: int, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """The bytes of a local file outside the lake in pieces of a few MiB. NotFound."""
    stop = size if end is None else min(end, size)
    file = _local(url)
    with _named_errors(file), file.open("rb") as stream:
        stream.seek(start)
        while start < stop and (chunk := stream.read(min(LOCAL_CHUNK_BYTES, stop - start))):
            yield chunk
            start += len(chunk)
    if start < stop:
        raise Broken(
            f"{file} ends at byte {start}, {size} were recorded: it was changed after it was imported"
        )


def is_local(url: str) -> bool:
    """Whether a URL names a file of this machine."""
    return url.startswith(("local:///", "file:///"))


def _local(url: str) -> Path:
    return Path(url.partition("://")[2])


def _checked(path: str) -> str:
    if not _PATH.match(path):
        raise Invalid(f"'{path}' is no blob path: plain segments joined by '/' are")
    return path


def _first_chunks(chunks: Iterator[bytes]) -> tuple[bytes, bool]:
    head = bytearray()
    for chunk in chunks:
        head += chunk
        if len(head) > CHUNK_BYTES:
            return bytes(head), True
    return bytes(head), False


def _chain(head: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from rest


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _named_errors(file: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise NotFound(f"there is no blob '{file.name}' in {file.parent}") from None
    except OSError as exc:
        raise_disk_error(exc, file)


def raise_disk_error(exc: OSError, file: Path) -> NoReturn:
    """Say what the operating system's refusal means for the user."""
    if exc.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        raise LimitExceeded(
            f"disk full: {file} could not be written ({exc.strerror}); nothing was changed",
            hint="free some disk space, or move the mesh's storage, and try again",
        ) from exc
    if isinstance(exc, PermissionError):
        raise Denied(
            f"no permission for {file}", hint="check who owns the folder and who runs this process"
        ) from exc
    raise Unavailable(f"{file}: {exc.strerror or exc}") from exc


@contextlib.contextmanager
def _store_errors(path: str) -> Iterator[None]:
    from obstore import exceptions  # noqa: PLC0415

    try:
        yield
    except FileNotFoundError:
        raise NotFound(f"there is no blob '{path}'") from None
    except exceptions.AlreadyExistsError:
        raise AlreadyExists(f"blob '{path}' exists; stored content is never overwritten") from None
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as exc:
        raise Denied(f"the object store refused '{path}': {_first_line(exc)}") from exc
    except exceptions.BaseError as exc:
        raise Unavailable(f"the object store failed on '{path}': {_first_line(exc)}") from exc


def _first_line(exc: BaseException) -> str:
    return str(exc).strip().partition("\n")[0]
