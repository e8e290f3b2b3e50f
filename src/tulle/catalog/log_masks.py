"""Which values of a service's queries may be kept and shown, by what the products behind it declare. Default deny.

A name that stands for a masked column is masked, one of restricted data is left out. Where it cannot be known which
column a value is of (functions, compositions, SQL), nothing is let through unless nothing behind it is masked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tulle.catalog.masking import CLOSED, has_masked, is_closed, is_masked
from tulle.serving.compose_declared import reaching_out
from tulle.serving.log_rows import Shown
from tulle.serving.manifest import Manifest, Origin, look_ups_of
from tulle.spec.product import Column, DataProduct, DataSet

ProductOf = Callable[[str], DataProduct | None]
_KEYED = {"predict", "lookup"}


def shown_of(manifest: Manifest, product_of: ProductOf) -> dict[str, Shown]:
    """The rule of every endpoint of a package."""
    own = product_of(manifest.product)
    log = manifest.query_log()
    found: dict[str, Shown] = {}
    for raw in manifest.endpoints:
        name, kind = str(raw["name"]), str(raw["type"])
        left_out = frozenset(log.of(name).leave_out)
        origins = manifest.origins.get(name)
        if own is None or is_closed(own, None):
            found[name] = Shown(closed=True)
        elif kind in _KEYED:
            found[name] = _keyed(raw, origins or (), own, product_of, left_out)
        elif kind == "query":
            is_known = origins is not None and not raw.get("connection")  # of a database nothing is known
            is_open = is_known and all(_is_open(one, product_of) for one in origins or ())
            found[name] = Shown(left_out=left_out, closed=not is_open)
        else:
            found[name] = Shown(left_out=left_out, closed=_may_name(own, product_of))
    # A composition gives on what the endpoints it calls answer, and what is elsewhere, of which nothing is known.
    hides = any(_hides(rule, log.of(name).leave_out) for name, rule in found.items())
    elsewhere = reaching_out(manifest.endpoints)
    for raw in manifest.endpoints:
        if raw["type"] == "compose" and (hides or raw["name"] in elsewhere):
            found[str(raw["name"])] = Shown(closed=True)
    return found


def _hides(rule: Shown, leave_out: Sequence[str]) -> bool:
    """Whether a rule keeps something back that a contract says, not the service alone."""
    return rule.closed or rule.texts_masked or bool(rule.masked or rule.left_out - set(leave_out))


def _keyed(
    raw: Mapping[str, Any],
    origins: Sequence[Origin],
    own: DataProduct,
    product_of: ProductOf,
    left_out: frozenset[str],
) -> Shown:
    """The rule of a prediction or a lookup: by the columns its names stand for."""
    masked, restricted, declared, names = set[str](), set[str](), set[str](), set[str]()
    for rows in look_ups_of(raw):
        product = product_of(rows["product"])
        data_set = _data_set(product, rows["data_set"])
        renamed = _renamed(origins, rows["product"], rows["data_set"])
        keys = [str(column["name"]) for column in rows["key"]]
        names.update(keys)
        undeclared_masked = product is None or has_masked(product)
        for name in [*keys, *(str(column["name"]) for column in rows["columns"])]:
            column = _column(data_set, renamed.get(name, name))
            if product is None or is_closed(product, data_set):
                restricted.add(name)
            elif column is None:
                (masked if undeclared_masked else declared).add(name)
            elif column.classification == CLOSED:
                restricted.add(name)
            else:
                (masked if is_masked(column) else declared).add(name)
    # A feature that is only sent has the name of a column the model was trained on.
    for column in _columns(own):
        if is_masked(column):
            (restricted if column.classification == CLOSED else masked).add(column.name)
        else:
            declared.add(column.name)
    # Or of one in the data that those were made of; what the product says of its own column holds.
    known = {column.name for column in _columns(own)}
    for column in (column for other in _read_by(own, product_of) for column in _columns(other)):
        if is_masked(column) and column.name not in known:
            (restricted if column.classification == CLOSED else masked).add(column.name)
    hidden = masked | restricted
    return Shown(
        masked=frozenset(masked - restricted),
        left_out=left_out | restricted,
        known=frozenset(names),
        declared=frozenset(declared - hidden),
        texts_masked=bool(raw.get("model")) and _may_name(own, product_of),
    )


def _renamed(origins: Sequence[Origin], product: str, data_set: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for origin in origins:
        if (origin.product, origin.data_set) == (product, data_set):
            found |= origin.columns
    return found


def _is_open(origin: Origin, product_of: ProductOf) -> bool:
    """Whether nothing of a data set is masked."""
    product = product_of(origin.product)
    data_set = _data_set(product, origin.data_set)
    if product is None or data_set is None or is_closed(product, data_set):
        return False
    return not any(is_masked(column) for column in data_set.columns)


def _may_name(product: DataProduct, product_of: ProductOf) -> bool:
    """Whether something that a product's code can meet is masked."""
    if has_masked(product) or any(is_closed(product, one) for one in product.data_sets):
        return True
    others = {port.product for port in product.input_ports if port.product}
    return any(_names_people(product_of(name)) for name in others)


def _read_by(product: DataProduct, product_of: ProductOf) -> Iterator[DataProduct]:
    """The products whose data a product is made of, as far as they are known."""
    for name in sorted({port.product for port in product.input_ports if port.product}):
        if (other := product_of(name)) is not None:
            yield other


def _names_people(product: DataProduct | None) -> bool:
    return (
        product is None
        or is_closed(product, None)
        or has_masked(product)
        or any(is_closed(product, one) for one in product.data_sets)
    )


def _data_set(product: DataProduct | None, name: str) -> DataSet | None:
    return next((one for one in product.data_sets if one.name == name), None) if product else None


def _column(data_set: DataSet | None, name: str) -> Column | None:
    return next((one for one in data_set.columns if one.name == name), None) if data_set else None


def _columns(product: DataProduct) -> Iterator[Column]:
    for data_set in product.data_sets:
        yield from data_set.columns
