"""Choosing some of a product's jobs by words: `customers`, `+customers`, `customers+`, `tag:nightly`, `stg_*`.

A plus before a name takes what it is made from as well, one after it what is made from it. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from tulle.errors import NotFound, did_you_mean
from tulle.pipeline.job import Job

TAG = "tag:"


def chosen(jobs: Sequence[Job], words: Sequence[str]) -> frozenset[str] | None:
    """The names of the jobs that `words` say, None (all of them) where there is no word. NotFound."""
    if not words:
        return None
    above = {job.name: set(job.inputs) for job in jobs}
    below = {job.name: {other.name for other in jobs if job.name in other.inputs} for job in jobs}
    found: set[str] = set()
    for word in words:
        name = word.strip().removeprefix("+").removesuffix("+")
        named = _named(jobs, name)
        if not named:
            tags = [f"{TAG}{tag}" for job in jobs for tag in job.way.tags]
            hint = did_you_mean(name, [*above, *tags])
            raise NotFound(f"nothing of the product is called '{name}'", hint=hint)
        found |= named
        found |= _reached(named, above) if word.strip().startswith("+") else set()
        found |= _reached(named, below) if word.strip().endswith("+") else set()
    return frozenset(found)


def _named(jobs: Iterable[Job], name: str) -> set[str]:
    if name.startswith(TAG):
        return {job.name for job in jobs if name.removeprefix(TAG) in job.way.tags}
    return {job.name for job in jobs if fnmatchcase(job.name, name)}


def _reached(names: Iterable[str], ways: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        for name in ways.get(waiting.pop(), ()):
            if name in ways and name not in found:
                found.add(name)
                waiting.append(name)
    return found
