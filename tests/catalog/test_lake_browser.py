"""A repository's pages as a browser gets them: what is on them, what must not be, and what is not there."""

from __future__ import annotations

import io
import re
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.catalog.conftest import Browser, World

from tulle.catalog.commit_graph import draw
from tulle.lake import onboard, pulls
from tulle.lake.entry import Commit
from tulle.lake.expiry import expire
from tulle.state import tasks

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
    "/commits?path=sales/",
    "/refs?prefix=t",
    "/work",
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


@pytest.mark.parametrize(("product", "is_shown"), [("sales", False), ("people", True)])
def test_where_reading_goes_on_is_shown_where_nobody_is_named(
    lake: Browser, product: str, is_shown: bool
) -> None:
    html = lake.get(
        f"/lake/{product}/object?ref=main&path=_tulle/jobs/{'sales' if product == 'sales' else 'totals'}.json"
    )
    assert ("remembered" in html) is is_shown
    assert ("Its text may name people" in html) is not is_shown


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


def paged(lake: Browser, path: str) -> list[str]:
    """A page and all that its further-button leads to."""
    pages = [lake.get(path)]
    while found := re.search(r'href="(\?[^"]*after(?:_tag)?=[^"]+)">(?:Further|Older)', pages[-1]):
        pages.append(lake.get(path.partition("?")[0] + found[1].replace("&amp;", "&")))
    return pages


def test_a_history_is_read_to_its_first_commit_and_tells_every_commit_once(lake: Browser) -> None:
    repository = lake.world.lake.repository("sales", actor="ann")
    repository.protect([])
    for number in range(45):
        for branch in ("main", "try"):
            repository.put(branch, f"work/{branch}.md", str(number).encode())
            repository.commit(branch, f"{branch} {number}")
        if number % 10 == 9:
            repository.merge("main", "try")
    told = re.compile(r'<a class="text" href="/lake/sales/commits/([0-9a-f]{64})"')
    pages = paged(lake, "/lake/sales/commits")
    assert len(pages) > 1
    found = [commit for page in pages for commit in told.findall(page)]
    heads = [repository.resolve("main"), repository.resolve("try")]
    assert len(found) == len(set(found))
    assert set(found) == {c.id for head in heads for c in repository.log(head, limit=1000)}
    assert "Newest commits" in pages[1]


def test_the_commits_that_changed_an_object_are_found(lake: Browser) -> None:
    html = lake.get("/lake/sales/commits?ref=try&path=sales/part-0001.parquet")
    assert "Twice &lt;b&gt;as" in html
    assert html.count('class="text"') == 1
    assert "No commit changed it" in lake.get("/lake/sales/commits?path=nope.md")


def test_many_objects_refs_and_repositories_have_pages(lake: Browser) -> None:
    repository = lake.world.lake.repository("sales")
    repository.put_many("try", ((f"many/{number:03d}.md", b"# m") for number in range(130)))
    for number in range(101):
        repository.create_branch(f"b{number:03d}")
    first = lake.get("/lake/sales?ref=try&prefix=many/")
    assert "many/099.md" in first.replace("%2F", "/")
    (further,) = re.findall(r'href="([^"]+)">Further objects', first)
    second = lake.get(further.replace("&amp;", "&"))
    assert ">129.md<" in second
    assert ">099.md<" not in second
    assert "From the beginning" in second
    refs = paged(lake, "/lake/sales/refs")
    assert len(refs) == 2
    assert refs[0].index(">main<") < refs[0].index(">b000<")  # the default branch comes first
    assert ">main</a>" not in refs[1]
    assert ">b042<" in lake.get("/lake/sales/refs?prefix=b04")
    assert ">b012<" not in lake.get("/lake/sales/refs?prefix=b04")
    assert "/lake/people" not in lake.get("/lake?q=ales")


def test_many_changes_are_counted_and_lead_to_both_sides(lake: Browser) -> None:
    repository = lake.world.lake.repository("sales")
    repository.create_branch("big", "try")
    repository.put_many("big", ((f"many/{number:03d}.md", b"# m") for number in range(120)))
    repository.put("big", "sales/part-0001.parquet", b"x")
    repository.commit("big", "Much")
    pages = paged(lake, "/lake/sales/diff?left=try&right=big")
    assert len(pages) == 2
    assert "120 added" in pages[0]
    assert "1 changed" in pages[0]
    assert "120 added" not in pages[1]
    (before,) = re.findall(r'href="([^"]+)" aria-label="sales/part-0001.parquet as it was', pages[1])
    assert "part-0001.parquet" in lake.get(before.replace("&amp;", "&"))


def test_a_parquet_file_tells_its_columns_without_masked_values(lake: Browser) -> None:
    html = lake.get("/lake/sales/object?path=sales/part-0000.parquet")
    (columns,) = re.findall(r'aria-label="Columns">(.*?)</table>', html, re.DOTALL)
    rows = {name: row for row in columns.split("<tr>")[2:] for name in re.findall(r">(\w+)</th>", row)}
    assert ">1<" in rows["id"]
    assert ">3<" in rows["id"]
    assert "10.50" in rows["amount"]
    assert "••••" in rows["email"]
    assert "row group" in html


def test_bounds_of_columns_are_by_value_and_over_all_groups_of_rows(lake: Browser) -> None:
    file = io.BytesIO()
    table = pa.table({"id": [9, 100, -5, 30], "customer": ["b", None, "ä", "A"]})
    pq.write_table(table, file, row_group_size=1)
    lake.world.lake.repository("sales").put("try", "sales/more.parquet", file.getvalue())
    html = lake.get("/lake/sales/object?ref=try&path=sales/more.parquet")
    assert "4 row groups" in html
    (row,) = re.findall(r">id</th>(?:(?!</tr>).)*", html[html.index('aria-label="Columns"') :])
    assert re.findall(r"<td[^>]*>(-?\d+)</td>", row) == ["0", "-5", "100"]


def test_a_bare_repository_and_an_empty_one_say_what_to_do_next(lake: Browser, world: World) -> None:
    world.lake.create_repository("bare-one", bare=True)
    world.lake.create_repository("empty-one")
    assert "lakectl refs-restore lakefs://bare-one" in lake.get("/lake/bare-one")
    assert ">bare<" in lake.get("/lake")
    for page in ("commits", "refs", "pulls", "hooks", "work", "settings", "diff", "compare"):
        lake.get(f"/lake/bare-one/{page}")
    assert "tulle repo put --help" in lake.get("/lake/empty-one")
    assert "tulle repo import --help" in lake.get("/lake/empty-one/work")
    assert "_lakefs_actions/" in lake.get("/lake/empty-one/hooks")


def test_a_branch_with_staged_changes_says_so(lake: Browser) -> None:
    assert "is not committed yet" in lake.get("/lake/sales?ref=try")
    assert "is not committed yet" not in lake.get("/lake/sales?ref=main")
    assert "is not committed yet" not in lake.get("/lake/sales?ref=try@")


def test_conflicts_lead_to_both_sides_and_say_how_to_settle_them(lake: Browser) -> None:
    repository = lake.world.lake.repository("sales", actor="ann")
    repository.protect([])
    for branch in ("main", "try"):
        repository.put(branch, "a <b>.md", branch.encode())
        repository.commit(branch, f"Both on {branch}")
    pull = pulls.create(repository, "Both", "try", "main")
    html = lake.get(f"/lake/sales/pulls/{pull.id}")
    assert "1 conflict" in html
    assert "tulle repo merge sales main try --choose PATH=dest" in html
    assert "Merge into main" not in html
    sides = re.findall(r'href="(/lake/sales/object\?ref=\w+%40[^"]+)"', html)
    previews = [re.findall(r"<pre[^>]*>(.*)</pre>", lake.get(one.replace("&amp;", "&"))) for one in sides]
    assert previews == [["try"], ["main"]]
    pulls.change(repository, pull.id, status="closed")
    assert "Open again" in lake.get(f"/lake/sales/pulls/{pull.id}")


def test_what_a_page_asks_of_the_lake_is_sent_by_a_script_with_a_key_and_never_by_a_plain_form(
    lake: Browser,
) -> None:
    pull = pulls.create(lake.world.lake.repository("sales"), "Take it", "try", "main")
    for path in (f"pulls/{pull.id}", "diff?left=main&right=try", "object?path=sales/part-0000.parquet"):
        html = lake.get(f"/lake/sales/{path}")
        (form,) = re.findall(r"<form data-lake=[^>]*>", html)
        assert "hidden" in form
        assert "action=" not in form
        assert ' method="post"' not in html.lower()
        assert "/static/lake.js" in html
        assert 'type="password"' in html


def test_two_branches_that_differ_may_be_asked_to_be_merged_others_not(lake: Browser) -> None:
    assert "Open a pull request" in lake.get("/lake/sales/diff?left=main&right=try&mode=three")
    assert "Open a pull request" not in lake.get("/lake/sales/diff?left=v1.0&right=try")
    assert "Open a pull request" not in lake.get("/lake/sales/diff?left=main&right=main")


def test_imports_and_exports_tell_how_far_they_are_and_what_failed(lake: Browser) -> None:
    world = lake.world
    request = {
        "repository": "sales",
        "repository_id": world.lake.repository("sales").record.id,
        "branch": "try",
        "sources": [{"path": "s3://else/<b>where/", "destination": "raw/", "type": "common_prefix"}],
    }
    with world.database.write() as cx:
        id_ = tasks.ask(cx, onboard.KIND, "sales", request, actor="ann")
        of_an_earlier_one = {**request, "repository_id": -1, "sources": [{"path": "s3://earlier/"}]}
        tasks.ask(cx, onboard.KIND, "sales", of_an_earlier_one, actor="ann")
    assert tasks.take(world.database, [onboard.KIND], "worker").id == id_
    tasks.Running(world.database, tasks.get(world.database, id_)).report({"ingested": 4321})
    html = lake.get("/lake/sales/work")
    assert "s3://else/&lt;b&gt;where/" in html
    assert "4,321 objects" in html
    assert "Something is going on" in html
    assert "earlier" not in html


def test_a_commit_whose_data_retention_gave_up_keeps_its_page(lake: Browser) -> None:
    repository = lake.world.lake.create_repository("old-one")
    root = repository.resolve("main")
    for day in (90, 80, 70):
        repository.put("main", "a.md", str(day).encode())
        repository.commit("main", f"of {day}", date=time.time() - day * 86_400)
    repository.set_retention({"default_retention_days": 3, "branches": []})
    assert root in expire(lake.world.database, repository.record, time.time() + 30 * 86_400)
    html = lake.get(f"/lake/old-one/commits/{root}")
    assert "Repository created" in html
    assert "That is not known any more" in html
    failure = lake.get(f"/lake/old-one?ref={root}", 404)
    assert "No longer kept" in failure
    assert "/lake/old-one/refs" in failure


def test_an_object_whose_data_is_lost_or_damaged_says_so_and_how_to_look_further(lake: Browser) -> None:
    repository = lake.world.lake.repository("sales")
    for path in ("a.md", "orders/t.parquet"):
        place = Path(repository.location(repository.put("try", path, b"# PAR1 no table")))
        if path == "a.md":
            place.unlink()
        html = lake.get(f"/lake/sales/object?ref=try&path={path}")
        assert "tulle repo verify sales" in html
        assert str(place) not in html
        assert ("is not in the store" in html) == (path == "a.md")


def test_marks_that_turn_writing_round_are_written_out(lake: Browser) -> None:
    lake.world.lake.repository("sales").put("try", "odd/\u202egpj.exe\n.md", b"# x")
    html = lake.get("/lake/sales?ref=try&prefix=odd/")
    assert "\u202e" not in html
    assert r">\u202egpj.exe\n.md<" in html


def test_rows_by_a_chosen_key(lake: Browser) -> None:
    html = lake.get("/lake/sales/rows?left=main&right=try&prefix=sales&key=customer,amount")
    assert "customer, amount" in html
    assert 'value="customer,amount"' in html
    assert "That cannot be used" in lake.get("/lake/sales/rows?left=main&right=try&prefix=sales&key=no", 422)


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
