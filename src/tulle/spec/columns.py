"""The mesh's own words for column types, and how they are spelled.

Knows nothing of any engine: `engine` maps these words to its own types.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PLAIN_TYPES = ("string", "integer", "double", "boolean", "date", "timestamp", "binary")
MAX_PRECISION = 38  # what DuckDB, Arrow and Spark can all hold

_DECIMAL_PATTERN = r"decimal\(\s*([1-9]|[12][0-9]|3[0-8])\s*,\s*[0-9]{1,2}\s*\)"
TYPE_PATTERN = f"^({'|'.join(PLAIN_TYPES)}|{_DECIMAL_PATTERN})$"
TYPE_WORDS = "string, integer, double, decimal(precision,scale), boolean, date, timestamp or binary"

# Words of other systems (and ours), so that a newcomer's first guess is answered with ours.
OTHER_WORDS = {
    **{name: name for name in PLAIN_TYPES},
    "text": "string",
    "str": "string",
    "varchar": "string",
    "char": "string",
    "uuid": "string",
    "int": "integer",
    "int32": "integer",
    "int64": "integer",
    "bigint": "integer",
    "smallint": "integer",
    "long": "integer",
    "float": "double",
    "float32": "double",
    "float64": "double",
    "real": "double",
    "bool": "boolean",
    "datetime": "timestamp",
    "timestamptz": "timestamp",
    "time": "timestamp",
    "bytes": "binary",
    "blob": "binary",
    "decimal": "decimal(18,2)",
    "numeric": "decimal(18,2)",
    "number": "decimal(18,2)",
    "money": "decimal(18,2)",
}

_DECIMAL = re.compile(r"decimal\(\s*([0-9]{1,3})\s*,\s*([0-9]{1,3})\s*\)")
TYPE_SHAPE = re.compile(TYPE_PATTERN)  # `parse_type` also compares scale with precision


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A parsed column type; `precision` and `scale` are set for decimals only."""

    name: str
    precision: int = 0
    scale: int = 0

    def __str__(self) -> str:
        """Render the way it is written in a document."""
        return f"decimal({self.precision},{self.scale})" if self.name == "decimal" else self.name


def parse_type(text: str) -> ColumnType | None:
    """The type `text` spells, or None when it spells none."""
    if text in PLAIN_TYPES:
        return ColumnType(text)
    if match := _DECIMAL.fullmatch(text):
        precision, scale = int(match[1]), int(match[2])
        if 1 <= precision <= MAX_PRECISION and scale <= precision:
            return ColumnType("decimal", precision, scale)
    return None
