"""Who may read one branch does not come to read another by branching, merging, resetting or tagging."""

import threading

import pytest

from tulle.lake.access import people

TOP = "arn:lakefs:fs:::repository/sales"


@pytest.fixture
def ann(client, access, sales):
    """Works on branches that begin with dev and reads nothing else."""
    sales.create_branch("dev")
    sales.put("main", "secret", b"s")
    sales.commit("main", "secret")
    statements = [
        {
            "effect": "allow",
            "action": ["fs:ReadRepository", "fs:List*", "fs:ReadCommit", "pr:*"],
            "resource": "*",
        },
        {"effect": "allow", "action": ["fs:*Branch", "fs:CreateCommit"], "resource": f"{TOP}/branch/dev*"},
        {"effect": "allow", "action": ["fs:*Object"], "resource": f"{TOP}/branch/dev*"},
        {"effect": "allow", "action": ["fs:CreateTag"], "resource": f"{TOP}/tag/*"},
    ]
    with access.database.write() as cx:
        people.add_user(cx, "ann")
        people.add_policy(cx, "dev", statements)
        people.attach(cx, "dev", "user", "ann")
    key = access.create_key("admin", "ann")
    return type(client)(client.door, client.app, (key.id, key.secret))


def test_the_ways_round_are_closed(ann, sales):
    head = sales.resolve("main")
    branches = "/repositories/sales/branches"
    for source in ("main", "main~0", head, head[:12]):
        assert ann.post(branches, json={"name": "dev-2", "source": source}).status == 403
        assert ann.put(f"{branches}/dev/hard_reset", ref=source).status == 403
        assert ann.post(f"{branches}/dev/cherry-pick", json={"ref": source}).status == 403
        assert ann.post(f"/repositories/sales/refs/{source}/merge/dev", json={}).status == 403
    asked = ann.post(
        "/repositories/sales/pulls",
        json={"title": "t", "source_branch": "main", "destination_branch": "dev"},
    )
    assert asked.status == 201
    assert ann.put(f"/repositories/sales/pulls/{asked.json['id']}/merge").status == 403
    assert ann.post("/repositories/sales/tags", json={"id": "dev-tag", "ref": "main"}).status == 403
    assert ann.get("/repositories/sales/refs/main/objects", path="secret").status == 403


def test_what_is_ones_own_goes_on(ann, sales):
    sales.put("dev", "x", b"1")
    made = sales.commit("dev", "x")
    branches = "/repositories/sales/branches"
    assert ann.post(branches, json={"name": "dev-2", "source": "dev"}).status == 201
    assert ann.post(f"{branches}/dev/revert", json={"ref": made.id, "parent_number": 0}).status == 204
    assert ann.put(f"{branches}/dev/hard_reset", ref=made.id).status == 204
    assert ann.post("/repositories/sales/refs/dev/merge/dev-2", json={}).status == 400  # nothing to merge
    assert ann.post("/repositories/sales/tags", json={"id": "v1", "ref": "main"}).status == 201
    assert ann.get("/repositories/sales/refs/v1/objects", path="secret").status == 403
    assert ann.get("/repositories/sales/refs/dev-2/objects", path="x").status == 200


def test_repositories_one_may_not_read_are_not_listed(client, ann, lake, access):
    with access.database.write() as cx:
        statement = {
            "effect": "deny",
            "action": ["fs:ReadRepository"],
            "resource": "arn:lakefs:fs:::repository/b*",
        }
        people.add_policy(cx, "no-b", [statement])
        people.attach(cx, "no-b", "user", "ann")
    for name in ("aaa", "bbb", "bbc", "bbd", "ccc"):
        lake.create_repository(name)
    seen, after = [], ""
    while True:
        page = ann.get("/repositories", amount=1, after=after).json
        seen += [found["id"] for found in page["results"]]
        after = page["pagination"]["next_offset"]
        if not page["pagination"]["has_more"]:
            break
    assert seen == ["aaa", "ccc", "sales"]
    assert len(client.get("/repositories").json["results"]) == 6
    denied = client.get("/audit").json
    assert "bbb" not in str(denied)


def test_a_denial_is_written_down_where_nobody_waits_for_it(ann, sales, access, monkeypatch):
    where = []
    write = type(access).audit

    def noted(self, *arguments, **more):
        where.append(threading.current_thread().name)
        write(self, *arguments, **more)

    monkeypatch.setattr(type(access), "audit", noted)
    assert ann.get("/repositories/sales/refs/main/objects", path="secret").status == 403
    assert where
    assert all(name != threading.main_thread().name for name in where)
