"""Which operation of a service a request is: the template of its OpenAPI document that its path fits.

What fits none is `(other)`, so that nobody makes counts without bound by asking for paths that are not there. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from tulle.observe.tally import OTHER

_MOST_SEGMENTS: Final = 40
# Answered by every service, in no document.
_ALWAYS: Final = ("GET /openapi.json", "GET /swagger", "POST /feedback")


class Operations:
    """The operations of services, by name: texts such as `POST /next-offer/predict` or `GET /orders/{id}`."""

    def __init__(self, known: Mapping[str, Iterable[str]], prefix: str) -> None:
        """`prefix` is what comes before the name of a service in a path, whatever stands before it."""
        self._prefix = prefix
        self._known = {service: _Templates([*_ALWAYS, *found]) for service, found in known.items()}

    def __call__(self, service: str, method: str, path: str) -> str:
        """The operation of a request, or `(other)`."""
        templates = self._known.get(service)
        if templates is None:
            return OTHER
        _, found, rest = path.partition(f"{self._prefix}{service}/")
        parts = (rest if found else path).strip("/").split("/")
        if len(parts) > _MOST_SEGMENTS:
            return OTHER
        if found:
            return templates.of(method, parts)
        # At an address of its own: the longest end of the path that is one.
        for begin in range(len(parts)):
            if (one := templates.of(method, parts[begin:])) != OTHER:
                return one
        return OTHER


class _Templates:
    """The operations of one service, found by method and number of segments."""

    def __init__(self, operations: Iterable[str]) -> None:
        self._plain: dict[tuple[str, tuple[str, ...]], str] = {}
        self._open: dict[tuple[str, int], list[tuple[tuple[str, ...], str]]] = {}
        for operation in operations:
            method, _, template = operation.partition(" ")
            parts = tuple(template.strip("/").split("/"))
            if any(_is_open(part) for part in parts):
                self._open.setdefault((method, len(parts)), []).append((parts, operation))
            else:
                self._plain[method, parts] = operation

    def of(self, method: str, parts: list[str]) -> str:
        found = self._plain.get((method, tuple(parts)))
        if found is not None:
            return found
        for template, operation in self._open.get((method, len(parts)), ()):
            if all(_is_open(one) or one == part for one, part in zip(template, parts, strict=True)):
                return operation
        return self.of("GET", parts) if method == "HEAD" else OTHER


def _is_open(part: str) -> bool:
    return part.startswith("{") and part.endswith("}")


def operations_of(document: object) -> list[str]:
    """The operations of an OpenAPI document; nothing of what is none."""
    paths = document.get("paths") if isinstance(document, Mapping) else None
    if not isinstance(paths, Mapping):
        return []
    methods = ("get", "put", "post", "delete", "patch", "head", "options")
    return [
        f"{method.upper()} {path}"
        for path, item in paths.items()
        if isinstance(path, str) and isinstance(item, Mapping)
        for method in methods
        if method in item
    ]
