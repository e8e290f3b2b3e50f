from datetime import UTC, datetime

import pytest

from tulle.lake.rest.commits import Walks

R = "/repositories/sales"


def committed(client, branch="main", **body):
    return client.post(f"{R}/branches/{branch}/commits", json={"message": "Message", **body})


def test_a_commit_says_what_it_is(client, sales):
    sales.put("main", "new", b"new")
    answer = committed(client, metadata={"k": "v"}, date=1_600_000_000)
    assert answer.status == 201
    commit = answer.json
    assert commit["message"] == "Message"
    assert commit["committer"] == "admin"
    assert commit["creation_date"] == 1_600_000_000
    assert commit["metadata"] == {"k": "v"}
    assert commit["generation"] == 3
    assert client.get(f"{R}/commits/{commit['id']}").json == commit
    assert client.get(f"{R}/commits/main").json == commit
    assert client.get(f"{R}/commits/main~9").status == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"allow_empty": True}, 201),
        ({"message": ""}, 400),
        ({"message": 1}, 400),
        ({"date": "x"}, 400),
    ],
)
def test_commits_are_checked(client, sales, body, status):
    assert committed(client, **body).status == status


def test_a_commit_of_a_metarange_is_unsupported(client, sales):
    answer = client.post(f"{R}/branches/main/commits", json={"message": "m"}, source_metarange="x")
    assert answer.status == 501
    assert committed(client, "nowhere").status == 404


@pytest.fixture
def history(sales):
    """Ten commits on the first ones, each of one path, oldest first."""
    found = []
    for number in range(10):
        sales.put("main", f"p{number % 2}/f{number}", b"x")
        found.append(sales.commit("main", f"Commit {number}", date=1_700_000_000 + number))
    return found


def log(client, ref="main", **query):
    return client.get(f"{R}/refs/{ref}/commits", **query)


def messages(answer):
    return [commit["message"] for commit in answer.json["results"]]


def test_the_log_goes_on_where_the_page_ended(client, history):
    whole = messages(log(client))
    assert whole[:2] == ["Commit 9", "Commit 8"]
    assert len(whole) == 12
    found, after = [], ""
    while True:
        page = log(client, amount=5, after=after)
        found += messages(page)
        if not page.json["pagination"]["has_more"]:
            break
        after = page.json["pagination"]["next_offset"]
    assert found == whole


def test_a_page_is_the_same_without_the_walk_that_was_kept(client, history):
    after = log(client, amount=5).json["pagination"]["next_offset"]
    kept = messages(log(client, amount=5, after=after))
    again = messages(log(client, amount=5, after=after))  # the kept walk is further by now
    assert kept == again == [f"Commit {number}" for number in (4, 3, 2, 1, 0)]


def test_the_log_is_filtered(client, history):
    assert messages(log(client, prefixes=["p1/"], amount=2)) == ["Commit 9", "Commit 7"]
    assert messages(log(client, objects=["p0/f4", "b.txt"])) == ["Commit 4", "First files"]
    assert messages(log(client, objects=["p0/f4"], prefixes=["p1/"])) == [
        f"Commit {number}" for number in (9, 7, 5, 4, 3, 1)
    ]
    assert messages(log(client, stop_at=history[7].id)) == ["Commit 9", "Commit 8", "Commit 7"]
    since = datetime.fromtimestamp(1_700_000_008, UTC).isoformat()
    assert {"Commit 9", "Commit 8"} <= set(messages(log(client, since=since)))
    assert "Commit 7" not in messages(log(client, since=since))


def test_a_limited_page_is_the_only_one(client, history):
    page = log(client, amount=3, limit=True).json
    assert len(page["results"]) == 3
    assert page["pagination"]["has_more"] is False


def test_the_first_parents_only(client, sales):
    sales.create_branch("try", "main")
    sales.put("try", "t", b"t")
    sales.commit("try", "On try")
    sales.merge("try", "main", message="Merged")
    assert "On try" in messages(log(client))
    assert messages(log(client, first_parent=True))[:2] == ["Merged", "First files"]


@pytest.mark.parametrize("query", [{"since": "yesterday"}, {"first_parent": "perhaps"}, {"amount": "many"}])
def test_a_log_is_asked_for_well(client, sales, query):
    assert log(client, **query).status == 400


def test_a_log_of_nothing(client, sales):
    assert log(client, "nowhere").status == 404
    assert log(client, after="f" * 64).status == 404


def test_walks_are_forgotten_when_there_are_too_many():
    walks = Walks(most=2)
    for name in "abc":
        walks.keep(name, iter(()))
    assert walks.take("a") is None
    assert walks.take("b") is not None
    assert walks.take("b") is None


def test_a_long_log_costs_its_pages_once(client, sales):
    for number in range(60):
        sales.commit("main", f"{number}", allow_empty=True)
    looked_up = []
    reader, found = sales.reader, sales.reader.commit
    reader.commit = lambda id_: looked_up.append(id_) or found(id_)
    after, count = "", 0
    while True:
        page = log(client, amount=3, after=after).json
        count += len(page["results"])
        if not page["pagination"]["has_more"]:
            break
        after = page["pagination"]["next_offset"]
    assert count == 62
    assert len(looked_up) < 4 * count  # each page from the head would be ten times that
