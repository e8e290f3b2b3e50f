import pytest

from tulle.errors import Broken, NotFound
from tulle.lake.repository import open_lake
from tulle.lake.verify import verify


@pytest.fixture
def repository(lake):
    repository = lake.create_repository("sales")
    repository.put("main", "a", b"one")
    repository.commit("main", "a")
    repository.create_branch("other")
    repository.put_many("main", [(f"many/{number:04}", b"m%d" % number) for number in range(300)])
    repository.commit("main", "many")
    repository.fold("main")
    return repository


def blobs_in(lake, repository, folder):
    return sorted(
        (lake.stores.own.folder / repository.record.storage / folder).rglob("*"), key=lambda f: f.name
    )


def test_a_sound_repository_is(lake, repository):
    found = verify(lake, "sales", data=True)
    assert found.is_sound
    assert found.manifests == 3
    assert found.objects == 301


@pytest.mark.parametrize("folder", ["_tulle/ranges", "_tulle/metaranges", "_tulle/manifests"])
@pytest.mark.parametrize("how", ["flipped", "short", "missing"])
def test_damage_is_named_contained_and_refused(lake, repository, folder, how):
    hit = 0
    for file in blobs_in(lake, repository, folder):
        if not file.is_file():
            continue
        data = file.read_bytes()
        if how == "flipped":
            # A few bytes: a single one may be padding, which says nothing.
            start, stop = len(data) // 3, len(data) // 3 + 80
            file.write_bytes(data[:start] + bytes(b ^ 1 for b in data[start:stop]) + data[stop:])
        elif how == "short":
            file.write_bytes(data[: len(data) // 2])
        else:
            file.unlink()
        found = verify(lake, "sales")
        fresh = open_lake(lake.database, lake.default_namespace).repository("sales")
        damaged = {ref for damage in found.damages for ref in damage.refs}
        for damage in found.damages:
            assert damage.blob.endswith(file.name)
            assert damage.commits
        for ref in ("main", "other"):
            if ref in damaged:
                continue
            assert [fresh.get(ref, entry.path) for entry in fresh.entries(ref)]
        for ref in damaged:
            with pytest.raises((Broken, NotFound)):
                fresh.reader.content(fresh.resolve(ref)).view.find(b"a")
                list(fresh.entries(ref))
                verify_deltas(fresh, ref)
        hit += len(found.damages)
        file.write_bytes(data)
    assert hit
    assert verify(lake, "sales").is_sound


def verify_deltas(repository, ref):
    manifest = repository.reader.content(repository.resolve(ref)).manifest
    repository.reader.manifests.open(manifest.delta)


@pytest.mark.parametrize("how", ["flipped", "short", "missing"])
def test_damaged_data_is_found_by_reading_it(lake, repository, how):
    entry = repository.stat("main", "many/0007")
    file = lake.stores.own.folder / repository.record.storage / entry.address
    if how == "flipped":
        file.write_bytes(b"x" * entry.size)
    elif how == "short":
        file.write_bytes(b"")
    else:
        file.unlink()
    assert verify(lake, "sales").is_sound
    (damage,) = verify(lake, "sales", data=True).damages
    assert damage.blob.endswith(entry.address)
    assert damage.refs == ["main"]
    assert damage.paths == ["many/0007"]
    with pytest.raises((Broken, NotFound)):
        repository.get("main", "many/0007")
    assert repository.get("main", "many/0008") == b"m8"
