"""Every setting of a mesh on one page, read once at the edge and passed on as values.

A mesh is a folder with a `mesh.yaml`. Its settings are the fields below; each may be overridden by the
environment variable `TULLE_<FIELD>` (for example `TULLE_GATEWAY_PORT`). Nothing else in the code reads the
environment. Knows nothing of YAML: `spec.mesh` reads the file (with positions) and calls `settings_from`.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from tulle.errors import Invalid, did_you_mean

STORE_SCHEMES = ("local:///", "s3://", "gs://", "https://")  # of places data may be kept in
_ENVIRONMENT = re.compile(r"(?!(?:run|ingest|preview)-)[a-z0-9]+(?:[-_][a-z0-9]+){0,8}")
_LONGEST_ENVIRONMENT = 63  # characters: it is a part of addresses and of file names
_WAREHOUSE = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+){0,15}")
_SIZE = re.compile(r"[1-9][0-9]{0,8}(?:\.[0-9]{1,3})?\s?(?:[KMGT]i?B|[kKmMgGtT]B)")
_COLLECTOR = re.compile(r"http://[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?/?")
_NAME = re.compile(
    r"(?:\*\.)?[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?){0,30}"
)
_MOST = 1_000_000  # of any bound
MOST_NETWORKS = 100  # of proxies: each request is held against all of them
# Of settings that are numbers: the least and the most each may be.
BOUNDS: Mapping[str, tuple[int, int]] = {
    "service_workers": (1, 64),
    "gateway_concurrency": (1, 64),
    "gateway_drain_seconds": (1, 600),
    "gateway_megabytes": (200, 1_000_000),
    "gateway_processors": (1, 16),
    "max_request_bytes": (1024, 1 << 30),
    "hook_run_days": (1, 36_500),
    "scheduled_runs": (1, 1000),
    "check_result_days": (1, 36_500),
    "run_record_days": (1, 36_500),
    "stale_branch_days": (0, 36_500),
    "notice_days": (0, 36_500),
    "trace_one_in": (1, 1_000_000),
    "insight_days": (1, 400),
    "insight_megabytes": (16, 1_000_000),
}
# What of them is taken up while the mesh runs, when it is asked for. All else is given to processes when they start, or
# is what is on the disk and in the lake.
TAKEN_UP = (
    "policies",
    "tiers",
    "default_rate_limit",
    "watches",
    "source_addresses",
    "alerts",
    "alert_addresses",
    "contact_channel",
    "contact_domains",
    "webhook_addresses",
)
STATE_FOLDER = ".tulle"  # in the mesh folder: everything Tulle itself keeps


def setting(default: Any, text: str) -> Any:
    """A field with a default and the sentence that documents it."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, slots=True)
class Warehouse:
    """The bounds within which runs compute: those of a domain, or of the products that name it."""

    threads: int = setting(2, "threads of the SQL engine in one run")
    memory: str = setting("2GB", "memory of the SQL engine in one run; beyond it the engine spills to disk")
    temp_disk: str = setting("10GB", "disk the engine may use for spilling in one run")
    concurrent_runs: int = setting(2, "runs that may compute in it at the same time; further ones wait")
    queue: int = setting(
        100, "runs asked for by people that may wait for their turn; a further one is refused"
    )
    run_timeout_seconds: int = setting(3600, "a run that takes longer is stopped and fails")


@dataclass(frozen=True, slots=True)
class Environment:
    """A long-lived branch of every product's repository, and what runs on it are bound to."""

    name: str = setting("", "what people call it")
    branch: str = setting("", "the branch of every repository that it is; empty means its name")
    after: str = setting("", "a release must have been in that environment before it is promoted to this one")
    approvers: tuple[str, ...] = setting(
        (), "who may approve that a release is promoted to it, or a service deployed"
    )
    approvals: int = setting(-1, "how many of them must; by default one where approvers are named, else none")
    fallback: str = setting(
        "", "the environment whose data of other products is read where this one has none"
    )
    connections: str = setting("", "the environment whose connections its runs use; empty means its own")
    deployers: tuple[str, ...] = setting((), "who may deploy services to it; empty: everybody")
    before_deploy: tuple[str, ...] = setting((), "addresses that are asked first; one that refuses stops it")
    after_deploy: tuple[str, ...] = setting((), "addresses that are told when a service answers anew")
    schedules: bool = setting(False, "whether the clock and the age of data start runs in it")
    stage: str = setting("", "what it is for; pages and commands show it")
    test_queries: str = setting(
        "tell",
        "what test queries that fail after a deployment lead to: it is told, or what answered before answers again "
        "(rollback); with skip none are asked",
    )


STAGES = ("development", "test", "production")
TEST_QUERIES = ("tell", "rollback", "skip")
PRODUCTION = Environment("prod", "main", approvals=0, connections="prod", schedules=True, stage="production")


@dataclass(frozen=True, slots=True)
class PolicySet:
    """Policies of the gateway for many services; what is not named is not asked."""

    policies: tuple[Mapping[str, Any], ...] = setting((), "what the gateway does, as in a services file")
    domains: tuple[str, ...] = setting((), "for services of products of these domains; default: of all")
    tags: tuple[str, ...] = setting((), "for services of products with one of these tags; default: of all")
    services: tuple[str, ...] = setting((), "for these services; default: for all")
    environments: tuple[str, ...] = setting((), "in these environments; default: in all")
    mandatory: bool = setting(False, "whether no service may do without them")


ALERT_TYPES = ("webhook", "slack", "apprise")
ALERT_EVENTS = ("failed", "checks", "late", "drift", "calls", "recovered", "access")
WATCH_MEASURES = ("rate", "errors", "wrong", "violations", "p50", "p95", "p99")
WATCH_SEVERITIES = ("info", "warning", "critical")


@dataclass(frozen=True, slots=True)
class AlertChannel:
    """Where alerts go. Its URL is written here only when it holds no secret."""

    type: str = setting("webhook", "webhook (JSON), slack, or apprise (mail, Teams and others by their URLs)")
    url: str = setting("", "where to, for a webhook whose address is no secret")
    url_variable: str = setting("", "the environment variable that holds the URL")
    on: tuple[str, ...] = setting(
        ALERT_EVENTS, "of what: failed, checks, late, drift, calls, recovered, access"
    )
    domains: tuple[str, ...] | None = setting(None, "of the products of these domains; default: of all")
    products: tuple[str, ...] | None = setting(None, "of these products; default: of all")
    environments: tuple[str, ...] = setting(("main",), "of these environments, by their branches")


@dataclass(frozen=True, slots=True)
class Watch:
    """A statement about what services are asked, and when it is told that it does not hold."""

    measure: str = setting(
        "errors",
        "rate (requests a second), errors (share of 5xx), wrong (share of 4xx), violations (refused requests), or p50, "
        "p95, p99 (milliseconds)",
    )
    above: float | None = setting(None, "more than this is told")
    below: float | None = setting(None, "less than this is told")
    service: str = setting("", "of this service or API; default: of each")
    operation: str = setting("", "of this operation only, such as `POST /next-offer/predict`")
    environment: str = setting("", "as deployed in this environment; default: that of consumers")
    minutes: int = setting(5, "minutes of a period")
    periods: int = setting(3, "consecutive periods it has to last until it is told")
    least: int = setting(1, "requests in a period below which a share or a latency says nothing")
    severity: str = setting("warning", "info, warning or critical")


PLAIN_DOORS = ("redirect", "serve")


@dataclass(frozen=True, slots=True)
class GatewayTls:
    """How callers meet the gateway by TLS: with a certificate of one's own, or one that the mesh makes."""

    self_signed: bool = setting(
        False, "whether the mesh makes the certificate itself, for this machine and `names`"
    )
    certificate: str = setting("", "the file of the certificate, followed by those that signed it, PEM")
    key: str = setting("", "the file of its private key, PEM, without a passphrase")
    names: tuple[str, ...] = setting((), "further names and addresses in a certificate that the mesh makes")
    host: str = setting("", "the name of the gateway in addresses that are shown; default: that of `host`")
    hsts_seconds: int = setting(
        0, "for how long browsers come back by TLS alone (HSTS); 0: they are not told"
    )
    plain_port: int = setting(0, "a port beside it that is without TLS; 0: none")
    plain: str = setting(
        "redirect",
        "what that port does: redirect (to TLS what can have no secret, and refuse the rest), or serve",
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one mesh."""

    folder: Path = setting(Path(), "the mesh folder; holds mesh.yaml, products/ and .tulle/")
    name: str = setting("mesh", "the name of the mesh, shown in the portal")
    description: str = setting("", "one sentence about the mesh, shown in the portal")
    host: str = setting("127.0.0.1", "the address every door binds to; only loopback is accepted")
    control_plane_port: int = setting(8080, "port of the portal and of Tulle's API")
    gateway_port: int = setting(8000, "port of the gateway, where services answer")
    s3_port: int = setting(8333, "port of the lake's S3 door")
    gateway_tls: GatewayTls | None = setting(None, "TLS for the gateway's callers; left out: there is none")
    gateway_concurrency: int = setting(2, "worker threads of the gateway's Envoy")
    gateway_drain_seconds: int = setting(
        30,
        "seconds that requests have to end when another process takes the gateway over; 10 at most when it stops",
    )
    gateway_megabytes: int = setting(
        2000,
        "memory of the gateway's Envoy: near it idle connections are closed, at it requests are refused (503)",
    )
    gateway_processors: int = setting(
        1, "processes for policies that Envoy cannot carry out; they run where a service has such policies"
    )
    trusted_proxies: tuple[str, ...] = setting(
        (),
        "proxies before the gateway that are believed from which address a request came (x-forwarded-for); empty: "
        "nobody is, the address is that of the connection",
    )
    database: str = setting("", "database URL of the control plane; empty means SQLite in .tulle/")
    storage: str = setting("", "where data is kept; empty means .tulle/objects on this disk")
    object_stores: tuple[str, ...] = setting(
        (),
        "places outside the mesh that repositories may be made over, import from and export to: "
        "s3://bucket/prefix/, gs://…, https://… (Azure), local:///folder/",
    )
    hook_addresses: tuple[str, ...] = setting(
        (),
        "private addresses that hooks of repositories may call beside public ones: networks or names, "
        "each with or without a port, for example 127.0.0.1:9000 or 10.0.0.0/8",
    )
    source_addresses: tuple[str, ...] = setting(
        (),
        "private addresses that http sources may read, and APIs lead to, beside public ones: networks or names, "
        "each with or without a port, for example 127.0.0.1:9000 or erp.internal",
    )
    hook_environments: Mapping[str, str] = field(
        default_factory=dict,
        metadata={
            "help": "Python environments that commands and suites of hooks may ask for, by name: absolute folders "
            "with bin/python, such as a virtual environment with Great Expectations"
        },
    )
    hook_run_days: int = setting(
        30,
        "days for which runs of hooks and what they wrote are kept; the last 100 of a repository always are",
    )
    check_result_days: int = setting(
        400, "days for which results of checks are kept; the last 30 of each check always are"
    )
    run_record_days: int = setting(
        400,
        "days for which records and logs of runs, fires of schedules, backfills and closed incidents are kept; the "
        "last 30 runs of a product in an environment, the last good one and what was released always are",
    )
    stale_branch_days: int = setting(
        0, "branches of failed runs that nobody moved for so many days are removed; 0 keeps them"
    )
    alerts: Mapping[str, AlertChannel] = field(
        default_factory=dict, metadata={"help": "where alerts go, by name: webhooks, Slack, mail and others"}
    )
    contact_channel: str = setting(
        "", "the channel (mail, by apprise) by which people of applications are written to; empty: nobody is"
    )
    contact_domains: tuple[str, ...] = setting(
        (), "domains of the mail addresses that people of applications are written to at"
    )
    alert_addresses: tuple[str, ...] = setting(
        (),
        "private addresses that alerts may be sent to beside public ones: networks or names, each with or "
        "without a port",
    )
    webhook_addresses: tuple[str, ...] = setting(
        (),
        "private addresses that webhooks of applications, whose owners choose them, may lead to beside public "
        "ones: networks or names, each with or without a port",
    )
    scheduled_runs: int = setting(
        8, "runs started by schedules and backfills that may be under way at the same time"
    )
    mutual_tls: bool = setting(
        False,
        "whether every hop inside the mesh is by mutual TLS: the gateway to services, and services to one another",
    )
    service_workers: int = setting(1, "worker processes of each deployed service")
    max_request_bytes: int = setting(1_048_576, "a larger request body is answered 413 by the gateway")
    default_rate_limit: str = setting(
        "50/1s", "requests per period of an application on a service it may call"
    )
    tiers: tuple[Mapping[str, Any], ...] = setting(
        (), "what applications may ask for at APIs that declare no tiers of their own: name, limits, approval"
    )
    data_folders: tuple[str, ...] = setting(
        (), "absolute folders outside the mesh that file sources may read"
    )
    warehouse: Warehouse = setting(Warehouse(), "the bounds of a domain that names none of its own")
    warehouses: Mapping[str, Warehouse] = field(
        default_factory=dict, metadata={"help": "bounds by name: that of a domain, or one that products name"}
    )
    environments: Mapping[str, Environment] = field(
        default_factory=lambda: {PRODUCTION.name: PRODUCTION},
        metadata={
            "help": "environments by name: branches of all repositories and what they are bound to; "
            "'prod' is there unless one with the branch main is"
        },
    )
    notice_days: int = setting(
        30, "days between telling consumers that a product ends and its end, where its agreements say no more"
    )

    watches: Mapping[str, Watch] = field(
        default_factory=dict,
        metadata={
            "help": "what is told of what services are asked, by name: rate, errors, latency, violations"
        },
    )
    policies: Mapping[str, PolicySet] = field(
        default_factory=dict,
        metadata={
            "help": "what the gateway does with requests of many services, by name of a set of policies"
        },
    )
    trace_collector: str = setting(
        "", "the OpenTelemetry collector that traces are sent to, by OTLP over HTTP; empty: there are none"
    )
    trace_one_in: int = setting(100, "of so many requests one is traced")
    insight_days: int = setting(30, "days for which is kept what services were asked, counted by the hour")
    insight_megabytes: int = setting(
        1024, "the most that these counts may take on the disk; the oldest are forgotten first"
    )

    trusted_keys: tuple[str, ...] = setting(
        (), "public keys of other meshes whose packages of services may be imported"
    )

    @property
    def state_folder(self) -> Path:
        """Where everything lives that Tulle itself writes."""
        return self.folder / STATE_FOLDER

    @property
    def run_folder(self) -> Path:
        """Sockets, process files and the gateway's files; safe to lose when nothing runs."""
        return self.state_folder / "run"

    @property
    def queries_folder(self) -> Path:
        """The folder in which workers leave queries until they are collected, one a service."""
        return self.state_folder / "queries"

    @property
    def log_folder(self) -> Path:
        """One log file a process."""
        return self.state_folder / "log"

    @property
    def products_folder(self) -> Path:
        """Where product folders are looked for: products/<domain>/<product>/product.yaml."""
        return self.folder / "products"

    @property
    def traces_url(self) -> str:
        """Where spans are sent to."""
        return f"{self.trace_collector.rstrip('/')}/v1/traces"

    @property
    def database_url(self) -> str:
        """The SQLAlchemy URL in force."""
        return self.database or f"sqlite:///{self.state_folder / 'state.db'}"

    @property
    def storage_namespace(self) -> str:
        """The storage namespace in force, as a `local://` or store URL."""
        return self.storage or f"local://{self.state_folder / 'objects'}"

    @property
    def gateway_url(self) -> str:
        """The gateway's address as callers are shown it, without a slash at its end."""
        return self.gateway_url_at("")

    def gateway_url_at(self, host: str) -> str:
        """The gateway's address by one of its names; by its usual one where `host` is empty."""
        if self.gateway_tls is None:
            return f"http://{host or self.host}:{self.gateway_port}"
        named = host or self.gateway_tls.host or self.host
        named = f"[{named}]" if ":" in named else named
        return f"https://{named}" + (f":{self.gateway_port}" if self.gateway_port != 443 else "")

    @property
    def trusted_file(self) -> Path | None:
        """What the gateway's callers need to trust its certificate, where the mesh makes that; None where they do."""
        if self.gateway_tls is None or not self.gateway_tls.self_signed:
            return None
        return self.state_folder / "tls" / "authority.pem"

    @property
    def ports(self) -> Mapping[str, int]:
        """Every port that a mesh of these settings listens at, by the setting."""
        found = {name: getattr(self, name) for name in ("control_plane_port", "gateway_port", "s3_port")}
        if self.gateway_tls is not None and self.gateway_tls.plain_port:
            found["gateway_tls.plain_port"] = self.gateway_tls.plain_port
        return found

    def warehouse_of(self, name: str) -> Warehouse:
        """The bounds of the warehouse of that name; a domain has the mesh's where none has its name."""
        return self.warehouses.get(name, self.warehouse)


def settings_from(
    folder: Path, values: Mapping[str, Any], environment: Mapping[str, str] | None = None
) -> Settings:
    """Build settings from plain values (already parsed from mesh.yaml) and the environment.

    Raises Invalid, naming the setting, for unknown names, wrong types and unusable values.
    """
    env = os.environ if environment is None else environment
    settings = Settings(folder=folder.resolve())
    known = {f.name: f for f in fields(Settings) if f.name != "folder"}
    for name, value in values.items():
        if name not in known:
            raise Invalid(f"mesh.yaml: unknown setting '{name}'", hint=did_you_mean(name, known))
        if name in _PARSERS:
            value = _PARSERS[name](name, value)  # noqa: PLW2901  the parsed form replaces the raw one
        else:
            _expect(name, value, type(getattr(settings, name)))
        settings = replace(settings, **{name: value})
    for name in known:
        raw = env.get(f"TULLE_{name.upper()}")
        if raw is None or name in _PARSERS:
            continue
        kind = type(getattr(settings, name))
        try:
            read: Any = _TRUTH[raw.strip().lower()] if kind is bool else kind(raw)
            settings = replace(settings, **{name: read})
        except (ValueError, KeyError):
            raise Invalid(f"TULLE_{name.upper()} is '{raw}', expected {_word(kind)}") from None
    return _checked(settings)


def _checked(settings: Settings) -> Settings:
    ports: dict[int, str] = {}
    for name, port in settings.ports.items():
        if not 1 <= port <= 65535:
            raise Invalid(f"setting '{name}' is {port}, expected a port between 1 and 65535")
        if port in ports:
            raise Invalid(f"settings '{ports[port]}' and '{name}' are the same; give each its own port")
        ports[port] = name
    for name, (least, most) in BOUNDS.items():
        if not least <= getattr(settings, name) <= most:
            raise Invalid(f"setting '{name}' is {getattr(settings, name)}, expected {least:,} to {most:,}")
    if settings.storage and not settings.storage.startswith("local:///"):
        raise Invalid(
            f"setting 'storage' is '{settings.storage}': runs write to a local disk only, so far",
            hint="leave it out, or name an absolute folder as local:///…; single repositories may be elsewhere",
        )
    if settings.database and not settings.database.startswith(("sqlite:///", "postgresql")):
        raise Invalid(
            f"setting 'database' is '{settings.database}', expected sqlite:///… or postgresql://…",
            hint="leave it out for SQLite in .tulle/",
        )
    if settings.trace_collector and not _COLLECTOR.fullmatch(settings.trace_collector):
        raise Invalid(
            f"setting 'trace_collector' is '{settings.trace_collector[:200]}', expected http://host:port",
            hint="a collector on this machine or in its network sends on to others, by TLS",
        )
    if settings.host not in {"127.0.0.1", "localhost"}:
        raise Invalid(
            f"setting 'host' is '{settings.host}': only loopback addresses are accepted",
            hint="the portal has no sign-in yet, so it must not be reachable from other machines",
        )
    return settings


def _gateway_tls(name: str, value: Any) -> GatewayTls | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise Invalid(
            f"mesh.yaml: '{name}' must be a mapping", hint="{self_signed: true}, or certificate and key"
        )
    known = {f.name: f for f in fields(GatewayTls)}
    given: dict[str, Any] = {}
    for key, item in value.items():
        if key not in known:
            raise Invalid(
                f"mesh.yaml: unknown setting '{key}' in '{name}'", hint=did_you_mean(str(key), known)
            )
        if key == "names":
            given[key] = tuple(_host(f"{name}.{key}", one) for one in _texts(f"{name}.{key}", item))
            continue
        _expect(f"{name}.{key}", item, type(known[key].default))
        given[key] = _host(f"{name}.{key}", item) if key == "host" and item else item
    return _checked_tls(name, GatewayTls(**given))


def _checked_tls(name: str, tls: GatewayTls) -> GatewayTls:
    is_given = bool(tls.certificate) and bool(tls.key)
    if bool(tls.certificate) != bool(tls.key) or is_given == tls.self_signed:
        raise Invalid(
            f"mesh.yaml: '{name}' needs either both certificate and key, or self_signed: true",
            hint="{self_signed: true} is right for one machine",
        )
    if tls.names and not tls.self_signed:
        raise Invalid(
            f"mesh.yaml: '{name}.names' are of a certificate that the mesh makes; yours has its own"
        )
    if tls.plain not in PLAIN_DOORS:
        raise Invalid(
            f"mesh.yaml: '{name}.plain' is '{tls.plain[:80]}', expected {' or '.join(PLAIN_DOORS)}",
            hint=did_you_mean(tls.plain, PLAIN_DOORS),
        )
    if not 0 <= tls.plain_port <= 65535:
        raise Invalid(f"mesh.yaml: '{name}.plain_port' is {tls.plain_port}, expected a port, or 0 for none")
    if not 0 <= tls.hsts_seconds <= 63_072_000:
        raise Invalid(f"mesh.yaml: '{name}.hsts_seconds' is {tls.hsts_seconds}, expected 0 to 63,072,000")
    if tls.hsts_seconds and (tls.self_signed or tls.plain == "serve"):
        raise Invalid(
            f"mesh.yaml: '{name}.hsts_seconds' makes browsers refuse this host without TLS, at every port",
            hint="only with a certificate that browsers know, and without `plain: serve`",
        )
    return tls


def _host(name: str, value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        if len(value) <= 253 and _NAME.fullmatch(value):
            return value
    raise Invalid(
        f"mesh.yaml: '{name}' has '{value[:100]}', which is no host",
        hint="a lower-case name such as mesh.example.com, or an address; without a port",
    )


def _warehouse(name: str, value: Any) -> Warehouse:
    if not isinstance(value, Mapping):
        raise Invalid(f"mesh.yaml: '{name}' must be a mapping of bounds")
    known = {f.name: f for f in fields(Warehouse)}
    for key, item in value.items():
        if key not in known:
            raise Invalid(
                f"mesh.yaml: unknown setting '{key}' in '{name}'", hint=did_you_mean(str(key), known)
            )
        _expect(f"{name}.{key}", item, type(known[key].default))
        if isinstance(item, int) and not 1 <= item <= _MOST:
            raise Invalid(f"mesh.yaml: '{name}.{key}' is {item}, expected 1 to {_MOST:,}")
        if key in {"memory", "temp_disk"} and not _SIZE.fullmatch(item):
            raise Invalid(f"mesh.yaml: '{name}.{key}' is '{item}', expected a size such as 512MB or 2GB")
    return Warehouse(**value)


def _warehouses(name: str, value: Any) -> dict[str, Warehouse]:
    if not isinstance(value, Mapping):
        raise Invalid(f"mesh.yaml: '{name}' must map a domain to its bounds")
    for key in value:
        if not isinstance(key, str) or not _WAREHOUSE.fullmatch(key):
            raise Invalid(
                f"mesh.yaml: '{name}.{key}' is no name of a warehouse",
                hint="that of a domain, or lower-case letters, digits and single hyphens, such as night-shift",
            )
    return {domain: _warehouse(f"{name}.{domain}", bounds) for domain, bounds in value.items()}


def _mesh_environments(name: str, value: Any) -> dict[str, Environment]:
    if not isinstance(value, Mapping):
        raise Invalid(f"mesh.yaml: '{name}' must map names to what each environment is bound to")
    found = {key: _environment(f"{name}.{key}", key, item) for key, item in value.items()}
    if not any(environment.branch == PRODUCTION.branch for environment in found.values()):
        if PRODUCTION.name in found:
            raise Invalid(
                f"mesh.yaml: '{name}.{PRODUCTION.name}' has the branch '{found[PRODUCTION.name].branch}', "
                "and no environment has 'main', on which consumers read",
                hint=f"leave out its branch, or give 'main' to another environment than '{PRODUCTION.name}'",
            )
        found[PRODUCTION.name] = PRODUCTION
    branches: dict[str, str] = {}
    for key, environment in found.items():
        if environment.branch in branches:
            raise Invalid(
                f"mesh.yaml: '{name}.{key}' has the branch '{environment.branch}' of "
                f"'{branches[environment.branch]}'; give each environment its own"
            )
        branches[environment.branch] = key
        for what in ("after", "fallback", "connections"):
            other = getattr(environment, what)
            if other and other not in found:
                raise Invalid(
                    f"mesh.yaml: '{name}.{key}.{what}' is '{other}', which is no environment",
                    hint=did_you_mean(other, found),
                )
        seen = [key]
        while seen[-1] in found and (before := found[seen[-1]].after):
            if before in seen:
                raise Invalid(
                    f"mesh.yaml: '{name}.{key}.after' leads in a circle: {' → '.join([*seen, before])}"
                )
            seen.append(before)
    return found


def _environment(path: str, name: Any, value: Any) -> Environment:
    if not isinstance(name, str) or not _ENVIRONMENT.fullmatch(name) or len(name) > _LONGEST_ENVIRONMENT:
        raise Invalid(
            f"mesh.yaml: '{path[:200]}' is no name of an environment",
            hint=f"at most {_LONGEST_ENVIRONMENT} lower-case letters, digits and single hyphens; "
            "run, ingest and preview begin other branches",
        )
    if value is not None and not isinstance(value, Mapping):
        raise Invalid(f"mesh.yaml: '{path}' must be a mapping of bindings")
    known = {f.name: f for f in fields(Environment) if f.name != "name"}
    given: dict[str, Any] = {}
    for key, item in (value or {}).items():
        if key not in known:
            raise Invalid(
                f"mesh.yaml: unknown setting '{key}' in '{path}'", hint=did_you_mean(str(key), known)
            )
        if key in {"approvers", "deployers", "before_deploy", "after_deploy"}:
            given[key] = _texts(f"{path}.{key}", item)
            continue
        _expect(f"{path}.{key}", item, type(known[key].default))
        given[key] = item
    is_production = name == PRODUCTION.name
    branch = given.get("branch") or (PRODUCTION.branch if is_production else name)
    if branch != PRODUCTION.branch and not _ENVIRONMENT.fullmatch(branch):
        raise Invalid(
            f"mesh.yaml: '{path}.branch' is '{branch}', which is no name for an environment's branch",
            hint="lower-case letters, digits and single hyphens; run, ingest and preview begin other branches",
        )
    for key, choices in (("stage", STAGES), ("test_queries", TEST_QUERIES)):
        _demand_one_of(f"{path}.{key}", given.get(key), choices)
    approvers = given.get("approvers", ())
    approvals = given.get("approvals", 1 if approvers else 0)
    if not 0 <= approvals <= len(set(approvers)):
        raise Invalid(
            f"mesh.yaml: '{path}.approvals' is {approvals}, and {len(set(approvers))} people may approve",
            hint="name as many under 'approvers' at least",
        )
    for key in ("before_deploy", "after_deploy"):
        for url in given.get(key, ()):
            if not url.startswith(("https://", "http://")) or "@" in url:
                raise Invalid(
                    f"mesh.yaml: '{path}.{key}' has '{url}', which is no plain web address",
                    hint="https://… without a user name; `hook_addresses` opens private ones",
                )
    is_main = branch == PRODUCTION.branch
    defaults = {
        "schedules": is_main,
        "stage": PRODUCTION.stage if is_main else "",
        # Who says so wants more than a word; a mesh that says nothing goes on as it did.
        "test_queries": "rollback" if given.get("stage") == PRODUCTION.stage else PRODUCTION.test_queries,
    }
    rest = {"branch": branch, "approvals": approvals, "connections": given.get("connections") or name}
    return Environment(**{"name": name, **defaults, **given, **rest})


def _demand_one_of(path: str, value: str | None, choices: tuple[str, ...]) -> None:
    if value is not None and value not in choices:
        raise Invalid(
            f"mesh.yaml: '{path}' is '{value[:40]}', expected one of: {', '.join(choices)}",
            hint=did_you_mean(value, choices),
        )


def _folders(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(
        isinstance(item, str) and Path(item).is_absolute() for item in value
    ):
        raise Invalid(f"mesh.yaml: '{name}' must be a list of absolute folders")
    return tuple(value)


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise Invalid(f"mesh.yaml: '{name}' must be a list of texts")
    return tuple(value)


def _networks(name: str, value: Any) -> tuple[str, ...]:
    found = _texts(name, value)
    if len(found) > MOST_NETWORKS:
        raise Invalid(f"mesh.yaml: '{name}' has {len(found):,} networks, expected at most {MOST_NETWORKS}")
    return tuple(_network(name, one) for one in found)


def _network(name: str, text: str) -> str:
    try:
        if "%" in text:  # a zone of this machine's, which no proxy elsewhere writes
            raise ValueError(text)
        network = ipaddress.ip_network(text)
    except ValueError as exc:
        hint = "write 10.0.0.5, or a network such as 10.0.0.0/28 or 2001:db8::/64"
        if "host bits" in str(exc):
            hint = f"the network of it is {ipaddress.ip_network(text, strict=False)}"
        raise Invalid(
            f"mesh.yaml: '{name}' has '{text[:80]}', which is no address or network", hint=hint
        ) from None
    if network.prefixlen == 0:
        raise Invalid(
            f"mesh.yaml: '{name}' has '{text[:80]}', which is every address: each caller could say any of its own",
            hint="list the addresses of the proxies alone",
        )
    return str(network)


def _keys(name: str, value: Any) -> tuple[str, ...]:
    found = _texts(name, value)
    if wrong := [one for one in found if not re.fullmatch("[0-9a-f]{64}", one)]:
        raise Invalid(
            f"mesh.yaml: '{name}' has '{wrong[0][:80]}', which is no public key",
            hint="64 hexadecimal digits in quotes, as `tulle service export` prints them",
        )
    return found


def _alerts(name: str, value: Any) -> dict[str, AlertChannel]:
    if not isinstance(value, Mapping):
        raise Invalid(f"mesh.yaml: '{name}' must map names to channels")
    return {str(key): _alert_channel(f"{name}.{key}", key, item) for key, item in value.items()}


def _alert_channel(path: str, name: Any, value: Any) -> AlertChannel:
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", name):
        raise Invalid(
            f"mesh.yaml: '{path}' is no name of a channel", hint="lower-case letters, digits, hyphens"
        )
    if value is not None and not isinstance(value, Mapping):
        raise Invalid(f"mesh.yaml: '{path}' must be a mapping with type, url or url_variable")
    known = {f.name: f for f in fields(AlertChannel)}
    given: dict[str, Any] = {}
    for key, item in (value or {}).items():
        if key not in known:
            raise Invalid(
                f"mesh.yaml: unknown setting '{key}' in '{path}'", hint=did_you_mean(str(key), known)
            )
        if key in {"type", "url", "url_variable"}:
            _expect(f"{path}.{key}", item, str)
            given[key] = item
        else:
            given[key] = _texts(f"{path}.{key}", item)
    channel = AlertChannel(**given)
    if channel.type not in ALERT_TYPES:
        raise Invalid(
            f"mesh.yaml: '{path}.type' is '{channel.type}', expected {', '.join(ALERT_TYPES)}",
            hint=did_you_mean(channel.type, ALERT_TYPES),
        )
    if wrong := [event for event in channel.on if event not in ALERT_EVENTS]:
        raise Invalid(
            f"mesh.yaml: '{path}.on' has '{wrong[0]}', expected {', '.join(ALERT_EVENTS)}",
            hint=did_you_mean(wrong[0], ALERT_EVENTS),
        )
    if channel.url and channel.url_variable:
        raise Invalid(f"mesh.yaml: '{path}' has both url and url_variable; give one")
    if channel.url and (channel.type != "webhook" or "@" in channel.url or "?" in channel.url):
        raise Invalid(
            f"mesh.yaml: '{path}.url' may hold a secret, which does not belong into a document",
            hint=f"name an environment variable under url_variable, or leave it out and `tulle alerts set {name}`",
        )
    if channel.url and not channel.url.startswith(("https://", "http://")):
        raise Invalid(f"mesh.yaml: '{path}.url' is no web address", hint="write https://…")
    return channel


def _policy_sets(name: str, value: Any) -> dict[str, PolicySet]:
    if not isinstance(value, Mapping):
        raise Invalid(f"mesh.yaml: '{name}' must map names to sets of policies")
    return {str(key): _policy_set(f"{name}.{key}", key, item) for key, item in value.items()}


def _policy_set(path: str, name: Any, value: Any) -> PolicySet:
    """What kinds of policy there are is the gateway's matter; here a list is one of mappings."""
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", name):
        raise Invalid(
            f"mesh.yaml: '{path[:200]}' is no name of a set", hint="lower-case letters, digits, hyphens"
        )
    if not isinstance(value, Mapping):
        raise Invalid(f"mesh.yaml: '{path}' must be a mapping with policies")
    known = {f.name: f for f in fields(PolicySet)}
    given: dict[str, Any] = {}
    for key, item in value.items():
        if key not in known:
            raise Invalid(
                f"mesh.yaml: unknown setting '{key}' in '{path}'", hint=did_you_mean(str(key), known)
            )
        if key == "mandatory":
            _expect(f"{path}.{key}", item, bool)
            given[key] = item
        elif key == "policies":
            if not isinstance(item, list) or not all(isinstance(one, Mapping) for one in item) or not item:
                raise Invalid(f"mesh.yaml: '{path}.policies' must be a list of policies")
            given[key] = tuple(item)
        else:
            given[key] = _texts(f"{path}.{key}", item)
    if "policies" not in given:
        raise Invalid(f"mesh.yaml: '{path}' has no policies", hint="name them under 'policies'")
    return PolicySet(**given)


def _watches(name: str, value: Any) -> dict[str, Watch]:
    if not isinstance(value, Mapping):
        raise Invalid(f"mesh.yaml: '{name}' must map names to watches")
    return {str(key): watch_from(f"mesh.yaml: '{name}.{key}", key, item) for key, item in value.items()}


def watch_from(path: str, name: Any, value: Any) -> Watch:
    """A watch of plain values; `path` is how a message names it, its quote still open. Invalid."""
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", name):
        raise Invalid(f"{path[:300]}' is no name of a watch", hint="lower-case letters, digits, hyphens")
    known = {f.name: f for f in fields(Watch)}
    if not isinstance(value, Mapping):
        raise Invalid(f"{path}' must be a mapping with measure, above or below")
    for key, item in value.items():
        if key not in known:
            raise Invalid(f"{path}': unknown setting '{key}'", hint=did_you_mean(str(key), known))
        _check_of_watch(f"{path}.{key}'", key, item)
    watch = Watch(**value)
    for key, allowed in (("measure", WATCH_MEASURES), ("severity", WATCH_SEVERITIES)):
        if (said := getattr(watch, key)) not in allowed:
            hint = did_you_mean(said, allowed)
            raise Invalid(f"{path}.{key}' is '{said[:80]}', expected {', '.join(allowed)}", hint=hint)
    if (watch.above is None) == (watch.below is None):
        raise Invalid(f"{path}' needs either above or below")
    if watch.measure in {"errors", "wrong"} and (watch.above or watch.below or 0) > 1:
        raise Invalid(f"{path}': {watch.measure} is a share, 0 to 1", hint="0.05 is five of a hundred")
    return watch


def _check_of_watch(path: str, key: str, item: Any) -> None:
    is_number = isinstance(item, int | float) and not isinstance(item, bool)
    if key in {"above", "below"}:
        if item is not None and not (is_number and 0 <= item < 1e12):
            raise Invalid(f"{path} is {item!r}, expected a number, 0 or more")
    elif key in {"minutes", "periods", "least"}:
        most = {"minutes": 1440, "periods": 100, "least": _MOST}[key]
        if not isinstance(item, int) or not is_number or not 1 <= item <= most:
            raise Invalid(f"{path} is {item!r}, expected 1 to {most:,}")
    elif not isinstance(item, str) or len(item) > 300:
        raise Invalid(f"{path} is {str(item)[:80]!r}, expected text")


def secret_in_environment(name: str) -> str | None:
    """The value of an environment variable that a setting names, None when it is not set."""
    return os.environ.get(name) or None


def _tiers(name: str, value: Any) -> tuple[Mapping[str, Any], ...]:
    """Only that they are a list of mappings; what a tier says is `spec.tier`'s matter."""
    if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
        raise Invalid(
            f"mesh.yaml: '{name}' must be a list of tiers",
            hint="- {name: free, limits: [5/1s, 1000/1d], approval: automatic}",
        )
    return tuple(dict(one) for one in value)


def _environments(name: str, value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise Invalid(f"mesh.yaml: '{name}' must map names to absolute folders")
    for key, folder in value.items():
        if not isinstance(key, str) or not key or not isinstance(folder, str) or not _is_env(folder):
            raise Invalid(
                f"mesh.yaml: '{name}' has {key!r}: {folder!r}, expected a name and an absolute folder",
                hint="a virtual environment, in which bin/python is",
            )
    return {key: str(Path(folder)) for key, folder in value.items()}


def _is_env(folder: str) -> bool:
    path = Path(folder)  # not `/`, all of which its programs would see
    return path.is_absolute() and ".." not in path.parts and len(path.parts) > 1


def _stores(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise Invalid(f"mesh.yaml: '{name}' must be a list of places")
    for item in value:
        if not isinstance(item, str) or not item.startswith(STORE_SCHEMES):
            raise Invalid(
                f"mesh.yaml: '{name}' has {item!r}, expected {', '.join(STORE_SCHEMES)}…",
                hint="local:/// is followed by an absolute folder",
            )
    # A trailing slash, so that `s3://data` does not open `s3://data-of-others`.
    return tuple(item.rstrip("/") + "/" for item in value)


def _expect(name: str, value: Any, kind: type) -> None:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise Invalid(f"mesh.yaml: '{name}' is {value!r}, expected {_word(kind)}")


def _word(kind: type) -> str:
    return {"int": "a whole number", "str": "text", "bool": "true or false"}.get(kind.__name__, kind.__name__)


_TRUTH: Mapping[str, bool] = {"true": True, "1": True, "false": False, "0": False}
# Settings that are no plain values, and cannot be given by the environment.
_PARSERS: Mapping[str, Callable[[str, Any], Any]] = {
    "gateway_tls": _gateway_tls,
    "alerts": _alerts,
    "watches": _watches,
    "policies": _policy_sets,
    "alert_addresses": _texts,
    "webhook_addresses": _texts,
    "contact_domains": _texts,
    "data_folders": _folders,
    "object_stores": _stores,
    "hook_addresses": _texts,
    "source_addresses": _texts,
    "trusted_proxies": _networks,
    "hook_environments": _environments,
    "tiers": _tiers,
    "trusted_keys": _keys,
    "warehouse": _warehouse,
    "warehouses": _warehouses,
    "environments": _mesh_environments,
}
