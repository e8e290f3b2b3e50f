"""Envoy's messages as bytes, protobuf as it reads it: three times as quick as JSON, and parts can be put together.

A message may be written as the bytes of its fields one after the other, so what is large is put together of parts that
were written before. Knows the messages by Envoy's own descriptors, and nothing of what is said by them.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, Final

import msgspec
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from tulle.gateway.envoy_descriptors import kept, number_at
from tulle.gateway.envoy_values import TYPE, Json

_BYTES: Final = 2  # the wire type of texts, bytes and messages


def written(kind: str, content: Json) -> bytes:
    """A message of the protobuf type `kind`. ValueError where it has no such field, or a value does not fit."""
    message = _message(kind)()
    # A copy, as the library takes `@type` out of what it reads and puts it back afterwards: others read the same values
    # at the same time, and what is validated would lack it.
    own = msgspec.json.decode(msgspec.json.encode(content))
    try:
        json_format.ParseDict(own, message, descriptor_pool=_pool())
    except json_format.ParseError as exc:
        raise ValueError(str(exc)) from exc
    return bytes(message.SerializeToString(deterministic=True))


def read(kind: str, content: bytes) -> Json:
    """The message that bytes hold, as JSON values; ValueError for what is none."""
    try:
        message = _message(kind).FromString(content)
    except Exception as exc:  # a DecodeError, which is no ValueError
        raise ValueError(f"no {kind}: {exc}") from exc
    found: Json = json_format.MessageToDict(
        message, preserving_proto_field_name=True, descriptor_pool=_pool()
    )
    return found


def fields(kind: str, name: str, contents: Iterable[bytes]) -> bytes:
    """The fields called `name` of a message of the type `kind`: each a text, or a message as bytes."""
    tag = _tag(kind, name)
    return b"".join(part for content in contents for part in (tag, _number(len(content)), content))


def field(kind: str, name: str, content: bytes) -> bytes:
    """One such field."""
    return fields(kind, name, (content,))


def contents(kind: str, name: str, content: bytes) -> list[bytes]:
    """What is in the fields called `name` of a message that has no others; the reverse of `fields`."""
    tag, found, at = _tag(kind, name), list[bytes](), 0
    while at < len(content):
        if not content.startswith(tag, at):
            raise ValueError(f"a {kind} that has more than '{name}'")
        size, at = number_at(content, at + len(tag))
        found.append(content[at : at + size])
        at += size
    return found


def packed(kind: str, content: bytes) -> bytes:
    """A message of the type `kind` in an Any, which says what it is."""
    known = "google.protobuf.Any"
    return field(known, "type_url", (TYPE + kind).encode()) + field(known, "value", content)


def _number(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


@cache
def _tag(kind: str, name: str) -> bytes:
    number = int(_pool().FindMessageTypeByName(kind).fields_by_name[name].number)
    return _number(number << 3 | _BYTES)


@cache
def _message(kind: str) -> Any:
    return GetMessageClass(_pool().FindMessageTypeByName(kind))


@cache
def _pool() -> Any:
    pool = DescriptorPool()
    left = {one.name: one for one in kept().file}

    def add(name: str) -> None:
        one = left.pop(name, None)
        if one is not None:
            for other in one.dependency:
                add(other)
            pool.Add(one)

    for name in list(left):
        add(name)
    return pool
