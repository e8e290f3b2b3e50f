"""Finding APIs and products together: by words, the nearest first, and by what they are. Pure.

Knows values, not where they are kept, nor who may see them: it is given what who looks may see.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

MOST_WORDS: Final = 12
PAGE: Final = 30
FACETS: Final = ("kind", "domain", "tag", "status", "way")
_MOST_CHOICES: Final = 40  # of one facet
# Where a word is found, and how much that says of what is looked for.
_WEIGHTS: Final[Mapping[str, float]] = {
    "name": 8.0,
    "title": 5.0,
    "tags": 4.0,
    "summary": 2.0,
    "owner": 2.0,
    "detail": 1.0,
}

Kind = Literal["API", "product"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One API or product on the shelf; `detail` is what else it is found by: operations, fields, columns.

    `statuses` are those of its versions, `ways` how callers show who they are; `stars` is the mean of its ratings.
    """

    kind: Kind
    name: str
    title: str
    href: str
    summary: str
    product: str
    domain: str
    owner: str = ""
    tags: tuple[str, ...] = ()
    versions: tuple[tuple[str, str], ...] = ()  # (version, status)
    statuses: tuple[str, ...] = ()
    ways: tuple[str, ...] = ()
    visibility: str = "public"
    is_mock: bool = False
    stars: float | None = None
    rated: int = 0
    detail: str = field(default="", repr=False)

    def values(self, facet: str) -> tuple[str, ...]:
        """What it is by one of FACETS."""
        found: Mapping[str, tuple[str, ...]] = {
            "kind": (self.kind,),
            "domain": (self.domain,) if self.domain else (),
            "tag": self.tags,
            "status": self.statuses,
            "way": self.ways,
        }
        return found[facet]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for: words, and a value of some facets; the page is counted from 1."""

    query: str = ""
    chosen: Mapping[str, str] = field(default_factory=dict)
    page: int = 1


@dataclass(frozen=True, slots=True)
class Found:
    """A page of what was found; `choices` are the values of each facet, with how many there would be with it."""

    wanted: Wanted
    entries: tuple[Entry, ...]
    count: int
    choices: Mapping[str, tuple[tuple[str, int], ...]]

    @property
    def pages(self) -> int:
        """Of what was found."""
        return max(1, -(-self.count // PAGE))

    @property
    def has_more(self) -> bool:
        """Whether another page follows."""
        return self.wanted.page * PAGE < self.count


def find(entries: Sequence[Entry], wanted: Wanted) -> Found:
    """Those that hold every word and are as chosen: by relevance where there are words, else by name."""
    words = wanted.query.casefold().split()[:MOST_WORDS]
    scored = [(_score(one, words), one) for one in entries]
    by_words = [(score, one) for score, one in scored if score > 0 or not words]
    chosen = {facet: value for facet, value in wanted.chosen.items() if value and facet in FACETS}
    matching = [(score, one) for score, one in by_words if _is(one, chosen)]
    matching.sort(key=lambda pair: (-pair[0], pair[1].name, pair[1].kind))
    first = (wanted.page - 1) * PAGE
    choices = {
        facet: _choices([one for _, one in by_words], facet, {k: v for k, v in chosen.items() if k != facet})
        for facet in FACETS
    }
    shown = tuple(one for _, one in matching[first : first + PAGE])
    return Found(Wanted(wanted.query, chosen, wanted.page), shown, len(matching), choices)


def _is(one: Entry, chosen: Mapping[str, str]) -> bool:
    return all(value in one.values(facet) for facet, value in chosen.items())


def _choices(entries: Sequence[Entry], facet: str, others: Mapping[str, str]) -> tuple[tuple[str, int], ...]:
    counted = Counter(value for one in entries if _is(one, others) for value in set(one.values(facet)))
    most = sorted(counted.items(), key=lambda pair: (-pair[1], pair[0]))[:_MOST_CHOICES]
    return tuple(sorted(most))


def _score(one: Entry, words: Sequence[str]) -> float:
    """How near an entry is to all of the words; 0 where it lacks one."""
    if not words:
        return 0.0
    parts = {
        "name": one.name.casefold(),
        "title": one.title.casefold(),
        "tags": " ".join(one.tags).casefold(),
        "summary": one.summary.casefold(),
        "owner": f"{one.owner} {one.product} {one.domain}".casefold(),
        "detail": one.detail,
    }
    total = 0.0
    for word in words:
        best = max((_of_word(word, text, _WEIGHTS[part]) for part, text in parts.items()), default=0.0)
        if not best:
            return 0.0
        total += best
    return total


def _of_word(word: str, text: str, weight: float) -> float:
    if word not in text:
        return 0.0
    if text == word:
        return weight * 3
    return weight * (2 if f" {word} " in f" {text} " else 1)
