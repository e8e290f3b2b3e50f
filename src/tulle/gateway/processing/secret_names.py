"""By which names headers, parameters and members of bodies hold what nobody writes down. Knows nothing of values."""

from __future__ import annotations

import re
from typing import Any, Final

HIDDEN: Final = "****"
# within a name, in words that Envoy's expressions have as well
SECRETS: Final = (
    r"auth|cookie|secret|passw|token|api-?_?key|credential|session|signature|jwt|^key$|^code$|^sig$"
)
_SECRET: Final = re.compile(SECRETS, re.IGNORECASE)
_MORE_IN_BODIES: Final = re.compile(r"private_?key|^pin$|^cvv\d?$|^cvc\d?$|^otp$|^ssn$", re.IGNORECASE)
_TOKEN: Final = re.compile(r"(?i:bearer|basic) +\S+|eyJ[\w-]{5,}\.[\w-]+\.[\w-]*")


def is_secret(name: str) -> bool:
    """Whether a header or parameter of this name may hold a secret."""
    return _SECRET.search(name) is not None


def without_secrets(value: Any) -> Any:
    """A value of JSON with members that may hold secrets, and texts that are credentials by their form, hidden.

    Raises RecursionError for what is nested too deeply.
    """
    if isinstance(value, dict):
        return {
            name: HIDDEN if is_secret(name) or _MORE_IN_BODIES.search(name) else without_secrets(inner)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [without_secrets(inner) for inner in value]
    if isinstance(value, str) and _TOKEN.fullmatch(value) is not None:
        return HIDDEN
    return value
