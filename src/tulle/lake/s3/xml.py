"""XML as S3 speaks it: written by hand, since lists are long; read with no entities, no DTD and bounded size.

Knows no operation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NoReturn
from xml.parsers import expat

from tulle.lake.s3.failure import S3Error

DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
MAX_BYTES = 8 * 1024 * 1024  # 1,000 long keys to delete, or 10,000 parts with their checksums
MAX_DEPTH = 8
MAX_NODES = 200_000

# Control characters have no place in XML 1.0; S3 writes them as references all the same. encoding-type=url is
# the way to get such keys whole.
_ESCAPES = {n: f"&#x{n:x};" for n in range(32) if n not in {9, 10}} | {
    ord("&"): "&amp;",
    ord("<"): "&lt;",
    ord(">"): "&gt;",
    ord('"'): "&quot;",
}
_ESCAPED = re.compile('[\\x00-\\x08\\x0b-\\x1f&<>"]')


def escaped(text: str) -> str:
    """Text as it stands between tags."""
    # Nearly no text has anything to escape, and to look costs a tenth of it.
    return text.translate(_ESCAPES) if _ESCAPED.search(text) else text


def element(name: str, text: object) -> str:
    """An element with text in it; True and False are written in small letters."""
    if isinstance(text, bool):
        text = "true" if text else "false"
    return f"<{name}>{escaped(str(text))}</{name}>"


def document(root: str, parts: Iterable[str], *, namespace: bool = True) -> bytes:
    """A whole document."""
    attribute = f' xmlns="{NAMESPACE}"' if namespace else ""
    return f"{DECLARATION}<{root}{attribute}>{''.join(parts)}</{root}>".encode("utf-8", "replace")


@dataclass(slots=True)
class Node:
    """An element that was read; names are without their namespace."""

    name: str
    text: str = ""
    children: list[Node] = field(default_factory=list)

    def get(self, name: str, default: str = "") -> str:
        """The text of the first child of that name."""
        for child in self.children:
            if child.name == name:
                return child.text
        return default

    def all(self, name: str) -> list[Node]:
        """The children of that name."""
        return [child for child in self.children if child.name == name]


def read(data: bytes, root: str) -> Node:
    """The root element of a document. MalformedXML unless it is well-formed, harmless and called `root`."""
    reading = _Reading()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = reading.start
    parser.EndElementHandler = reading.end
    parser.CharacterDataHandler = reading.characters
    parser.StartDoctypeDeclHandler = _refused
    parser.EntityDeclHandler = _refused
    parser.ExternalEntityRefHandler = _refused
    parser.buffer_text = True
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as exc:
        raise S3Error("MalformedXML", f"the body is no well-formed XML: {exc}") from None
    if reading.root is None or reading.root.name != root:
        found = reading.root.name if reading.root else "nothing"
        raise S3Error("MalformedXML", f"the body must be a <{root}>, got {found}")
    return reading.root


class _Reading:
    def __init__(self) -> None:
        self.root: Node | None = None
        self._open: list[Node] = []
        self._texts: list[list[str]] = []
        self._count = 0

    def start(self, name: str, _attributes: dict[str, str]) -> None:
        self._count += 1
        if len(self._open) >= MAX_DEPTH or self._count > MAX_NODES:
            raise S3Error("MalformedXML", "the body has too many elements, or they lie too deep")
        node = Node(name.rpartition(" ")[2])
        if self._open:
            self._open[-1].children.append(node)
        else:
            self.root = node
        self._open.append(node)
        self._texts.append([])

    def end(self, _name: str) -> None:
        self._open.pop().text = "".join(self._texts.pop())

    def characters(self, text: str) -> None:
        self._texts[-1].append(text)


def _refused(*_: Any) -> NoReturn:
    raise S3Error("MalformedXML", "the body may have neither a DTD nor entities")
