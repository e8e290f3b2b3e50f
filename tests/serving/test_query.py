"""Query endpoints: parameters beside the SQL, rows with their types, and nothing else within reach."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from typing import Any

import duckdb
import msgspec
import pytest
from tests.serving.asking import answer
from tests.serving.conftest import Mesh

from tulle.engine.duck import Asking, _translated
from tulle.errors import Broken, Invalid
from tulle.serving import loaded as loaded_service
from tulle.serving.app import TEST_PATH, App
from tulle.serving.endpoint import Headed
from tulle.serving.fit import NoSuchProduct, misfits
from tulle.serving.index import Damaged
from tulle.serving.loaded import Loaded, load
from tulle.serving.query import SqlQuery, query_apart
from tulle.serving.request import RequestError
from tulle.serving.service import load_service

SQL = """
SELECT customer_id, frequency, spend, first_on, seen_at, vip, note, score
FROM customers WHERE spend >= $least AND first_on < $before AND ($vip IS NULL OR vip = $vip) AND customer_id LIKE $like
ORDER BY spend DESC LIMIT 2
"""
SERVICE = f"""
service: customers
endpoints:
- name: best
  type: query
  description: Who spends most?
  sql: |
{SQL.replace(chr(10), chr(10) + "    ")}
  data_sets: {{customers: {{product: customer-features, data_set: customer_features}}}}
  parameters:
    least: {{type: 'decimal', description: the least they spent}}
    before: {{type: date, default: 2000-01-01}}
    vip: {{type: boolean, default: null}}
    like: {{default: '%'}}
  pool: {{ceil: 1}}
  test_queries:
  - {{name: nobody, parameters: {{least: 1000}}, expect: {{rows: []}}}}
"""


@pytest.fixture(scope="module")
def loaded(shared_mesh: Mesh) -> Loaded:
    return load(shared_mesh.unpacked(shared_mesh.build(SERVICE)))


def ask(loaded: Loaded, action: str, *bodies: Any) -> list[Any]:
    """The answers to bodies, or the errors."""

    async def work() -> list[Any]:
        chosen = loaded.endpoints["best"].actions[action]
        assert isinstance(chosen, Headed)
        found: list[Any] = []
        for body in bodies:
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
            try:
                found.append(json.loads((await chosen.call(raw, "r", ())).body))
            except RequestError as error:
                found.append(error)
        loaded.close()
        return found

    return asyncio.run(work())


def test_rows_have_types_or_are_text(loaded: Loaded) -> None:
    (answer,) = ask(loaded, "rows", {"least": 340})
    assert [column["type"] for column in answer["columns"]] == [
        *("string", "integer", "decimal(10,2)", "date", "timestamp", "boolean", "string", "double")
    ]
    assert answer["rows"][0] == [
        *("00199", 2, 348.25, "1997-01-20", "1998-06-30T12:00:19Z", False, None, 199 / 3)
    ]
    assert set(answer["timing"]) == {"wait", "query"}
    assert list(answer["apiContext"]["dataCommits"]) == ["customer-features"]
    (text,) = ask(loaded, "query", {"least": 340})
    assert text["rows"][0] == [
        *("00199", "2", "348.25", "1997-01-20", "1998-06-30T12:00:19Z", "false", None, str(199 / 3))
    ]
    assert text["columns"] == answer["columns"]


def test_parameters_are_values_and_never_sql(loaded: Loaded) -> None:
    hostile, vip, early, none = ask(
        loaded,
        "rows",
        {"least": 0, "like": "' OR 1=1; --"},
        {"least": 0, "vip": True},
        {"least": "much", "before": "1997-01-02"},
        {"least": 1e12},
    )
    assert hostile["rows"] == []
    assert [row[5] for row in vip["rows"]] == [True, True]
    assert early.error_type == "InvalidParameters"
    assert none["rows"] == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "parameters are missing: least"),
        ({"least": 1, "befor": "1997-01-01"}, "unknown parameter 'befor' (did you mean 'before'?)"),
        ({"least": None}, "parameter 'least' is null, expected a number"),
        ({"least": 1, "before": "tomorrow"}, "parameter 'before' is \"tomorrow\", expected a date"),
        ([1], "the parameters are a list of 1, expected an object"),
        (b"{", "the body is not JSON"),
    ],
)
def test_wrong_parameters_are_refused(loaded: Loaded, body: Any, message: str) -> None:
    (error,) = ask(loaded, "query", body)
    assert error.status == 400
    assert error.message.startswith(message)


def test_saved_queries_and_the_document(loaded: Loaded) -> None:
    async def work() -> None:
        (verdict,) = await loaded.test()
        assert verdict.message == ""
        assert await loaded.probe() == {}
        loaded.close()

    asyncio.run(work())
    paths = json.loads(loaded.openapi)["paths"]
    assert sorted(paths) == ["/best/query", "/best/rows", "/feedback"]
    body = paths["/best/rows"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["required"] == ["least"]
    assert body["properties"]["vip"] == {"type": ["boolean", "null"]}
    assert body["properties"]["before"]["default"] == "2000-01-01"


ODD = """
service: odd
endpoints:
- name: best
  type: query
  pool: {ceil: 1}
  sql: |
    SELECT TIMESTAMP '1998-06-30 12:00:00' AS at, TIMESTAMP '1969-12-31 23:59:59.5' AS before,
    number * 1e308 * 10 AS endless, DATE '2000-01-01' - $days::INTEGER AS day
    FROM customer_features WHERE number = 1
  parameters: {days: {type: integer, default: 0}}
  data_sets: {customer_features: {product: customer-features, data_set: customer_features}}
"""


def test_times_are_utc_and_what_cannot_be_written_is_told(shared_mesh: Mesh) -> None:
    odd = load(shared_mesh.unpacked(shared_mesh.build(ODD)))
    typed, early, again = ask(odd, "rows", b"", {"days": 800_000}, b"")
    assert typed["rows"] == [["1998-06-30T12:00:00Z", "1969-12-31T23:59:59.500000Z", None, "2000-01-01"]]
    assert (early.status, early.error_type) == (422, "QueryFailed")
    assert again["rows"] == typed["rows"]
    (text,) = ask(odd, "query", b"")
    assert text["rows"] == typed["rows"]


def test_what_a_stopped_process_spilled_is_removed(shared_mesh: Mesh) -> None:
    folder = shared_mesh.unpacked(shared_mesh.build(ODD))
    ended = subprocess.Popen(["true"])
    ended.wait()
    left, kept = folder.parent / f".spill-{ended.pid}", folder.parent / f".spill-{os.getpid()}"
    for one in (left, kept):
        one.mkdir()
        (one / "file").write_bytes(b"spilled")
    ask(load(folder), "rows", b"")
    assert not left.exists()
    assert kept.exists()


def test_who_asks_for_health_does_not_stand_in_line(
    shared_mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = load(shared_mesh.unpacked(shared_mesh.build(ODD)))

    async def work() -> None:
        assert await odd.ready() == {}
        endpoint = odd.endpoints["best"]
        assert isinstance(endpoint, SqlQuery)
        asked = [asyncio.create_task(odd.probe()) for _ in range(40)]
        await asyncio.sleep(0)
        assert endpoint.pool.waiting == 0
        assert await asyncio.gather(*asked) == [{}] * 40
        process = await endpoint.pool._taken()
        assert endpoint.pool.is_busy
        assert await asyncio.wait_for(odd.probe(), 5) == {}
        endpoint.pool._give_back(process)
        monkeypatch.setattr(loaded_service, "HEALTH_SECONDS", 0.0)
        endpoint.pool.close()  # the next question takes longer than that
        assert await odd.health() == {}
        assert await odd.probe() == {}
        odd.close()

    asyncio.run(work())


def test_decimals_are_compared_with_all_their_digits(shared_mesh: Mesh) -> None:
    text = """
service: exact
endpoints:
- name: best
  type: query
  sql: SELECT number FROM customer_features WHERE number < 3 AND 12345678901234567890 + number = $account::DECIMAL(38,2)
  parameters: {account: {type: decimal}}
  data_sets: {customer_features: {product: customer-features, data_set: customer_features}}
"""
    exact = load(shared_mesh.unpacked(shared_mesh.build(text)))
    number, words, none, odd = ask(
        exact,
        "rows",
        b'{"account": 12345678901234567892}',
        {"account": "12345678901234567891.00"},
        {"account": 12345678901234567893},
        {"account": "NaN"},
    )
    assert (number["rows"], words["rows"], none["rows"]) == ([[2]], [[1]], [])
    assert odd.message == "parameter 'account' is \"NaN\", expected a number"


def test_only_so_many_rows_are_answered(shared_mesh: Mesh) -> None:
    text = """
service: some
endpoints:
- name: best
  type: query
  sql: SELECT customer_id FROM customer_features ORDER BY customer_id
  data_sets: {customer_features: {product: customer-features, data_set: customer_features}}
  most_rows: 3
"""
    some = load(shared_mesh.unpacked(shared_mesh.build(text)))
    (answer,) = ask(some, "rows", b"")
    assert (answer["rows"], answer["truncated"]) == ([["00000"], ["00001"], ["00002"]], True)


@pytest.mark.parametrize(
    ("sql", "message", "hint"),
    [
        ("DROP TABLE x", "expected one SELECT, found DROP", "a model only reads"),
        ("SELECT * FROM read_csv('/etc/passwd')", "may not be used", "files come in"),
        ("SELECT * FROM nothing", "has no data set 'nothing'", None),
        ("SELECT * FROM customers WHERE customer_id = ?", "'?' stands for nothing", "name it: $name"),
        ("SELECT * FROM customers WHERE custmer_id = $id", 'Referenced column "custmer_id" not found', None),
    ],
)
def test_what_is_no_query_is_refused_when_it_is_packaged(
    shared_mesh: Mesh, sql: str, message: str, hint: str | None
) -> None:
    text = (
        f'service: some\nendpoints:\n- name: best\n  type: query\n  sql: "{sql}"\n'
        "  data_sets: {customers: {product: customer-features, data_set: customer_features}}\n"
    )
    with pytest.raises(Invalid) as caught:
        shared_mesh.build(text)
    (problem,) = caught.value.problems
    assert message in problem.message
    assert str(problem.place).startswith("services/s.yaml:")
    assert hint is None or hint in str(problem.hint)


def test_parameters_and_defaults_that_do_not_fit_are_refused(shared_mesh: Mesh) -> None:
    with pytest.raises(Invalid, match="the SQL has no parameter 'lest'"):
        shared_mesh.build(SERVICE.replace("    least: {", "    lest: {"))
    with pytest.raises(Invalid, match="a default does not fit: parameter 'before'"):
        shared_mesh.build(SERVICE.replace("default: 2000-01-01", "default: soon"))


def test_it_is_told_before_there_is_data() -> None:
    service = load_service(
        "service: some\nendpoints:\n- {name: a, type: query, sql: SELECT 1 FROM gone}\n"
        "- {name: b, type: query, sql: DELETE FROM x}\n",
        name="s.yaml",
    )

    def columns_of(product: str, data_set: str) -> None:
        raise NoSuchProduct(f"there is no {data_set}")

    assert [problem.message for problem in misfits([service], columns_of)][:2] == [
        "there is no gone",
        "expected one SELECT, found DELETE",
    ]


def test_values_of_rows_are_not_told_by_an_error(
    shared_mesh: Mesh, capfd: pytest.CaptureFixture[str]
) -> None:
    text = """
service: some
endpoints:
- name: best
  type: query
  sql: SELECT CAST(customer_id || $x AS INTEGER) AS n FROM customer_features
  data_sets: {customer_features: {product: customer-features, data_set: customer_features}}
"""
    (error,) = ask(load(shared_mesh.unpacked(shared_mesh.build(text))), "rows", {"x": "secret"})
    assert (error.status, error.error_type) == (422, "QueryFailed")
    assert error.detail == "the query does not run with these parameters. The service's log says why"
    assert "secret" in capfd.readouterr().err


COUNTED = """
service: counted
endpoints:
- name: best
  type: query
  sql: SELECT count(*) AS n FROM customer_features WHERE customer_id < CAST($x AS INTEGER)::VARCHAR
  data_sets: {customer_features: {product: customer-features, data_set: customer_features}}
  parameters: {x: {default: '1'}}
  pool: {ceil: 1}
  test_queries: [{name: one, parameters: {x: '1'}}]
"""


def test_a_damaged_file_is_no_fault_of_the_callers(shared_mesh: Mesh) -> None:
    """The worker has to hear of it: it ends, and starts anew from a package that is unpacked again."""
    folder = shared_mesh.unpacked(shared_mesh.build(COUNTED))
    loaded = load(folder)
    action = loaded.endpoints["best"].actions["rows"]
    assert isinstance(action, Headed)
    file = next(folder.rglob("*.parquet"))
    whole, name = file.read_bytes(), str(file.relative_to(folder))
    damaged: list[int] = []

    async def work() -> None:
        app = App(loaded, max_request_bytes=1 << 20, damaged=lambda: damaged.append(1))
        assert (await answer(app, "POST", f"{app.home}/best/rows", b"{}")).status_code == 200
        file.chmod(0o600)
        for content, told in (
            (b"\0" * len(whole), "has other content"),
            (whole[:1000], "has another size"),
            (None, "No such file or directory"),
        ):
            file.unlink() if content is None else file.write_bytes(content)
            with pytest.raises(Damaged, match=told) as caught:
                await action.call(b"{}", "r", ())
            assert name in str(caught.value)
        given = await answer(app, "POST", f"{app.home}/best/rows", b"{}")
        assert (given.status_code, given.json()["errorType"], damaged) == (503, "IndexDamaged", [1])
        asked = await answer(
            app, "GET", "/isAlive/", b""
        )  # nobody may be sent to it any more, who would tell
        assert (asked.status_code, asked.json()["errorType"], damaged) == (503, "IndexDamaged", [1, 1])
        asked = await answer(app, "GET", TEST_PATH, query=b"most=1&seconds=5")
        assert (asked.status_code, len(damaged)) == (503, 3)
        file.write_bytes(whole)
        with pytest.raises(RequestError, match="does not run with these parameters"):  # this is the caller's
            await action.call(b'{"x": "many"}', "r", ())
        loaded.close()

    asyncio.run(work())


def test_an_engine_that_failed_is_replaced(shared_mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an error of its own an engine answers nothing more; its process ends, and is asked no second time."""
    folder = shared_mesh.unpacked(shared_mesh.build(COUNTED))
    loaded = load(folder)
    entry = loaded.endpoints["best"].entry  # type: ignore[attr-defined]
    apart = query_apart(entry, folder)
    failed = duckdb.FatalException("database has been invalidated")

    def table(*_: Any, **__: Any) -> None:
        with _translated("", "the query"):
            raise failed

    monkeypatch.setattr(Asking, "table", table)
    with pytest.raises(Broken, match="the engine failed at the query: database has been invalidated"):
        apart(msgspec.msgpack.encode([b"{}", "typed"]))
    loaded.close()
