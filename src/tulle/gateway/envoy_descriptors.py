"""The descriptors of Envoy's messages, out of Envoy itself, as they are kept beside the code.

    python -m tulle.gateway.envoy_descriptors

writes `envoy.desc.xz` anew, which is wanted after a change of Envoy. Protobuf programs carry the descriptors of their
messages, so what is kept describes exactly the messages that this Envoy knows. Knows nothing of what is said by them.
"""

from __future__ import annotations

import lzma
import mmap
import re
from importlib import resources
from pathlib import Path
from typing import Any, Final

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import DecodeError

from tulle.errors import Broken

FILE: Final = "envoy.desc.xz"
_BEGINNING: Final = re.compile(rb"\n([\x08-\x7f])([a-z0-9_/.]+\.proto)(?=[\x12\x1a\x22\x2a\x32])")
_LAST_FIELD: Final = 14  # of FileDescriptorProto
_LARGEST: Final = 2_000_000  # bytes of one part; what claims to be more is no descriptor
_WITH_OPTIONS: Final = frozenset(
    {"map_entry", "packed"}
)  # the others say nothing of how a message is written


def kept() -> FileDescriptorSet:
    """Those that are kept here."""
    content = lzma.decompress(resources.files("tulle.gateway").joinpath(FILE).read_bytes())
    return FileDescriptorSet.FromString(content)


def carried_by(program: Path) -> FileDescriptorSet:
    """Those that a program carries, by name, without what its messages are not written by.

    Broken when some are not found that others need.
    """
    found: dict[str, Any] = {}
    with program.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for match in _BEGINNING.finditer(content):
            name = match[2].decode()
            if match[1][0] == len(name) and name not in found:
                one = _read(content, match.start())
                if one is not None and one.name == name:
                    found[name] = _bare(one)
    lacking = {other for one in found.values() for other in one.dependency} - found.keys()
    if lacking or not found:
        raise Broken(
            f"{program} carries the descriptors of {len(found)} files, without {len(lacking)} that these need"
        )
    return FileDescriptorSet(file=[found[name] for name in sorted(found)])


def _read(content: mmap.mmap, at: int) -> Any:
    """The descriptor that begins here; its end is where no further field of one follows."""
    end = at
    names = 0
    try:
        while True:
            tag, after = number_at(content, end)
            field, kind = tag >> 3, tag & 7
            names += field == 1
            if names > 1 or not 1 <= field <= _LAST_FIELD or kind not in {0, 2}:
                break
            size, after = number_at(content, after)
            if kind == 2:
                if size > _LARGEST:
                    break
                after += size
            end = after
        return FileDescriptorProto.FromString(content[at:end])
    except (IndexError, ValueError, DecodeError):
        return None


def number_at(content: mmap.mmap | bytes, at: int) -> tuple[int, int]:
    """A number as protobuf writes it, and where what comes after it begins. ValueError, IndexError for none."""
    value = shift = 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 35:
            raise ValueError(value)


def _bare(file: Any) -> Any:
    """A file without options, services and extensions."""
    file.ClearField("options")
    for message in file.message_type:
        _bare_message(message)
    _bare_enums(file.enum_type)
    del file.service[:]
    del file.extension[:]
    return file


def _bare_message(message: Any) -> None:
    for nested in message.nested_type:
        _bare_message(nested)
    for thing in (message, *message.field):
        said = {one.name: value for one, value in thing.options.ListFields() if one.name in _WITH_OPTIONS}
        thing.ClearField("options")
        for name, value in said.items():
            setattr(thing.options, name, value)
    for one in message.oneof_decl:
        one.ClearField("options")
    del message.extension[:]
    _bare_enums(message.enum_type)


def _bare_enums(enums: Any) -> None:
    for enum in enums:
        enum.ClearField("options")
        for value in enum.value:
            value.ClearField("options")


def main() -> None:
    """Keep the descriptors of the Envoy that is installed."""
    from tulle.gateway.envoy_binary import binary  # noqa: PLC0415  only the first time

    content = carried_by(binary()).SerializeToString(deterministic=True)
    Path(__file__).with_name(FILE).write_bytes(lzma.compress(content, preset=9))


if __name__ == "__main__":
    main()
