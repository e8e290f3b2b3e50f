"""What must never be shown of a connection: its secrets, as a driver, a server or an error may repeat them. Pure."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus, unquote

from tulle.state.connections import Connection

# Names of what opens something. `passive` and the like are none, and neither is the path of a file with a key in it.
_WORDS = re.compile(
    r"pass(?!ive|th)|pwd|secret|token|key|sig(?!n)|signature|credential|assertion", re.IGNORECASE
)
_PARAMETER = re.compile(r"([\w.\- ]+?)\s*=\s*(\{[^}]*\}|[^;&?]*)")
_HIDDEN = "…"


def looks_secret(name: str, value: str) -> bool:
    """Whether a parameter of an address is a secret by its name; where a file with one lies is none."""
    harmless = value.startswith(("/", "file:")) or value.lower() in {"", "true", "false"}
    return bool(_WORDS.search(name)) and not harmless


def parameters(address: str) -> list[tuple[str, str]]:
    """What an address says as name=value, whichever signs set them apart there."""
    return [(name.strip(), unquote(value)) for name, value in _PARAMETER.findall(address)]


def shown_address(address: str) -> str:
    """An address without the secrets in it: one that was recorded when they were not yet refused."""

    def shown(found: re.Match[str]) -> str:
        hides = looks_secret(found[1].strip(), unquote(found[2]))
        return found[0][: found.start(2) - found.start()] + _HIDDEN if hides else found[0]

    return _PARAMETER.sub(shown, address)


def without_secrets(connection: Connection | None, text: str) -> str:
    """A text without what opens a connection, in whatever form it is repeated."""
    if connection is None:
        return text
    for form in sorted(set(_forms(connection)), key=len, reverse=True):
        text = text.replace(form, _HIDDEN)
    return text


def _forms(connection: Connection) -> Iterator[str]:
    values = [*connection.secrets.values()]
    values += [value for name, value in parameters(connection.address) if looks_secret(name, value)]
    for value in filter(None, values):
        both = f"{connection.options.get('user', '')}:{value}"
        for plain in {value, value.strip()} - {""}:
            yield from (plain, quote(plain, safe=""), quote(plain), quote_plus(plain))
            yield from (json.dumps(plain)[1:-1], repr(plain)[1:-1], repr(plain.encode())[2:-1])
        yield base64.b64encode(both.encode()).decode()
        yield base64.b64encode(value.encode()).decode()
