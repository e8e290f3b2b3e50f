"""Making a release: what was run and checked in an environment becomes an immutable, signed version.

A release is code, document, contract and notes, and names the commit of the data that this very code had made. The
same content is the same release, so doing it again after a crash is doing it once. The version must have grown as
much as the change asks for. What happens to a release afterwards is in `promotion`.
"""

from __future__ import annotations

import datetime as dt
import glob
import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from tulle.config import Environment
from tulle.control import environments
from tulle.control.workspace import Workspace
from tulle.errors import AlreadyExists, Conflict, Invalid, LimitExceeded, Place, Problem
from tulle.events import RELEASE_MADE, Event
from tulle.pipeline import manifest, promotion, release
from tulle.pipeline import run as runs
from tulle.pipeline.graph import ProductCode, load_code
from tulle.pipeline.job import PORT
from tulle.pipeline.release import DOCUMENT, FILES, SIGNATURE, STATEMENT, Release, Version
from tulle.spec.compare import Change, compare
from tulle.spec.product import DataProduct
from tulle.spec.source import FILE
from tulle.spec.written import place_of
from tulle.state import log, products
from tulle.state.db import now
from tulle.state.tables import releases as table

FOLDER = "_releases"  # in the lake's store, beside the folders of repositories
_LEFT_SECONDS = 3600.0  # an archive that no record names is somebody's who is still at it, or left by a crash
_SKIPPED = frozenset({"__pycache__", "node_modules", "target", "logs"})
_LONGEST_NOTES = 20_000


def make(
    workspace: Workspace, name: str, *, environment: str | None = None, notes: str = "", by: str
) -> tuple[Release, bool]:
    """Release a product as its folder is, which must be what ran last in `environment`; and whether it is new.

    `environment` is by default the first that releases go through; a preview of the product serves as well. Raises
    Invalid for a version that is none or has grown too little, AlreadyExists when the version is released with other
    content.
    """
    if len(notes) > _LONGEST_NOTES:
        raise LimitExceeded(f"the notes have {len(notes):,} characters, at most {_LONGEST_NOTES:,} are kept")
    products.applied_product(workspace.database, name)
    spec = workspace.spec()
    product = spec.product(name)
    code = load_code(product, spec=spec)
    code.require_valid()
    version = _version(product)
    settings = workspace.settings
    source = environments.to_release_from(workspace, name, environment)
    files = _files(product)
    _demand_whole(workspace, code, files)
    made_by = _good_run(workspace, code, source)
    ran = runs.get(workspace.database, made_by.run_id)
    packed = {f"{FILES}{path}": data for path, data in files.items()}
    packed[DOCUMENT] = release.canonical(products.as_document(product))
    contract = _contract(code, ran)
    named = {path: {"sha256": hashlib.sha256(d).hexdigest(), "bytes": len(d)} for path, d in packed.items()}
    code_files = {path: about for path, about in named.items() if path != DOCUMENT}
    content = release.digest_of([name, product.version, code.digest, code_files, contract])
    earlier = release.releases(workspace.database, name)
    if (same := _existing(earlier, product, content, notes)) is not None:
        release.verify(workspace.lake, same, settings)
        _tag(workspace, same)
        return same, False
    before, changes = _demand_growth(workspace, earlier, product, version)
    # Of that run, and not where the branch is now: it may have been put back, or another run published just now.
    commit = workspace.lake.repository(name).resolve(ran.commit_id or ran.base_commit or source.branch)
    statement = {
        "format": release.FORMAT,
        "mesh": settings.name,
        "product": name,
        "version": product.version,
        "content": content,
        "previous": before.version if before else None,
        "changes": [{"sentence": change.sentence, "breaking": change.breaking} for change in changes],
        "notes": notes,
        "code": code.digest,
        "data": {
            "environment": source.name,
            "branch": source.branch,
            "commit": commit,
            "run": made_by.run_id,
        },
        "contract": contract,
        "files": named,
        "created_by": by,
        "created_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }
    digest = release.digest_of(statement)
    made = Release(
        product=name,
        version=product.version,
        content=content,
        digest=digest,
        statement=statement,
        document=products.as_document(product),
        signature=release.sign(settings, digest),
        public_key=release.public_key(settings),
        path=f"{FOLDER}/{name}/{product.version}-{digest[:32]}.tar",
        created_by=by,
        created_at=now(),
    )
    _tagged(workspace, made)
    packed[STATEMENT] = release.canonical(statement)
    packed[SIGNATURE] = release.canonical({"signature": made.signature, "public_key": made.public_key})
    _put(workspace, made, packed)
    recorded = _record(workspace, made)
    _tag(workspace, recorded)
    return recorded, recorded.digest == made.digest


def _existing(earlier: Sequence[Release], product: DataProduct, content: str, notes: str) -> Release | None:
    """The release that has this content already. AlreadyExists when the version has another one."""
    for found in earlier:
        if found.content == content:
            if notes and notes != found.notes:
                raise AlreadyExists(
                    f"release {found.version} of '{product.name}' has other notes, and a release never changes",
                    hint="leave the notes out, or release a new version",
                )
            return found
        if found.version == product.version:
            raise AlreadyExists(
                f"version {found.version} of '{product.name}' is released with other content, "
                "and a release never changes",
                hint="raise the version of the product in its document and run it",
                problems=[Problem(f"version {found.version} is taken", _place_of_version(product))],
            )
    return None


# ── what goes in ─────────────────────────────────────────────────────────────────────────────────────────


def _files(product: DataProduct) -> dict[str, bytes]:
    """The files of a product's folder that are code: not hidden, not read by an input port, no links."""
    sources = [port.source for port in product.input_ports if port.source is not None]
    data = [source.path for source in sources if source.type == FILE and source.path]
    found: dict[str, bytes] = {}
    size = 0
    for folder, names, files in os.walk(product.folder, followlinks=False):
        here = Path(folder)
        names[:] = sorted(n for n in names if n not in _SKIPPED and not n.startswith("."))
        for file in sorted(here / name for name in files if not name.startswith(".")):
            path = file.relative_to(product.folder).as_posix()
            if file.is_symlink() or not file.is_file() or any(_is_data(path, pattern) for pattern in data):
                continue
            size += file.stat().st_size
            if size > release.MOST_BYTES:
                raise LimitExceeded(
                    f"the code of '{product.name}' is larger than {release.MOST_BYTES // 1_000_000} MB at '{path}'",
                    hint="files that are data belong where an input port reads them",
                )
            found[path] = file.read_bytes()
    return found


def _is_data(path: str, pattern: str) -> bool:
    """Whether a file is where an input port reads: in the folder that its path begins with, or named by it."""
    pattern = pattern.removeprefix("./")
    first, inside, rest = pattern.partition("/")
    if first == "**" and inside:
        return _is_data(path, rest) or any(_is_data(p, rest) for p in _tails(path))
    if not inside:
        return fnmatchcase(path, pattern) and "/" not in path
    folder, _, below = path.partition("/")
    if not glob.has_magic(first):
        return path.startswith(f"{first}/")
    return bool(below) and fnmatchcase(folder, first) and _is_data(below, rest)


def _tails(path: str) -> Iterator[str]:
    """The path without its first folder, without its first two, and so on."""
    while "/" in path:
        path = path.partition("/")[2]
        yield path


def _demand_whole(workspace: Workspace, code: ProductCode, files: Mapping[str, bytes]) -> None:
    """Refuse files that are not the code: they changed meanwhile, or some of it lies where an input port reads."""
    product, spec = code.product, workspace.spec()
    scratch = workspace.settings.run_folder
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch, prefix="release-") as name:
        folder = Path(name)
        for path, data in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        copy = replace(product, folder=folder, file=folder / product.file.name)
        if load_code(copy, spec=spec).digest == code.digest:
            return
    if load_code(product, spec=spec).digest != code.digest:
        raise Conflict(f"files of '{product.name}' changed while they were read", hint="release again")
    raise Invalid(
        f"some code of '{product.name}' lies where one of its input ports reads files, or is hidden or a link",
        hint="what an input port reads is no code: keep its files in a folder of their own, such as data/",
    )


def _contract(code: ProductCode, run: runs.Run) -> dict[str, Any]:
    """What consumers may rely on: ports, data sets as declared and as they are, checks, levels and terms."""
    product = code.product
    document = products.as_document(product)
    columns = {step.name: dict(step.columns) for step in run.steps if step.kind != PORT}
    return {
        "output_ports": _bare(document["output_ports"]),
        "data_sets": _bare(document["data_sets"]),
        "columns": {one.name: columns.get(one.name, {}) for one in product.data_sets},
        "checks": sorted(
            {
                f"{check.data_set}: {check.name} ({check.severity})"
                for one in product.data_sets
                for check in code.checks_of(one.name)
            }
        ),
        "service_levels": _bare([*document["service_level_assets"], *document["service_level_indicators"]]),
        "agreements": _bare(document["agreements"]),
    }


def _bare(value: Any) -> Any:
    """Without where it was written."""
    if isinstance(value, Mapping):
        return {key: _bare(item) for key, item in value.items() if key != "place"}
    return [_bare(item) for item in value] if isinstance(value, list | tuple) else value


def _good_run(workspace: Workspace, code: ProductCode, source: Environment) -> manifest.Started:
    """The run by which this code made, or confirmed, what is published in an environment."""
    name = code.product.name
    environments.ensure_branches(workspace, name)
    found = manifest.good_run(workspace.database, name, source.branch)
    run_it = (
        f"`tulle run {name}`" if source.name == "prod" else f"`tulle run {name} --environment {source.name}`"
    )
    if found is None:
        raise Invalid(f"product '{name}' never ran in '{source.name}'", hint=f"{run_it}, then release")
    if found.code != code.digest:
        made_by = promotion.in_force(workspace.database, name, source.branch)
        hint = f"a release is what was run and checked: {run_it}, then release"
        if made_by is not None:
            hint = (
                f"runs there are made by release {made_by}; the folder runs in a preview: "
                f"`tulle preview create {name} next`, `tulle run {name} --environment next`, "
                f"`tulle release {name} --environment next`"
            )
        raise Invalid(
            f"what is published in '{source.name}' was made by other code of '{name}' (run {found.run_id})",
            hint=hint,
        )
    return found


# ── versions ─────────────────────────────────────────────────────────────────────────────────────────────


def _version(product: DataProduct) -> Version:
    found = release.version_of(product.version)
    if found is None:
        said = f"is '{product.version}', which is no version" if product.version else "is not given"
        hint = "write three numbers, such as version: 1.0.0, in the component of type data-product"
        problem = Problem(f"the version {said}", _place_of_version(product), hint)
        raise Invalid(f"product '{product.name}' cannot be released: its version {said}", problems=[problem])
    return found


def _place_of_version(product: DataProduct) -> Place | None:
    """Where the document says its version, else where the product begins."""
    return place_of(product, product.place, "version")


def _demand_growth(
    workspace: Workspace, earlier: Sequence[Release], product: DataProduct, version: Version
) -> tuple[Release | None, tuple[Change, ...]]:
    """The release before and what changed since. Invalid when the version has not grown as that asks for."""
    lower = [one for one in earlier if (release.version_of(one.version) or version) < version]
    if not lower:
        if earlier:
            newest = earlier[0].version
            raise Invalid(
                f"version {product.version} of '{product.name}' is below {newest}, which is released",
                problems=[Problem("versions grow", _place_of_version(product), f"the newest is {newest}")],
            )
        return None, ()
    before = lower[0]
    old = release.version_of(before.version)
    assert old is not None
    today = str(dt.datetime.now(dt.UTC).date())
    changes = tuple(
        c for c in compare(before.declared(), product, today=today) if "version is '" not in c.sentence
    )
    breaking = [change for change in changes if change.breaking]
    if breaking:
        least = (old[0] + 1, 0, 0) if old[0] else (0, old[1] + 1, 0)  # below 1.0.0 the second number breaks
        what = "breaks what was promised"
    elif any(change.kind == "added" for change in changes):
        least = (old[0], old[1] + 1, 0) if old[0] else (0, old[1], old[2] + 1)
        what = "adds to what was promised"
    else:
        return before, changes
    if version < least:
        wanted = ".".join(map(str, least))
        shown = breaking or [change for change in changes if change.kind == "added"]
        readers = consumers(workspace, product.name) if breaking else ()
        problems = [Problem(change.sentence, _place_of_version(product)) for change in shown]
        problems += [Problem(f"{reader} reads it") for reader in readers]
        raise Invalid(
            f"version {product.version} of '{product.name}' {what} in {before.version}, "
            f"so it must be {wanted} at least",
            hint=f"write version: {wanted} in its document and run it, or take the change back",
            problems=problems,
        )
    return before, changes


def consumers(workspace: Workspace, name: str) -> tuple[str, ...]:
    """Who reads a product: other products, as sentences may name them."""
    return tuple(
        f"product '{item.product.name}'"
        for item in products.applied(workspace.database)
        if any(port.product == name for port in item.product.input_ports)
    )


# ── keeping ──────────────────────────────────────────────────────────────────────────────────────────────


def _put(workspace: Workspace, made: Release, files: Mapping[str, bytes]) -> None:
    """Keep the archive; and remove what crashes left of earlier ones that were never recorded."""
    store = workspace.lake.stores.own
    known = {one.path for one in release.releases(workspace.database, made.product)}
    for blob in list(store.list(f"{FOLDER}/{made.product}")):
        if blob.path not in known and blob.modified < now() - _LEFT_SECONDS:
            store.delete(blob.path)
    try:
        store.put(made.path, release.pack(files))
    except AlreadyExists:  # the same second, the same statement: the same bytes
        release.read_archive(workspace.lake, made)


def _record(workspace: Workspace, made: Release) -> Release:
    """Record the release; the one somebody else recorded first, if it has the same content."""
    try:
        with workspace.database.write() as cx:
            cx.execute(insert(table).values(**asdict(made)))
            data = {"version": made.version, "digest": made.digest, "commit": made.data_commit}
            log.append(cx, Event(RELEASE_MADE, made.product, data), actor=made.created_by)
    except IntegrityError:
        with workspace.database.read() as cx:
            row = cx.execute(
                select(table).where(table.c.product == made.product, table.c.version == made.version)
            ).first()
        if row is None or row.content != made.content:
            raise AlreadyExists(
                f"version {made.version} of '{made.product}' was released by somebody else just now",
                hint="raise the version and run it",
            ) from None
        return release.value(row)
    return made


def _tag(workspace: Workspace, made: Release) -> None:
    """Name the release's data for good, so that no retention takes it."""
    if not _tagged(workspace, made):
        workspace.lake.repository(made.product).create_tag(_tag_of(made), made.data_commit)


def _tagged(workspace: Workspace, made: Release) -> bool:
    """Whether the release's data has its name. Conflict when somebody gave that to other data."""
    name = _tag_of(made)
    there = {tag.name: tag.commit_id for tag in workspace.lake.repository(made.product).tags(name)}
    if there.get(name, made.data_commit) != made.data_commit:
        raise Conflict(
            f"tag '{name}' of repository '{made.product}' names other data than that of the release",
            hint="give that data another tag, delete this one, then release again",
        )
    return name in there


def _tag_of(made: Release) -> str:
    return f"{release.TAG}{made.version}"
