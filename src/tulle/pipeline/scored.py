"""Data sets that are an endpoint's answers to the rows of another one: `transform/<data set>.yaml`, read and checked.

Reading never raises for what a file says: problems come back with their places. Knows nothing of services but names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tulle.errors import Invalid, Place, Problem
from tulle.spec.load import Schema, load_document, validate
from tulle.spec.product import DATA_SET_NAME

_SCHEMA = Schema(
    {
        "type": "object",
        "required": ["endpoint", "version", "rows"],
        "additionalProperties": False,
        "properties": {
            "endpoint": {
                "type": "string",
                "pattern": "^[a-z0-9][a-z0-9-]{2,62}/[a-z0-9][a-z0-9-]{0,62}$",
                "x-expected": "a service of this product and its endpoint, such as customer-insights/will-return",
                "description": "the endpoint that answers, as service/endpoint",
            },
            "version": {
                "type": "string",
                "pattern": "^[a-z0-9][a-z0-9._-]{0,62}$",
                "x-expected": "a version of the service, such as v3",
                "description": "the version of the service that answers",
            },
            "rows": {
                "type": "string",
                "pattern": DATA_SET_NAME,
                "x-expected": "a data set of the product",
                "description": "the data set whose rows are answered",
            },
            "map": {
                "type": "object",
                "additionalProperties": {"type": "string", "minLength": 1},
                "description": "what is sent under another name than its column has: the name, then the column",
            },
            "keep": {
                "type": "array",
                "items": {"type": "string", "minLength": 1},
                "uniqueItems": True,
                "description": "the columns that stay beside the answers; default: all",
            },
        },
    }
)


@dataclass(frozen=True, slots=True)
class Score:
    """Which endpoint of which version answers the rows of which data set."""

    service: str
    endpoint: str
    version: str
    rows: str
    renamed: Mapping[str, str] = field(default_factory=dict)  # name sent: column
    keep: tuple[str, ...] | None = None  # None: all columns
    place: Place | None = field(default=None, compare=False)  # of the rows' name

    @property
    def named(self) -> str:
        """What people call the endpoint."""
        return f"{self.service}/{self.endpoint}"


def read_score(text: str, name: str) -> tuple[Score | None, list[Problem]]:
    """What a file says, and what is wrong with it; `name` is what errors call it."""
    try:
        document = load_document(text, name=name)
    except Invalid as error:
        return None, list(error.problems) or [Problem(error.message, Place(name), error.hint)]
    if document.value is None:
        hint = "write endpoint: service/endpoint, version: and rows:"
        return None, [
            Problem("the file does not say which endpoint answers which rows", Place(name, 1), hint)
        ]
    if problems := validate(document, _SCHEMA):
        return None, problems
    said = document.value
    service, _, endpoint = said["endpoint"].partition("/")
    keep = tuple(said["keep"]) if "keep" in said else None
    place = document.place(("rows",))
    return Score(service, endpoint, said["version"], said["rows"], said.get("map", {}), keep, place), []
