"""Markdown that others wrote, as markup a page may hold: no HTML of theirs, no images, links to the web and mail alone.

Pure. What is very long is shown as the text it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup, escape

LONGEST: Final = 100_000  # characters that are read as Markdown
_LEADS: Final = re.compile(r"(https?://|mailto:)[^\s]{1,2000}", re.IGNORECASE)
_BELOW: Final = 2  # a text's first heading is below that of the section it stands in


@lru_cache(maxsize=256)
def rendered(text: str) -> Markup:
    """The text as markup; every character of it that is not Markdown is escaped."""
    if len(text) > LONGEST:
        return Markup('<pre class="plain" tabindex="0">{}</pre>').format(text)
    return Markup(_reader().render(text))  # noqa: S704  HTML is off, so all of it is the renderer's own


@cache
def _reader() -> MarkdownIt:
    made = MarkdownIt("commonmark", {"html": False, "linkify": False, "typographer": False})
    made.enable(["table", "strikethrough"]).disable(["image", "html_block", "html_inline"])
    made.validateLink = lambda url: _LEADS.fullmatch(url) is not None  # type: ignore[method-assign]
    made.core.ruler.push("ours", _ours)
    for kind in ("fence", "code_block"):
        made.add_render_rule(kind, _code)
    return made


def _code(_: object, tokens: Sequence[Token], number: int, *__: object) -> str:
    """Code whose long lines are scrolled, by the keyboard too."""
    return f'<pre tabindex="0"><code>{escape(tokens[number].content)}</code></pre>\n'


def _ours(state: object) -> None:
    """Headings below those of the page, links that tell nobody where they were followed."""
    for token in state.tokens:  # type: ignore[attr-defined]
        if token.type in {"heading_open", "heading_close"}:
            token.tag = f"h{min(6, int(token.tag[1]) + _BELOW)}"
        for inner in token.children or ():
            if inner.type == "link_open":
                inner.attrSet("rel", "noopener noreferrer nofollow")


def first_heading(text: str, otherwise: str) -> str:
    """What a text calls itself."""
    for line in text[:5000].splitlines():
        marks = len(line) - len(line.lstrip("#"))
        said = line[marks:].strip()
        if 1 <= marks <= 3 and line[marks : marks + 1] == " " and said.rstrip("# "):
            return str(escape(said.rstrip("#").rstrip()[:200]).striptags())
    return otherwise
