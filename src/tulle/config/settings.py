"""Every setting of a mesh on one page, read once at the edge and passed on as values.

A mesh is a folder with a `mesh.yaml`. Its settings are the fields below; each may be overridden by the
environment variable `TULLE_<FIELD>` (for example `TULLE_GATEWAY_PORT`). Nothing outside this package reads
the environment. What is more than a number or a text (a warehouse, a watch) has a module of its own beside this one.
Knows nothing of YAML: `spec.mesh` reads the file (with positions) and calls `settings_from`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from tulle.config.alert_channel import AlertChannel, alert_channels
from tulle.config.environment import PRODUCTION, Environment, environments
from tulle.config.gateway_tls import GatewayTls, gateway_tls
from tulle.config.networks import networks
from tulle.config.places import folders, python_environments, stores
from tulle.config.policy_set import PolicySet, policy_sets
from tulle.config.reading import expect, setting, texts, word
from tulle.config.warehouse import Warehouse, warehouse, warehouses
from tulle.config.watch import Watch, watches
from tulle.errors import Invalid, did_you_mean

_COLLECTOR = re.compile(r"http://[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?/?")
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
    proxy_protocol_port: int = setting(
        0,
        "a port beside the gateway's where each connection begins with the PROXY protocol (v1 or v2), of "
        "trusted_proxies alone; 0: none",
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
        if self.proxy_protocol_port:
            found["proxy_protocol_port"] = self.proxy_protocol_port
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
            expect(name, value, type(getattr(settings, name)))
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
            raise Invalid(f"TULLE_{name.upper()} is '{raw}', expected {word(kind)}") from None
    return _checked(settings)


def _checked(settings: Settings) -> Settings:
    ports: dict[int, str] = {}
    for name, port in settings.ports.items():
        if not 1 <= port <= 65535:
            raise Invalid(f"setting '{name}' is {port}, expected a port between 1 and 65535")
        if port in ports:
            raise Invalid(f"settings '{ports[port]}' and '{name}' are the same; give each its own port")
        ports[port] = name
    if settings.proxy_protocol_port and not settings.trusted_proxies:
        raise Invalid(
            "setting 'proxy_protocol_port' is said without 'trusted_proxies': nobody could connect there",
            hint="list the load balancers' addresses: trusted_proxies: [10.0.0.0/28]",
        )
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


def _tiers(name: str, value: Any) -> tuple[Mapping[str, Any], ...]:
    """Only that they are a list of mappings; what a tier says is `spec.tier`'s matter."""
    if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
        raise Invalid(
            f"mesh.yaml: '{name}' must be a list of tiers",
            hint="- {name: free, limits: [5/1s, 1000/1d], approval: automatic}",
        )
    return tuple(dict(one) for one in value)


def _keys(name: str, value: Any) -> tuple[str, ...]:
    found = texts(name, value)
    if wrong := [one for one in found if not re.fullmatch("[0-9a-f]{64}", one)]:
        raise Invalid(
            f"mesh.yaml: '{name}' has '{wrong[0][:80]}', which is no public key",
            hint="64 hexadecimal digits in quotes, as `tulle service export` prints them",
        )
    return found


_TRUTH: Mapping[str, bool] = {"true": True, "1": True, "false": False, "0": False}
# Settings that are no plain values, and cannot be given by the environment.
_PARSERS: Mapping[str, Callable[[str, Any], Any]] = {
    "gateway_tls": gateway_tls,
    "alerts": alert_channels,
    "watches": watches,
    "policies": policy_sets,
    "alert_addresses": texts,
    "webhook_addresses": texts,
    "contact_domains": texts,
    "data_folders": folders,
    "object_stores": stores,
    "hook_addresses": texts,
    "source_addresses": texts,
    "trusted_proxies": networks,
    "hook_environments": python_environments,
    "tiers": _tiers,
    "trusted_keys": _keys,
    "warehouse": warehouse,
    "warehouses": warehouses,
    "environments": environments,
}
