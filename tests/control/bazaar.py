"""A mesh with managed APIs, its doors, and people with keys of their own; without runs, which take long."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import httpx
from sqlalchemy import Connection
from tests.control.conftest import fill, opened
from tests.pipeline.conftest import Mesh

from tulle.cli.connect import InProcess
from tulle.control.apply import apply_plan
from tulle.lake.access import people
from tulle.server.app import application
from tulle.server.lake_doors import lake_access
from tulle.server.token import read_token

OPENAPI = """
openapi: 3.1.0
info: {title: Orders, version: "1", description: What was ordered.}
paths:
  /items:
    get:
      operationId: listItems
      summary: Every item
      parameters: [{name: page, in: query, description: of twenty, schema: {type: integer}}]
      responses:
        "200":
          description: some
          content:
            application/json:
              schema: {type: array, items: {$ref: '#/components/schemas/Item'}}
              examples: {full: {value: [{id: 1, sku: abc-1}]}, none: {value: []}}
    post:
      summary: Another item
      requestBody: {content: {application/json: {schema: {$ref: '#/components/schemas/Item'}, example: {id: 2, sku: b}}}}
      responses: {"201": {description: made}}
  /items/{id}:
    get:
      parameters: [{name: id, in: path, required: true, schema: {type: string}}]
      responses: {"200": {description: one}, "404": {description: none}}
components:
  schemas:
    Item:
      type: object
      required: [id]
      properties: {id: {type: integer, description: its number}, sku: {type: string, description: its stock keeping unit}}
"""
NEWER = OPENAPI.replace("  /items/{id}:", "  /things/{id}:")
ORDERS = """
    api: orders
    title: Orders of the shop
    summary: What was ordered, and where it is.
    docs: [guide.md]
    contact: {name: The shop, email: shop@example.com}
    terms: {version: '1', text: Be kind to the orders.}
    tiers:
    - {name: free, limits: [10/1s, 1000/1d], approval: automatic}
    - {name: gold, limits: [100/1s], description: for shops}
    - {name: secret, limits: [500/1s], visibility: private}
    tags: [orders, logistics]
    versions:
    - {version: v1, openapi: orders.openapi.yaml, mock: true, publish: true, environments: {test: }}
    - {version: v2, openapi: newer.openapi.yaml, upstream: 'https://orders.example.com/base', publish: true, access: {public: {limit: 5/1s}}}
    - version: v3
      openapi: newer.openapi.yaml
      policies:
      - {policy: header-injection, request: {x-api-key: hush-hush, x-team: blue}}
      - {policy: basic-auth, operations: [{method: POST, path: /items}]}
"""
HIDDEN = """
    api: payroll
    title: Payroll
    summary: Who earns what.
    visibility: private
    versions: [{version: v1, openapi: newer.openapi.yaml, publish: true, mock: true}]
"""
GUIDE = """# How to use it

Read the **items**, then see [the portal](https://example.com/x).

<script>alert(1)</script>

| a | b |
|---|---|
| 1 | 2 |
"""
MESH = (
    "name: test\nwarehouse: {threads: 1, memory: 256MB}\nenvironments: {test: {fallback: prod}, prod: {}}\n"
)


class Bazaar:
    """The mesh: `ann` may change what products publish, `vic` may read them, `kim` is in no group."""

    def __init__(self, folder: Path, more: str = "", apis: Mapping[str, str] = MappingProxyType({})) -> None:
        """`more` are further lines of mesh.yaml, `apis` further files beside those that declare APIs."""
        self.mesh = fill(Mesh(folder))
        self.mesh.write("mesh.yaml", MESH + more)
        self.mesh.sales("apis/orders.yaml", ORDERS)
        self.mesh.sales("apis/payroll.yaml", HIDDEN)
        self.mesh.sales("apis/guide.md", GUIDE)
        self.mesh.sales("apis/orders.openapi.yaml", OPENAPI)
        self.mesh.sales("apis/newer.openapi.yaml", NEWER)
        for name, text in apis.items():
            self.mesh.sales(f"apis/{name}", text)
        self.workspace = opened(self.mesh)
        apply_plan(self.workspace)
        self.access = lake_access(self.workspace.settings, self.workspace.database)
        self.access.change("", "access.user.created", "user/some", self._people)
        self.keys = {name: self.access.create_key("", name) for name in ("ann", "vic", "kim")}
        self.app = application(self.workspace.settings)
        self.transport = InProcess(self.app)
        self.token = f"Bearer {read_token(self.workspace.settings)}"

    @staticmethod
    def _people(cx: Connection) -> None:
        for name, group in (("ann", "Developers"), ("vic", "Viewers"), ("kim", "")):
            people.add_user(cx, name)
            if group:
                people.add_member(cx, group, name)
        # One of every product's people, who works on all branches but the published one.
        works = {"effect": "allow", "action": ["fs:CreateBranch"], "resource": "*"}
        people.add_policy(cx, "Works", [works])
        people.attach(cx, "Works", "user", "vic")

    def basic(self, name: str) -> str:
        key = self.keys[name]
        return "Basic " + base64.b64encode(f"{key.id}:{key.secret}".encode()).decode()

    def key_file(self, name: str) -> str:
        """A file with somebody's key, as `--key` takes it."""
        key, file = self.keys[name], self.mesh.folder / f"{name}.yaml"
        file.write_text(
            json.dumps({"credentials": {"access_key_id": key.id, "secret_access_key": key.secret}})
        )
        return str(file)

    def call(self, method: str, path: str, body: object = None, *, as_: str = "") -> httpx.Response:
        """One call of the API, as somebody, or with the mesh's token."""
        credential = self.basic(as_) if as_ else self.token
        return self.send(method, f"/mesh/v1{path}", body, authorization=credential)

    def send(self, method: str, path: str, body: object = None, **headers: str) -> httpx.Response:
        """One request to the control plane."""
        settings = self.workspace.settings
        url = f"http://{settings.host}:{settings.control_plane_port}{path}"
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        response = self.transport.handle_request(httpx.Request(method, url, json=body, headers=said))
        response.read()
        return response

    def close(self) -> None:
        self.transport.__exit__()
        self.app.state.close()
        self.workspace.database.close()
