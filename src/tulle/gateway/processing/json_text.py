"""Whether all who read a text of JSON read the same in it: by what it calls itself, and by names that are there twice.

A policy that reads a body otherwise than the service behind it says nothing about what the service gets. RFC 8259
leaves open which value counts of a name that an object has twice, and the same bytes are other texts in other charsets.
Knows nothing of requests, and of what is done about it.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import msgspec

_CHARSETS: Final = frozenset(
    {b"utf-8", b"utf8", b"us-ascii", b"ascii"}
)  # in which bytes are the text of RFC 8259
_CHARSET: Final = re.compile(rb"[;\s]charset\s*=\s*(\"[^\"]*\"|[^\s\";,]*)\s*(?=[;,]|$)")
_NAMED: Final = re.compile(rb"[;\s]charset(?=[\s*=;,]|$)")
_QUOTED: Final = re.compile(rb'"(?:[^"\\]|\\.)*"')
_COLON: Final = re.compile(rb"\\u003[aA]")


def type_of(content_type: bytes | None) -> str:
    """What a header `content-type` calls a body: in small letters, without parameters; empty when nothing is said."""
    return (content_type or b"").partition(b";")[0].strip().lower().decode("latin-1")


def is_json(content_type: str) -> bool:
    """Whether a type, without parameters and in small letters, says JSON."""
    return content_type in {"application/json", "text/json"} or (
        content_type.startswith("application/") and content_type.endswith("+json")
    )


def are_several(content_type: bytes | None) -> bool:
    """Whether a header `content-type` names several types, of which anybody may take another one."""
    return content_type is not None and b"," in content_type and b"," in _QUOTED.sub(b"", content_type)


def other_charset(content_type: bytes | None) -> str | None:
    """The charset that a header `content-type` says, where it is none that JSON has; None where all is well."""
    if not content_type or b"charset" not in (lower := content_type.lower()):
        return None
    found = [one.strip(b'"') for one in _CHARSET.findall(lower)]
    if len(found) != len(_NAMED.findall(lower)):  # `charset*=`, or nothing that can be read
        return "of no form"
    return next((one.decode("latin-1")[:40] for one in found if one and one not in _CHARSETS), None)


def is_packed(content_encoding: bytes | None) -> bool:
    """Whether a header `content-encoding` says that a body is not what its bytes are."""
    return content_encoding is not None and content_encoding.strip().lower() not in {b"identity", b""}


def name_twice(body: bytes, value: Any) -> str | None:
    """A name that an object has twice in a body, read as this value, the first one; None where there is none.

    RecursionError where it is nested too deeply to know.
    """
    # Each member has one colon beside those of its texts: what was lost by reading is missing when it is written again.
    if _COLON.search(body) is None and body.count(b":") == msgspec.json.encode(value).count(b":"):
        return None
    return first_name_twice(body)


def first_name_twice(body: bytes) -> str | None:
    """As `name_twice`, of a body that nothing is known of but that it is JSON. ValueError where it is none."""
    twice: list[str] = []

    def pairs(found: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for name, _ in found:
            if name in seen:
                twice.append(name)
                return
            seen.add(name)

    json.loads(body, object_pairs_hook=pairs, parse_int=str, parse_float=str)
    return twice[0] if twice else None
