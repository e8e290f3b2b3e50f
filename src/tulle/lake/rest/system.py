"""What the server says of itself: health, version, storage, usage."""

from __future__ import annotations

import hashlib
import re
from typing import Any
from urllib.parse import urlsplit

from tulle.lake.door import Outgoing
from tulle.lake.repository import Lake
from tulle.lake.rest.call import Call, json_answer, no_content
from tulle.lake.rest.router import Route

# The release of lakeFS whose API document this door follows. Clients read it as numbers with dots between them
# and ask for at least 1.3.1.
VERSION = "1.84.0"

_NAMESPACES = r"^(s3|gs|https?|mem|memory|local)://.*$"
_STORE_TYPES = {"local": "local", "memory": "mem", "mem": "mem", "gs": "gs", "s3": "s3", "https": "azure"}


def health(call: Call) -> Outgoing:  # noqa: ARG001  every handler has one form
    """We answer, so we are well."""
    return no_content()


def version_form() -> dict[str, Any]:
    """VersionConfig of the OpenAPI document."""
    return {
        "version": VERSION,
        "version_context": "tulle",
        "latest_version": VERSION,
        "upgrade_recommended": False,
    }


def storage_form(lake: Lake) -> dict[str, Any]:
    """StorageConfig of the OpenAPI document."""
    scheme = urlsplit(lake.default_namespace).scheme
    allowed = lake.stores.allowed
    imports = "|".join(re.escape(prefix) for prefix in allowed)
    return {
        "blockstore_type": _STORE_TYPES.get(scheme, scheme),
        "blockstore_namespace_example": "local://example/" if scheme != "s3" else "s3://example-bucket/",
        "blockstore_namespace_ValidityRegex": _NAMESPACES,
        "default_namespace_prefix": "local://",
        "pre_sign_support": True,
        "pre_sign_support_ui": False,
        "import_support": bool(allowed),
        "import_validity_regex": f"^({imports})" if allowed else "^$",
        "pre_sign_multipart_upload": True,
    }


def config(call: Call) -> Outgoing:
    """Everything a client asks for before it reads or writes."""
    call.demand("fs:ReadConfig", "*")
    return json_answer(
        {
            "version_config": version_form(),
            "storage_config": storage_form(call.lake),
            "storage_config_list": [],
            "ui_config": {"custom_viewers": []},
            "capabilities_config": {},
        }
    )


def version(call: Call) -> Outgoing:
    """The version alone."""
    call.demand("fs:ReadConfig", "*")
    return json_answer(version_form())


def storage(call: Call) -> Outgoing:
    """The storage alone."""
    call.demand("fs:ReadConfig", "*")
    return json_answer(storage_form(call.lake))


def statistics(call: Call) -> Outgoing:
    """What clients count of themselves is taken and dropped: nothing leaves this mesh."""
    call.request.body(1024 * 1024)
    return no_content()


def usage(call: Call) -> Outgoing:
    """Nothing is counted for billing, so there is nothing to report."""
    call.demand("fs:ReadConfig", "*")
    installation = hashlib.sha256(call.lake.default_namespace.encode()).hexdigest()[:32]
    return json_answer({"installation_id": installation, "reports": []})


ROUTES = [
    Route("GET", "/healthcheck", health, "healthCheck", public=True),
    Route("GET", "/config", config, "getConfig"),
    Route("GET", "/config/version", version, "getLakeFSVersion"),
    Route("GET", "/config/storage", storage, "getStorageConfig"),
    Route("POST", "/statistics", statistics, "postStatsEvents"),
    Route("GET", "/usage-report/summary", usage, "getUsageReportSummary"),
]
