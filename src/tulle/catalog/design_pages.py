"""The routes of the page on which a service is designed: parse the request, ask the page's reader, fill a template.

Texts go in and out; nothing is written here. Saving a text is the mesh's API, asked with the reader's own key.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from fastapi import Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from tulle.catalog import annotation_form, endpoint_form, saved_query_form
from tulle.catalog.look_up_fields import Filled
from tulle.catalog.look_up_form import LookUpForm, change, form_of, take_out
from tulle.catalog.part_fields import LONGEST_JSON, Changed, PartForm, Typed
from tulle.catalog.routes import Routes
from tulle.catalog.service_design import MOST_CHARACTERS, Suggested, read_design
from tulle.catalog.service_reader import ServiceReader
from tulle.errors import NotFound

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


class PartBody(DesignBody):
    """A part of the text: of which endpoint, and which one there; -1 is one more. `of`: the kind of a new endpoint."""

    endpoint: int = Field(-1, ge=-1, le=100_000)
    number: int = Field(-1, ge=-1, le=100_000)
    of: str = Field("", max_length=60)


class WrittenPartBody(PartBody):
    """The part that was looked at, by its digest."""

    digest: str = Field("", max_length=64)


class TypedBody(WrittenPartBody):
    """What was filled in."""

    texts: dict[Annotated[str, Field(max_length=60)], Annotated[str, Field(max_length=LONGEST_JSON)]] = Field(
        max_length=100
    )
    pairs: dict[
        Annotated[str, Field(max_length=60)],
        Annotated[list[Annotated[list[Cell], Field(max_length=5)]], Field(max_length=2000)],
    ] = Field(max_length=20)

    def typed(self) -> Typed:
        """The same as a value."""
        return Typed(self.texts, self.pairs)


class MadeBody(WrittenPartBody):
    """Test queries that were made from data."""

    queries: list[dict[str, Any]] = Field(max_length=saved_query_form.MOST)


@dataclass(frozen=True, slots=True)
class PartPage:
    """What the form shows of a part, and what it suggests."""

    service: str
    form: PartForm
    suggested: Suggested


@dataclass(frozen=True, slots=True)
class LookUpPage:
    """What the form shows, and what it suggests."""

    form: LookUpForm
    suggested: Suggested


def design_routes(router: Routes, services: ServiceReader, render: Render) -> None:
    """Put the pages on `router`; `render` fills a template."""

    _look_up_routes(router, services, render)
    _part_routes(router, services, render)
    _annotation_routes(router, services, render)

    @router.get("/services/{name}/design")
    def design(request: Request, name: str) -> Response:
        return render(request, "service_design.html", services.design(name))

    @router.post("/services/{name}/design/view")
    def view(request: Request, name: str, typed: DesignBody) -> Response:
        """What a text would declare; nothing is kept of it."""
        return render(
            request, "service_design_view.html", read_design(typed.text, services.design(name).path)
        )

    @router.get("/services/{name}/design/suggested")
    def suggest(name: str, product: Name = "", data_set: Name = "") -> Response:
        """What fields of a look-up may hold."""
        return JSONResponse(asdict(services.suggested(name, product, data_set)))


def _look_up_routes(router: Routes, services: ServiceReader, render: Render) -> None:
    @router.post("/services/{name}/design/look-up/form")
    def form(request: Request, name: str, wanted: LookUpBody) -> Response:
        """The fields of a look-up in a text."""
        made = form_of(wanted.text, wanted.endpoint, wanted.number)
        texts = made.filled.texts
        known = services.suggested(name, texts["product"], texts["data_set"])
        return render(request, "service_look_up.html", LookUpPage(made, known))

    @router.post("/services/{name}/design/look-up")
    def filled(name: str, wanted: FilledBody) -> Response:
        """The text with a look-up as it was filled in, or what is wrong by field."""
        services.design(name)
        given = Filled(wanted.texts, wanted.pairs)
        made = change(wanted.text, wanted.endpoint, wanted.number, given, wanted.digest)
        return JSONResponse(asdict(made), status_code=422 if made.problems else 200)

    @router.post("/services/{name}/design/look-up/take-out")
    def without(name: str, wanted: WrittenBody) -> Response:
        """The text without a look-up."""
        services.design(name)
        return JSONResponse({"text": take_out(wanted.text, wanted.endpoint, wanted.number, wanted.digest)})


def _answered(made: Changed) -> Response:
    return JSONResponse(asdict(made), status_code=422 if made.problems else 200)


def _part_routes(router: Routes, services: ServiceReader, render: Render) -> None:
    def shown(request: Request, name: str, form: PartForm) -> Response:
        page = PartPage(name, form, services.suggested(name, "", ""))
        return render(request, "service_part.html", page)

    @router.post("/services/{name}/design/query/form")
    def query_form(request: Request, name: str, wanted: PartBody) -> Response:
        """The fields of a test query in a text."""
        return shown(request, name, saved_query_form.form_of(wanted.text, wanted.endpoint, wanted.number))

    @router.post("/services/{name}/design/query")
    def query(name: str, wanted: TypedBody) -> Response:
        """The text with a test query as it was filled in, or what is wrong by field."""
        services.design(name)
        typed = wanted.typed()
        return _answered(
            saved_query_form.change(wanted.text, wanted.endpoint, wanted.number, typed, wanted.digest)
        )

    @router.post("/services/{name}/design/query/add")
    def made(name: str, wanted: MadeBody) -> Response:
        """The text with test queries that were made from data."""
        services.design(name)
        return _answered(saved_query_form.add(wanted.text, wanted.endpoint, wanted.queries))

    @router.post("/services/{name}/design/query/take-out")
    def without_query(name: str, wanted: WrittenPartBody) -> Response:
        """The text without a test query."""
        services.design(name)
        left = saved_query_form.take_out(wanted.text, wanted.endpoint, wanted.number, wanted.digest)
        return JSONResponse({"text": left})

    @router.post("/services/{name}/design/endpoint/form")
    def new_form(request: Request, name: str, wanted: PartBody) -> Response:
        """The fields of an endpoint more."""
        return shown(request, name, endpoint_form.form_of(wanted.text, wanted.of))

    @router.post("/services/{name}/design/endpoint")
    def new(name: str, wanted: TypedBody) -> Response:
        """The text with an endpoint more, or what is wrong by field."""
        services.design(name)
        return _answered(endpoint_form.add(wanted.text, wanted.of, wanted.typed()))

    @router.post("/services/{name}/design/description/form")
    def description_form(request: Request, name: str, wanted: PartBody) -> Response:
        """The field of a description in a text."""
        return shown(request, name, endpoint_form.description_form(wanted.text, wanted.endpoint))

    @router.post("/services/{name}/design/description")
    def description(name: str, wanted: TypedBody) -> Response:
        """The text with another description."""
        services.design(name)
        return _answered(endpoint_form.describe(wanted.text, wanted.endpoint, wanted.typed(), wanted.digest))


def _annotation_routes(router: Routes, services: ServiceReader, render: Render) -> None:
    @router.post("/services/{name}/design/annotations/view")
    def view(request: Request, name: str, typed: DesignBody) -> Response:
        """What a text of annotations says; nothing is kept of it."""
        found = annotation_form.read_annotations(typed.text, services.design(name).overlay)
        return render(request, "service_annotations_view.html", found)

    @router.post("/services/{name}/design/annotation/form")
    def form(request: Request, name: str, wanted: PartBody) -> Response:
        """The fields of an annotation in a text."""
        try:
            targets = annotation_form.targets_of(services.openapi(name))
        except NotFound:  # there is no version yet
            targets = ()
        page = PartPage(
            name,
            annotation_form.form_of(wanted.text, wanted.number, targets),
            Suggested((), (), ()),
        )
        return render(request, "service_part.html", page)

    @router.post("/services/{name}/design/annotation")
    def filled(name: str, wanted: TypedBody) -> Response:
        """The text with an annotation as it was filled in, or what is wrong by field."""
        services.design(name)
        typed = wanted.typed()
        return _answered(annotation_form.change(wanted.text, wanted.number, typed, wanted.digest, name))

    @router.post("/services/{name}/design/annotation/take-out")
    def without(name: str, wanted: WrittenPartBody) -> Response:
        """The text without an annotation."""
        services.design(name)
        left = annotation_form.take_out(wanted.text, wanted.number, wanted.digest)
        return JSONResponse({"text": left})
