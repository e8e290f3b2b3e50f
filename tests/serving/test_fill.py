"""Stores that the lake fills: what lies there then, of which commit answers are, and what becomes of an interruption."""

from __future__ import annotations

import asyncio
import datetime as dt
import decimal
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from tests.lake.databases import Postgres
from tests.serving.conftest import Mesh, parquet
from tests.serving.redis_server import RedisServer
from tests.serving.test_refresh import ask as over_http

from tulle.cli.features import features
from tulle.config import Settings
from tulle.errors import Conflict, Denied, Invalid
from tulle.lake.repository import open_lake
from tulle.pipeline.sources.address import made
from tulle.serving import fill_postgres, fill_redis, generation, package
from tulle.serving.app import App
from tulle.serving.elsewhere import connect
from tulle.serving.fill import Done, Fill, Filling, fills_of, read_done
from tulle.serving.fill_rows import FillRows
from tulle.serving.filler import Filler, fill_one
from tulle.serving.loaded import Loaded, load
from tulle.serving.look_ups import look_ups
from tulle.state.connections import open_connections
from tulle.state.db import open_database

TABLE, JSON, HASH = "table", "json", "hash"
PLACES = {TABLE: "table: levels", JSON: "keys: 'level:{who}'", HASH: "keys: 'level:{who}', form: hash"}
TEXT = """
service: filled
endpoints:
- name: it
  type: lookup
  product: customer-features
  data_set: levels
  key: {{customer: who}}
  columns: [level, spent, since, day, vip, share, note, raw]
  source: {{connection: shelf, {place}, fill: asked, timeout: 20}}
- name: around
  type: compose
  input: {{customer: {{}}}}
  steps: [{{name: one, call: it, with: {{customer: $input.customer}}}}]
  output: $one
"""
AT = dt.datetime(2024, 5, 1, 12, 30, 0, 250_000, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Shelf:
    """A mesh with a connection to what is filled."""

    mesh: Mesh
    form: str
    url: str
    server: RedisServer | None

    @property
    def text(self) -> str:
        return TEXT.format(place=PLACES[self.form])

    def filling(self, **more: Any) -> Filling:
        known = open_connections(self.mesh.settings, self.mesh.database)
        return Filling(self.mesh.settings, self.mesh.lake, known.get, **more)

    def wanted(self) -> Fill:
        (found,) = fills_of(self.mesh.build(self.text))
        return found

    def fill(self, commit: str = "", **more: Any) -> Done:
        return self.filling(**more).fill(self.wanted(), commit)

    def opened(self) -> Loaded:
        loaded = load(self.mesh.unpacked(self.mesh.build(self.text)))
        known = open_connections(self.mesh.settings, self.mesh.database)
        assert connect(loaded, lambda name: known.get(name, "prod"))
        return loaded

    def lying(self) -> Any:
        """What lies there, with nothing that only filling needs, and without the marker."""
        if self.server is None:
            with psycopg.connect(self.url) as connection:
                tables = connection.execute(
                    "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE 'tulle%'"
                ).fetchall()
                assert tables == []
                return connection.execute("SELECT who, level FROM levels ORDER BY who").fetchall()
        with self.server.client() as client:
            ours = sorted(key for key in client.scan_iter() if key.startswith(b"tulle:"))
            assert [key.split(b":")[1] for key in ours] == [b"filled", b"forms"]
            return sorted(key for key in client.scan_iter() if not key.startswith(b"tulle:"))


@pytest.fixture
def lean_mesh(tmp_path: Path) -> Iterator[Mesh]:
    """A mesh with two repositories and nothing in them."""
    settings = Settings(folder=tmp_path)
    database = open_database(settings.database_url)
    lake = open_lake(database, settings.storage_namespace)
    for name in ("customer-features", "high-value-customers"):
        lake.create_repository(name)
    yield Mesh(settings, database, lake)
    database.close()


@pytest.fixture(params=[TABLE, JSON, HASH])
def shelf(lean_mesh: Mesh, request: pytest.FixtureRequest) -> Iterator[Shelf]:
    mesh = lean_mesh
    known = open_connections(mesh.settings, mesh.database)
    if request.param == TABLE:
        postgres: Postgres = request.getfixturevalue("postgres")
        url = postgres.make(empty=True)
        known.save(made("shelf", "prod", "sql", url, {"fill": "high-value-customers"}, {}))
        yield Shelf(mesh, TABLE, url, None)
        postgres.drop(url)
        return
    server: RedisServer = request.getfixturevalue("redis_server")
    server.empty()
    known.save(made("shelf", "prod", "redis", server.url(), {"fill": "x-y-z, high-value-customers"}, {}))
    yield Shelf(mesh, request.param, server.url(), server)


def publish(mesh: Mesh, levels: dict[str, int], *, file: str = "part-0000", more: bool = False) -> str:
    """Publish a level for each customer, in a file of the data set; the commit."""
    people = list(levels)
    columns: dict[str, Any] = {
        "who": people,
        "level": pa.array(levels.values(), pa.int64()),
        "spent": pa.array([decimal.Decimal("12345678901.50")] * len(people), pa.decimal128(20, 2)),
        "since": pa.array([AT] * len(people), pa.timestamp("us", "UTC")),
        "day": [dt.date(1998, 6, 30)] * len(people),
        "vip": [True] * len(people),
        "share": pa.array([0.1] * len(people), pa.float32()),
        "note": [f'tab\t"quote"\\ «{who}»\nline\r' if who != "b" else None for who in people],
        "raw": [b"\x00\xff"] * len(people),
    }
    if more:
        columns["more"] = ["there"] * len(people)
    repository = mesh.lake.repository("customer-features")
    repository.put("main", f"levels/{file}.parquet", parquet(pa.table(columns)))
    return repository.commit("main", "levels").id


def ask(loaded: Loaded, who: str, endpoint: str = "it") -> tuple[int, dict[str, Any]]:
    body = {"data": {"customer": who}} if endpoint == "it" else {"customer": who}
    status, answer = asyncio.run(loaded.ask(endpoint, body))
    read: dict[str, Any] = json.loads(answer)
    return status, read


def level(loaded: Loaded, who: str) -> Any:
    status, answer = ask(loaded, who)
    return answer["results"][0]["data"]["level"] if status == 200 else status


def test_what_is_published_is_looked_up_with_its_types_and_tells_its_commit(shelf: Shelf) -> None:
    commit = publish(shelf.mesh, {"a": 1, "b": 2, "ü«;": 3})
    loaded = shelf.opened()
    paths = json.loads(loaded.openapi)["paths"]
    assert "502" in paths["/it/lookup"]["post"]["responses"]  # a row in a store may be faulty
    status, error = ask(loaded, "a")
    assert (status, error["errorType"]) == (503, "StoreUnavailable")
    assert "it has not been filled from the lake yet" in error["detailedMessage"]
    seen: list[tuple[int, int]] = []
    done = shelf.fill(told=lambda n, of: seen.append((n, of)))
    assert (done.commit, done.rows, done.written, done.is_whole) == (commit, 3, 3, True)
    assert seen[-1] == (3, 3)
    status, answer = ask(loaded, "a")
    assert answer["results"][0]["data"] == {
        "level": 1,
        "spent": 12345678901.50,
        "since": "2024-05-01T12:30:00.250000Z",
        "day": "1998-06-30",
        "vip": True,
        "share": 0.10000000149011612,
        "note": 'tab\t"quote"\\ «a»\nline\r',
        "raw": "AP8=",
    }
    assert answer["apiContext"]["dataCommits"] == {"customer-features/levels": commit}
    assert ask(loaded, "b")[1]["results"][0]["data"]["note"] is None
    assert level(loaded, "ü«;") == 3
    assert ask(loaded, "nobody")[0] == 404
    # Headers say it as well, of what calls it too, and of what is refused.
    app = App(loaded, max_request_bytes=10_000)
    for path, body, status in (
        ("it/lookup", {"data": {"customer": "a"}}, 200),
        ("it/lookup", {"data": {"customer": "nobody"}}, 404),
        ("around/run", {"customer": "a"}, 200),
    ):
        found = over_http(app, path, body)
        assert found.status_code == status
        assert found.headers["x-tulle-data-commit"] == f"customer-features/levels@{commit}"
    newer = publish(shelf.mesh, {"a": 4})
    shelf.fill()
    for path, body in (("around/run", {"customer": "a"}), ("it/lookup", {"data": {"customer": "b"}})):
        assert over_http(app, path, body).headers["x-tulle-data-commit"].endswith(newer)
    assert over_http(app, "around/run", {"customer": "a"}).json()["apiContext"]["dataCommits"] == {
        "customer-features/levels": newer
    }


def test_keys_of_every_type_are_found_where_they_were_laid(shelf: Shelf) -> None:
    numbers = [decimal.Decimal(n) for n in ("0.00", "-1.50", "12345678901234567890.25")]
    keys = {
        "i": pa.array([2**63 - 1, -(2**53) - 1, 0], pa.int64()),
        "n": pa.array(numbers, pa.decimal128(38, 2)),
        "d": [dt.date(1998, 6, 30), dt.date(2000, 2, 29), dt.date(1, 1, 1)],
        "t": pa.array([AT, AT.replace(microsecond=0), AT.replace(year=1901)], pa.timestamp("ms", "UTC")),
        "b": [True, False, True],
        "s": ["a'b\"c%s", "ü", ""],
    }
    repository = shelf.mesh.lake.repository("customer-features")
    repository.put("main", "levels/part-0000.parquet", parquet(pa.table({**keys, "level": [1, 2, 3]})))
    repository.commit("main", "keys")
    place = (
        "table: levels"
        if shelf.form == TABLE
        else "keys: 'level:{i}|{n}|{d}|{t}|{b}|{s}', form: " + shelf.form
    )
    text = TEXT.format(place=place).replace("{customer: who}", "[i, n, d, t, b, s]")
    text = text.replace("[level, spent, since, day, vip, share, note, raw]", "[level]").partition(
        "- name: around"
    )[0]
    built = shelf.mesh.build(text)
    (wanted,) = fills_of(built)
    shelf.filling().fill(wanted)
    loaded = load(shelf.mesh.unpacked(built))
    known = open_connections(shelf.mesh.settings, shelf.mesh.database)
    connect(loaded, lambda name: known.get(name, "prod"))
    rows = pa.table(keys).to_pylist()
    for number, row in enumerate(rows, 1):
        plain = {**row, "n": str(row["n"]), "d": str(row["d"]), "t": row["t"].isoformat()}
        status, answer = asyncio.run(loaded.ask("it", {"data": plain}))
        assert (status, json.loads(answer)["results"]) == (200, [{"data": {"level": number}}])
    status, _ = asyncio.run(loaded.ask("it", {"data": {**plain, "n": "12345678901234567890.26"}}))
    assert status == 404


@pytest.mark.parametrize("shelf", [TABLE, JSON], indirect=True)
def test_look_ups_that_want_different_things_in_one_place_are_told(shelf: Shelf) -> None:
    publish(shelf.mesh, {"a": 1})
    one = shelf.text.partition("- name: around")[0]
    other = (
        one.partition("endpoints:\n")[2]
        .replace("name: it", "name: by-level")
        .replace("customer: who", "level: level")
    )
    other = other.replace("{who}", "{level}").replace("[level, spent", "[spent")
    if shelf.form == TABLE:
        with pytest.raises(
            Invalid, match="'shelf: levels' is to hold rows by different keys: for 'it' and for 'by-level'"
        ):
            fills_of(shelf.mesh.build(one + other))
        return
    (first, second) = fills_of(shelf.mesh.build(one + other))
    shelf.filling().fill(first)
    with pytest.raises(Conflict, match="begin alike"):
        shelf.filling().fill(second)


@pytest.mark.parametrize("shelf", [TABLE, JSON], indirect=True)
def test_an_environment_does_not_fill_what_another_one_reads(shelf: Shelf) -> None:
    commit = publish(shelf.mesh, {"a": 1})
    shelf.fill()
    repository = shelf.mesh.lake.repository("customer-features")
    repository.create_branch("dev", "main")
    known = open_connections(shelf.mesh.settings, shelf.mesh.database)
    known.save(replace(known.get("shelf", "prod"), environment="dev"))
    with pytest.raises(Conflict, match="holds what is published at 'main', and this is of 'dev'"):
        shelf.filling().fill(replace(shelf.wanted(), ref="dev"))
    assert read_done(shelf.mesh.settings, shelf.wanted()).commit == commit


def test_only_what_has_changed_is_written_and_what_is_gone_is_removed(shelf: Shelf) -> None:
    first = publish(shelf.mesh, {"a": 1, "b": 2, "c": 3})
    publish(shelf.mesh, {"x": 7, "y": 8}, file="part-0001")
    assert shelf.fill().written == 5
    loaded = shelf.opened()
    publish(shelf.mesh, {"a": 1, "b": 20, "d": 4})
    done = shelf.fill()
    assert (done.rows, done.written, done.is_whole) == (5, 3, False)  # b and d are laid, c is gone
    assert [level(loaded, who) for who in "abcdxy"] == [1, 20, 404, 4, 7, 8]
    assert len(shelf.lying()) == 5
    # A commit that leaves the data set as it is only changes what is told.
    repository = shelf.mesh.lake.repository("customer-features")
    repository.put("main", "other/part-0000.parquet", parquet(pa.table({"x": [1]})))
    other = repository.commit("main", "something else").id
    done = shelf.fill()
    assert (done.written, done.commit) == (0, other)
    assert ask(loaded, "a")[1]["apiContext"]["dataCommits"] == {"customer-features/levels": other}
    # And back to what it was, by its commit.
    assert shelf.fill(first).commit == first
    assert [level(loaded, who) for who in "abcdxy"] == [1, 2, 3, 404, 404, 404]
    assert len(shelf.lying()) == 3


def test_what_cannot_be_compared_is_written_as_a_whole_and_nothing_old_stays(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(shelf.mesh, {"a": 1, "b": 2})
    shelf.fill()
    commit = publish(shelf.mesh, {"a": 5, "c": 3})
    monkeypatch.setattr(FillRows, "since", lambda _self, _commit: False)
    done = shelf.fill()
    assert (done.written, done.is_whole, done.commit) == (2, True, commit)
    loaded = shelf.opened()
    assert [level(loaded, who) for who in "abc"] == [5, 404, 3]
    assert len(shelf.lying()) == 2


@pytest.mark.parametrize("shelf", [TABLE, HASH], indirect=True)
def test_columns_that_another_version_wants_are_added_and_stay(shelf: Shelf) -> None:
    publish(shelf.mesh, {"a": 1})
    shelf.fill()
    old = shelf.opened()
    publish(shelf.mesh, {"a": 2}, more=True)
    text = shelf.text.replace("note, raw]", "note, more]")
    (wanted,) = fills_of(shelf.mesh.build(text))
    assert shelf.filling().fill(wanted).is_whole
    newer = load(shelf.mesh.unpacked(shelf.mesh.build(text)))
    known = open_connections(shelf.mesh.settings, shelf.mesh.database)
    connect(newer, lambda name: known.get(name, "prod"))
    assert ask(newer, "a")[1]["results"][0]["data"]["more"] == "there"
    assert ask(old, "a")[1]["results"][0]["data"]["raw"] == "AP8="
    done = shelf.fill()  # of the old version: nothing is taken away from the newer one
    assert done.written == 0
    assert ask(newer, "a")[1]["results"][0]["data"]["more"] == "there"


def test_whoever_asks_meanwhile_gets_the_rows_of_one_commit(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (fill_postgres, fill_redis):
        monkeypatch.setattr(module, "CHUNK", 1)
    people = "abcdefgh"
    published = {publish(shelf.mesh, dict.fromkeys(people, 0)): 0}
    shelf.fill()
    loaded = shelf.opened()
    action = loaded.endpoints["it"].actions["lookup-multi"]
    body = json.dumps({"items": [{"data": {"customer": who}} for who in people]}).encode()
    wanted, failed = shelf.wanted(), []

    def fill_again_and_again() -> None:
        try:
            for number in range(1, 5):
                published[publish(shelf.mesh, dict.fromkeys(people, number))] = number
                if number == 3:  # as a whole, too
                    monkeypatch.setattr(FillRows, "since", lambda _self, _commit: False)
                shelf.filling().fill(wanted)
        except BaseException as exc:  # noqa: BLE001  told by the test
            failed.append(exc)

    async def read() -> list[Any]:
        found = []
        while filler.is_alive():
            found.append(json.loads((await action.call(body, "r", ())).body))  # type: ignore[union-attr]
            await asyncio.sleep(0.001)
        return found

    filler = threading.Thread(target=fill_again_and_again)
    filler.start()
    answers = asyncio.run(read())
    filler.join()
    assert failed == []
    seen = set()
    for one in answers:
        levels = {result["data"]["level"] for result in one["results"]}
        commits = one["apiContext"]["dataCommits"]["customer-features/levels"].split("+")
        assert levels == {published[commit] for commit in commits}
        seen |= levels
    assert len(seen) > 1
    assert level(loaded, "a") == 4


class _Killed(BaseException):
    """As if the process ended."""


@pytest.mark.parametrize("shelf", [TABLE, HASH], indirect=True)
def test_what_was_interrupted_leaves_what_was_there_and_goes_on_from_there(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (fill_postgres, fill_redis):
        monkeypatch.setattr(module, "CHUNK", 2)
    before = publish(shelf.mesh, {"a": 1, "b": 2, "gone": 9})
    loaded = shelf.opened()
    for is_first in (True, False):
        if not is_first:
            publish(shelf.mesh, dict.fromkeys("abcdefg", 5))

        def killed(done: int, _of: int) -> None:
            if done >= 2:
                raise _Killed

        with pytest.raises(_Killed):
            shelf.fill(told=killed)
        if is_first:
            assert level(loaded, "a") == 503
        else:
            assert [level(loaded, who) for who in ("a", "gone", "c")] == [1, 9, 404]
            assert ask(loaded, "a")[1]["apiContext"]["dataCommits"] == {"customer-features/levels": before}
        seen: list[int] = []
        shelf.fill(told=lambda done, _of, seen=seen: seen.append(done))
        assert seen[0] == 2
    assert [level(loaded, who) for who in ("a", "gone", "g")] == [5, 404, 5]
    assert len(shelf.lying()) == 7
    # One of another commit begins anew, and nothing of the first one is left.
    publish(shelf.mesh, dict.fromkeys("abcdefg", 6))
    with pytest.raises(_Killed):
        shelf.fill(told=killed)
    publish(shelf.mesh, {"z": 1})
    shelf.fill()
    assert [level(loaded, who) for who in "az"] == [404, 1]
    assert len(shelf.lying()) == 1


@pytest.mark.parametrize("shelf", [TABLE, JSON], indirect=True)
def test_what_may_not_be_filled_is_told_and_stays_as_it_is(shelf: Shelf) -> None:
    publish(shelf.mesh, {"a": 1})
    wanted = shelf.wanted()
    known = open_connections(shelf.mesh.settings, shelf.mesh.database)
    allowed = known.get("shelf", "prod")
    known.save(
        made("shelf", "prod", allowed.kind, allowed.address, {**allowed.options, "fill": "other-one"}, {})
    )
    with pytest.raises(Denied, match="may not be filled by services of product 'high-value-customers'"):
        shelf.filling().fill(wanted)
    with pytest.raises(Invalid, match="may not be filled by services of product"):
        shelf.mesh.build(shelf.text)
    known.save(allowed)
    # What somebody else keeps there is not touched.
    if shelf.server is None:
        with psycopg.connect(shelf.url, autocommit=True) as connection:
            connection.execute("CREATE TABLE levels (who text)")
    else:
        with shelf.server.client() as client:
            client.set("level:z", "{}")
    with pytest.raises(Conflict, match="not filled from the lake"):
        shelf.fill()
    done = read_done(shelf.mesh.settings, wanted)
    assert done.failed is not None
    assert (done.commit, "not filled from the lake" in done.failed.message) == ("", True)
    _, (found,) = look_ups(shelf.mesh.settings, shelf.mesh.database, shelf.mesh.lake, "filled")
    assert (found.behind, found.rows, "not filled from the lake" in found.message) == (True, None, True)


@pytest.mark.parametrize("shelf", [TABLE, JSON], indirect=True)
def test_rows_that_do_not_fit_leave_what_was_there_and_are_told(shelf: Shelf) -> None:
    commit = publish(shelf.mesh, {"a": 1})
    shelf.fill()
    loaded, wanted = shelf.opened(), shelf.wanted()
    publish(shelf.mesh, {"a": 2}, file="part-0001")
    with pytest.raises(Invalid, match=r"the key \(who\) is not unique: a \(2 rows\)"):
        shelf.fill()
    repository = shelf.mesh.lake.repository("customer-features")
    repository.delete_prefix("main", "levels/")
    repository.put("main", "levels/part-0000.parquet", parquet(pa.table({"who": ["a"], "level": ["high"]})))
    repository.commit("main", "words")
    with pytest.raises(
        Invalid, match="column 'level' of 'levels' is string now, the service was packaged with integer"
    ):
        shelf.filling().fill(wanted)
    assert ask(loaded, "a")[1]["apiContext"]["dataCommits"] == {"customer-features/levels": commit}
    assert level(loaded, "a") == 1


def looked(shelf: Shelf) -> None:
    """What the control plane does every second, with the work in this process."""
    mesh = shelf.mesh
    filler = Filler(
        mesh.settings,
        mesh.database,
        mesh.lake,
        lambda name: fill_one(name, mesh.settings, mesh.database, mesh.lake),
    )
    filler.look()
    filler.stop()


@pytest.mark.parametrize("shelf", [JSON], indirect=True)
def test_stores_of_deployed_services_follow_what_is_published_where_they_say_so(shelf: Shelf) -> None:
    mesh = shelf.mesh
    publish(mesh, {"a": 1})
    text = shelf.text.replace("fill: asked", "fill: published")
    mesh.build(text)
    looked(shelf)  # nobody has deployed it
    (wanted,) = fills_of(package.get(mesh.database, "filled", "v1"))
    assert read_done(mesh.settings, wanted) == Done()
    generation.request(mesh.database, "filled", "v1")
    looked(shelf)
    first = read_done(mesh.settings, wanted)
    assert (first.rows, first.failed) == (1, None)
    looked(shelf)
    assert read_done(mesh.settings, wanted) == first  # nothing is published since
    commit = publish(mesh, {"a": 2, "b": 3})
    looked(shelf)
    assert (read_done(mesh.settings, wanted).commit, read_done(mesh.settings, wanted).written) == (commit, 2)
    # What cannot be taken is told, and what is there stays; and it is not tried again and again.
    publish(mesh, {"a": 9}, file="part-0001")
    looked(shelf)
    failed = read_done(mesh.settings, wanted)
    assert failed.failed is not None
    assert (failed.commit, "is not unique" in failed.failed.message) == (commit, True)
    looked(shelf)
    assert read_done(mesh.settings, wanted) == failed
    _, (found,) = look_ups(mesh.settings, mesh.database, mesh.lake, "filled")
    assert (found.commit, found.rows, found.behind, found.source) == (commit, 2, True, "shelf: level:{who}")
    assert "is not unique" in found.message
    # Another version that runs beside wants more: its columns are filled as well.
    mesh.lake.repository("customer-features").delete_prefix("main", "levels/")
    publish(mesh, {"a": 5}, more=True)
    mesh.build(text.replace("note, raw]", "note, more]"))
    generation.activate(mesh.database, "filled", "v1")
    generation.request(mesh.database, "filled", "v2")
    looked(shelf)
    assert {"raw", "more"} <= set(read_done(mesh.settings, wanted).columns)
    assert level(shelf.opened(), "a") == 5


@pytest.mark.system
@pytest.mark.parametrize("shelf", [TABLE], indirect=True)
def test_the_command_fills_in_a_process_of_its_own_and_tells_what_it_did(shelf: Shelf) -> None:
    mesh = shelf.mesh
    (mesh.settings.folder / "mesh.yaml").write_text("name: test\n")
    commit = publish(mesh, {"a": 1, "b": 2})
    mesh.build(shelf.text)

    def run(*words: str) -> Result:
        return CliRunner().invoke(features, ["publish", *words], obj=mesh.settings.folder)

    done = run("filled/it", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["status"], told["kind"]) == ("succeeded", "publish")
    (store,) = told["result"]["stores"]
    assert (store["commit"], store["rows"], store["written"], store["whole"]) == (commit, 2, 2, True)
    assert store["store"] == "shelf: levels"
    assert shelf.lying() == [("a", 1), ("b", 2)]
    for words, said in (
        (("filled/around",), "looks nothing up in a store that the lake fills"),
        (("filled/ti",), "has no endpoint 'ti'"),
        (("a/b/c",), "names no service"),
    ):
        refused = run(*words)
        assert refused.exit_code
        assert said in str(refused.exception)
