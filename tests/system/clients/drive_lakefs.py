"""The high-level Python client `lakefs`, configured by .tulle/lakectl.yaml alone."""

import os

import lakefs
from awkward import KEYS, LARGE, content, refused
from lakefs.client import Client
from lakefs.exceptions import (
    BadRequestException,
    ConflictException,
    ForbiddenException,
    NotAuthorizedException,
    NotFoundException,
    ObjectExistsException,
    ObjectNotFoundException,
)

# ── repositories ─────────────────────────────────────────────────────────────────────────────────────────
name = os.environ["REPOSITORY"]
repo = lakefs.repository(name).create(storage_namespace=f"local://{name}", default_branch="main")
assert repo.properties.default_branch == "main"
assert lakefs.repository(name).create(storage_namespace=f"local://{name}", exist_ok=True).id == name
with refused(ConflictException):
    lakefs.repository(name).create(storage_namespace=f"local://{name}-again")
assert name in [found.id for found in lakefs.repositories(prefix=name[:4])]
assert repo.metadata == {}
with refused(NotFoundException):
    _ = lakefs.repository("no-such-repository").properties
assert tuple(map(int, lakefs.client.Client().version.split("."))) >= (1, 3, 1)

# ── objects ──────────────────────────────────────────────────────────────────────────────────────────────
work = repo.branch("work").create("main")
assert repo.branch("work").create("main", exist_ok=True).id == "work"
with refused(ConflictException):
    repo.branch("work").create("main")
for key in KEYS:
    work.object(key).upload(data=content(key), content_type="text/x-test", metadata={"Origin": "a test"})
    assert work.object(key).exists()
    assert work.object(key).reader().read() == content(key)
    about = work.object(key).stat()
    assert (about.path, about.size_bytes, about.content_type) == (key, len(content(key)), "text/x-test")
    assert {k.lower(): v for k, v in about.metadata.items()} == {"origin": "a test"}
assert [o.path for o in work.objects()] == sorted(KEYS, key=str.encode)
assert not work.object("no such thing").exists()
with refused(ObjectNotFoundException, FileNotFoundError):
    work.object("no such thing").reader().read()
with refused(ObjectExistsException, FileExistsError):
    work.object(KEYS[0]).upload(data=b"again", mode="xb")
work.object("new").upload(data=b"first", mode="xb")
work.object("new").delete()
assert not work.object("new").exists()

work.object("large.bin").upload(data=LARGE)
with work.object("large.bin").reader() as stream:
    stream.seek(5_000_000)
    assert stream.read(1000) == LARGE[5_000_000:5_001_000]
    stream.seek(-10, os.SEEK_END)
    assert stream.read() == LARGE[-10:]
with work.object("lines.txt").writer("w") as sink:
    sink.write("one\n")
    sink.write("zwei\n")
assert list(work.object("lines.txt").reader("r")) == ["one\n", "zwei\n"]
copied = work.object("large.bin").copy("work", "copies/large.bin")
assert copied.stat().checksum == work.object("large.bin").stat().checksum

# ── listing: more than a page, folders ───────────────────────────────────────────────────────────────────
for number in range(120):
    work.object(f"many/{number:03}").upload(data=b"x")
assert [o.path for o in work.objects(prefix="many/")] == [f"many/{n:03}" for n in range(120)]
assert next(iter(work.objects(prefix="many/", after="many/100", max_amount=5))).path == "many/101"
folders = [item.path for item in work.objects(delimiter="/") if type(item).__name__ == "CommonPrefix"]
assert "many/" in folders
work.delete_objects([f"many/{n:03}" for n in range(100)])
assert len(list(work.objects(prefix="many/"))) == 20

# ── history ──────────────────────────────────────────────────────────────────────────────────────────────
assert {change.type for change in work.uncommitted()} == {"added"}
first = work.commit("Everything", metadata={"by": "a test"})
assert list(work.uncommitted()) == []
made = first.get_commit()
assert (made.message, made.metadata) == ("Everything", {"by": "a test"})
with refused(BadRequestException):
    work.commit("Nothing")
main = repo.branch("main")
assert len(list(main.diff(work))) == len(KEYS) + 3 + 20
merged = work.merge_into(main)
assert repo.ref(merged).get_commit().id == main.get_commit().id
assert main.object(KEYS[1]).reader().read() == content(KEYS[1])
assert list(main.diff(work)) == []
assert [c.message for c in main.log(max_amount=3)][1] == "Everything"
tag = repo.tag("v1.0").create("main")
assert tag.get_commit().id == main.get_commit().id
with refused(ConflictException):
    repo.tag("v1.0").create("work")
assert [t.id for t in repo.tags()] == ["v1.0"]
assert {b.id for b in repo.branches()} == {"main", "work"}

work.object("both").upload(data=b"work")
work.commit("Work's")
main.object("both").upload(data=b"main")
with refused(BadRequestException):
    work.merge_into(main)  # what is staged on main stands in the way
main.commit("Main's")
with refused(ConflictException):
    work.merge_into(main)
work.merge_into(main, strategy="source-wins")
assert main.object("both").reader().read() == b"work"
main.revert(main.head, parent_number=1)
assert main.object("both").reader().read() == b"main"
picked = repo.branch("picked").create("v1.0").cherry_pick(main.id + "~2")
assert picked.message
main.object("oops").upload(data=b"x")
main.reset_changes()
assert not main.object("oops").exists()

with main.transact(commit_message="All or nothing") as tx:
    tx.object("tx/1").upload(data=b"1")
    tx.object("tx/2").upload(data=b"2")
assert [o.path for o in main.objects(prefix="tx/")] == ["tx/1", "tx/2"]
assert main.get_commit().message.startswith("Merge") or main.get_commit().message == "All or nothing"

# ── refusals ─────────────────────────────────────────────────────────────────────────────────────────────
with refused(BadRequestException):
    repo.branch("no/slash").create("main")
with refused(NotFoundException):
    repo.branch("x").create("no-such-branch")
with refused(ForbiddenException, BadRequestException):
    main.delete()
with refused(NotAuthorizedException):
    stranger = Client(host=os.environ["LAKEFS_ENDPOINT"], username="AKIAJNOBODY", password="wrong")
    _ = lakefs.repository(name, client=stranger).properties
work.delete()
with refused(NotFoundException):
    work.get_commit()

# ── import without copying ───────────────────────────────────────────────────────────────────────────────
if outside := os.environ.get("OUTSIDE"):
    status = main.import_data("Imported").prefix(outside, "imported/").run()
    assert status.completed
    assert [o.path for o in main.objects(prefix="imported/")] == ["imported/a b.txt", "imported/sub/c%+.txt"]
    assert main.object("imported/a b.txt").reader().read() == b"outside 1"

repo.delete()
with refused(NotFoundException):
    _ = repo.metadata
print("done")
