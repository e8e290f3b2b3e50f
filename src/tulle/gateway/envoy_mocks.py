"""APIs that the gateway answers itself, by the examples of their OpenAPI documents; in Envoy's words.

Whoever calls shows itself and is limited as with any API. Each answer says that it is a mock one. An answer is in the
routes of every way into every part of the requests that may ask for it, so how much that comes to is bounded. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final

from tulle.errors import Invalid
from tulle.gateway.envoy_apis import expression_of, methods_of, refused, shape_of
from tulle.gateway.envoy_values import Json
from tulle.gateway.front import MockAnswer
from tulle.gateway.policies.entry import Operation
from tulle.gateway.policy import ManagedService

MOCK_HEADER: Final = "x-tulle-mock"
_LARGEST: Final = 300_000  # bytes of a body: a character has four at most
MOST_ROUTES: Final = 20_000  # of one API, and
MOST_CHARACTERS: Final = 16_000_000  # of answers in them: Envoy reads them all at every change of it


def largest_answer(services: Sequence[ManagedService]) -> Json:
    """What routes have to say of how large the bodies in them may be, where there are any."""
    if any(one.front is not None and one.front.mocks for one in services):
        return {"max_direct_response_body_size_bytes": _LARGEST}
    return {}


def few(service: ManagedService, routes: Iterable[Json]) -> Iterator[Json]:
    """These routes of a service, unless its examples come to what would hold up all others. Invalid."""
    is_bounded = service.front is not None and bool(service.front.mocks)
    size = 0
    for number, route in enumerate(routes, 1):
        yield route
        if not is_bounded:
            continue
        size += len(route.get("direct_response", {}).get("body", {}).get("inline_string", ""))
        if number > MOST_ROUTES or size > MOST_CHARACTERS:
            raise Invalid(
                f"service '{service.path}': its examples come to more than {MOST_ROUTES} routes or "
                f"{MOST_CHARACTERS} characters, with its ways in and the operations that policies tell apart",
                hint="give fewer or smaller examples, or policies for fewer operations",
            )


def mock_routes(service: ManagedService, usual: Json, of: Operation) -> Iterator[Json]:
    """The routes of an API that examples answer, made of the `usual` one of its way in for the requests `of` a part.

    Which of several is said by `Prefer: example=NAME` and `Prefer: code=STATUS`; else, and where there is none such,
    it is the first.
    """
    front = service.front
    assert front is not None
    prefix = "" if front.path == "/" else re.escape(front.path)
    headers = usual["match"].get("headers", [])
    by_path: dict[str, dict[str, list[MockAnswer]]] = {}
    for one in front.mocks:
        if _meets(of, one.path):
            by_path.setdefault(one.path, {}).setdefault(one.method, []).append(one)
    for path in sorted(by_path, key=lambda one: (shape_of(one), one)):
        where = {"safe_regex": {"regex": f"{prefix}(?:{expression_of(path)})"}}
        for method, answers in by_path[path].items():
            if not _meets(of, path, method):
                continue
            asked = {
                "name": ":method",
                "string_match": {"safe_regex": {"regex": "|".join(_answered(method, by_path[path]))}},
            }
            for wishes, answer in _chosen(answers):
                yield _answering(usual, {**where, "headers": [*headers, asked, *wishes]}, answer)
        allow = {
            "header": {
                "key": "allow",
                "value": ", ".join(sorted({one for method in by_path[path] for one in methods_of(method)})),
            }
        }
        no_method = refused(usual, "method", 405)
        told = [*no_method.get("response_headers_to_add", []), allow]
        match = {**where, **({"headers": headers} if headers else {})}
        yield {**no_method, "match": match, "response_headers_to_add": told}
    yield refused(usual, "operation", 404)


def _answered(method: str, declared: Collection[str]) -> Iterator[str]:
    """The methods that the examples of one answer, but for what has some of its own."""
    return (one for one in methods_of(method) if one == method or one not in declared)


def _meets(of: Operation, path: str, method: str = "") -> bool:
    """Whether a request of both may be; so also where an operation of a policy has no words for the path."""
    try:
        return of.meet(_operation(method, path)) is not None
    except Invalid:
        return True


@lru_cache(maxsize=4096)  # each is asked for every part and every way
def _operation(method: str, path: str) -> Operation:
    return Operation(method, path)


def _chosen(answers: Sequence[MockAnswer]) -> Iterator[tuple[Sequence[Json], MockAnswer]]:
    """The answers of an operation with what has to be asked for to get each, the last without anything."""
    if len(answers) > 1:
        named = [one for one in answers if one.name]
        for one in named:
            yield [_wish("example", one.name), _wish("code", str(one.status))], one
        for one in _first(named, "name").values():
            yield [_wish("example", one.name)], one
        for one in _first(answers, "status").values():
            yield [_wish("code", str(one.status))], one
    yield (), answers[0]


def _first(answers: Sequence[MockAnswer], by: str) -> Mapping[object, MockAnswer]:
    found: dict[object, MockAnswer] = {}
    for one in answers:
        found.setdefault(getattr(one, by), one)
    return found


def _wish(word: str, value: str) -> Json:
    expression = f'(?i)(.*[,; ])?{word} ?= ?"?{re.escape(value)}"?([,; ].*)?'
    return {"name": "prefer", "string_match": {"safe_regex": {"regex": expression}}}


def _answering(usual: Json, match: Json, answer: MockAnswer) -> Json:
    about = usual["metadata"]["filter_metadata"]["tulle"]
    said = {MOCK_HEADER: "true"}
    if answer.media:
        said["content-type"] = answer.media
    told = [
        # Envoy reads a value as a format, and has commands that tell of its own process.
        {
            "header": {"key": key, "value": value.replace("%", "%%")},
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
        }
        for key, value in said.items()
    ]
    body = {"body": {"inline_string": answer.body}} if answer.body else {}
    return {
        **{key: value for key, value in usual.items() if key != "route"},
        "match": match,
        "metadata": {"filter_metadata": {"tulle": {**about, "reason": "mock"}}},
        "direct_response": {"status": answer.status, **body},
        "response_headers_to_add": [*usual.get("response_headers_to_add", []), *told],
    }
