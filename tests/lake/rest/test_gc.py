import time

import pytest

from tulle.lake import collect, dump
from tulle.state import tasks

RULES = {"default_retention_days": 7, "branches": [{"branch_id": "main", "retention_days": 30}]}


@pytest.mark.parametrize("path", ["settings/gc_rules", "gc/rules"])
def test_rules_are_set_read_and_removed(client, sales, path):
    url = f"/repositories/sales/{path}"
    assert client.call("GET", url).status == 404
    method = "PUT" if "settings" in path else "POST"
    assert client.call(method, url, json=RULES).status == 204
    assert client.call("GET", url).json == RULES
    assert sales.retention() == RULES
    assert client.call(method, url, json={"default_retention_days": 0, "branches": []}).status == 400
    assert client.call("DELETE", url).status == 204
    assert client.call("GET", url).status == 404
    assert client.call("GET", "/repositories/sales/gc/rules/set_allowed").status == 204


def test_a_collection_runs_and_is_told(client, lake, sales):
    orphan = sales.put("main", "x", b"orphan").address
    sales.reset("main")
    answer = client.call("POST", "/repositories/sales/gc/runs", json={"dry_run": True})
    assert answer.status == 202
    id_ = answer.json["id"]
    assert client.call("POST", "/repositories/sales/gc/runs", json={}).status == 409
    assert tasks.run_one(lake.database, collect.handlers(lake), "me")
    found = client.call("GET", f"/repositories/sales/gc/runs/{id_}").json
    assert (found["status"], found["dry_run"], found["removed"]) == ("done", True, {})
    collect.collect(lake, "sales", grace_seconds=0)
    first = client.call("GET", "/repositories/sales/gc/runs").json["results"][0]
    assert first["removed"]["data"]["samples"] == [orphan]
    assert client.call("GET", "/repositories/sales/gc/runs/none").status == 404


def test_what_retention_collected_is_gone(client, lake, sales):
    for days in (40, 20, 10):
        sales.put("main", "b.txt", str(days).encode())
        sales.commit("main", "c", date=time.time() - days * 86_400)
    old = sales.resolve("main~2")
    sales.set_retention({"default_retention_days": 7, "branches": []})
    collect.collect(lake, "sales", grace_seconds=0)
    answer = client.call("GET", f"/repositories/sales/refs/{old}/objects", path="b.txt")
    assert answer.status == 410
    assert "collected by retention on" in answer.message
    assert client.call("GET", f"/repositories/sales/commits/{old}").status == 200
    assert client.call("GET", "/repositories/sales/refs/main/objects", path="b.txt").body == b"10"


@pytest.mark.parametrize("path", ["prepare_commits", "prepare_commits/async", "prepare_uncommited"])
def test_jobs_that_would_remove_by_themselves_are_refused(client, sales, path):
    assert client.call("POST", f"/repositories/{sales.name}/gc/{path}", json={}).status == 501


def test_the_grace_is_told(client):
    assert client.call("GET", "/config/garbage-collection").json == {"grace_period": 86_400}


def test_refs_are_dumped_and_restored(client, lake, sales):
    ids = client.call("PUT", "/repositories/sales/refs/dump")
    assert ids.status == 201
    task = client.call("POST", "/repositories/sales/dump")
    assert task.status == 202
    assert tasks.run_one(lake.database, dump.handlers(lake), "me")
    status = client.call("GET", "/repositories/sales/dump", task_id=task.json["id"])
    assert status.json["refs"] == ids.json
    lake.delete_repository("sales")
    lake.create_repository("bare", bare=True)
    assert client.call("PUT", "/repositories/bare/refs/restore", json=ids.json).status == 200
    assert client.call("GET", "/repositories/bare/refs/main/objects", path="b.txt").body == b"two"
    assert client.call("PUT", "/repositories/bare/refs/restore", json=ids.json).status == 409
    for force in (False, True):
        task = client.call("POST", "/repositories/bare/restore", json={**ids.json, "force": force})
        assert task.status == 202
        assert tasks.run_one(lake.database, dump.handlers(lake), "me")
        status = client.call("GET", "/repositories/bare/restore", task_id=task.json["id"])
        assert status.json["done"]
        assert force or "commits already" in status.json["error"]
        assert ("error" in status.json) is not force


def test_metadata_objects_are_told_and_read(client, lake, sales):
    sales.fold("main")
    manifest = sales.reader.content(sales.resolve("main")).manifest
    url = client.call("GET", f"/repositories/sales/metadata/meta_range/{manifest.base.id}")
    assert url.json["location"].startswith("local:///")
    commit = client.call("GET", f"/repositories/sales/metadata/meta_range/{manifest.commit.id}")
    assert "manifests" in commit.json["location"]
    (range_,) = sales.reader.runs.metarange(manifest.base.id).ids
    assert client.call("GET", f"/repositories/sales/metadata/range/{range_}").status == 200
    body = client.call("GET", f"/repositories/sales/metadata/object/range/{range_}").body
    assert body.startswith(b"ARROW1")
    assert client.call("GET", f"/repositories/sales/metadata/object/range/{'0' * 64}").status == 404
    assert client.call("GET", "/repositories/sales/metadata/range/..%2f").status == 400
