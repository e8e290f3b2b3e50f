"""A query endpoint as a service declares it. Pure: knows nothing of files or data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tulle.errors import Place
from tulle.serving.bounds import Bounds
from tulle.serving.declared import BOUNDS_SCHEMA, TestQuery, parse_bounds, queries_schema
from tulle.serving.keyed_rows import PlaceOf, places_of
from tulle.spec.source import CONNECTION_NAME

PARAMETER_TYPES = ("string", "integer", "double", "decimal", "boolean", "date", "timestamp")
PLAIN_TYPES = ("list", "object")  # what a composition takes beside these
MOST_ROWS = 100_000
_USUAL_ROWS = 1000
USUAL_CONNECTIONS = 4


@dataclass(frozen=True, slots=True)
class QueryParameter:
    """A value that callers send for `$name`."""

    name: str
    type: str = "string"
    required: bool = True
    default: Any = None
    description: str = ""


@dataclass(frozen=True, slots=True)
class QuerySpec:
    """A query endpoint: one SELECT over data sets of this product, or of others under names of their own; or over the
    tables of a database.
    """

    name: str
    sql: str
    parameters: tuple[QueryParameter, ...] = ()
    data_sets: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # name → product, data set
    connection: str = ""  # of the mesh: its database answers; empty: the package's own data
    connections: int = USUAL_CONNECTIONS  # that each worker opens
    most_rows: int = _USUAL_ROWS
    bounds: Bounds = Bounds()
    description: str = ""
    test_queries: tuple[TestQuery, ...] = ()
    type: Literal["query"] = "query"
    places: Mapping[str, Place] = field(default_factory=dict, compare=False, repr=False)  # by property

    def reads(self, product: str) -> tuple[tuple[str, str], ...]:
        """Product and data set of all that the SQL names; `product` is the service's own."""
        from tulle.engine.statement import read_statement  # noqa: PLC0415  a worker imports this and reads no SQL

        if self.connection:
            return ()
        names = read_statement(self.sql).reads
        found = (self.data_sets.get(name, ("", name)) for name in names)
        return tuple((said or product, data_set) for said, data_set in found)


def parameters_schema(description: str, *further: str) -> Mapping[str, Any]:
    """The JSON Schema of what callers send by name, of the types of columns and `further` ones."""
    wider = [{"list": "array"}.get(one, one) for one in further]
    return {
        "type": "object",
        "description": description,
        "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]{0,62}$"},
        "additionalProperties": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "type": {"enum": [*PARAMETER_TYPES, *further], "description": "default: string"},
                "default": {
                    "type": ["string", "number", "boolean", "null", *wider],
                    "description": "what is taken when it is not sent; without one it is needed",
                },
                "description": {"type": "string"},
            },
        },
    }


QUERY_SCHEMA: Mapping[str, Any] = {
    "required": ["sql"],
    "properties": {
        "sql": {
            "type": "string",
            "minLength": 1,
            "maxLength": 100_000,
            "description": "one SELECT; `$name` stands for a value that callers send",
        },
        "parameters": parameters_schema(
            "what callers send for each $name; one that is not told is text and needed"
        ),
        "data_sets": {
            "type": "object",
            "description": "names in the SQL that stand for data sets of other products",
            "additionalProperties": {
                "type": "object",
                "additionalProperties": False,
                "required": ["data_set"],
                "properties": {
                    "product": {
                        "type": "string",
                        "description": "whose data set it is; default: this product",
                    },
                    "data_set": {"type": "string"},
                },
            },
        },
        "connection": {
            "type": "string",
            "pattern": CONNECTION_NAME,
            "description": "a connection of the mesh to a PostgreSQL that answers; default: the data in the package",
        },
        "connections": {
            "type": "integer",
            "minimum": 1,
            "maximum": 64,
            "description": f"to the database that each worker opens at most (default {USUAL_CONNECTIONS})",
        },
        "most_rows": {
            "type": "integer",
            "minimum": 1,
            "maximum": MOST_ROWS,
            "description": f"of one answer (default {_USUAL_ROWS:,})",
        },
        **BOUNDS_SCHEMA,
        "test_queries": queries_schema("parameters"),
    },
    "dependentRequired": {"connections": ["connection"]},
}
# What is the engine's matter, and has no meaning where a database answers.
_OF_FILES = ("data_sets", "pool", "memory")


def only_of_files(places: Mapping[str, Place]) -> str:
    """A property that a query over a connection cannot have, empty when it has none."""
    return next((name for name in _OF_FILES if name in places), "")


def parse_parameters(raw: Mapping[str, Any]) -> tuple[QueryParameter, ...]:
    """The values of checked properties, in the order they were written."""
    return tuple(
        QueryParameter(
            name,
            said.get("type", "string"),
            "default" not in said,
            said.get("default"),
            said.get("description", ""),
        )
        for name, said in raw.items()
    )


def parse_query(raw: Mapping[str, Any], place: PlaceOf) -> QuerySpec:
    """The value of checked properties."""
    return QuerySpec(
        name=raw["name"],
        sql=raw["sql"],
        parameters=parse_parameters(raw.get("parameters", {})),
        data_sets={
            name: (said.get("product", ""), said["data_set"])
            for name, said in raw.get("data_sets", {}).items()
        },
        connection=raw.get("connection", ""),
        connections=raw.get("connections", USUAL_CONNECTIONS),
        most_rows=raw.get("most_rows", _USUAL_ROWS),
        bounds=parse_bounds(raw),
        description=raw.get("description", ""),
        test_queries=tuple(
            TestQuery(one["name"], one["parameters"], one.get("expect"), float(one.get("tolerance", 1e-6)))
            for one in raw.get("test_queries", ())
        ),
        places=places_of(raw, place),
    )
