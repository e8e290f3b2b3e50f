import pytest

B = "/repositories/sales/branches"


def made(client, name, source="main", **rest):
    return client.post(B, json={"name": name, "source": source, **rest})


def test_a_new_branch_answers_the_commit_as_text(client, sales):
    answer = made(client, "try")
    assert answer.status == 201
    assert answer.body.decode() == sales.resolve("main")
    assert answer.headers["content-type"].startswith("text/html")
    assert client.get(f"{B}/try").json == {"id": "try", "commit_id": sales.resolve("main")}
    assert made(client, "try").status == 409
    assert made(client, "other", "nowhere").status == 404
    assert made(client, "a/b").status == 400
    assert made(client, "x" * 300).status == 400


def test_branches_go_but_the_default_one(client, sales):
    made(client, "try")
    assert client.delete(f"{B}/try").status == 204
    assert client.delete(f"{B}/try").status == 404
    assert client.delete(f"{B}/main").status == 403


def test_hidden_branches_are_listed_on_demand(client, sales):
    for name in ("b1", "b2", "b3"):
        made(client, name, hidden=name == "b2")
    assert [ref["id"] for ref in client.get(B).json["results"]] == ["b1", "b3", "main"]
    assert [ref["id"] for ref in client.get(B, show_hidden=True, prefix="b").json["results"]] == [
        "b1",
        "b2",
        "b3",
    ]
    page = client.get(B, amount=1).json
    assert page["pagination"] == {"has_more": True, "next_offset": "b1", "results": 1, "max_per_page": 1000}
    assert [ref["id"] for ref in client.get(B, after="b1").json["results"]] == ["b3", "main"]


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ({"type": "reset"}, set()),
        ({"type": "common_prefix", "path": "x/"}, {"y"}),
        ({"type": "object", "path": "y"}, {"x/1", "x/2"}),
    ],
)
def test_what_is_staged_is_forgotten(client, sales, body, left):
    for path in ("x/1", "x/2", "y"):
        sales.put("main", path, b"new")
    assert client.put(f"{B}/main", json=body).status == 204
    assert {change.path for change in sales.status("main")} == left


@pytest.mark.parametrize(
    "body", [{"type": "other"}, {"type": "object"}, {}, {"type": "common_prefix", "path": ""}]
)
def test_resets_are_checked(client, sales, body):
    assert client.put(f"{B}/main", json=body).status == 400


def test_a_branch_is_put_on_another_commit_when_it_is_clean(client, sales):
    first = sales.commit_info("main").parents[0]
    assert client.put(f"{B}/main/hard_reset").status == 400
    sales.put("main", "x", b"x")
    assert client.put(f"{B}/main/hard_reset", ref=first).status == 400
    sales.reset("main")
    assert client.put(f"{B}/main/hard_reset", ref=first).status == 204
    assert sales.resolve("main") == first
    moves = client.get(f"{B}/main/reflog").json["results"]
    assert moves[0]["after"] == first
    assert moves[0]["actor"] == "admin"


def test_a_commit_is_reverted(client, sales):
    head = sales.resolve("main")
    answer = client.post(
        f"{B}/main/revert",
        json={
            "ref": head,
            "parent_number": 0,
            "commit_overrides": {"message": "Back", "metadata": {"a": "b"}},
        },
    )
    assert answer.status == 204
    commit = sales.commit_info("main")
    assert (commit.message, commit.metadata, commit.committer) == ("Back", {"a": "b"}, "admin")
    assert not sales.exists("main", "b.txt")
    assert client.post(f"{B}/main/revert", json={"ref": head, "parent_number": 0}).status == 400  # no changes


def test_of_a_merge_commit_a_parent_must_be_named(client, sales):
    sales.create_branch("try", "main")
    sales.put("try", "new", b"new")
    sales.commit("try", "New")
    sales.merge("try", "main")
    head = sales.resolve("main")
    assert client.post(f"{B}/main/revert", json={"ref": head, "parent_number": 0}).status == 409
    assert client.post(f"{B}/main/revert", json={"ref": head, "parent_number": 1}).status == 204
    assert client.post(f"{B}/try/cherry-pick", json={"ref": head}).status == 409


def test_a_commit_is_picked(client, sales):
    sales.create_branch("try", "main")
    sales.put("try", "new", b"new")
    picked = sales.commit("try", "New")
    answer = client.post(f"{B}/main/cherry-pick", json={"ref": "try"})
    assert answer.status == 201
    assert answer.json["message"] == "New"
    assert answer.json["metadata"]["cherry-pick-origin"] == picked.id
    sales.put("main", "dirty", b"dirty")
    assert client.post(f"{B}/main/cherry-pick", json={"ref": "try"}).status == 400


def test_a_commit_is_amended(client, sales):
    parents = sales.commit_info("main").parents
    sales.put("main", "forgotten", b"x")
    answer = client.post(f"{B}/main/amend", json={"message": "Files, all of them"})
    assert answer.status == 201
    assert answer.json["parents"] == list(parents)
    assert sales.exists("main@", "forgotten")
    assert client.post(f"{B}/main/amend", json={}).status == 400


def test_tags(client, sales):
    path = "/repositories/sales/tags"
    answer = client.post(path, json={"id": "v1.0", "ref": "main"})
    assert answer.status == 201
    assert answer.json == {"id": "v1.0", "commit_id": sales.resolve("main")}
    assert client.post(path, json={"id": "v1.0", "ref": "main"}).status == 409
    assert client.post(path, json={"id": "a b", "ref": "main"}).status == 400
    assert client.post(path, json={"id": "v2", "ref": "nowhere"}).status == 404
    assert client.get(f"{path}/v1.0").json == answer.json
    assert client.get(path).json["results"] == [answer.json]
    assert client.delete(f"{path}/v1.0").status == 204
    assert client.get(f"{path}/v1.0").status == 404
