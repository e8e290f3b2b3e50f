"""How a version of an API is changed: each in its turn, while it is there, with a new revision.

Knows nothing of what is changed.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import Connection, select

from tulle.errors import NotFound
from tulle.state.db import Database, in_turn
from tulle.state.tables import api_versions

_REVISIONS: Final = 1 << 31


@contextmanager
def changing(database: Database, api: str, version: str) -> Iterator[Connection]:
    """One transaction in which nobody else changes the API. NotFound when the version is gone."""
    with database.write() as connection:
        in_turn(connection, f"api {api}")
        chosen = (api_versions.c.api == api) & (api_versions.c.version == version)
        if connection.execute(select(api_versions.c.api).where(chosen)).first() is None:
            raise NotFound(
                f"API '{api}' has no version '{version}' any more", hint="`tulle api show` tells which"
            )
        yield connection


def revision() -> int:
    """What a row that is written anew is told apart by: chance, so that no two that are ever seen are the same."""
    return secrets.randbelow(_REVISIONS)
