"""The lake against a model of it: dictionaries in memory, driven through random histories.

What is drawn never depends on commit ids, because those differ from run to run. Ranges, tiers and batches are
made tiny, so that a dozen paths exercise trees, layers, folds and staged runs. After every step each branch must
read as the model says, staged and committed; after every collection each commit must.

The run is short. For a long one say how many histories of how many steps:

    MODEL_EXAMPLES=300 MODEL_STEPS=80 pytest --timeout 0 tests/model/test_lake_model.py

On PostgreSQL it takes a sixth of the histories.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from tests.lake.databases import Postgres
from tests.model import machine
from tests.model.history import History
from tests.model.lakewide import Lakewide
from tests.model.names import Names
from tests.model.objects import Objects
from tests.model.reading import Reading
from tests.model.uploading import Uploads

from tulle.state.db import open_database

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "18"))
STEPS = int(os.environ.get("MODEL_STEPS", "40"))


class LakeMachine(Objects, History, Names, Reading, Uploads, Lakewide):
    """All the rules."""


class PostgresMachine(LakeMachine):
    """The same on PostgreSQL."""

    def new_database(self) -> str:
        url = machine.servers[0].make()
        self.stack.callback(machine.servers[0].drop, url)
        return url


@pytest.fixture(scope="module", autouse=True)
def _empty_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    file = tmp_path_factory.mktemp("model") / "empty.db"
    open_database(f"sqlite:///{file}").close()
    machine.empty_databases.append(file)
    yield
    machine.empty_databases.clear()


@pytest.fixture(scope="module")
def _server(postgres: Postgres) -> Iterator[None]:
    machine.servers.append(postgres)
    yield
    machine.servers.clear()


pytestmark = pytest.mark.timeout(900)  # what fails is made small for long, so that the failure is told

LakeMachine.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestLake = LakeMachine.TestCase

PostgresMachine.TestCase.settings = settings(
    LakeMachine.TestCase.settings, max_examples=max(1, EXAMPLES // 6)
)
TestLakeOnPostgres = pytest.mark.usefixtures("_server")(PostgresMachine.TestCase)
