"""Training sets, batch forms and the filling of stores over HTTP: started in a process of their own, and asked about.

`POST /mesh/v1/services/{service}/endpoints/{endpoint}/training-set` and `…/score` answer at once with an id;
`POST …/{service}/publish` fills its stores from the lake. `GET /mesh/v1/batches/{id}` tells how it goes.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tulle.catalog.routes import Routes
from tulle.config import Settings
from tulle.control.asking import AskedBy
from tulle.control.workspace import Workspace
from tulle.errors import Broken, Invalid, NotFound
from tulle.serving import batch as batches
from tulle.serving.batch import Batch
from tulle.serving.live import write
from tulle.serving.look_ups import version_of

KEPT = 100
_DATA_SET = re.compile(r"[a-z][a-z0-9_]{0,62}")
_ID = re.compile(r"[0-9a-f]{1,12}-[0-9a-f]{8}")


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: str | None = None
    out: str = Field(max_length=130)


class TrainingBody(_Body):
    """A training set: for which entities, at the times of which column, as which data set."""

    entities: str = Field(max_length=130)
    time: str = Field(max_length=200)


class ScoreBody(_Body):
    """A batch form: which rows, what of them is sent by another name, which columns stay, as which data set."""

    rows: str = Field(max_length=130)
    map: Mapping[str, str] = {}
    keep: list[str] | None = None


class PublishBody(BaseModel):
    """Filling stores from the lake: of which endpoint (all without one), and of which commit (the published one)."""

    model_config = ConfigDict(extra="forbid")

    endpoint: str | None = Field(default=None, max_length=200)
    version: str | None = None
    commit: str | None = Field(default=None, max_length=200)


def start(workspace: Workspace, wanted: Batch) -> Batch:
    """Start a batch. NotFound, Invalid for what can be told at once."""
    chosen = version_of(workspace.database, wanted.service, wanted.version or None)
    ref = chosen.manifest.ref
    made = replace(
        wanted,
        id=batches.new_id(),
        version=chosen.version,
        source=_data_set(*wanted.source, chosen.product) if wanted.kind != batches.PUBLISH else ("", ""),
        target=_data_set(*wanted.target, chosen.product) if wanted.kind != batches.PUBLISH else ("", ""),
        ref=ref,
        created_at=time.time(),
    )
    if made.kind == batches.PUBLISH:
        batches.demand_fills(made, chosen)
    else:
        batches.demand(made, workspace.lake, chosen)
    settings = workspace.settings
    file = batches.file_of(settings, made.id)
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    settings.log_folder.mkdir(parents=True, exist_ok=True)
    for left in file.parent.glob(".[0-9a-f]*-*"):  # what one that was killed was working on
        with contextlib.suppress(NotFound, Broken):
            if get(workspace, left.name[1:]).status != batches.RUNNING:
                shutil.rmtree(left, ignore_errors=True)
    for old in sorted(file.parent.glob("*.json"))[: -KEPT or None]:
        old.unlink(missing_ok=True)
        batches.log_of(settings, old.stem).unlink(missing_ok=True)
    write(file, made)
    with batches.log_of(settings, made.id).open("ab") as output:
        process = subprocess.Popen(  # noqa: S603  our own module, with an id we made
            [sys.executable, "-m", "tulle.serving.batch", "--mesh", str(settings.folder), "--batch", made.id],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    # Somebody has to take note of its end, or it stays a zombie as long as we live.
    threading.Thread(target=_ended, args=(settings, made, process), daemon=True).start()
    return made


def _ended(settings: Settings, batch: Batch, process: subprocess.Popen[bytes]) -> None:
    """Write down that a process ended that never came so far as to write anything down itself."""
    status = process.wait()
    with contextlib.suppress(NotFound, Broken, OSError):
        found = batches.read(settings, batch.id)
        if found.status == batches.RUNNING and found.pid is None:
            message = f"its process ended with {status} before it began"
            hint = f"its log: {batches.log_of(settings, batch.id)}"
            failed = replace(found, status=batches.FAILED, message=message, hint=hint, ended_at=time.time())
            write(batches.file_of(settings, batch.id), failed)


def get(workspace: Workspace, batch: str) -> Batch:
    """One batch. NotFound."""
    return batches.read(workspace.settings, batch if _ID.fullmatch(batch) else "-")


def _data_set(product: str, data_set: str, own: str) -> tuple[str, str]:
    """A data set as it is named: `data_set`, or `product/data_set`."""
    named, _, rest = data_set.rpartition("/")
    if not _DATA_SET.fullmatch(rest):
        raise Invalid(
            f"'{data_set[:140]}' is no name of a data set",
            hint="write data_set, or product/data_set of another",
        )
    return named or product or own, rest


def router(workspace: Workspace) -> Routes:
    """The routes on one mesh."""
    api = Routes(prefix="/mesh/v1")

    @api.post("/services/{service}/endpoints/{endpoint}/training-set", status_code=202)
    def training_set(by: AskedBy, service: str, endpoint: str, body: TrainingBody) -> dict[str, Any]:
        wanted = _wanted(batches.TRAINING, service, endpoint, body, body.entities, by)
        return asdict(start(workspace, replace(wanted, time=body.time)))

    @api.post("/services/{service}/endpoints/{endpoint}/score", status_code=202)
    def score(by: AskedBy, service: str, endpoint: str, body: ScoreBody) -> dict[str, Any]:
        wanted = _wanted(batches.SCORE, service, endpoint, body, body.rows, by)
        keep = None if body.keep is None else tuple(body.keep)
        return asdict(start(workspace, replace(wanted, renamed=dict(body.map), keep=keep)))

    @api.post("/services/{service}/publish", status_code=202)
    def publish(by: AskedBy, service: str, body: PublishBody) -> dict[str, Any]:
        return asdict(
            start(
                workspace,
                Batch(
                    id="",
                    kind=batches.PUBLISH,
                    service=service,
                    endpoint=body.endpoint or "",
                    version=body.version or "",
                    source=("", ""),
                    target=("", ""),
                    ref="",
                    commit=body.commit or "",
                    actor=by,
                ),
            )
        )

    @api.get("/batches/{batch}")
    def one(batch: str) -> dict[str, Any]:
        return asdict(get(workspace, batch))

    return api


def _wanted(kind: str, service: str, endpoint: str, body: _Body, rows: str, by: str) -> Batch:
    return Batch(
        id="",
        kind=kind,
        service=service,
        endpoint=endpoint,
        version=body.version or "",
        source=("", rows),
        target=("", body.out),
        ref="",
        actor=by,
    )
