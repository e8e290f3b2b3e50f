"""Files of APIs in a product's folder."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from tulle.errors import Place
from tulle.gateway.apis.load import Loaded, load_api, load_apis

OPENAPI = """
openapi: 3.1.0
info: {title: Orders, version: "1"}
paths:
  /items: {get: {responses: {}}, post: {responses: {}}}
  /items/{id}: {get: {responses: {}}}
"""
ORDERS = """
api: orders
title: Orders
summary: What was ordered.
docs: [guide.md]
terms: {version: '1', file: terms.md}
tiers: [{name: free, limits: [1/1s, 100/1d], approval: automatic}]
contact: {email: shop@example.com}
visibility: {domains: [shop], roles: [Analysts]}
tags: [orders, shop]
versions:
- version: v1
  openapi: orders.openapi.yaml
  upstream: https://orders.example.com/base
  publish: true
- version: v2
  service: orders
  path: /orders-next
  hosts: [api.example.com]
  access: {public: {limit: 5/1s}}
  environments:
    test: {service: orders-test, path: /o}
    dev:
"""


class Folder:
    """A product with a folder `apis`."""

    def __init__(self, folder: Path, name: str = "sales") -> None:
        self.product = SimpleNamespace(name=name, folder=folder, place=Place(f"products/{name}/product.yaml"))
        (folder / "apis").mkdir(parents=True)
        self.write("guide.md", "# How")
        self.write("terms.md", "Be kind.")
        self.write("orders.openapi.yaml", OPENAPI)

    def write(self, name: str, text: str) -> Path:
        file: Path = self.product.folder / "apis" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def load(self) -> tuple[Loaded, ...]:
        return load_apis(self.product)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def read(text: str, product: str = "sales") -> Loaded:
    """An API that names no files."""
    return load_api(text, product=product, name=f"{product}.yaml")
