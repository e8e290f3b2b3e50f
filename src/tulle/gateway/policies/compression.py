"""`compression`: answers are sent smaller to callers who say that they can read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from tulle.gateway.envoy_values import Json, typed
from tulle.gateway.policies.kind import Kind, Parts, Registry, Settings, Spot

_FORMS: Final = ("br", "gzip", "zstd")
_TYPES: Final = ("application/json", "text/plain", "text/csv", "text/html", "application/xml")
# a library for each form; cheap levels, as a gateway is on every answer's way
_LIBRARIES: Final[Json] = {
    "gzip": typed(
        "envoy.extensions.compression.gzip.compressor.v3.Gzip", compression_level="COMPRESSION_LEVEL_3"
    ),
    "br": typed("envoy.extensions.compression.brotli.compressor.v3.Brotli", quality=4),
    "zstd": typed("envoy.extensions.compression.zstd.compressor.v3.Zstd", compression_level=3),
}


@dataclass(frozen=True, slots=True)
class Compression:
    """Forms in the order they are preferred in, for answers of so many bytes and these types."""

    forms: tuple[str, ...] = ("gzip",)
    min_bytes: int = 1024
    types: tuple[str, ...] = _TYPES


_PROPERTIES: Final[Json] = {
    "forms": {
        "type": "array",
        "minItems": 1,
        "uniqueItems": True,
        "items": {"enum": list(_FORMS)},
        "description": "the forms of compression, the preferred one first ([gzip])",
    },
    "min_bytes": {
        "type": "integer",
        "minimum": 30,
        "maximum": 10_000_000,
        "description": "smaller answers stay as they are (1024)",
    },
    "types": {
        "type": "array",
        "minItems": 1,
        "maxItems": 50,
        "items": {
            "type": "string",
            "pattern": r"^[a-z0-9.+-]+/[a-z0-9.+-]+$",
            "x-expected": "a media type such as application/json",
        },
        "description": "media types of answers to compress (JSON, text, CSV, HTML, XML)",
    },
}


def _read(settings: Settings) -> Compression:
    return msgspec.convert(settings, Compression)


def _render(compression: Compression, spot: Spot) -> Parts:
    made = []
    # An answer meets the filters from the last to the first, and the first that compresses has it.
    for form in compression.forms:
        config = typed(
            "envoy.extensions.filters.http.compressor.v3.Compressor",
            compressor_library={"name": form, "typed_config": _LIBRARIES[form]},
            response_direction_config={
                "common_config": {
                    "min_content_length": compression.min_bytes,
                    "content_type": list(compression.types),
                }
            },
            choose_first=form == compression.forms[0],
        )
        made.append({"name": f"{spot.name_of('compression')} {form}", "typed_config": config})
    return Parts(filters=made)


def register(registry: Registry) -> None:
    """Make the kind known."""
    registry.add(
        Kind(
            "compression",
            "Answers are compressed for callers who accept it.",
            _PROPERTIES,
            "before",
            _read,
            render=_render,
            once=True,
            example="policy: compression\nforms: [br, gzip]\nmin_bytes: 2048",
        )
    )
