"""Where a service is deployed, as its page shows it: what answers in an environment, what runs, and what waits.

Reads only: what the page asks to be changed goes to the mesh's API with the reader's own key.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import select

from tulle.config import TEST_QUERIES, Environment, Settings
from tulle.errors import Invalid, NotFound
from tulle.gateway.faults import fault_of
from tulle.serving import generation, package
from tulle.serving.generation import Deployment
from tulle.serving.package import Package
from tulle.serving.tested import Tested
from tulle.serving.traffic import WHOLE, Traffic, from_plain, split
from tulle.spec import environment as declared
from tulle.state.db import Database, now
from tulle.state.tables import deployment_decisions as decision_rows
from tulle.state.tables import deployment_requests as request_rows

NEWEST = 5  # versions that are offered beside those that run
HISTORY = 10
_WAITING = "waiting"


class Running(Protocol):
    """A supervised process, as the page of a service is told of it."""

    @property
    def name(self) -> str:
        """Service, version and number: `orders/v1/0`, `orders@test/v1/0`."""

    @property
    def state(self) -> str:
        """What it is at: running, starting, restarting."""

    @property
    def restarts(self) -> int:
        """How often it had to be started again."""

    @property
    def why(self) -> str:
        """Why it does not run, or nothing."""


@dataclass(frozen=True, slots=True)
class GenerationView:
    """A generation that runs, or shall; `share` and `wanted` in percent, None where it is no part of the traffic."""

    version: str
    share: float | None
    wanted: float | None
    roles: tuple[str, ...]  # shadow 25 %, preloaded
    workers: tuple[Running, ...]
    expected: int  # workers
    tested: Tested | None = None  # how its test queries went since it runs

    @property
    def is_idle(self) -> bool:
        """Whether it runs and gets no requests of its own, and shall get none."""
        return not self.share and not self.wanted

    @property
    def told(self) -> str:
        """Its workers in words."""
        if not self.workers:
            return f"none of {self.expected} yet"
        states = [worker.state for worker in self.workers]
        words = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        again = sum(worker.restarts for worker in self.workers)
        words += f", started again {again} times" if again > 1 else ", started again once" * again
        why = next((worker.why for worker in self.workers if worker.why), "")
        return f"{words}: {why}" if why else words


@dataclass(frozen=True, slots=True)
class StateView:
    """What answers in an environment; the part of the page that changes by itself."""

    service: str
    place: Environment
    deployment: Deployment | None
    generations: tuple[GenerationView, ...]
    url: str
    is_up: bool
    has_ended: bool
    fault: str = ""  # why the gateway has it otherwise than it is wanted

    @property
    def mode(self) -> str:
        """How requests are shared, in words."""
        found = self.deployment
        if found is None:
            return "nothing answers"
        if found.active is None:
            return "nothing answers yet"
        how = {"single": "one answers", "random": "split by chance", "sticky": "split by a key"}
        return how[found.active.mode] + (", with a shadow" if found.active.shadow else "")

    @property
    def said(self) -> str:
        """What a screen reader is told when it changes."""
        found = self.deployment
        if found is None:
            return "not deployed"
        wrong = "; ".join(f"test queries of {version} {one.verb}" for version, one in self.troubled)
        why = found.message or self.fault or wrong
        return f"{found.status}: {found.active or 'nothing'} answers. {why}".strip()

    @property
    def troubled(self) -> Sequence[tuple[str, Tested]]:
        """Generations whose test queries fail or could not be asked, also of what answered before."""
        tested = self.deployment.tested if self.deployment else {}
        return [(version, one) for version, one in tested.items() if one.verb]

    @property
    def desired(self) -> Mapping[str, Any] | None:
        """What is wanted, as the API takes it for `before`."""
        return self.deployment.desired.as_plain() if self.deployment else None


@dataclass(frozen=True, slots=True)
class AskedView:
    """A deployment that waits, or waited, for people; `may` still have a word to say."""

    id: str
    traffic: str
    before: str
    status: str
    requested_by: str
    requested_at: float
    note: str
    message: str
    decisions: tuple[tuple[str, bool, str], ...]  # (name, approved, note)
    missing: int
    may: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """A generation in the form: its share of the whole in percent."""

    version: str
    share: float
    is_preloaded: bool


@dataclass(frozen=True, slots=True)
class Form:
    """What the form for the traffic begins with; `command` does the same from a terminal, once it was filled in."""

    rows: tuple[Row, ...]
    others: tuple[str, ...]
    sticky: bool
    shadow: str
    shadow_share: float
    command: str = ""
    problem: str = ""
    test_queries: str = ""  # what they lead to; empty: as the environment says


@dataclass(frozen=True, slots=True)
class DeploymentsPage:
    """What the page shows of one environment; `places` are all of them, with what answers there."""

    state: StateView
    places: tuple[tuple[Environment, Deployment | None], ...]
    waiting: tuple[AskedView, ...]
    history: tuple[AskedView, ...]
    form: Form

    @property
    def service(self) -> str:
        """Whose page it is."""
        return self.state.service


class DeploymentsReader:
    """Reads for the page. Safe to share between threads."""

    def __init__(
        self, settings: Settings, database: Database, processes: Callable[[], Sequence[Running]]
    ) -> None:
        self._settings, self._database, self._processes = settings, database, processes

    def page(
        self, service: str, environment: str = "", filled: Mapping[str, str] | None = None
    ) -> DeploymentsPage:
        """The page of a service in an environment. NotFound before there is a package of it."""
        versions = self._versions(service)
        place = self._place(environment)
        state = self._state(service, place)
        found = {
            one.environment: one for one in generation.everywhere(self._database) if one.service == service
        }
        asked = self._asked(service, place)
        return DeploymentsPage(
            state,
            tuple((one, found.get(declared.place_of(one))) for one in declared.environments(self._settings)),
            tuple(one for one in asked if one.status == _WAITING),
            tuple(one for one in asked if one.status != _WAITING),
            self._form(state, [one.version for one in reversed(versions)], filled or {}),
        )

    def state(self, service: str, environment: str = "") -> StateView:
        """What answers now. NotFound before there is a package of it."""
        self._versions(service)
        return self._state(service, self._place(environment))

    def demand_known(self, service: str) -> None:
        """NotFound before there is a package of it."""
        self._versions(service)

    def _versions(self, service: str) -> Sequence[Package]:
        versions = package.packages(self._database, service)
        if not versions:
            raise NotFound(
                f"service '{service}' has no package yet", hint=f"`tulle service package {service}`"
            )
        return versions

    def _place(self, environment: str) -> Environment:
        if not environment:
            return declared.production(self._settings)
        return declared.environment(self._settings, environment)

    def _state(self, service: str, place: Environment) -> StateView:
        key = declared.place_of(place)
        found = generation.find(self._database, service, key)
        processes = self._processes()
        prefix = f"@{key}" if key else ""
        workers: dict[str, list[Running]] = {}
        for process in processes:
            workers.setdefault(process.name.rpartition("/")[0], []).append(process)
        generations: tuple[GenerationView, ...] = ()
        if found is not None:
            generations = tuple(
                self._generation(found, version, workers.get(f"{service}{prefix}/{version}", []))
                for version in found.mounted
            )
        path = f"/{key}" if key else ""
        fault = fault_of(self._settings, service, key)
        return StateView(
            service,
            place,
            found,
            generations,
            f"{self._settings.gateway_url}{path}/public/api/v1/{service}/",
            bool(processes),
            found is not None and found.has_ended(now()),
            fault.sentence if fault is not None else "",
        )

    def _generation(self, found: Deployment, version: str, workers: Sequence[Running]) -> GenerationView:
        active = found.active
        roles = []
        for traffic, word in ((active, ""), (found.desired, "to be ")):
            if traffic is None or (word and traffic == active):
                continue
            if traffic.shadow and traffic.shadow.generation == version:
                roles.append(f"{word}shadow of {traffic.shadow.parts / 100:g} %")
            if version in traffic.preloaded:
                roles.append(f"{word}preloaded")
        return GenerationView(
            version,
            _percent(active, version),
            _percent(found.desired, version) if found.desired != active else None,
            tuple(roles),
            tuple(workers),
            found.workers_of(version, self._settings.service_workers),
            found.tested.get(version),
        )

    def _form(self, state: StateView, versions: Sequence[str], filled: Mapping[str, str]) -> Form:
        found = state.deployment
        wanted = found.desired if found else None
        shown = list(wanted.mounted) if wanted else []
        if found is not None and found.previous is not None:
            shown += found.previous.mounted
        shown += [name for name in versions[:NEWEST] if wanted is None or len(shown) < NEWEST]
        shown += [filled["with"]] if filled.get("with") in versions else []
        order = [name for name in dict.fromkeys(shown) if name in versions]
        shares = {name: wanted.parts_of(name) / 100 if wanted else 0.0 for name in order}
        if wanted is None and order:
            shares[order[0]] = 100.0
        preloaded = set(wanted.preloaded) if wanted else set()
        shadow = wanted.shadow if wanted else None
        form = Form(
            tuple(Row(name, shares[name], name in preloaded) for name in order),
            tuple(name for name in versions if name not in order),
            wanted is not None and wanted.mode == "sticky",
            shadow.generation if shadow else "",
            shadow.parts / 100 if shadow else 100.0,
        )
        return _filled(form, state, filled) if any(key.startswith("share.") for key in filled) else form

    def _asked(self, service: str, place: Environment) -> list[AskedView]:
        query = (
            select(request_rows)
            .where(request_rows.c.service == service, request_rows.c.environment == declared.place_of(place))
            .order_by(request_rows.c.requested_at.desc(), request_rows.c.id.desc())
            .limit(HISTORY)
        )
        found = []
        with self._database.read() as cx:
            for row in cx.execute(query).all():
                said = select(decision_rows).where(decision_rows.c.request_id == row.id)
                decisions = tuple(
                    (one.approver, bool(one.approved), one.note)
                    for one in cx.execute(said.order_by(decision_rows.c.at)).all()
                )
                heard = {row.requested_by, row.credential, *(name for name, _, _ in decisions)}
                found.append(
                    AskedView(
                        row.id,
                        str(from_plain(row.traffic)),
                        str(from_plain(row.before)) if row.before else "nothing",
                        row.status,
                        row.requested_by,
                        row.requested_at,
                        row.note,
                        row.message,
                        decisions,
                        max(0, place.approvals - sum(approved for _, approved, _ in decisions)),
                        tuple(name for name in place.approvers if name not in heard),
                    )
                )
        return found


def _filled(form: Form, state: StateView, filled: Mapping[str, str]) -> Form:
    """The form as it was filled in without scripts, with the command that asks for it, or what is wrong with it."""
    rows, problem, command = [], "", ""
    for row in form.rows:
        share = _number(filled.get(f"share.{row.version}", ""), row.share)
        rows.append(Row(row.version, share, f"preload.{row.version}" in filled))
    sticky, shadow = "sticky" in filled, filled.get("shadow", "")
    copied = _number(filled.get("shadow_share", ""), form.shadow_share)
    tests = next((one for one in TEST_QUERIES if one == filled.get("test_queries")), "")
    try:
        traffic = split(
            [(row.version, row.share / 100) for row in rows if row.share],
            sticky=sticky,
            shadow=(shadow, copied / 100) if shadow else None,
            preloaded=[row.version for row in rows if row.is_preloaded],
        )
        command = command_of(state.service, traffic, declared.place_of(state.place), tests)
    except Invalid as exc:
        problem = exc.message
    return Form(tuple(rows), form.others, sticky, shadow, copied, command, problem, tests)


def command_of(service: str, traffic: Traffic, environment: str, test_queries: str = "") -> str:
    """The command line that asks for a traffic."""
    words = ["tulle", "service", "traffic", service]
    words += [f"{share.generation}={share.parts / 100:g}%" for share in traffic.shares]
    words += ["--sticky"] if traffic.mode == "sticky" else []
    if traffic.shadow:
        words += ["--shadow", f"{traffic.shadow.generation}={traffic.shadow.parts / 100:g}%"]
    for version in traffic.preloaded:
        words += ["--preload", version]
    words += ["--environment", environment] if environment else []
    words += ["--test-queries", test_queries] if test_queries else []
    return shlex.join(words)


def _percent(traffic: Traffic | None, version: str) -> float | None:
    parts = traffic.parts_of(version) if traffic else 0
    return parts * 100 / WHOLE if parts else None


def _number(text: str, usual: float) -> float:
    try:
        value = float(text) if text.strip() else 0.0
    except ValueError:
        return usual
    return value if math.isfinite(value) else usual
