"""What a connection of kind http says of signing in by OAuth2, as a client with credentials of its own. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from tulle.errors import Invalid

OAUTH2: Final = "oauth2"
OPTIONS: Final[Mapping[str, str]] = {
    "token_url": "oauth2: where tokens are asked for, https://…",
    "client_id": "oauth2: the id of the client that the mesh is there",
    "scope": "oauth2: the scopes that are asked for, with spaces",
    "audience": "oauth2: what the tokens are to be for, where the server asks for it",
    "client_auth": "oauth2: where id and secret go: header (Basic; the usual one) or body",
    "ca_file": "oauth2: the absolute path of the certificates to trust where tokens are, in place of the machine's",
}
_SHOWN: Final = ("header", "body")
# RFC 6749, appendix A
_ID: Final = re.compile(r"[\x20-\x7e]{1,400}")
_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*")
_URL: Final = re.compile(r"https?://[A-Za-z0-9.\[\]:-]{1,260}(/[!$&-;=?@-Z_a-z~%]*)?")
_LONGEST: Final = 1000


def check_client_credentials(options: Mapping[str, str], secrets: Mapping[str, str]) -> None:
    """Invalid, naming the option, where tokens could not be asked for so. None of its words has the secret."""
    url = options["token_url"]
    try:
        parts = urlsplit(url)
        fits = bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        fits = False
    if not fits or len(url) > _LONGEST or _URL.fullmatch(url) is None:
        raise Invalid(
            "the option 'token_url' is no address that can be asked",
            hint="--option token_url=https://login.example.org/oauth2/token, without user and fragment",
        )
    if _ID.fullmatch(options["client_id"]) is None:
        raise Invalid(
            "the option 'client_id' is no id of a client", hint="up to 400 visible characters of ASCII"
        )
    scope = options.get("scope", "")
    if scope and (len(scope) > _LONGEST or _SCOPE.fullmatch(scope) is None):
        raise Invalid("the option 'scope' names no scopes", hint="names with one space between: 'read write'")
    if len(options.get("audience", "")) > _LONGEST:
        raise Invalid(f"the option 'audience' has more than {_LONGEST:,} characters")
    if not secrets["client_secret"] or len(secrets["client_secret"]) > _LONGEST:
        raise Invalid(f"the secret 'client_secret' has to have 1 to {_LONGEST:,} characters")
    if options.get("client_auth", _SHOWN[0]) not in _SHOWN:
        raise Invalid("the option 'client_auth' is neither header nor body")
    if "ca_file" in options and not options["ca_file"].startswith("/"):
        raise Invalid("ca_file is no absolute path", hint="--option ca_file=/etc/ssl/login.pem")
