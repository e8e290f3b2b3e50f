"""The portal as a person meets it: a real browser, wide and narrow, light and dark, on the running example mesh."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from tests.system.conftest import TULLE, Mesh

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
PATHS = [
    "/",
    "/search?q=customer",
    "/products/purchases",
    "/products/customer-features",
    "/products/high-value-customers",
    "/products/customer-features/data-sets/customer_features",
    "/products/customer-features/data-sets/customer_features/lineage",
    "/schedules/calendar",
    "/runs",
    "/releases",
    "/services",
    "/services/high-value-predictor",
    "/services/high-value-predictor/deployments",
    "/services/high-value-predictor/compare",
    "/services/high-value-predictor/design",
    "/services/customer-features",
    "/applications",
    "/capabilities",
    "/gateway",
    "/lake",
    "/lake/purchases?prefix=purchases/",
    "/products/no-such-product",
]
# Colours of all visible text against what is behind it, as WCAG reckons; the pairs below 4.5 (3 for large text).
CONTRAST = """() => {
  const parse = (c) => { const m = c.match(/[\\d.]+/g).map(Number);
    return c.startsWith("color(srgb") ? [m[0] * 255, m[1] * 255, m[2] * 255, m[3] ?? 1] : [m[0], m[1], m[2], m[3] ?? 1]; };
  const over = (top, under) => top.slice(0, 3).map((v, i) => v * top[3] + under[i] * (1 - top[3]));
  const light = (c) => { const [r, g, b] = c.map((v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (el) => { const stack = []; for (let e = el; e; e = e.parentElement) stack.push(parse(getComputedStyle(e).backgroundColor));
    return stack.reverse().reduce((under, top) => over(top, under), [255, 255, 255]); };
  const poor = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const el = walk.currentNode.parentElement;
    if (!walk.currentNode.textContent.trim() || el.closest("svg, script, option, noscript") || !el.checkVisibility()) continue;
    const style = getComputedStyle(el), ground = behind(el), ink = over(parse(style.color), ground);
    const [a, b] = [light(ink), light(ground)].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && +style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) poor.push(`${ratio.toFixed(2)} ${el.className || el.tagName}: ${walk.currentNode.textContent.trim().slice(0, 40)}`);
  }
  return [...new Set(poor)];
}"""
NAMELESS = """() => [...document.querySelectorAll("a[href], button, input, select, textarea, summary")]
  .filter((e) => e.checkVisibility() && !(e.textContent.trim() || e.getAttribute("aria-label") || e.labels?.length || e.title))
  .map((e) => e.outerHTML.slice(0, 120))"""

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(shutil.which(CHROMIUM) is None, reason="Chromium is not installed"),
]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


def open_page(chromium: Browser, mesh: Mesh, *, width: int = 1280, scheme: str = "light") -> Page:
    context = chromium.new_context(
        base_url=f"http://127.0.0.1:{mesh.control_plane}",
        viewport={"width": width, "height": 900},
        color_scheme=scheme,  # type: ignore[arg-type]
    )
    context.set_default_timeout(15_000)
    return context.new_page()


@pytest.fixture
def page(chromium: Browser, mesh: Mesh) -> Iterator[Page]:
    opened = open_page(chromium, mesh)
    yield opened
    opened.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_page_is_sound_and_readable(chromium: Browser, mesh: Mesh, width: int, scheme: str) -> None:
    """No script error, nothing fetched from elsewhere, nothing wider than the screen, enough contrast, all named."""
    page = open_page(chromium, mesh, width=width, scheme=scheme)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda m: wrong.append(m.text) if m.type == "error" and "404" not in m.text else None)
    page.on(
        "request",
        lambda r: (
            None if r.url.startswith(f"http://127.0.0.1:{mesh.control_plane}/") else wrong.append(r.url)
        ),
    )
    for path in PATHS:
        page.goto(path)
        for fold in page.locator("main details:not([open]) > summary").all():
            if fold.is_visible():
                fold.evaluate("element => element.parentElement.open = true")
        where = f"{path} at {width} {scheme}"
        too_wide = page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert too_wide <= 0, f"{where}: {too_wide} pixels too wide"
        assert page.evaluate(CONTRAST) == [], where
        assert page.evaluate(NAMELESS) == [], where
        expect(page.locator("h1")).to_have_count(1)
    page.context.close()
    assert wrong == []


def test_from_the_first_page_by_the_picture_to_a_product_and_its_service(page: Page) -> None:
    page.goto("/")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    for product in ("purchases", "customer-features", "high-value-customers"):
        expect(page.locator(".card").filter(has_text=product).first).to_be_visible()
    page.locator("svg a", has_text="high-value-customers").first.click()
    expect(page).to_have_url(page.url.partition("#")[0])
    expect(page.get_by_role("heading", level=1)).to_contain_text("high-value-customers")
    expect(page.locator("svg a[aria-current=page]")).to_have_count(1)
    page.locator("svg a", has_text="high-value-predictor").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("high-value-predictor")


def test_a_product_shows_schema_rows_checks_and_versions(page: Page) -> None:
    page.goto("/products/purchases")
    data_set = page.locator("#data-set-purchases")
    expect(data_set).to_contain_text("69,659")
    expect(data_set).to_contain_text("customer_id")
    expect(data_set.locator("table").first).to_contain_text("00001")
    expect(page.locator("#checks")).to_contain_text("passed")
    expect(page.locator("main")).to_contain_text("cdnow_master.txt.gz")
    expect(page.locator("main")).to_contain_text("main")


def test_search_with_the_keyboard_alone(page: Page) -> None:
    page.goto("/runs")
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.keyboard.press("/")
    expect(page.locator("#find")).to_be_focused()
    page.keyboard.type("recency")
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_contain_text("recency_days")
    page.get_by_role("link", name="recency_days").first.click()
    expect(page).to_have_url(f"{page.url.partition('#')[0]}#data-set-customer_features")


def test_a_prediction_is_tried_in_the_page(page: Page) -> None:
    page.goto("/services/high-value-predictor")
    form = page.locator("form[data-try]")
    expect(page.get_by_role("textbox", name="Body (JSON)")).to_have_value(
        json.dumps({"features": {"customer_id": "00003"}}, indent=2)
    )
    form.get_by_role("button", name="Send request").click()
    expect(form).to_contain_text("200 OK")
    for text in (
        "probas",
        "x-ratelimit-limit",
        "x-request-id",
        "x-tulle-generation",
        "ms through the gateway",
    ):
        expect(form).to_contain_text(text)
    page.get_by_label("Start from a saved query").select_option(index=1)
    expect(page.get_by_role("textbox", name="Body (JSON)")).to_have_value(
        json.dumps({"features": {"customer_id": "00001"}}, indent=2)
    )
    page.get_by_label("Action").select_option("predict-multi")
    page.get_by_role("textbox", name="Body (JSON)").press("Control+Enter")
    expect(form).to_contain_text('"results"')


def test_what_was_tried_is_drawn_among_the_deployments(page: Page) -> None:
    page.goto("/services/high-value-predictor")
    page.locator("summary", has_text="Where it goes").click()
    page.get_by_label("Generation", exact=True).select_option("v1")
    form = page.locator("form[data-try]")
    form.get_by_role("button", name="Send request").click()
    expect(form.locator("[data-part=time]")).to_contain_text("by v1")
    expect(form.get_by_role("group", name="What it took")).to_contain_text("µs")
    page.get_by_role("link", name="Deployments", exact=True).click()
    expect(page.locator("#state")).to_contain_text("running")
    expect(page.locator("#load svg").first).to_be_visible(timeout=40_000)


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ("{not json", "400", "errorType"),
        ('{"features": {"customer_id": "no such customer"}}', "404", "no such customer"),
        ('{"features": {"recencyy": 1, "customer_id": "00003"}}', "400", "recency"),
    ],
)
def test_a_wrong_request_shows_what_a_consumer_would_get(
    page: Page, body: str, status: str, text: str
) -> None:
    page.goto("/services/high-value-predictor")
    form = page.locator("form[data-try]")
    page.get_by_role("textbox", name="Body (JSON)").fill(body)
    form.get_by_role("button", name="Send request").click()
    expect(form.locator("[data-part=status]")).to_contain_text(status)
    expect(form.locator("[data-part=body]")).to_contain_text(text)


def test_own_credentials_are_used(page: Page, mesh: Mesh) -> None:
    page.goto("/services/customer-features")
    form = page.locator("form[data-try]")
    form.get_by_text("Use my own credentials").click()
    kept = mesh.credentials()
    page.get_by_label("Client id").fill(kept["client_id"])
    page.get_by_label("Client secret").fill("wrong")
    form.get_by_role("button", name="Send request").click()
    expect(form.locator("[data-part=status]")).to_contain_text("401")
    page.get_by_label("Client secret").fill(kept["client_secret"])
    form.get_by_role("button", name="Send request").click()
    expect(form.locator("[data-part=status]")).to_contain_text("200")
    expect(form.locator("[data-part=body]")).to_contain_text("00003")


def test_a_run_is_followed_to_its_end_without_a_reload(page: Page, mesh: Mesh) -> None:
    command = [TULLE, "--mesh", str(mesh.folder), "run", "customer-features", "--full"]
    with subprocess.Popen(command, env=mesh.environment, stdout=subprocess.DEVNULL) as running:
        newest = ""
        while not newest:
            found = mesh.json("runs", "--limit", "1")[0]
            if found["product"] == "customer-features" and found["status"] in {"queued", "running"}:
                newest = found["id"]
            assert newest or running.poll() is None, "the run ended before it could be looked at"
        page.goto(f"/runs/{newest}")
        page.evaluate("window.sameDocument = true")
        expect(page.locator("#progress [data-ended=yes]")).to_have_count(1, timeout=60_000)
        assert running.wait(60) == 0
    expect(page.locator("#progress")).to_contain_text("customer_features")
    expect(page.locator("#progress")).to_contain_text("23,570")
    assert page.evaluate("window.sameDocument") is True


def test_applications_are_told_without_any_secret(page: Page, mesh: Mesh) -> None:
    page.goto("/applications")
    kept = mesh.credentials()
    expect(page.locator("main")).to_contain_text("storefront")
    expect(page.locator("main")).to_contain_text(kept["client_id"])
    content = page.content()
    assert kept["client_secret"] not in content
    assert "tulle-portal" not in content
