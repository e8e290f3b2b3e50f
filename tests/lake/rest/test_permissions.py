"""Nothing is done for somebody who may not do it, and what is refused does not tell what there is."""

import pytest
from tests.lake.rest.calling import path_of

from tulle.lake.access import people
from tulle.lake.rest.router import all_routes

R = "/repositories/sales"
EVERYTHING = {
    "name": "brand-new",
    "storage_namespace": "",
    "source": "main",
    "id": "new",
    "ref": "main",
    "parent_number": 0,
    "type": "reset",
    "message": "m",
    "metadata": {},
    "keys": [],
    "paths": [],
    "commit": {"message": "m"},
    "src_path": "b.txt",
    "dest_path": "c.txt",
    "physical_address": "x://y",
    "checksum": "c",
    "size_bytes": 1,
    "staging": {},
    "parts": [],
    "copy_source": {"repository": "sales", "ref": "main", "path": "b.txt"},
    "set": {},
    "pattern": "x",
    "read_only": False,
    "default_retention_days": 1,
    "branches": [],
    "title": "t",
    "source_branch": "try",
    "destination_branch": "main",
}
NAMES = dict.fromkeys(
    ["branch", "ref", "leftRef", "rightRef", "commitId", "sourceRef", "destinationBranch"], "main"
) | {"repository": "sales"}
FREE = {"postStatsEvents"}  # takes what it is given and keeps nothing


@pytest.fixture
def ann(client, access):
    """A client of a user who may do nothing yet, and what lets her."""
    access.change("admin", "test", "user/ann", lambda cx: people.add_user(cx, "ann"))
    key = access.create_key("admin", "ann")
    client.credentials = (key.id, key.secret)

    def allow(*statements):
        def work(cx):
            people.add_policy(cx, "anns", list(statements))
            people.attach(cx, "anns", "user", "ann")

        access.change("admin", "test", "user/ann", work)

    client.allow = allow
    return client


def allowed(effect, actions, resource):
    return {"effect": effect, "action": actions, "resource": resource}


def lake_routes():
    module = "tulle.lake.rest."
    others = {f"{module}{name}" for name in ("auth", "unsupported")}
    return [route for route in all_routes() if not route.public and route.handler.__module__ not in others]


def test_who_may_nothing_is_refused_everything(ann, sales):
    routes = [route for route in lake_routes() if route.operation not in FREE]
    answers = {route.operation: called(ann, route) for route in routes}
    removed = answers.pop("deleteObjects")
    assert removed.json == {"errors": []}  # refused path by path, below
    assert {name: answer.status for name, answer in answers.items()} == dict.fromkeys(answers, 403)
    assert len(answers) > 70


def called(client, route):
    path = path_of(route.path, **NAMES)
    path = path.replace("{partNumber}", "1").replace("{", "").replace("}", "")
    body = [{"pattern": "x"}] if route.operation == "setBranchProtectionRules" else EVERYTHING
    query = {"id": "1", "task_id": "1", "ref": "main", "path": "b.txt", "dest_path": "c"}
    sent = None if route.method in {"GET", "HEAD"} else body
    return client.call(route.method, path, json=sent, **query)


def test_a_policy_lets_a_user_read_below_a_prefix(ann, sales):
    ann.allow(allowed("allow", ["fs:ReadObject"], "arn:lakefs:fs:::repository/sales/object/a/*"))
    assert ann.get(f"{R}/refs/main/objects", path="a/1.txt").status == 200
    assert ann.get(f"{R}/refs/main/objects", path="b.txt").status == 403
    assert ann.get(f"{R}/refs/main/objects/stat", path="a/nothing").status == 404
    assert ann.get(f"{R}/refs/main/objects/ls").status == 403


def test_a_listing_signs_only_what_may_be_read(ann, sales):
    ann.allow(
        allowed("allow", ["fs:ReadObject"], "arn:lakefs:fs:::repository/sales/object/a/*"),
        allowed("allow", ["fs:ListObjects"], "arn:lakefs:fs:::repository/sales"),
    )
    first, second = ann.get(f"{R}/refs/main/objects/ls", presign=True).json["results"]
    assert first["physical_address"].startswith("http://lake.test:8080/api/v1/signed/")
    assert second["physical_address"].startswith("local://")


def test_many_removals_are_refused_one_by_one(ann, sales):
    ann.allow(allowed("allow", ["fs:DeleteObject"], "arn:lakefs:fs:::repository/sales/object/a/*"))
    answer = ann.post(f"{R}/branches/main/objects/delete", json={"paths": ["a/1.txt", "b.txt"]})
    assert [(error["path"], error["status_code"]) for error in answer.json["errors"]] == [("b.txt", 403)]
    assert sales.exists("main", "b.txt")
    assert not sales.exists("main", "a/1.txt")


def test_a_policy_of_a_branch_holds_on_that_branch(ann, sales):
    sales.create_branch("try", "main")
    ann.allow(
        allowed("allow", ["fs:*"], "*"),
        allowed("deny", ["fs:CreateCommit"], "arn:lakefs:fs:::repository/sales/branch/main"),
    )
    body = {"message": "m", "allow_empty": True}
    assert ann.post(f"{R}/branches/main/commits", json=body).status == 403
    assert ann.post(f"{R}/branches/try/commits", json=body).json["committer"] == "ann"
    assert ann.post(f"{R}/refs/try/merge/main", json={}).status == 403


def test_a_repository_is_made_where_both_are_allowed(ann):
    body = {"name": "anns-own", "storage_namespace": "local://anns"}
    ann.allow(
        allowed("allow", ["fs:CreateRepository"], "arn:lakefs:fs:::repository/anns-*"),
        allowed("allow", ["fs:AttachStorageNamespace"], "arn:lakefs:fs:::namespace/local://anns*"),
    )
    assert ann.post("/repositories", json=body).status == 201
    assert ann.post("/repositories", json={**body, "name": "other"}).status == 403
    assert ann.post("/repositories", json={**body, "storage_namespace": "local://other"}).status == 403
