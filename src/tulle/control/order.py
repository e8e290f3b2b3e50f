"""In which order products are made: after what they read, and after what their checks look into.

Reading decides. What checks and foreign keys point to in other products comes first as well, so that there is something
to look into; but products may point to each other in a circle, and then only reading counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from tulle.quality.check import parse_checks
from tulle.spec.product import DataProduct


def in_order(known: Sequence[DataProduct], folder: Path) -> list[str]:
    """The names of applied products, those that others need before them. `folder` has the products' files."""
    reads: dict[str, set[str]] = {p.name: {port.product for port in p.input_ports} for p in known}
    looks = {p.name: {*_foreign(p), *_looked_into(folder / p.domain / p.name / "checks")} for p in known}
    names = set(reads)
    hard = {name: wanted & names - {name} for name, wanted in reads.items()}
    try:
        both = {name: hard[name] | (looks[name] & names - {name}) for name in hard}
        return list(TopologicalSorter(both).static_order())
    except CycleError:
        return list(TopologicalSorter(hard).static_order())


def _foreign(product: DataProduct) -> Iterator[str]:
    for data_set in product.data_sets:
        yield from (c.foreign_key.product for c in data_set.columns if c.foreign_key is not None)


def _looked_into(folder: Path) -> Iterator[str]:
    files = sorted(folder.glob("*.y*ml")) if folder.is_dir() else []
    for file in files:
        text = file.read_bytes()
        if b"product" in text:  # else there is nothing to parse for: a mesh has many files of checks
            for check in parse_checks(text, file.name)[0]:
                yield from (owner for owner, _ in check.elsewhere.values())
