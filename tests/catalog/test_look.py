"""Filters: how values look, and that nothing a user wrote becomes markup."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import jinja2
import pytest

from tulle.catalog import look

HOSTILE = '<script>alert("x")</script>'


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0"),
        (69659, "69,659"),
        (3.0, "3"),
        (0.84246, "0.8425"),
        (float("nan"), "nan"),
        (12345.678, "12,345.7"),
    ],
)
def test_an_amount(value: float | None, text: str) -> None:
    assert look.amount(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 bytes"), (999, "999 bytes"), (473_900, "473.9 kB"), (2e15, "2000.0 TB")]
)
def test_a_size(value: int, text: str) -> None:
    assert look.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (0.0871, "87 ms"), (3.94, "3.9 s"), (125.4, "2 min 5 s")]
)
def test_how_long_it_took(value: float | None, text: str) -> None:
    assert look.took(value) == text


@pytest.mark.parametrize(
    ("passed", "text"),
    [
        (0, "just now"),
        (-5, "just now"),
        (42, "42 seconds ago"),
        (60, "1 minute ago"),
        (7200, "2 hours ago"),
        (90_000, "1 day ago"),
        (-42, "in 42 seconds"),
        (-7200, "in 2 hours"),
        (-90 * 86_400, "in 90 days"),
    ],
)
def test_how_long_ago(passed: float, text: str) -> None:
    assert look.ago(1_000_000 - passed, now=1_000_000) == text


def test_what_never_happened_says_so() -> None:
    assert look.ago(None) == "never"
    assert look.moment(None) == "–"


def test_a_moment_is_utc() -> None:
    at = dt.datetime(1998, 6, 30, 12, 30, tzinfo=dt.timezone(dt.timedelta(hours=2))).timestamp()
    assert look.moment(at) == "1998-06-30 10:30:00 UTC"


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "true"), (False, "false"), (7, "7"), (0.5, "0.5"), ("00003", "00003"), (1e7, "10,000,000.00")],
)
def test_a_cell(value: object, text: str) -> None:
    assert look.cell(value) == text


def test_no_value_and_empty_text_are_told_apart() -> None:
    assert look.cell(None) != look.cell("")


def test_a_long_cell_is_cut_and_escaped_in_both_places() -> None:
    shown = look.cell(HOSTILE + "x" * 500)
    assert "<script>" not in shown
    assert shown.startswith('<span title="&lt;script&gt;')
    assert len(shown) < 1000


@pytest.mark.parametrize("name", ["cell", "breakable", "words", "short", "pretty"])
def test_no_filter_lets_markup_through(name: str) -> None:
    template = look.environment().from_string("{{ value | " + name + " }}")
    assert "<script>" not in template.render(value=HOSTILE)


def test_an_address_may_break_where_its_parts_meet() -> None:
    assert look.breakable("a@b.example/c") == "a@<wbr>b.<wbr>example/<wbr>c"


def test_an_unknown_name_in_a_template_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError):
        look.environment().from_string("{{ nothing }}").render()


def test_every_template_compiles() -> None:
    made = look.environment()
    names = made.list_templates()
    assert "home.html" in names
    for name in names:
        made.get_template(name)


def test_no_page_fetches_from_elsewhere_or_has_a_script_inside() -> None:
    for file in sorted(Path(look.FOLDER).glob("[ts]*/*.*")):  # templates, static
        text = file.read_text()
        assert "//cdn" not in text
        assert "@import" not in text
        for tag in text.split("<script")[1:]:
            assert tag.split(">")[0].strip().startswith("src="), file.name
        for handler in ("onclick=", "onload=", "onsubmit=", "javascript:"):
            assert handler not in text, file.name


def test_the_address_of_a_static_file_changes_with_it() -> None:
    assert look.static("portal.css").startswith("/static/portal.css?v=")
