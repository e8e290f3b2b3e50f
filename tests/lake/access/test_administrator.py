"""The first user and the file of its key."""

import os
import stat

import pytest
import yaml

from tulle.errors import Unavailable
from tulle.lake.access import ensure_administrator, open_access, people

ONE, TWO = "http://127.0.0.1:8001/api/v1", "http://127.0.0.1:8002/api/v1"


def keys(access):
    return [key.id for key in access.read(lambda cx: people.keys_of(cx, "admin"))]


def test_the_file_is_what_lakectl_reads_and_its_owners_alone(access, tmp_path):
    old = os.umask(0)
    try:
        file = ensure_administrator(access, tmp_path, ONE)
    finally:
        os.umask(old)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    value = yaml.safe_load(file.read_text())
    assert value["server"] == {"endpoint_url": ONE}
    credentials = value["credentials"]
    assert sorted(credentials) == ["access_key_id", "secret_access_key"]
    assert access.sign_in(credentials["access_key_id"], credentials["secret_access_key"]) == "admin"
    assert [group.id for group in access.read(lambda cx: people.groups_of(cx, "admin"))] == ["Admins"]
    assert access.decide("admin", "auth:CreateUser", access.resource_user("x")).allowed
    assert sorted(each.name for each in tmp_path.glob("lakectl*")) == ["lakectl.yaml"]


def test_again_it_changes_nothing_and_another_port_keeps_the_key(access, tmp_path):
    file = ensure_administrator(access, tmp_path, ONE)
    first, made = file.read_bytes(), keys(access)
    at = file.stat().st_mtime_ns
    ensure_administrator(access, tmp_path, ONE)
    assert (file.read_bytes(), file.stat().st_mtime_ns) == (first, at)
    ensure_administrator(access, tmp_path, TWO)
    assert file.read_text() == first.decode().replace(ONE, TWO)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert keys(access) == made


@pytest.mark.parametrize("content", [None, "", "nonsense: [", "credentials: {}", "credentials: 5"])
def test_a_lost_or_broken_file_is_made_anew(access, tmp_path, content):
    file = ensure_administrator(access, tmp_path, ONE)
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    ensure_administrator(access, tmp_path, ONE)
    value = yaml.safe_load(file.read_text())["credentials"]
    assert access.sign_in(value["access_key_id"], value["secret_access_key"]) == "admin"


def test_a_revoked_key_is_replaced_in_the_file(access, tmp_path):
    file = ensure_administrator(access, tmp_path, ONE)
    (old,) = keys(access)
    access.delete_key("admin", "admin", old)
    ensure_administrator(access, tmp_path, ONE)
    assert yaml.safe_load(file.read_text())["credentials"]["access_key_id"] == keys(access)[0] != old


def test_with_the_key_file_lost_nothing_is_made(access, database, key_file, tmp_path):
    file = ensure_administrator(access, tmp_path, ONE)
    before = file.read_bytes()
    key_file.unlink()
    with pytest.raises(Unavailable):
        open_access(database, key_file)
    assert file.read_bytes() == before
