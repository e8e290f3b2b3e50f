"""Reading YAML: values, positions, and hostile text."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tulle.errors import Invalid, NotFound, Place, Problem
from tulle.spec.document import Document
from tulle.spec.load import MAX_BYTES, MAX_DEPTH, MAX_NODES, load_document


def problems(text: str | bytes | Path) -> list[Problem]:
    with pytest.raises(Invalid) as caught:
        load_document(text, name="a.yaml")
    return list(caught.value.problems)


def problem(text: str | bytes) -> Problem:
    (only,) = problems(text)
    return only


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("off", "off"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("012", "012"),
        ("00003", "00003"),
        ("0x1f", "0x1f"),
        ("0o17", "0o17"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("1.0.0", "1.0.0"),
        ("2026-01-31", "2026-01-31"),
        ("2026-01-31T10:00:00Z", "2026-01-31T10:00:00Z"),
        ("7", 7),
        ("-7", -7),
        ("0", 0),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("1e999", "1e999"),
        ("9" * 5000, "9" * 5000),
        ("-", None),
        ("'7'", "7"),
        ('"true"', "true"),
        ("!!str 7", "7"),
        ("!!int '7'", 7),
        ("! no", "no"),
    ],
)
def test_scalars_are_read_as_in_json(written: str, value: object) -> None:
    if written == "-":
        assert load_document("a: [-1, --]").value == {"a": [-1, "--"]}
        return
    found = load_document(f"a: {written}").value["a"]
    assert found == value
    assert type(found) is type(value)


def test_keys_are_text_as_written() -> None:
    assert load_document("on: 1\n2: 2\ntrue: 3\n~: 4\n").value == {"on": 1, "2": 2, "true": 3, "~": 4}


def test_every_key_and_value_has_its_place() -> None:
    document = load_document("a: 1\nb:\n  - x\n  - c:   {d: 2}\n", name="f.yaml")
    assert document.place() == Place("f.yaml", 1, 1)
    assert document.place(("a",)) == Place("f.yaml", 1, 4)
    assert document.place(("a",), key=True) == Place("f.yaml", 1, 1)
    assert document.place(("b", 1, "c", "d")) == Place("f.yaml", 4, 14)
    assert document.place(("b", 1, "c", "d"), key=True) == Place("f.yaml", 4, 11)
    assert document.place(("b", 1, "missing", "deeper")) == document.place(("b", 1))
    assert document.at(("b", 1, "c")) == {"d": 2}
    assert document.at(("b", 7)) is None


def test_places_count_characters_and_every_kind_of_line_break() -> None:
    document = load_document("é: ü\r\nb: {'ñ': 1, c: 2}\rd: 3", name="f")
    assert document.place(("b", "c"), key=True) == Place("f", 2, 13)
    assert document.place(("d",), key=True) == Place("f", 3, 1)
    assert document.line(2) == "b: {'ñ': 1, c: 2}"


def test_empty_text_is_nothing() -> None:
    assert load_document("").value is None
    assert load_document("# only a comment\n").value is None
    assert load_document(b"\xef\xbb\xbfa: 1").value == {"a": 1}


def test_an_alias_is_what_it_refers_to() -> None:
    document = load_document("a: &x {b: 1}\nc: *x\n")
    assert document.value == {"a": {"b": 1}, "c": {"b": 1}}
    assert document.place(("c",)).line == 2
    assert document.place(("c", "b")).line == 1


@pytest.mark.parametrize(
    ("text", "line", "column", "message", "hint"),
    [
        ("a: 1\nb: c: d\n", 2, 5, "a ':' is not expected here", "in quotes"),
        ("a:\n  b: 'x\n", 2, 6, "never ends", "closing quote"),
        ("a:\n\tb: 1\n", 2, 1, "indented with a tab", "spaces"),
        ("a:\n  - b\n  \t- c: 1\n", 3, 3, "indented with a tab", "spaces"),
        ("a: @b\n", 1, 4, "text may not start with '@'", "quotes"),
        ("a: [1, 2\nb: 3\n", 1, 4, "the list that starts here with '[' is not closed", "]"),
        ("a: {b: 1\n", 1, 4, "the mapping that starts here with '{' is not closed", "}"),
        ("- a\nb: 1\n", 2, 1, "a list entry ('- …') is expected here", "indent"),
        ("a: *x\n", 1, 4, "was not defined above", "quotes"),
        ("a: &x [*x]\n", 1, 8, "inside the value it refers to", None),
        (
            "a: !!python/object:os.system x\n",
            1,
            4,
            "the tag '!!python/object:os.system' is not allowed",
            "plain",
        ),
        ("a: !!binary aGk=\n", 1, 4, "the tag '!!binary' is not allowed", "plain"),
        ("a: !mine x\n", 1, 4, "the tag '!mine' is not allowed", "plain"),
        ("a: !!int x\n", 1, 4, "'x' does not fit its tag '!!int'", None),
        ("a: !!bool 'no'\n", 1, 4, "'no' does not fit its tag '!!bool'", None),
        ("!!set {a}\n", 1, 1, "the tag '!!set' is not allowed", "plain"),
        ("--- 1\n--- 2\n", 2, 1, "a second document starts here", "one document"),
        ("? [a]\n: b\n", 1, 3, "a key must be text", None),
        ("&x a: 1\n*x : 2\n", 2, 1, "a key must be written out", None),
        ("a: &x {b: 1}\nc: {<<: *x}\n", 2, 5, "merge keys ('<<') are not supported", "write the keys out"),
        ("a: b\0c\n", 1, 5, "found a NUL character", "text file"),
        ("a: 1\nb: \x1b[31m\n", 2, 4, "found the control character U+001B", "text file"),
        ('a: "\\0"\n', 1, 4, "the escape for U+0000 is not allowed", None),
    ],
)
def test_what_is_no_plain_yaml_is_told_with_its_place(
    text: str, line: int, column: int, message: str, hint: str | None
) -> None:
    found = problem(text)
    assert found.place == Place("a.yaml", line, column)
    assert message in found.message
    assert (hint or "") in (found.hint or "")
    assert found.source_line == text.splitlines()[line - 1]


def test_a_repeated_key_names_both_places() -> None:
    found = problems("a: 1\nb: {c: 1, c: 2}\n'a': 2\n")
    assert [p.message for p in found] == [
        "the key 'c' is given twice: first at line 2, column 5, again at line 2, column 11",
        "the key 'a' is given twice: first at line 1, column 1, again at line 3, column 1",
    ]
    assert found[1].place == Place("a.yaml", 3, 1)


def test_text_that_is_not_utf_8() -> None:
    found = problem("a: 1\nb: caf\xe9\n".encode("latin-1"))
    assert (found.place, found.message) == (Place("a.yaml", 2, 7), "byte 0xe9 is not UTF-8")
    assert "not UTF-8" in problem("a: 1".encode("utf-16")).message


def test_deep_nesting_is_refused() -> None:
    at_limit = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert load_document(at_limit).value
    for text in ("[" * 100_000, "{a: " * 100_000, "- " * 100_000, "? " * 100_000):
        started = time.thread_time()
        found = problems(text)
        assert time.thread_time() - started < 2
        assert "nested deeper than 50 levels" in found[0].message or "a key must be text" in found[0].message


def test_nesting_through_aliases_counts() -> None:
    text = "a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 60))
    assert "nested deeper than 50 levels, following '*a48'" in problem(text).message


def test_an_alias_bomb_is_refused_at_once() -> None:
    text = "a0: &a0 [x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 30)
    )
    started = time.thread_time()
    assert f"more than {MAX_NODES:,} values, aliases followed" in problem(text).message
    assert time.thread_time() - started < 2


def test_a_large_file_is_refused_without_reading_it(tmp_path: Path) -> None:
    file = tmp_path / "big.yaml"
    file.write_bytes(b"a: 1\n" * 2_000_000)  # 10 MB
    started = time.thread_time()
    with pytest.raises(Invalid, match=r"big\.yaml is larger than 2 MB") as caught:
        load_document(file)
    assert time.thread_time() - started < 1
    assert caught.value.hint
    with pytest.raises(Invalid, match="larger than 2 MB"):
        load_document("x" * (MAX_BYTES + 1))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no file"):
        load_document(tmp_path / "none.yaml")
    with pytest.raises(Invalid, match="is not a file"):
        load_document(tmp_path)


def test_many_problems_are_counted_and_cut() -> None:
    with pytest.raises(Invalid) as caught:
        load_document("".join(f"a: {n}\n" for n in range(1000)))
    assert len(caught.value.problems) == 100


_bits = st.sampled_from(
    [
        *"{}[]:,-?&*!|>'\"%@`#~<=\n\t\r \\ax0.1",
        *(
            "&a ",
            "*a",
            "- ",
            ": ",
            "? ",
            "!!str ",
            "!x ",
            "---\n",
            "...\n",
            "<<: ",
            "a: ",
            "\n  ",
            '"\\x',
            "|2\n",
        ),
        *("%YAML 1.1\n", "\ufeff", "\0", "\x85", "\u2028", "é", "😀"),
    ]
)


@settings(max_examples=400, deadline=None)
@example("&a [*a, &a x, *a]")
@example("? ? ? a")
@given(st.one_of(st.text(), st.lists(_bits, max_size=60).map("".join), st.binary()))
def test_any_text_is_read_or_refused(text: str | bytes) -> None:
    """Never anything but a document of plain values, or Invalid with places."""
    document = _read_or_problems(text)
    if isinstance(document, Document):
        _check_places(document, document.value, ())
    else:
        assert document
        assert all(p.place and p.place.file == "f" for p in document)


def _read_or_problems(text: str | bytes) -> Document | tuple[Problem, ...]:
    try:
        return load_document(text, name="f")
    except Invalid as error:
        return error.problems


def _check_places(document: Document, value: object, path: tuple[str | int, ...]) -> None:
    assert document.place(path).line >= 1
    match value:
        case dict():
            for key, inner in value.items():
                assert document.line(document.place((*path, key), key=True).line) is not None
                _check_places(document, inner, (*path, key))
        case list():
            for position, inner in enumerate(value):
                _check_places(document, inner, (*path, position))
        case _:
            assert value is None or isinstance(value, bool | int | float | str)


_words = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf", "Cn", "Zl", "Zp"]), max_size=30)
_plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_words, inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(_plain)
def test_what_json_can_say_comes_back(value: object) -> None:
    """JSON is YAML: whatever is written as JSON is read as the same values."""
    assert load_document(json.dumps(value, ensure_ascii=False)).value == value
    assert load_document(json.dumps(value)).value == value


@pytest.mark.parametrize("value", ["😀", "\\😀", "\\ud83d\\ude00", "a😀𝄞b", {"😀": ["'\\\"😀"]}])
def test_json_may_write_a_sign_as_two_halves(value: object) -> None:
    assert load_document(json.dumps(value)).value == value


def test_halves_of_signs_are_text_where_they_are_no_json() -> None:
    assert load_document(r"a: '\ud83d\ude00'").value == {"a": r"\ud83d\ude00"}
    with pytest.raises(Invalid, match="not valid"):
        load_document(r'["\ud83d"]')
