"""The reference page of mesh.yaml, made from the typed settings so that it cannot go stale.

python -m tulle.spec.mesh_reference > docs/reference/mesh.md
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from typing import Any

from tulle.config import (
    ALERT_EVENTS,
    ALERT_TYPES,
    BOUNDS,
    PLAIN_DOORS,
    STAGES,
    TAKEN_UP,
    TEST_QUERIES,
    WATCH_MEASURES,
    WATCH_SEVERITIES,
    AlertChannel,
    Environment,
    GatewayTls,
    PolicySet,
    Settings,
    Warehouse,
    Watch,
)

_HEAD = """\
# mesh.yaml

<!-- Made by `python -m tulle.spec.mesh_reference`; a test fails when it is stale. Do not edit by hand. -->

A mesh is a folder with a `mesh.yaml`: a mapping of the settings below, of which none is required. An empty file is
the mesh of that folder with every default. `tulle init` makes one.

```yaml
{example}```

- A setting that is text or a number may be overridden by an environment variable: `TULLE_` and its name in capitals,
  such as `TULLE_GATEWAY_PORT=9000`. Those marked with `file only` cannot.
- Settings are read when the mesh starts: after a change `tulle down`, `tulle up`. While the mesh is down, each command
  reads them.
- A mesh that runs takes up changes of these without a restart, by
  [`tulle gateway reload`](gateway.md#meshyaml-while-the-mesh-runs):
{taken_up}.
- A setting that is unknown, of another type or out of its bounds is told with its place by every command; all of them
  at once. Nothing is started then.
- Secrets have no place here: addresses of alerts with a secret are set by `tulle alerts set`, connections by
  `tulle connection set`.
"""

EXAMPLE = """\
name: acme
description: The data mesh of a shop
gateway_port: 9000
data_folders: [/srv/exports]
warehouse: {threads: 2, memory: 2GB}
warehouses:
  sales: {threads: 4, memory: 8GB, temp_disk: 50GB}
environments:
  dev: {fallback: prod}
  test: {after: dev, fallback: prod}
  prod: {after: test, approvers: [ann, bob], approvals: 1}
alerts:
  team: {type: slack, url_variable: TEAM_SLACK_URL, domains: [sales]}
notice_days: 90
"""

# What a value is where its type alone does not say it, and an example of every setting.
_ADDRESSES = "a list of networks or names, each with or without a port"
_SAID: Mapping[str, tuple[str, str]] = {
    "name": ("text", "acme"),
    "description": ("text", "The data mesh of a shop"),
    "host": ("127.0.0.1 or localhost", "localhost"),
    "control_plane_port": ("a port, 1 to 65535", "8081"),
    "gateway_port": ("a port, 1 to 65535, of its own", "9000"),
    "s3_port": ("a port, 1 to 65535, of its own", "9333"),
    "gateway_tls": ("a mapping, below", "{self_signed: true}"),
    "gateway_concurrency": ("", "4"),
    "gateway_drain_seconds": ("", "60"),
    "gateway_megabytes": ("", "4000"),
    "gateway_processors": ("", "2"),
    "trusted_proxies": ("a list of addresses and networks", "[127.0.0.1, 10.0.0.0/28]"),
    "proxy_protocol_port": ("a port, 1 to 65535, of its own, or 0", "8001"),
    "database": ("sqlite:///… or postgresql://…", "'postgresql://localhost/tulle'"),
    "storage": ("local:/// and an absolute folder", "'local:///srv/tulle/objects'"),
    "object_stores": ("a list of places", "['s3://acme-data/mesh/', 'local:///srv/share/']"),
    "hook_addresses": (_ADDRESSES, "['127.0.0.1:9000', 10.0.0.0/8]"),
    "source_addresses": (_ADDRESSES, "[erp.internal]"),
    "hook_environments": ("names to absolute folders", "{suites: /opt/suites-env}"),
    "hook_run_days": ("", "90"),
    "check_result_days": ("", "800"),
    "run_record_days": ("", "800"),
    "stale_branch_days": ("", "14"),
    "alerts": ("names to channels, below", "{team: {type: slack, url_variable: TEAM_SLACK_URL}}"),
    "contact_channel": ("the name of a channel", "mail"),
    "contact_domains": ("a list of domains", "[example.org]"),
    "alert_addresses": (_ADDRESSES, "['mail.internal:25']"),
    "webhook_addresses": (_ADDRESSES, "['partner.internal:443']"),
    "scheduled_runs": ("", "16"),
    "mutual_tls": ("true or false", "true"),
    "service_workers": ("", "2"),
    "max_request_bytes": ("", "4194304"),
    "default_rate_limit": ("requests, a slash, a period of time", "200/1s"),
    "tiers": (
        "a list of tiers: contracts.md",
        "[{name: free, limits: [5/1s, 1000/1d], approval: automatic}]",
    ),
    "data_folders": ("a list of absolute folders", "[/srv/exports]"),
    "warehouse": ("bounds, below", "{threads: 4, memory: 8GB}"),
    "warehouses": ("names to bounds, below", "{sales: {threads: 4}}"),
    "environments": ("names to bindings, below", "{dev: {fallback: prod}}"),
    "notice_days": ("", "90"),
    "watches": ("names to watches, below", "{slow: {measure: p99, above: 200}}"),
    "policies": (
        "names to sets of policies, below",
        "{limits: {policies: [{policy: rate-limit, limits: 500/1s, by: address}], environments: [prod]}}",
    ),
    "trace_collector": ("http://, a host and maybe a port", "'http://127.0.0.1:4318'"),
    "trace_one_in": ("", "1000"),
    "insight_days": ("", "60"),
    "insight_megabytes": ("", "4096"),
    "trusted_keys": (
        "a list of public keys, 64 hexadecimal digits each",
        "[3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29]",
    ),
}

# The settings that hold mappings: what they are called on the page, and what their inner values are.
_INNER: tuple[tuple[str, type, Mapping[str, str]], ...] = (
    (
        "warehouse: the bounds of one, also of each in `warehouses`",
        Warehouse,
        {
            **dict.fromkeys(("memory", "temp_disk"), "a size such as 512MB or 2GB"),
            **dict.fromkeys(
                ("threads", "concurrent_runs", "queue", "run_timeout_seconds"),
                "a whole number, 1 to 1,000,000",
            ),
        },
    ),
    (
        "gateway_tls: how callers meet the gateway by TLS, see [gateway](gateway.md)",
        GatewayTls,
        {
            **dict.fromkeys(("certificate", "key"), "a file, below the mesh folder or anywhere"),
            "self_signed": "true or false",
            "names": "a list of names and addresses",
            "host": "a name or an address",
            "hsts_seconds": "a whole number, 0 to 63,072,000",
            "plain_port": "a port of its own, or 0",
            "plain": " or ".join(PLAIN_DOORS),
        },
    ),
    (
        "environments: what each is bound to",
        Environment,
        {
            "branch": "lower-case letters, digits and single hyphens",
            **dict.fromkeys(("after", "fallback", "connections"), "an environment"),
            **dict.fromkeys(("approvers", "deployers"), "a list of people"),
            **dict.fromkeys(("before_deploy", "after_deploy"), "a list of addresses, http:// or https://"),
            "approvals": "a whole number, not more than the approvers",
            "schedules": "true or false",
            "stage": ", ".join(STAGES),
            "test_queries": ", ".join(TEST_QUERIES),
        },
    ),
    (
        "alerts: a channel",
        AlertChannel,
        {
            "type": ", ".join(ALERT_TYPES),
            "url": "https://…, of a webhook only",
            "url_variable": "the name of a variable",
            "on": "a list of " + ", ".join(ALERT_EVENTS),
            "domains": "a list of domains",
            "products": "a list of products",
            "environments": "a list of branches",
        },
    ),
    (
        "watches: what is told of what services are asked",
        Watch,
        {
            "measure": ", ".join(WATCH_MEASURES),
            "above": "a number, 0 or more; of it and `below` one",
            "below": "a number, 0 or more",
            "service": "a service",
            "version": "a version; with `service` only",
            "generation": "a deployed version; with `service` only",
            "operation": "a method and a path of its document",
            "environment": "an environment",
            "minutes": "a whole number, 1 to 1,440",
            "periods": "a whole number, 1 to 100",
            "least": "a whole number, 1 to 1,000,000",
            "severity": ", ".join(WATCH_SEVERITIES),
        },
    ),
    (
        "policies: a set of them, see [policies](policies.md)",
        PolicySet,
        {
            "policies": "a list of policies",
            "domains": "a list of domains",
            "tags": "a list of tags",
            "services": "a list of services",
            "environments": "a list of environments",
            "mandatory": "true or false",
        },
    ),
)
# Defaults that follow from other values, so that the plain one would mislead.
_DEFAULTS = {
    (Environment, "branch"): "its name; `main` of `prod`",
    (Environment, "approvals"): "1 where approvers are named, else 0",
    (Environment, "connections"): "its own",
    (Environment, "schedules"): "`true` on `main`, else `false`",
    (Environment, "stage"): "`production` on `main`",
    (Environment, "test_queries"): "`rollback` where `stage: production` is written, else `tell`",
    (Settings, "environments"): "`prod` on the branch `main`",
    (Settings, "warehouse"): "the defaults below",
    (Settings, "database"): "SQLite in `.tulle/`",
    (Settings, "storage"): "`.tulle/objects` on this disk",
}


def _in_words(names: Sequence[str]) -> str:
    """Settings in a line of their own."""
    return textwrap.fill(
        ", ".join(f"`{name}`" for name in names), 118, initial_indent="  ", subsequent_indent="  "
    )


def reference_page() -> str:
    """The page as Markdown: how settings are read, then each with its type, default and an example."""
    parts = [_HEAD.format(example=EXAMPLE, taken_up=_in_words(TAKEN_UP)), "## Settings\n", *_settings()]
    for title, kind, values in _INNER:
        name, _, rest = title.partition(":")
        parts.append(f"\n## {name}\n\n`{name}`: {rest.strip()}.\n")
        parts += _inner(kind, values)
    return "\n".join(parts) + "\n"


def setting_names() -> tuple[str, ...]:
    """Every setting that mesh.yaml may have."""
    return tuple(field.name for field in fields(Settings) if field.name != "folder")


def example_of(name: str) -> str:
    """A line of mesh.yaml with that setting."""
    return f"{name}: {_SAID[name][1]}"


def _settings() -> Iterator[str]:
    yield "| setting | what it is | value | default | example |"
    yield "|---|---|---|---|---|"
    by_name = {field.name: field for field in fields(Settings)}
    for name in setting_names():
        field = by_name[name]
        said = _SAID[name][0] or "a whole number"
        if name in BOUNDS:
            least, most = BOUNDS[name]
            said += f", {least:,} to {most:,}"
        if not isinstance(_default(field), str | int):
            said += "; file only"
        cells = (f"`{name}`", field.metadata["help"], said, _shown(Settings, field), f"`{example_of(name)}`")
        yield _row(cells)


def _inner(kind: type, values: Mapping[str, str]) -> Iterator[str]:
    yield "| | what it is | value | default |"
    yield "|---|---|---|---|"
    for field in fields(kind):
        if field.name != "name":
            yield _row((f"`{field.name}`", field.metadata["help"], values[field.name], _shown(kind, field)))


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(field: Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _shown(kind: type, field: Field[Any]) -> str:
    if told := _DEFAULTS.get((kind, field.name)):
        return told
    value = _default(field)
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple) and value:
        return f"`[{', '.join(value)}]`"
    return "" if value is None or value in ("", (), {}) else f"`{value}`"


if __name__ == "__main__":
    sys.stdout.write(reference_page())
