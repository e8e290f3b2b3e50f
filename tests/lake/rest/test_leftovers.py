"""Collections of what deleted repositories left, as callers ask for them."""

from sqlalchemy import update

from tulle.lake import leftovers
from tulle.lake.access import people
from tulle.state import tasks


def test_it_is_asked_for_run_and_told(client, lake, sales):
    storage = sales.record.storage
    lake.delete_repository("sales")
    answer = client.call("POST", "/gc/deleted/runs", json={"dry_run": True})
    assert answer.status == 202
    id_ = answer.json["id"]
    assert client.call("POST", "/gc/deleted/runs", json={}).status == 409
    assert tasks.run_one(lake.database, leftovers.handlers(lake), "me")
    found = client.call("GET", f"/gc/deleted/runs/{id_}").json
    assert (found["status"], found["dry_run"], found["storages"], found["left"]) == ("done", True, 1, {})
    leftovers.collect(lake, grace_seconds=0)
    first = client.call("GET", "/gc/deleted/runs").json["results"][0]
    assert first["removed"]["data"]["count"] == 2
    assert first["removed"]["data"]["samples"][0].startswith(f"{storage}/data/")
    assert client.call("GET", "/gc/deleted/runs/none").status == 404


def test_what_it_met_is_told(client, lake):
    id_ = client.call("POST", "/gc/deleted/runs", json={}).json["id"]
    with lake.database.write() as cx:
        error = {"kind": "broken", "message": "a manifest is missing"}
        cx.execute(update(tasks.tasks).where(tasks.tasks.c.id == id_).values(status="failed", error=error))
    found = client.call("GET", f"/gc/deleted/runs/{id_}").json
    assert (found["status"], found["error"]) == ("failed", "a manifest is missing")


def test_rights_to_one_repository_are_not_enough(client, access, sales):
    access.change("admin", "test", "user/ann", lambda cx: people.add_user(cx, "ann"))
    statement = {"effect": "allow", "action": ["retention:*"], "resource": "arn:lakefs:fs:::repository/sales"}

    def allow(cx):
        people.add_policy(cx, "anns", [statement])
        people.attach(cx, "anns", "user", "ann")

    access.change("admin", "test", "user/ann", allow)
    key = access.create_key("admin", "ann")
    client.credentials = (key.id, key.secret)
    assert client.call("POST", "/repositories/sales/gc/runs", json={"dry_run": True}).status == 202
    assert client.call("POST", "/gc/deleted/runs", json={"dry_run": True}).status == 403
