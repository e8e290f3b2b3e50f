"""What is answered for a key that has no row, several, or an old one; and rows under other names.

The same for rows of every source: this is the suite that each of them has to pass.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import decimal
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import psycopg
import pyarrow as pa
import pytest
import yaml
from tests.lake.databases import Postgres
from tests.serving.conftest import Mesh, customers, parquet
from tests.serving.redis_server import RedisServer
from tests.serving.test_refresh import ask, refreshed

from tulle.errors import Invalid
from tulle.pipeline.sources.address import made
from tulle.serving.app import App
from tulle.serving.elsewhere import connect
from tulle.serving.keyed_rows import BUNDLED, LATEST
from tulle.serving.live import Following
from tulle.serving.loaded import Loaded, load
from tulle.serving.refresh import live_folder
from tulle.state.connections import open_connections

POSTGRES = "postgres"
REDIS_JSON, REDIS_HASH = "redis json", "redis hash"
DATABASES_ASKED = (POSTGRES, REDIS_JSON, REDIS_HASH)
TYPES = {"timestamp[us, tz=UTC]": "timestamp", "int64": "integer", "bool": "boolean", "date32[day]": "date"}
TYPES |= {"string": "string", "double": "double", "decimal128(10, 2)": "decimal(10,2)"}

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)
VISITS = pa.table(
    {
        "customer": ["00001", "00002", "00002", "00002", 'quo"te', 'quo"te'],
        "shop": ["a", "b", "c", "d", "e", "f"],
        "spent": pa.array([1.5, 2.5, None, float("nan"), 5.5, 6.5]),
        "at": pa.array(
            [NOW - 40 * DAY, NOW - 3 * DAY, NOW - DAY, NOW - 50 * DAY, NOW - 2 * DAY, NOW - DAY],
            pa.timestamp("us", "UTC"),
        ),
    }
)
COMING = pa.table(  # of whom some is known that does not hold yet
    {
        "customer": ["00009"] * 4 + ["00008"],
        "spent": [2.0, 1.0, 30.0, -1.0, 1.0],
        "at": pa.array(
            [NOW + 2 * DAY, NOW + DAY, NOW + 30 * DAY, NOW - DAY, NOW + DAY], pa.timestamp("us", "UTC")
        ),
    }
)
TABLES = {"visits": VISITS, "coming": COMING, "customer_features": customers()}


@dataclass(frozen=True)
class Visits(Mesh):
    """The mesh, and a data set in which a key has several rows; `source` is where they are looked up."""

    source: str = BUNDLED
    server: RedisServer | None = None
    opened: list[Loaded] = field(default_factory=list)


@pytest.fixture(params=[BUNDLED, LATEST, "pinned", *DATABASES_ASKED])
def visits(mesh: Mesh, request: pytest.FixtureRequest) -> Iterator[Visits]:
    features = mesh.lake.repository("customer-features")
    features.put("main", "visits/part-0000.parquet", parquet(VISITS))
    features.put("main", "coming/part-0000.parquet", parquet(COMING))
    features.commit("main", "visits")
    features.create_tag("spring", "main")
    if request.param == "pinned":  # what comes later must not matter
        features.delete_prefix("main", "visits/")
        features.delete_prefix("main", "customer_features/")
        features.commit("main", "nothing is left")
    if request.param == POSTGRES:
        url = request.getfixturevalue("pg")
        for name, table in TABLES.items():
            copied(url, name, table)
        known = open_connections(mesh.settings, mesh.database)
        known.save(made("shop-db", "prod", "sql", url, {}, {}))
    server = None
    if request.param in {REDIS_JSON, REDIS_HASH}:
        server = request.getfixturevalue("redis_server")
        server.empty()
        known = open_connections(mesh.settings, mesh.database)
        known.save(made("shop-db", "prod", "redis", server.url(), {}, {}))
    made_ = Visits(mesh.settings, mesh.database, mesh.lake, request.param, server)
    yield made_
    for loaded in made_.opened:
        loaded.close()


@pytest.fixture
def pg(postgres: Postgres) -> Iterator[str]:
    """An empty database of a server of our own."""
    url = postgres.make(empty=True)
    yield url
    postgres.drop(url)


def copied(url: str, name: str, table: pa.Table) -> None:
    """A table of PostgreSQL with the same rows and types."""
    types = {"timestamp[us, tz=UTC]": "timestamptz", "string": "text", "double": "float8", "int64": "int8"}
    types |= {"bool": "boolean", "date32[day]": "date", "decimal128(10, 2)": "numeric(10,2)"}
    columns = ", ".join(f'"{field.name}" {types[str(field.type)]}' for field in table.schema)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE TABLE {name} ({columns})")
        with connection.cursor().copy(f"COPY {name} FROM STDIN") as copy:
            for row in table.to_pylist():
                copy.write_row(list(row.values()))


def filled(server: RedisServer, name: str, properties: str, form: str) -> str:
    """The same rows under the keys of a look-up, as whoever fills a Redis would lay them; the source that reads them."""
    table = TABLES[name]
    key = yaml.safe_load(f"{{{properties}}}")["key"]
    columns = [key] if isinstance(key, str) else list(key.values() if isinstance(key, dict) else key)
    types = {one.name: TYPES[str(one.type)] for one in table.schema}
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        text = ":".join([name, *(str(row[column]) for column in columns)])
        known = {n: value for n, value in row.items() if not isinstance(value, float) or math.isfinite(value)}
        rows.setdefault(text, []).append(known)
    with server.client() as client:
        for text, found in rows.items():
            client.delete(text)
            if form == REDIS_HASH:
                if len(found) > 1:
                    pytest.skip("a hash is one row")
                (one,) = found
                given = {n: value for n, value in one.items() if value is not None and n not in columns}
                client.hset(text, mapping=msgspec.to_builtins({n: _hashed(v) for n, v in given.items()}))
            else:
                client.set(text, msgspec.json.encode(found if len(found) > 1 else found[0]))
    keys = ":".join([name, *(f"{{{column}}}" for column in columns)])
    said = {"connection": "shop-db", "keys": keys, "types": types, "timeout": 20}
    said |= {"form": "hash"} if form == REDIS_HASH else {}
    return json.dumps(said)


def _hashed(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode().strip('"')


def service(mesh: Mesh, properties: str, *, kind: str = "lookup") -> Loaded:
    """A service with one endpoint over the visits."""
    source = getattr(mesh, "source", BUNDLED)
    table = properties.partition("data_set: ")[2].partition(",")[0]
    server = getattr(mesh, "server", None)
    if server is not None:
        redis_source = filled(server, table, properties, source)
    properties += {
        **dict.fromkeys((REDIS_JSON, REDIS_HASH), "" if server is None else f", source: {redis_source}"),
        BUNDLED: "",
        LATEST: ", source: latest",
        "pinned": ", version: spring",
        POSTGRES: f", source: {{connection: shop-db, table: {table}, timeout: 20}}",
    }[source]
    if kind == "lookup":
        text = f"service: visits\nendpoints:\n- {{name: it, type: lookup, product: customer-features, {properties}}}\n"
    else:
        text = (
            "service: visits\nendpoints:\n- {name: it, type: predict, model: high_value, "
            f"enrich: [{{product: customer-features, {properties}}}]}}\n"
        )
    loaded = load(mesh.unpacked(mesh.build(text)))
    if source == LATEST:
        follows = Following(loaded, live_folder(mesh.settings))
        follows.begin()
        refreshed(mesh, follows)
        follows.look()
    if source in DATABASES_ASKED:
        known = open_connections(mesh.settings, mesh.database)
        assert connect(loaded, lambda name: known.get(name, "prod"))
    getattr(mesh, "opened", []).append(loaded)
    return loaded


def look(loaded: Loaded, **key: Any) -> tuple[int, dict[str, Any]]:
    status, answer = asyncio.run(loaded.ask("it", {"data": key}))
    read = json.loads(answer)
    return status, read["results"][0] if status == 200 else read


def predict(loaded: Loaded, **features: Any) -> tuple[int, dict[str, Any]]:
    status, answer = asyncio.run(loaded.ask("it", {"features": features}))
    read = json.loads(answer)
    return status, read["result"] if status == 200 else read


def test_a_key_and_a_value_may_have_one_name_and_be_two_columns(visits: Visits) -> None:
    for columns in ("[shop, spent]", "{shop: shop, spent: spent}"):
        loaded = service(
            visits,
            f"data_set: visits, key: {{shop: customer}}, columns: {columns}, several: first, order_by: [shop]",
        )
        assert look(loaded, shop="00002") == (200, {"data": {"shop": "b", "spent": 2.5}, "status": "PRESENT"})


def test_decimals_are_keys_with_all_their_digits(mesh: Mesh) -> None:
    numbers = [decimal.Decimal(12345678901234567890), decimal.Decimal(12345678901234567000)]
    accounts = pa.table({"number": pa.array(numbers, pa.decimal128(20, 0)), "share": ["a", "b"]})
    features = mesh.lake.repository("customer-features")
    features.put("main", "visits/part-0000.parquet", parquet(accounts))
    features.commit("main", "accounts")
    loaded = service(mesh, "data_set: visits, key: number, columns: [share]")
    for number, share in zip(numbers, "ab", strict=True):
        assert look(loaded, number=int(number)) == (200, {"data": {"share": share}})
    status, error = look(loaded, number=12345678901234567891)
    assert (status, error["message"]) == (404, "nothing is known of number 12345678901234567891")


def test_a_key_with_several_rows_cannot_be_packaged_unless_it_is_said_which_counts(visits: Visits) -> None:
    if visits.source in DATABASES_ASKED:  # a table changes at any time, so it is told when it is asked for
        status, error = look(service(visits, "data_set: visits, key: customer"), customer="00002")
        assert (status, error["errorType"]) == (422, "SeveralMatches")
    else:
        unique = r"is not unique: '00002' \(3 rows\), 'quo\"te' \(2 rows\)"
        with pytest.raises(Invalid, match=unique) as caught:
            service(visits, "data_set: visits, key: customer")
        assert "`several:`" in str(caught.value.hint)
    with pytest.raises(Invalid, match="has no column 'when'"):
        service(visits, "data_set: visits, key: customer, several: first, order_by: [-when]")
    with pytest.raises(Invalid, match="column 'shop' of 'visits' is string, not a date or a time"):
        service(visits, "data_set: visits, key: customer, several: first, event_time: shop")
    with pytest.raises(Invalid, match="default 'spent' is \"much\", expected a number"):
        service(visits, "data_set: visits, key: customer, several: first, defaults: {spent: much}")
    with pytest.raises(Invalid, match="unknown default 'speent'"):
        service(visits, "data_set: visits, key: customer, several: first, defaults: {speent: 1}")


def test_the_first_row_counts_in_the_order_that_is_asked_for(visits: Visits) -> None:
    first = service(
        visits, "data_set: visits, key: customer, columns: [shop], several: first, order_by: [-at]"
    )
    assert look(first, customer="00002") == (200, {"data": {"shop": "c"}, "status": "PRESENT"})
    assert look(first, customer='quo"te')[1]["data"] == {"shop": "f"}
    first = service(
        visits, "data_set: visits, key: customer, columns: [shop], several: first, order_by: [spent]"
    )
    assert look(first, customer="00002")[1]["data"] == {"shop": "b"}
    assert look(first, customer="nobody")[0] == 404


def test_all_rows_of_a_key_are_answered_up_to_a_number(visits: Visits) -> None:
    every = service(
        visits, "data_set: visits, key: customer, columns: [shop], several: all, order_by: [shop]"
    )
    assert look(every, customer="00002")[1] == {
        "data": {"shop": "b"},
        "status": "PRESENT",
        "found": 3,
        "rows": [{"shop": "b"}, {"shop": "c"}, {"shop": "d"}],
    }
    assert look(every, customer="00001")[1]["found"] == 1
    few = service(
        visits,
        "data_set: visits, key: customer, columns: [shop], several: all, order_by: [-shop], most_rows: 2, "
        "no_match: default, defaults: {shop: none}",
    )
    assert look(few, customer="00002")[1]["rows"] == [{"shop": "d"}, {"shop": "c"}]
    assert look(few, customer="00002")[1]["found"] == 3
    assert look(few, customer="nobody")[1] == {
        "data": {"shop": "none"},
        "status": "NOT_FOUND",
        "found": 0,
        "rows": [],
    }


def test_several_rows_may_be_refused_or_ignored_when_they_are_asked_for(visits: Visits) -> None:
    status, error = look(service(visits, "data_set: visits, key: customer, several: error"), customer="00002")
    assert (status, error["errorType"]) == (422, "SeveralMatches")
    assert error["message"] == "3 rows of 'visits' have customer \"00002\""
    ignoring = service(visits, "data_set: visits, key: customer, several: ignore, no_match: ignore")
    assert look(ignoring, customer="00002")[1] == {
        "data": {},
        "ignored": True,
        "ignoreReason": "MULTIPLE_LOOKUP_MATCHES",
    }
    assert look(ignoring, customer="nobody")[1]["ignoreReason"] == "NO_LOOKUP_MATCH"
    assert look(ignoring, customer="00001")[1]["data"]["shop"] == "a"


def test_keys_and_columns_may_have_other_names_and_values_their_defaults(visits: Visits) -> None:
    renamed = service(
        visits,
        "data_set: visits, key: {id: customer, where: shop}, columns: {paid: spent, shop: shop}, defaults: {paid: 0.5}",
    )
    assert look(renamed, id="00002", where="b")[1]["data"] == {"paid": 2.5, "shop": "b"}
    assert look(renamed, id="00002", where="c")[1]["data"] == {"paid": 0.5, "shop": "c"}
    assert look(renamed, id="00002", where="d")[1]["data"] == {
        "paid": 0.5,
        "shop": "d",
    }  # no number is no value
    status, error = look(renamed, customer="00002", shop="b")
    assert (status, error["errorType"]) == (400, "InvalidKey")


@pytest.mark.parametrize(
    ("policy", "old"),
    [
        ("keep", (200, "OUTSIDE_MAX_AGE")),
        ("default", (200, "OUTSIDE_MAX_AGE")),
        ("ignore", (200, None)),
        ("error", (422, None)),
    ],
)
def test_a_row_has_an_age(visits: Visits, policy: str, old: tuple[int, str | None]) -> None:
    timed = service(
        visits,
        "data_set: visits, key: [customer, shop], columns: [spent], event_time: at, max_age: 30 days, "
        f"too_old: {policy}",
    )
    _, young = look(timed, customer="00002", shop="b")
    assert young["status"] == "PRESENT"
    assert dt.datetime.fromisoformat(young["eventTime"]) == NOW - 3 * DAY
    status, found = look(timed, customer="00001", shop="a")
    assert (status, found.get("status")) == old
    match policy:
        case "keep":
            assert found["data"] == {"spent": 1.5}
        case "default":
            assert found["data"] == {"spent": None}
        case "ignore":
            assert found["ignoreReason"] == "OUTSIDE_MAX_AGE"
        case "error":
            assert found["errorType"] == "TooOld"
            assert found["message"] == 'what is known of customer "00001", shop "a" is too old'


def test_of_several_rows_the_old_ones_are_left_out(visits: Visits) -> None:
    timed = service(
        visits,
        "data_set: visits, key: customer, columns: [shop], several: all, order_by: [at], event_time: at, "
        "max_age: 30 days, too_old: ignore",
    )
    found = look(timed, customer="00002")[1]
    assert (found["found"], found["rows"]) == (2, [{"shop": "b"}, {"shop": "c"}])
    assert found["data"] == {"shop": "b"}
    assert look(timed, customer="00001")[1]["ignoreReason"] == "OUTSIDE_MAX_AGE"


@pytest.mark.parametrize("several", ["first", "all", "error"])
def test_a_row_holds_from_its_time_on(visits: Visits, several: str, monkeypatch: pytest.MonkeyPatch) -> None:
    most = ", most_rows: 2" if several == "all" else ""
    timed = service(
        visits,
        f"data_set: coming, key: customer, several: {several}{most}, order_by: [-at], event_time: at",
    )
    assert look(timed, customer="00009")[1]["data"]["spent"] == -1.0
    assert look(timed, customer="00008")[0] == 404  # nothing is known of it yet
    later = time.time() + 3 * 86_400
    monkeypatch.setattr("tulle.serving.finder.time.time", lambda: later)
    status, found = look(timed, customer="00009")
    if several == "error":
        assert (status, found["message"][:6]) == (422, "3 rows")
        return
    assert found["data"]["spent"] == 2.0
    if several == "all":
        assert (found["found"], [row["spent"] for row in found["rows"]]) == (3, [2.0, 1.0])


PROFILE = "data_set: customer_features, key: customer_id"


def test_a_prediction_for_somebody_unknown_is_made_from_defaults(visits: Visits) -> None:
    strict = service(visits, PROFILE, kind="predict")
    assert predict(strict, customer_id="nobody")[0] == 404
    kind = service(
        visits,
        PROFILE
        + ", no_match: default, missing_key: default, defaults: {recency: 10, frequency: 2, spend: 3.5}",
        kind="predict",
    )
    expected = predict(strict, recency=10, frequency=2, spend=3.5)[1]
    status, found = predict(kind, customer_id="nobody")
    assert (status, found.pop("lookups")) == (200, [{"dataSet": "customer_features", "status": "NOT_FOUND"}])
    assert found == expected
    without_key = predict(kind)[1]
    assert without_key["probas"] == expected["probas"]
    partly = predict(kind, recency=10)[1]
    assert partly["probas"] == expected["probas"]
    known = predict(kind, customer_id="00003")[1]
    assert "lookups" not in known
    assert known == predict(strict, customer_id="00003")[1]


def test_features_may_be_columns_of_another_name(visits: Visits) -> None:
    renamed = service(
        visits,
        "data_set: customer_features, key: {who: customer_id}, "
        "columns: {recency: frequency, frequency: recency, spend: spend}",
        kind="predict",
    )
    straight = service(visits, PROFILE, kind="predict")
    row = {"recency": 3 * 7 % 29 + 1, "frequency": 3 * 3 % 300, "spend": 5.25}
    assert predict(renamed, who="00003")[1] == predict(straight, **row)[1]


def test_a_prediction_tells_how_old_its_features_are(visits: Visits) -> None:
    timed = service(visits, PROFILE + ", event_time: seen_at, max_age: 1 day, too_old: keep", kind="predict")
    found = predict(timed, customer_id="00003")[1]
    assert found["lookups"] == [
        {"dataSet": "customer_features", "status": "OUTSIDE_MAX_AGE", "eventTime": "1998-06-30T12:00:03Z"}
    ]
    items = [{"features": {"customer_id": who}} for who in ("00003", "nobody")]
    app = App(timed, max_request_bytes=10_000)
    many = ask(app, "it/predict-multi", {"items": items}).json()["results"]
    assert many[0]["lookups"] == found["lookups"]
    assert many[1]["ignoreReason"] == "NoMatch"
    refusing = service(
        visits, PROFILE + ", event_time: seen_at, max_age: 1 day, too_old: error", kind="predict"
    )
    assert predict(refusing, customer_id="00003")[0] == 422
    sent = {"recency": 1, "frequency": 2, "spend": 3}
    assert predict(refusing, **sent)[0] == 200  # nothing is looked up
