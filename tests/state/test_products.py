"""Applied products come back as the values they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from tulle.errors import NotFound
from tulle.spec.mesh import load_mesh
from tulle.state import products
from tulle.state.db import Database

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "cdnow"


def test_a_saved_product_equals_the_one_read_from_its_document(database: Database) -> None:
    spec = load_mesh(EXAMPLE)
    with database.write() as connection:
        for product in spec.products:
            products.save(connection, product, code_digest="c")
            products.save(connection, product, code_digest="d")
    back = {item.product.name: item for item in products.applied(database)}
    for product in spec.products:
        assert back[product.name].product == product
        assert back[product.name].code_digest == "d"


def test_an_unknown_product_is_named_with_the_nearest(database: Database) -> None:
    spec = load_mesh(EXAMPLE)
    with database.write() as connection:
        products.save(connection, spec.product("purchases"), code_digest="c")
    with pytest.raises(NotFound) as missing:
        products.applied_product(database, "purchase")
    assert missing.value.hint == "did you mean 'purchases'?"
    with database.write() as connection:
        products.remove(connection, "purchases")
    assert products.applied(database) == ()
