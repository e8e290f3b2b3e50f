"""The routes of the page on which a service is designed: parse the request, ask the page's reader, fill a template.

Texts go in and out; nothing is written here. Saving a text is the mesh's API, asked with the reader's own key.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from tulle.catalog.look_up_fields import Filled
from tulle.catalog.look_up_form import LookUpForm, change, form_of, take_out
from tulle.catalog.search import Reader
from tulle.catalog.service_design import MOST_CHARACTERS, Suggested, read_design

Name = Annotated[str, Query(max_length=200)]
Cell = Annotated[str, Field(max_length=5000)]
Render = Callable[[Request, str, Any], Response]


class DesignBody(BaseModel):
    """The text of a services file, as it is typed."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(max_length=MOST_CHARACTERS)


class LookUpBody(DesignBody):
    """A look-up of it: of which endpoint, and which one there; -1 is one more."""

    endpoint: int = Field(ge=0, le=100_000)
    number: int = Field(ge=-1, le=100_000)


class WrittenBody(LookUpBody):
    """The look-up that was looked at, by its digest."""

    digest: str = Field("", max_length=64)


class FilledBody(WrittenBody):
    """What was filled in."""

    texts: dict[Annotated[str, Field(max_length=60)], Cell] = Field(max_length=100)
    pairs: dict[
        Annotated[str, Field(max_length=60)], Annotated[list[tuple[Cell, Cell]], Field(max_length=2000)]
    ] = Field(max_length=20)


@dataclass(frozen=True, slots=True)
class LookUpPage:
    """What the form shows, and what it suggests."""

    form: LookUpForm
    suggested: Suggested


def design_routes(router: APIRouter, reader: Reader, render: Render) -> None:
    """Put the pages on `router`; `render` fills a template."""

    @router.get("/services/{name}/design")
    def design(request: Request, name: str) -> Response:
        return render(request, "service_design.html", reader.design(name))

    @router.post("/services/{name}/design/view")
    def view(request: Request, name: str, typed: DesignBody) -> Response:
        """What a text would declare; nothing is kept of it."""
        return render(request, "service_design_view.html", read_design(typed.text, reader.design(name).path))

    @router.get("/services/{name}/design/suggested")
    def suggest(name: str, product: Name = "", data_set: Name = "") -> Response:
        """What fields of a look-up may hold."""
        return JSONResponse(asdict(reader.suggested(name, product, data_set)))

    @router.post("/services/{name}/design/look-up/form")
    def form(request: Request, name: str, wanted: LookUpBody) -> Response:
        """The fields of a look-up in a text."""
        made = form_of(wanted.text, wanted.endpoint, wanted.number)
        texts = made.filled.texts
        known = reader.suggested(name, texts["product"], texts["data_set"])
        return render(request, "service_look_up.html", LookUpPage(made, known))

    @router.post("/services/{name}/design/look-up")
    def filled(name: str, wanted: FilledBody) -> Response:
        """The text with a look-up as it was filled in, or what is wrong by field."""
        reader.design(name)
        given = Filled(wanted.texts, wanted.pairs)
        made = change(wanted.text, wanted.endpoint, wanted.number, given, wanted.digest)
        return JSONResponse(asdict(made), status_code=422 if made.problems else 200)

    @router.post("/services/{name}/design/look-up/take-out")
    def without(name: str, wanted: WrittenBody) -> Response:
        """The text without a look-up."""
        reader.design(name)
        return JSONResponse({"text": take_out(wanted.text, wanted.endpoint, wanted.number, wanted.digest)})
