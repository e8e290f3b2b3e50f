"""Expressions: what they can do, what they cannot, and that no request makes one run for long or reach out."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from tulle.serving.expression import certain_roots, compiled, roots
from tulle.serving.path_values import condition_of, made_of, roots_of
from tulle.serving.request import RequestError

VALUES: dict[str, Any] = {
    "a": {"spend": 5, "list": [1, 2.5, 3], "rows": [{"x": 1}, {"x": 2}], "items": [3], "first": "Ada"},
    "input": {"customer": "C", "nothing": None},
    "long": list(range(50_000)),
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a.spend * 1.2", 6.0),
        ("-a.spend // 2", -3),
        ("input.customer + '-' + text(a.spend)", "C-5"),
        ("sum(r.x for r in a.rows)", 3),
        ("[{'y': r.x * 10} for r in a.rows if r.x > 1]", [{"y": 20}]),
        ("{r.x: 'n' for r in a.rows if r.x == 1}", {1: "n"}),
        ("len(a.items)", 1),  # a member, whatever Python's own objects have
        ("default(a.zz.y, 7)", 7),
        ("default(input.nothing, a.spend)", 5),
        ("default(nobody, 1)", 1),
        ("a.spend > 4 and a.list[0] < 3 and not false", True),
        ("'many' if len(a.rows) > 1 else 'few'", "many"),
        ("input.nothing is None and input.nothing == null", True),
        ("merge(a.rows[0], {'z': 1})", {"x": 1, "z": 1}),
        ("join(split('a b', ' '), ',')", "a,b"),
        ("join(a.list, 0)", "102.503"),
        ("1 < a.spend < 9 and not 1 < a.spend < 4", True),
        ("sorted(unique([3, 1, 3]))[-1]", 3),
        ("upper(a['first'])", "ADA"),
        ("round(a.list[1] / 3, 2)", 0.83),
        ("2.5 in a.list", True),
    ],
)
def test_what_an_expression_gives(text: str, value: Any) -> None:
    assert compiled(text)(VALUES) == value
    assert made_of({"it": [f"$({text})"]})(VALUES) == {"it": [value]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 +", "is not understood at character"),
        ("a.items()", "members cannot be called"),
        ("a.list.append(1)", "members cannot be called"),
        ("().__class__", "Tuple cannot be written here"),
        ("f'{a:>9999999}'", "JoinedStr cannot"),
        ("a[0:1]", "Slice cannot"),
        ("lambda: 1", "Lambda cannot"),
        ("10 ** 9", "Pow cannot"),
        ("1 << 9", "LShift cannot"),
        ("open('/etc/passwd')", "there is no function 'open'"),
        ("lenn(a)", "did you mean 'len'?"),
        ("round(a, digits=2)", "round takes values only"),
        ("[x for x, y in a]", "an entry has one name"),
        ("b'x'", "is no JSON value"),
        ("(x := 1)", "NamedExpr cannot"),
        ("await_ if 1 else " * 200 + "1", "characters at most"),
    ],
)
def test_what_cannot_be_written_is_told_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        compiled(text)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("a.zz", "MissingValue", "there is no zz"),
        ("a.__class__", "MissingValue", "there is no __class__"),
        ("a.first.upper", "MissingValue", "there is no upper"),
        ("1 / 0", "ExpressionFailed", "division by zero"),
        ("'a' * 9", "ExpressionFailed", "is no number"),
        ("'%999999999d' % 1", "ExpressionFailed", "is no number"),
        ("a.first + 1", "ExpressionFailed", "can only concatenate"),
        ("9223372036854775807 + 1", "ExpressionFailed", "too large a number"),
        ("[1 for a in long for b in long]", "ExpressionFailed", "too"),
        (
            "sum(1 for x in [1, 2, 3] if x in long and x in long) + len([y for y in long if y in long])",
            "ExpressionFailed",
            "too",
        ),
        ("text(a)", "ExpressionFailed", "is no text or number"),
        ("merge(a, input.nothing)", "ExpressionFailed", "null is no object"),
        ("keys(a.list)", "ExpressionFailed", "a list is no object"),
        ("values(a.first)", "ExpressionFailed", "text is no object"),
        ("join(long, join(long, 'x'))", "ExpressionFailed", "too long"),
        ("round(a.spend, 0 - 1000000000)", "ExpressionFailed", "30 digits at most"),
        ("1e308 * 10", "ExpressionFailed", "no number that JSON has"),
        ("float('nan')", "ExpressionFailed", "no number that JSON has"),
        ("sum(1 for x in long if long == [x])", "ExpressionFailed", "too"),
    ],
)
def test_what_fails_on_a_request_is_its_error(text: str, error: str, message: str) -> None:
    before = time.process_time()
    with pytest.raises(RequestError) as caught:
        compiled(text)(VALUES)
    assert (caught.value.status, caught.value.error_type) == (422, error)
    assert message in caught.value.message
    assert time.process_time() - before < 5  # bounded, whatever it works on


def test_what_an_expression_takes_from_is_known() -> None:
    assert set(roots("a.x + sum(r.y for r in b) + default(c, d)")) == {"a", "b", "c", "d"}
    assert set(certain_roots("a.x + sum(r.y for r in b) + default(c, d)")) == {"a", "b", "d"}
    assert set(roots_of({"x": ["$(a + b)", "$c.d", "$e?"]}, certain=True)) == {"a", "b", "c"}


def test_a_condition_may_be_an_expression() -> None:
    holds = condition_of("$(a.spend > 4)")
    assert holds(VALUES)
    assert not holds({"a": {"spend": 1}})


@pytest.mark.parametrize(
    "text", ["float(a.first)", "int(a.first)", "a.first * 2", "-a.first", "merge(a.first)"]
)
def test_an_error_tells_what_a_value_is_and_never_which(text: str) -> None:
    with pytest.raises(RequestError) as caught:
        compiled(text)(VALUES)
    assert "Ada" not in caught.value.message
    assert "text is no" in caught.value.message


def test_an_expression_keeps_nothing_of_a_request() -> None:
    evaluate = compiled("[x for x in a.rows if x.y]")  # fails half way
    for values in ({"a": {"rows": [{"x": 1}]}}, {"x": {"y": 1}}):
        with pytest.raises(RequestError, match="there is no"):
            evaluate(values)
    assert compiled("default(a.rows[7].x, 'none')")({"a": {"rows": []}}) == "none"
    assert set(certain_roots("+".join(["a"] * 900))) == {"a"}  # longer, were it written as it is formatted
