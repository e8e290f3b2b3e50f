"""Markdown that others wrote never becomes markup of theirs."""

from __future__ import annotations

import re

import pytest

from tulle.catalog.markdown import LONGEST, first_heading, rendered

ALLOWED = re.compile(
    r"</?(p|h[1-6]|strong|em|s|ul|ol|li|code|pre|blockquote|hr|br|table|thead|tbody|tr)( class=\"[a-z-]+\")?( tabindex=\"0\")?( start=\"\d+\")? ?/?>"
    r'|</?t[hd]( style="text-align:(left|right|center)")?>|</a>|<a href="(https?://|mailto:)[^"<>]*"( title="[^"<>]*")? rel="noopener noreferrer nofollow">'
)


def test_what_is_written_is_shown() -> None:
    html = rendered(
        "# Orders\n\nRead *this*, `that`, ~~not~~ <https://a.example/x?y=1&z=2>.\n\n- one\n- two\n\n| a |\n|---|\n| 1 |\n"
    )
    assert "<h3>Orders</h3>" in html
    assert "<em>this</em>" in html
    assert '<a href="https://a.example/x?y=1&amp;z=2" rel="noopener noreferrer nofollow">' in html
    assert "<td>1</td>" in html


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "a <img src=x onerror=alert(1)> b",
        "[x](javascript:alert(1)) [y](JaVaScRiPt:alert(1)) [z](data:text/html,<script>)",
        "[x](vbscript:a) [r](/mesh/v1/apis) [s](//evil.example) [t](https://a.example/%22onmouseover=%22x)",
        '[x](https://a.example "t\\" onclick=\\"alert(1)")',
        "![x](https://evil.example/pixel.png) ![y](javascript:alert(1))",
        "<https://a.example/<script>>",
        "```html onload=x\n<script>alert(1)</script>\n```",
        "[a]: javascript:alert(1)\n\n[a]",
        "<a href='javascript:alert(1)'>x</a>\n\n<!-- <b> -->\n\n<style>*{}</style>",
        "&lt;script&gt; &#60;script&#62;",
        "> " * 200 + "deep",
        "[" * 5000,
        "*" * 5000,
    ],
)
def test_hostile_text_stays_text(text: str) -> None:
    html = str(rendered(text))
    for tag in re.findall(r"<[^>]*>?", html):
        assert ALLOWED.fullmatch(tag), tag
    assert "javascript:" not in "".join(re.findall(r'href="[^"]*"', html)).casefold()


def test_what_is_very_long_is_shown_as_it_is() -> None:
    html = rendered("<b>" + "x" * LONGEST)
    assert html.startswith('<pre class="plain" tabindex="0">&lt;b&gt;')


def test_a_text_is_called_by_its_first_heading() -> None:
    assert first_heading("intro\n\n## How to *use* it ##\n", "guide.md") == "How to *use* it"
    assert first_heading("no heading", "guide.md") == "guide.md"
    assert first_heading("#### too deep\n#tag\n# \n## #\n### C#", "guide.md") == "C"
    assert first_heading("# " + "x" * 300, "guide.md") == "x" * 200


def test_a_heading_is_found_however_its_line_is_filled() -> None:
    text = ("#" + " " * 300 + "b" * 210 + " " * 300 + "#" * 90 + "a\n") * 6
    assert first_heading(text, "guide.md") == "b" * 200
    assert first_heading("#" + " " * 4700 + "b" * 250, "guide.md") == "b" * 200


def test_code_is_scrolled_by_the_keyboard_and_is_text() -> None:
    for text in ("```html\n<b>\n```\n", "    <b>\n"):
        assert rendered(text) == '<pre tabindex="0"><code>&lt;b&gt;\n</code></pre>\n'
