"""How an OpenAPI document says who may call: the security schemes of the ways into a service. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tulle.serving.access import Access

Json = dict[str, Any]


def with_access(document: Mapping[str, Any], access: Access) -> Json:
    """The document, saying that its service is called by the ways of `access`; any one of them is enough."""
    schemes: Json = {}
    ways: list[Json] = []
    if access.contracts:
        schemes |= {
            "clientId": {"type": "apiKey", "in": "header", "name": "client_id"},
            "clientSecret": {"type": "apiKey", "in": "header", "name": "client_secret"},
        }
        ways.append({"clientId": [], "clientSecret": []})
    if access.contracts or access.api_keys is not None:
        whose = "the application's API key" if access.api_keys is None else "an API key"
        user = "the API key as user name with an empty password"
        schemes |= {
            "apiKey": {"type": "http", "scheme": "bearer", "description": whose},
            "basic": {
                "type": "http",
                "scheme": "basic",
                "description": f"client id and secret, or {user}" if access.contracts else user,
            },
        }
        ways += [{"apiKey": []}, {"basic": []}]
    if access.jwt is not None:
        told = f"a token of {access.jwt.issuer}"
        if access.jwt.audiences:
            told += f" for {' or '.join(access.jwt.audiences)}"
        if access.jwt.scopes:
            told += f", with the scopes {' '.join(access.jwt.scopes)}"
        if access.jwt.contract:
            told += ", that names an application with a contract"
        schemes["token"] = {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": told,
        }
        ways.append({"token": list(access.jwt.scopes)})
    if access.public is not None:
        ways.append({})
    components = {**document.get("components", {}), "securitySchemes": schemes}
    if not schemes:
        del components["securitySchemes"]
    return {**document, "security": ways, "components": components}
