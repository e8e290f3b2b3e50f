"""The picture of a problem for people who read terminals and logs: the line, a caret, what to do.

Plain text; colours are the door's business. What came from a file is made harmless first: control characters
could rewrite a terminal.
"""

from __future__ import annotations

import unicodedata

from tulle.errors import Problem

WIDTH = 100  # columns of the source line that are shown
_TAB = "    "


def render(problem: Problem) -> str:
    """One problem on up to five lines, without a newline at the end.

    products/sales/purchases/product.yaml:14:9: unknown property 'descripton' in data-set 'purchases'
       14 |   descripton: One row a purchase
          |   ^
          = did you mean 'description'?
    """
    where = f"{harmless(str(problem.place))}: " if problem.place else ""
    lines = [where + harmless(problem.message)]
    margin = "    "
    if problem.place and problem.place.line and problem.source_line is not None:
        number = str(problem.place.line).rjust(5)
        margin = " " * len(number)
        text, caret = _window(problem.source_line, max(problem.place.column, 1) - 1)
        lines.append(f"{number} | {text}".rstrip())
        if problem.place.column:
            lines.append(f"{margin} | {' ' * caret}^")
    if problem.hint:
        lines.append(f"{margin} = {harmless(problem.hint)}")
    return "\n".join(lines)


def harmless(text: str) -> str:
    """The text on one line, with control and direction characters shown by their code."""
    return "".join(_TAB if char == "\t" else _shown(char) for char in text)


def _shown(char: str) -> str:
    if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"}:
        return f"<U+{ord(char):04X}>"
    return char


def _window(line: str, at: int) -> tuple[str, int]:
    """The part of the line around index `at`, and the terminal column of the caret under it."""
    at = min(at, len(line))
    start = 0 if at < WIDTH - 10 else at - WIDTH // 2
    before, after = harmless(line[start:at]), harmless(line[at : start + WIDTH])
    dots = "… " if start else ""
    more = " …" if len(line) > start + WIDTH else ""
    return f"{dots}{before}{after}{more}", _columns(dots + before)


def _columns(text: str) -> int:
    """How many terminal columns a text takes: wide characters take two, combining ones none."""
    wide = sum(unicodedata.east_asian_width(char) in {"W", "F"} for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) != 0 for char in text)
