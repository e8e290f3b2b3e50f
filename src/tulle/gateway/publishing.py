"""Publishes what can be published: a service that the gateway refuses keeps no other one's changes from it.

What is refused, or takes Envoy too long to read, stays at its last good form, or out when it never had one; every
other service, and who may call, is published. Whose fault it is Envoy does not say, so it is found by asking for fewer
services at a time. The faulty one is tried again when it is wanted otherwise, and after a while: what it needs may be
there by then. Knows nothing of the database, and not who wants what.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from tulle.config import Settings
from tulle.errors import Broken, Invalid, TulleError
from tulle.gateway.envoy import Gateway, PublishResult
from tulle.gateway.envoy_validation import TooSlow
from tulle.gateway.faults import Fault, read_faults, write_faults
from tulle.gateway.policy import GatewayPolicy, ManagedService, Stopped, path_of
from tulle.state.db import now

LOG = logging.getLogger("tulle")
AGAIN_SECONDS: Final = 60.0  # each try costs Envoy a few validations
AGAIN_SECONDS_MOST: Final = 600.0
IN_FORCE: Final = "run/gateway/in-force.json"  # of .tulle/

Place = tuple[str, str]  # service, or API with its version (`orders@v1`), and environment
Forms = Mapping[str, ManagedService]  # by path
Whole = Callable[[Collection[ManagedService]], GatewayPolicy]
Accept = Callable[[Forms], str]  # what is wrong with these services together; "" for nothing


@dataclass(frozen=True, slots=True)
class Unmade:
    """Why no form could be made of a service, whether it is stopped all the same, and what to do about it."""

    message: str
    stopped: Stopped | None = None
    hint: str = ""


@dataclass(frozen=True, slots=True)
class _Refused:
    """A form that is not taken, why, and when it is tried again (monotonic seconds)."""

    form: ManagedService
    message: str
    again_at: float
    pause: float


class Publisher:
    """Publishes the services of one mesh to its gateway. One a control plane; not for several threads at once."""

    def __init__(
        self, settings: Settings, gateway: Gateway, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._gateway = gateway
        self._clock = clock
        self._file = settings.state_folder / IN_FORCE
        self._good: Forms | None = None
        self.published: GatewayPolicy | None = None  # the last one that was put in force
        self._refused: dict[str, _Refused] = {}
        self._faults = {(one.service, one.environment): one for one in read_faults(settings)}

    def publish(
        self, wanted: Sequence[ManagedService], whole: Whole, unmade: Mapping[Place, Unmade] | None = None
    ) -> PublishResult:
        """Put in force what can be of `wanted`; `whole` makes the policy of services.

        `unmade` are services of which not even a form could be made. What is stopped stops, also where the rest of it
        is not taken. Raises what `Gateway.publish` raises where that is no service's fault.
        """
        lacking = {path_of(*place): one for place, one in (unmade or {}).items()}
        forms = {service.path: service for service in wanted}
        stopped = {path: one.stopped for path, one in (lacking | forms).items()}
        good = {
            path: form if form.stopped == stopped[path] else replace(form, stopped=stopped[path])
            for path, form in self._in_force().items()
            if path in stopped
        }
        places = {
            **{s.path: (s.known_as, s.environment) for s in wanted},
            **{path_of(*p): p for p in unmade or {}},
        }
        held = self._held(forms)
        instead = {path: good[path] for path in (*held, *lacking) if path in good}
        first = {**instead, **{path: form for path, form in forms.items() if path not in held}}
        chosen: Forms = first
        refusals: Mapping[str, str] = {}
        try:
            result = self._put(whole(list(first.values())))
        except (Broken, TooSlow) as exc:
            standing = {path: good[path] for path in first if path in good}
            result, chosen, refusals = self._part(first, standing, whole, exc)
        self._remember(chosen)
        fresh = {p: self._refuse(p, forms[p], said) for p, said in refusals.items() if p in forms}
        self._refused = {**held, **fresh}
        told = {path: (one.message, "") for path, one in self._refused.items()}
        told |= {path: (one.message, one.hint) for path, one in lacking.items()}
        self._tell({places[path]: (*said, path in chosen) for path, said in told.items()})
        return result

    def _put(self, policy: GatewayPolicy) -> PublishResult:
        result = self._gateway.publish(policy)
        if result.changed or self.published is None:
            self.published = policy
        return result

    def in_force(self) -> Collection[ManagedService]:
        """The services as they were published last, which stay where something newer is refused."""
        return self._in_force().values()

    def fault_of(self, place: Place) -> Fault | None:
        """What is wrong with a service as it was wanted last, if anything is."""
        return self._faults.get(place)

    def _part(
        self, wanted: Forms, standing: Forms, whole: Whole, refusal: TulleError
    ) -> tuple[PublishResult, Forms, Mapping[str, str]]:
        """Publish the most that is taken, once it is known that all is not; what that is, and why not the rest."""
        done: list[PublishResult] = []

        def look(forms: Forms) -> str:
            return _why_not(lambda: self._gateway.check(whole(list(forms.values()))))

        def do(forms: Forms) -> str:
            return _why_not(lambda: done.append(self._put(whole(list(forms.values())))))

        chosen, said = fitting(wanted, standing, look, refusal.message)
        # What took too long once may be read in time now.
        if (said or isinstance(refusal, TooSlow)) and not do(chosen):
            return done[-1], chosen, said
        # Envoy finds nothing wrong as long as it only looks: the one that runs has to say what it does not take.
        if not standing:  # nothing is known that could stay: whatever answers now goes on
            raise refusal
        if wrong := do(standing):
            raise Broken(wrong, hint=refusal.hint)
        chosen, said = fitting(wanted, standing, do, refusal.message)
        return done[-1], chosen, said

    # ── what is remembered ───────────────────────────────────────────────────────────────────────────────

    def _held(self, forms: Forms) -> dict[str, _Refused]:
        """What was refused as it is wanted still, and is not to be tried again yet."""
        at = self._clock()
        known = self._refused.items()
        return {path: one for path, one in known if forms.get(path) == one.form and at < one.again_at}

    def _refuse(self, path: str, form: ManagedService, message: str) -> _Refused:
        before, pause = self._refused.get(path), AGAIN_SECONDS
        if before is not None and before.form == form:
            pause = min(before.pause * 2, AGAIN_SECONDS_MOST)
        return _Refused(form, message, self._clock() + pause, pause)

    def _in_force(self) -> Forms:
        """The services as they were published last, also by a control plane before this one."""
        if self._good is None:
            try:
                found = msgspec.json.decode(self._file.read_bytes(), type=list[ManagedService])
            except (OSError, ValueError, Invalid):  # nobody did, or by a version that knew other services
                found = []
            self._good = {service.path: service for service in found}
        return self._good

    def _remember(self, chosen: Forms) -> None:
        if chosen == self._good:
            return
        self._good = chosen
        fresh = self._file.with_suffix(".new")
        try:
            fresh.write_bytes(msgspec.json.encode(list(chosen.values())))
            fresh.chmod(0o600)
            fresh.rename(self._file)
        except (OSError, ValueError) as exc:  # this control plane knows it all the same
            LOG.warning("what the gateway has now is not written down: %s", exc)

    def _tell(self, found: Mapping[Place, tuple[str, str, bool]]) -> None:
        """Note what is wrong, with what to do, and what is so no more, in the log and for whoever looks."""
        faults = {}
        for place, (message, hint, is_kept) in sorted(found.items()):
            before = self._faults.get(place)
            since = before.since if before is not None else now()
            faults[place] = Fault(*place, message, since, is_kept, hint)
            if before is None or before.message != message:
                LOG.warning("service '%s': %s", path_of(*place), faults[place].sentence)
        for place in self._faults.keys() - faults.keys():
            LOG.warning("service '%s': the gateway has it as it is wanted again", path_of(*place))
        if faults == self._faults:
            return
        self._faults = faults
        try:
            write_faults(self._settings, faults.values())
        except OSError as exc:
            LOG.warning("what is wrong with services at the gateway is not written down: %s", exc)


def fitting(
    wanted: Forms, standing: Forms, accept: Accept, known: str
) -> tuple[dict[str, ManagedService], dict[str, str]]:
    """Of `wanted` the most that is accepted together, what stands in place of the rest, and why the rest is not.

    `known` is why all of it is not. Asks about twice the logarithm of how many are wanted for each that is refused.
    Raises Broken when no services at all are refused as well: then it is no service's fault.
    """
    chosen, refused = dict(standing), dict[str, str]()
    changed = [path for path, form in wanted.items() if standing.get(path) != form]

    def add(paths: Sequence[str], said: str) -> None:
        """Take those of `paths` that are accepted; `said` is why not all of them are."""
        if not said:
            chosen.update({path: wanted[path] for path in paths})
        elif len(paths) == 1:
            refused[paths[0]] = said
        else:
            for part in (paths[: len(paths) // 2], paths[len(paths) // 2 :]):
                add(part, accept({**chosen, **{path: wanted[path] for path in part}}))

    if changed and not accept(chosen):
        add(changed, known)
        return chosen, refused
    chosen.clear()  # what stood is not accepted any more either
    if said := accept(chosen):
        raise Broken(said, hint="the last good configuration stays in force; `tulle logs gateway` shows more")
    add(list(wanted), known)
    for path in refused:
        if (
            path in standing
            and standing[path] != wanted[path]
            and not accept({**chosen, path: standing[path]})
        ):
            chosen[path] = standing[path]
    return chosen, refused


def _why_not(act: Callable[[], object]) -> str:
    try:
        act()
    except (Broken, TooSlow) as exc:
        return exc.message
    return ""
