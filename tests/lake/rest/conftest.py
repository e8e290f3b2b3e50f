"""Fixtures of the REST door: a lake behind it, and a client that acts as the administrator."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.lake.rest.calling import Client

from tulle.lake.access import Access, ensure_administrator, open_access
from tulle.lake.door import application
from tulle.lake.repository import Lake, Repository
from tulle.lake.rest.application import RestDoor
from tulle.state.db import Database


@pytest.fixture
def door(lake: Lake, access: Access) -> RestDoor:
    return RestDoor(lake, access, is_mesh_token=lambda token: token == "mesh-token")


@pytest.fixture
def client(door: RestDoor, access: Access) -> Client:
    """Calls as the administrator."""
    key = access.create_key("admin", "admin")
    return Client(door, application(door.answer, threads=2, name="test-lake-api"), (key.id, key.secret))


@pytest.fixture
def sales(lake: Lake, repository: Repository) -> Repository:
    """A repository with two files committed."""
    repository.put("main", "a/1.txt", b"one", content_type="text/plain", metadata={"k": "v"})
    repository.put("main", "b.txt", b"two")
    repository.commit("main", "First files", metadata={"by": "test"})
    return repository


@pytest.fixture
def access(database: Database, tmp_path: Path) -> Access:
    """Users and keys; the administrator exists."""
    access = open_access(database, tmp_path / "secret.key")
    ensure_administrator(access, tmp_path, "http://lake.test:8080/api/v1")
    return access
