"""YAML in, plain values with positions out; hostile or broken text is met with Problems, nothing else.

The reading is that of YAML 1.2 with JSON's scalars: only `true` and `false` are booleans (`yes`, `no`, `on`,
`off` are text), only decimal numbers are numbers (`012`, `0x1f`, `1:30`, dates and versions such as `1.0.0`
are text), keys are always text. What a product file does not need and an attacker might use is refused: tags
of other types, several documents, repeated keys, aliases that multiply, deep nesting, large files. Parses
event by event, so a limit stops the reading where it is passed. Knows nothing of products or schemas.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from tulle.errors import Invalid, NotFound, Place, Problem
from tulle.spec.document import LINE_BREAK, MOST_PROBLEMS, Document, Mark, refuse, shown
from tulle.spec.validate import Schema, validate

__all__ = ["Document", "Schema", "load_document", "validate"]

MAX_BYTES = 2_000_000
MAX_DEPTH = 50
MAX_NODES = 200_000  # after aliases are expanded

_NUMBER = re.compile(
    r"[-+]?(?:(?P<int>0|[1-9][0-9]*)|(?:(?:0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+))(?P<exp>[eE][-+]?[0-9]+)?"
)
_LONGEST_NUMBER = 40  # longer ones are identifiers, and Python refuses to convert huge ones
_CONSTANTS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_TAG = "tag:yaml.org,2002:"
_TAG_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
    "null": (type(None),),
}
_HALVES = re.compile(r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


def load_document(source: Path | str | bytes, *, name: str = "") -> Document:
    """Read one YAML document from a file (a Path) or from text.

    `name` is what errors call it; default: the path, or "<text>". An empty document has the value None.
    Raises NotFound when there is no such file, and Invalid with every Problem found, each with its place.
    """
    label = name or (str(source) if isinstance(source, Path) else "<text>")
    data = _bytes_of(source, label) if isinstance(source, Path) else source
    text = _text_of(data, label)
    return _Reader(_with_whole_signs(text), label).read()


def _with_whole_signs(text: str) -> str:
    r"""JSON with each sign that it writes as two halves (`\ud83d\ude00`) as YAML writes it; other text as it is."""
    if _HALVES.search(text) is None:
        return text
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text

    def whole(found: re.Match[str]) -> str:
        high, low = int(found[2], 16) - 0xD800, int(found[3], 16) - 0xDC00
        return f"{found[1]}\\U{0x10000 + (high << 10) + low:08x}"

    return _HALVES.sub(whole, text)


def _bytes_of(path: Path, name: str) -> bytes:
    try:
        if not path.is_file():  # a pipe or a device would block or never end
            if path.exists():
                raise Invalid(f"{name} is not a file")
            raise NotFound(f"there is no file {name}")
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Invalid(f"{name} cannot be read: {error.strerror or error}") from error


def _text_of(data: str | bytes, name: str) -> str:
    """Decode, and refuse what no YAML text holds."""
    if len(data) > MAX_BYTES:
        raise Invalid(
            f"{name} is larger than {MAX_BYTES // 1_000_000} MB",
            hint="a document describes data; keep the data itself in files of its own",
        )
    if isinstance(data, bytes):
        data = decoded(data, name)
    data = data.removeprefix("\ufeff")
    if match := _UNPRINTABLE.search(data):
        at = match.start()
        before = LINE_BREAK.split(data[:at])
        place = Place(name, len(before), len(before[-1]) + 1)
        what = "a NUL character" if match[0] == "\0" else f"the control character U+{ord(match[0]):04X}"
        line = LINE_BREAK.split(data[at - len(before[-1]) :], maxsplit=1)[0]
        refuse(name, [Problem(f"found {what}", place, "is this a text file?", line)])
    return data


def decoded(data: bytes, name: str) -> str:
    """The text of a file. Invalid, with the place of the first byte that is not UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", "replace")
        lines = LINE_BREAK.split(before)
        place = Place(name, len(lines), len(lines[-1]) + 1)
        message = f"byte 0x{data[error.start]:02x} is not UTF-8"
        raise Invalid(
            f"{name} is not valid: 1 problem",
            problems=[Problem(message, place, "save the file with the encoding UTF-8")],
        ) from None


class _Frame:
    """A list or mapping whose end was not read yet."""

    __slots__ = ("anchor", "height", "key", "key_at", "mark", "skip", "start", "value")

    def __init__(self, value: Any, mark: Mark, anchor: str | None, start: int) -> None:
        self.value = value
        self.mark = mark
        self.anchor = anchor
        self.start = start  # nodes read before it: its size is the difference at its end
        self.height = 1  # levels of nesting from here down
        self.key: str | None = None  # of a mapping: the key whose value comes next
        self.key_at = (0, 0)
        self.skip = False  # the value that comes next belongs to a key that was refused


class _Reader:
    """Builds values and marks from the parser's events."""

    def __init__(self, text: str, name: str) -> None:
        self.text = text
        self.document = Document(None, name, text, Mark(1, 1))  # for its lines, until the real one is made
        self.problems: list[Problem] = []
        self.stack: list[_Frame] = []
        self.anchors: dict[str, tuple[Any, Mark, int, int] | None] = {}  # value, mark, size, height
        self.nodes = 0
        self.root: tuple[Any, Mark] | None = None

    def read(self) -> Document:
        """The document, or Invalid."""
        name = self.document.name
        try:
            for event in yaml.parse(self.text, Loader=yaml.CSafeLoader):
                self._take(event)
        except yaml.MarkedYAMLError as error:
            self.problems.append(_syntax_problem(error, self.document))
        except yaml.YAMLError as error:
            self.problems.append(Problem(f"not YAML: {error}", Place(name)))
        except _Stop:
            pass
        refuse(name, self.problems)
        value, mark = self.root or (None, Mark(1, 1))
        return Document(value, name, self.text, mark)

    def _take(self, event: Any) -> None:
        match event:
            case yaml.ScalarEvent():
                self._scalar(event)
            case yaml.MappingStartEvent():
                self._open({}, event, ("map",))
            case yaml.SequenceStartEvent():
                self._open([], event, ("seq",))
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._close()
            case yaml.AliasEvent():
                self._alias(event)
            case yaml.DocumentStartEvent() if self.root is not None:
                raise self._stopped(
                    "a second document starts here", event, "one file holds one document; remove the '---'"
                )

    def _scalar(self, event: Any) -> None:
        self._count(event)
        frame = self.stack[-1] if self.stack else None
        if frame is not None and isinstance(frame.value, dict) and frame.key is None:
            self._key(frame, event)
            return
        if event.style == '"' and (bad := _UNPRINTABLE.search(event.value)):
            self._report(f"the escape for U+{ord(bad[0]):04X} is not allowed", event, "write readable text")
        value = self._resolve(event)
        mark = _mark(event, "" if isinstance(value, str) else event.value)
        self._remember(event.anchor, value, mark, 1, 0)
        self._put(value, mark, 0)

    def _resolve(self, event: Any) -> Any:
        tag = event.tag
        plain = event.style in {"", None}
        if tag is None or tag == "!":
            return plain_value(event.value) if plain and tag is None else event.value
        kind = tag.removeprefix(_TAG)
        if not tag.startswith(_TAG) or kind not in _TAG_KINDS:
            self._report(
                f"the tag '{_short_tag(tag)}' is not allowed", event, "write plain YAML without tags"
            )
            return None
        if kind == "str":
            return event.value
        value = plain_value(event.value)
        if isinstance(value, bool) is not (kind == "bool") or not isinstance(value, _TAG_KINDS[kind]):
            self._report(f"'{shown(event.value)}' does not fit its tag '{_short_tag(tag)}'", event)
        return value

    def _key(self, frame: _Frame, event: Any) -> None:
        """Keys are text, as written: `on:` and `1:` are what they look like."""
        key = event.value
        frame.key, frame.key_at = key, (event.start_mark.line + 1, event.start_mark.column + 1)
        if event.tag not in {None, "!", _TAG + "str"}:
            self._report(f"the tag '{_short_tag(event.tag)}' is not allowed on a key", event)
        if key == "<<" and event.style in {"", None}:
            self._report("merge keys ('<<') are not supported", event, "write the keys out")
        if first := frame.mark.keys.get(key):
            frame.skip = True
            self._report(
                f"the key '{shown(key)}' is given twice: first at line {first[0]}, column {first[1]},"
                f" again at line {frame.key_at[0]}, column {frame.key_at[1]}",
                event,
                "keep one of them",
            )
        if event.anchor:
            self._remember(event.anchor, key, _mark(event), 1, 0)

    def _open(self, value: Any, event: Any, tags: tuple[str, ...]) -> None:
        self._count(event)
        if event.tag is not None and event.tag not in {"!", *(_TAG + tag for tag in tags)}:
            self._report(
                f"the tag '{_short_tag(event.tag)}' is not allowed", event, "write plain YAML without tags"
            )
        if self.stack and isinstance(self.stack[-1].value, dict) and self.stack[-1].key is None:
            raise self._stopped("a key must be text, not a list or a mapping", event)
        if len(self.stack) >= MAX_DEPTH:
            raise self._stopped(f"nested deeper than {MAX_DEPTH} levels", event)
        if event.anchor:
            self.anchors[event.anchor] = None  # known, not complete
        self.stack.append(_Frame(value, _mark(event), event.anchor, self.nodes - 1))

    def _close(self) -> None:
        frame = self.stack.pop()
        self._remember(frame.anchor, frame.value, frame.mark, self.nodes - frame.start, frame.height)
        self._put(frame.value, frame.mark, frame.height)

    def _alias(self, event: Any) -> None:
        name = event.anchor
        if name not in self.anchors:
            raise self._stopped(
                f"'*{shown(name)}' refers to an anchor '&{shown(name)}' that was not defined above",
                event,
                "put text that starts with * in quotes",
            )
        known = self.anchors[name]
        if known is None:
            raise self._stopped(f"'*{shown(name)}' is inside the value it refers to", event)
        value, mark, size, height = known
        self._count(event, size)
        if len(self.stack) + height > MAX_DEPTH:
            raise self._stopped(f"nested deeper than {MAX_DEPTH} levels, following '*{shown(name)}'", event)
        frame = self.stack[-1] if self.stack else None
        if frame is not None and isinstance(frame.value, dict) and frame.key is None:
            raise self._stopped("a key must be written out, not an alias", event)
        here = _mark(event, mark.raw)
        here.keys, here.children = mark.keys, mark.children
        self._put(value, here, height)

    def _remember(self, anchor: str | None, value: Any, mark: Mark, size: int, height: int) -> None:
        if anchor:
            self.anchors[anchor] = (value, mark, size, height)

    def _put(self, value: Any, mark: Mark, height: int) -> None:
        """Add a finished value to the list or mapping it is in."""
        if not self.stack:
            self.root = (value, mark)
            return
        frame = self.stack[-1]
        frame.height = max(frame.height, height + 1)
        if isinstance(frame.value, list):
            frame.mark.children[len(frame.value)] = mark
            frame.value.append(value)
            return
        key, frame.key = frame.key or "", None
        if frame.skip:
            frame.skip = False
            return
        frame.value[key] = value
        frame.mark.keys[key] = frame.key_at
        frame.mark.children[key] = mark

    def _count(self, event: Any, nodes: int = 1) -> None:
        self.nodes += nodes
        if self.nodes > MAX_NODES:
            raise self._stopped(f"more than {MAX_NODES:,} values, aliases followed", event)

    def _report(self, message: str, event: Any, hint: str | None = None) -> None:
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        place = Place(self.document.name, line, column)
        self.problems.append(Problem(message, place, hint, self.document.line(line)))
        if len(self.problems) >= MOST_PROBLEMS:
            raise _Stop

    def _stopped(self, message: str, event: Any, hint: str | None = None) -> _Stop:
        self._report(message, event, hint)
        return _Stop()


class _Stop(Exception):
    """No use in reading on; what is wrong was reported."""


def _mark(event: Any, raw: str = "") -> Mark:
    return Mark(event.start_mark.line + 1, event.start_mark.column + 1, raw)


def plain_value(text: str) -> Any:
    """The value of an unquoted scalar."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if len(text) > _LONGEST_NUMBER or not (match := _NUMBER.fullmatch(text)):
        return text
    if match["int"] and not match["exp"]:
        return int(text)
    number = float(text)
    return number if abs(number) != float("inf") else text


def _short_tag(tag: str) -> str:
    return shown("!!" + tag.removeprefix(_TAG) if tag.startswith(_TAG) else tag)


_TABS = ("indented with a tab", "indent with spaces; YAML does not allow tabs here")
# libyaml's words, and ours: what is wrong and what a writer of a product file most likely meant.
_SYNTAX = {
    "mapping values are not allowed in this context": (
        "a ':' is not expected here",
        "put text that holds ': ' in quotes, and check the indentation of this line and the one above",
    ),
    "found unexpected end of stream": (
        "the quoted text that starts here never ends",
        "add the closing quote",
    ),
    "could not find expected ':'": ("a ':' is missing after this key", "write 'key: value'"),
    "did not find expected key": ("a key is expected here", "check indentation and quotes"),
    "did not find expected '-' indicator": (
        "a list entry ('- …') is expected here",
        "indent this line like the entries of the list, or less to end it",
    ),
    "did not find expected ',' or ']'": (
        "the list that starts here with '[' is not closed",
        "add ']' or ','",
    ),
    "did not find expected ',' or '}'": (
        "the mapping that starts here with '{' is not closed",
        "add '}' or ','",
    ),
    "found a tab character that violates indentation": _TABS,
    "found a tab character where an indentation space is expected": _TABS,
    "found undefined tag handle": (
        "a tag ('!…') is not allowed here",
        "put text that starts with ! in quotes",
    ),
    "did not find expected <document start>": ("the document ended before this", "remove what follows it"),
    "found unknown escape character": (
        "unknown escape in double-quoted text",
        "write '\\\\' for a backslash, or use single quotes",
    ),
}


def _syntax_problem(error: yaml.MarkedYAMLError, document: Document) -> Problem:
    """One syntax error in words of ours, at the place that helps most."""
    text = error.problem or "not YAML"
    message, hint = _SYNTAX.get(text, (f"not YAML: {text}", None))
    starts_there = "starts here" in message and error.context_mark is not None
    mark: Any = error.context_mark if starts_there else (error.problem_mark or error.context_mark)
    if mark is None:
        return Problem(message, Place(document.name), hint)
    line, column = mark.line + 1, mark.column + 1
    source = document.line(line)
    if text == "found character that cannot start any token" and source is not None:
        found = source[column - 1 : column] or " "
        if "\t" in source[: len(source) - len(source.lstrip())]:
            message, hint = _TABS
            column = source.index("\t") + 1
        else:
            message, hint = f"text may not start with '{found}'", "put the text in quotes"
    return Problem(message, Place(document.name, line, column), hint, source)
