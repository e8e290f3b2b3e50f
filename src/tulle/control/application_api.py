"""Applications, what they ask for and who decides, over HTTP below `/mesh/v1`: parses, calls one function, renders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from fastapi import Query, Request
from pydantic import BaseModel, ConfigDict, Field

from tulle.catalog.routes import Routes
from tulle.catalog.uses import LONGEST_PLACE
from tulle.control import access_overview, access_requests, application_hooks, applications
from tulle.control.access_requests import Asked, Said
from tulle.control.asking import AskedBy, user_of
from tulle.control.workspace import Workspace
from tulle.errors import Invalid
from tulle.gateway import contract_record
from tulle.gateway.applications import About
from tulle.gateway.contract_record import ContractRecord, Place
from tulle.gateway.last_used import last_used
from tulle.lake.access import Access
from tulle.spec.tier import limits_in_words, parse_limits

Settle = Callable[[], bool]
Name = Annotated[str | None, Query(max_length=127)]
Short = Annotated[str, Field(max_length=255)]
Long = Annotated[str, Field(max_length=2000)]


class Body(BaseModel):
    """A request body: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class ApplicationBody(Body):
    """An application to register."""

    name: Short
    owner: Short = ""
    owners: list[Short] = Field([], max_length=20)
    description: Long = ""
    purpose: Long = ""
    contact: Short = ""
    expires: str | None = Field(None, max_length=50)
    services: Mapping[str, str | None] = {}


class ApplicationChangeBody(Body):
    """What is to be another of an application; what is left out stays."""

    owners: list[Short] | None = Field(None, max_length=20)
    description: Long | None = None
    purpose: Long | None = None
    contact: Short | None = None


class RotationBody(Body):
    """How a secret is replaced: for how long the old one goes on (24h; 0: not at all), when the new one ends."""

    overlap: str = Field(applications.USUAL_OVERLAP, max_length=50)
    expires: str | None = Field(None, max_length=50)


class ContractBody(Body):
    """What an application may call, how often; no limit: not at all."""

    service: Short
    limit: str | None = Field(None, max_length=500)


class RequestBody(Body):
    """What access is asked for: to an API or a product, under a tier, for a purpose, accepting the terms."""

    application: Short
    api: Short | None = None
    product: Short | None = None
    tier: Short = ""
    purpose: Long = ""
    terms: Short = ""
    environment: Short | None = None
    version: Short = ""


class DecisionBody(Body):
    """What comes with a decision: another tier, limits of its own, a reason, an end (90d, a date, never)."""

    tier: Short = ""
    limits: str = Field("", max_length=500)
    reason: Long = ""
    expires: str = Field("", max_length=50)


class HookBody(Body):
    """Where an application's steps are told to."""

    url: Annotated[str, Field(max_length=application_hooks.LONGEST_URL)]


class TermsBody(Body):
    """Which version of the terms is accepted."""

    version: Short


def router(workspace: Workspace, settle: Settle, access: Access) -> Routes:
    """The API of applications and contracts; `settle` makes the gateway follow at once, and tells whether it did."""
    api = Routes(prefix="/mesh/v1")
    _application_routes(api, workspace, settle)
    _secret_routes(api, workspace, settle)
    _contract_routes(api, workspace, settle, access)
    _decision_routes(api, workspace, settle, access)
    _hook_routes(api, workspace)
    return api


def _application_routes(api: Routes, workspace: Workspace, settle: Settle) -> None:
    @api.get("/applications")
    def list_applications(
        request: Request,
        q: Annotated[str, Query(max_length=63)] = "",
        after: Annotated[str, Query(max_length=127)] = "",
        limit: Annotated[int, Query(ge=1, le=applications.MOST_SHOWN)] = 200,
    ) -> dict[str, Any]:
        found = applications.visible(workspace, containing=q, after=after, limit=limit, user=user_of(request))
        clients = [one.client_id for one in found]
        used = applications.by_client(last_used(workspace.database, clients=clients))
        is_more = len(found) == limit
        return {
            "applications": [applications.as_plain(a, used) for a in found],
            "next": applications.place_of(found[-1]) if is_more else None,
        }

    @api.post("/applications", status_code=201)
    def create(request: Request, by: AskedBy, body: ApplicationBody) -> dict[str, Any]:
        owners = tuple(dict.fromkeys((*([body.owner] if body.owner else []), *body.owners)))
        made = applications.create(
            workspace,
            body.name,
            about=About(owners, body.description, body.purpose, body.contact),
            services=body.services,
            expires=body.expires or None,
            actor=by,
            user=user_of(request),
        )
        settle()
        return applications.as_shown_once(made)

    @api.get("/applications/{name}")
    def one(request: Request, name: str) -> dict[str, Any]:
        found = applications.one(workspace, name, user=user_of(request))
        used = last_used(workspace.database, clients=[found.client_id])
        records = contract_record.records(workspace.database, application=found.client_id)
        return {
            **applications.as_plain(found, applications.by_client(used)),
            "requests": access_requests.all_as_plain(workspace, records, used),
        }

    @api.patch("/applications/{name}")
    def change(request: Request, by: AskedBy, name: str, body: ApplicationChangeBody) -> dict[str, Any]:
        said = body.model_dump(exclude_none=True)
        changed = applications.change(workspace, name, said, actor=by, user=user_of(request))
        return applications.as_plain(changed, {})

    @api.delete("/applications/{name}")
    def revoke(request: Request, by: AskedBy, name: str) -> dict[str, Any]:
        applications.revoke(workspace, name, actor=by, user=user_of(request))
        return {"name": name, "revoked": True, "in_force": settle()}

    @api.post("/applications/{name}/contracts")
    def contract(by: AskedBy, name: str, body: ContractBody) -> dict[str, Any]:
        limits = parse_limits(body.limit) if body.limit is not None else None
        applications.change_contract(workspace, name, body.service, limits, actor=by)
        text = limits_in_words(limits) if limits else None
        return {"name": name, "service": body.service, "limit": text, "in_force": settle()}


def _secret_routes(api: Routes, workspace: Workspace, settle: Settle) -> None:
    @api.post("/applications/{name}/rotate")
    def rotate(request: Request, by: AskedBy, name: str, body: RotationBody | None = None) -> dict[str, Any]:
        said = body or RotationBody(overlap=applications.USUAL_OVERLAP, expires=None)
        made = applications.rotate(
            workspace,
            name,
            overlap=said.overlap,
            expires=said.expires or None,
            actor=by,
            user=user_of(request),
        )
        return {**applications.as_shown_once(made), "in_force": settle()}

    @api.delete("/applications/{name}/former-secret")
    def end_former(request: Request, by: AskedBy, name: str) -> dict[str, Any]:
        ended = applications.end_former(workspace, name, actor=by, user=user_of(request))
        return {"name": name, "ended": ended, "in_force": settle()}


def _contract_routes(api: Routes, workspace: Workspace, settle: Settle, access: Access) -> None:
    def offer(request: Request, place: Place) -> dict[str, Any]:
        access_requests.demand_seen(workspace, access, place, user_of(request))
        found = access_requests.offer_for(workspace, place.kind, place.subject)
        for_owners = access_requests.may_decide(workspace, access, place, user_of(request))
        plain = access_requests.offer_as_plain(found, for_owners=for_owners)
        return {place.kind: place.subject, **plain}

    @api.get("/services/{name}/offer")
    def api_offer(request: Request, name: str) -> dict[str, Any]:
        return offer(request, Place("api", name))

    @api.get("/products/{name}/offer")
    def product_offer(request: Request, name: str) -> dict[str, Any]:
        return offer(request, Place("product", name))

    @api.get("/contracts")
    def contracts(
        request: Request,
        state: Annotated[list[str] | None, Query(max_length=10)] = None,
        application: Name = None,
        service: Name = None,
        product: Name = None,
        before: Annotated[str, Query(max_length=100)] = "",
        limit: Annotated[int, Query(ge=1, le=access_requests.MOST_SHOWN)] = 100,
    ) -> dict[str, Any]:
        found = access_requests.listed(
            workspace,
            access,
            states=tuple(state or ()),
            application=application,
            api=service,
            product=product,
            before=_moment(before),
            limit=limit,
            user=user_of(request),
        )
        used = last_used(workspace.database, clients={one.client_id for one in found})
        return {
            "contracts": access_requests.all_as_plain(workspace, found, used),
            "before": f"{found[-1].requested_at!r}/{found[-1].id}" if len(found) == limit else None,
        }

    @api.post("/contracts", status_code=201)
    def ask(request: Request, by: AskedBy, body: RequestBody) -> dict[str, Any]:
        if (body.api is None) == (body.product is None):
            raise Invalid("what access is asked for is not said", hint="give either `api` or `product`")
        asked = Asked(
            application=body.application,
            subject=body.api or body.product or "",
            kind="api" if body.api is not None else "product",
            tier=body.tier,
            purpose=body.purpose,
            terms=body.terms,
            environment=body.environment,
            version=body.version,
        )
        made = access_requests.ask(workspace, access, asked, by=by, user=user_of(request))
        return _shown(workspace, made, settle)

    @api.get("/access")
    def who(
        request: Request,
        product: Name = None,
        service: Name = None,
        application: Name = None,
        after: Annotated[str, Query(max_length=LONGEST_PLACE)] = "",
        limit: Annotated[int, Query(ge=1, le=access_overview.MOST_SHOWN)] = 1000,
    ) -> dict[str, Any]:
        found, next_ = access_overview.overview(
            workspace,
            access,
            product=product,
            api=service,
            application=application,
            user=user_of(request),
            after=after,
            limit=limit,
        )
        return {"access": [access_overview.as_plain(use) for use in found], "next": next_}


def _decision_routes(api: Routes, workspace: Workspace, settle: Settle, access: Access) -> None:
    @api.get("/contracts/{id_}")
    def one(request: Request, id_: str) -> dict[str, Any]:
        record = access_requests.seen(workspace, access, id_, user=user_of(request))
        used = last_used(workspace.database, clients=[record.client_id])
        return access_requests.as_plain(workspace, record, used)

    @api.post("/contracts/{id_}/{step}")
    def decide(
        request: Request,
        by: AskedBy,
        id_: str,
        step: Literal["approve", "reject", "revoke", "restore", "change"],
        body: DecisionBody | None = None,
    ) -> dict[str, Any]:
        said = Said(**body.model_dump()) if body is not None else Said()
        made = access_requests.decide(workspace, access, id_, step, said, by=by, user=user_of(request))
        return _shown(workspace, made, settle)

    @api.get("/contracts/{id_}/terms")
    def terms(request: Request, id_: str) -> dict[str, Any]:
        """The text that was accepted, as it was then."""
        return access_requests.accepted_terms(workspace, access, id_, user=user_of(request))

    @api.put("/contracts/{id_}/terms")
    def accept(request: Request, by: AskedBy, id_: str, body: TermsBody) -> dict[str, Any]:
        made = access_requests.accept_terms(workspace, id_, body.version, by=by, user=user_of(request))
        return access_requests.as_plain(workspace, made)

    @api.delete("/contracts/{id_}")
    def delete(request: Request, by: AskedBy, id_: str) -> dict[str, Any]:
        made = access_requests.decide(workspace, access, id_, "delete", by=by, user=user_of(request))
        return _shown(workspace, made, settle)


def _hook_routes(api: Routes, workspace: Workspace) -> None:
    @api.put("/applications/{name}/hook")
    def set_hook(request: Request, by: AskedBy, name: str, body: HookBody) -> dict[str, Any]:
        """Tell a URL of the application's steps; with the secret that signs, this one time."""
        return application_hooks.set_hook(workspace, name, body.url, actor=by, user=user_of(request))

    @api.delete("/applications/{name}/hook")
    def remove_hook(request: Request, by: AskedBy, name: str) -> dict[str, Any]:
        removed = application_hooks.remove_hook(workspace, name, actor=by, user=user_of(request))
        return {"name": name, "removed": removed}


def _moment(said: str) -> contract_record.Moment | None:
    """Where a page ended, or a time alone. Invalid."""
    if not said:
        return None
    at, _, id_ = said.partition("/")
    try:
        return float(at), id_
    except ValueError:
        raise Invalid(
            f"`before` is no time: '{at}'", hint="give `before` of a page, or seconds since the epoch"
        ) from None


def _shown(workspace: Workspace, record: ContractRecord, settle: Settle) -> dict[str, Any]:
    """A contract, and whether the gateway has confirmed that it goes by it."""
    followed = settle()
    return {**access_requests.as_plain(workspace, record), "gateway_follows": followed}
