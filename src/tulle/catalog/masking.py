"""Which cells of a product's rows a page may show: default deny, so that a portal without sign-in tells no names.

Pure: knows columns and what was declared of them; nothing of where rows are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tulle.errors import Place
from tulle.quality.shown import without_values
from tulle.quality.verdict import CheckResult
from tulle.spec.product import Column, DataProduct, DataSet

CLOSED = "restricted"  # rows, and values of columns, so classified are never shown
PERSONAL = "direct"  # a column that names a person
OWN = "_tulle"  # the folder of a repository that the mesh writes
# As far as it goes: what a value says may look like the end of the quotation.
_QUOTED = re.compile(r"(column '[^']*' is ).+(, (?:expected|which is no) )", re.DOTALL)
# What code of the product raised, at a place of it: the kind stays, what it says may be of any row.
_RAISED = re.compile(r"(\.py(?::\d+){0,2}:? [A-Za-z_]\w*): .*", re.DOTALL)
_OWN_NAMES = frozenset({"sql", "python", "suite", "dbt"})  # checks that name the columns of their rows
_KIND = re.compile(r"([A-Za-z_]\w*): .*", re.DOTALL)


def is_closed(product: DataProduct, data_set: DataSet | None) -> bool:
    """Whether no row may be shown at all."""
    return ((data_set.classification if data_set else "") or product.classification) == CLOSED


def is_masked(column: Column) -> bool:
    """Whether no value of a column may be shown: it names a person, or is restricted."""
    return column.pii == PERSONAL or column.classification == CLOSED


def has_masked(product: DataProduct) -> bool:
    """Whether a product declares a column of which no value may be shown."""
    return any(is_masked(column) for one in product.data_sets for column in one.columns)


def shown_columns(product: DataProduct, data_set: DataSet, columns: Iterable[str]) -> frozenset[str]:
    """The columns of which sample values may be shown: those declared, and not as masked."""
    if is_closed(product, data_set):
        return frozenset()
    return frozenset(c.name for c in data_set.columns if not is_masked(c)).intersection(columns)


def readable_columns(product: DataProduct | None, data_set: str, columns: Iterable[str]) -> frozenset[str]:
    """The columns of failing rows that may be shown.

    A check may look at what is declared nowhere: data sets inside a run, columns that its SQL names anew. Those
    are shown only where the product declares no masked column.
    """
    if product is None:
        return frozenset()
    declared = next((one for one in product.data_sets if one.name == data_set), None)
    if is_closed(product, declared):
        return frozenset()
    if data_set.startswith(OWN):
        return frozenset()  # what the mesh keeps itself, such as failing rows, is of any data set
    if any(port.product and port.data_set == data_set for port in product.input_ports):
        return frozenset()  # another product's rows: what names a person there is not said here
    known = {column.name: is_masked(column) for column in (declared.columns if declared else ())}
    undeclared = has_masked(product)
    return frozenset(name for name in columns if not known.get(name, undeclared))


def readable_of_check(
    product: DataProduct | None, check: CheckResult, columns: Iterable[str]
) -> frozenset[str]:
    """The columns of a check's failing rows that may be shown.

    A check that names them itself (SQL, a program, a test of dbt) may give a masked column the name of another. Such a
    column is shown where all it is made of may be, and where that is not known, only if there is nothing to mask.
    """
    readable = readable_columns(product, check.data_set, columns)
    if product is None or not readable or check.kind not in _OWN_NAMES:
        return readable
    if not _has_closed(product):
        return readable
    return frozenset(
        name
        for name in readable
        if check.made_of.get(name)
        and all(readable_columns(product, source[0], [source[1]]) for source in check.made_of[name])
    )


def _has_closed(product: DataProduct) -> bool:
    """Whether a check of the product may meet a value that no page shows."""
    return (
        has_masked(product)
        or any(is_closed(product, one) for one in product.data_sets)
        or any(port.product for port in product.input_ports)
    )


def unquoted(message: str) -> str:
    """A message without the values it quotes of rows."""
    return without_values(_QUOTED.sub(r"\1…\2", message))


def untold(message: str, place: Place | None = None) -> str:
    """The same where rows may name people: of an exception in the product's Python its kind and line alone.

    `place`: where the message is about, when it does not say so itself.
    """
    if place is not None and place.file.endswith(".py"):
        message = _KIND.sub(r"\1", message)
    return unquoted(_RAISED.sub(r"\1", message))
