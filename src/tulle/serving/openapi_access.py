"""How an OpenAPI document says who may call: the security schemes of the ways into a service. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tulle.serving.access import Access
from tulle.serving.ways_in import WayIn, ways_of
from tulle.spec.openapi_document import METHODS

Json = dict[str, Any]
WaysAt = Callable[[str, str], Sequence[WayIn]]  # of a method in capitals and a path of the document


def with_access(document: Mapping[str, Any], access: Access) -> Json:
    """The document, saying that its service is called by the ways of `access`; any one of them is enough."""
    return with_ways(document, ways_of(access))


def with_ways(document: Mapping[str, Any], usual: Sequence[WayIn], at: WaysAt | None = None) -> Json:
    """The document, saying by which ways its operations are called; `at` those of one, where they differ.

    What the document said of it before is gone.
    """
    schemes: Json = {}
    security = _security(usual, schemes)
    paths = document.get("paths")
    if at is not None and isinstance(paths, Mapping):
        paths = {path: _item(path, item, usual, at, schemes) for path, item in paths.items()}
    components = {**document.get("components", {}), "securitySchemes": schemes}
    if not schemes:
        del components["securitySchemes"]
    found = {**document, "security": security, "components": components}
    return found if paths is None else {**found, "paths": paths}


def _item(path: str, item: Any, usual: Sequence[WayIn], at: WaysAt, schemes: Json) -> Any:
    if not isinstance(item, Mapping):
        return item
    found: Json = {}
    for key, said in item.items():
        found[key] = said
        if key in METHODS and isinstance(said, Mapping):
            ways = at(key.upper(), path)
            plain = {name: one for name, one in said.items() if name != "security"}
            found[key] = plain if ways == usual else {**plain, "security": _security(ways, schemes)}
    return found


def _security(ways: Sequence[WayIn], schemes: Json) -> list[Json]:
    """The ways in a document's words; the schemes that they need are added to `schemes`."""
    found: list[Json] = []
    for way in ways:
        said: Json = {}
        for one in way:
            name, scheme, number = one.scheme, one.as_scheme(), 2
            while (
                schemes.setdefault(name, scheme) != scheme
            ):  # another one of this name, of another operation
                name, number = f"{one.scheme}{number}", number + 1
            said[name] = list(one.scopes)
        found.append(said)
    return found
