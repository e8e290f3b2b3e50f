"""The order in which products are made: what they read decides, what checks look into comes first where it can."""

from __future__ import annotations

from pathlib import Path

from tulle.control.order import in_order
from tulle.spec.product import Column, DataProduct, DataSet, ForeignKey, InputPort


def product(name: str, *reads: str, keys: tuple[str, ...] = ()) -> DataProduct:
    columns = tuple(
        Column(f"c{n}", "string", foreign_key=ForeignKey("t", "id", to)) for n, to in enumerate(keys)
    )
    return DataProduct(
        name=name,
        title=name,
        domain="d",
        description="",
        input_ports=tuple(InputPort(other, other, "", product=other) for other in reads),
        data_sets=(DataSet("t", "t", "", columns=columns),),
    )


def check(folder: Path, name: str, to: str) -> None:
    checks = folder / "d" / name / "checks"
    checks.mkdir(parents=True)
    to = f"{{product: {to}, data_set: t, column: id}}"
    (checks / "c.yaml").write_text(f"checks: [{{data_set: t, type: references, column: id, to: {to}}}]")


def test_what_is_read_comes_first(tmp_path: Path) -> None:
    assert in_order([product("a", "b"), product("b", "c", "elsewhere"), product("c")], tmp_path) == [
        "c",
        "b",
        "a",
    ]


def test_what_keys_and_checks_point_to_comes_first(tmp_path: Path) -> None:
    check(tmp_path, "b", "c")
    known = [product("a", keys=("b", "")), product("b"), product("c")]
    assert in_order(known, tmp_path) == ["c", "b", "a"]


def test_in_a_circle_only_reading_counts(tmp_path: Path) -> None:
    check(tmp_path, "b", "a")  # a reads b, and b's checks look into a
    assert in_order([product("a", "b"), product("b")], tmp_path) == ["b", "a"]


def test_checks_that_cannot_be_read_are_left_to_validate(tmp_path: Path) -> None:
    check(tmp_path, "a", "b")
    (tmp_path / "d/a/checks/c.yaml").write_text("checks: [product")
    assert in_order([product("a"), product("b")], tmp_path) == ["a", "b"]
