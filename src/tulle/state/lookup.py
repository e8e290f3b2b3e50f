"""One statement that is asked so often that it is asked at the database's driver.

Of a look-up by key in the embedded database, building and taking apart what SQLAlchemy puts around each execution
takes four fifths of the time. Knows no table's meaning.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Select
from sqlalchemy.dialects import sqlite


class Lookup:
    """A SELECT with named parameters, of which the first row is wanted. Safe to share between threads."""

    def __init__(self, statement: Select[Any]) -> None:
        self._statement = statement
        dialect = sqlite.dialect()
        compiled = statement.compile(dialect=dialect)
        self._text = str(compiled)
        self._order = tuple(compiled.positiontup or ())
        self._readers = [
            (position, reader)
            for position, column in enumerate(statement.selected_columns)
            if (reader := column.type.dialect_impl(dialect).result_processor(dialect, None)) is not None
        ]

    def first(self, cx: Connection, values: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """The first row's values in the order they are selected, or None; in the transaction of `cx`."""
        if cx.dialect.name == "sqlite":
            raw: Any = cx.connection.dbapi_connection
            try:
                row = raw.execute(self._text, [values[name] for name in self._order]).fetchone()
            except sqlite3.Error:
                pass  # asked again below, where it is told in our words
            else:
                if row is None:
                    return None
                found = list(row)
                for position, reader in self._readers:
                    found[position] = reader(found[position])
                return tuple(found)
        result = cx.execute(self._statement, values).first()
        return None if result is None else tuple(result)
