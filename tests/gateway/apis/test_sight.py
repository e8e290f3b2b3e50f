"""Who finds which API."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Connection, event, insert, update

from tulle.errors import NotFound
from tulle.gateway.apis import records
from tulle.gateway.apis.declared import ApiDeclared, as_plain
from tulle.gateway.apis.sight import NOBODY, Sight
from tulle.lake.access import open_access, people
from tulle.spec.product import DataProduct
from tulle.state import products
from tulle.state.db import Database
from tulle.state.tables import apis


@pytest.fixture
def sight(database: Database, tmp_path: Path) -> Sight:
    access = open_access(database, tmp_path / "secret.key")

    def fill(cx: Connection) -> None:
        people.add_group(cx, "Analysts")
        for name, group in (("kim", "Analysts"), ("vic", "Viewers"), ("ann", "Developers")):
            people.add_user(cx, name)
            people.add_member(cx, group, name)

    access.change("", "access.user.created", "user/some", fill)
    return Sight(database, access)


@pytest.mark.parametrize(
    ("visibility", "to", "seen_by"),
    [
        ("public", (), {None, NOBODY, "kim", "vic", "ann", "gone"}),
        ("private", (), {None, "ann"}),
        ("restricted", ("role:Analysts",), {None, "kim", "ann"}),
        ("restricted", ("role:Others", "domain:none"), {None, "ann"}),
        ("restricted", ("role:Viewers",), {None, "vic", "ann"}),
    ],
)
def test_whoever_an_api_is_not_for_does_not_see_it(
    sight: Sight, visibility: str, to: tuple[str, ...], seen_by: set[str | None]
) -> None:
    people = (None, NOBODY, "kim", "vic", "ann", "gone")
    assert {one for one in people if sight.sees(one, "sales", visibility, to)} == seen_by


def test_owners_are_who_may_change_what_is_published(sight: Sight) -> None:
    people = (None, NOBODY, "kim", "vic", "ann")
    assert [sight.may_change(one, "sales", "main") for one in people] == [True, False, False, False, True]
    assert [sight.belongs(one, "sales") for one in people if one is not None] == [False, False, False, True]


def test_a_domain_is_looked_at_once_however_many_apis_it_may_see(sight: Sight, database: Database) -> None:
    with database.write() as cx:
        for name, domain in (("sales", "shop"), ("till", "shop"), ("people", "crm")):
            products.save(cx, DataProduct(name, name, domain, ""), code_digest="c")
    assert products.domains(database) == {"crm": ["people"], "shop": ["sales", "till"]}
    asked: list[str] = []

    def note(*arguments: object) -> None:
        asked.append(str(arguments[2]))

    for user, seen in {"vic": False, "ann": True}.items():
        view = sight.of(user)
        view.sees("other", "restricted", ("domain:shop", "role:None"))
        event.listen(database.engine, "before_cursor_execute", note)
        found = {view.sees("other", "restricted", ("domain:shop", "role:None")) for _ in range(50)}
        event.remove(database.engine, "before_cursor_execute", note)
        assert found == {seen}
    assert len([one for one in asked if "FROM products" in one or "FROM groups" in one]) == 0


def test_of_one_api_all_others_are_not_read(sight: Sight, database: Database) -> None:
    with database.write() as cx:
        for name in ("orders", "stock"):
            api = ApiDeclared(name, "sales", visibility="public" if name == "orders" else "private")
            document = as_plain(api)
            cx.execute(
                insert(apis).values(name=name, product="sales", document=document, applied_at=1, revision=1)
            )
    sight.demand("kim", "orders")
    sight.demand(None, "nothing")
    for name in ("stock", "order"):
        with pytest.raises(NotFound, match=f"there is no API '{name}'") as told:
            sight.demand("kim", name)
        assert "stock" not in (told.value.hint or "")
    sight.demand("ann", "stock")
    assert records.declared(database, "stock") == ApiDeclared("stock", "sales", visibility="private")
    assert records.find(database, "orders").declared.product == "sales"
    with database.write() as cx:
        cx.execute(update(apis).where(apis.c.name == "orders").values(document={"name": 3}, revision=2))
    assert records.declared(database, "orders") is None
    with pytest.raises(NotFound):
        sight.demand("kim", "orders")
