"""Look-ups in a database that is slow, lost, back again or not as it was: clear answers, and nobody else waits."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import psycopg
import pytest
from tests.lake.databases import Postgres
from tests.serving.asking import answer
from tests.serving.conftest import Mesh, customers
from tests.serving.test_finder import copied

from tulle.errors import Invalid
from tulle.pipeline.sources.address import made
from tulle.serving.app import App
from tulle.serving.elsewhere import Elsewhere, connect
from tulle.serving.loaded import Loaded, load
from tulle.serving.worker import warm_up
from tulle.state.connections import open_connections

SECRET = "geheimnis-17"
TEXT = """
service: elsewhere
endpoints:
- name: strict
  type: lookup
  data_set: customers
  key: {who: customer_id}
  columns: [spend, note]
  source: {connection: shop-db, table: customers, timeout: 0.5, connections: 2}
- name: kind
  type: lookup
  data_set: customers
  key: {who: customer_id}
  columns: [spend]
  defaults: {spend: 0.5}
  source: {connection: shop-db, table: public.customers, timeout: 0.5, unavailable: default}
- name: here
  type: lookup
  product: customer-features
  data_set: customer_features
  key: customer_id
  columns: [spend]
- name: model
  type: predict
  model: high_value
  enrich:
  - data_set: customers
    key: {who: customer_id}
    source: {connection: shop-db, table: customers, timeout: 0.5}
- name: both
  type: compose
  input: {who: {}}
  steps: [{name: one, call: strict, with: {who: $input.who}}]
  output: $one
"""


@pytest.fixture
def pg(postgres: Postgres) -> Iterator[str]:
    url = postgres.make(empty=True)
    copied(url, "customers", customers())
    yield url
    postgres.drop(url)


@pytest.fixture
def service(mesh: Mesh, pg: str) -> Iterator[Loaded]:
    known = open_connections(mesh.settings, mesh.database)
    known.save(made("shop-db", "prod", "sql", pg, {}, {"password": SECRET}))
    loaded = load(mesh.unpacked(mesh.build(TEXT)))
    connect(loaded, lambda name: known.get(name, "prod"))
    yield loaded
    loaded.close()


async def ask(service: Loaded, endpoint: str, body: Any) -> tuple[int, Any]:
    status, answer = await service.ask(endpoint, body)
    assert SECRET not in answer.decode()
    return status, json.loads(answer)


def who(name: str) -> dict[str, Any]:
    return {"data": {"who": name}}


def test_what_a_request_asks_for_is_what_the_table_holds_then(service: Loaded, pg: str) -> None:
    async def all_of_it() -> None:
        assert (await ask(service, "strict", who("00003")))[1]["results"] == [
            {"data": {"spend": 5.25, "note": None}}
        ]
        with psycopg.connect(pg, autocommit=True) as connection:
            connection.execute(
                "UPDATE customers SET spend = 7.5, note = 'a \"b\"' WHERE customer_id = '00003'"
            )
        found = (await ask(service, "strict", who("00003")))[1]
        assert found["results"] == [{"data": {"spend": 7.5, "note": 'a "b"'}}]
        assert found["apiContext"]["dataCommits"] == {}
        assert (await ask(service, "both", {"who": "00005"}))[1]["response"]["spend"] == 8.75
        assert (await ask(service, "both", {"who": "00003"}))[1]["response"] == {
            "spend": 7.5,
            "note": 'a "b"',
        }
        for nobody in ("nobody", "a\x00b", "x" * 600, "'; DROP TABLE customers --"):
            assert (await ask(service, "strict", who(nobody)))[0] == 404
        status, error = await ask(service, "strict", {"data": {"whom": "00003"}})
        assert (status, error["errorType"]) == (400, "InvalidKey")
        by_key = (await ask(service, "model", {"features": {"who": "00004"}}))[1]
        sent = {"recency": 12, "frequency": 29, "spend": 7.0}
        assert by_key["result"] == (await ask(service, "model", {"features": sent}))[1]["result"]

    asyncio.run(all_of_it())


def test_the_query_log_is_told_what_was_looked_up(service: Loaded) -> None:
    async def rows(action: str, body: Any) -> Any:
        found = await service.endpoints["model"].actions[action].call(json.dumps(body).encode(), "r", ())  # type: ignore[union-attr]
        return found.rows

    assert asyncio.run(rows("predict", {"features": {"who": "00004"}})) == [12, 29, 7.0]
    many = {"items": [{"features": {"who": "nobody"}}, {"features": {"who": "00004"}}]}
    assert asyncio.run(rows("predict-multi", many)) == ([1], [[12, 29, 7.0]])


def test_the_open_inference_protocol_has_rows_from_there_too(service: Loaded, pg: str) -> None:
    async def all_of_it() -> None:
        app = App(service, max_request_bytes=100_000)
        home = "/public/api/v1/elsewhere/v2/models/model"

        async def infer(*names: str) -> httpx.Response:
            tensor = {"name": "who", "datatype": "BYTES", "shape": [len(names)], "data": names}
            return await answer(app, "POST", f"{home}/infer", json.dumps({"inputs": [tensor]}).encode())

        inputs = (await answer(app, "GET", home)).json()["inputs"]
        assert "who" in {one["name"] for one in inputs}
        labels, shares = (await infer("00004", "00005")).json()["outputs"]
        wanted = []
        for name in ("00004", "00005"):
            status, said = await ask(service, "model", {"features": {"who": name}})
            assert status == 200
            wanted.append(said["result"])
        assert labels["data"] == [one["prediction"] for one in wanted]
        assert shares["data"] == [share for one in wanted for share in one["probas"].values()]
        with psycopg.connect(pg, autocommit=True) as connection:
            connection.execute("UPDATE customers SET recency = 1, spend = 900 WHERE customer_id = '00004'")
        _, changed = (await infer("00004", "00005")).json()["outputs"]
        assert changed["data"][:2] != shares["data"][:2]
        assert changed["data"][2:] == shares["data"][2:]
        nobody = await infer("00004", "nobody")
        assert (nobody.status_code, nobody.json()["errorType"]) == (404, "NoMatch")
        assert nobody.json()["error"].startswith("row 1: nothing is known")
        with psycopg.connect(pg, autocommit=True) as connection:
            connection.execute("ALTER TABLE customers RENAME TO gone")
        lost = await infer("00004")
        assert (lost.status_code, lost.json()["errorType"]) == (503, "StoreUnavailable")
        assert "error" in lost.json()
        assert lost.headers["retry-after"] == "1"

    asyncio.run(all_of_it())


def test_many_are_asked_for_together_and_one_that_fails_fails_alone(service: Loaded) -> None:
    app = App(service, max_request_bytes=100_000)

    async def many() -> Any:
        action = service.endpoints["strict"].actions["lookup-multi"]
        items = [who("00001"), who("nobody"), {"data": {}}, "nothing", who("00002")]
        return json.loads((await action.call(json.dumps({"items": items}).encode(), "r", ())).body)  # type: ignore[union-attr]

    results = asyncio.run(many())["results"]
    assert [one.get("ignoreReason") for one in results] == [
        None,
        "NoMatch",
        "MissingKey",
        "InvalidRequest",
        None,
    ]
    assert isinstance(service.endpoints["strict"], Elsewhere)
    assert f"{app.home}/strict/lookup" in app.routes


def test_a_lost_database_is_told_or_defaults_are_taken_and_it_comes_back_by_itself(
    service: Loaded, pg: str, postgres: Postgres
) -> None:
    name = pg.rpartition("?")[0].rpartition("/")[2]
    admin = postgres.url("postgres")

    async def lost_and_found() -> None:
        assert (await ask(service, "strict", who("00003")))[0] == 200
        assert (await ask(service, "kind", who("00003")))[0] == 200
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
            )
        status, error = await ask(service, "strict", who("00003"))
        assert (status, error["errorType"]) == (503, "StoreUnavailable")
        assert error["message"] == "what is looked up in 'customers' cannot be asked for now"
        assert "Connection 'shop-db'" in error["detailedMessage"]
        status, kind = await ask(service, "kind", who("00003"))
        assert (status, kind["results"]) == (200, [{"data": {"spend": 0.5}, "status": "UNAVAILABLE"}])
        assert (await ask(service, "model", {"features": {"who": "00004"}}))[0] == 503
        # Who sends all features looks nothing up, and the worker is well: other endpoints answer.
        sent = {"recency": 12, "frequency": 29, "spend": 7.0}
        assert (await ask(service, "model", {"features": sent}))[0] == 200
        await warm_up(service, 2)
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        assert (await ask(service, "strict", who("00003")))[0] == 200
        with psycopg.connect(
            admin, autocommit=True
        ) as connection:  # idle connections are cut: nobody notices
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
            )
        assert (await ask(service, "strict", who("00003")))[0] == 200

    asyncio.run(lost_and_found())


def test_a_database_that_hangs_is_given_up_in_time_and_holds_up_nobody_else(service: Loaded, pg: str) -> None:
    async def hanging() -> None:
        with psycopg.connect(pg) as other:
            other.execute("LOCK TABLE customers IN ACCESS EXCLUSIVE MODE")
            waiting = [asyncio.create_task(ask(service, "strict", who("00003"))) for _ in range(6)]
            await asyncio.sleep(0.05)
            answered = 0
            while not any(task.done() for task in waiting):
                assert (await ask(service, "here", {"data": {"customer_id": "00003"}}))[0] == 200
                answered += 1
                await asyncio.sleep(0)
            results = await asyncio.gather(*waiting)
            assert answered > 1
        assert {status for status, _ in results} == {503}
        assert "did not answer within 0.5 s" in results[0][1]["detailedMessage"]
        assert (await ask(service, "strict", who("00003")))[0] == 200

    asyncio.run(hanging())


def test_a_table_that_is_not_as_it_was_packaged_is_told_without_its_columns(service: Loaded, pg: str) -> None:
    with psycopg.connect(pg, autocommit=True) as connection:
        connection.execute("ALTER TABLE customers DROP COLUMN note")

    async def asked() -> tuple[int, Any]:
        return await ask(service, "strict", who("00003"))

    status, error = asyncio.run(asked())
    assert (status, error["errorType"]) == (503, "StoreUnavailable")
    assert "its table 'customers' is not as it was packaged" in error["detailedMessage"]


def test_a_row_that_no_answer_can_have_is_faulty_and_not_taken_for_none(service: Loaded, pg: str) -> None:
    with psycopg.connect(pg, autocommit=True) as connection:
        connection.execute("DROP TABLE customers")
        connection.execute(
            "CREATE TABLE plain (customer_id text, spend numeric(10,2), note text, by_day int)"
        )
        connection.execute("INSERT INTO plain VALUES ('1', 1, 'a', 0), ('2', 2, 'b', 1)")
        connection.execute(
            "CREATE VIEW customers AS SELECT customer_id, (spend / by_day)::numeric(10,2) AS spend, note FROM plain"
        )

    async def both() -> Any:
        action = service.endpoints["strict"].actions["lookup-multi"]
        body = json.dumps({"items": [who("1"), who("2")]}).encode()
        return json.loads((await action.call(body, "r", ())).body)["results"]  # type: ignore[union-attr]

    faulty, good = asyncio.run(both())
    assert (faulty["error"]["status"], faulty["ignoreReason"]) == (502, "FaultyRow")
    assert good["data"] == {"spend": 2.0, "note": "b"}


def test_a_server_that_says_nothing_any_more_is_given_up_in_time(mesh: Mesh, pg: str) -> None:
    """Not even to be told to stop: a driver that waits for that must not keep the request waiting."""
    with Silent(pg) as silent:
        known = open_connections(mesh.settings, mesh.database)
        known.save(made("shop-db", "prod", "sql", silent.url, {"user": "postgres"}, {}))
        loaded = load(mesh.unpacked(mesh.build(TEXT)))
        connect(loaded, lambda name: known.get(name, "prod"))

        async def hanging() -> list[tuple[int, Any]]:
            assert (await ask(loaded, "strict", who("00003")))[0] == 200
            silent.is_silent = True
            found = []
            for _ in range(2):
                async with asyncio.timeout(3):  # where each of them has half a second
                    found.append(await ask(loaded, "strict", who("00003")))
            return found

        for status, error in asyncio.run(hanging()):
            assert (status, error["errorType"]) == (503, "StoreUnavailable")
            assert "did not answer within 0.5 s" in error["detailedMessage"]


class Silent:
    """Between us and PostgreSQL: passes on what is said, until it is silent."""

    def __init__(self, url: str) -> None:
        folder = parse_qs(urlsplit(url).query)["host"][0]
        self._path = str(next(Path(folder).glob(".s.PGSQL.*[0-9]")))
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"postgresql://127.0.0.1:{self._listening.getsockname()[1]}{urlsplit(url).path}"
        self.is_silent = False
        self._ends: list[socket.socket] = []

    def __enter__(self) -> Silent:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for end in (self._listening, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(self._path)
                self._ends += (near, far)
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while said := one.recv(65_536):
                if not self.is_silent:
                    other.sendall(said)


def test_what_is_wrong_is_told_when_the_service_is_packaged(mesh: Mesh, pg: str) -> None:
    with pytest.raises(Invalid, match="there is no connection 'shop-db' in environment 'prod'"):
        mesh.build(TEXT)
    known = open_connections(mesh.settings, mesh.database)
    known.save(made("shop-db", "prod", "sql", pg, {}, {}))
    with pytest.raises(Invalid, match="table 'custmers': the database says: relation"):
        mesh.build(TEXT.replace("table: customers", "table: custmers"))
    known.save(made("shop-db", "prod", "sql", "mysql://127.0.0.1:1/shop", {}, {}))
    with pytest.raises(
        Invalid, match="connection 'shop-db' leads to mysql, in whose tables no row is looked up"
    ):
        mesh.build(TEXT)
    known.save(made("shop-db", "prod", "sql", pg, {}, {}))
    with pytest.raises(Invalid, match="no column 'spent'"):
        mesh.build(TEXT.replace("[spend, note]", "[spent, note]"))
    with pytest.raises(Invalid, match="cannot follow what is published, or be in a database"):
        mesh.build(TEXT.replace("name: strict", "name: strict\n  version: '1.0'"))


def test_without_the_mesh_nothing_can_be_asked(mesh: Mesh, pg: str) -> None:
    known = open_connections(mesh.settings, mesh.database)
    known.save(made("shop-db", "prod", "sql", pg, {}, {}))
    loaded = load(mesh.unpacked(mesh.build(TEXT)))
    status, error = asyncio.run(ask(loaded, "strict", who("00003")))
    assert (status, error["errorType"]) == (503, "StoreUnavailable")


def test_several_data_sets_may_lie_in_several_places(mesh: Mesh, pg: str) -> None:
    known = open_connections(mesh.settings, mesh.database)
    known.save(made("shop-db", "prod", "sql", pg, {}, {"password": SECRET}))
    text = """
service: joined
endpoints:
- name: it
  type: lookup
  lookups:
  - {product: customer-features, data_set: customer_features, key: {who: customer_id}, columns: [recency]}
  - data_set: customers
    key: {who: customer_id}
    columns: [spend]
    source: {connection: shop-db, table: customers, timeout: 5}
  - data_set: customers
    key: number
    columns: [note]
    missing_key: default
    defaults: {note: none}
    source: {connection: shop-db, table: customers, timeout: 5}
"""
    loaded = load(mesh.unpacked(mesh.build(text)))
    connect(loaded, lambda name: known.get(name, "prod"))

    async def run() -> tuple[Any, Any]:
        one = await ask(loaded, "it", {"data": {"who": "00003"}})
        items = [{"data": {"who": "00005", "number": 5}}, {"data": {"who": "nobody"}}, {"data": {}}]
        endpoint = loaded.endpoints["it"]
        assert isinstance(endpoint, Elsewhere)
        given = await endpoint.actions["lookup-multi"].call(json.dumps({"items": items}).encode(), "r", ())
        return one, json.loads(given.body)["results"]

    (status, one), many = asyncio.run(run())
    loaded.close()
    assert status == 200
    assert one["results"][0]["data"] == {"recency": 9, "spend": 5.25, "note": "none"}
    assert [each["status"] for each in one["results"][0]["lookups"]] == ["PRESENT", "PRESENT", "NOT_FOUND"]
    assert many[0]["data"] == {"recency": 15, "spend": 8.75, "note": "note «5»"}
    assert [each.get("ignoreReason") for each in many] == [None, "NoMatch", "MissingKey"]
