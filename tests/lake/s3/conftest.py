"""Fixtures of the S3 door: a lake with a repository, a door on it, a client that signs by itself."""

from __future__ import annotations

import pytest
from tests.lake.s3.client import ACCESS_KEY, SECRET, Client
from tests.lake.s3.permits import Permits

from tulle.lake.repository import Lake, Repository
from tulle.lake.s3 import s3_application


@pytest.fixture
def permits() -> Permits:
    """Who may do what: one key, everything allowed unless a test takes it away."""
    return Permits({ACCESS_KEY: SECRET})


@pytest.fixture
def client(lake: Lake, repository: Repository, permits: Permits) -> Client:
    """A client of a door on the lake, in this process."""
    return Client(s3_application(lake, permits, threads=2))
