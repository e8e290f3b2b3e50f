"""Who finds which API."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Connection

from tulle.gateway.apis.sight import NOBODY, Sight
from tulle.lake.access import open_access, people
from tulle.state.db import Database


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
        ("private", (), {None, "vic", "ann"}),
        ("restricted", ("role:Analysts",), {None, "kim", "vic", "ann"}),
        ("restricted", ("role:Others", "domain:none"), {None, "vic", "ann"}),
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
    assert [sight.belongs(one, "sales") for one in people if one is not None] == [False, False, True, True]
