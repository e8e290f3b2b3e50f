"""Rows of the objects in a store: S3 and what speaks like it, Google's and Azure's.

Objects are told apart by name and tag, so that only new ones are read again. Each is fetched to this disk, read, and
removed before the next one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import obstore
import pyarrow as pa
from obstore.exceptions import BaseError
from obstore.store import from_url

from tulle.config import Settings
from tulle.errors import Denied, Invalid, NotFound, Problem, TulleError, Unavailable
from tulle.pipeline.ingest import SourceFile, read_file
from tulle.pipeline.sources.files import scratch
from tulle.pipeline.sources.hidden import without_secrets
from tulle.pipeline.sources.local import unread
from tulle.pipeline.sources.reading import Ask, Reading
from tulle.state.connections import Connection

MOST_OBJECTS = 100_000
_MAGIC = re.compile(r"[*?\[]")
_SCHEMES = {"az": "azure", "abfs": "azure", "abfss": "azure", "https": "azure", "s3": "s3", "gs": "gs"}


@contextmanager
def opened(ask: Ask) -> Iterator[Reading]:
    """The rows of the objects that are new, or of all where a full load asks for them."""
    url = ask.source.path
    _demand(url, ask.connection, ask.settings)
    root, pattern = _root(url)
    try:
        store = _store(root, ask.connection)
        found = _listed(store, pattern, ask, root)
        yield _Objects(ask, store, root, found)
    except BaseError as exc:
        raise _told(exc, url, ask.connection, ask) from None


class _Objects:
    def __init__(self, ask: Ask, store: Any, root: str, found: dict[str, str]) -> None:
        self._ask, self._store, self._root, self._found = ask, store, root, found
        names = unread(ask, {self._shown(path): tag for path, tag in found.items()})
        self._wanted = [path for path in found if self._shown(path) in names]

    @property
    def label(self) -> str:
        return self._ask.source.path

    @property
    def remembered(self) -> dict[str, Any]:
        return {"files": {**self._ask.files, **{self._shown(p): tag for p, tag in self._found.items()}}}

    def _shown(self, path: str) -> str:
        return f"{self._root.rstrip('/')}/{path}"

    def batches(self) -> Iterator[pa.RecordBatch]:
        for number, path in enumerate(self._wanted):
            file = scratch(self._ask.folder, number, "".join(PurePosixPath(path).suffixes[-2:]))
            try:
                with file.open("wb") as out:
                    answer = obstore.get(self._store, path)
                    if _tag(answer.meta) != self._found[path]:
                        raise Unavailable(f"{self._shown(path)} changed while it was read", hint="run again")
                    for piece in answer.stream(min_chunk_size=4 << 20):
                        out.write(piece)
                yield from read_file(SourceFile(file, self._shown(path)), self._ask.source, self._ask.rejects)
            finally:
                file.unlink(missing_ok=True)


def ping(connection: Connection, settings: Settings) -> str:  # noqa: ARG001  every kind is asked the same way
    """What is at the address of a connection."""
    root, prefix = _root(connection.address)
    try:
        for batch in obstore.list(_store(root, connection), prefix=prefix or None, chunk_size=50):
            return f"{connection.address} has {'more than 49' if len(batch) == 50 else len(batch)} objects"
    except BaseError as exc:
        raise _told(exc, connection.address, connection, None) from None
    return f"{connection.address} can be listed, and has nothing in it"


def _demand(url: str, connection: Connection | None, settings: Settings) -> None:
    """Denied unless the connection leads there, or the mesh may use the place without one."""
    places: Sequence[str] = settings.object_stores
    hint = "add the place to `object_stores:` in mesh.yaml, or name a connection"
    if connection is not None:
        places, hint = [connection.address], "a connection opens what is below its address only"
    if ".." in url.split("/") or not any(
        url == place or url.startswith(place.rstrip("/") + "/") for place in places
    ):
        raise Denied(f"'{url}' is not among the places this source may read", hint=hint)


def _root(url: str) -> tuple[str, str]:
    """The bucket or container of a URL, and what follows."""
    parts = urlsplit(url)
    path = parts.path.lstrip("/")
    if parts.scheme == "https":  # the first part is the container
        container, _, rest = path.partition("/")
        return f"https://{parts.netloc}/{container}", rest
    return f"{parts.scheme}://{parts.netloc}", path


def _store(root: str, connection: Connection | None) -> Any:
    config: dict[str, Any] = {}
    client: dict[str, Any] = {"timeout": "120s", "connect_timeout": "15s"}
    kind = _SCHEMES[root.partition(":")[0]]
    if connection is not None:
        given = {**connection.options, **connection.secrets}
        if endpoint := given.pop("endpoint", None):
            config["endpoint"] = endpoint
            if kind == "s3":
                config["virtual_hosted_style_request"] = False
            client["allow_http"] = endpoint.startswith("http://")
        names = {"account": "account_name"}
        config |= {names.get(key, key): value for key, value in given.items()}
        if kind == "s3":
            config.setdefault("region", "us-east-1")
    opened_by: Callable[..., Any] = from_url  # its overloads know only literal options
    return opened_by(root, config=config or None, client_options=client, retry_config={"max_retries": 4})


def _listed(store: Any, pattern: str, ask: Ask, root: str) -> dict[str, str]:
    """The objects that fit, by name: what identifies the content of each."""
    magic = _MAGIC.search(pattern)
    fixed = pattern[: magic.start()].rpartition("/")[0] if magic else pattern
    fits = re.compile(_translated(pattern if magic or not pattern.endswith("/") else f"{pattern}**"))
    found: dict[str, str] = {}
    if not magic and not pattern.endswith("/"):
        try:
            found[pattern] = _tag(obstore.head(store, pattern))
        except FileNotFoundError:
            found = {}
    else:
        for batch in obstore.list(store, prefix=fixed.rstrip("/") or None):
            found |= {m["path"]: _tag(m) for m in batch if fits.fullmatch(m["path"]) and m["size"]}
            if len(found) > MOST_OBJECTS:
                raise Invalid(
                    f"more than {MOST_OBJECTS:,} objects fit '{ask.source.path}'", hint="name fewer"
                )
    if not found:
        message = f"no object fits '{ask.source.path}'"
        hint = f"see what is below {root}, or change 'path' of the input port '{ask.port.title}'"
        raise Invalid(message, hint=hint, problems=[Problem(message, ask.source.place, hint)])
    return dict(sorted(found.items()))


def _tag(meta: Any) -> str:
    return str(meta.get("e_tag") or f"{meta['size']}-{meta['last_modified'].timestamp()}")


def _translated(pattern: str) -> str:
    """A glob as a regular expression: `*` and `?` stay within a folder, `**` does not."""
    pieces = []
    for part in re.split(r"(\*\*/?|\*|\?|\[[^\]]+\])", pattern):
        match part:
            case "**/":
                pieces.append("(?:.*/)?")
            case "**":
                pieces.append(".*")
            case "*":
                pieces.append("[^/]*")
            case "?":
                pieces.append("[^/]")
            case _ if part.startswith("[") and part.endswith("]"):
                pieces.append(part.replace("[!", "[^"))
            case _:
                pieces.append(re.escape(part))
    return "".join(pieces)


def _told(exc: BaseError, url: str, connection: Connection | None, ask: Ask | None) -> TulleError:
    said = without_secrets(connection, str(exc).strip().splitlines()[0])[:300]
    name = type(exc).__name__
    kind: type[TulleError] = Unavailable
    if "Permission" in name or "Unauthenticated" in name or " 403" in said or " 401" in said:
        kind = Denied
    elif "NotFound" in name or " 404" in said:
        kind = NotFound
    hint = f"`tulle connection test {connection.name}` tries it" if connection else None
    problem = [Problem(f"'{url}' cannot be read: {said}", ask.source.place, hint)] if ask else []
    return kind(f"'{url}' cannot be read: {said}", hint=hint, problems=problem)
