"""A repository's pages as a browser gets them: what is on them, what must not be, and what is not there."""

from __future__ import annotations

import re

import pytest
from tests.catalog.conftest import Browser, World

from tulle.catalog.commit_graph import draw
from tulle.lake import pulls
from tulle.lake.entry import Commit

HOSTILE = 'x/<script>alert("1")<script>&?#.md'
PAGES = [
    "/refs",
    "/commits",
    "/commits?ref=try",
    "/commits/main",
    "/commits/main~1",
    "/object?path=sales/part-0000.parquet",
    "/diff",
    "/diff?left=main&right=try",
    "/diff?left=main&right=try&mode=three",
    "/diff?right=try&mode=staged",
    "/rows?left=main&right=try&prefix=sales",
    "/compare",
    "/compare?base=main&refs=try",
    "/pulls",
    "/pulls?status=all",
    "/hooks",
    "/settings",
    "/reflog?branch=main",
]


@pytest.fixture
def lake(browser: Browser) -> Browser:
    """The browser, on a repository with a second branch: one file changed there, a hostile one staged."""
    repository = browser.world.lake.repository("sales", actor="ann")
    repository.create_branch("try")
    entry = next(e for e in repository.entries("main", "sales/") if e.path.endswith(".parquet"))
    repository.copy("try", "main", entry.path, "sales/part-0001.parquet")
    repository.commit("try", "Twice <b>as</b> much", metadata={"why": "<i>test</i>"})
    repository.put("try", HOSTILE, b"# <script>text</script>\n")
    repository.create_tag("v1.0", "main")
    repository.protect(["ma*"])
    return browser


@pytest.mark.parametrize("path", PAGES)
def test_every_page_keeps_to_the_rules(lake: Browser, path: str) -> None:
    html = lake.get(f"/lake/sales{path}")
    assert len(re.findall(r"<h1[ >]", html)) == 1
    assert not re.search(r"<script(?![^>]*\bsrc=)[^>]*>", html)
    assert not re.search(r"\son\w+=", html)
    assert "@x.org" not in html  # what names a person
    ids = re.findall(r'\sid="([^"]+)"', html)
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    "path",
    [
        "/lake/nope/refs",
        "/lake/sales/commits/nope",
        "/lake/sales/commits?ref=nope",
        "/lake/sales/object?path=nope",
        "/lake/sales/diff?left=main&right=nope",
        "/lake/sales/rows?left=main&right=main&prefix=nope",
        "/lake/sales/pulls/nope",
        "/lake/sales/hooks/nope",
        "/lake/sales/reflog?branch=nope",
        "/lake/sales/compare?base=main&refs=nope",
    ],
)
def test_what_is_not_there_is_the_failure_page(lake: Browser, path: str) -> None:
    assert "Not here" in lake.get(path, 404)


def test_the_preview_shows_declared_columns_and_hides_those_that_name_people(lake: Browser) -> None:
    html = lake.get("/lake/sales/object?path=sales/part-0000.parquet")
    assert "10.50" in html
    assert "••••" in html
    assert "3 rows" in html


def test_undeclared_tables_and_texts_of_personal_products_show_no_values(lake: Browser) -> None:
    repository = lake.world.lake.repository("sales")
    repository.put("try", "raw/people.csv", b"zoe@y.org,1\nyan@y.org,2\n")
    repository.put("try", "raw/people.json", b'{"mail": "zoe@y.org"}')
    for path in ("raw/people.csv", "raw/people.json"):
        assert "y.org" not in lake.get(f"/lake/sales/object?ref=try&path={path}")


def test_rows_are_compared_with_what_names_people_masked(lake: Browser) -> None:
    html = lake.get("/lake/sales/rows?left=main&right=try&prefix=sales")
    assert "Rows after" in html
    assert ">6<" in html
    assert "3 keys with several rows" in html
    part = lake.get("/lake/sales/rows?left=main&right=try&prefix=sales/part-0001.parquet")
    assert "@x.org" not in part


def test_hostile_names_and_texts_are_escaped_and_lead_to_the_object(lake: Browser) -> None:
    staged = lake.get("/lake/sales/diff?right=try&mode=staged")
    assert "x/&lt;script&gt;" in staged
    listing = lake.get("/lake/sales?ref=try&prefix=x/")
    (link,) = re.findall(r'href="(/lake/sales/object[^"]+)"', listing)
    html = lake.get(link.replace("&amp;", "&"))
    assert "# &lt;script&gt;text" in html
    assert "&lt;b&gt;as" in lake.get("/lake/sales/commits/try")


def test_refs_are_marked(lake: Browser, world: World) -> None:
    world.lake.repository("sales").create_branch("secret", hidden=True)
    html = lake.get("/lake/sales/refs")
    assert "protected" in html
    assert "hidden" in html
    assert "v1.0" in html


def test_a_pull_request_tells_changes_conflicts_and_how_to_merge_it(lake: Browser) -> None:
    repository = lake.world.lake.repository("sales", actor="ann")
    pull = pulls.create(repository, "Take <b>it</b>", "try", "main")
    assert "Take &lt;b&gt;it" in lake.get("/lake/sales/pulls")
    html = lake.get(f"/lake/sales/pulls/{pull.id}")
    assert f"tulle repo pull merge sales {pull.id}" in html
    assert "sales/part-0001.parquet" in html
    assert pull.id not in lake.get("/lake/sales/pulls?status=closed")


def made(id_: str, *parents: str) -> Commit:
    return Commit(id_, parents, id_, "", 0.0, {}, 1)


def test_a_merge_is_drawn_with_a_second_lane_that_ends_where_it_began() -> None:
    found = draw([made("m", "a", "b"), made("b", "r"), made("a", "r"), made("r")])
    assert [dot.lane for dot in found.dots] == [0, 1, 0, 0]
    assert len(found.lines) == 4
    assert not any(line.open for line in found.lines)


def test_lines_to_commits_that_are_not_drawn_stay_open() -> None:
    (line,) = draw([made("a", "gone")]).lines
    assert line.open
