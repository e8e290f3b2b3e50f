import pytest


def created(client, name="sales", **rest):
    return client.post("/repositories", json={"name": name, "storage_namespace": "", **rest})


def test_a_repository_comes_and_goes(client, lake):
    answer = created(client, default_branch="trunk")
    assert answer.status == 201
    assert answer.json["default_branch"] == "trunk"
    assert answer.json["storage_namespace"].startswith("local://")
    assert answer.json["read_only"] is False
    assert client.get("/repositories/sales").json == answer.json
    assert created(client).status == 409
    assert client.delete("/repositories/sales").status == 204
    assert client.get("/repositories/sales").status == 404
    assert client.delete("/repositories/sales").status == 404


def test_a_bare_repository_has_no_branch(client):
    answer = client.post("/repositories", json={"name": "bare", "storage_namespace": ""}, bare=True)
    assert answer.status == 201
    assert client.get("/repositories/bare/branches").json["results"] == []


def test_sample_data_is_committed(client, lake):
    assert created(client, "sample", sample_data=True, read_only=True).json["read_only"] is True
    repository = lake.repository("sample")
    assert {entry.path for entry in repository.entries("main@")} == {"README.md", "animals.csv"}
    assert repository.status("main") == []


def test_a_read_only_repository_is_not_changed_but_by_force(client):
    created(client, read_only=True)
    body = {"name": "try", "source": "main"}
    assert client.post("/repositories/sales/branches", json=body).status == 403
    assert client.post("/repositories/sales/branches", json={**body, "force": True}).status == 201
    assert client.delete("/repositories/sales").status == 403
    assert client.post("/repositories/sales/settings/read_only", json={"read_only": False}).json == {
        "read_only": False
    }
    assert client.delete("/repositories/sales").status == 204


@pytest.mark.parametrize(
    ("namespace", "status"),
    [
        ("local://below", 201),
        ("local://../out", 400),
        ("local:///etc", 403),
        ("s3://elsewhere/x", 403),
        ("nonsense", 400),
    ],
)
def test_namespaces_are_checked(client, namespace, status):
    answer = client.post("/repositories", json={"name": "sales", "storage_namespace": namespace})
    assert answer.status == status


@pytest.mark.parametrize("name", ["", "A", "ab", "-abc", "a" * 64, "a/b", "ä" * 5, "a\0b"])
def test_names_are_checked(client, name):
    assert created(client, name).status == 400
    assert client.post("/repositories", json={"name": 1, "storage_namespace": ""}).status == 400
    assert client.post("/repositories", body=b"{").status == 400
    assert client.post("/repositories", json={"name": "sales"}).status == 400


def test_repositories_are_listed_in_pages(client):
    names = [f"repo-{number:02}" for number in range(7)]
    for name in names:
        created(client, name)
    found, after = [], ""
    while True:
        page = client.get("/repositories", amount=3, after=after).json
        found += [repository["id"] for repository in page["results"]]
        assert page["pagination"]["results"] == len(page["results"])
        if not page["pagination"]["has_more"]:
            break
        after = page["pagination"]["next_offset"]
    assert found == names
    assert [r["id"] for r in client.get("/repositories", prefix="repo-03").json["results"]] == ["repo-03"]
    assert [r["id"] for r in client.get("/repositories", search="-05").json["results"]] == ["repo-05"]
    assert len(client.get("/repositories", amount=-1).json["results"]) == 7
    assert client.get("/repositories", amount="x").status == 400


def test_metadata_is_set_and_removed(client, repository):
    path = "/repositories/sales/metadata"
    assert client.get(path).json == {}
    assert client.post(path, json={"metadata": {"a": "1", "b": "2"}}).status == 204
    assert client.delete(path, json={"keys": ["a"]}).status == 204
    assert client.get(path).json == {"b": "2"}
    assert client.post(path, json={"metadata": {"a": 1}}).status == 400


def test_protection_rules_are_changed_under_their_etag(client, repository):
    path = "/repositories/sales/settings/branch_protection"
    first = client.get(path)
    assert first.json == []
    assert (
        client.put(path, json=[{"pattern": "main"}], headers={"If-Match": first.headers["etag"]}).status
        == 204
    )
    stale = client.put(path, json=[], headers={"If-Match": first.headers["etag"]})
    assert stale.status == 412
    assert client.get(path).json == [{"pattern": "main"}]
    assert client.post("/repositories/sales/branches/main/objects", path="x", body=b"x").status == 403
    assert client.put(path, json=[{"pattern": ""}]).status == 400


def test_the_old_way_to_protect(client, repository):
    path = "/repositories/sales/branch_protection"
    assert client.get(f"{path}/set_allowed").status == 204
    assert client.post(path, json={"pattern": "main"}).status == 204
    assert client.post(path, json={"pattern": "main"}).status == 409
    assert client.get(path).json == [{"pattern": "main"}]
    assert client.delete(path, json={"pattern": "main"}).status == 204
    assert client.delete(path, json={"pattern": "main"}).status == 404


def test_a_quota_refuses_what_is_too_much(client, repository):
    path = "/repositories/sales/settings/quota"
    assert client.get(path).json["max_bytes"] is None
    assert client.put(path, json={"max_bytes": 10}).json["max_bytes"] == 10
    upload = "/repositories/sales/branches/main/objects"
    assert client.post(upload, path="x", body=b"12345").status == 201
    assert client.post(upload, path="y", body=b"1234567").status == 413
    assert client.put(path, json={"max_bytes": -1}).status == 400
