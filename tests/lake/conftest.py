"""Fixtures of the lake: a lake on this disk, and one repository in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tulle.lake.repository import Lake, Repository, open_lake
from tulle.state.db import Database, open_database


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with its tables and nothing in them, to copy: making the tables takes 0.2 s."""
    file = tmp_path_factory.mktemp("database") / "state.db"
    open_database(f"sqlite:///{file}").close()
    return file


@pytest.fixture
def database(
    empty_database: Path, tmp_path: Path, database_kind: str, database_url: str
) -> Iterator[Database]:
    """An empty control-plane database."""
    if database_kind == "sqlite":
        shutil.copy(empty_database, tmp_path / "state.db")
    opened = open_database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def lake(database: Database, tmp_path: Path) -> Lake:
    """An empty lake on disk."""
    return open_lake(database, f"local://{tmp_path / 'objects'}")


@pytest.fixture
def repository(lake: Lake) -> Repository:
    """An empty repository."""
    return lake.create_repository("sales")
