"""A commit's manifest: which runs make up its content, and the commit itself.

`delta` is what the commit changed against its first parent; `base` and `layers` (newest first) are its whole
content. The commit's id is the hash of the commit and its delta alone, so that a fold may publish another
manifest, with another base and fewer layers, for the same commit. Small runs ride inline.

The file form is MessagePack: {format, id, parents, delta_id, message, committer, date, metadata, generation,
base, layers, delta}. A layer {"place": "delta"} stands for this manifest's own delta.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from blake3 import blake3

from tulle.errors import Broken
from tulle.lake.blobs import Blobs
from tulle.lake.entry import Commit
from tulle.lake.runs import Run, RunCaches, RunRef, RunStore

FORMAT = "tulle manifest 1"
INLINE_BYTES = 64 * 1024  # a delta up to this size rides in its commit's manifest
CARRIED_BYTES = 16 * 1024  # so much of older layers is repeated in a manifest, to save readers round trips


@dataclass(frozen=True, slots=True)
class Manifest:
    """A commit with its content. `base` is None while everything is in layers."""

    commit: Commit
    delta: RunRef
    base: RunRef | None
    layers: tuple[RunRef, ...]

    @property
    def layer_rows(self) -> int:
        """Rows in all layers together."""
        return sum(layer.rows for layer in self.layers)


def make_commit(
    *,
    parents: Sequence[Commit],
    delta_id: str,
    message: str,
    committer: str,
    date: int,
    metadata: Mapping[str, str],
) -> Commit:
    """A commit with its id. `date` is in microseconds since the epoch."""
    generation = 1 + max((parent.generation for parent in parents), default=0)
    ids = [parent.id for parent in parents]
    logical = {
        "format": "tulle commit 1",
        "parents": ids,
        "delta": delta_id,
        "message": message,
        "committer": committer,
        "date": date,
        "metadata": dict(metadata),
        "generation": generation,
    }
    text = json.dumps(logical, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    id_ = str(blake3(text.encode()).hexdigest())
    return Commit(id_, tuple(ids), message, committer, date / 1_000_000, dict(metadata), generation)


class ManifestStore:
    """The manifests of one repository, and reading the content they describe."""

    def __init__(self, blobs: Blobs, storage: str, runs: RunStore, caches: RunCaches) -> None:
        self._blobs = blobs
        self._storage = storage
        self._runs = runs
        self._cache = caches.manifests

    def put(self, manifest: Manifest) -> str:
        """Keep a manifest durably and return its name."""
        data = _encode(manifest)
        name = f"{manifest.commit.id}.{blake3(data).hexdigest()[:16]}"
        self._runs.put_shared(f"manifests/{name}", data)
        self._cache.put(self._name(name), manifest, len(data))
        return name

    def get(self, name: str) -> Manifest:
        """Read a manifest."""
        found = self._cache.get(self._name(name))
        if found is None:
            data = self._blobs.get(self._name(name))
            if blake3(data).hexdigest()[:16] != name.rpartition(".")[2]:
                raise Broken(
                    f"manifest {name} is damaged: {self._name(name)} holds something else than when it was written",
                    hint="restore that object of the store from a copy; other refs are not affected",
                )
            found = _decode(data, name)
            self._cache.put(self._name(name), found, len(data))
        assert isinstance(found, Manifest)
        return found

    def content(self, manifest: Manifest) -> list[Run]:
        """The runs that make up a commit's content, newest first."""
        runs: list[Run] = [self.open(layer) for layer in manifest.layers]
        if manifest.base is not None:
            runs.append(self._runs.open(manifest.base))
        return runs

    def open(self, ref: RunRef) -> Run:
        """Open a run, looking into another manifest where it rides there."""
        if ref.place != "manifest":
            return self._runs.open(ref)
        kept = self._runs.open_kept(ref)
        if kept is not None:
            return kept
        delta = self.get(ref.manifest).delta
        if delta.id != ref.id:
            raise Broken(f"manifest {ref.manifest} holds run {delta.id}, expected {ref.id}")
        return self._runs.open(delta)

    def carried(self, parent: Manifest, parent_name: str) -> tuple[RunRef, ...]:
        """The layers of `parent` as another manifest names them: small new ones inline, as far as there is room."""
        room = CARRIED_BYTES
        layers: list[RunRef] = []
        for layer in parent.layers:
            if layer.place == "inline":
                owner = layer.manifest or parent_name  # without an owner it is the parent's own delta
                room -= len(layer.data)
                if room >= 0:
                    layers.append(replace(layer, manifest=owner))
                else:
                    layers.append(replace(layer, place="manifest", data=b"", manifest=owner))
            else:
                layers.append(layer)
        return tuple(layers)

    def _name(self, name: str) -> str:
        return f"{self._storage}/_tulle/manifests/{name}"


def _encode(manifest: Manifest) -> bytes:
    commit = manifest.commit
    layers: list[dict[str, Any]] = [
        {"place": "delta"} if layer == manifest.delta else layer.as_dict() for layer in manifest.layers
    ]
    return msgspec.msgpack.encode(
        {
            "format": FORMAT,
            "id": commit.id,
            "parents": commit.parents,
            "message": commit.message,
            "committer": commit.committer,
            "date": round(commit.date * 1_000_000),
            "metadata": dict(commit.metadata),
            "generation": commit.generation,
            "base": manifest.base.as_dict() if manifest.base else None,
            "layers": layers,
            "delta": manifest.delta.as_dict(),
        }
    )


def _decode(data: bytes, name: str) -> Manifest:
    try:
        value = msgspec.msgpack.decode(data)
        if value["format"] != FORMAT:
            raise Broken(f"manifest {name} has the unknown format '{value['format']}'")
        delta = RunRef(**value["delta"])
        layers = (delta if each["place"] == "delta" else RunRef(**each) for each in value["layers"])
        return Manifest(
            commit=Commit(
                value["id"],
                tuple(value["parents"]),
                value["message"],
                value["committer"],
                value["date"] / 1_000_000,
                value["metadata"],
                value["generation"],
            ),
            delta=delta,
            base=RunRef(**value["base"]) if value["base"] else None,
            layers=tuple(layers),
        )
    except (msgspec.DecodeError, KeyError, TypeError) as exc:
        raise Broken(f"manifest {name} cannot be read: {exc}") from exc
