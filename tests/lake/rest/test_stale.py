"""Branches that failed runs left, over HTTP."""

import pytest
from tests.lake.test_stale import age

from tulle.lake.access import people
from tulle.lake.dag import run_branch

PATH = "/repositories/sales/stale_branches"
WEEK = 7 * 86_400


def test_they_are_listed_and_removed(client, sales):
    run_branch(sales, "main", "old")
    run_branch(sales, "main", "new")
    sales.create_branch("try-1")
    for name in ("run-old", "try-1"):
        age(sales, name, 8)
    (found,) = client.call("GET", PATH, seconds=WEEK).json["results"]
    assert (found["id"], found["kept"], found["uncommitted"]) == ("run-old", "", False)
    assert found["commit_id"] == sales.resolve("main")
    assert [b["id"] for b in client.call("GET", PATH, seconds=WEEK, prefix="try").json["results"]] == [
        "try-1"
    ]
    (gone,) = client.call("DELETE", PATH, seconds=WEEK).json["results"]
    assert (gone["id"], gone["removed"]) == ("run-old", True)
    assert [branch.name for branch in sales.branches()] == ["main", "run-new", "try-1"]
    assert sales.reflog("run-old")[0].actor == "admin"


@pytest.mark.parametrize("seconds", ["", "-1", "60", "7d", "9" * 13, "¾"])
def test_the_time_is_checked(client, sales, seconds):
    assert client.call("DELETE", PATH, seconds=seconds).status == 400


def test_who_may_not_delete_a_branch_leaves_it(client, access, sales):
    for name in ("old", "older"):
        run_branch(sales, "main", name)
        age(sales, f"run-{name}", 8)
    resource = "arn:lakefs:fs:::repository/sales"
    statements = [
        {"effect": "allow", "action": ["fs:ListBranches"], "resource": resource},
        {"effect": "allow", "action": ["fs:DeleteBranch"], "resource": f"{resource}/branch/run-older"},
    ]

    def allow(cx):
        people.add_user(cx, "ann")
        people.add_policy(cx, "anns", statements)
        people.attach(cx, "anns", "user", "ann")

    access.change("admin", "test", "user/ann", allow)
    key = access.create_key("admin", "ann")
    client.credentials = (key.id, key.secret)
    done = client.call("DELETE", PATH, seconds=WEEK).json["results"]
    assert [(b["id"], b["removed"], b["kept"]) for b in done] == [
        ("run-old", False, "you may not delete it"),
        ("run-older", True, ""),
    ]
