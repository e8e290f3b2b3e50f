import pytest

R = "/repositories/sales"


@pytest.fixture
def forked(sales):
    """main and try changed `b.txt` differently, and one file of their own each."""
    sales.create_branch("try", "main")
    for branch in ("main", "try"):
        sales.put(branch, "b.txt", branch.encode())
        sales.put(branch, f"{branch}/own", branch.encode(), metadata={"of": branch})
        sales.commit(branch, f"On {branch}")
    return sales


def merged(client, source="try", **body):
    return client.post(f"{R}/refs/{source}/merge/main", json=body)


def test_a_merge_answers_its_commit(client, sales):
    sales.create_branch("try", "main")
    sales.put("try", "new", b"new")
    sales.commit("try", "New")
    answer = merged(client, message="Merged", metadata={"a": "b"})
    assert answer.status == 200
    assert answer.json == {"reference": sales.resolve("main")}
    assert sales.commit_info("main").message == "Merged"
    assert merged(client).status == 400  # no changes
    assert merged(client, allow_empty=True).status == 200


def test_a_merge_needs_no_body(client, sales):
    sales.create_branch("try", "main")
    sales.put("try", "new", b"new")
    sales.commit("try", "New")
    assert client.post(f"{R}/refs/try/merge/main").status == 200


def test_conflicts_refuse_a_merge_and_name_the_paths(client, forked):
    answer = merged(client)
    assert answer.status == 409
    assert "b.txt" in answer.message
    found = client.get(f"{R}/refs/try/conflicts/main").json["results"]
    assert [conflict["path"] for conflict in found] == ["b.txt"]
    assert found[0]["source"]["checksum"] != found[0]["destination"]["checksum"]


@pytest.mark.parametrize(
    ("body", "content"),
    [
        ({"strategy": "source-wins"}, b"try"),
        ({"strategy": "dest-wins"}, b"main"),
        ({"choices": {"b.txt": "source"}}, b"try"),
        ({"choices": {"b.txt": "dest"}, "strategy": ""}, b"main"),
    ],
)
def test_conflicts_are_decided(client, forked, body, content):
    assert merged(client, **body).status == 200
    assert forked.get("main", "b.txt") == content


@pytest.mark.parametrize(
    "body", [{"strategy": "best"}, {"choices": {"b.txt": "mine"}}, {"fast_forward": "no"}]
)
def test_merges_are_checked(client, forked, body):
    assert merged(client, **body).status == 400


def test_a_branch_with_staged_changes_is_not_merged_into(client, forked):
    forked.put("main", "dirty", b"x")
    assert merged(client, strategy="source-wins").status == 400
    assert merged(client, "nowhere").status == 404


def test_a_branch_is_moved_forward(client, sales):
    sales.create_branch("try", "main")
    sales.put("try", "new", b"new")
    commit = sales.commit("try", "New")
    assert merged(client, fast_forward="only").json == {"reference": commit.id}


def test_a_squashed_merge_has_one_parent(client, forked):
    assert merged(client, strategy="source-wins", squash_merge=True).status == 200
    assert len(forked.commit_info("main").parents) == 1


def test_the_merge_base(client, forked):
    answer = client.get(f"{R}/refs/try/merge/main").json
    assert answer == {
        "source_commit_id": forked.resolve("try"),
        "destination_commit_id": forked.resolve("main"),
        "base_commit_id": forked.commit_info("main").parents[0],
    }


def kinds(answer):
    return [(change["type"], change["path"]) for change in answer.json["results"]]


def test_what_differs_between_refs(client, forked):
    path = f"{R}/refs/main/diff/try"
    assert kinds(client.get(path)) == [("changed", "b.txt"), ("added", "try/own")]
    assert kinds(client.get(path, type="two_dot")) == [
        ("changed", "b.txt"),
        ("removed", "main/own"),
        ("added", "try/own"),
    ]
    assert kinds(client.get(path, prefix="try/")) == [("added", "try/own")]
    changed, added = client.get(path, include_right_stats=True).json["results"]
    assert (added["right"]["metadata"], changed["size_bytes"]) == ({"of": "try"}, 3)
    assert client.get(path, type="three").status == 400
    assert client.get(f"{R}/refs/main/diff/nowhere").status == 404


def test_what_is_staged(client, sales):
    sales.put("main", "new", b"new")
    sales.delete("main", "b.txt")
    assert kinds(client.get(f"{R}/branches/main/diff")) == [("removed", "b.txt"), ("added", "new")]


@pytest.mark.parametrize("staged", [True, False])
def test_changes_below_a_delimiter_are_one(client, sales, staged):
    sales.create_branch("try", "main")
    paths = [f"deep/{number:03}" for number in range(150)] + ["a0", "dee", "deep.txt", "f/1", "f/2", "g"]
    sales.put_many("try", [(path, b"x") for path in paths])
    if not staged:
        sales.commit("try", "Many")
    path = f"{R}/branches/try/diff" if staged else f"{R}/refs/main/diff/try"
    wanted = [
        ("added", "a0"),
        ("added", "dee"),
        ("added", "deep.txt"),
        ("prefix_changed", "deep/"),
        ("prefix_changed", "f/"),
        ("added", "g"),
    ]
    assert kinds(client.get(path, delimiter="/")) == wanted
    found, after = [], ""
    while True:
        page = client.get(path, delimiter="/", amount=1, after=after)
        found += kinds(page)
        if not page.json["pagination"]["has_more"]:
            break
        after = page.json["pagination"]["next_offset"]
    assert found == wanted
    assert kinds(client.get(path, prefix="f/", delimiter="/")) == [("added", "f/1"), ("added", "f/2")]
    everything, after = [], ""
    while True:
        page = client.get(path, amount=40, after=after)
        everything += kinds(page)
        if not page.json["pagination"]["has_more"]:
            break
        after = page.json["pagination"]["next_offset"]
    assert [name for _, name in everything] == sorted(paths)
