"""Tiers and terms: how they are written, kept and told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tulle.config import Settings, settings_from
from tulle.errors import Broken, Invalid, NotFound
from tulle.spec.document import Document
from tulle.spec.load import load_document, validate
from tulle.spec.rate_limit import RateLimit
from tulle.spec.tier import (
    TERMS_SCHEMA,
    TIERS_SCHEMA,
    Offer,
    Terms,
    mesh_tiers,
    offer_of,
    parse_limits,
    read_offer,
)

SCHEMA = {"type": "object", "properties": {"tiers": TIERS_SCHEMA, "terms": TERMS_SCHEMA}}
TEXT = """
tiers:
- {name: free, limits: [5/1s, 1000/1d], approval: automatic, description: to try it}
- {name: gold, limits: [100/1s], visibility: private, deprecated: true, lasts: 90d}
terms: {version: "2", text: be kind}
"""


def read(text: str) -> Offer:
    document: Document = load_document(text)
    assert validate(document, SCHEMA) == []
    offer, problems = read_offer(document)
    assert problems == []
    return offer


def test_what_is_written_is_what_is_offered() -> None:
    offer = read(TEXT)
    free, gold = offer.tiers
    assert (free.name, free.words, free.approval, free.visibility) == (
        "free",
        "5/1s + 1000/1d",
        "automatic",
        "public",
    )
    assert (gold.approval, gold.visibility, gold.deprecated, gold.seconds) == (
        "manual",
        "private",
        True,
        90 * 86_400,
    )
    assert offer.terms == Terms("2", "be kind")
    assert offer.tier("gold") is gold
    with pytest.raises(NotFound) as missing:
        offer.tier("fre")
    assert missing.value.hint == "did you mean 'free'?"


def test_what_is_kept_is_what_was_offered() -> None:
    offer = read(TEXT)
    assert offer_of(offer.as_plain()) == offer
    assert offer_of(Offer().as_plain()) == Offer()
    for damaged in (
        {},
        {"tiers": [{"name": "x"}], "terms": None},
        {"tiers": [{"limits": ["x"]}], "terms": None},
    ):
        with pytest.raises(Broken, match="cannot be read"):
            offer_of(damaged)


def test_another_text_or_version_is_other_terms() -> None:
    assert len({Terms("1", "a").digest, Terms("1", "b").digest, Terms("2", "a").digest}) == 3


@pytest.mark.parametrize(
    ("tier", "told"),
    [
        ("{name: Free, limits: [5/1s]}", "lower-case letters"),
        ("{name: free}", "limits"),
        ("{name: free, limits: []}", "limits"),
        ("{name: free, limits: [5/1s], approval: perhaps}", "approval"),
        ("{name: free, limits: [5/1s], lasts: soon}", "lasts"),
        ("{name: free, limits: [5/1s], price: 3}", "price"),
        ("{name: free, limits: [much]}", "rate limit 'much' is not understood"),
        ("{name: free, limits: [5/1s, 9/1s]}", "of the same period"),
        ("{name: free, limits: [5/1s]}\n- {name: free, limits: [6/1s]}", "tier 'free' is declared twice"),
    ],
)
def test_what_nobody_can_mean_is_told_with_its_place(tier: str, told: str) -> None:
    document = load_document(f"tiers:\n- {tier}\n", name="shop.yaml")
    problems = validate(document, SCHEMA) or read_offer(document)[1]
    assert any(told in problem.message for problem in problems), problems
    assert all(problem.place is not None and problem.place.line >= 1 for problem in problems)


def test_limits_in_one_text() -> None:
    assert parse_limits(" 5/1s + 1000/1d") == (RateLimit(5, 1000), RateLimit(1000, 86_400_000))
    for text in ("", "5/1s +", "5/1s + 5/1s", " + ".join(f"5/{n}s" for n in range(1, 8)), "9" * 10_000):
        with pytest.raises(Invalid):
            parse_limits(text)


def test_the_mesh_has_tiers_for_all_that_declare_none(tmp_path: Path) -> None:
    (usual,) = mesh_tiers(Settings(folder=tmp_path))
    assert (usual.name, usual.words, usual.approval) == ("standard", "50/1s", "manual")
    settings = settings_from(tmp_path, {"tiers": [{"name": "free", "limits": ["5/1s"]}]}, {})
    (free,) = mesh_tiers(settings)
    assert (free.name, free.words) == ("free", "5/1s")


@pytest.mark.parametrize("tiers", [{"free": 1}, ["free"], 3])
def test_the_tiers_of_a_mesh_are_a_list(tmp_path: Path, tiers: object) -> None:
    with pytest.raises(Invalid, match="'tiers' must be a list of tiers"):
        settings_from(tmp_path, {"tiers": tiers}, {})


@pytest.mark.parametrize(
    "tier",
    [{"name": "free"}, {"name": "free", "limits": ["x"]}, {"name": "free", "limits": ["5/1s"], "x": 1}],
)
def test_a_wrong_tier_of_a_mesh_is_told(tmp_path: Path, tier: dict[str, object]) -> None:
    settings = settings_from(tmp_path, {"tiers": [tier]}, {})
    with pytest.raises(Invalid, match="setting 'tiers'"):
        mesh_tiers(settings)
