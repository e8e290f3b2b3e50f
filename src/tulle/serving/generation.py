"""Which generations of a service shall answer, which ones do, and which ones did before; in each environment.

A generation is a deployed version. `request` writes down which traffic is wanted; whoever runs the workers calls
`activate` when they answer, or `fail`. Every change and its event are one transaction. The environment of consumers is
the empty one. Knows nothing of processes or of the gateway.
"""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, Row, delete, insert, select, update

from tulle.config import Settings
from tulle.errors import Broken, Conflict, Invalid, NotFound, Unavailable, did_you_mean
from tulle.events import (
    GENERATION_ACTIVATED,
    GENERATION_FAILED,
    GENERATION_REQUESTED,
    GENERATION_WITHDRAWN,
    SERVICE_CHANGED,
    Event,
)
from tulle.serving import package
from tulle.serving.answers import Question
from tulle.serving.loaded import Verdict
from tulle.serving.outside import outside_file
from tulle.serving.package import Package
from tulle.serving.tested import Tested, tested_from
from tulle.serving.traffic import Traffic, from_plain, single
from tulle.state import log
from tulle.state.db import Database, in_turn, now
from tulle.state.tables import deployments as table

Status = Literal["starting", "active", "failed"]
TEST_SECONDS = 60.0
MOST_WORKERS = 64  # of one generation


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many workers a generation of a service has, at least and at most; None: as the settings say."""

    floor: int | None = None
    ceil: int | None = None
    most_requests: int | None = None  # that they may hold at once, all together

    def __post_init__(self) -> None:
        """Refuse bounds that leave no worker."""
        for name, value in (("floor", self.floor), ("ceil", self.ceil)):
            if value is not None and not 1 <= value <= MOST_WORKERS:
                raise Invalid(f"{name} is {value} workers, expected 1 to {MOST_WORKERS}")
        if self.floor is not None and self.ceil is not None and self.ceil < self.floor:
            raise Invalid(f"at most {self.ceil} workers are less than at least {self.floor}")
        if self.most_requests is not None and not 1 <= self.most_requests <= 1_000_000:
            raise Invalid(f"{self.most_requests} requests at once, expected 1 to 1,000,000")


@dataclass(frozen=True, slots=True)
class Ending:
    """That a service ends: since when callers are told, when it answers no more, and what comes after it."""

    deprecated_at: float
    sunset_at: float | None = None
    successor: str = ""


@dataclass(frozen=True, slots=True)
class Deployment:
    """A service in one environment; `message` says why when the status is failed."""

    service: str
    environment: str
    product: str
    desired: Traffic
    active: Traffic | None
    previous: Traffic | None
    status: Status
    message: str
    changed_at: float
    enabled: bool = True
    bounds: Bounds = field(default_factory=Bounds)
    scale: Mapping[str, int] = field(default_factory=dict)  # generation → workers, as its load asks for
    ending: Ending | None = None
    test_queries: str = ""  # what they lead to: tell, rollback, skip; empty: as the environment says
    # How they went, of generations that run and of those that did before.
    tested: Mapping[str, Tested] = field(default_factory=dict)

    @property
    def desired_version(self) -> str:
        """The version that most requests shall meet."""
        return self.desired.main

    @property
    def active_version(self) -> str | None:
        """The version that most requests meet; None before one answers."""
        return self.active.main if self.active else None

    @property
    def previous_version(self) -> str | None:
        """The version that most requests met before the last change."""
        return self.previous.main if self.previous else None

    @property
    def way_back(self) -> Traffic | None:
        """What going back means: what is not in force yet, or has failed, is taken back; else what answered before."""
        is_pending = self.status != "active" and self.desired != self.previous
        return self.active if is_pending and self.active is not None else self.previous

    @property
    def mounted(self) -> tuple[str, ...]:
        """Every generation that shall run: those that answer, and those that shall."""
        wanted = self.desired.mounted if self.status != "failed" else ()
        return tuple(dict.fromkeys([*(self.active.mounted if self.active else ()), *wanted]))

    def workers_of(self, generation: str, usual: int) -> int:
        """How many workers a generation has, `usual` where nothing is said of it."""
        floor, ceil = self.least(usual), self.most(usual)
        return min(ceil, max(floor, self.scale.get(generation, floor)))

    def least(self, usual: int) -> int:
        """The least workers of a generation."""
        return self.bounds.floor or min(usual, self.bounds.ceil or usual)

    def most(self, usual: int) -> int:
        """The most workers of a generation."""
        return max(self.least(usual), self.bounds.ceil or 0)

    def has_ended(self, at: float) -> bool:
        """Whether it answers no more, since its time is over."""
        return self.ending is not None and self.ending.sunset_at is not None and self.ending.sunset_at <= at


def folder_of(settings: Settings, service: str, version: str) -> Path:
    """Where a generation is unpacked."""
    return settings.state_folder / "generations" / service / version


def unpack(chosen: Package, settings: Settings) -> Path:
    """Unpack a package where its workers look for it; Broken, naming the file, when it is damaged."""
    folder = folder_of(settings, chosen.service, chosen.version)
    package.unpack(settings.state_folder / chosen.path, folder, digest=chosen.digest)
    return folder


def request(
    database: Database,
    service: str,
    wanted: str | Traffic,
    *,
    environment: str = "",
    actor: str = "",
    before: Traffic | None = None,
    check: Callable[[Connection], None] | None = None,
    test_queries: str = "",
) -> Deployment:
    """Ask for a version, or a traffic over several, to answer; nothing changes when it does already.

    NotFound when one was never built. With `before`, Conflict when that is not what was wanted until now: somebody
    else has changed it meanwhile. `check` raises what else refuses it, in the same transaction. `test_queries`: what
    they lead to once it answers.
    """
    traffic = single(wanted) if isinstance(wanted, str) else wanted
    packages = [package.get(database, service, name) for name in traffic.mounted]
    product = next(p.product for p in packages if p.version == traffic.main)
    with database.write() as connection:
        in_turn(connection, f"deployment of {service}")
        if check is not None:
            check(connection)
        row = _row(connection, service, environment)
        values: dict[str, Any] = {
            "desired": traffic.as_plain(),
            "product": product,
            "status": "starting",
            "message": None,
            "changed_at": now(),
            "test_queries": test_queries or None,
        }
        if row is None:
            where = {"service": service, "environment": environment}
            connection.execute(insert(table).values(**where, **values))
        else:
            known = _value(row)
            if before is not None and known.desired != before:
                raise Conflict(
                    f"service '{service}' is to answer by '{known.desired}' by now, not by '{before}'",
                    hint="somebody else has changed it; look at it again",
                )
            if known.desired == traffic and known.status != "failed":
                return known
            if known.active == traffic:
                values["status"] = "active"  # what is wanted now answers already
            connection.execute(update(table).where(_is(service, environment)).values(**values))
        data = {"version": traffic.main, "environment": environment, "traffic": str(traffic)}
        log.append(connection, Event(GENERATION_REQUESTED, service, data), actor=actor)
        return _one(connection, service, environment)


def activate(
    database: Database,
    service: str,
    wanted: str | Traffic,
    *,
    environment: str = "",
    noted: Callable[[Connection], None] | None = None,
) -> Deployment:
    """Say that a traffic is in force now; `noted` is done in the same transaction, if anything changes.

    Conflict when another one is wanted by now.
    """
    traffic = single(wanted) if isinstance(wanted, str) else wanted
    with database.write() as connection:
        in_turn(connection, f"deployment of {service}")
        known = _wanted(connection, service, environment, traffic)
        if known.status == "active":
            return known
        values: dict[str, Any] = {
            "active": traffic.as_plain(),
            "status": "active",
            "message": None,
            "scale": {name: n for name, n in known.scale.items() if name in traffic.mounted},
            "changed_at": now(),
        }
        if known.active is not None and known.active != traffic:
            values["previous"] = known.active.as_plain()
        connection.execute(update(table).where(_is(service, environment)).values(**values))
        data = {
            "version": traffic.main,
            "previous": known.active_version,
            "environment": environment,
            "traffic": str(traffic),
        }
        log.append(connection, Event(GENERATION_ACTIVATED, service, data))
        if noted is not None:
            noted(connection)
        return _one(connection, service, environment)


def note_tested(
    connection: Connection, service: str, environment: str, found: Mapping[str, Tested], *, anew: bool = False
) -> Deployment:
    """Keep how test queries of generations went, beside what is known of others; with `anew`, instead of that.

    The deployment as it is then. NotFound when there is none by now.
    """
    known = _one(connection, service, environment)
    tested = found if anew else {**known.tested, **found}
    plain = {version: one.as_plain() for version, one in tested.items()}
    connection.execute(update(table).where(_is(service, environment)).values(tested=plain))
    return _one(connection, service, environment)


def fail(
    database: Database, service: str, wanted: str | Traffic, message: str, *, environment: str = ""
) -> Deployment:
    """Say that a traffic cannot come into force; what is active stays. Conflict when another one is wanted now."""
    traffic = single(wanted) if isinstance(wanted, str) else wanted
    with database.write() as connection:
        in_turn(connection, f"deployment of {service}")
        _wanted(connection, service, environment, traffic)
        connection.execute(
            update(table)
            .where(_is(service, environment))
            .values(status="failed", message=message, changed_at=now())
        )
        data = {"version": traffic.main, "message": message, "environment": environment}
        log.append(connection, Event(GENERATION_FAILED, service, data))
        return _one(connection, service, environment)


def withdraw(
    connection: Connection, service: str, *, environment: str | None = None, actor: str = ""
) -> None:
    """Let no version of a service answer any more, in the transaction of `connection`; packages stay.

    Without an environment in all of them.
    """
    where = table.c.service == service
    if environment is not None:
        where = _is(service, environment)
    removed = connection.execute(delete(table).where(where))
    if removed.rowcount:
        data = {} if environment is None else {"environment": environment}
        log.append(connection, Event(GENERATION_WITHDRAWN, service, data), actor=actor)


# ── how a deployment is run ──────────────────────────────────────────────────────────────────────────────


def enable(
    database: Database, service: str, is_enabled: bool, *, environment: str = "", actor: str = ""
) -> Deployment:
    """Let a service answer, or refuse everybody while its workers stay."""
    return _change(database, service, environment, actor, {"enabled": is_enabled}, {"enabled": is_enabled})


def bound(
    database: Database, service: str, bounds: Bounds, *, environment: str = "", actor: str = ""
) -> Deployment:
    """Say how many workers each generation of a service has."""
    values = {name: getattr(bounds, name) for name in Bounds.__slots__}
    return _change(database, service, environment, actor, values, values)


def end(
    database: Database, service: str, ending: Ending | None, *, environment: str = "", actor: str = ""
) -> Deployment:
    """Say that a service ends, and when; None: that it does not."""
    values: dict[str, Any] = dict.fromkeys(("deprecated_at", "sunset_at", "successor"))
    if ending is not None:
        if ending.sunset_at is not None and ending.sunset_at < ending.deprecated_at:
            raise Invalid("a service cannot end before it is deprecated")
        values = {name: getattr(ending, name) for name in Ending.__slots__}
    return _change(database, service, environment, actor, values, values)


def scale(database: Database, service: str, generation: str, workers: int, *, environment: str = "") -> None:
    """Note how many workers the load of a generation asks for; nothing when it does not run."""
    with database.write() as connection:
        in_turn(connection, f"deployment of {service}")
        row = _row(connection, service, environment)
        if row is None or generation not in _value(row).mounted:
            return
        kept = {**(row.scale or {}), generation: workers}
        connection.execute(update(table).where(_is(service, environment)).values(scale=kept))


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────


def deployment(database: Database, service: str, environment: str = "") -> Deployment:
    """The deployment of one service; NotFound, with the nearest name, when there is none."""
    with database.read() as connection:
        return _one(connection, service, environment)


def find(database: Database, service: str, environment: str = "") -> Deployment | None:
    """The deployment of one service, or None when it has never been deployed there."""
    with database.read() as connection:
        row = _row(connection, service, environment)
    return None if row is None else _value(row)


def deployment_in(connection: Connection, service: str, environment: str) -> Deployment:
    """The deployment of one service, in a transaction. NotFound when there is none."""
    return _one(connection, service, environment)


def deployments(database: Database, environment: str = "") -> tuple[Deployment, ...]:
    """Every deployment of an environment, by service."""
    return tuple(found for found in everywhere(database) if found.environment == environment)


def of_product(database: Database, product: str) -> list[str]:
    """The services of a product that are deployed somewhere, by name."""
    return list(dict.fromkeys(found.service for found in everywhere(database) if found.product == product))


def everywhere(database: Database) -> tuple[Deployment, ...]:
    """Every deployment of every environment, by service, that of consumers first."""
    with database.read() as connection:
        query = select(table).order_by(table.c.service, table.c.environment)
        return tuple(_value(row) for row in connection.execute(query))


def in_use(connection: Connection, service: str) -> set[str]:
    """The versions of a service that run, or shall run, or are gone back to, in any environment."""
    found = [_value(row) for row in connection.execute(select(table).where(table.c.service == service))]
    return {
        version
        for one in found
        for version in (
            *one.mounted,
            *one.desired.mounted,
            *(one.previous.mounted if one.previous else ()),
        )
    }


def set_aside(database: Database, service: str, folder: Path) -> Path | None:
    """Take the folder of a version that is not in use out of its place, at once; where it is now, None when it is."""
    with database.write() as connection:
        in_turn(connection, f"deployment of {service}")
        if folder.name in in_use(connection, service):
            return None
        aside = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
        folder.rename(aside)
        return aside


def test(folder: Path, generation: str | None = None) -> tuple[Verdict, ...]:  # noqa: PT028  not of pytest's
    """Run the test queries saved in an unpacked package, in a process of their own.

    Loading a native model runs code from its file, which must not happen in the control plane. Raises Broken
    when the package cannot be loaded, Unavailable when it takes longer than a minute.
    """
    return _apart(folder, "--test", generation)


def ask(folder: Path, questions: Sequence[Question], generation: str | None = None) -> tuple[Verdict, ...]:
    """What an unpacked package answers to questions, in a process of its own. Raises as `test` does."""
    return _apart(folder, "--ask", generation, msgspec.json.encode(questions))


def _apart(folder: Path, what: str, generation: str | None, sent: bytes = b"") -> tuple[Verdict, ...]:
    argv = [sys.executable, "-m", "tulle.serving.worker", "--package-folder", str(folder), what]
    argv += ["--mesh", str(folder.parents[3])]  # see `folder_of`
    argv += ["--generation", generation] if generation else []
    # A package that is deployed lies in generations/<service>/<version>: it asks others as its workers do.
    argv += ["--outside", str(outside_file(folder.parents[2], folder.parent.name))]
    try:
        done = subprocess.run(argv, input=sent, capture_output=True, timeout=TEST_SECONDS, check=False)  # noqa: S603  our own module
    except subprocess.TimeoutExpired as exc:
        raise Unavailable(f"the test queries in {folder.name} took longer than {TEST_SECONDS:.0f} s") from exc
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
        raise Broken(f"the package in {folder.name} cannot be tested: {reason[0]}")
    return msgspec.json.decode(done.stdout, type=tuple[Verdict, ...])


def _is(service: str, environment: str) -> Any:
    return (table.c.service == service) & (table.c.environment == environment)


def _row(connection: Connection, service: str, environment: str) -> Row[Any] | None:
    return connection.execute(select(table).where(_is(service, environment))).first()


def _one(connection: Connection, service: str, environment: str) -> Deployment:
    row = _row(connection, service, environment)
    if row is None:
        known = connection.execute(select(table.c.service)).scalars().all()
        where = f" in '{environment}'" if environment else ""
        hint = did_you_mean(service, [n for n in known if n != service])
        raise NotFound(
            f"service '{service}' is not deployed{where}",
            hint=hint or f"`tulle service deploy {service}` deploys it",
        )
    return _value(row)


def _wanted(connection: Connection, service: str, environment: str, traffic: Traffic) -> Deployment:
    row = _row(connection, service, environment)
    known = None if row is None else _value(row)
    if known is None or known.desired != traffic:
        wanted = "none" if known is None else f"'{known.desired}'"
        raise Conflict(
            f"service '{service}': version '{traffic}' is not the one that is wanted now ({wanted})"
        )
    return known


def _change(
    database: Database,
    service: str,
    environment: str,
    actor: str,
    values: Mapping[str, Any],
    told: Mapping[str, Any],
) -> Deployment:
    with database.write() as connection:
        in_turn(connection, f"deployment of {service}")
        before = _one(connection, service, environment)
        connection.execute(update(table).where(_is(service, environment)).values(**values))
        after = _one(connection, service, environment)
        if after != before:
            event = Event(SERVICE_CHANGED, service, {**told, "environment": environment})
            log.append(connection, event, actor=actor)
        return after


def _value(row: Row[Any]) -> Deployment:
    return Deployment(
        service=row.service,
        environment=row.environment,
        product=row.product,
        desired=from_plain(row.desired),
        active=from_plain(row.active) if row.active else None,
        previous=from_plain(row.previous) if row.previous else None,
        status=row.status,
        message=row.message or "",
        changed_at=row.changed_at,
        enabled=bool(row.enabled),
        bounds=Bounds(row.floor, row.ceil, row.most_requests),
        scale=dict(row.scale or {}),
        ending=Ending(row.deprecated_at, row.sunset_at, row.successor or "") if row.deprecated_at else None,
        test_queries=row.test_queries or "",
        tested={version: tested_from(one) for version, one in (row.tested or {}).items()},
    )
