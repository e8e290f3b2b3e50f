"""A mesh with one product whose only input port is what a test says, and the world around it: databases, an HTTP API."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from tests.lake.databases import Postgres
from tests.pipeline.sources.mariadb import MariaDb

from tulle.lake.repository import open_lake
from tulle.pipeline import run as runs
from tulle.pipeline.execute import execute
from tulle.pipeline.run import Run
from tulle.pipeline.sources.address import made
from tulle.spec.mesh import load_mesh
from tulle.state.connections import open_connections
from tulle.state.db import open_database

PRODUCT = """
apiVersion: core.oam.dev/v1beta1
kind: DataProduct
spec:
  components:
  - {name: shop, type: domain, properties: {description: the shop}}
  - {name: orders, type: data-product, properties: {definition: what was ordered}}
  - name: orders
    type: input-port
    properties:
      description: the shop's orders
      source: SOURCE
      data_set: orders
"""


class Shop:
    """A mesh of the product `orders`, its connections and its runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.product = folder / "products/shop/orders"
        is_new = not folder.exists()
        if is_new:
            (self.product / "data").mkdir(parents=True)
            self.settings_are()
        settings = load_mesh(folder).settings
        self.database = open_database(settings.database_url)
        self.lake = open_lake(self.database, settings.storage_namespace)
        if is_new:
            self.lake.create_repository("orders")
        self.connections = open_connections(settings, self.database)

    def settings_are(self, **more: Any) -> None:
        values = {"name": "test", "warehouse": {"threads": 1, "memory": "256MB"}, **more}
        (self.folder / "mesh.yaml").write_text(yaml.safe_dump(values))

    def source(self, **says: Any) -> None:
        text = PRODUCT.replace("SOURCE", json.dumps(says))
        (self.product / "product.yaml").write_text(text.lstrip("\n"))

    def check(self, text: str) -> None:
        (self.product / "checks").mkdir(exist_ok=True)
        (self.product / "checks/orders.yaml").write_text(text)

    def connect(
        self, name: str, kind: str, address: str, secrets: dict[str, str] | None = None, **options: str
    ) -> None:
        self.connections.save(made(name, "prod", kind, address, options, secrets or {}))

    def run(self, *, full: bool = False, environment: str = "main") -> Run:
        run_id = runs.request(self.database, "orders", environment=environment, options={"full": full})
        return execute(self.database, self.lake, load_mesh(self.folder), run_id)

    def good(self, *, full: bool = False) -> Run:
        run = self.run(full=full)
        assert run.status == "succeeded", run.error
        return run

    def table(self, data_set: str = "orders") -> pa.Table:
        files = self.lake.repository("orders").files("main", f"{data_set}/")
        return pa.concat_tables([pq.read_table(file) for file in files])

    def rows(self, data_set: str = "orders") -> list[dict[str, Any]]:
        table = self.table(data_set)
        return table.sort_by([(name, "ascending") for name in table.column_names[:2]]).to_pylist()

    def names(self) -> list[str]:
        return [e.path for e in self.lake.repository("orders").entries("main") if e.path.endswith(".parquet")]


def problems(run: Run) -> str:
    """All that a failed run says."""
    assert run.status == "failed"
    assert run.error is not None
    told = [run.error["message"], str(run.error["hint"])]
    return "\n".join([*told, *(json.dumps(p, ensure_ascii=False) for p in run.error["problems"])])


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made_ = Shop(tmp_path / "mesh")
    yield made_
    made_.database.close()


@pytest.fixture
def pg(postgres: Postgres) -> Iterator[str]:
    """The URL of an empty PostgreSQL database."""
    url = postgres.make(empty=True)
    yield url
    postgres.drop(url)


@pytest.fixture
def sqlite_file(tmp_path: Path) -> Path:
    """An SQLite file with the table `orders`."""
    file = tmp_path / "shop.db"
    with closing(sqlite3.connect(file)) as cx:
        cx.execute(
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, name TEXT, amount DECIMAL(10,2), day DATE, data BLOB)"
        )
        cx.execute(
            "INSERT INTO orders VALUES (1, 'a', 10.5, '2020-01-31', x'00ff'), (2, NULL, '3.25', NULL, NULL)"
        )
        cx.commit()
    return file


class Api:
    """A real HTTP server whose answers a test gives; it keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str], dict[str, str]]] = []
        self.answer: Callable[[str, dict[str, str], dict[str, str]], tuple[int, dict[str, str], bytes]]
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                query = {key: values[0] for key, values in parse_qs(parts.query).items()}
                headers = {key.lower(): value for key, value in self.headers.items()}
                api.asked.append((parts.path, query, headers))
                status, more, body = api.answer(parts.path, query, headers)
                self.send_response(status)
                for key, value in more.items():
                    self.send_header(key, value)
                if "Content-Length" in more:  # a lie: the body ends before, and with it the connection
                    self.close_connection = True
                else:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def gives(self, pages: Callable[[dict[str, str]], Any], **headers: str) -> None:
        """Answer with JSON."""
        self.answer = lambda _path, query, _headers: (200, headers, json.dumps(pages(query)).encode())

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def api(shop: Shop) -> Iterator[Api]:
    """An API that the mesh may reach, with the connection `api`."""
    server = Api()
    shop.settings_are(source_addresses=["127.0.0.1"])
    shop.connect("api", "http", f"{server.url}/v1", {"token": "s3cret-token"}, auth="bearer")
    yield server
    server.close()


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDb]:
    """A MariaDB server for all tests that want one."""
    server = MariaDb()
    yield server
    server.stop()


@pytest.fixture
def my(mariadb: MariaDb) -> Iterator[str]:
    """The address of an empty database `shop`."""
    mariadb.change("", "CREATE DATABASE shop CHARACTER SET utf8mb4;\nGRANT SELECT ON shop.* TO reader@'%'")
    yield f"mysql://127.0.0.1:{mariadb.port}/shop"
    mariadb.change("", "DROP DATABASE shop")
