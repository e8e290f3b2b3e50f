"""Files of this disk as a source that remembers which it has read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tulle.errors import Invalid, Problem
from tulle.pipeline.ingest import content_digest, source_files
from tulle.pipeline.sources.files import Files, Repaired
from tulle.pipeline.sources.reading import Ask, Reading
from tulle.spec.source import Source


@contextmanager
def opened(ask: Ask) -> Iterator[Reading]:
    """The rows of the files that are new, or of all where a cursor or a full load asks for them."""
    files = source_files(ask.port, ask.product_folder, ask.product_label, ask.settings.data_folders)
    found = {file.label: content_digest([file]) for file in files}
    wanted = [file for file in files if file.label in unread(ask, found)]
    label = files[0].label if len(files) == 1 else ask.source.path
    yield Files(ask, wanted, label, {"files": {**ask.files, **found}})


def unread(ask: Ask, found: Mapping[str, str]) -> set[str]:
    """The names of what was not read before. Invalid when something that was read has changed since.

    With a key a changed file is read again: its rows replace those of before. Repaired, whatever the load, when only a
    run that failed had read it as it was.
    """
    if repaired := sorted(name for name in ask.unpublished if found.get(name) != ask.files[name]):
        raise Repaired(f"{repaired[0]} is not as the failed run had read it")
    changed = [name for name, digest in found.items() if ask.files.get(name, digest) != digest]
    source: Source = ask.source
    if changed and source.load == "incremental" and not source.cursor:
        hint = "use load: merge with a key, a cursor, or run once with --full, which reads everything again"
        problems = [
            Problem(f"'{name}' has changed since it was read", source.place, hint) for name in changed[:20]
        ]
        raise Invalid(
            f"{changed[0]} has changed since it was read: its rows would be there twice",
            hint=hint,
            problems=problems,
        )
    return {name for name, digest in found.items() if ask.files.get(name) != digest}
