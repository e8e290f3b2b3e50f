"""docs/reference/portal.md is held to the pages there are."""

from __future__ import annotations

import re
from pathlib import Path

from tests.catalog.conftest import Browser
from tests.catalog.test_models import put_model

from tulle.gateway import applications

PAGE = (Path(__file__).parents[2] / "docs/reference/portal.md").read_text()
# What scripts and tools get: parts of pages, documents.
PARTS = {
    "/exchange/apis/{name}/openapi.json",
    "/runs/{run_id}/progress",
    "/services/{name}/deployments/state",
    "/services/{name}/design/suggested",
    "/services/{name}/load",
    "/services/{name}/openapi.json",
}
NAMES = {
    "/domains/{name}": "shop",
    "/services/{name}": "customer-totals",
    "/services/{name}/queries": "customer-totals",
    "/services/{name}/deployments": "customer-totals",
    "/services/{name}/compare": "customer-totals",
    "/services/{name}/design": "customer-totals",
    "/insight/apis/{name}": "customer-totals",
    "/applications/{name}": "web-shop",
    "/exchange/apis/{name}": "customer-totals",
    "/exchange/apis/{name}/changes": "customer-totals",
    "/products/{name}/models/{model}": "people",
}
SAID = [
    address
    for line in re.findall(r"^\| (.*?) \|", PAGE, re.MULTILINE)
    for address in re.findall(r"`(/[^`]*)`", line)
]


def test_every_page_of_the_table_is_there(browser: Browser) -> None:
    assert len(SAID) > 15
    put_model(browser.world)
    run = re.findall(r'href="/runs/([^"/]+)"', browser.get("/runs"))[0]
    shop = {one.name: one.client_id for one in applications.applications(browser.world.database)}["web-shop"]
    names = {**NAMES, "/insight/clients/{name}": shop}
    for address in SAID:
        if address.startswith("/lake/{repository}"):
            continue  # `test_lake_browser` opens those
        name = names.get(address, "sales")
        browser.get(address.format(name=name, data_set="sales", run_id=run, model="spends"))


def test_the_table_has_every_page_and_no_other(browser: Browser) -> None:
    addresses = browser.addresses()
    assert addresses >= PARTS
    assert set(SAID) == addresses - PARTS
