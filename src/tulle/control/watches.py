"""Watches on what services and APIs are asked: those of mesh.yaml and those made by command, judged by period.

How far each was judged is written down with what it says, in one transaction with the event by which an incident is
opened or closed, so that each is told once, whatever ends when. A muted watch is judged all the same; what is broken
still when the muting ends is told then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select, update

from tulle.catalog.asked import Asked, everything_asked
from tulle.catalog.outlook import environment_key
from tulle.config import PRODUCTION, Settings, Watch, watch_from
from tulle.control.watched import Place, demand_there, watched, why_nothing
from tulle.control.workspace import Workspace
from tulle.errors import AlreadyExists, Conflict, Invalid, NotFound, Problem, did_you_mean
from tulle.events import CALLS_WATCHED, Event
from tulle.gateway.apis.records import RecordedApi
from tulle.observe.calls import MINUTE, Calls
from tulle.observe.insight import Insight, Point, Span, Which
from tulle.observe.watching import Judged, digest_of, judged, measured, words
from tulle.spec.load import load_document
from tulle.spec.mesh import MESH_FILE
from tulle.state import log
from tulle.state.db import in_turn, now
from tulle.state.tables import watch_states as states
from tulle.state.tables import watches as table

LATE_SECONDS: Final = 5  # a line of the log comes at most so long after the answer
FURTHEST_BACK: Final = 86_400  # that is judged after a time in which nobody did
MOST_MADE: Final = 1000
_MOST_APIS: Final = 100_000  # asked of at once


@dataclass(frozen=True, slots=True)
class Known:
    """A watch with its name; `is_declared`: it stands in mesh.yaml."""

    name: str
    watch: Watch
    is_declared: bool
    made_by: str = ""
    muted_until: float | None = None


def known(workspace: Workspace) -> list[Known]:
    """Every watch, by name."""
    with workspace.database.read() as cx:
        rows = {row.name: row for row in cx.execute(select(table))}
    declared = workspace.settings.watches
    found = [
        Known(name, watch, True, "", rows[name].muted_until if name in rows else None)
        for name, watch in declared.items()
    ]
    found += [
        Known(name, watch_from(f"watch '{name}", name, row.what), False, row.made_by, row.muted_until)
        for name, row in rows.items()
        if row.what is not None and name not in declared
    ]
    return sorted(found, key=lambda one: one.name)


def find(workspace: Workspace, name: str) -> Known:
    """One watch. NotFound with the nearest name."""
    found = known(workspace)
    for one in found:
        if one.name == name:
            return one
    hint = did_you_mean(name, [one.name for one in found]) or "`tulle insight watch add` makes one"
    raise NotFound(f"there is no watch '{name[:80]}'", hint=hint)


def watch_problems(settings: Settings) -> list[Problem]:
    """The watches of mesh.yaml whose environment the mesh does not have, each with its place."""
    problems: list[Problem] = []
    for name, one in settings.watches.items():
        try:
            environment_key(settings, one.environment)
        except NotFound as exc:
            document = load_document(settings.folder / MESH_FILE, name=MESH_FILE)
            problems.append(document.problem(exc.message, ("watches", name, "environment"), hint=exc.hint))
    return problems


def add(workspace: Workspace, name: str, what: Mapping[str, Any], *, by: str = "") -> Known:
    """Make a watch. Invalid for what is none, NotFound, AlreadyExists, Conflict when there are very many."""
    watch = watch_from(f"watch '{name[:80]}", name, dict(what))
    if name in workspace.settings.watches:
        raise AlreadyExists(f"mesh.yaml has a watch '{name}'", hint="change it there, or choose another name")
    environment_key(workspace.settings, watch.environment)
    if watch.service:
        demand_there(watch, everything_asked(workspace.settings, workspace.database))
    with workspace.database.write() as cx:
        in_turn(cx, "watches")
        made = list(cx.execute(select(table.c.name, table.c.what)))
        if any(row.name == name and row.what is not None for row in made):
            raise AlreadyExists(
                f"there is a watch '{name}'", hint=f"`tulle insight watch remove {name}` first"
            )
        if len(made) >= MOST_MADE:
            raise Conflict(
                f"there are {len(made)} watches", hint="remove some, or leave out --service in one for all"
            )
        cx.execute(delete(table).where(table.c.name == name))  # muting of one that was in mesh.yaml
        cx.execute(insert(table).values(name=name, what=asdict(watch), made_by=by, made_at=now()))
    return Known(name, watch, False, by)


def remove(workspace: Workspace, name: str, *, by: str = "") -> None:
    """Remove a watch that was made by command; what it told is closed. NotFound, Conflict for one of mesh.yaml."""
    found = find(workspace, name)
    if found.is_declared:
        raise Conflict(f"watch '{name}' stands in mesh.yaml", hint="take it out there, or mute it")
    with workspace.database.write() as cx:
        _close(workspace, cx, found, by=by)
        cx.execute(delete(states).where(states.c.watch == name))
        cx.execute(delete(table).where(table.c.name == name))


def mute(workspace: Workspace, name: str, until: float | None) -> Known:
    """Tell nothing of a watch until a time, or tell again with None. NotFound, Invalid for a time that is over."""
    found = find(workspace, name)
    if until is not None and not now() < until < now() + 400 * 86_400:
        raise Invalid("a watch is muted until a time to come, at most 400 days away")
    with workspace.database.write() as cx:
        in_turn(cx, "watches")
        changed = cx.execute(update(table).where(table.c.name == name).values(muted_until=until))
        if not changed.rowcount:
            cx.execute(insert(table).values(name=name, muted_until=until))
    return replace(found, muted_until=until)


def resolve(workspace: Workspace, name: str, *, by: str = "") -> int:
    """Close what a watch told, by hand; it is told again when it is broken for all its periods anew. How many."""
    found = find(workspace, name)
    with workspace.database.write() as cx:
        return _close(workspace, cx, found, by=by)


def _close(workspace: Workspace, cx: Connection, one: Known, *, by: str) -> int:
    closed = 0
    places = everything_asked(workspace.settings, workspace.database)
    for row in cx.execute(select(states).where(states.c.watch == one.name)).all():
        if row.told_at is not None:
            place = places.get((row.service, row.environment))
            product = place.product if place is not None else ""
            where = Place(row.service, row.environment, product)
            _tell(workspace, cx, one, where, _value(row), is_broken=False, actor=by)
            closed += 1
        cleared = {"streak": 0, "broken_at": None, "told_at": None}
        cx.execute(update(states).where(_is(one.name, row.service, row.environment)).values(**cleared))
    return closed


# ── judging ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Step:
    """How a watch on one service stands anew; `row` is how it stood, `tells`: it is told as broken, or as good."""

    one: Known
    place: Place
    row: Any
    after: Judged
    tells: bool | None


def judge(
    workspace: Workspace, calls: Calls, counted_until: float, apis: Sequence[RecordedApi] | None = None
) -> int:
    """Judge every period that is over and counted; how many are told as broken anew.

    `apis` are those in force where somebody follows them: this is asked every few seconds.
    """
    asked, end = _Asked(calls), counted_until - LATE_SECONDS
    with workspace.database.read() as cx:
        before = {(row.watch, row.service, row.environment): row for row in cx.execute(select(states))}
    found, steps = known(workspace), []
    everything: Mapping[tuple[str, str], Asked] = {}
    if found or before:
        everything = everything_asked(workspace.settings, workspace.database, apis)
    for one in found:
        for place in watched(workspace.settings, one.watch, everything):
            row = before.pop((one.name, place.service, place.environment), None)
            if (step := _judge(asked, one, place, row, end)) is not None:
                steps.append(step)
    if not steps and not before:
        return 0
    with workspace.database.write() as cx:
        in_turn(cx, "watches")
        told = sum(_write(workspace, cx, step) for step in steps)
        if before:
            _forget(workspace, cx, [one.name for one in found], before, everything)
    return told


class _Asked:
    """What was asked in periods. The last one is read once for all that a watch without a service is about."""

    def __init__(self, calls: Calls) -> None:
        self._insight = Insight(calls)
        self._known: dict[tuple[int, int], bool] = {}
        self._all: dict[tuple[int, int, str, str], Mapping[str, Point]] = {}

    def measure(self, watch: Watch, place: Place, since: int, *, is_last: bool) -> float | None:
        seconds = watch.minutes * MINUTE
        span = Span("period", since, seconds, seconds, MINUTE)
        if is_last and not watch.service:
            name = (since, seconds, place.environment, watch.operation)
            if name not in self._all:
                self._all[name] = self._points(span, None, place.environment, watch.operation)
            points = self._all[name]
        else:
            which = (watch.operation, watch.version, watch.generation)
            points = self._points(span, place.service, place.environment, *which)
        if (since, seconds) not in self._known:
            self._known[since, seconds] = self._insight.is_known(since, since + seconds)
        return measured(watch, points.get(place.service), is_known=self._known[since, seconds])

    def _points(
        self,
        span: Span,
        service: str | None,
        environment: str,
        operation: str,
        version: str = "",
        generation: str = "",
    ) -> Mapping[str, Point]:
        which = Which(
            service, environment, operation or None, generation=generation or None, version=version or None
        )
        told = self._insight.told("api", span, which, limit=_MOST_APIS, points=False)
        return {one.name["service"]: one.whole for one in told.series}


def _judge(asked: _Asked, one: Known, place: Place, row: Any, end: float) -> _Step | None:
    """What the periods since the last time make of a watch; None where nothing is new."""
    seconds, digest = one.watch.minutes * MINUTE, digest_of(one.watch)
    last = end // seconds * seconds
    is_same = row is not None and row.digest == digest
    state = _value(row) if is_same else Judged(last - seconds)
    if row is not None and not is_same:  # changed: what it told stands until it is judged by what it says now
        state = replace(state, told_at=row.told_at)
    if last - state.until > FURTHEST_BACK:
        state = replace(state, until=(last - FURTHEST_BACK) // seconds * seconds)
    after = state
    while after.until + seconds <= last:
        is_last = after.until + 2 * seconds > last
        after = judged(one.watch, after, asked.measure(one.watch, place, int(after.until), is_last=is_last))
    is_muted = one.muted_until is not None and one.muted_until > end
    tells: bool | None = None
    if after.broken_at is not None and after.told_at is None and not is_muted:
        after, tells = replace(after, told_at=end), True
    elif after.broken_at is None and after.told_at is not None and after.value is not None:
        after, tells = replace(after, told_at=None), False
    return None if after == state and is_same else _Step(one, place, row, after, tells)


def _write(workspace: Workspace, cx: Connection, step: _Step) -> bool:
    """Write down how it stands, unless somebody else judged or resolved it meanwhile; whether it is told as broken."""
    one, place = step.one, step.place
    where = _is(one.name, place.service, place.environment)
    stored = cx.execute(select(states).where(where)).first()
    if stored != step.row:
        return False
    cx.execute(delete(states).where(where))
    named = {"watch": one.name, "service": place.service, "environment": place.environment}
    cx.execute(insert(states).values(**named, digest=digest_of(one.watch), **asdict(step.after)))
    if step.tells is not None:
        _tell(workspace, cx, one, place, step.after, is_broken=step.tells)
    return step.tells is True


def _tell(
    workspace: Workspace,
    cx: Connection,
    one: Known,
    place: Place,
    state: Judged,
    *,
    is_broken: bool,
    actor: str = "",
) -> None:
    environment = workspace.settings.environments.get(place.environment)
    data = {
        "watch": one.name,
        "service": place.service,
        "environment": environment.branch
        if environment is not None
        else place.environment or PRODUCTION.branch,
        "broken": is_broken,
        "severity": one.watch.severity,
        "message": words(one.watch, place.service, state.value),
    }
    log.append(cx, Event(CALLS_WATCHED, place.product, data), actor=actor)


def _forget(
    workspace: Workspace,
    cx: Connection,
    names: list[str],
    gone: Mapping[tuple[str, str, str], Any],
    everything: Mapping[tuple[str, str], Asked],
) -> None:
    """Close what was told of watches and services that are no more."""
    for (name, service, environment), row in gone.items():
        if row.told_at is not None:
            there = everything.get((service, environment))
            place = Place(service, environment, there.product if there is not None else "")
            one = Known(name, workspace.settings.watches.get(name, Watch(above=0)), name in names)
            _tell(workspace, cx, one, place, _value(row), is_broken=False)
        cx.execute(delete(states).where(_is(name, service, environment)))


def _is(name: str, service: str, environment: str) -> Any:
    return (states.c.watch == name) & (states.c.service == service) & (states.c.environment == environment)


def _value(row: Any) -> Judged:
    return Judged(row.until, row.streak, row.broken_at, row.told_at, row.value, row.unknown)


def missing_of(workspace: Workspace, found: Sequence[Known]) -> Mapping[str, str]:
    """By the names of watches why each watches nothing now; empty where it watches something."""
    everything = everything_asked(workspace.settings, workspace.database)
    return {one.name: why_nothing(workspace.settings, one.watch, everything) for one in found}


# ── told ─────────────────────────────────────────────────────────────────────────────────────────────────


def as_plain(workspace: Workspace, one: Known, missing: str | None = None) -> dict[str, Any]:
    """A watch and how it stands on each service, as the API tells it; `missing` where it is known already."""
    with workspace.database.read() as cx:
        rows = cx.execute(select(states).where(states.c.watch == one.name)).all()
    return {
        "name": one.name,
        "missing": missing_of(workspace, [one])[one.name] if missing is None else missing,
        **asdict(one.watch),
        "declared": one.is_declared,
        "made_by": one.made_by,
        "muted_until": one.muted_until if one.muted_until is not None and one.muted_until > now() else None,
        "services": [
            {
                "service": row.service,
                "environment": row.environment,
                "state": "broken"
                if row.broken_at is not None
                else "unknown"
                if row.value is None
                else "holds",
                **asdict(_value(row)),
            }
            for row in sorted(rows, key=lambda row: (row.service, row.environment))
        ],
    }
