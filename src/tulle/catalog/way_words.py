"""The ways in as pages name them, in a word or two each. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from tulle.serving.ways_in import KEY, Credential, WayIn

OPEN: Final = "open to all"
API_KEY: Final = "API key"
_WORDS: Final[Mapping[str, str]] = {
    "clientId": "contract",
    "token": "token",
    "user": "password of the mesh",
    "ldap": "password of the directory",
    "introspection": "opaque token",
}
# further ways to send what another way is named by
_OTHER_FORMS: Final = frozenset({"basic", "clientIdInQuery", "apiKeyInHeader", "apiKeyInQuery"})


def in_words(ways: Sequence[WayIn]) -> tuple[str, ...]:
    """Each way in once; one that a kind of somebody's own opens has the name that it has in documents."""
    return tuple(dict.fromkeys(_each(ways)))


def _each(ways: Sequence[WayIn]) -> Iterator[str]:
    for way in ways:
        if not way:
            yield OPEN
        elif way[0].scheme == "apiKey":
            if KEY in way[0].variables:  # an application's own is another form of its secret
                yield API_KEY
        elif way[0].scheme not in _OTHER_FORMS:
            yield _word(way[0])


def _word(one: Credential) -> str:
    return _WORDS.get(one.scheme, one.scheme)
