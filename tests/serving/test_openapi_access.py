"""How a document says by which ways its operations are called."""

from __future__ import annotations

from typing import Any

from tulle.serving.access import Access, Public
from tulle.serving.openapi_access import with_access, with_ways
from tulle.serving.ways_in import Credential, WayIn, easiest, ways_of

DOCUMENT = {
    "paths": {
        "/a": {"get": {"responses": {}, "security": [{"old": []}]}, "parameters": []},
        "/b": {"post": {"responses": {}}, "summary": "b"},
    },
    "components": {"schemas": {"A": {}}, "securitySchemes": {"old": {"type": "http", "scheme": "basic"}}},
}
ONE = (Credential("token", "bearer", ("TOKEN",), description="of one", form="JWT", scopes=("x",)),)
OTHER = (Credential("token", "bearer", ("TOKEN",), description="of another"),)
PARAMETER = (Credential("seal", "query", ("SEAL",), "seal"),)


def test_what_was_said_before_is_gone() -> None:
    found = with_access(DOCUMENT, Access(contracts=False, public=Public("1/1s")))
    assert found["security"] == [{}]
    assert found["components"] == {"schemas": {"A": {}}}


def test_operations_that_differ_say_so_themselves() -> None:
    def at(method: str, path: str) -> tuple[WayIn, ...]:
        return {("GET", "/a"): (ONE,), ("POST", "/b"): (OTHER, PARAMETER)}[method, path]

    found: dict[str, Any] = with_ways(DOCUMENT, (ONE,), at)
    assert found["security"] == [{"token": ["x"]}]
    assert found["paths"]["/a"] == {"get": {"responses": {}}, "parameters": []}
    assert found["paths"]["/b"]["post"]["security"] == [{"token2": []}, {"seal": []}]
    assert found["paths"]["/b"]["summary"] == "b"
    assert found["components"]["securitySchemes"] == {
        "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "of one"},
        "token2": {"type": "http", "scheme": "bearer", "description": "of another"},
        "seal": {"type": "apiKey", "in": "query", "name": "seal"},
    }
    assert "security" in DOCUMENT["paths"]["/a"]["get"]  # nothing of the given one was changed


def test_an_example_goes_the_easiest_way() -> None:
    assert easiest([ONE, ()]) == ()
    assert easiest([ONE, PARAMETER]) == ONE
    assert easiest([]) == ()
    assert [one.name for one in easiest(ways_of(Access()))] == ["client_id", "client_secret"]
