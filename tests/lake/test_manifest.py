"""Manifests: their file form, and layers that ride in one another's."""

from __future__ import annotations

import pytest

from tulle.errors import Broken
from tulle.lake import manifest as manifests
from tulle.lake import upkeep
from tulle.lake.blobs import Blobs, open_blobs
from tulle.lake.entry import Commit
from tulle.lake.manifest import Manifest, ManifestStore, make_commit
from tulle.lake.repository import Lake
from tulle.lake.runs import RunCaches, RunRef, RunStore
from tulle.state.db import Database


@pytest.fixture
def blobs() -> Blobs:
    return open_blobs("memory:///")


def opened(blobs: Blobs) -> ManifestStore:
    caches = RunCaches()
    return ManifestStore(blobs, "sales", RunStore(blobs, "sales", caches), caches)


def commit(*parents: Commit, message: str = "m", date: int = 1_700_000_000_123_456) -> Commit:
    return make_commit(
        parents=parents, delta_id="ab" * 32, message=message, committer="ada", date=date, metadata={"k": "v"}
    )


def test_what_is_put_is_read(blobs: Blobs) -> None:
    root = commit()
    delta = RunRef("ab" * 32, 3, 1, "inline", b"bytes")
    layers = (delta, RunRef("cd" * 32, 9, 0, "manifest", manifest="other"), RunRef("ef" * 32, 9, 2, "range"))
    written = Manifest(commit(root), delta, RunRef("01" * 32, 70_000, 0, "tree"), layers)
    name = opened(blobs).put(written)
    assert opened(blobs).put(written) == name
    assert opened(blobs).get(name) == written
    bare = Manifest(root, delta, None, ())
    assert opened(blobs).get(opened(blobs).put(bare)) == bare


def test_the_id_is_of_the_commit_not_of_how_it_is_kept(blobs: Blobs) -> None:
    made = commit()
    delta = RunRef("ab" * 32, 3, 1, "range")
    names = {
        opened(blobs).put(Manifest(made, delta, None, (delta,))),
        opened(blobs).put(Manifest(made, delta, RunRef("01" * 32, 3, 0, "tree"), ())),
    }
    assert len(names) == 2
    assert {name.partition(".")[0] for name in names} == {made.id}


def test_commit_ids_are_pinned_and_tell_everything_apart() -> None:
    root = commit()
    assert root.id == "4071106a0b324367b1628fd07920ef2d93f6b3eef4345bf71e48ba88806b9e34"
    assert (root.generation, commit(root).generation, commit(commit(root), root).generation) == (1, 2, 3)
    assert len({root.id, commit(root).id, commit(message="n").id, commit(date=1).id}) == 4


def test_damage_is_said_by_name(blobs: Blobs) -> None:
    for number, data in enumerate((b"", b"no msgpack \xc1", b"\x80", b"\x81\xa6format\xa7another")):
        blobs.put(f"sales/_tulle/manifests/m{number}", data)
        with pytest.raises(Broken, match=f"manifest m{number}"):
            opened(blobs).get(f"m{number}")


def test_layers_beyond_what_is_carried_are_found_in_the_manifest_that_has_them(
    database: Database, blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "CARRIED_BYTES", 5000)
    monkeypatch.setattr(upkeep, "LAYERS_IN_A_TIER", 100)
    repository = Lake(database, blobs).create_repository("sales")
    for number in range(12):
        repository.put("main", f"{number:02d}", str(number).encode())
        repository.commit("main", f"{number}")
    found = repository.reader.content(repository.resolve("main")).manifest
    places = [layer.place for layer in found.layers]
    assert places[0] == "inline"
    assert 1 < places.count("inline") < 6
    assert places.count("manifest") == 12 - places.count("inline")
    cold = Lake(database, blobs).repository("sales")
    assert {e.path: cold.get("main", e.path) for e in cold.entries("main")} == {
        f"{number:02d}": str(number).encode() for number in range(12)
    }


def test_a_layer_that_is_not_where_it_should_be(blobs: Blobs) -> None:
    store = opened(blobs)
    name = store.put(Manifest(commit(), RunRef("ab" * 32, 3, 1, "inline", b"x"), None, ()))
    with pytest.raises(Broken, match="expected cdcd"):
        store.open(RunRef("cd" * 32, 3, 1, "manifest", manifest=name))
