"""Features that answers of predictions would tell, and that the documents classify: they are refused by name.

Who looks a value up for a model has not said that callers may see it. Whoever means that declares a lookup endpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tulle.catalog.masking import has_masked, is_closed, is_masked
from tulle.errors import Invalid, Problem
from tulle.serving.declared import PredictSpec
from tulle.serving.keyed_rows import KeyedRows
from tulle.serving.service import Service
from tulle.spec.product import DataProduct

ProductOf = Callable[[str], DataProduct | None]


def hidden_features(services: Sequence[Service], own: str, product_of: ProductOf) -> Iterator[Problem]:
    """A problem for each feature that an endpoint shows and that stands for a masked column. `own`: whose services."""
    for service in services:
        for spec in service.endpoints:
            if not isinstance(spec, PredictSpec) or spec.shown is None:
                continue
            for name in spec.shown.features:
                hiding = (rows for rows in spec.enrich if _is_hidden(name, rows, own, product_of))
                for rows in hiding:
                    what = f"'{rows.data_set}' of product '{rows.product or own}'"
                    message = f"endpoint '{spec.name}' shows '{name}', whose values in {what} are classified or unknown"
                    hint = "leave it out of `show_features`, or give it by a lookup endpoint of its own"
                    yield Problem(message, spec.places.get("show_features"), hint)


def demand_showable(service: Service, own: str, product_of: ProductOf) -> None:
    """Refuse a service that shows what is classified; Invalid with the places."""
    problems = list(hidden_features([service], own, product_of))
    if problems:
        raise Invalid(problems[0].message, hint=problems[0].hint, problems=problems)


def _is_hidden(name: str, rows: KeyedRows, own: str, product_of: ProductOf) -> bool:
    """Whether a look-up would give a feature a value that is restricted, or names a person."""
    columns = dict(rows.columns)
    if columns and name not in columns:
        return False
    product = product_of(rows.product or own)
    if product is None:
        return True
    data_set = next((one for one in product.data_sets if one.name == rows.data_set), None)
    wanted = columns.get(name, name)
    column = next((one for one in data_set.columns if one.name == wanted), None) if data_set else None
    if is_closed(product, data_set):
        return True
    return has_masked(product) if column is None else is_masked(column)
