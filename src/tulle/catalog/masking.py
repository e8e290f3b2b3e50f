"""Which cells of a product's rows a page may show: default deny, so that a portal without sign-in tells no names.

Pure: knows columns and what was declared of them; nothing of where rows are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tulle.quality.shown import without_values
from tulle.spec.product import DataProduct, DataSet

CLOSED = "restricted"  # rows of data so classified are never shown
PERSONAL = "direct"  # a column that names a person
OWN = "_tulle"  # the folder of a repository that the mesh writes
# As far as it goes: what a value says may look like the end of the quotation.
_QUOTED = re.compile(r"(column '[^']*' is ).+(, (?:expected|which is no) )", re.DOTALL)


def is_closed(product: DataProduct, data_set: DataSet | None) -> bool:
    """Whether no row may be shown at all."""
    return ((data_set.classification if data_set else "") or product.classification) == CLOSED


def shown_columns(product: DataProduct, data_set: DataSet, columns: Iterable[str]) -> frozenset[str]:
    """The columns of which sample values may be shown: those declared, and not as naming a person."""
    if is_closed(product, data_set):
        return frozenset()
    return frozenset(c.name for c in data_set.columns if c.pii != PERSONAL).intersection(columns)


def readable_columns(product: DataProduct | None, data_set: str, columns: Iterable[str]) -> frozenset[str]:
    """The columns of failing rows that may be shown.

    A check may look at what is declared nowhere: data sets inside a run, columns that its SQL names anew. Those
    are shown only where the product declares no column that names a person.
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
    known = {column.name: column.pii for column in (declared.columns if declared else ())}
    is_personal = any(c.pii == PERSONAL for one in product.data_sets for c in one.columns)
    undeclared = PERSONAL if is_personal else "none"
    return frozenset(name for name in columns if known.get(name, undeclared) != PERSONAL)


def unquoted(message: str) -> str:
    """A message without the values it quotes of rows."""
    return without_values(_QUOTED.sub(r"\1…\2", message))
