"""How values look on a page: the templates, and the filters they use. Knows no page and reads no data."""

from __future__ import annotations

import json
import math
import re
import shlex
import time
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from tulle.catalog.markdown import first_heading, rendered

FOLDER = Path(__file__).parent
_UNITS = ((86_400.0, "day"), (3_600.0, "hour"), (60.0, "minute"))
_LONGEST_CELL = 120


def environment() -> Environment:
    """The templates: everything is escaped, and a name that does not exist is an error."""
    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {
        "ago": ago,
        "amount": amount,
        "breakable": breakable,
        "cell": cell,
        "capitalize_first": lambda text: text[:1].upper() + text[1:],
        "first_heading": first_heading,
        "latency": latency,
        "markdown": rendered,
        "moment": moment,
        "part": part,
        "plural": plural,
        "pretty": pretty,
        "share": share,
        "shell": shell,
        "short": short,
        "size": size,
        "took": took,
        "visible": visible,
        "words": words,
    }
    made.globals["static"] = static
    return made


def static(name: str) -> str:
    """The address of a static file; it changes with the file, so browsers may keep what they have."""
    return f"/static/{name}?v={int((FOLDER / 'static' / name).stat().st_mtime):x}"


def amount(value: float | None) -> str:
    """A number for readers: thousands apart, decimals only where there are some."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return str(value)
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.1f}"


def share(value: float | None) -> str:
    """A percentage that was given in percent."""
    return "–" if value is None else f"{value:g} %"


def size(value: int) -> str:
    """Bytes in the nearest unit."""
    number = float(value)
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if number < 1000 or unit == "TB":
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1000
    raise AssertionError(value)


def latency(microseconds: float | None) -> str:
    """How long a request took, of microseconds."""
    if microseconds is None:
        return "–"
    if microseconds < 1000:
        return f"{microseconds:.0f} µs"
    return f"{microseconds / 1000:.3g} ms" if microseconds < 1e6 else f"{microseconds / 1e6:.3g} s"


def took(seconds: float | None) -> str:
    """How long something took."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"


def ago(at: float | None, now: float | None = None) -> str:
    """How long ago a moment (seconds since the epoch) was, or in how long it comes."""
    if at is None:
        return "never"
    passed = (time.time() if now is None else now) - at
    for length, unit in _UNITS:
        if abs(passed) >= length:
            count = int(abs(passed) // length)
            told = f"{count} {unit}{'s' if count > 1 else ''}"
            return f"{told} ago" if passed > 0 else f"in {told}"
    if abs(passed) < 10:
        return "just now"
    return f"{int(passed)} seconds ago" if passed > 0 else f"in {int(-passed)} seconds"


def moment(at: float | None) -> str:
    """A moment as a UTC time to the second."""
    if at is None:
        return "–"
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def short(identity: str | None, length: int = 10) -> str:
    """The beginning of a commit id or digest."""
    return (identity or "–")[:length]


def plural(count: int, word: str, several: str = "") -> str:
    """A count with its word: `1 row`, `2 rows`."""
    return f"{count:,} {word if count == 1 else several or word + 's'}"


def part(text: str) -> str:
    """Text as one part of an address, slashes and all."""
    return quote(text, safe="")


def shell(text: str) -> str:
    """Text as a command line takes it for one word."""
    return shlex.quote(text)


def visible(name: str) -> str:
    """A path with what has no looks written out: line ends, and marks that turn the direction of writing round."""
    return "".join(
        one.encode("unicode_escape").decode()
        if unicodedata.category(one) in {"Cc", "Cf", "Zl", "Zp"}
        else one
        for one in name
    )


def words(name: str) -> str:
    """A machine word as people write it: `source-aligned` becomes `Source-aligned`."""
    return name.replace("_", " ")[:1].upper() + name.replace("_", " ")[1:]


def breakable(text: str) -> Markup:
    """An address that may go on in the next line where its parts meet."""
    return Markup("<wbr>").join(re.split(r"(?<=[@/._])(?=\w)", text))


def cell(value: Any) -> Markup:
    """One value of a table; what is not there is told apart from an empty text."""
    match value:
        case None:
            return Markup('<span class="none">null</span>')
        case "":
            return Markup('<span class="none">empty</span>')
        case bool():
            return Markup("true") if value else Markup("false")
        case float():
            return escape(f"{value:.6g}" if abs(value) < 1e6 else f"{value:,.2f}")
    text = str(value)
    if len(text) <= _LONGEST_CELL:
        return escape(text)
    return Markup('<span title="{}">{}…</span>').format(text[:1000], text[:_LONGEST_CELL])


def pretty(value: Mapping[str, Any] | Any) -> str:
    """Plain values as indented JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)
