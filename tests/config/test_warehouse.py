"""Warehouses: the bounds of a domain, and bounds that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from tulle.config import Warehouse, settings_from
from tulle.errors import Invalid


def test_a_domain_has_its_own_bounds_or_the_common_ones(tmp_path: Path) -> None:
    settings = settings_from(
        tmp_path, {"warehouses": {"sales": {"threads": 1}}, "warehouse": {"memory": "3GB"}}, {}
    )
    assert settings.warehouse_of("sales") == Warehouse(threads=1)
    assert settings.warehouse_of("customer").memory == "3GB"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"warehouse": 3}, "'warehouse' must be a mapping"),
        ({"warehouses": {"sales": {"thread": 3}}}, "unknown setting 'thread' in 'warehouses.sales'"),
        ({"warehouse": {"threads": 0}}, "'warehouse.threads' is 0"),
    ],
)
def test_what_cannot_be_is_refused_by_name(tmp_path: Path, values: dict[str, object], said: str) -> None:
    with pytest.raises(Invalid) as refused:
        settings_from(tmp_path, values, {})
    assert said in refused.value.message
