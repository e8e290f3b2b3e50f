"""Look-ups in a Redis that is slow, lost, back again or not as it was: clear answers, and nobody else waits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.serving.conftest import Mesh
from tests.serving.redis_server import PASSWORD, RedisServer

from tulle.errors import Denied, Invalid, Unavailable
from tulle.pipeline.sources.address import made
from tulle.pipeline.sources.describe import described
from tulle.pipeline.sources.probe import probe
from tulle.pipeline.sources.sql import session_of
from tulle.serving.elsewhere import connect
from tulle.serving.fit import misfits
from tulle.serving.loaded import Loaded, load
from tulle.serving.service import load_service
from tulle.serving.worker import warm_up
from tulle.state.connections import Connection, open_connections

TEXT = """
service: in-redis
endpoints:
- name: strict
  type: lookup
  data_set: sessions
  key: {who: customer}
  columns: [pages, paid, note]
  source:
    connection: cache
    keys: 'session:{customer}'
    types: {customer: string, pages: integer, paid: 'decimal(10,2)', note: string}
    timeout: 0.5
    connections: 2
- name: kind
  type: lookup
  data_set: sessions
  key: {who: customer}
  columns: [pages]
  defaults: {pages: 1}
  source:
    connection: cache
    keys: 'hash:{customer}'
    types: {customer: string, pages: integer}
    form: hash
    timeout: 0.5
    unavailable: default
- name: here
  type: lookup
  product: customer-features
  data_set: customer_features
  key: customer_id
  columns: [spend]
"""


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """One of its own, as it is stopped and begun again."""
    started = RedisServer()
    with started.client() as client:
        client.set("session:00003", '{"pages": 3, "paid": 5.25, "unknown": [1]}')
        client.hset("hash:00003", mapping={"pages": "7", "other": b"\xff"})
    yield started
    started.stop()


def connection(server: RedisServer, **more: str) -> Connection:
    return made("cache", "prod", "redis", server.url(), {}, more)


@pytest.fixture
def service(shared_mesh: Mesh, server: RedisServer) -> Iterator[Loaded]:
    known = open_connections(shared_mesh.settings, shared_mesh.database)
    known.save(connection(server))
    loaded = load(shared_mesh.unpacked(shared_mesh.build(TEXT)))
    assert connect(loaded, lambda name: known.get(name, "prod"))
    yield loaded
    loaded.close()


async def ask(service: Loaded, endpoint: str, who: str) -> tuple[int, Any]:
    status, answer = await service.ask(endpoint, {"data": {"who": who}})
    return status, json.loads(answer)


def test_what_a_request_asks_for_is_what_lies_there_then(service: Loaded, server: RedisServer) -> None:
    async def all_of_it() -> None:
        assert (await ask(service, "strict", "00003"))[1]["results"] == [
            {"data": {"pages": 3, "paid": 5.25, "note": None}}
        ]
        assert (await ask(service, "kind", "00003"))[1]["results"][0]["data"] == {"pages": 7}
        with server.client() as client:
            client.set("session:00003", '{"paid": 12345678.90, "note": "a \\"b\\" «c»"}')
            client.set("session:empty", "[]")
        found = (await ask(service, "strict", "00003"))[1]
        assert found["results"][0]["data"] == {"pages": None, "paid": 12345678.9, "note": 'a "b" «c»'}
        assert found["apiContext"]["dataCommits"] == {}
        for nobody in ("nobody", "a\x00b", "\r\nGET session:00003\r\n", "empty", "ü", "x" * 5000):
            assert (await ask(service, "strict", nobody))[0] == 404
        action = service.endpoints["strict"].actions["lookup-multi"]
        items = [{"data": {"who": "00003"}}, {"data": {"who": "nobody"}}, {"data": {}}]
        answer = json.loads((await action.call(json.dumps({"items": items}).encode(), "r", ())).body)  # type: ignore[union-attr]
        assert [one.get("ignoreReason") for one in answer["results"]] == [None, "NoMatch", "MissingKey"]

    asyncio.run(all_of_it())


def test_a_lost_redis_is_told_or_defaults_are_taken_and_it_comes_back_by_itself(
    service: Loaded, server: RedisServer
) -> None:
    async def lost_and_found() -> None:
        assert (await ask(service, "strict", "00003"))[0] == 200
        server.end()
        status, error = await ask(service, "strict", "00003")
        assert (status, error["errorType"]) == (503, "StoreUnavailable")
        assert error["message"] == "what is looked up in 'sessions' cannot be asked for now"
        assert "Connection 'cache': it cannot be reached" in error["detailedMessage"]
        status, kind = await ask(service, "kind", "00003")
        assert (status, kind["results"]) == (200, [{"data": {"pages": 1}, "status": "UNAVAILABLE"}])
        assert (await ask(service, "here", "00003"))[0] == 400  # its key has another name: it answers
        await warm_up(service, 2)
        server.start()
        assert (await ask(service, "strict", "00003"))[0] == 404
        with server.client() as client:
            client.set("session:00003", "{}")
            assert (await ask(service, "strict", "00003"))[0] == 200
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert (await ask(service, "strict", "00003"))[0] == 200  # idle connections were cut: nobody notices
        server.end()
        server.start("--requirepass", PASSWORD)
        status, error = await ask(service, "strict", "00003")
        assert (status, "it refuses us" in error["detailedMessage"]) == (503, True)

    asyncio.run(lost_and_found())


def test_a_redis_that_hangs_is_given_up_in_time_and_holds_up_nobody_else(
    service: Loaded, server: RedisServer
) -> None:
    async def hanging() -> None:
        server.hang()
        waiting = [asyncio.create_task(ask(service, "strict", "00003")) for _ in range(6)]
        await asyncio.sleep(0.05)
        answered = 0
        while not any(task.done() for task in waiting):
            status, _ = await service.ask("here", {"data": {"customer_id": "00003"}})
            answered += status == 200
            await asyncio.sleep(0)
        results = await asyncio.gather(*waiting)
        assert answered > 1
        assert {status for status, _ in results} == {503}
        assert "did not answer within 0.5 s" in results[0][1]["detailedMessage"]
        server.go_on()
        assert (await ask(service, "strict", "00003"))[0] == 200

    asyncio.run(hanging())


@pytest.mark.parametrize(
    ("held", "why"),
    [
        ('{"pages": "geheimnis"}', "Expected `int | null`, got `str`"),
        ("geheimnis", "JSON is malformed"),
        ("[" * 5000, "not as it was packaged"),
        ("7", "Expected `object | array`, got `int`"),
        (b"\xff", "JSON is malformed"),
    ],
)
def test_what_is_not_as_it_was_declared_is_told_without_a_value(
    service: Loaded, server: RedisServer, held: str, why: str
) -> None:
    with server.client() as client:
        client.set("session:00003", held)
        client.set("hash:00003", held)
    status, error = asyncio.run(ask(service, "strict", "00003"))
    assert (status, error["errorType"]) == (502, "FaultyRow")
    assert "what lies under 'session:{customer}' is not as it was packaged" in error["detailedMessage"]
    assert why in error["detailedMessage"]
    assert "geheimnis" not in json.dumps(error)
    assert asyncio.run(ask(service, "kind", "00003"))[1]["results"][0]["status"] == "UNAVAILABLE"


def test_a_faulty_row_is_told_of_its_own_key_alone(service: Loaded, server: RedisServer) -> None:
    with server.client() as client:
        client.set("session:bad", '{"pages": "geheimnis"}')
        client.rpush("session:list", "no text")
        client.hset("hash:bad", "pages", "geheimnis")

    async def many(endpoint: str) -> Any:
        items = [{"data": {"who": who}} for who in ("00003", "bad", "list", "nobody")]
        action = service.endpoints[endpoint].actions["lookup-multi"]
        answer = await action.call(json.dumps({"items": items}).encode(), "r", ())  # type: ignore[union-attr]
        return json.loads(answer.body)["results"]

    good, bad, odd, nobody = asyncio.run(many("strict"))
    assert good["data"]["pages"] == 3
    assert [one["error"]["status"] for one in (bad, odd, nobody)] == [502, 502, 404]
    assert [one["ignoreReason"] for one in (bad, odd, nobody)] == ["FaultyRow", "FaultyRow", "NoMatch"]
    assert "geheimnis" not in json.dumps(bad)
    good, bad, *_ = asyncio.run(many("kind"))
    assert good == {"data": {"pages": 7}}
    assert (bad["data"], bad["status"]) == ({"pages": 1}, "UNAVAILABLE")


def test_a_connection_that_is_removed_is_told_or_defaults_are_taken(
    shared_mesh: Mesh, server: RedisServer
) -> None:
    known = open_connections(shared_mesh.settings, shared_mesh.database)
    known.save(connection(server))
    loaded = load(shared_mesh.unpacked(shared_mesh.build(TEXT)))
    connect(loaded, lambda name: known.get(name, "prod"))
    known.remove("cache", "prod")
    status, error = asyncio.run(ask(loaded, "strict", "00003"))
    assert (status, error["errorType"]) == (503, "StoreUnavailable")
    assert "there is no connection 'cache' in environment 'prod'" in error["detailedMessage"]
    status, answer = asyncio.run(ask(loaded, "kind", "00003"))
    assert (status, answer["results"][0]["status"]) == (200, "UNAVAILABLE")


def test_a_connection_is_tried_and_leads_to_no_source(server: RedisServer) -> None:
    assert probe(connection(server), None) == "Redis"  # type: ignore[arg-type]
    with pytest.raises(Invalid, match="leads to no database with tables, but is of kind redis") as caught:
        described(connection(server), "orders")
    assert "look up by `keys`" in str(caught.value.hint)
    with pytest.raises(Invalid, match="connection 'cache' leads to a Redis, which no source reads"):
        session_of(connection(server))
    server.end()
    with pytest.raises(Unavailable, match="connection 'cache' does not answer"):
        probe(connection(server), None)  # type: ignore[arg-type]
    server.start("--requirepass", PASSWORD)
    assert probe(connection(server, password=PASSWORD), None) == "Redis"  # type: ignore[arg-type]
    with pytest.raises(Denied, match="refuses to sign in") as denied:
        probe(connection(server, password="wrong/word"), None)  # type: ignore[arg-type]
    assert "wrong/word" not in str(denied.value)


def test_a_user_signs_in_by_tls_to_a_database_of_its_own(shared_mesh: Mesh, server: RedisServer) -> None:
    address, trusted = server.encrypt()
    with server.client(database=2) as client:
        client.set("session:00003", '{"pages": 22}')
        client.acl_setuser(
            "reader",
            enabled=True,
            passwords=[f"+{PASSWORD}"],
            keys=["session:*"],
            commands=["+get", "+select"],
        )
    known = open_connections(shared_mesh.settings, shared_mesh.database)
    options = {"user": "reader", "ca_file": str(trusted)}
    secrets = {"password": PASSWORD}
    known.save(made("cache", "prod", "redis", f"{address}/2", options, secrets))
    loaded = load(shared_mesh.unpacked(shared_mesh.build(TEXT)))
    connect(loaded, lambda name: known.get(name, "prod"))
    status, answer = asyncio.run(ask(loaded, "strict", "00003"))
    assert (status, answer["results"][0]["data"]["pages"]) == (200, 22)
    status, error = asyncio.run(ask(loaded, "kind", "00003"))  # it may not read hashes
    assert error["results"][0]["status"] == "UNAVAILABLE"
    # A server that shows a certificate of nobody we trust is not told the password.
    known.save(made("cache", "prod", "redis", f"{address}/2", {"user": "reader"}, secrets))
    for who in ("00003", "00004"):
        status, error = asyncio.run(ask(loaded, "strict", who))
        assert (status, error["errorType"]) == (503, "StoreUnavailable")
        assert PASSWORD not in json.dumps(error)
    with pytest.raises(Unavailable, match="certificate verify failed"):
        probe(known.get("cache", "prod"), None)  # type: ignore[arg-type]
    loaded.close()


@pytest.mark.parametrize(
    ("address", "options", "message"),
    [
        ("http://host", {}, "the address is none of a redis connection"),
        ("redis://", {}, "names no host"),
        ("redis://host/shop", {}, "more in it than a host, a port and the number"),
        ("redis://host/0?x=1", {}, "more in it than a host, a port and the number"),
        ("redis://host/0", {"ca_file": "/ca.pem"}, "the address is without TLS"),
        ("rediss://host/0", {"ca_file": "ca.pem"}, "no absolute path"),
        ("redis://host/0", {"user": "reader"}, "a user is given, but no password"),
        ("redis://host/0", {"sslmode": "require"}, "a redis connection has no option 'sslmode'"),
    ],
)
def test_a_connection_that_is_none_is_told(address: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(Invalid, match=message):
        made("cache", "prod", "redis", address, options, {})


def test_a_password_in_an_address_is_kept_apart() -> None:
    found = made("cache", "prod", "redis", "rediss://reader:gehe%2Fim@host:6380/2", {}, {})
    assert (found.address, found.options, found.secrets) == (
        "rediss://host:6380/2",
        {"user": "reader"},
        {"password": "gehe/im"},
    )


def test_what_is_wrong_is_told_when_the_mesh_is_planned_and_when_the_service_is_packaged(mesh: Mesh) -> None:
    wrong = TEXT.replace("session:{customer}", "session:{custmer}").replace(
        "{customer: string, pages: integer}", "{customers: string, pages: integer}"
    )
    told = [p.message for p in misfits([load_service(wrong, name="services/s.yaml")], lambda *_: None)]
    assert told == [
        "the keys 'session:{custmer}' name 'custmer', which is no column of the key",
        "column 'customer' of the key has no type",
    ]
    known = open_connections(mesh.settings, mesh.database)
    known.save(made("cache", "prod", "sql", "postgresql://host/shop", {}, {}))
    with pytest.raises(Invalid, match="leads to no Redis, but is of kind sql"):
        mesh.build(TEXT)
    known.save(made("cache", "prod", "redis", "redis://host", {}, {}))
    with pytest.raises(Invalid, match="name 'custmer'"):
        mesh.build(wrong)
    with pytest.raises(Invalid, match="no column 'paied'"):
        mesh.build(TEXT.replace("[pages, paid, note]", "[pages, paied, note]"))
    both = load_service(TEXT.replace("    form: hash\n", "    table: sessions\n"), name="services/s.yaml")
    assert [p.message for p in misfits([both], lambda *_: None)] == [
        "a source has a table or keys, and this one both"
    ]
    with pytest.raises(Invalid) as caught:
        load_service(TEXT.replace("paid: 'dec", "paid: 'dez"), name="services/s.yaml")
    assert "'paid' in 'source.types' in endpoint 'strict'" in caught.value.problems[0].message
