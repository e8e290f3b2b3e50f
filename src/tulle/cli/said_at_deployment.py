"""What a deployment may say of a service in place of its package, as a command shows and sets it.

Knows neither ways to call nor policies: `service_access` and `policy` do.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tulle.errors import Invalid
from tulle.sdk.services import ServiceClient
from tulle.spec.document import Document


def options(of_set: str, of_packaged: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The options --set, --as-packaged and --environment, with the help of the first two."""

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        for option in (
            click.option("--environment", help="Where. Default: that of consumers."),
            click.option("--as-packaged", is_flag=True, help=of_packaged),
            click.option("--set", "file", metavar="FILE", help=of_set),
        ):
            command = option(command)
        return command

    return decorated


def shown_or_set(
    mesh: Path | None,
    file: str | None,
    as_packaged: bool,
    show: Callable[[ServiceClient], dict[str, Any]],
    say: Callable[[ServiceClient, str | None], dict[str, Any]],
) -> dict[str, Any]:
    """What is said now, or after `say` of the file, or of None where it is as packaged again. Invalid."""
    from tulle.cli.connect import mesh_client

    if file is not None and as_packaged:
        raise Invalid("--set and --as-packaged exclude one another")
    with mesh_client(mesh) as client:
        services = ServiceClient(client)
        return say(services, file) if file is not None or as_packaged else show(services)


def heading(service: str, found: dict[str, Any]) -> str:
    """Of which service and environment it is, and who said it."""
    who = {"deployment": "said at its deployment", "file": "as its file says"}
    said = who.get(found["said_by"], f"as its package {found['said_by']} says")
    return f"{service} in {found['environment']}, {said}"


def read(file: str) -> Document:
    """The YAML document in a file, or on standard input where it is called `-`. Invalid."""
    from tulle.spec.load import decoded, load_document

    name = "what was piped in" if file == "-" else file
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as exc:
        raise Invalid(f"{name} cannot be read: {exc.strerror}") from None
    return load_document(decoded(data, name), name=name)
