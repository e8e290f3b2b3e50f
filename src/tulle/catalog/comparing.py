"""What a product's documents say to a comparison of one of its data sets: its key, and what a page may show.

Pure, like `masking`, whose rules for failing rows it applies to rows that differ.
"""

from __future__ import annotations

from tulle.catalog.masking import readable_columns
from tulle.engine.compare import Comparison
from tulle.spec.product import DataProduct


def declared_key(product: DataProduct | None, prefix: str) -> tuple[str, ...]:
    """The key columns the product declares for the data set under a prefix; empty when it declares none."""
    name = prefix.strip("/")
    data_sets = product.data_sets if product else ()
    return next((data_set.key for data_set in data_sets if data_set.name == name), ())


def for_page(found: Comparison, product: DataProduct | None) -> Comparison:
    """A comparison as somebody without sign-in may see it: no value of a column that names a person.

    Of a repository that is no product's nothing is declared, so no value is shown.
    """
    columns = {change.name for change in found.profile} | {change.name for change in found.columns}
    for row in (
        (found.rows.added_rows + found.rows.removed_rows + found.rows.changed_rows) if found.rows else ()
    ):
        columns |= {*(row.left or ()), *(row.right or ())}
    shown = readable_columns(product, found.prefix.strip("/"), columns)
    return found.without_values(lambda name: name in shown)
