"""The composition root: settings in, the opened mesh and its ASGI application out. The only place that wires slices."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import httpx
from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles

from tulle.catalog import pages
from tulle.catalog.api_trial import LARGEST_ANSWER, ApiAnswer, ApiRequest, is_file
from tulle.catalog.page_values import ProcessView
from tulle.catalog.portal import Reader
from tulle.catalog.routes import RoutedLate
from tulle.catalog.trial import How, TryAnswer
from tulle.config import Settings
from tulle.control import (
    admin_keys,
    alerts,
    api,
    api_keys_api,
    api_policies_api,
    apis_api,
    application_api,
    applications,
    asking,
    batches,
    compare,
    connections,
    contract_notices,
    deployment_api,
    deployment_request,
    drift,
    exchange_api,
    gateway_api,
    grants,
    insight_api,
    look_ups,
    models,
    node_admin_api,
    offers,
    package_api,
    password_api,
    profiles,
    promotion,
    queries,
    query_collector,
    query_log,
    query_log_api,
    recorded,
    release_api,
    remarks_api,
    replay,
    schedules,
    service_access_api,
    service_drift,
    service_file_api,
    service_policies_api,
    trust_api,
    watches,
)
from tulle.control.autoscale import Autoscaler
from tulle.control.call_collector import CallCollector
from tulle.control.checks import router as check_routes
from tulle.control.deployment_hooks import DeploymentHooks
from tulle.control.deployment_queries import DeploymentQueries
from tulle.control.switchboard import Switchboard
from tulle.control.workspace import Workspace
from tulle.deploy import local
from tulle.errors import Invalid, LimitExceeded, TulleError, Unavailable
from tulle.gateway.apis.records import Followed
from tulle.gateway.apis.sight import Sight
from tulle.gateway.applications import Credentials
from tulle.gateway.own_call import calling, own_address
from tulle.gateway.policy import RateLimit
from tulle.observe import exposition
from tulle.observe.calls import Calls
from tulle.pipeline import run_end
from tulle.pipeline.mesh_lake import open_mesh_lake
from tulle.pipeline.scheduler import Scheduler
from tulle.server import doors, lake_doors
from tulle.serving import generation
from tulle.serving.filler import Filler
from tulle.serving.refresh import Refresher
from tulle.spec.capability import load_registry
from tulle.spec.tier import mesh_tiers
from tulle.state.db import open_database

LOG = logging.getLogger("tulle")
SETTLE_EVERY = 0.2  # seconds
TRY_SECONDS = 300.0  # a request that is tried may take
API_SECONDS = 60.0  # the same of an API: to begin to answer, and to end
MOST_TRIED = 8  # requests to APIs at a time: each has one of the threads that pages and doors are answered by
DRIFT_EVERY = 120.0
DRIFT_AFTER = 20.0  # first: a mesh that starts has other things to do


class Background(Protocol):
    """What the running control plane does beside answering calls."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """End; what is under way is taken up again by the next one."""


def open_workspace(settings: Settings) -> Workspace:
    """Open the stores of a mesh."""
    try:
        RateLimit.parse(settings.default_rate_limit)
    except Invalid as exc:
        raise Invalid(f"setting 'default_rate_limit': {exc.message}", hint=exc.hint) from None
    mesh_tiers(settings)
    settings.state_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    database = open_database(settings.database_url)
    return Workspace(settings, database, open_mesh_lake(settings, database), load_registry(settings))


def application(settings: Settings, *, resident: bool = False) -> lake_doors.Front:
    """The control plane as an ASGI application.

    `resident`: it is the mesh's running control plane, which keeps the gateway in step with what is recorded;
    else it answers the calls of one command.
    """
    workspace = open_workspace(settings)
    work = lake_doors.LakeWork(workspace.lake, settings)
    offers.record_mesh_tiers(workspace)
    switchboard = Switchboard(workspace)
    trials = Trials(workspace)
    calls = Calls(settings.state_folder)
    background = _background(workspace, work, calls)
    autoscaler = Autoscaler(workspace)

    def settle() -> None:
        trials.follow_deployments()
        switchboard.settle()
        autoscaler.look()

    def settle_now() -> bool:
        """After a call recorded something: what is recorded stands, whether or not the gateway follows at once."""
        try:
            settle() if resident else switchboard.settle_for_later()
        except Exception:
            LOG.exception("what was recorded is not in force at the gateway yet; it is tried again")
            return False
        return True

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        stop = threading.Event()
        keeper = threading.Thread(target=_keep, args=(workspace, settle, stop), name="keeper", daemon=True)
        if resident:
            await asyncio.to_thread(trials.sign_in)
            keeper.start()
            for one in background:
                one.start()
        yield
        stop.set()
        if resident:
            for one in reversed(background):
                one.stop()
            keeper.join(5)

    app = RoutedLate(
        title="Tulle", docs_url=None, redoc_url=None, openapi_url="/mesh/v1/openapi.json", lifespan=lifespan
    )
    app.state.close = workspace.database.close
    access = lake_doors.lake_access(settings, workspace.database)
    doors.guard(
        app,
        settings,
        _render_failure,
        lambda header: lake_doors.user_of(access, header),
        lambda header: admin_keys.who(workspace.database, header),
    )

    @app.get("/alive", include_in_schema=False)
    def alive() -> Response:
        return JSONResponse({"alive": True})

    sight = Sight(workspace.database, access)

    @app.get(doors.METRICS, include_in_schema=False)
    def metrics(request: Request) -> Response:
        """What services were asked, for Prometheus; without a token, of those that everybody finds."""
        kind = exposition.content_type(request.headers.get("accept", ""))
        user = asking.user_of(request)
        tells = (lambda _: True) if user is None else sight.names(user).__contains__
        text = exposition.exposed(calls, is_open=kind == exposition.OPEN, tells=tells)
        return Response(text, media_type=kind)

    hidden = Depends(asking.hides(workspace, access))
    for routes in (
        api.router(workspace, settle_now),
        application_api.router(workspace, settle_now, access),
        service_access_api.router(workspace, settle_now, access),
        service_policies_api.router(workspace, settle_now, access),
        node_admin_api.router(workspace, settle_now),
        trust_api.router(workspace, settle_now),
        gateway_api.router(workspace, switchboard, settle_now),
        deployment_api.router(workspace, settle_now, access),
        apis_api.router(workspace, settle_now, access, calls),
        api_keys_api.router(workspace, settle_now, access),
        api_policies_api.router(workspace, settle_now, access),
        remarks_api.router(workspace, access),
        package_api.router(workspace),
        compare.router(workspace),
        check_routes(workspace),
        profiles.router(workspace),
        look_ups.router(workspace),
        asking.for_who_may_change(workspace, access, queries.router(workspace, access)),
        asking.for_who_may_change(workspace, access, recorded.router(workspace)),
        asking.for_who_may_change(workspace, access, service_file_api.router(workspace)),
        batches.router(workspace),
        models.router(workspace),
        release_api.router(workspace, access),
        schedules.router(workspace),
        connections.router(workspace),
        password_api.router(access, settle_now),
        alerts.router(workspace),
        insight_api.router(workspace, calls),
        insight_api.watch_router(workspace),
        replay.router(workspace),
        asking.for_who_may_read_log(workspace, access, query_log_api.router(workspace)),
        asking.for_who_may_read_log(workspace, access, service_drift.router(workspace)),
    ):
        app.include(routes, dependencies=[hidden])
    reader = Reader(
        settings,
        workspace.database,
        workspace.lake,
        workspace.registry,
        lambda: _processes(settings),
        lambda service: query_log.collect_all(workspace, service),
        calls,
        access,
    )
    workspace.followers.append(reader.take_up)
    app.include(exchange_api.router(reader.exchange))
    app.include(pages.portal(reader, trials.call, trials.send), include_in_schema=False)
    app.mount("/static", StaticFiles(directory=Path(pages.__file__).parent / "static"), name="static")
    return lake_doors.Front(
        app,
        lake_doors.rest(settings, workspace.lake, access),
        lambda host: host in doors.hosts(settings),
        work,
    )


def _background(workspace: Workspace, work: Background, calls: Calls) -> Sequence[Background]:
    """What runs beside the answering of calls, in the order in which it is started."""
    apis = Followed(workspace.database)
    return (
        work,
        Scheduler(workspace.settings, workspace.database),
        alerts.Alerts(workspace),
        DeploymentHooks(workspace),
        DeploymentQueries(workspace),
        contract_notices.ContractNotices(workspace),
        profiles.Profiles(workspace),
        Refresher(workspace.settings, workspace.lake),
        Filler(workspace.settings, workspace.database, workspace.lake),
        query_collector.Collector(workspace),
        service_drift.DriftWatch(workspace),
        CallCollector(workspace, calls, lambda until: watches.judge(workspace, calls, until, apis.look())),
    )


def _render_failure(request: Request, status: int, exc: TulleError) -> Response:
    if request.scope["path"].startswith(doors.ADMIN_API):
        return doors.node_failure(status, exc)
    if request.url.path.startswith("/mesh/") or "text/html" not in request.headers.get("accept", ""):
        return doors.answer_in_json(request, status, exc)
    return pages.render_failure(request, status, exc)


def _keep(workspace: Workspace, settle: Callable[[], None], stop: threading.Event) -> None:
    """Keep the recorded and the real in step until told to stop; no failure ends it, or holds up anything else."""
    last: list[str] = []
    # At once: whoever starts a mesh waits until what was recorded before is in force.
    pause, looked = 0.0, time.monotonic() - DRIFT_EVERY + DRIFT_AFTER
    duties: Mapping[str, Callable[[], object]] = {
        "runs": lambda: run_end.recover(workspace.database),
        "promotions": lambda: promotion.keep(workspace),
        "deployments": lambda: deployment_request.keep(workspace),
        "contracts": lambda: contract_notices.keep(workspace),
        "the gateway": settle,
    }
    while not stop.wait(pause):
        if time.monotonic() - looked >= DRIFT_EVERY:
            looked = time.monotonic()
            threading.Thread(target=_look_for_drift, args=(workspace,), name="drift", daemon=True).start()
        failed = [f"{what}: {exc}" for what, duty in duties.items() if (exc := _failure(duty)) is not None]
        if failed and failed != last:
            LOG.warning("not yet as it should be: %s", "; ".join(failed))
        # Each try costs Envoy a validation.
        last, pause = failed, min(pause * 2, 10.0) if failed else SETTLE_EVERY


def _failure(duty: Callable[[], object]) -> Exception | None:
    try:
        duty()
    except Exception as exc:  # noqa: BLE001  it must go on, whatever it met
        return exc
    return None


def _look_for_drift(workspace: Workspace) -> None:
    """In a thread of its own: a large mesh takes longer than the gateway may wait."""
    try:
        grants.end_what_ended(workspace)
        grants.follow_logs(workspace)
        drift.look(workspace)
    except Exception as exc:  # noqa: BLE001  the next look may find what this one could not
        LOG.warning("drift could not be looked for: %s", exc)


def _text(body: bytes, encoding: str | None) -> str:
    """An answer's body as text, in the encoding that it says where that is one of texts."""
    try:
        return body.decode(encoding or "utf-8", "replace")
    except LookupError:  # `hex` is an encoding too, though not one of texts
        return body.decode("utf-8", "replace")


def _processes(settings: Settings) -> Sequence[ProcessView]:
    return [
        ProcessView(p.name, p.kind, p.state, p.url, p.restarts, p.why)
        for p in local.processes(settings).values()
    ]


class Trials:
    """Calls services through the gateway for the portal's pages, as the portal's own application."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._apis = Followed(workspace.database)
        self._credentials: Credentials | None = None
        self._trying = threading.BoundedSemaphore(MOST_TRIED)

    def sign_in(self) -> None:
        """Make this process's credentials."""
        self._credentials = applications.sign_in_portal(self._workspace)

    def follow_deployments(self) -> None:
        """Let the portal call whatever is deployed, and every API."""
        names = {d.service for d in generation.everywhere(self._workspace.database)}
        names |= {api.name for api in self._apis.look()}
        applications.grant_portal(self._workspace, names)

    def call(
        self,
        service: str,
        endpoint: str,
        action: str,
        body: bytes,
        credentials: tuple[str, str] | None = None,
        how: How = How(),  # noqa: B008  it never changes
    ) -> TryAnswer:
        """Send `body` to an endpoint through the gateway. Unavailable when the gateway does not answer."""
        settings = self._workspace.settings
        if credentials is None:
            if self._credentials is None:
                raise Unavailable("the mesh is not up, so there is no gateway to try", hint="`tulle up`")
            credentials = (self._credentials.client_id, self._credentials.client_secret)
        place = f"/{how.environment}" if how.environment else ""
        path = f"{place}/public/api/v1/{service}/{endpoint}/{action}"
        headers = {
            b"client_id": credentials[0].encode(),
            b"client_secret": credentials[1].encode(),
            b"content-type": b"application/json",
            **how.headers(),
        }
        began = time.perf_counter()
        try:
            with calling(settings, timeout=TRY_SECONDS) as client:
                answer = client.post(path, content=body, headers=headers)
        except (httpx.TransportError, ValueError) as exc:
            raise Unavailable(f"the gateway does not answer: {exc}", hint="`tulle status`") from exc
        took = (time.perf_counter() - began) * 1000
        return TryAnswer(answer.status_code, dict(answer.headers), answer.text, took)

    def send(self, wanted: ApiRequest) -> ApiAnswer:
        """Send a request to an API through the gateway, and nowhere else. Unavailable when it does not answer."""
        settings = self._workspace.settings
        url = httpx.URL(own_address(settings)).copy_with(raw_path=wanted.target.encode("ascii"))
        headers = {**wanted.headers, **({"host": wanted.host} if wanted.host else {})}
        if not self._trying.acquire(blocking=False):
            raise LimitExceeded(
                f"{MOST_TRIED} requests to APIs are tried at a time", hint="try again in a moment"
            )
        began = time.perf_counter()
        body = bytearray()
        try:
            with (
                calling(settings, timeout=API_SECONDS) as client,
                client.stream(wanted.method, url, headers=headers, content=wanted.body) as answer,
            ):
                is_cut = False
                for part in answer.iter_bytes():
                    body += part[: LARGEST_ANSWER + 1 - len(body)]
                    is_cut = len(body) > LARGEST_ANSWER or time.perf_counter() - began > API_SECONDS
                    if is_cut:
                        break
        except (httpx.TransportError, httpx.DecodingError, ValueError) as exc:
            raise Unavailable(f"the gateway does not answer: {exc}", hint="`tulle status`") from exc
        finally:
            self._trying.release()
        took = (time.perf_counter() - began) * 1000
        whole, headers = bytes(body[:LARGEST_ANSWER]), dict(answer.headers)
        if is_file(answer.headers.get("content-type", ""), whole):
            return ApiAnswer(answer.status_code, headers, "", took, whole, is_cut)
        return ApiAnswer(answer.status_code, headers, _text(whole, answer.encoding), took, None, is_cut)
