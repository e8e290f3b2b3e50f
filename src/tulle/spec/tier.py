"""What an API offers to those who would call it: tiers, each with its limits, and the terms that hold. Pure.

The same words in a services file, in the file of an API and, for all that say nothing, in mesh.yaml. Knows nothing of
who asks for a tier, and nothing of how limits are kept.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Final, Literal

from tulle.config import Settings
from tulle.errors import Broken, Invalid, NotFound, Problem, did_you_mean
from tulle.spec.document import Document
from tulle.spec.load import Schema, load_document, validate
from tulle.spec.rate_limit import RATE_SCHEMA, RateLimit
from tulle.spec.schedule import DURATION, DURATION_WORDS, duration

MOST_LIMITS: Final = 5  # of one tier: each is one more thing that every request is counted by
MOST_TIERS: Final = 50
LONGEST_TERMS: Final = 50_000  # characters
USUAL: Final = "standard"  # the tier where neither the API nor the mesh has any
TIER_NAME: Final = r"^[a-z0-9][a-z0-9-]{0,62}$"

Approval = Literal["automatic", "manual"]
Visibility = Literal["public", "private"]


@dataclass(frozen=True, slots=True)
class Tier:
    """What one may ask for: so often in each of several periods, every one of which holds.

    `approval` says whether a person decides; a `private` tier is given by the owners and cannot be asked for; one that
    is `deprecated` is given to nobody new. `seconds` is how long a contract under it lasts, None: without an end.
    """

    name: str
    limits: tuple[RateLimit, ...]
    description: str = ""
    approval: Approval = "manual"
    visibility: Visibility = "public"
    deprecated: bool = False
    seconds: int | None = None

    @property
    def words(self) -> str:
        """Its limits as people write them: `100/1s + 10000/1d`."""
        return limits_in_words(self.limits)


@dataclass(frozen=True, slots=True)
class Terms:
    """The conditions of use, which whoever asks accepts; another text needs another version."""

    version: str
    text: str

    @property
    def digest(self) -> str:
        """What tells one text from another."""
        return hashlib.sha256(f"{self.version}\0{self.text}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Offer:
    """The tiers of an API, those of the mesh where it has none of its own, and its terms, if there are any."""

    tiers: tuple[Tier, ...] = ()
    terms: Terms | None = None

    def tier(self, name: str) -> Tier:
        """The tier of that name. NotFound with the nearest."""
        for tier in self.tiers:
            if tier.name == name:
                return tier
        raise NotFound(f"there is no tier '{name}'", hint=did_you_mean(name, [t.name for t in self.tiers]))

    def as_plain(self) -> dict[str, Any]:
        """The form that the database keeps, and that `offer_of` reads."""
        tiers = [{**asdict(tier), "limits": [str(limit) for limit in tier.limits]} for tier in self.tiers]
        return {"tiers": tiers, "terms": asdict(self.terms) if self.terms else None}


def offer_of(plain: Mapping[str, Any]) -> Offer:
    """What `Offer.as_plain` gave. Broken when it is damaged."""
    try:
        tiers = tuple(Tier(**{**raw, "limits": limits_of(raw["limits"])}) for raw in plain["tiers"])
        terms = Terms(**plain["terms"]) if plain["terms"] else None
    except (LookupError, TypeError, ValueError, Invalid) as exc:
        raise Broken(f"the tiers of an API cannot be read: {exc}", hint="apply its product again") from None
    return Offer(tiers, terms)


def limits_of(texts: Iterable[str]) -> tuple[RateLimit, ...]:
    """Several limits as people write them. Invalid for one that is not understood, and for two of one period."""
    return _limits_of(tuple(texts))


@lru_cache(maxsize=4096)  # ten thousand contracts have few different ones
def _limits_of(texts: tuple[str, ...]) -> tuple[RateLimit, ...]:
    limits = tuple(RateLimit.parse(text) for text in texts)
    periods = [limit.period_ms for limit in limits]
    if not 1 <= len(limits) <= MOST_LIMITS:
        raise Invalid(
            f"{len(limits)} limits, expected 1 to {MOST_LIMITS}", hint="for example 100/1s + 10000/1d"
        )
    if len(set(periods)) < len(periods):
        raise Invalid(
            f"two of the limits {limits_in_words(limits)} are of the same period", hint="leave one out"
        )
    return limits


def parse_limits(text: str) -> tuple[RateLimit, ...]:
    """Limits in one text, such as `100/1s + 10000/1d`; Invalid."""
    return limits_of(part for part in re.split(r"[+,]", text[:500]))


def limits_in_words(limits: Sequence[RateLimit]) -> str:
    """What `parse_limits` reads."""
    return " + ".join(map(str, limits))


# ── in files ─────────────────────────────────────────────────────────────────────────────────────────────

_LIMIT = {**RATE_SCHEMA, "description": "requests/period, such as 100/1s"}
TIERS_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "array",
    "maxItems": MOST_TIERS,
    "description": "what callers may ask for; without it, the tiers of mesh.yaml",
    "items": {
        "type": "object",
        "additionalProperties": False,
        "required": ["name", "limits"],
        "properties": {
            "name": {
                "type": "string",
                "pattern": TIER_NAME,
                "x-expected": "lower-case letters, digits and hyphens",
            },
            "description": {"type": "string", "maxLength": 1000},
            "limits": {
                "type": "array",
                "minItems": 1,
                "maxItems": MOST_LIMITS,
                "items": _LIMIT,
                "description": "every one of them holds: [100/1s, 10000/1d]",
            },
            "approval": {
                "enum": ["automatic", "manual"],
                "description": "whether an owner of the product decides on each request (manual)",
            },
            "visibility": {
                "enum": ["public", "private"],
                "description": "private: owners give it, nobody asks for it (public)",
            },
            "deprecated": {"type": "boolean", "description": "given to nobody new; before it is taken out"},
            "lasts": {
                "type": "string",
                "pattern": DURATION,
                "x-expected": DURATION_WORDS,
                "description": "how long a contract under it lasts; without it, until somebody ends it",
            },
        },
    },
}
TERMS_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["version", "text"],
    "description": "conditions of use that whoever asks accepts, again when the version is another",
    "properties": {
        "version": {
            "type": "string",
            "pattern": r"^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$",
            "x-expected": "a version such as 1.0 or 2026-05",
        },
        "text": {"type": "string", "minLength": 1, "maxLength": LONGEST_TERMS},
    },
}


def read_offer(document: Document, path: tuple[str | int, ...] = ()) -> tuple[Offer, list[Problem]]:
    """The members `tiers` and `terms` of what is at `path`, well-formed by their schemas, and what is wrong in them."""
    raw = document.at(path) or {}
    problems: list[Problem] = []
    tiers: list[Tier] = []
    for number, one in enumerate(raw.get("tiers") or ()):
        try:
            tiers.append(_tier(one))
        except Invalid as exc:
            problems.append(document.problem(exc.message, (*path, "tiers", number, "limits"), hint=exc.hint))
    names = _twice([str(one["name"]) for one in raw.get("tiers") or ()])
    problems += [document.problem(f"tier '{name}' is declared twice", (*path, "tiers")) for name in names]
    return Offer(tuple(tiers), Terms(**raw["terms"]) if raw.get("terms") else None), problems


def mesh_tiers(settings: Settings) -> tuple[Tier, ...]:
    """The tiers of every API that declares none: those of mesh.yaml, else one that a person gives. Invalid."""
    usual = Tier(USUAL, (RateLimit.parse(settings.default_rate_limit),), "the mesh's usual limit")
    if not settings.tiers:
        return (usual,)
    document = load_document(json.dumps({"tiers": list(settings.tiers)}), name="mesh.yaml")
    problems = validate(document, _MESH)
    if not problems:
        offer, problems = read_offer(document)
    if problems:
        said = problems[0]
        raise Invalid(f"setting 'tiers': {said.message}", hint=said.hint)
    return offer.tiers


def mesh_tier_problems(document: Document) -> list[Problem]:
    """What is wrong with the limits and tiers of a mesh.yaml, each at its place."""
    problems = validate(document, _MESH) or read_offer(document)[1]
    limit = document.at(("default_rate_limit",))
    if isinstance(limit, str):
        try:
            RateLimit.parse(limit)
        except Invalid as exc:
            problems.append(document.problem(exc.message, ("default_rate_limit",), hint=exc.hint))
    return problems


_MESH: Final = Schema({"type": "object", "properties": {"tiers": TIERS_SCHEMA}})


def _tier(raw: Mapping[str, Any]) -> Tier:
    return Tier(
        name=raw["name"],
        limits=limits_of(raw["limits"]),
        description=raw.get("description", ""),
        approval=raw.get("approval", "manual"),
        visibility=raw.get("visibility", "public"),
        deprecated=raw.get("deprecated", False),
        seconds=duration(raw["lasts"]) if "lasts" in raw else None,
    )


def _twice(names: Sequence[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})
