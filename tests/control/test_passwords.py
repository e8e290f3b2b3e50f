"""Passwords of users through the API and the command line: kept hashed, never shown, handed to the gateway."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.control.test_deployments import active, with_versions
from tests.control.test_switchboard import Board
from tests.pipeline.conftest import Mesh

from tulle.cli.main import cli
from tulle.config import PolicySet
from tulle.errors import TulleError
from tulle.gateway.processing import handed
from tulle.gateway.processing.handed import Hands
from tulle.lake.access import open_access, people
from tulle.lake.access.passwords import remove_password, set_password
from tulle.serving.traffic import single
from tulle.state.passwords import is_password
from tulle.state.secrets import open_secrets

PASSWORD = "correct horse battery"


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "mesh.yaml").write_text("name: test\n")
    yield tmp_path
    kept = b"".join(f.read_bytes() for f in (tmp_path / ".tulle").rglob("*") if f.is_file())
    assert PASSWORD.encode() not in kept


def tulle(mesh: Path, *arguments: str, given: str = "") -> str:
    result = CliRunner().invoke(cli, ["--mesh", str(mesh), "user", *arguments], input=given)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    assert PASSWORD not in result.output
    return result.output


def test_a_password_from_setting_to_removing(mesh: Path) -> None:
    tulle(mesh, "create", "ann", "--group", "Developers")
    assert "nobody has a password" in tulle(mesh, "password")
    assert "user ann has a new password" in tulle(mesh, "password", "ann", given=f"{PASSWORD}\n")
    (found,) = json.loads(tulle(mesh, "password", "--json"))
    assert (found["user"], found["groups"]) == ("ann", ["Developers"])
    assert set(found) == {"user", "groups", "since"}
    assert "ann" in tulle(mesh, "password")
    for given, told in (("short\n", "a password of 5 characters"), ("", "a password of 0 characters")):
        with pytest.raises(TulleError, match=told):
            tulle(mesh, "password", "ann", given=given)
    with pytest.raises(TulleError, match="nobody"):
        tulle(mesh, "password", "nobody", given=f"{PASSWORD}\n")
    assert "has no password" in tulle(mesh, "password", "ann", "--remove")
    with pytest.raises(TulleError, match="user 'ann' has no password"):
        tulle(mesh, "password", "ann", "--remove")


def test_processors_are_handed_users_where_a_policy_needs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = with_versions(Mesh(tmp_path / "mesh"), 1)
    active(workspace, single("v1"))
    settings = workspace.settings
    access = open_access(workspace.database, settings.state_folder / "secret.key")
    access.change("admin", "access.user_created", "user/ann", lambda cx: people.add_user(cx, "ann"))
    access.change("admin", "access.password_set", "user/ann", lambda cx: set_password(cx, "ann", "hash"))
    hands = Hands(settings.state_folder / handed.FILE, open_secrets(settings.state_folder / handed.KEY_FILE))
    board = Board(workspace, monkeypatch)
    board.it.settle()
    assert hands.now().users == {}
    sets = {"a": PolicySet(({"policy": "basic-auth"},), services=("calc",))}
    board = Board(replace(workspace, settings=replace(settings, policies=sets)), monkeypatch)
    board.it.settle()
    assert {name: user.password for name, user in hands.now().users.items()} == {"ann": "hash"}
    access.change("admin", "access.password_removed", "user/ann", lambda cx: remove_password(cx, "ann"))
    board.it.settle()
    assert hands.now().users == {}
    assert not is_password(PASSWORD, "hash")
    workspace.database.close()
