"""Alerts: an incident becomes a message with its failing rows, masked as the portal masks them, and is sent.

Sending is a task of the durable queue, tried again for some hours; what nobody took is in the log, without its URL.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field

from tulle.catalog import history
from tulle.catalog.history import CheckView
from tulle.catalog.masking import unquoted, untold
from tulle.catalog.preview import may_show_text
from tulle.catalog.routes import Routes
from tulle.config import PRODUCTION, Settings
from tulle.control.workspace import Workspace
from tulle.errors import NotFound, TulleError, Unavailable
from tulle.observe import incidents
from tulle.observe.channels import Channels, Message
from tulle.observe.incidents import RECOVERED, TEST_QUERIES, Incident
from tulle.spec.product import DataProduct
from tulle.state import products, tasks
from tulle.state.tasks import Again, Apart, Running, Worker

LOG = logging.getLogger("tulle")
TRIES = (10.0, 60.0, 300.0, 1800.0, 3600.0, 3600.0)  # seconds until the next one
ROWS = 5
SENDERS = 4  # so that a receiver that is slow holds up no other channel
PAUSE_SECONDS = 0.5


class Alerts:
    """Follows what happens in one mesh and tells it."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        handlers, apart = {incidents.TASK: self.send}, Apart("channel")
        self._workers = [
            Worker(workspace.database, handlers, pause=PAUSE_SECONDS, apart=apart) for _ in range(SENDERS)
        ]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="alerts", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()
        for worker in self._workers:
            worker.start()

    def stop(self) -> None:
        """End; what is not sent is sent by the next one."""
        self._stop.set()
        for worker in self._workers:
            worker.stop(timeout=2 / SENDERS)
        self._thread.join(2)

    def _follow(self) -> None:
        while not self._stop.is_set():
            try:
                if incidents.follow(self._workspace.settings, self._workspace.database):
                    continue
            except Exception:
                LOG.exception("incidents are looked for again")
                self._stop.wait(5)
            self._stop.wait(PAUSE_SECONDS)

    def send(self, running: Running) -> Mapping[str, Any]:
        """The task: compose and send one message. Raises Again while that may help."""
        request, task = running.task.request, running.task
        incident = incidents.get(self._workspace.database, str(request["incident"]))
        if incident is None:
            return {"sent": False}
        event, name = str(request["event"]), str(request["channel"])
        if task.attempts > 1 and incident.closed_at is not None and event != RECOVERED:
            channel = self._workspace.settings.alerts.get(name)
            if channel is not None and RECOVERED in channel.on:
                return {"sent": False, "over": True}  # what is over is not told as new after its end
        message = compose(self._workspace, incident, event)
        try:
            Channels(self._workspace.settings, self._workspace.database).send(name, message)
        except TulleError as exc:
            LOG.warning("an alert was not taken: %s", exc.message)
            if isinstance(exc, Unavailable) and task.attempts <= len(TRIES):
                raise Again(TRIES[task.attempts - 1], exc) from None
            raise
        return {"sent": True}


def compose(workspace: Workspace, incident: Incident, event: str) -> Message:
    """What is told of an incident."""
    settings, database = workspace.settings, workspace.database
    portal = f"http://{settings.host}:{settings.control_plane_port}"
    run_id = incident.closed_by if event == RECOVERED else incident.run_id
    watch, _, service = incident.about.partition("/")
    link = f"{portal}/runs/{run_id}" if run_id else f"{portal}/products/{incident.product}"
    if watch == TEST_QUERIES:
        link = f"{portal}/services/{service}/deployments"
    elif service:
        link = f"{portal}/insight/apis/{service}{_in_environment(settings, incident.environment)}"
    what = f"{watch} of {service}" if service else watch
    where = incident.product + ("" if incident.environment == "main" else f" ({incident.environment})")
    titles = {
        "failed": f"{where}: the run failed",
        "checks": f"{where}: checks failed, nothing was published",
        "late": f"{where}: the data is late",
        "drift": f"{where}: what its services are asked has moved",
        "calls": f"{where}: {incident.severity}: {what}",
        RECOVERED: f"{where}: good again" + (f": {what}" if what else ""),
    }
    checks: tuple[CheckView, ...] = ()
    if event == "checks" and incident.run_id:
        try:
            view = history.run_view(database, incident.run_id, lambda name: _product(workspace, name))
        except NotFound:
            view = None
        checks = tuple(c for c in view.checks if not c.passed) if view else ()
    product = _product(workspace, incident.product)
    is_shown = may_show_text(product, is_document=False)
    said = unquoted(incident.message) if is_shown else untold(incident.message)
    lines = [said if event != RECOVERED else f"it was: {said}"]
    lines += [line for check in checks for line in _told(check)]
    data = {
        "event": event,
        "title": titles[event],
        "product": incident.product,
        "environment": incident.environment,
        "cause": incident.cause,
        "message": said,
        "incident": incident.id,
        "opened_at": incident.opened_at,
        "closed_at": incident.closed_at if event == RECOVERED else None,
        "run": run_id,
        "link": link,
        "checks": [_plain(check) for check in checks],
        **(
            {"watch": incident.about, "service": service, "severity": incident.severity}
            if incident.about
            else {}
        ),
    }
    return Message(titles[event], "\n".join([*lines, link]), data, f"{incident.id}/{event}")


def _in_environment(settings: Settings, branch: str) -> str:
    """What an address of insight has for the environment of a branch; nothing for that of consumers."""
    names = [name for name, one in settings.environments.items() if one.branch == branch]
    return f"?environment={names[0]}" if names and branch != PRODUCTION.branch else ""


def _product(workspace: Workspace, name: str) -> DataProduct | None:
    try:
        return products.applied_product(workspace.database, name).product
    except NotFound:
        return None


def _told(check: CheckView) -> list[str]:
    lines = [f"{check.name}: {check.message}"]
    if check.rows:
        lines.append("  " + " | ".join(check.columns))
    for row in check.rows[:ROWS]:
        cells = zip(check.columns, row, strict=True)
        lines.append("  " + " | ".join("•••" if name in check.masked else str(cell) for name, cell in cells))
    return lines


def _plain(check: CheckView) -> dict[str, Any]:
    return {
        "name": check.name,
        "data_set": check.data_set,
        "severity": check.severity,
        "message": check.message,
        "failing_count": check.failing_count,
        "total": check.total,
        "masked": sorted(check.masked),
        "rows": [dict(zip(check.columns, row, strict=True)) for row in check.rows[:ROWS]],
    }


# ── over HTTP ────────────────────────────────────────────────────────────────────────────────────────────


class UrlBody(BaseModel):
    """A channel's URL; it is never given back."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(max_length=4000)


def deliveries_of(workspace: Workspace, limit: int = 50) -> list[dict[str, Any]]:
    """What was sent where, the newest first; `over` is what was not sent as it was over by then."""
    return [
        {
            "product": task.subject,
            **task.request,
            "status": "over" if (task.result or {}).get("over") else task.status,
            "attempts": task.attempts,
            "error": (task.error or {}).get("message"),
            "updated_at": task.updated_at,
        }
        for task in tasks.recent(workspace.database, incidents.TASK, limit=limit)
    ]


def router(workspace: Workspace) -> Routes:
    """The routes on one mesh."""
    api = Routes(prefix="/mesh/v1")
    database = workspace.database

    @api.get("/alerts")
    def channels() -> dict[str, Any]:
        known = Channels(workspace.settings, database)
        return {
            "channels": [
                {
                    "name": name,
                    "type": channel.type,
                    "url": known.state(name),
                    "on": list(channel.on),
                    "products": None if channel.products is None else list(channel.products),
                    "domains": None if channel.domains is None else list(channel.domains),
                    "environments": list(channel.environments),
                }
                for name, channel in workspace.settings.alerts.items()
            ]
        }

    @api.get("/incidents")
    def list_incidents(product: str | None = None, open: bool = False, limit: int = 50) -> dict[str, Any]:  # noqa: A002  the name of the query
        found = incidents.recent(database, product=product, is_open=open, limit=max(1, min(limit, 1000)))
        return {"incidents": [asdict(one) for one in found]}

    @api.post("/alerts/{name}/url")
    def keep_url(name: str, body: UrlBody) -> dict[str, Any]:
        known = Channels(workspace.settings, database)
        known.keep_url(name, body.url)
        return {"name": name, "url": known.state(name)}

    @api.post("/alerts/{name}/test")
    def test(name: str) -> dict[str, Any]:
        title = f"{workspace.settings.name}: a test of the alert channel '{name}'"
        data = {"event": "test", "title": title, "message": "Nothing is wrong.", "checks": []}
        message = Message(title, "Nothing is wrong.", data, f"test/{uuid4().hex}")
        began = time.perf_counter()
        Channels(workspace.settings, database).send(name, message)
        return {"name": name, "sent": True, "seconds": time.perf_counter() - began}

    @api.get("/alerts/deliveries")
    def deliveries(limit: int = 50) -> dict[str, Any]:
        return {"deliveries": deliveries_of(workspace, max(1, min(limit, 1000)))}

    return api
