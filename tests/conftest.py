"""Fixtures every test may use."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from playwright.sync_api import expect
from tests import sharing
from tests.lake.databases import Postgres

from tulle.state.db import Database, open_database

# Modules and tests stay as long as the process: walking over them again and again for cycles took a tenth of its time.
gc.set_threshold(20_000, 20, 50)
# How long an example takes says more of what else the machine does than of what is tested.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
expect.set_options(timeout=30_000)  # the same: a page that is right is there sooner


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A module that says `DATABASES = ("sqlite", "postgres")` has its tests run on both."""
    kinds = getattr(metafunc.module, "DATABASES", ())
    if kinds and "database_kind" in metafunc.fixturenames:
        metafunc.parametrize("database_kind", kinds, indirect=True)


def pytest_xdist_auto_num_workers() -> int:
    """What `--numprocesses auto` means."""
    return sharing.processes()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> sharing.Units | None:
    """Units of tests, unless `--dist` asks for another way of sharing."""
    return sharing.Units(config, log) if config.getoption("dist") == "load" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The order in which processes take units, where there are several."""
    if hasattr(config, "workerinput"):
        sharing.longest_first(items)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Keep the collector from walking over what lives from here to the end."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def database_kind(request: pytest.FixtureRequest) -> str:
    """The kind of the control-plane database: SQLite, unless the module or TULLE_TEST_DATABASE says otherwise."""
    return str(getattr(request, "param", os.environ.get("TULLE_TEST_DATABASE", "sqlite")))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server for all tests that want one."""
    server = Postgres()
    yield server
    server.stop()


@pytest.fixture
def database_url(database_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where an empty control-plane database is."""
    if database_kind == "sqlite":
        yield f"sqlite:///{tmp_path / 'state.db'}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    url = server.make()
    yield url
    server.drop(url)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An empty control-plane database."""
    opened = open_database(database_url)
    yield opened
    opened.close()
