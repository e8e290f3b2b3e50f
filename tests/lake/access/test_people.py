"""Users, groups and policies as they are recorded."""

import pytest

from tulle.errors import AlreadyExists, Invalid, NotFound
from tulle.lake.access import people

ANY = [{"effect": "allow", "action": ["*"], "resource": "*"}]


@pytest.mark.parametrize("name", ["", "a/b", "x" * 256, "a*", "${user}", " a", "a\nb"])
def test_names_that_are_none(database, name):
    with database.write() as cx:
        with pytest.raises(Invalid):
            people.add_user(cx, name)
        with pytest.raises(Invalid):
            people.add_group(cx, name)


def test_what_exists_is_not_made_again_and_what_is_missing_is_told(access):
    for make in (people.add_user, people.add_group, lambda cx, id_: people.add_policy(cx, id_, ANY)):
        access.change("x", "test", "x", lambda cx, make=make: make(cx, "same"))
        with pytest.raises(AlreadyExists, match="'same'"):
            access.change("x", "test", "x", lambda cx, make=make: make(cx, "same"))
    for find in (
        people.get_user,
        people.get_group,
        people.get_policy,
        people.delete_user,
        people.delete_group,
    ):
        with pytest.raises(NotFound, match="'sme'") as caught:
            access.change("x", "test", "x", lambda cx, find=find: find(cx, "sme"))
        assert "same" in caught.value.hint


def test_members_and_attachments_go_with_what_they_join(access, database):
    with database.write() as cx:
        people.add_group(cx, "team")
        people.add_policy(cx, "all", ANY)
        for _ in range(2):  # again does nothing
            people.add_member(cx, "team", "ann")
            people.attach(cx, "all", "group", "team")
        assert [p.id for p in people.effective_policies(cx, "ann")] == ["all"]
        assert people.policies_of(cx, "user", "ann") == []
        people.delete_group(cx, "team")
        assert people.effective_policies(cx, "ann") == []
        people.add_group(cx, "team")
        assert people.members(cx, "team") == []
        assert people.policies_of(cx, "group", "team") == []
        with pytest.raises(NotFound):
            people.remove_member(cx, "team", "ann")
        with pytest.raises(NotFound):
            people.detach(cx, "all", "group", "team")
        with pytest.raises(NotFound):
            people.attach(cx, "all", "user", "team")
        people.attach(cx, "all", "user", "ann")
        people.delete_policy(cx, "all")
        assert people.policies_of(cx, "user", "ann") == []


def test_lists_are_pages_in_order(database):
    with database.write() as cx:
        for name in ["b", "a2", "a1", "B", "é"]:
            people.add_user(cx, name)
        assert [u.id for u in people.list_users(cx)] == ["B", "a1", "a2", "b", "é"]
        assert [u.id for u in people.list_users(cx, "a")] == ["a1", "a2"]
        assert [u.id for u in people.list_users(cx, "", "a1", 2)] == ["a2", "b"]
