"""Passwords with which users call APIs, over HTTP: who has one, setting it, taking it away. None ever comes back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field

from tulle.catalog.routes import Routes
from tulle.control.asking import AskedBy, user_of
from tulle.events import ACCESS_PASSWORD_REMOVED, ACCESS_PASSWORD_SET
from tulle.lake.access import Access
from tulle.lake.access.passwords import api_users, remove_password, set_password
from tulle.state.passwords import LONGEST, hash_password


class PasswordBody(BaseModel):
    """A password that was chosen."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    password: str = Field(max_length=LONGEST * 4, repr=False)


def router(access: Access, settle: Callable[[], bool]) -> Routes:
    """The routes on one mesh; `settle` lets the gateway know."""
    api = Routes(prefix="/mesh/v1")

    def demand(request: Request, action: str, *resources: str) -> None:
        if (user := user_of(request)) is not None:
            access.demand(user, action, *resources)

    @api.get("/api-users")
    def list_users(request: Request) -> dict[str, Any]:
        demand(request, "auth:ListUsers", access.resource_user("*"))
        found = access.read(api_users)
        return {
            "users": [{"user": one.user, "groups": list(one.groups), "since": one.since} for one in found]
        }

    @api.put("/api-users/{user}/password")
    def set_(request: Request, by: AskedBy, user: str, body: PasswordBody) -> dict[str, Any]:
        demand(request, "auth:CreateCredentials", access.resource_user(user))
        hashed = hash_password(body.password)
        access.change(by, ACCESS_PASSWORD_SET, f"user/{user}", lambda cx: set_password(cx, user, hashed))
        return {"user": user, "has_password": True, "in_force": settle()}

    @api.delete("/api-users/{user}/password")
    def remove(request: Request, by: AskedBy, user: str) -> dict[str, Any]:
        demand(request, "auth:DeleteCredentials", access.resource_user(user))
        access.change(by, ACCESS_PASSWORD_REMOVED, f"user/{user}", lambda cx: remove_password(cx, user))
        return {"user": user, "has_password": False, "in_force": settle()}

    return api
