"""Users, groups, policies and keys over REST; every answer is held against lakeFS's document by the client."""

import pytest
from tests.lake.rest.calling import Client, path_of

from tulle.lake.access import people
from tulle.lake.rest import auth
from tulle.state import log

READ = {"effect": "allow", "action": ["fs:Read*"], "resource": "arn:lakefs:fs:::repository/sales*"}


@pytest.fixture
def ann(client):
    """A client of the new user ann, who may do nothing."""
    assert client.post("/auth/users", json={"id": "ann"}).status == 201
    made = client.post("/auth/users/ann/credentials").json
    return Client(client.door, client.app, (made["access_key_id"], made["secret_access_key"]))


def test_who_calls(client, ann):
    assert ann.get("/user").json["user"]["id"] == "ann"
    for credentials in ("mesh-token", client.credentials):
        assert Client(client.door, client.app, credentials).get("/user").json["user"]["id"] == "admin"
    assert Client(client.door, client.app, None).get("/user").status == 401


def test_a_token_is_got_with_a_key_and_ends_with_it(client, ann):
    stranger = Client(client.door, client.app, None)
    key, secret = ann.credentials
    body = {"access_key_id": key, "secret_access_key": secret}
    answer = stranger.post("/auth/login", json=body)
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
    holder = Client(client.door, client.app, answer.json["token"])
    assert holder.get("/user").json["user"]["id"] == "ann"
    assert client.delete(f"/auth/users/ann/credentials/{key}").status == 204
    assert holder.get("/user").status == 401
    assert ann.get("/user").status == 401
    refused = stranger.post("/auth/login", json=body)
    assert (refused.status, secret in refused.message) == (401, False)
    assert stranger.post("/auth/login", json={}).status == 400


def test_users_come_and_go(client, ann):
    assert client.get("/auth/users/ann").json["id"] == "ann"
    assert [user["id"] for user in client.get("/auth/users").json["results"]] == ["admin", "ann"]
    assert client.post("/auth/users", json={"id": "ann"}).status == 409
    assert client.post("/auth/users", json={"id": "a/b"}).status == 400
    assert client.post("/auth/users", json={"id": "bob", "invite_user": True}).status == 501
    assert client.post("/auth/users", json={}).status == 400
    assert client.delete("/auth/users/ann").status == 204
    assert client.delete("/auth/users/ann").status == 404
    assert client.get("/auth/users/ann").status == 404
    assert ann.get("/user").status == 401


def test_lists_are_pages(client):
    for name in ["u1", "u2", "u3"]:
        client.post("/auth/users", json={"id": name})
    first = client.get("/auth/users", prefix="u", amount=2).json
    assert [user["id"] for user in first["results"]] == ["u1", "u2"]
    assert first["pagination"] == {"has_more": True, "next_offset": "u2", "results": 2, "max_per_page": 1000}
    rest = client.get("/auth/users", prefix="u", amount=2, after="u2").json
    assert [user["id"] for user in rest["results"]] == ["u3"]
    assert rest["pagination"]["has_more"] is False


def test_a_secret_is_told_once(client, ann, access):
    key, secret = ann.credentials
    found = client.get("/auth/users/ann/credentials").json["results"]
    assert [each["access_key_id"] for each in found] == [key]
    one = client.get(f"/auth/users/ann/credentials/{key}")
    assert one.json["access_key_id"] == key
    assert secret.encode() not in one.body
    assert client.get("/auth/users/admin/credentials/" + key).status == 404
    assert client.delete("/auth/users/admin/credentials/" + key).status == 404
    assert client.post("/auth/users/nobody/credentials").status == 404
    assert secret not in str(log.read(access.database, limit=1000))


def test_a_key_may_be_made_for_a_while(client, ann):
    made = client.post("/auth/users/ann/credentials", expires_in=3600).json
    assert made["expiration_date"] - made["creation_date"] in {3599, 3600, 3601}
    assert client.post("/auth/users/ann/credentials", expires_in=0).status == 400


def test_groups_and_members(client, ann):
    made = client.post("/auth/groups", json={"id": "team", "description": "us"})
    assert (made.status, made.json["description"]) == (201, "us")
    assert client.post("/auth/groups", json={"id": "team"}).status == 409
    assert "team" in [group["id"] for group in client.get("/auth/groups").json["results"]]
    assert client.put("/auth/groups/team/members/ann").status == 201
    assert client.put("/auth/groups/team/members/nobody").status == 404
    assert client.put("/auth/groups/nothing/members/ann").status == 404
    assert [user["id"] for user in client.get("/auth/groups/team/members").json["results"]] == ["ann"]
    assert [group["id"] for group in client.get("/auth/users/ann/groups").json["results"]] == ["team"]
    assert client.delete("/auth/groups/team/members/ann").status == 204
    assert client.delete("/auth/groups/team/members/ann").status == 404
    assert client.get("/auth/groups/team").json["id"] == "team"
    assert client.delete("/auth/groups/team").status == 204
    assert client.get("/auth/groups/team").status == 404


def test_policies_are_made_changed_and_attached(client, ann, sales):
    listing = "/repositories/sales"
    assert ann.get(listing).status == 403
    made = client.post("/auth/policies", json={"id": "readers", "statement": [READ]})
    assert (made.status, made.json["statement"]) == (201, [READ])
    assert client.post("/auth/policies", json={"id": "readers", "statement": [READ]}).status == 409
    assert client.put("/auth/users/ann/policies/readers").status == 201
    assert ann.get(listing).status == 200
    deny = {**READ, "effect": "deny", "condition": {"IpAddress": {"SourceIp": ["127.0.0.0/8"]}}}
    changed = client.put("/auth/policies/readers", json={"id": "readers", "statement": [READ, deny]})
    assert (changed.status, changed.json["statement"]) == (200, [READ, deny])
    assert ann.get(listing).status == 403
    assert client.put("/auth/policies/readers", json={"id": "other", "statement": [READ]}).status == 400
    assert client.put("/auth/policies/nothing", json={"id": "nothing", "statement": [READ]}).status == 404
    client.put("/auth/policies/readers", json={"id": "readers", "statement": [READ]})
    assert client.delete("/auth/users/ann/policies/readers").status == 204
    assert client.delete("/auth/users/ann/policies/readers").status == 404
    assert ann.get(listing).status == 403
    client.post("/auth/groups", json={"id": "team"})
    client.put("/auth/groups/team/members/ann")
    assert client.put("/auth/groups/team/policies/readers").status == 201
    assert ann.get(listing).status == 200
    assert client.get("/auth/users/ann/policies").json["results"] == []
    effective = client.get("/auth/users/ann/policies", effective=True).json["results"]
    assert [policy["id"] for policy in effective] == ["readers"]
    assert [p["id"] for p in client.get("/auth/groups/team/policies").json["results"]] == ["readers"]
    assert client.delete("/auth/groups/team/policies/readers").status == 204
    assert client.get("/auth/policies/readers").json["statement"] == [READ]
    assert client.delete("/auth/policies/readers").status == 204
    assert client.get("/auth/policies/readers").status == 404


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (None, "has no statement"),
        ([{**READ, "effect": "maybe"}], "effect is 'maybe'"),
        ([{**READ, "action": ["nonsense"]}], "is no action"),
        ([{**READ, "condition": {"StringLike": {"a": ["b"]}}}], "'StringLike' is not known"),
    ],
)
def test_a_policy_that_is_none_is_refused_with_the_reason(client, statement, message):
    answer = client.post("/auth/policies", json={"id": "p", "statement": statement})
    assert (answer.status, message in answer.message) == (400, True)


def test_lakefs_simple_permissions_of_a_group(client, ann, sales):
    client.post("/auth/groups", json={"id": "team"})
    client.put("/auth/groups/team/members/ann")
    none = client.get("/auth/groups/team/acl")
    assert (none.status, none.json["no_acl"]) == (404, True)
    for permission, reads, makes in [
        ("Read", 200, 403),
        ("Write", 200, 201),
        ("Admin", 200, 201),
        ("Super", 200, 201),
    ]:
        assert client.post("/auth/groups/team/acl", json={"permission": permission}).status == 201
        assert client.get("/auth/groups/team/acl").json == {"permission": permission}
        assert ann.get("/repositories/sales").status == reads
        made = ann.post("/repositories/sales/branches", json={"name": f"b-{permission}", "source": "main"})
        assert made.status == makes
    assert ann.get("/auth/users").status == 403  # not what Admin gave before Super
    assert client.post("/auth/groups/team/acl", json={"permission": "Some"}).status == 400
    assert client.post("/auth/groups/none/acl", json={"permission": "Read"}).status == 404


def test_everybody_may_manage_their_own_keys_where_that_is_given(client, ann):
    assert ann.post("/auth/users/ann/credentials").status == 403
    client.put("/auth/users/ann/policies/AuthManageOwnCredentials")
    assert ann.post("/auth/users/ann/credentials").status == 201
    assert ann.post("/auth/users/admin/credentials").status == 403


def test_who_may_nothing_is_refused_everything(client, ann):
    names = {"userId": "admin", "groupId": "Admins", "policyId": "FSFullAccess", "accessKeyId": "x"}
    free = {"getCurrentUser"}
    body = {"id": "new", "permission": "Admin", "statement": []}
    answers = {
        route.operation: ann.call(route.method, path_of(route.path, **names), json=body).status
        for route in auth.ROUTES
        if not route.public and route.operation not in free
    }
    assert answers == dict.fromkeys(answers, 403)
    assert len(answers) == 29


def test_a_new_mesh_is_set_up_already(client):
    stranger = Client(client.door, client.app, None)
    assert stranger.get("/setup_lakefs").json["state"] == "initialized"
    assert stranger.post("/setup_lakefs", json={"username": "eve"}).status == 409
    preferences = {"featureUpdates": False, "securityUpdates": False}
    assert stranger.post("/setup_comm_prefs", json=preferences).status == 200
    assert stranger.get("/auth/capabilities").json == {"invite_user": False, "forgot_password": False}


def test_changes_are_in_the_trail_under_the_callers_name(client, access):
    client.post("/auth/users", json={"id": "bob"})
    client.post("/auth/policies", json={"id": "p", "statement": [READ]})
    client.put("/auth/users/bob/policies/p")
    client.put("/auth/groups/Viewers/members/bob")
    entries = log.read(access.database, limit=4, newest_first=True)
    assert [(entry.kind, entry.subject, entry.actor) for entry in reversed(entries)] == [
        ("access.user_created", "user/bob", "admin"),
        ("access.policy_created", "policy/p", "admin"),
        ("access.policy_attached", "user/bob", "admin"),
        ("access.member_added", "group/Viewers", "admin"),
    ]
    assert [user.id for user in access.read(lambda cx: people.members(cx, "Viewers"))] == ["bob"]
