"""ListMultipartUploads against a plain model: every page, from every place, with prefixes and delimiters."""

from __future__ import annotations

import random
from itertools import groupby

import pytest
from tests.lake.s3.client import Answer, Client

from tulle.lake import uploads
from tulle.lake.repository import Repository

Item = tuple[str, str]  # a key and an upload's id; a common prefix has none
PARTS = ["a", "b", "ab", "d/", "d/e/", "é", "x-", "/"]


def plain(there: list[Item], prefix: str, delimiter: str, marker: Item) -> list[Item]:
    """Everything a listing tells behind a place, by the words of S3's documentation."""

    def told(item: Item) -> Item:
        cut = item[0].find(delimiter, len(prefix)) if delimiter else -1
        return item if cut < 0 else (item[0][: cut + len(delimiter)], "")

    def is_behind(item: Item) -> bool:
        key, id_ = marker
        if told(item) == (key, ""):  # the page before told this prefix
            return False
        if item[0] == key:
            return bool(id_) and item[1] > id_
        return item[0].encode() > key.encode()

    chosen = sorted(
        (item for item in there if item[0].startswith(prefix)), key=lambda i: (i[0].encode(), i[1])
    )
    return [item for item, _ in groupby(filter(is_behind, chosen), told)]


def ask(client: Client, **asked: str) -> Answer:
    query = [("uploads", ""), *((name.replace("_", "-"), value) for name, value in asked.items())]
    answer = client("GET", "/sales", query=query)
    assert answer.status == 200
    return answer


def items(answer: Answer) -> list[Item]:
    """Uploads and prefixes of a page, joined as one list in the order of keys."""
    found = list(zip(answer.texts("Upload/Key"), answer.texts("Upload/UploadId"), strict=True))
    assert found == sorted(found, key=lambda item: (item[0].encode(), item[1]))
    prefixes = [(prefix, "") for prefix in answer.texts("CommonPrefixes/Prefix")]
    return sorted([*found, *prefixes], key=lambda item: (item[0].encode(), item[1]))


@pytest.fixture
def there(repository: Repository) -> list[Item]:
    """Uploads of several branches, several of one key among them."""
    chance = random.Random(11)
    branches = ["main", "main-2", "ma"]
    for branch in branches[1:]:
        repository.create_branch(branch)
    made = []
    for _ in range(50):
        path = "".join(chance.choice(PARTS) for _ in range(chance.randint(1, 3)))
        made.append(uploads.start(repository, chance.choice(branches), path))
    made += [uploads.start(repository, "main", "a") for _ in range(5)]
    return [(f"{upload.branch}/{upload.path}", upload.id) for upload in made]


@pytest.mark.parametrize("delimiter", ["", "/", "a", "-", "d/", "é"])
def test_pages(client: Client, there: list[Item], delimiter: str) -> None:
    chance = random.Random(delimiter)
    prefixes = ["", "ma", "main/", "main/d/", "main/a", "nope", "nope/", *(key for key, _ in there[:8])]
    for prefix in prefixes:
        expected = plain(there, prefix, delimiter, ("", ""))
        size = chance.randint(1, 7)
        asked = {"prefix": prefix, "delimiter": delimiter, "max_uploads": str(size)}
        found: list[Item] = []
        while True:
            page = ask(client, **asked)
            told = items(page)
            found += told
            if page.texts("IsTruncated") == ["false"]:
                break
            assert len(told) == size
            asked["key_marker"] = page.texts("NextKeyMarker")[0]
            asked["upload_id_marker"] = page.texts("NextUploadIdMarker")[0]
            assert (asked["key_marker"], asked["upload_id_marker"]) == told[-1]
        assert found == expected


def test_from_any_place(client: Client, there: list[Item]) -> None:
    chance = random.Random(3)
    for _ in range(150):
        key, id_ = chance.choice(there)
        prefix = chance.choice(["", "main", "main/", key[: chance.randint(0, len(key))]])
        delimiter = chance.choice(["", "/", "d/"])
        marker = chance.choice([(key, id_), (key, ""), (key[:-1], ""), (key, chance.choice(there)[1])])
        page = ask(
            client, prefix=prefix, delimiter=delimiter, key_marker=marker[0], upload_id_marker=marker[1]
        )
        assert items(page) == plain(there, prefix, delimiter, marker), (prefix, delimiter, marker)
        assert page.texts("IsTruncated") == ["false"]


def test_bounds(client: Client, there: list[Item]) -> None:
    none = ask(client, max_uploads="0")
    assert (items(none), none.texts("IsTruncated"), none.texts("MaxUploads")) == ([], ["false"], ["0"])
    assert len(items(ask(client, max_uploads=str(len(there))))) == len(there)
    assert ask(client, max_uploads="99999").texts("MaxUploads") == ["1000"]
    for value in ("-1", "x", "1.5"):
        answer = client("GET", "/sales", query=[("uploads", ""), ("max-uploads", value)])
        assert answer.code == "InvalidArgument"


def test_a_page_reads_no_more_than_it_tells(
    client: Client, repository: Repository, there: list[Item]
) -> None:
    fetched: list[int] = []
    real = uploads._upload

    def counted(row: object) -> uploads.Upload:
        fetched.append(1)
        return real(row)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uploads, "_upload", counted)
        assert len(items(ask(client, max_uploads="3"))) == 3
    assert len(fetched) == 4  # one more, to know that there is more
    assert len(there) > 50
