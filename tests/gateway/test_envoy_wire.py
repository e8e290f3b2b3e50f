"""Messages as bytes: what is written is what Envoy's own messages say, and parts put together are the whole."""

from __future__ import annotations

from typing import Any

import pytest

from tulle.gateway import envoy_wire
from tulle.gateway.envoy_values import typed
from tulle.gateway.envoy_wire import contents, field, fields, packed, read, written

ROUTE = "envoy.config.route.v3.Route"
LIST = "envoy.config.route.v3.RouteList"
BODY = "envoy.extensions.filters.http.buffer.v3.BufferPerRoute"


def route(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "match": {"prefix": "/é"},
        "route": {"cluster": "c", "timeout": "1.250s", "retry_policy": {"num_retries": 4}},
        "metadata": {"filter_metadata": {"tulle": {"service": name}}},
        "typed_per_filter_config": {"body": typed(BODY, buffer={"max_request_bytes": 70_000})},
    }


def test_what_is_written_reads_as_it_was() -> None:
    assert read(ROUTE, written(ROUTE, route("one"))) == route("one")


def test_parts_put_together_are_the_whole() -> None:
    # long enough that sizes take several bytes
    names = ["a", "b" * 200, "c" * 20_000]
    together = fields(LIST, "routes", [written(ROUTE, route(name)) for name in names])
    assert together == written(LIST, {"routes": [route(name) for name in names]})
    assert contents(LIST, "routes", together) == [written(ROUTE, route(name)) for name in names]
    whole = {"name": "x", "typed_config": typed(LIST, routes=[route(name) for name in names])}
    extension = "envoy.config.core.v3.TypedExtensionConfig"
    parts = field(extension, "name", b"x") + field(extension, "typed_config", packed(LIST, together))
    assert parts == written(extension, whole)


def test_what_is_written_is_never_touched_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread may be reading it; the library takes `@type` away while it reads."""
    given, kept = route("one"), route("one")
    seen: list[Any] = []

    def noted(content: Any, *_args: Any, **_more: Any) -> None:
        seen.append(dict(content["typed_per_filter_config"]["body"]))
        content["typed_per_filter_config"]["body"].clear()
        content.clear()

    monkeypatch.setattr(envoy_wire.json_format, "ParseDict", noted)
    written(ROUTE, given)
    assert seen == [kept["typed_per_filter_config"]["body"]]
    assert given == kept


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"nothing": 1}, "nothing"),
        ({"match": {"prefix": 1}}, "prefix"),
        ({"route": {"timeout": "soon"}}, "soon"),
        ({"typed_per_filter_config": {"x": {"@type": "type.googleapis.com/no.such"}}}, "no.such"),
    ],
)
def test_what_is_no_such_message_is_said(content: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        written(ROUTE, content)


def test_what_is_no_message_is_said() -> None:
    with pytest.raises(ValueError, match=r"no envoy\.config\.route\.v3\.Route"):
        read(ROUTE, b"\xff")


def test_what_has_other_fields_is_not_taken_apart() -> None:
    with pytest.raises(ValueError, match="more than 'routes'"):
        contents(LIST, "routes", field(ROUTE, "metadata", b""))
