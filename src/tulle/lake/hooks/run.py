"""Running hooks: before an event, which they may veto, and after it, as durable tasks that are tried again.

Actions run side by side, the hooks of one in the file's order. Every run is recorded, whoever asks for it. Knows
nothing of what the types of hooks do.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection

from tulle.errors import Invalid, LimitExceeded, NotFound, Problem, TulleError, Unavailable, Vetoed
from tulle.lake.entry import Commit
from tulle.lake.hooks import record
from tulle.lake.hooks.action_file import Action, Hook, parse, repeated
from tulle.lake.hooks.event import ACTIONS, Event
from tulle.lake.hooks.kind import HookCall, HookKind, Outcome, about
from tulle.lake.hooks.properties import BUILT_IN
from tulle.lake.hooks.variables import filled, hidden
from tulle.lake.repository import Lake, Repository
from tulle.state import tasks
from tulle.state.db import now

TASK = "lake.hooks"
TOTAL_SECONDS = 15 * 60.0  # all hooks of one event
GRACE_SECONDS = 5.0
RETRY_SECONDS = (5.0, 30.0, 120.0, 600.0)  # between the attempts of a hook after an event
SIDE_BY_SIDE = 8
MOST_FILES = 200
OUTPUT_CHARACTERS = 64 * 1024
SHOWN_LINES = 12

_COMMIT_ID = re.compile(r"[0-9a-f]{64}\Z")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Step:
    """One hook of a run and where it is in it."""

    id: str
    action: Action
    hook: Hook


class Hooks:
    """The hooks of a lake's repositories: what `Lake.hooks` is to be. Safe to share between threads.

    `kinds` are the types of hooks by name. `total_seconds` bounds all hooks of one event, `retry_seconds` are the
    pauses between attempts of a hook that runs after an event, `renew_seconds` how often a task is kept ours.
    """

    def __init__(
        self,
        lake: Lake,
        kinds: Mapping[str, HookKind],
        *,
        total_seconds: float = TOTAL_SECONDS,
        retry_seconds: Sequence[float] = RETRY_SECONDS,
        renew_seconds: float = 5.0,
    ) -> None:
        self._lake = lake
        self._database = lake.database
        self._kinds = dict(kinds)
        self._schemas = {**BUILT_IN, **{name: kind.properties for name, kind in kinds.items()}}
        self._total = total_seconds
        self._retry = tuple(retry_seconds)
        self._renew = renew_seconds
        self._known: OrderedDict[tuple[str, str], tuple[Action, ...]] = OrderedDict()
        self._lock = threading.Lock()

    # ── the port ─────────────────────────────────────────────────────────────────────────────────────────

    def before(self, repository: Repository, event: Event) -> None:
        """Run the hooks of a coming event. Vetoed when one refuses, or an action file cannot be used."""
        try:
            actions = self._matching(repository, event)
        except (Invalid, LimitExceeded) as exc:
            raise Vetoed(
                f"{event.kind} on '{repository.name}' is refused: {exc.message}",
                hint=exc.hint or f"mend the files below {ACTIONS}",
                problems=exc.problems,
            ) from None
        if not actions:
            return
        at, run_id, steps = now(), record.new_run_id(), _steps(actions)
        said = about(event, repository.name, at)
        rows = [(s.id, s.action.name, s.hook.id) for each in steps for s in each]
        with self._database.write() as cx:
            record.begin(cx, run_id, repository.record.id, said, rows, ends_by=at + self._total)
        deadline = time.monotonic() + self._total
        running = _Run(self, repository, event, run_id, at, deadline)
        try:
            running.go(steps, {})
        finally:
            failed = running.failed_of(steps)
            with self._database.write() as cx:
                record.end(cx, run_id, passed=not failed)
        if failed:
            step, output = failed[0]
            told = "\n".join(output.strip().splitlines()[:SHOWN_LINES])
            raise Vetoed(
                f"{event.kind} on '{repository.name}' is refused by hook '{step.hook.id}' of action "
                f"'{step.action.name}' (run {run_id}): {told}",
                hint=f"all of it: tulle repo hooks runs {repository.name} {run_id}",
            )

    def after(self, cx: Connection, repository: Repository, event: Event) -> None:
        """Note, in the transaction of the change, that the hooks of an event are to run."""
        with self._lock:
            known = self._known.get((repository.record.storage, event.actions_ref))
        if known is not None and not any(action.matches(event.kind, event.branch) for action in known):
            return
        request = {
            "run": record.new_run_id(),
            "repository": repository.name,
            "storage": repository.record.storage,
            "event": asdict(event),
            "at": now(),
        }
        tasks.ask(cx, TASK, repository.name, request, actor=event.actor)

    def handlers(self) -> Mapping[str, tasks.Handler]:
        """What a `tulle.state.tasks.Worker` needs to run what `after` noted."""
        return {TASK: self._run_after}

    def recover(self) -> int:
        """Mark runs failed that were under way in a process that is no more; returns how many."""
        return record.interrupt_dead(self._database)

    def prune(self, seconds: float) -> int:
        """Remove the records of what ended and began so many seconds ago, but the last of each repository."""
        before = now() - seconds
        tasks.forget(self._database, TASK, before)
        return record.prune(self._database, before)

    # ── after the fact ───────────────────────────────────────────────────────────────────────────────────

    def _run_after(self, task: tasks.Running) -> Mapping[str, Any]:
        request = task.task.request
        try:
            repository = self._lake.repository(request["repository"], actor=task.task.actor)
        except NotFound:
            return {"skipped": "the repository is no more"}
        if repository.record.storage != request["storage"]:
            return {"skipped": "the repository was made anew"}
        event, run_id, at = _event(request["event"]), str(request["run"]), float(request["at"])
        try:
            actions = self._matching(repository, event)
        except NotFound:
            return {"skipped": "the commit is no more"}
        if not actions:
            return {}
        steps = _steps(actions)
        rows = [(s.id, s.action.name, s.hook.id) for each in steps for s in each]
        said = about(event, repository.name, at)
        with self._database.write() as cx:
            if not record.resume(cx, run_id):
                record.begin(cx, run_id, repository.record.id, said, rows, ends_by=at + self._total)
        earlier = {hook.id: hook for hook in record.hooks_of(self._database, run_id)}
        deadline = time.monotonic() + self._total
        run = _Run(self, repository, event, run_id, at, deadline, attempts=len(self._retry) + 1)
        run.go(steps, earlier, lambda: task.report({"run": run_id}), self._renew)
        failed = run.failed_of(steps)
        with self._database.write() as cx:
            record.end(cx, run_id, passed=not failed)
        if run.again:
            wait = self._retry[min(*run.again, len(self._retry)) - 1]
            raise tasks.Again(wait, Unavailable(f"hooks of run {run_id} failed and are tried again"))
        return {"run": run_id, "passed": not failed}

    # ── action files ─────────────────────────────────────────────────────────────────────────────────────

    def _matching(self, repository: Repository, event: Event) -> list[Action]:
        found = self._actions(repository, event.actions_ref)
        return [action for action in found if action.matches(event.kind, event.branch)]

    def _actions(self, repository: Repository, ref: str) -> tuple[Action, ...]:
        """The action files of a ref. Invalid when one cannot be used."""
        key = (repository.record.storage, ref)
        with self._lock:
            known = self._known.get(key)
        if known is not None:
            return known
        page = repository.list(ref, ACTIONS, limit=MOST_FILES, delimiter="/")
        if page.next is not None:
            raise LimitExceeded(f"there are more than {MOST_FILES} action files in {ACTIONS}")
        actions: list[Action] = []
        problems: list[Problem] = []
        for entry in page.entries:
            try:
                if entry.size > 2_000_000:
                    raise Invalid(f"{entry.path} is larger than 2 MB")
                actions.append(parse(b"".join(repository.read(entry)), entry.path, self._schemas))
            except Invalid as exc:
                problems += exc.problems or [Problem(exc.message, hint=exc.hint)]
        problems += repeated(actions)
        if problems:
            raise Invalid("action files cannot be used", problems=problems)
        if _COMMIT_ID.match(ref):
            with self._lock:
                self._known[key] = tuple(actions)
                while len(self._known) > 1000:
                    self._known.popitem(last=False)
        return tuple(actions)


class _Run:
    """One run of hooks on its way."""

    def __init__(
        self,
        hooks: Hooks,
        repository: Repository,
        event: Event,
        run_id: str,
        at: float,
        deadline: float,
        *,
        attempts: int = 1,
    ) -> None:
        self._kinds = hooks._kinds  # noqa: SLF001  two halves of one thing
        self._database = hooks._database  # noqa: SLF001
        self._repository = repository
        self._event = event
        self._id = run_id
        self._at = at
        self._deadline = deadline
        self._attempts = attempts
        self._ended: dict[str, tuple[str, str]] = {}  # hook run: status, output
        self._stopped = threading.Event()
        self._mutex = threading.Lock()
        self.again: list[int] = []  # attempts made of the hooks that are to be tried again

    def go(
        self,
        actions: Sequence[Sequence[_Step]],
        earlier: Mapping[str, record.HookRun],
        keep: Callable[[], None] = lambda: None,
        pause: float = GRACE_SECONDS,
    ) -> None:
        """Run all actions side by side; `earlier` is what was recorded of the run before. Calls `keep` often."""
        waiting = list(reversed(actions))

        def work() -> None:
            while not self._stopped.is_set():
                with self._mutex:
                    if not waiting:
                        return
                    steps = waiting.pop()
                try:
                    self._action(steps, earlier)
                except Exception:
                    log.exception("run %s of hooks could not be carried on", self._id)
                    return

        threads = [
            threading.Thread(target=work, name=f"hooks-{i}", daemon=True)
            for i in range(min(SIDE_BY_SIDE, len(actions)))
        ]
        for thread in threads:
            thread.start()
        limit = self._deadline + GRACE_SECONDS
        try:
            for thread in threads:
                while thread.is_alive() and time.monotonic() < limit:
                    thread.join(max(0.0, min(pause, limit - time.monotonic())))
                    if thread.is_alive():
                        keep()
        finally:
            self._stopped.set()
        with self._mutex:
            lost = [s for steps in actions for s in steps if s.id not in self._ended]
        for step in lost if not self.again else ():
            self._end(step, "failed", "it did not end in time, and was left alone")

    def failed_of(self, actions: Sequence[Sequence[_Step]]) -> list[tuple[_Step, str]]:
        """The hooks that failed or never ended, with their outputs, in order."""
        found = []
        for step in (step for steps in actions for step in steps):
            status, output = self._ended.get(step.id, ("failed", "it was not run"))
            if status == "failed":
                found.append((step, output))
        return found

    def _action(self, steps: Sequence[_Step], earlier: Mapping[str, record.HookRun]) -> None:
        failed = False
        for step in steps:
            before = earlier.get(step.id)
            made = before.attempts if before is not None else 0
            if before is not None and before.status == "completed":
                self._ended[step.id] = ("completed", before.output)
                continue
            if before is not None and before.status == "failed" and made >= self._attempts:
                self._ended[step.id] = ("failed", before.output)
                failed = True
                continue
            if self._stopped.is_set():
                return
            if not step.hook.wanted(failed=failed):
                reason = "an earlier hook failed" if failed else "its condition does not hold"
                self._end(step, "skipped", f"skipped: {reason} (if: {step.hook.condition})")
                continue
            if made >= self._attempts:
                outcome = Outcome(False, "the server ended while it ran, too often", final=True)
            else:
                with self._database.write() as cx:
                    record.hook_begins(cx, self._id, step.id)
                outcome = self._outcome(step)
                made += 1
            self._end(step, "completed" if outcome.passed else "failed", outcome.output)
            if not outcome.passed:
                failed = True
                if made < self._attempts and not outcome.final:
                    self.again.append(made)
                    return  # what follows depends on how it ends at last
                if made < self._attempts:
                    self._exhaust(step)

    def _exhaust(self, step: _Step) -> None:
        with self._database.write() as cx:
            record.exhaust(cx, self._id, step.id, self._attempts)

    def _outcome(self, step: _Step) -> Outcome:
        secrets: tuple[str, ...] = ()
        try:
            kind = self._kinds.get(step.hook.type)
            if kind is None:
                raise Invalid(f"hooks of type '{step.hook.type}' are not set up here")
            properties, secrets = filled(step.hook.properties)
            call = HookCall(
                self._repository,
                self._event,
                self._id,
                step.id,
                step.action.name,
                step.hook.id,
                properties,
                self._at,
                self._deadline,
            )
            late = Outcome(False, "there was no time left for it")
            outcome = kind.run(call) if call.seconds_left else late
        except Unavailable as exc:
            outcome = Outcome(False, str(exc.message))
        except TulleError as exc:
            lines = [exc.message, *map(str, exc.problems), *([exc.hint] if exc.hint else [])]
            outcome = Outcome(False, "\n".join(lines), final=True)
        except Exception as exc:
            log.exception("hook %s of run %s met a defect", step.hook.id, self._id)
            outcome = Outcome(False, f"a defect in tulle: {type(exc).__name__}", final=True)
        password = step.hook.properties.get("password")
        more = (str(password),) if password else ()
        output = _cut(hidden(outcome.output, (*secrets, *outcome.secrets, *more)))
        return Outcome(outcome.passed, output, outcome.final)

    def _end(self, step: _Step, status: str, output: str) -> None:
        with self._mutex:
            if step.id in self._ended:  # it was left alone before
                return
            self._ended[step.id] = (status, output)
        with self._database.write() as cx:
            record.hook_ends(cx, self._id, step.id, status, output)


def _steps(actions: Sequence[Action]) -> list[list[_Step]]:
    return [
        [_Step(f"{i:04d}_{j:04d}", action, hook) for j, hook in enumerate(action.hooks)]
        for i, action in enumerate(actions)
    ]


def _event(value: Mapping[str, Any]) -> Event:
    commit = value["commit"]
    if commit is not None:
        commit = Commit(**{**commit, "parents": tuple(commit["parents"])})
    return Event(**{**value, "commit": commit})


def _cut(text: str) -> str:
    if len(text) <= OUTPUT_CHARACTERS:
        return text
    head, tail = OUTPUT_CHARACTERS // 4, OUTPUT_CHARACTERS * 3 // 4
    return f"{text[:head]}\n… ({len(text) - head - tail} characters left out) …\n{text[-tail:]}"
