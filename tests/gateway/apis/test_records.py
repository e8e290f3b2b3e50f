"""What is recorded of APIs, and that who follows sees every change."""

from __future__ import annotations

import pytest
from sqlalchemy import text, update
from tests.gateway.apis.conftest import read

from tulle.errors import Conflict, NotFound
from tulle.gateway.apis import records
from tulle.gateway.apis.declared import Target
from tulle.gateway.apis.load import Loaded
from tulle.gateway.apis.records import Binding, Followed, Life
from tulle.state import log
from tulle.state.db import Database, now
from tulle.state.tables import apis

ONE = "{version: v1, service: orders, publish: true}"
TWO = "{version: v2, service: orders}"


def api(name: str, *versions: str, product: str = "sales") -> Loaded:
    return read(f"api: {name}\nversions: [{', '.join(versions)}]\n", product)


def save(database: Database, *loaded: Loaded, product: str = "sales") -> list[str]:
    with database.write() as connection:
        return records.save(connection, product, loaded, actor="ann")


def test_what_is_applied_is_there_with_its_lives(database: Database) -> None:
    assert save(database, api("orders", ONE, TWO), api("more", TWO)) == []
    more, orders = records.recorded(database)
    assert (more.name, orders.name) == ("more", "orders")
    assert {version: life.status for version, life in orders.lives.items()} == {
        "v1": "published",
        "v2": "draft",
    }
    assert orders.takes_contracts(now())
    assert not more.takes_contracts(now())
    told = [
        (e.subject, e.data["version"], e.data["status"])
        for e in log.read(database)
        if e.kind == "api.changed"
    ]
    assert told == [
        ("api:orders", "v1", "published"),
        ("api:orders", "v2", "draft"),
        ("api:more", "v2", "draft"),
    ]


def test_applying_again_keeps_lives_and_bindings(database: Database) -> None:
    save(database, api("orders", ONE, TWO))
    life = records.find(database, "orders").lives["v1"]
    records.set_life(database, "orders", "v1", Life("deprecated", 1.0, 2.0, "v2"), before=life, actor="bob")
    records.bind(database, "orders", "v1", "", Binding(Target("other")))
    save(database, api("orders", ONE, TWO, "{version: v3}"))
    found = records.find(database, "orders")
    kept = found.lives["v1"]
    assert (kept.status, kept.deprecated_at, kept.sunset_at, kept.successor) == ("deprecated", 1.0, 2.0, "v2")
    assert kept.changed_by == "bob"
    assert found.bindings["v1", ""].target == Target("other")
    assert save(database, api("orders", TWO)) == []
    found = records.find(database, "orders")
    assert (list(found.lives), found.bindings) == (["v2"], {})


def test_what_is_declared_no_more_is_forgotten(database: Database) -> None:
    save(database, api("orders", ONE), api("more", TWO))
    save(database, api("theirs", ONE, product="people"), product="people")
    records.bind(database, "orders", "v1", "test", Binding(Target()))
    assert save(database, api("more", TWO)) == ["orders"]
    assert [one.name for one in records.recorded(database)] == ["more", "theirs"]
    assert list(records.of_product(database, "people")) == ["theirs"]
    save(database, api("orders", TWO))  # and again, anew
    assert records.find(database, "orders").lives["v2"].status == "draft"
    with pytest.raises(NotFound, match="there is no API 'order'") as caught:
        records.find(database, "order")
    assert caught.value.hint == "did you mean 'orders'?"


def test_an_api_that_moves_to_another_product_is_theirs(database: Database) -> None:
    save(database, api("orders", ONE))
    save(database, api("orders", ONE, product="people"), product="people")
    assert save(database) == []  # of the first one, which has it no longer
    assert [one.declared.product for one in records.recorded(database)] == ["people"]


def test_two_who_change_a_life_at_once_are_told_apart(database: Database) -> None:
    save(database, api("orders", ONE))
    life = records.find(database, "orders").lives["v1"]
    records.set_life(database, "orders", "v1", Life("retired"), before=life)
    with pytest.raises(Conflict, match="was changed meanwhile"):
        records.set_life(database, "orders", "v1", Life("deprecated"), before=life)
    with pytest.raises(NotFound, match="no version 'v9' any more"):
        records.bind(database, "orders", "v9", "", None)


def test_who_follows_sees_every_change_and_reads_nothing_without(database: Database) -> None:
    followed = Followed(database)
    assert followed.look() == ()
    save(database, api("orders", ONE))
    first = followed.look()
    assert [one.name for one in first] == ["orders"]
    assert followed.look() is first
    records.bind(database, "orders", "v1", "", Binding(Target("other"), "because"))
    second = followed.look()
    assert second[0].bindings["v1", ""].reason == "because"
    records.bind(database, "orders", "v1", "", None)
    assert followed.look()[0].bindings == {}
    save(database, api("other", ONE))  # as many as before, another one
    assert [one.name for one in followed.look()] == ["other"]


def test_one_that_is_damaged_hinders_no_other_one(database: Database) -> None:
    save(database, api("orders", ONE), api("more", TWO))
    with database.write() as connection:
        connection.execute(update(apis).where(apis.c.name == "orders").values(document={"name": 7}))
    assert [one.name for one in records.recorded(database)] == ["more"]
    with database.write() as connection:
        connection.execute(text("UPDATE api_versions SET status = 'odd' WHERE api = 'more'"))
    assert [one.name for one in records.recorded(database)] == []
