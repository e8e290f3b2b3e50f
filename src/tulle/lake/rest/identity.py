"""Who calls: Basic credentials, tokens, or nobody."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import TYPE_CHECKING

from tulle.errors import Denied
from tulle.lake.door import Incoming
from tulle.lake.rest.failure import unauthenticated

if TYPE_CHECKING:
    from tulle.lake.access import Access

ADMINISTRATOR = "admin"  # who holds the mesh's own token


class Identity:
    """Tells the caller of a request."""

    def __init__(self, access: Access, is_mesh_token: Callable[[str], bool]) -> None:
        self._access = access
        self._is_mesh_token = is_mesh_token

    def user_of(self, request: Incoming) -> str:
        """The id of the user who calls. A refusal with 401 when nobody can be told."""
        scheme, _, rest = request.header("authorization").partition(" ")
        try:
            if scheme.lower() == "basic":
                key, secret = _pair(rest)
                return self._access.sign_in(key, secret)
            if scheme.lower() == "bearer":
                token = rest.strip()
                return ADMINISTRATOR if self._is_mesh_token(token) else self._access.user_of_token(token)
        except Denied as exc:
            raise unauthenticated(exc.message) from None
        raise unauthenticated()


def _pair(text: str) -> tuple[str, str]:
    try:
        key, mark, secret = base64.b64decode(text.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        raise unauthenticated("the Authorization header is not well-formed") from None
    if not mark:
        raise unauthenticated("the Authorization header is not well-formed")
    return key, secret
