"""Fixtures of the lake: a lake on this disk, and one repository in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tulle.lake.repository import Lake, Repository, open_lake
from tulle.state.db import Database


@pytest.fixture
def lake(database: Database, tmp_path: Path) -> Lake:
    """An empty lake on disk."""
    return open_lake(database, f"local://{tmp_path / 'objects'}")


@pytest.fixture
def repository(lake: Lake) -> Repository:
    """An empty repository."""
    return lake.create_repository("sales")
