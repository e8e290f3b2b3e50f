"""`ldap`: callers whom a directory knows. Carried out by `gateway.processing.directory`."""

from __future__ import annotations

from typing import Final

from tulle.gateway.envoy_values import Json
from tulle.gateway.policies.checking import CONNECTION, checking_kind, names_connection
from tulle.gateway.policies.kind import Registry, Settings, Unfit

_TEXT: Final[Json] = {"type": "string", "minLength": 1, "maxLength": 1000}
_PROPERTIES: Final[Json] = {
    "connection": {**CONNECTION, "description": "the connection to the directory, of kind ldap"},
    "base": {**_TEXT, "description": "the name below which callers are looked for"},
    "filter": {**_TEXT, "description": "what finds a caller there, with {user} for the name ((uid={user}))"},
    "user_dn": {**_TEXT, "description": "instead of looking: a caller's name in the directory, with {user}"},
    "groups": {
        "type": "array",
        "minItems": 1,
        "maxItems": 50,
        "items": {"type": "string", "minLength": 1, "maxLength": 255},
        "description": "groups, one of which a caller must be in; without it everybody who signs in",
    },
    "group_base": {**_TEXT, "description": "the name below which groups are (`base`)"},
    "group_filter": {
        **_TEXT,
        "description": "what finds a caller's groups, with {dn} and {user} (member, uniqueMember or memberUid)",
    },
    "group_name": {
        "type": "string",
        "pattern": "^[A-Za-z][A-Za-z0-9-]{0,60}$",
        "x-expected": "the name of an attribute",
        "description": "the attribute that names a group (cn)",
    },
    "cache": {
        "type": "number",
        "minimum": 0,
        "maximum": 3600,
        "description": "seconds for which somebody who was found right is not asked for again (60)",
    },
    "timeout": {
        "type": "number",
        "minimum": 0.1,
        "maximum": 15,
        "description": "seconds that the directory may take for each step (5)",
    },
}


def _demand_meant(settings: Settings) -> None:
    for setting in ("group_base", "group_filter", "group_name"):
        if setting in settings and "groups" not in settings:
            message, hint = (
                f"'{setting}' does nothing without 'groups'",
                f"say `groups`, or leave `{setting}` out",
            )
            raise Unfit(message, setting, hint=hint)
    if "filter" in settings and "user_dn" in settings:
        message = "nobody is looked for where 'user_dn' says what a caller is called"
        raise Unfit(message, "filter", hint="say `base` in place of `user_dn`, or leave `filter` out")


def register(registry: Registry) -> None:
    """Make the kind known."""
    registry.add(
        checking_kind(
            "ldap",
            "ldap",
            "Whom a directory knows may call, with name and password (HTTP Basic).",
            _PROPERTIES,
            anew=_demand_meant,
            shows="basic",
            told="name and password of somebody whom the directory knows",
            names=names_connection,
            required=("connection",),
            example="policy: ldap\nconnection: staff\nbase: ou=people,dc=example,dc=com\ngroups: [analysts]\n"
            "group_base: ou=groups,dc=example,dc=com",
        )
    )
