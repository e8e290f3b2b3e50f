"""What a product and its parts say of themselves beyond names and shapes: schemas, values, and how they are read.

Contacts, links, support, prices, foreign keys, accepted values, and `custom`, in which a company keeps what
Tulle has no word for. Pure; what is said here is shown and compared, and acted upon elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tulle.spec.schemas import day, entity, list_of, one_of, text, web

STATUSES = ("proposed", "draft", "active", "deprecated", "retired")
COMPATIBILITIES = ("none", "backward", "full")
OPERATORS = ("<", "<=", "=", "!=", ">=", ">")


# ── values ────────────────────────────────────────


def mapping() -> Any:
    """A field that holds a mapping, which takes part in equality and not in hashing."""
    return field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Contact:
    """Somebody who works on the product."""

    username: str  # an address, or a name in the company's directory
    name: str = ""
    role: str = ""
    description: str = ""
    since: str = ""  # ISO dates
    until: str = ""
    replaced_by: str = ""


@dataclass(frozen=True, slots=True)
class SupportChannel:
    """Where consumers ask and are told."""

    channel: str
    url: str
    description: str = ""
    tool: str = ""
    scope: str = ""
    invitation_url: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """Where more is told."""

    url: str
    type: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Price:
    """What use costs."""

    amount: float
    currency: str
    per: str = ""


@dataclass(frozen=True, slots=True)
class Synonym:
    """Another word for a thing."""

    synonym: str
    locale: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class AcceptedValue:
    """One of the values a column may have."""

    value: Any
    label: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """The column another column's values come from; no product: this one's."""

    data_set: str
    column: str
    product: str = ""


@dataclass(frozen=True, slots=True)
class BusinessKey:
    """Columns that tell a thing of the business apart, under the name the business gives it."""

    name: str
    columns: tuple[str, ...]
    description: str = ""


# ── schemas ────────────────────────────────────────

CUSTOM = {
    "type": "object",
    "description": "what your company says beyond this: values by name, kept and shown as they are",
    "maxProperties": 200,
    "propertyNames": {
        "pattern": r"^[A-Za-z_][A-Za-z0-9_.:-]{0,99}$",
        "x-expected": "a name of letters, digits, underscores, dots and hyphens, such as cost_centre",
    },
}
CONTACTS = list_of(
    entity(
        ["username"],
        username=text("an address, or the name in your directory"),
        name=text("the name for readers"),
        role=text("what they do for the product, such as owner, steward or developer"),
        description=text("what to ask them"),
        since=day("the first day, such as 2026-01-31"),
        until=day("the last day, such as 2027-12-31"),
        replaced_by=text("the username of who came after"),
    ),
    "who works on it and may be asked",
)
SUPPORT = list_of(
    entity(
        ["channel", "url"],
        channel=text("what the channel is called"),
        url=web("where it is"),
        description=text("what it is for"),
        tool=text("what it is made with, such as email, slack, teams or ticket"),
        scope=text("interactive, announcements or issues"),
        invitation_url=web("where to join"),
    ),
    "where consumers ask and are told",
)
LINKS = list_of(
    entity(
        ["url", "type"],
        url=web("where it is"),
        type=text("what is there, such as businessDefinition, implementation or tutorial"),
        description=text("what one finds there"),
    ),
    "where more is told: definitions, code, tutorials, dashboards",
)
SYNONYMS = list_of(
    {
        "anyOf": [
            {"type": "string", "minLength": 1},
            entity(
                ["synonym"],
                synonym=text("the other word"),
                locale=text("its language, such as de-DE"),
                description=text("when it is used"),
            ),
        ],
        "x-expected": "a word, or a mapping with synonym",
    },
    "other words for the same, so that people and agents find it",
)
EXAMPLES = list_of({}, "some values one may meet", maxItems=50)
PRICE = {
    **entity(
        ["amount", "currency"],
        amount={"type": "number", "minimum": 0, "description": "how much"},
        currency=text(
            "in which currency, such as EUR",
            pattern="^[A-Z]{3}$",
            **{"x-expected": "three capital letters such as EUR"},
        ),
        per=text("for what, such as month, year, request or GB"),
    ),
    "description": "what use costs",
}
ENUM = list_of(
    {
        "anyOf": [
            {"type": ["string", "number", "boolean"]},
            entity(
                ["value"],
                value={"type": ["string", "number", "boolean"], "description": "the value"},
                label=text("its name for readers"),
                description=text("what it means"),
            ),
        ],
        "x-expected": "a value, or a mapping with value",
    },
    "the only values the column may have",
    minItems=1,
    maxItems=1000,
)
FOREIGN_KEY = {
    **entity(
        ["data_set", "column"],
        product=text("the product it belongs to; default: this one"),
        data_set=text("the data set the values come from"),
        column=text("the column there"),
    ),
    "description": "the column the values come from",
}
BUSINESS_KEYS = list_of(
    entity(
        ["name", "columns"],
        name=text("the business's name for it, such as customer number"),
        columns=list_of(text("a column"), "the columns that make it", minItems=1, uniqueItems=True),
        description=text("who gives it out, and how it looks"),
    ),
    "columns by which the business tells its things apart, shared across products",
)
OPERATOR = one_of(OPERATORS, "how what is measured must stand to the threshold")
DEPRECATED = {"type": "boolean", "default": False, "description": "whether new use is discouraged"}


# ── reading what passed its schema ────────────────────────────────────────


def many(kind: type[Any], entries: Iterable[Any] | None, short: str = "") -> tuple[Any, ...]:
    """Values of `kind` from a list; an entry that is not a mapping is its property `short`."""
    made = []
    for entry in entries or ():
        said = entry if isinstance(entry, Mapping) else {short: entry}
        made.append(kind(**{key: tuple(v) if isinstance(v, list) else v for key, v in said.items()}))
    return tuple(made)


def one(kind: type[Any], entry: Mapping[str, Any] | None) -> Any:
    """A value of `kind`, or None where nothing is said."""
    return kind(**entry) if entry else None
