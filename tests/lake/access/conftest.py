"""Fixtures of access: users and keys of a new mesh."""

from __future__ import annotations

from pathlib import Path

import pytest

from tulle.lake.access import Access, open_access, people
from tulle.state.db import Database


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / ".tulle" / "secret.key"


@pytest.fixture
def access(database: Database, key_file: Path) -> Access:
    """A new mesh, with the user ann, who may do nothing."""
    access = open_access(database, key_file)
    access.change("admin", "access.user_created", "user/ann", lambda cx: people.add_user(cx, "ann"))
    return access


@pytest.fixture
def allow(access: Access):
    """Give ann a policy of these statements."""

    def give(*statements, name="anns"):
        def work(cx):
            people.add_policy(cx, name, list(statements))
            people.attach(cx, name, "user", "ann")

        access.change("admin", "access.policy_created", f"policy/{name}", work)

    return give
