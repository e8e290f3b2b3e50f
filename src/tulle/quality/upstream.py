"""Checks that look into other products: is there such a product, does it publish that data set with that column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tulle.errors import Problem, did_you_mean
from tulle.quality.check import Check
from tulle.spec.mesh import MeshSpec
from tulle.spec.product import DataProduct


def upstream_problems(checks: Iterable[Check], product: DataProduct, spec: MeshSpec) -> Iterator[Problem]:
    """Problems for what checks name in other products; only what an output port offers may be looked at."""
    products = {other.name: other for other in spec.products}
    for check in checks:
        for name, (owner, data_set) in check.elsewhere.items():
            said = f"check '{check.name}'"
            if owner == product.name:
                yield Problem(
                    f"{said}: '{owner}' is the product itself",
                    check.place,
                    "leave 'product' out: data_set alone",
                )
            elif owner not in products:
                hint = did_you_mean(owner, [other for other in products if other != product.name])
                yield Problem(f"{said}: there is no product '{owner}'", check.place, hint)
            else:
                yield from _in_product(check, said, products[owner], data_set, check.others[name])


def _in_product(
    check: Check, said: str, owner: DataProduct, data_set: str, columns: tuple[str, ...]
) -> Iterator[Problem]:
    offered = {name for port in owner.output_ports for name in (port.data_set, *port.data_sets) if name}
    if data_set not in offered:
        hint = did_you_mean(data_set, offered) or "its owner offers it by an output port"
        message = f"{said}: product '{owner.name}' offers no data set '{data_set}' by an output port"
        yield Problem(message, check.place, hint)
        return
    declared = [c.name for d in owner.data_sets if d.name == data_set for c in d.columns]
    for column in columns:
        if declared and column not in declared:
            message = f"{said}: data set '{data_set}' of product '{owner.name}' has no column '{column}'"
            yield Problem(message, check.place, did_you_mean(column, declared))
