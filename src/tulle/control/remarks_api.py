"""Ratings of APIs, and questions, over HTTP below `/mesh/v1/apis/{name}`: parses, calls one function, renders.

Of an API that who asks does not see nobody is told that it exists.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field

from tulle.catalog.routes import Routes
from tulle.control.apis_api import Guard
from tulle.control.asking import AskedBy, user_of
from tulle.control.remarks import Remarks, as_told
from tulle.control.workspace import Workspace
from tulle.gateway.apis.sight import Sight
from tulle.lake.access import Access

Text = Annotated[str, Field(max_length=20_000)]  # how much is kept is said by the remarks themselves


class RatingBody(BaseModel):
    """What one thinks of an API."""

    model_config = ConfigDict(extra="forbid")

    stars: int
    text: Text = ""


class TextBody(BaseModel):
    """A question, an answer, a reply."""

    model_config = ConfigDict(extra="forbid")

    text: Text


def router(workspace: Workspace, access: Access) -> Routes:
    """The API of remarks."""
    api = Routes(prefix="/mesh/v1", tags=["apis"])
    guard, remarks = Guard(workspace, access), Remarks(workspace, Sight(workspace.database, access))
    _rating_routes(api, guard, remarks)
    _question_routes(api, guard, remarks)
    return api


def _rating_routes(api: Routes, guard: Guard, remarks: Remarks) -> None:
    @api.get("/apis/{name}/ratings")
    def ratings(request: Request, name: str) -> dict[str, Any]:
        """What is thought of an API."""
        guard.shown(request, name)
        return as_told(remarks.ratings(name))

    @api.put("/apis/{name}/rating")
    def rate(request: Request, name: str, body: RatingBody) -> dict[str, Any]:
        """Rate an API as who asks, or rate it otherwise than before."""
        guard.shown(request, name)
        return remarks.rate(name, body.stars, body.text, user=user_of(request))

    @api.delete("/apis/{name}/rating")
    def unrate(request: Request, by: AskedBy, name: str) -> dict[str, Any]:
        """Take back the rating of who asks."""
        guard.shown(request, name)
        remarks.unrate(name, None, user=user_of(request), by=by)
        return as_told(remarks.ratings(name))

    @api.delete("/apis/{name}/ratings/{user}")
    def unrate_other(request: Request, by: AskedBy, name: str, user: str) -> dict[str, Any]:
        """Take back somebody's rating."""
        guard.shown(request, name)
        remarks.unrate(name, user, user=user_of(request), by=by)
        return as_told(remarks.ratings(name))

    @api.put("/apis/{name}/ratings/{user}/reply")
    def reply(request: Request, by: AskedBy, name: str, user: str, body: TextBody) -> dict[str, Any]:
        """Say something to somebody's rating, as an owner."""
        found = guard.shown(request, name)
        told = remarks.reply(name, found["product"], user, body.text, user=user_of(request), by=by)
        return as_told(told)


def _question_routes(api: Routes, guard: Guard, remarks: Remarks) -> None:
    @api.get("/apis/{name}/questions")
    def questions(request: Request, name: str) -> dict[str, Any]:
        """What was asked about an API, with the answers."""
        guard.shown(request, name)
        return remarks.questions(name)

    @api.post("/apis/{name}/questions", status_code=201)
    def ask(request: Request, name: str, body: TextBody) -> dict[str, Any]:
        """Ask something; the API's owners are told."""
        guard.shown(request, name)
        return remarks.ask(name, body.text, user=user_of(request))

    @api.post("/apis/{name}/questions/{id}/answers", status_code=201)
    def answer(request: Request, by: AskedBy, name: str, id: str, body: TextBody) -> dict[str, Any]:  # noqa: A002
        """Answer a question."""
        found = guard.shown(request, name)
        return remarks.answer(name, found["product"], id, body.text, user=user_of(request), by=by)

    @api.delete("/apis/{name}/questions/{id}")
    def remove(request: Request, by: AskedBy, name: str, id: str) -> dict[str, Any]:  # noqa: A002
        """Take back a question with its answers."""
        found = guard.shown(request, name)
        remarks.remove(name, found["product"], id, None, user=user_of(request), by=by)
        return remarks.questions(name)

    @api.delete("/apis/{name}/questions/{id}/answers/{answer}")
    def remove_answer(request: Request, by: AskedBy, name: str, id: str, answer: str) -> dict[str, Any]:  # noqa: A002
        """Take back an answer."""
        found = guard.shown(request, name)
        remarks.remove(name, found["product"], id, answer, user=user_of(request), by=by)
        return remarks.questions(name)
