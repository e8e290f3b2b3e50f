"""The style sheet's colours can be read by everybody: WCAG 2.2 AA, in the light and in the dark scheme."""

from __future__ import annotations

import re

import pytest

from tulle.catalog.look import FOLDER

SCHEMES = {
    name: dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))
    for name, block in zip(
        ("light", "dark"),
        re.findall(r":root \{(.*?)\}", (FOLDER / "static" / "portal.css").read_text(), re.DOTALL),
        strict=True,
    )
}
ON_CARDS = ["ink", "soft", "accent", "ok", "bad", "warn", "busy"]
PAIRS = [
    *((text, ground) for text in ON_CARDS for ground in ("card", "paper", "sunk")),
    *((tone, f"{tone}-soft") for tone in ("accent", "ok", "bad", "warn", "busy")),
    ("soft", "idle-soft"),
    *(("ink", f"{tone}-soft") for tone in ("bad", "warn", "busy")),
    *(("soft", f"{tone}-soft") for tone in ("bad", "busy")),
    ("accent-ink", "accent"),
]


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("text", "ground"), PAIRS)
def test_text_stands_out_from_its_ground(scheme: str, text: str, ground: str) -> None:
    colours = SCHEMES[scheme]
    assert contrast(colours[text], colours[ground]) >= 4.5, f"{text} on {ground}"


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("mark", ["source", "product", "model", "service"])
def test_marks_stand_out_from_their_ground(scheme: str, mark: str) -> None:
    colours = SCHEMES[scheme]
    assert contrast(colours[mark], colours["sunk"]) >= 3
