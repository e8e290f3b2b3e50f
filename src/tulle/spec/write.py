"""Plain values as YAML that this package's own reader reads as the same values."""

from __future__ import annotations

from typing import Any

import yaml

from tulle.spec.document import LINE_BREAK
from tulle.spec.load import plain_value


def dump(value: Any) -> str:
    """The value as a YAML document, in its own order; text that could be read as anything else is in quotes."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def inline(value: Any) -> str:
    """The value as YAML on one line, to stand behind a key or within brackets: `{a: 1}`, `[a, b]`, `'365'`."""
    held = yaml.dump(
        [value],
        Dumper=_Inline,
        sort_keys=False,
        allow_unicode=True,
        width=float("inf"),
        default_flow_style=True,
    )
    return held.strip()[1:-1]


class _Dumper(yaml.SafeDumper):
    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        """Indent lists below their key, as people do."""
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        """Write a value again rather than refer to it."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = None
    if plain_value(text) != text:
        style = "'"
    elif "\n" in text and all(line.strip() for line in text.rstrip("\n").split("\n")):
        style = "|"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _number(dumper: yaml.SafeDumper, number: float) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:float", repr(number))


def _text_inline(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    if LINE_BREAK.search(text):
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
    return _text(dumper, text)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(float, _number)


class _Inline(_Dumper):
    """Everything on one line."""


_Inline.add_representer(str, _text_inline)
