"""Operations of lakeFS's API that this lake does not do, each with the reason the caller is told (501)."""

from __future__ import annotations

from tulle.lake.door import Outgoing
from tulle.lake.rest.call import Call
from tulle.lake.rest.failure import unsupported
from tulle.lake.rest.router import Handler, Route

_EXTERNAL = "callers are known by keys and tokens here, not by an identity of a cloud provider"
_SIGN_ON = "this server is no client of an identity provider; sign in with an access key"

# operationId → method, path, whether strangers are told too, reason
REASONS: dict[str, tuple[str, str, bool, str]] = {
    "externalPrincipalLogin": ("POST", "/auth/external/principal/login", True, _EXTERNAL),
    "stsLogin": ("POST", "/sts/login", True, _SIGN_ON),
    "oauthCallback": ("GET", "/oidc/callback", True, _SIGN_ON),
    "createUserExternalPrincipal": ("POST", "/auth/users/{userId}/external/principals", False, _EXTERNAL),
    "deleteUserExternalPrincipal": ("DELETE", "/auth/users/{userId}/external/principals", False, _EXTERNAL),
    "listUserExternalPrincipals": ("GET", "/auth/users/{userId}/external/principals/ls", False, _EXTERNAL),
    "getExternalPrincipal": ("GET", "/auth/external/principals", False, _EXTERNAL),
    "createSymlinkFile": (
        "POST",
        "/repositories/{repository}/refs/{branch}/symlink",
        False,
        "no symlink files are written: engines read objects through the S3 door, or by their addresses",
    ),
    "CreateCommitRecord": (
        "POST",
        "/repositories/{repository}/commits",
        False,
        "a commit is made by committing, merging, importing or restoring, never by its record alone",
    ),
}


def _handler(reason: str) -> Handler:
    def refuse(call: Call) -> Outgoing:  # noqa: ARG001  every handler has one form
        raise unsupported(reason)

    return refuse


ROUTES = [
    Route(method, path, _handler(reason), operation, public=public)
    for operation, (method, path, public, reason) in REASONS.items()
]
