"""Which object stores a lake may touch, and opening them once.

A lake has one namespace of its own; repositories may be made over others, import from others and export to
others, if they begin with one of the prefixes the mesh allows. Addresses of other repositories name a storage;
where that is was recorded when it was made, and stays recorded when its repository is deleted. Knows nothing of
what is stored.
"""

from __future__ import annotations

import os
import posixpath
import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from tulle.config import STATE_FOLDER
from tulle.errors import Denied, Invalid, NotFound
from tulle.lake import refs
from tulle.lake.blobs import Blobs, is_local, open_blobs, read_chunks, read_external, stat_external
from tulle.state.db import Database

_CONTROL = re.compile(r"[\x00-\x1f]")


class Stores:
    """The stores of one lake. Safe to share between threads."""

    def __init__(
        self, database: Database, namespace: str, own: Blobs | None = None, allowed: Sequence[str] = ()
    ) -> None:
        self._database = database
        self.namespace = namespace.rstrip("/") if own is None else namespace
        self.own = own if own is not None else open_blobs(namespace)
        self.allowed = tuple(prefix.rstrip("/") + "/" for prefix in allowed)
        self.linkable: tuple[str, ...] = self.allowed  # a lake may add places that links may point to
        self._opened: dict[tuple[str, bool], Blobs] = {}
        self._storages: dict[str, str] = {}
        self._lock = threading.Lock()

    def blobs(self, namespace: str, *, any_path: bool = False) -> Blobs:
        """The store of a namespace that was checked when it was recorded; "" is the lake's own."""
        if not namespace:
            return self.own
        key = (namespace, any_path)
        with self._lock:
            found = self._opened.get(key)
            if found is None:
                found = self._opened[key] = open_blobs(namespace, any_path=any_path)
        return found

    def of_storage(self, storage: str) -> Blobs:
        """The store in which the objects of a storage are. NotFound when there never was one of that name."""
        namespace = self._storages.get(storage)
        if namespace is None:
            with self._database.read() as cx:
                namespace = refs.find_storage(cx, storage)
            if namespace is None:
                raise NotFound(f"there is no storage '{storage}' in this lake")
            self._storages[storage] = namespace
        return self.blobs(namespace)

    def checked(self, namespace: str) -> str:
        """A namespace for a new repository as it is recorded: "" within the lake's own, else its URL.

        `local://relative/folder` is below the lake's own place. Invalid when it is none, Denied when the mesh
        does not allow the place.
        """
        if not namespace or namespace.rstrip("/") == self.namespace:
            return ""
        scheme, mark, rest = namespace.partition("://")
        if not mark or not scheme or any(ord(c) < 32 for c in namespace):
            raise Invalid(
                f"'{namespace}' is no storage namespace",
                hint="for example local://sales or s3://bucket/prefix",
            )
        plain = posixpath.normpath(rest) if rest else ""
        if plain.startswith(".."):
            raise Invalid(f"storage namespace '{namespace}' leads out of its place")
        if scheme in {"local", "mem"} and not rest.startswith("/"):
            below = plain.strip("./")
            return f"{self.namespace}/{below}" if below and not self.namespace.startswith("memory") else ""
        url = f"{scheme}://{plain}"
        if url.startswith(self.namespace + "/"):
            return url
        self.demand(url)
        return url

    def demand(self, url: str) -> None:
        """Denied unless the mesh allows the place a URL names."""
        scheme, _, rest = url.partition("://")
        plain = f"{scheme}://{posixpath.normpath(rest)}" if rest else url
        if ".." in rest.split("/") or not (plain + "/").startswith(self.allowed or "\0"):
            raise Denied(
                f"'{url}' is not among the places this mesh may use",
                hint="add the place to `object_stores:` in mesh.yaml",
            )

    @property
    def are_local(self) -> bool:
        """Whether all that repositories may be made over is on this machine."""
        return all(is_local(place) for place in (self.namespace, *self.allowed))

    def demand_object(self, url: str) -> str:
        """The one URL by which an outside object is recorded: for a file where it really leads.

        Under other spellings a collection would not know that it is named. Denied, or Invalid, unless it is in a
        place that links may point to.
        """
        scheme, mark, rest = url.partition("://")
        if not mark or _CONTROL.search(url) or ".." in rest.split("/"):
            raise Denied(f"'{url}' is no plain URL of an object")
        is_named = url.startswith(self.linkable or "\0")
        real = self._real_file(url) if is_local(url) else None
        if not is_named and real is None:
            raise Invalid(
                f"'{url}' is outside of the lake, and no allowed place begins like it",
                hint="put the data into the lake, or add the place to `object_stores:` in mesh.yaml",
            )
        if real is not None:
            return f"local://{real}"
        if scheme in {"local", "file"}:
            raise Denied(f"'{url}' leads to a place this mesh may not use")
        return url

    def _real_file(self, url: str) -> str | None:
        """Where a file really is, None outside of the places links may point to. Denied for what is the mesh's."""
        # Links may lead elsewhere, today or when it is read.
        real = os.path.realpath(url.partition("://")[2])
        places = [os.path.realpath(p.partition("://")[2]) for p in self.linkable if is_local(p)]
        if not any(real == place or real.startswith(place.rstrip("/") + "/") for place in places):
            return None
        if self.namespace.startswith("local:///"):
            own = Path(os.path.realpath(self.namespace.removeprefix("local://")))
            kept = own.parent if own.parent.name == STATE_FOLDER else own
            if real == str(kept) or real.startswith(f"{kept}/"):
                raise Denied(f"'{url}' is where the mesh keeps what is its own")
        return real

    def external_blobs(self, url: str) -> Blobs:
        """The store below a URL outside of the lake. Denied unless the mesh allows it."""
        self.demand(url)
        return self.blobs(url.rstrip("/"), any_path=True)

    def stat(self, url: str) -> int:
        """The size in bytes of an object outside of the lake. NotFound."""
        if is_local(url):
            self.demand_object(url)
            return stat_external(url)
        store, path = self._external(url)
        return store.stat(path).size

    def read(self, url: str, size: int, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes of an object outside of the lake in pieces of a few MiB. NotFound."""
        if is_local(url):
            self.demand_object(url)
            return read_external(url, size, start, end)
        return self._pieces(url, size, start, end)

    def signed_url(self, url: str, method: str, seconds: float) -> str | None:
        """A URL of an outside object that works for a while without other credentials; None where there is none."""
        if is_local(url):
            return None
        store, path = self._external(url)
        return store.signed_url(path, method, seconds)

    def _pieces(self, url: str, size: int, start: int, end: int | None) -> Iterator[bytes]:
        store, path = self._external(url)
        yield from read_chunks(store, path, size, start, end)

    def _external(self, url: str) -> tuple[Blobs, str]:
        parts = urlsplit(url)
        if parts.scheme == "https":  # Azure: account host, then container, then the object
            container, _, path = parts.path.lstrip("/").partition("/")
            return self.blobs(f"https://{parts.netloc}/{container}", any_path=True), path
        root = f"{parts.scheme}://{parts.netloc}"
        return self.blobs(root, any_path=True), url.removeprefix(root).lstrip("/")
