"""One field of a multipart/form-data body, in pieces, however large it is (RFC 7578).

Knows nothing of what the field is for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from email.message import Message

from tulle.errors import Invalid

MAX_HEAD = 16 * 1024  # bytes of a part's headers
MAX_PARTS = 100


def boundary_of(content_type: str) -> bytes:
    """The boundary a Content-Type header states. Invalid without one."""
    boundary = _parameter("content-type", content_type, "boundary").encode("utf-8", "replace")
    if not 1 <= len(boundary) <= 200:
        raise Invalid("the multipart body's boundary is not stated")
    return boundary


class FormData:
    """A multipart body that is being read, from its beginning to its end, once."""

    def __init__(self, chunks: Iterable[bytes], boundary: bytes) -> None:
        self._chunks = iter(chunks)
        self._mark = b"\r\n--" + boundary
        self._buffer = b"\r\n"  # so that the first mark looks like the others
        self._ended = False

    def field(self, name: str) -> tuple[str, Iterator[bytes]]:
        """The content type ("" when it has none) and the bytes of a field. Invalid when there is none."""
        self._discard()
        for _ in range(MAX_PARTS):
            if not self._next_part():
                break
            head = self._head()
            if _parameter("content-disposition", head.get("content-disposition", ""), "name") == name:
                return head.get("content-type", ""), self._content()
            self._discard()
        raise Invalid(f"the multipart body has no field '{name}'")

    def _fill(self) -> bool:
        chunk = next(self._chunks, None)
        if chunk is None:
            self._ended = True
            return False
        self._buffer += chunk
        return True

    def _part(self) -> Iterator[bytes]:
        """Everything up to the next mark, which is stepped over."""
        keep = len(self._mark) - 1
        while True:
            at = self._buffer.find(self._mark)
            if at >= 0:
                before, self._buffer = self._buffer[:at], self._buffer[at + len(self._mark) :]
                if before:
                    yield before
                return
            if len(self._buffer) > keep:
                # The mark may have begun in the last bytes.
                before, self._buffer = self._buffer[:-keep], self._buffer[-keep:]
                yield before
            if not self._fill():
                raise Invalid("the multipart body ends before its closing boundary")

    def _content(self) -> Iterator[bytes]:
        yield from self._part()
        for _ in self._chunks:  # what follows is of no interest, but has to be taken off the line
            pass

    def _discard(self) -> None:
        for _ in self._part():
            pass

    def _next_part(self) -> bool:
        """After a mark: whether a part follows."""
        while (at := self._buffer.find(b"\r\n")) < 0 and not self._buffer.startswith(b"--"):
            if len(self._buffer) > MAX_HEAD or not self._fill():
                raise Invalid("the multipart body ends within a boundary")
        if self._buffer.startswith(b"--"):
            return False
        self._buffer = self._buffer[at:]  # the line's end also ends the headers when there are none
        return True

    def _head(self) -> dict[str, str]:
        while (at := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > MAX_HEAD or not self._fill():
                raise Invalid("the headers of a part of the multipart body do not end")
        lines = self._buffer[:at].decode("utf-8", "replace").split("\r\n")
        self._buffer = self._buffer[at + 4 :]
        pairs = (line.partition(":") for line in lines if line)
        return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _parameter(header: str, value: str, name: str) -> str:
    message = Message()
    message[header] = value.replace("\r", " ").replace("\n", " ")
    found = message.get_param(name, "", header=header)
    return found if isinstance(found, str) else str(found[2])
