"""The reference page of mesh.yaml follows the typed settings."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from tulle.config import AlertChannel, Environment, Warehouse
from tulle.errors import Invalid
from tulle.spec.mesh import load_settings
from tulle.spec.mesh_reference import EXAMPLE, example_of, reference_page, setting_names

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "mesh.md"


def test_the_page_is_not_stale() -> None:
    hint = "run: python -m tulle.spec.mesh_reference > docs/reference/mesh.md"
    assert PAGE.read_text(encoding="utf-8") == reference_page(), hint


def test_every_setting_is_on_the_page() -> None:
    page = reference_page()
    for name in setting_names():
        assert f"\n| `{name}` |" in page
    for kind in (Warehouse, Environment, AlertChannel):
        for field in fields(kind):
            if field.name != "name":
                assert f"\n| `{field.name}` |" in page


def test_the_example_and_those_of_each_setting_are_read(tmp_path: Path) -> None:
    assert EXAMPLE in PAGE.read_text(encoding="utf-8")
    file = tmp_path / "mesh.yaml"
    file.write_text(EXAMPLE)
    settings = load_settings(tmp_path, {})
    assert (settings.notice_days, settings.warehouse_of("sales").temp_disk) == (90, "50GB")
    file.write_text("")
    plain = load_settings(tmp_path, {})
    for name in setting_names():
        # which says nothing without those who may connect there
        more = example_of("trusted_proxies") + "\n" if name == "proxy_protocol_port" else ""
        file.write_text(more + example_of(name) + "\n")
        assert getattr(load_settings(tmp_path, {}), name) != getattr(plain, name), name


def test_a_wrong_setting_names_the_page(tmp_path: Path) -> None:
    (tmp_path / "mesh.yaml").write_text("notice_day: 3\ngateway_port: many\n")
    with pytest.raises(Invalid) as caught:
        load_settings(tmp_path, {})
    unknown, wrong = caught.value.problems
    assert unknown.hint == "did you mean 'notice_days'?"
    assert wrong.hint == "every setting: docs/reference/mesh.md"
    assert (PAGE.parents[2] / wrong.hint.removeprefix("every setting: ")) == PAGE
