"""Input ports that read one version of another product: a release, a tag or a commit, and not what comes after.

`1.2.0` is that release, `1.2` or `1` the highest release that begins so. A release's data is what its code had made
when it was released, kept for good by its tag. Branches are no versions: they move.
"""

from __future__ import annotations

import re

from tulle.errors import NotFound, Problem, did_you_mean
from tulle.lake.repository import Repository
from tulle.pipeline.release import TAG, Release, releases
from tulle.spec.product import InputPort
from tulle.state import products
from tulle.state.db import Database

_NUMBERS = re.compile(r"\d{1,9}(\.\d{1,9}){0,2}")
_COMMIT = re.compile(r"[0-9a-f]{12,64}")


def pinned(database: Database, upstream: Repository, port: InputPort | None) -> tuple[str, str] | None:
    """The commit an input port is pinned to, and what to call it; None when it follows. NotFound."""
    if port is None or not port.version:
        return None
    found = version_of(database, upstream, port.version)
    if found is None:
        raise _missing(database, upstream, port, [tag.name for tag in upstream.tags()])
    return found


def version_of(database: Database, upstream: Repository, version: str) -> tuple[str, str] | None:
    """The commit of a release, a tag or a commit, and what to call it; None when there is no such version."""
    if _NUMBERS.fullmatch(version):
        found = release_of(releases(database, upstream.name), version)
        if found is not None:
            return found.data_commit, f"release {found.version}"
    if version in {tag.name for tag in upstream.tags()}:
        return upstream.tag(version).commit_id, f"tag {version}"
    if _COMMIT.fullmatch(version):
        try:
            return upstream.resolve(version), f"commit {version[:12]}"
        except NotFound:
            pass
    return None


def release_of(known: tuple[Release, ...], wanted: str) -> Release | None:
    """The highest release that is `wanted` or begins with it; `known` has the highest first."""
    return next((one for one in known if one.version == wanted or one.version.startswith(f"{wanted}.")), None)


def pinned_tag(known: tuple[Release, ...], version: str) -> str:
    """The tag by which what an input port is pinned to is kept; `known` are the releases, the highest first."""
    if _NUMBERS.fullmatch(version) and (found := release_of(known, version)) is not None:
        return f"{TAG}{found.version}"
    return version


def pinned_readers(database: Database) -> dict[tuple[str, str], list[str]]:
    """Which products are pinned to a release, by product and version; a pin to `1.2` counts for the highest 1.2.*."""
    found: dict[tuple[str, str], list[str]] = {}
    known: dict[str, tuple[Release, ...]] = {}
    for item in products.applied(database):
        for port in item.product.input_ports:
            if not port.product or not port.version:
                continue
            if port.product not in known:
                known[port.product] = releases(database, port.product)
            if (read := release_of(known[port.product], port.version)) is not None:
                readers = found.setdefault((port.product, read.version), [])
                readers.extend([item.product.name] if item.product.name not in readers else [])
    return found


def not_in_version(port: InputPort | None, version: str, product: str, data_set: str) -> NotFound:
    """A version that does not have the data set a port takes."""
    hint = "pin the port to a version that has it, or leave 'version' out to follow what is published"
    problem = Problem(
        f"{version} of product '{product}' has no '{data_set}'", port.place if port else None, hint
    )
    return NotFound(
        f"{version} of product '{product}' has no data of '{data_set}'", hint=hint, problems=[problem]
    )


def _missing(database: Database, upstream: Repository, port: InputPort, tags: list[str]) -> NotFound:
    """Both places: the port that names the version, and the product that does not have it."""
    name = upstream.name
    versions = [one.version for one in releases(database, name)]
    hint = did_you_mean(port.version, [*versions, *(tag for tag in tags if not tag.startswith(TAG))])
    hint = hint or f"`tulle releases {name}` lists them; without a version the port follows what is published"
    message = f"product '{name}' has no release, tag or commit '{port.version}'"
    listed = f"has the releases {', '.join(versions[:5])}" if versions else "has no release yet"
    place = next(
        (item.product.place for item in products.applied(database) if item.product.name == name), None
    )
    problems = [
        Problem(f"input port '{port.title}' is pinned to '{port.version}'", port.place, hint),
        Problem(f"product '{name}' {listed}", place),
    ]
    return NotFound(message, hint=hint, problems=problems)
