"""The real Envoy as this mesh's gateway: publishes policies to it, tells how to start it and how it fares.

A policy is published by rendering it, letting Envoy itself look at what is new, and replacing the files that changed,
each of which the running Envoy has to take (`envoy_replacement`). Publishing takes turns by a file lock, and what is in
force already is left alone. Knows nothing of the database; who starts the process is the supervisor's matter.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from tulle.config import Settings
from tulle.errors import Broken, Invalid, LimitExceeded, TulleError, Unavailable
from tulle.gateway import envoy_files
from tulle.gateway.admin import Admin, Taken
from tulle.gateway.ended import without_ended
from tulle.gateway.envoy_inner import chains_of
from tulle.gateway.envoy_listener import listeners
from tulle.gateway.envoy_process import Command, EnvoyProcess
from tulle.gateway.envoy_replacement import Replacement
from tulle.gateway.envoy_route_files import RouteFiles
from tulle.gateway.envoy_validation import Validation
from tulle.gateway.envoy_values import (
    ADMIN_SOCKET,
    AS_BYTES,
    FOLDER,
    Door,
    Json,
    Traces,
    processor_socket,
)
from tulle.gateway.policy import GatewayPolicy
from tulle.gateway.private_file import replace_private
from tulle.gateway.processing.plan import FILE as PLAN
from tulle.gateway.processors import Processors
from tulle.gateway.signing import Signing, stamp_of
from tulle.gateway.unread import unread
from tulle.gateway.watched_files import Published, WatchedFiles
from tulle.gateway.watched_files import digest as file_digest

WARM_UP_SECONDS: Final = 0.03  # at a time, five times a second
_Standing = tuple[
    str, tuple[object, ...], str
]  # a digest, the files as they were, and with what is signed in
_NOT_RENDERED: Final = (ValueError, TypeError, LookupError, ArithmeticError, Invalid)
_NO_STEPS: Final = b'"resources":[]'
_AS_JSON: Final = tuple(name for name in envoy_files.FILES if name not in AS_BYTES)
# Who is refused from now on is refused first; their buckets, which may be ten thousand, come after.
_FIRST_AWAY: Final = ("auth", "routes", *(n for n in envoy_files.FILES if n not in {"auth", "routes"}))


@dataclass(frozen=True, slots=True)
class PublishResult:
    """What publishing did: the files replaced, and whether a running Envoy confirmed that it took them."""

    digest: str
    changed: tuple[str, ...]
    confirmed: bool
    seconds: float


class Gateway:
    """The gateway of one mesh. Safe to use from several processes: publishing takes turns by a file lock."""

    def __init__(
        self,
        settings: Settings,
        *,
        before: Callable[[], GatewayPolicy] | None = None,
        signings: Callable[[GatewayPolicy], Mapping[str, Signing]] | None = None,
    ) -> None:
        """`before` makes what was published last, as far as anybody knows; it is asked once, and only if it matters.

        `signings` tells what a policy's external services are signed in to with, by the paths of the services.
        """
        self._settings = settings
        self._before = before
        self._signings_of = signings or (lambda _: {})
        self._signings: Mapping[str, Signing] = {}  # of the policy that is being rendered
        self._root = settings.state_folder
        self._folder = self._root / FOLDER
        self._door = Door(
            host=_address(settings.host),
            port=settings.gateway_port,
            traces=_traces(settings),
            mutual_tls=settings.mutual_tls,
            processors=settings.gateway_processors,
            most_bytes=settings.gateway_megabytes * 1_000_000,
            trusted_proxies=settings.trusted_proxies,
            proxied_port=settings.proxy_protocol_port,
            **_front_tls(settings),
        )
        self._files = WatchedFiles(self._folder)
        self._admin = Admin(self._root, ADMIN_SOCKET)
        self.process = EnvoyProcess(settings)
        self._routes = RouteFiles(settings.gateway_processors)
        self._is_warm = False  # whether all that is in force has been rendered by this process
        self._processors = Processors(self._root, settings.gateway_processors)
        log = settings.log_folder / "gateway.log"
        self._replacement = Replacement(self._files, self._admin, self._processors, log)
        self._validation = Validation(self._root)
        self._last = GatewayPolicy()  # that is known to be in force
        self._stands: _Standing | None = None
        # What else decides the files beside the policy: this code and the settings.
        empty = GatewayPolicy()
        template = [envoy_files.static_twin(empty, self._door), envoy_files.bootstrap(self._door)]
        self._template = msgspec.json.encode(template).decode()

    # ── publishing ───────────────────────────────────────────────────────────────────────────────────────

    def prepare(self) -> None:
        """Make sure Envoy starts as the settings say, with the last published policy or one that admits nobody.

        Nobody is admitted when a file is missing, damaged or not the one that was published; the next publishing
        makes it right.
        """
        with self._plain_errors():
            for name in AS_BYTES:  # as a version before this one wrote them; nobody reads them any more
                (self._folder / f"{name}.json").unlink(missing_ok=True)
            # The port and the like are in files that no policy changes: those can always be made anew.
            settled = {
                "bootstrap": _encoded(envoy_files.bootstrap(self._door)),
                **envoy_files.written(GatewayPolicy(), self._door, ["listeners"]),
            }
            if not all(self._files.is_sound(name) for name in envoy_files.FILES if name not in settled):
                self.publish(GatewayPolicy())
                return
            for name, content in settled.items():
                if self._files.read(name) != content:
                    with self._only_publisher():
                        replace_private(self._files.path(name), content)

    def publish(self, policy: GatewayPolicy) -> PublishResult:
        """Put `policy` in force; does nothing when it is already.

        When no Envoy runs the files are written and the next one starts with them. Raises Broken, with Envoy's
        own words, when Envoy refuses the configuration, and Unavailable when it runs but does not take it in time;
        the last good configuration stays in force in both cases. So it does when the disk is full (LimitExceeded).
        """
        with self._plain_errors():
            return self._publish(policy)

    def _publish(self, policy: GatewayPolicy) -> PublishResult:
        began = time.monotonic()
        self._signings = self._signings_of(policy)
        stands = self._stands
        if stands is None or stands != self._as_standing(
            stands[0]
        ):  # whatever is in place has to be looked at
            digest = self._digest_of(policy)
            if self._files.is_in_place(digest):
                self._last, self._stands = policy, self._as_standing(digest)
                return PublishResult(
                    digest, (), confirmed=self.is_running(), seconds=time.monotonic() - began
                )
        elif policy == self._last:
            self._warm_up(policy)
            return PublishResult(stands[0], (), confirmed=self.is_running(), seconds=time.monotonic() - began)
        self._recall()
        left, changed = without_ended(self._last, policy), tuple[str, ...]()
        if left not in (self._last, policy):
            # Whatever is wrong with the rest, who is refused from now on is refused.
            with contextlib.suppress(TulleError):
                changed = self._put_in_force(left, only_ends=True).changed
        result = self._put_in_force(policy, only_ends=left == policy)
        return replace(
            result,
            changed=tuple(dict.fromkeys((*changed, *result.changed))),
            seconds=time.monotonic() - began,
        )

    def _as_standing(self, digest: str) -> _Standing:
        """What is in force under this digest, as the files are and with what is signed in with now."""
        return digest, self._files.stamps(), stamp_of(self._signings)

    def _digest_of(self, policy: GatewayPolicy) -> str:
        with _renderable():
            return envoy_files.digest_of(policy.digest(), self._template, stamp_of(self._signings))

    def _recall(self) -> None:
        """Know again what a process before this one has published, where that is what the files hold.

        So who is revoked is refused first, and what is in force is not read again, by the first change as by any other.
        """
        before, self._before = self._before, None
        if before is None or self._stands is not None:
            return
        with contextlib.suppress(TulleError, *_NOT_RENDERED):  # then it is read again
            found = before()
            for alive, guarded in itertools.product((True, False), repeat=2):
                policy = replace(found, is_alive=alive, is_guarded=guarded)
                digest = self._digest_of(policy)
                if self._files.is_in_place(digest):
                    self._last, self._stands = policy, self._as_standing(digest)
                    return

    def _put_in_force(self, policy: GatewayPolicy, *, only_ends: bool) -> PublishResult:
        began = time.monotonic()
        with self._only_publisher():
            wanted, digest, before = self._checked(policy)
            if (former := self._files.read_whole("limits")) is not None:
                wanted["limits"] = envoy_files.with_former_limits(wanted["limits"], former)
            order = _FIRST_AWAY if only_ends else envoy_files.FILES
            changed = [name for name in order if self._files.read(name) != wanted[name]]
            start = _encoded(envoy_files.bootstrap(self._door))
            if self._files.read("bootstrap") != start:
                replace_private(self._files.path("bootstrap"), start)
            confirmed = self._replacement.replace(
                changed, wanted, before, kept=order if only_ends else ("auth",)
            )
            record = Published(digest, {n: file_digest(c) for n, c in {**wanted, "bootstrap": start}.items()})
            # The policy is in force by now; without the record the next publishing looks at every file.
            with contextlib.suppress(OSError):
                replace_private(self._files.record, msgspec.json.encode(record))
            self._last, self._stands = policy, self._as_standing(digest)
            self._is_warm = True
        return PublishResult(digest, tuple(changed), confirmed, time.monotonic() - began)

    def _warm_up(self, policy: GatewayPolicy) -> None:
        """Where there is nothing to do: get ready for what comes next, a little at a time."""
        if not self._is_warm:
            with contextlib.suppress(*_NOT_RENDERED):  # it is in force, and told when it is changed
                self._is_warm = self._routes.warm_up(policy, WARM_UP_SECONDS)
        else:
            self._validation.get_ready()

    def was_published(self) -> bool:
        """Whether there is something that an Envoy which starts would begin with."""
        return self._files.record.exists()

    def check(self, policy: GatewayPolicy) -> None:
        """Broken, with Envoy's own words, when it would refuse `policy`; Unavailable when it does not say so in time.

        Nothing is published.
        """
        with self._plain_errors():
            self._make_folders()
            self._recall()
            former, self._signings = self._signings, self._signings_of(policy)
            try:
                self._checked(policy)
            finally:
                self._signings = former

    def _checked(self, policy: GatewayPolicy) -> tuple[dict[str, bytes], str, Mapping[str, Taken] | None]:
        """The files, which Envoy has found nothing wrong with, the policy's digest, and what is in force before.

        Envoy looks while they are put together. There is nothing in force where none runs.
        """
        new = self._unread(policy)
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="validate") as looking:
            said = looking.submit(self._validation.look, new) if new is not None else None
            try:
                files = self._rendered(policy)
                digest, before = self._digest_of(policy), self._replacement.in_force()
            finally:
                if said is not None:
                    said.result()  # what Envoy says of it is said in its own words
        return files, digest, before

    def _rendered(self, policy: GatewayPolicy) -> dict[str, bytes]:
        with _renderable():
            found = envoy_files.written(policy, self._door, _AS_JSON, self._signings)
            return found | {"inner": self._routes.inner(policy), "routes": self._routes.front(policy)}

    def _unread(self, policy: GatewayPolicy) -> bytes | None:
        """What is new of the configuration, in one static file; None where nothing is.

        What Envoy has read before, in the policy that is in force, it does not read again: a change of one service
        would wait for all others. What the processor is to do is looked at as the processor would.
        """
        fresh = unread(policy, self._last)
        with _renderable():
            chains = chains_of(policy)
            content = _encoded(envoy_files.static_twin(fresh, self._door, self._signings))
        self._processors.check(chains)
        is_known = self._stands is not None and fresh == replace(
            self._last, services=(), clients=(), contracts=()
        )
        return None if is_known else content

    # ── the process ──────────────────────────────────────────────────────────────────────────────────────

    def command(self) -> Command:
        """How to start Envoy; `prepare` or `publish` must have come first."""
        return self.process.command()

    def processor_sockets(self) -> tuple[str, ...]:
        """Where the processors have to answer, relative to .tulle/; none where no service has steps."""
        try:
            with self._files.path(PLAN).open("rb") as file:
                is_needed = _NO_STEPS not in file.read(200)
        except OSError:
            return ()
        return tuple(map(processor_socket, range(self._door.processors))) if is_needed else ()

    def is_running(self) -> bool:
        """Whether an Envoy answers on the admin socket."""
        return self._admin.is_there()

    def ready(self) -> bool:
        """Whether Envoy runs and has opened its doors."""
        try:
            stats = self._admin.stats(r"^(server\.state|listener_manager\.total_listeners_active)$", "Gauges")
        except Unavailable:
            return False
        doors = len(listeners(self._door)) + 2  # that of the processor, and the one that is waited at
        return stats.get("server.state") == "0" and (
            stats.get("listener_manager.total_listeners_active") == str(doors)
        )

    @contextlib.contextmanager
    def _plain_errors(self) -> Iterator[None]:
        """Say what the operating system's refusal means for the user."""
        try:
            yield
        except OSError as exc:
            where = exc.filename or self._folder
            if exc.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
                raise LimitExceeded(
                    f"disk full: the gateway's files in {self._folder} could not be written ({exc.strerror})",
                    hint="free some disk space and try again; the running gateway keeps what it has",
                ) from exc
            raise Unavailable(
                f"the gateway's files could not be read or written: {where} ({exc.strerror or exc})",
                hint=f"check who owns {self._folder} and whether something else is in its place",
            ) from exc

    def _make_folders(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder.chmod(0o700)
        self._settings.log_folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    @contextlib.contextmanager
    def _only_publisher(self) -> Iterator[None]:
        self._make_folders()
        with (self._folder / "publish.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Whoever dies while publishing leaves no digest, so the next one looks at every file.
            self._files.record.unlink(missing_ok=True)
            yield


@contextlib.contextmanager
def _renderable() -> Iterator[None]:
    """What cannot be written in Envoy's words is a refusal like Envoy's own."""
    try:
        yield
    except _NOT_RENDERED as exc:
        raise Broken(
            f"the gateway's configuration cannot be rendered: {exc}",
            hint="nothing was published; the last good configuration stays in force",
        ) from exc


def _front_tls(settings: Settings) -> dict[str, Any]:
    tls = settings.gateway_tls
    if tls is None:
        return {}
    return {
        "tls": True,
        "hsts_seconds": tls.hsts_seconds,
        "plain_port": tls.plain_port,
        "plain_serves": tls.plain == "serve",
    }


def _traces(settings: Settings) -> Traces | None:
    if not settings.trace_collector:
        return None
    parts = urlsplit(settings.traces_url)
    host = _address(parts.hostname or "")
    return Traces(settings.traces_url, host, parts.port or 80, settings.trace_one_in)


def _address(host: str) -> str:
    return "127.0.0.1" if host == "localhost" else host


def _encoded(content: Json) -> bytes:
    return msgspec.json.encode(content)
