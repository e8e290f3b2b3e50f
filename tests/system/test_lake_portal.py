"""The lake's pages in a real browser: from a repository to an object, a difference, a pull request and its merge."""

from __future__ import annotations

import io
import itertools
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Page, expect, sync_playwright
from tests.system.lake_server import LakeServer, lake_server
from tests.system.test_portal import ARGUMENTS, CHROMIUM, CONTRAST, NAMELESS

HOSTILE = '<img src=x onerror="document.title=1">'
PATHS = [
    "/lake",
    "/lake/sales",
    "/lake/sales?prefix=orders/",
    "/lake/sales/commits",
    "/lake/sales/commits?path=orders/",
    "/lake/sales/commits/cheaper",
    "/lake/sales/refs",
    "/lake/sales/diff?left=main&right=cheaper",
    "/lake/sales/rows?left=main&right=cheaper&prefix=orders&key=id",
    "/lake/sales/compare?base=main&refs=cheaper",
    "/lake/sales/pulls",
    "/lake/sales/hooks",
    "/lake/sales/work",
    "/lake/sales/settings",
    "/lake/sales/reflog?branch=main",
    "/lake/sales/object?path=orders/part-0.parquet",
    "/lake/empty",
    "/lake/empty/pulls",
    "/lake/sales?ref=nope",
]

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(shutil.which(CHROMIUM) is None, reason="Chromium is not installed"),
]


def parquet(price: int) -> bytes:
    file = io.BytesIO()
    prices = [price if number % 10 == 0 else 20 for number in range(100)]
    pq.write_table(pa.table({"id": list(range(100)), "price": prices}), file)
    return file.getvalue()


@dataclass
class Reader:
    """A page of the browser, and what went wrong in it."""

    page: Page
    server: LakeServer
    wrong: list[str] = field(default_factory=list)

    def sign_in(self, within: str) -> None:
        """Give the administrator's key in the form that is asked for by a selector."""
        form = self.page.locator(within)
        form.get_by_label("Access key id").fill(self.server.key)
        form.get_by_label("Secret access key").fill(self.server.secret)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LakeServer]:
    """A lake with a branch that has other prices, and names and texts that want to be markup."""
    with lake_server(tmp_path_factory.mktemp("portal") / "mesh") as started:
        started.make_repository("sales")
        started.make_repository("empty")
        with started.client() as client:

            def put(branch: str, path: str, data: bytes) -> None:
                url = f"/repositories/sales/branches/{branch}/objects"
                answer = client.post(url, params={"path": path}, files={"content": data})
                assert answer.status_code == 201, answer.text

            def commit(branch: str, message: str) -> None:
                url = f"/repositories/sales/branches/{branch}/commits"
                answer = client.post(url, json={"message": message, "metadata": {"by": HOSTILE}})
                assert answer.status_code == 201, answer.text

            put("main", "orders/part-0.parquet", parquet(20))
            put("main", f"odd/{HOSTILE}.md", HOSTILE.encode())
            commit("main", f"Orders {HOSTILE}")
            made = client.post("/repositories/sales/branches", json={"name": "cheaper", "source": "main"})
            assert made.status_code == 201
            put("cheaper", "orders/part-0.parquet", parquet(10))
            commit("cheaper", "Every tenth is cheaper")
        yield started


@pytest.fixture
def reader(server: LakeServer) -> Iterator[Reader]:
    base = server.api.removesuffix("/api/v1")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = browser.new_context(base_url=base, viewport={"width": 1280, "height": 900})
        context.set_default_timeout(15_000)
        page = context.new_page()
        reader = Reader(page, server)
        page.on("pageerror", lambda error: reader.wrong.append(str(error)))
        page.on(
            "console",
            lambda m: (
                reader.wrong.append(m.text)
                if m.type == "error" and "Failed to load resource" not in m.text
                else None
            ),
        )
        yield reader
        browser.close()
    assert reader.wrong == []


@pytest.mark.parametrize("width", [1280, 400])
def test_every_page_of_a_repository_is_sound_and_readable(reader: Reader, width: int) -> None:
    page = reader.page
    page.set_viewport_size({"width": width, "height": 900})
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        for path in PATHS:
            page.goto(path)
            where = f"{path} at {width} {scheme}"
            for fold in page.locator("main details:not([open]) > summary").all():
                fold.evaluate("element => element.parentElement.open = true")
            too_wide = page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            assert too_wide <= 0, f"{where}: {too_wide} pixels too wide"
            assert page.evaluate(CONTRAST) == [], where
            assert page.evaluate(NAMELESS) == [], where
            levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])")
            assert levels[0] == 1, where
            assert levels.count(1) == 1, where
            assert all(b <= a + 1 for a, b in itertools.pairwise(levels)), f"{where}: {levels}"
            assert page.locator("main img").count() == 0, where
            assert page.title() != "1", where


def test_from_a_repository_to_a_merged_pull_request(reader: Reader) -> None:
    page = reader.page
    page.goto("/lake")
    page.get_by_role("link", name="sales", exact=True).click()
    page.get_by_role("link", name="Branches and tags").click()
    page.get_by_role("link", name="cheaper", exact=True).click()
    page.get_by_role("link", name="orders/", exact=True).click()
    page.get_by_role("link", name="part-0.parquet", exact=True).click()
    expect(page.locator("main")).to_contain_text("100 rows")
    expect(page.get_by_role("group", name="Columns")).to_contain_text("BIGINT")

    page.get_by_role("link", name="Branches and tags").click()
    page.get_by_role("link", name="compare cheaper with main").click()
    expect(page.locator(".tally")).to_contain_text("1 changed")
    page.locator("a.chip", has_text="orders").click()
    page.get_by_label("Key columns").fill("id")
    page.get_by_role("button", name="Compare by it").click()
    expect(page.locator(".facts.numbers div", has_text="Changed")).to_contain_text("10")

    page.goto("/lake/sales/diff?left=main&right=cheaper&mode=three")
    page.locator("summary", has_text="Ask for a merge").click()
    page.get_by_label("Title").fill(f"Cheaper {HOSTILE}")
    page.get_by_label("Description").fill("Ten orders.")
    reader.sign_in("form[data-lake]")
    page.get_by_role("button", name="Open a pull request").click()
    expect(page.locator("main")).to_contain_text("No conflict stands against it")
    expect(page.get_by_role("heading", level=2).first).to_have_text(f"Cheaper {HOSTILE}")
    expect(page.locator("[data-part=signed]")).to_contain_text(reader.server.key)

    page.get_by_role("button", name="Merge into main").click()
    expect(page.locator(".title .badge")).to_have_text("merged")
    with reader.server.client() as client:
        sides = [
            client.get(
                f"/repositories/sales/refs/{ref}/objects/stat", params={"path": "orders/part-0.parquet"}
            )
            for ref in ("main", "cheaper")
        ]
    assert sides[0].json()["checksum"] == sides[1].json()["checksum"]


def test_a_pull_request_is_closed_and_opened_again_by_the_keyboard(reader: Reader) -> None:
    with reader.server.client() as client:
        client.post("/repositories/sales/branches", json={"name": "later", "source": "main"})
        asked = {"title": "Later", "source_branch": "later", "destination_branch": "main"}
        id_ = client.post("/repositories/sales/pulls", json=asked).json()["id"]
    page = reader.page
    page.goto(f"/lake/sales/pulls/{id_}")
    reader.sign_in("form[data-lake]")
    page.get_by_role("button", name="Close without merging").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".title .badge")).to_have_text("closed")
    page.get_by_role("button", name="Open again").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".title .badge")).to_have_text("open")


def test_a_wrong_key_is_told_and_nothing_is_remembered(reader: Reader) -> None:
    page = reader.page
    page.goto("/lake/sales/object?path=orders/part-0.parquet")
    page.locator("summary", has_text="Download").click()
    page.get_by_label("Access key id").fill(reader.server.key)
    page.get_by_label("Secret access key").fill("wrong")
    page.locator("form[data-lake] button.main").click()
    expect(page.get_by_role("alert")).to_be_visible()
    assert page.evaluate("sessionStorage.length + localStorage.length") == 0
    assert page.context.cookies() == []


def test_an_object_is_downloaded_as_it_is_stored(reader: Reader, tmp_path: Path) -> None:
    page = reader.page
    page.goto("/lake/sales/object?ref=cheaper&path=orders/part-0.parquet")
    page.locator("summary", has_text="Download").click()
    reader.sign_in("form[data-lake]")
    with page.expect_download() as started:
        page.locator("form[data-lake] button.main").click()
    kept = tmp_path / "got.parquet"
    started.value.save_as(kept)
    assert kept.read_bytes() == parquet(10)
    assert urlsplit(page.url).path == "/lake/sales/object"
