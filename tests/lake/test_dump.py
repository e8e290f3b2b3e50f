import pytest

from tulle.errors import Broken, Conflict, Invalid, NotFound
from tulle.lake import dump
from tulle.lake.dump import RefsDump
from tulle.lake.repository import open_lake
from tulle.state import tasks
from tulle.state.db import open_database

DATABASES = ("sqlite", "postgres")


@pytest.fixture
def repository(lake):
    repository = lake.create_repository("sales")
    repository.put("main", "a", b"one")
    repository.commit("main", "a", metadata={"k": "v"})
    repository.create_tag("v1", "main")
    repository.create_branch("try", hidden=True)
    repository.put("try", "b", b"two")
    repository.commit("try", "b")
    repository.put("try", "c", b"staged")
    return repository


def state(repository):
    refs = [b.name for b in repository.branches()] + [t.name for t in repository.tags()]
    return {
        ref: (
            [c.id for c in repository.log(ref)],
            {e.path: repository.get(ref, e.path) for e in repository.entries(ref)},
        )
        for ref in refs
    }


def test_a_deleted_repository_comes_back(lake, repository):
    ids = dump.dump(lake, "sales")
    repository.reset("try")
    before = state(repository)
    lake.delete_repository("sales")
    lake.create_repository("again", bare=True)
    dump.restore(lake, "again", ids)
    again = lake.repository("again")
    assert state(again) == before
    assert again.branches(show_hidden=False) == [again.branch("main")]
    again.put("main", "d", b"4")
    again.commit("main", "goes on")
    assert dump.dump(lake, "again") != ids


def test_it_comes_back_in_another_database(lake, repository, tmp_path):
    ids = dump.dump(lake, "sales")
    repository.reset("try")
    before = state(repository)
    database = open_database(f"sqlite:///{tmp_path / 'other.db'}")
    other = open_lake(database, lake.default_namespace)
    other.create_repository("sales", bare=True)
    dump.restore(other, "sales", ids)
    assert state(other.repository("sales")) == before
    database.close()


def test_what_cannot_be_restored_changes_nothing(lake, repository):
    ids = dump.dump(lake, "sales")
    lake.create_repository("full")
    lake.create_repository("bare", bare=True)
    with pytest.raises(Conflict, match="commits already"):
        dump.restore(lake, "full", ids)
    with pytest.raises(Conflict, match="another repository"):
        dump.restore(lake, "bare", ids)
    lake.delete_repository("sales")
    with pytest.raises(NotFound, match="no dump"):
        dump.restore(lake, "bare", RefsDump(ids.branches, ids.tags, ids.commits[:-4] + "0000"))
    with pytest.raises(Invalid, match="no branches"):
        dump.restore(lake, "bare", RefsDump(ids.tags, ids.branches, ids.commits))
    with pytest.raises(Invalid, match="one dump"):
        dump.restore(lake, "bare", RefsDump("a", "b", "c"))
    file = lake.stores.own.folder / repository.record.storage / "_tulle/dumps" / ids.tags.rpartition(".")[2]
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(Broken, match="damaged"):
        dump.restore(lake, "bare", ids)
    assert lake.repository("bare").branches() == []


def test_both_as_tasks(lake, repository):
    id_ = dump.ask(lake, dump.DUMP, "sales")
    assert not dump.status(lake, dump.DUMP, "sales", id_).done
    assert tasks.run_one(lake.database, dump.handlers(lake), "me")
    found = dump.status(lake, dump.DUMP, "sales", id_)
    assert found.done
    assert found.refs == dump.dump(lake, "sales")
    with pytest.raises(NotFound):
        dump.status(lake, dump.RESTORE, "sales", id_)
    lake.delete_repository("sales")
    lake.create_repository("bare", bare=True)
    id_ = dump.ask(lake, dump.RESTORE, "bare", found.refs)
    assert tasks.run_one(lake.database, dump.handlers(lake), "me")
    assert dump.status(lake, dump.RESTORE, "bare", id_).done
    assert dump.status(lake, dump.RESTORE, "bare", id_).error is None
    assert lake.repository("bare").get("main", "a") == b"one"
