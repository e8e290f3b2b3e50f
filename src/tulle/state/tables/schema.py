"""The one schema that every slice's tables are of, the type of counted keys, and how text is ordered."""

from __future__ import annotations

from sqlalchemy import BigInteger, Integer, MetaData, String

metadata = MetaData()
BigId = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers only INTEGER keys by itself


def order_text_by_bytes() -> None:
    """Have PostgreSQL compare and order text of every table by its bytes, as SQLite does, not by some language."""
    for table in metadata.tables.values():
        for column in table.columns:
            if isinstance(column.type, String):
                plain = type(column.type)(column.type.length, collation="C")
                column.type = column.type.with_variant(plain, "postgresql")
