"""Telling people of each step of a contract, of secrets that end, and of what is said of an API.

On the channels that take `access`. Follows the log of events; a message is a task of the durable queue, asked for in
the transaction in which the event was seen, and tried again for some hours. Also says of contracts that ended that
they have. Decides nothing.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Final

from sqlalchemy import Connection

from tulle import events
from tulle.control import apis, application_hooks
from tulle.control.alerts import TRIES
from tulle.control.application_people import addresses_of
from tulle.control.pace import Pace
from tulle.control.workspace import Workspace
from tulle.errors import NotFound, TulleError, Unavailable
from tulle.gateway import application_secret, applications, contract_step
from tulle.gateway.apis import records
from tulle.gateway.holders import holders
from tulle.observe.channels import Channels, Message
from tulle.observe.incidents import takes
from tulle.spec import environment as declared
from tulle.state import followers, products, tasks
from tulle.state.log import LogEntry
from tulle.state.tasks import Again, Running, Worker

LOG = logging.getLogger("tulle")
NAME: Final = "contract notices"
TASK: Final = "contract-notice"
EVENT: Final = "access"  # as channels name it
PAUSE_SECONDS: Final = 0.5
MAILS_AN_HOUR: Final = 200  # to one address; more than one person can have sent by what they do
_STEPS: Final[Mapping[str, str]] = {
    events.CONTRACT_REQUESTED: "asks for access to",
    events.CONTRACT_APPROVED: "may call",
    events.CONTRACT_REJECTED: "was refused access to",
    events.CONTRACT_CHANGED: "has other limits at",
    events.CONTRACT_REVOKED: "may no longer call",
    events.CONTRACT_RESTORED: "may again call",
    events.CONTRACT_EXPIRING: "will soon no longer be let in at",
    events.CONTRACT_EXPIRED: "is no longer let in at",
    events.CONTRACT_DELETED: "has given up its access to",
}
_SECRETS: Final[Mapping[str, str]] = {
    events.APPLICATION_ROTATED: "has a new secret",
    events.APPLICATION_SECRET_ENDS: "has a secret that ends soon: rotate it",
    events.APPLICATION_REVOKED: "is revoked",
}

_REMARKS: Final[Mapping[str, str]] = {
    events.API_ASKED: "there is a question about API",
    events.API_ANSWERED: "there is an answer to a question about API",
    events.API_RATED: "there is a rating of API",
}

_ENDS: Final[Mapping[str, str]] = {"deprecated": "is deprecated", "retired": "has ended"}
_OURS: Final = (applications.PORTAL, "of-service-")  # what applications of the mesh's own are called by
_MOST_TOLD: Final = 100_000  # applications with a contract for an API that ends


def keep(workspace: Workspace) -> None:
    """Say of contracts that have ended that they have, and tell of those and of secrets that end soon."""
    contract_step.keep(workspace.database)
    application_secret.tell_ends(workspace.database)


class ContractNotices:
    """Follows what happens to the contracts of one mesh and tells it; one a control plane."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._mails = Pace(MAILS_AN_HOUR)
        self._worker = Worker(workspace.database, {TASK: self.send}, pause=PAUSE_SECONDS)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="contract-notices", daemon=True)

    def start(self) -> None:
        """Begin. There may be nobody to tell now, and an application's webhook a moment later."""
        self._thread.start()
        self._worker.start()

    def stop(self) -> None:
        """End; what is not sent is sent by the next one."""
        self._stop.set()
        if self._thread.is_alive():
            self._worker.stop(timeout=2)
            self._thread.join(2)

    def _follow(self) -> None:
        while not self._stop.is_set():
            try:
                if follow(self._workspace):
                    continue
            except Exception:
                LOG.exception("what happened to contracts is looked for again")
                self._stop.wait(5)
            self._stop.wait(PAUSE_SECONDS)

    def send(self, running: Running) -> Mapping[str, Any]:
        """The task: compose and send one message. Raises Again while that may help."""
        request = running.task.request
        message, to = compose(self._workspace, request), str(request.get("to", ""))
        if to and running.task.attempts == 1 and not self._mails.takes(to.lower()):
            LOG.warning(
                "%s has had %d messages within the last hour: '%s' is not sent",
                to,
                MAILS_AN_HOUR,
                message.title,
            )
            return {"sent": False}
        try:
            if client_id := request.get("hook"):
                application_hooks.send(self._workspace, str(client_id), message)
            else:
                Channels(self._workspace.settings, self._workspace.database).send(
                    str(request["channel"]), message, to=to
                )
        except TulleError as exc:
            LOG.warning("a message about a contract was not taken: %s", exc.message)
            if isinstance(exc, Unavailable) and running.task.attempts <= len(TRIES):
                raise Again(TRIES[running.task.attempts - 1], exc) from None
            raise
        return {"sent": True}


def follow(workspace: Workspace) -> int:
    """Ask for the messages about what happened since; how many events there were."""
    database = workspace.database
    if followers.begin(database, NAME):
        return 0
    position, found = followers.unseen(database, NAME)
    if not found:
        return 0
    wanted = [(entry, _product_of(workspace, entry)) for entry in found if _is_told(entry)]
    people = [one for entry in found for one in _people(workspace, entry)]
    with database.write() as cx:
        if not followers.move(cx, NAME, position, found[-1].id):
            return 0
        for entry, product in wanted:
            _ask(cx, workspace, entry, product)
        for entry, client_id, ways in people:
            for number, way in enumerate(ways):
                tasks.ask(
                    cx, TASK, entry.subject, {**_request(entry, ""), **way, "of": client_id, "way": number}
                )
    return len(found)


def _people(workspace: Workspace, entry: LogEntry) -> Iterator[tuple[LogEntry, str, list[dict[str, str]]]]:
    """How the people of each application that an event concerns are told of it themselves."""
    if entry.kind in _STEPS or entry.kind in _SECRETS:
        concerned = [str(entry.data.get("client_id", ""))] if _is_told(entry) else []
    elif entry.kind == events.API_CHANGED and entry.data.get("status") in _ENDS:
        held = holders(workspace.database).get(entry.subject.removeprefix("api:"), ())
        concerned = [one.client_id for one in held if not one.application.startswith(_OURS)][:_MOST_TOLD]
    else:
        concerned = []
    channel = workspace.settings.contact_channel
    for client_id in dict.fromkeys(concerned):
        about = applications.about(workspace.database, client_id)
        if about is None:
            continue
        ways = [{"channel": channel, "to": one} for one in addresses_of(workspace, about)]
        if application_hooks.has_hook(workspace, client_id):
            ways.append({"hook": client_id})
        if ways:
            yield entry, client_id, ways


def _is_told(entry: LogEntry) -> bool:
    """What people did; the portal's own comings and goings, and those of services, concern nobody."""
    if entry.kind in _REMARKS:
        return bool(entry.data.get("text")) or entry.data.get("stars") is not None
    if entry.kind not in _STEPS and entry.kind not in _SECRETS:
        return False
    return not entry.subject.removeprefix("application:").startswith(_OURS)


def _product_of(workspace: Workspace, entry: LogEntry) -> str:
    if (name := entry.data.get("product")) is not None:
        return str(name)
    name = entry.subject.removeprefix("api:") if entry.kind in _REMARKS else entry.data.get("service")
    try:
        return apis.product_of(workspace, str(name))
    except TulleError:  # the service is gone, or the event is of an application alone
        return ""


def _ask(cx: Connection, workspace: Workspace, entry: LogEntry, product: str) -> None:
    settings = workspace.settings
    domain, named = "", set[str]()
    if product:
        try:
            document = products.applied_product(workspace.database, product).product
            domain, named = document.domain, set(document.alerts)
        except NotFound:
            pass
    place = str(entry.data.get("environment") or "")
    branch = settings.environments[place].branch if place in settings.environments else ""
    branch = branch or declared.production(settings).branch
    for name, channel in settings.alerts.items():
        if takes(channel, EVENT, product, domain, branch, is_named=name in named):
            tasks.ask(cx, TASK, product or entry.subject, {**_request(entry, product), "channel": name})


def _request(entry: LogEntry, product: str) -> dict[str, Any]:
    return {
        "event": entry.id,
        "kind": entry.kind,
        "subject": entry.subject,
        "actor": entry.actor,
        "at": entry.at,
        "product": product,
        "data": dict(entry.data),
    }


def compose(workspace: Workspace, request: Mapping[str, Any]) -> Message:
    """What is told of one event; never a secret, of which events hold none.

    What an application's people write is not in mail to those they name, who may be anybody.
    """
    settings, kind = workspace.settings, str(request["kind"])
    theirs = {"purpose", "reason"} if kind == events.CONTRACT_DELETED else {"purpose"}
    data = {key: value for key, value in request["data"].items() if not (request.get("to") and key in theirs)}
    portal = f"http://{settings.host}:{settings.control_plane_port}"
    name = str(request["subject"]).removeprefix("application:")
    if kind in _REMARKS:
        return _about_remark(request, portal)
    if kind == events.API_CHANGED:
        return _about_end(request, portal)
    if kind in _SECRETS:
        title = f"application '{name}' {_SECRETS[kind]}"
    else:
        of_what = "service" if data.get("kind") == "api" else "product"
        is_api = of_what == "service" and data.get(of_what) in records.owners(workspace.database)
        is_first = kind == events.CONTRACT_CHANGED and data.get("before", "") is None  # agreed at once
        step = _STEPS[events.CONTRACT_APPROVED if is_first else kind]
        title = f"application '{name}' {step} {'API' if is_api else of_what} '{data.get(of_what)}'"
    lines = [
        f"{what}: {value}"
        for what, value in (
            ("by", request["actor"]),
            ("tier", data.get("tier")),
            ("limits", data.get("after")),
            ("purpose", data.get("purpose")),
            ("reason", data.get("reason")),
            ("until", _day(data.get("until"))),
            ("the old secret goes on until", _day(data.get("former_until"))),
        )
        if value
    ]
    of = request.get("of")
    if kind == events.CONTRACT_REQUESTED and data.get("state") == "pending" and not of:
        lines.append(f"decide: tulle app approve {data['contract']}, or reject it with a reason")
    link = f"{portal}/applications"
    if of:
        link += f"/{name}"
    elif kind == events.CONTRACT_REQUESTED:
        link = f"{portal}/access/requests"
    told = {
        "event": EVENT,
        "step": kind,
        "title": title,
        "application": name,
        "product": request["product"],
        "by": request["actor"],
        "at": request["at"],
        "link": link,
        **{key: value for key, value in data.items() if key != "product"},
    }
    return Message(title, "\n".join([*lines, link]), told, _key(request))


def _key(request: Mapping[str, Any]) -> str:
    """The same for the same message to the same people."""
    of = f"/{request['of']}/{request['way']}" if request.get("of") else ""
    return f"contract/{request['event']}{of}"


def _about_end(request: Mapping[str, Any], portal: str) -> Message:
    """That a version of an API ends, for an application that may call it."""
    data, name = request["data"], str(request["subject"]).removeprefix("api:")
    version, status, sunset = data.get("version"), str(data.get("status")), data.get("sunset_at")
    title = f"API '{name}' {version} {_ENDS[status]}"
    if status == "deprecated" and sunset:
        title += f", and ends on {_day(sunset)}"
    after = str(data.get("successor") or "")
    link = f"{portal}/exchange/apis/{name}"
    lines = [f"by: {request['actor']}", f"after it comes: {after}" if after else "", link]
    told = {
        "event": EVENT,
        "step": request["kind"],
        "title": title,
        "api": name,
        "client_id": request["of"],
        "by": request["actor"],
        "at": request["at"],
        "link": link,
        **data,
    }
    return Message(title, "\n".join(line for line in lines if line), told, _key(request))


def _about_remark(request: Mapping[str, Any], portal: str) -> Message:
    """That somebody rated an API, or asked or answered something."""
    kind, data, name = str(request["kind"]), request["data"], str(request["subject"]).removeprefix("api:")
    stars = f"{data['stars']} of 5 stars" if data.get("stars") else ""
    title = f"{_REMARKS[kind]} '{name}'"
    link = f"{portal}/exchange/apis/{name}#" + ("ratings" if kind == events.API_RATED else "questions")
    lines = [f"by: {request['actor']}", stars, str(data.get("text") or "")]
    told = {
        "event": EVENT,
        "step": kind,
        "title": title,
        "api": name,
        "product": request["product"],
        "by": request["actor"],
        "at": request["at"],
        "link": link,
        **data,
    }
    return Message(title, "\n".join([*filter(None, lines), link]), told, f"contract/{request['event']}")


def _day(at: Any) -> str:
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%d %H:%M UTC") if at else ""
