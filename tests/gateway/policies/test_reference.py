"""The page about policies tells every kind as the code has it, and its examples are right."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tulle.gateway.policies.kind import Kind, known_kinds
from tulle.gateway.policies.listed import parse_policies

PAGE = Path(__file__).parents[3] / "docs/reference/policies.md"


def section(kind: Kind) -> Iterator[str]:
    """What the page has to say of a kind, beside its own words."""
    yield f"### `{kind.name}`"
    yield kind.summary
    yield "```yaml\n- " + kind.example.replace("\n", "\n  ") + "\n```"
    for name, schema in kind.properties.items():
        needed = " (needed)" if name in kind.required else ""
        yield f"| `{name}` | {schema['description']}{needed} |"


def test_every_kind_is_told_as_it_is() -> None:
    page = PAGE.read_text()
    parts = {part.split("`", 2)[1]: part for part in re.split(r"(?=^### `)", page, flags=re.MULTILINE)[1:]}
    assert list(parts) == sorted(kind.name for kind in known_kinds())
    for kind in known_kinds():
        for line in section(kind):
            assert line in parts[kind.name], f"{kind.name} lacks:\n{line}"


def test_the_examples_are_right() -> None:
    blocks = re.findall(r"^```yaml\n(- policy.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    found = {written.policy.kind for text in blocks for written in parse_policies(text)}
    assert found == {kind.name for kind in known_kinds()}
