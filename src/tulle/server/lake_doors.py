"""Opening the lake of one mesh with everything around it: users, work in the background, two HTTP doors.

The REST door answers what begins with /api/v1 before the portal's application sees it: it has its own callers,
its own way to sign in, and bodies of any size. The S3 door is a process of its own (`s3_door`).
"""

from __future__ import annotations

import base64
import binascii
import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI

from tulle.config import Settings
from tulle.errors import Denied, TulleError
from tulle.lake import collect, dump, export, leftovers, onboard, stale
from tulle.lake.access import Access, AccessLog, ensure_administrator, open_access
from tulle.lake.door import Application, Receive, Scope, Send
from tulle.lake.hooks.run import Hooks
from tulle.lake.repository import Lake
from tulle.lake.rest import rest_application
from tulle.lake.s3 import s3_application
from tulle.server.doors import host_of
from tulle.server.token import is_token
from tulle.state.db import Database
from tulle.state.tasks import Worker

LOG = logging.getLogger("tulle")

API = "/api/v1"
COLLECT_EVERY = 86_400.0  # seconds
LOOK_EVERY = 60.0
TIDY_EVERY = 3600.0
DAY = 86_400.0


def lake_access(settings: Settings, database: Database) -> Access:
    """Users and their keys; on a new mesh makes the administrator and `.tulle/lakectl.yaml`."""
    access = open_access(database, settings.state_folder / "secret.key")
    endpoint = f"http://{settings.host}:{settings.control_plane_port}{API}"
    ensure_administrator(access, settings.state_folder, endpoint)
    return access


def user_of(access: Access, header: str) -> str:
    """Whose the credential of an Authorization header is: an access key with its secret, or a token got with one.

    Denied, the same for all that are none.
    """
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer" and value.strip():
        return access.user_of_token(value.strip())
    if scheme.lower() == "basic":
        try:
            key, _, secret = base64.b64decode(value.strip(), validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise Denied("the Authorization header cannot be read") from None
        return access.sign_in(key, secret)
    raise Denied("no credential was sent")


def rest(settings: Settings, lake: Lake, access: Access) -> Application:
    """The lakeFS-compatible door."""
    return rest_application(
        lake,
        access,
        is_mesh_token=lambda token: is_token(settings, f"Bearer {token}"),
        access_log=AccessLog(settings.log_folder, "lake-api"),
        endpoint=f"http://{settings.host}:{settings.control_plane_port}",
    )


def s3(settings: Settings, lake: Lake, access: Access) -> Application:
    """The S3 door."""
    return s3_application(lake, access, access_log=AccessLog(settings.log_folder, "lake-s3"))


class LakeWork:
    """What the lake does in the background: imports, exports, collections, hooks after the fact, tidying up."""

    def __init__(self, lake: Lake, settings: Settings) -> None:
        self._lake = lake
        self._settings = settings
        self._tidied = -math.inf
        hooks = lake.hooks
        assert isinstance(hooks, Hooks)
        self._hooks = hooks
        handlers = {
            **onboard.handlers(lake),
            **export.handlers(lake),
            **collect.handlers(lake),
            **leftovers.handlers(lake),
            **dump.handlers(lake),
        }
        # Hooks may wait for others for minutes: they have a worker of their own.
        self._workers = [Worker(lake.database, handlers), Worker(lake.database, hooks.handlers())]
        self._stop = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="lake-keeper", daemon=True)

    def start(self) -> None:
        """Begin."""
        for worker in self._workers:
            worker.start()
        self._keeper.start()

    def stop(self) -> None:
        """End; what is under way is taken up again by the next one."""
        self._stop.set()
        for worker in self._workers:
            worker.stop(timeout=2)

    def _keep(self) -> None:
        while not self._stop.wait(LOOK_EVERY):
            try:
                self._hooks.recover()
                self._ask_for_collections()
                self.tidy()
            except Exception:
                LOG.exception("the lake's upkeep is tried again")

    def tidy(self) -> None:
        """Once an hour, remove what was kept for long enough: runs of hooks, branches of failed runs."""
        if time.monotonic() < self._tidied + TIDY_EVERY:
            return
        self._tidied = time.monotonic()
        self._hooks.prune(self._settings.hook_run_days * DAY)
        seconds = self._settings.stale_branch_days * DAY
        for repository in self._lake.repositories(actor="tulle") if seconds else ():
            try:
                done = stale.remove(repository, stale.find(repository, seconds), seconds)
            except TulleError as exc:
                LOG.info("stale branches of %s are not looked for now: %s", repository.name, exc)
                continue
            for branch in done:
                how = f"left, {branch.kept}" if branch.kept else f"removed, it was on {branch.commit_id}"
                LOG.info("stale branch %s of %s: %s", branch.name, repository.name, how)

    def _ask_for_collections(self) -> None:
        """Collect the garbage of every repository once a day; younger than a day nothing is removed anyway."""
        for repository in self._lake.repositories():
            last = collect.collections(self._lake, repository.name, limit=1)
            if last and last[0].started_at > time.time() - COLLECT_EVERY:
                continue
            if repository.created_at > time.time() - COLLECT_EVERY:
                continue
            try:
                collect.start(self._lake, repository.name, actor="tulle")
            except TulleError as exc:
                LOG.info("no collection of %s now: %s", repository.name, exc)


class Front:
    """The control plane's door: the lake's API to its own application, everything else to the portal's."""

    def __init__(
        self, portal: FastAPI, api: Application, is_ours: Callable[[str], bool], work: LakeWork
    ) -> None:
        self._portal = portal
        self._api = api
        self._is_ours = is_ours
        self.work = work
        self.state = portal.state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path: str = scope.get("path", "")
        if scope["type"] == "http" and (path == API or path.startswith(API + "/")):
            if not self._is_ours(_host(scope)):
                await _refuse(send)
                return
            await self._api(scope, receive, send)
            return
        await self._portal(scope, receive, send)


def _host(scope: Scope) -> str:
    headers: Any = scope["headers"]
    return host_of(next((value.decode("latin-1") for name, value in headers if name == b"host"), ""))


async def _refuse(send: Send) -> None:
    # A page of another site may point its name at this machine, but not change the name it sends.
    body = b'{"message":"the Host header does not name this mesh"}'
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body})
