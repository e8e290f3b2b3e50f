"""The seed's document, in its own form and in the plain form, becomes the same product."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tulle.errors import NotFound
from tulle.spec.capability import builtin_registry
from tulle.spec.load import load_document
from tulle.spec.oam import read_product
from tulle.spec.product import DataProduct, kebab, snake

SEED = Path(__file__).parent / "seed_product.yaml"


def product_of(file: Path) -> DataProduct:
    return read_product(load_document(file, name=str(file)), builtin_registry(), file=file)


@pytest.fixture(scope="module")
def seed() -> DataProduct:
    return product_of(SEED)


def test_the_seeds_document_loads_as_it_stands(seed: DataProduct) -> None:
    assert (seed.name, seed.title, seed.domain) == ("member-claims", "Member Claims", "claims")
    assert seed.owner == "jane.doe@health.example"
    assert seed.product_type == "source-aligned"
    assert seed.certified is False
    assert [d.name for d in seed.data_sets] == ["member_claims"]
    assert seed.data_sets[0].table == "PROD.CLAIMS.Member Claims"
    (port,) = seed.output_ports
    assert (port.data_set, port.protocol) == ("member_claims", "sql")
    assert port.url.startswith("jdbc:snowflake://")
    assert port.url.endswith("&db=PROD&schema=CLAIMS")
    documented, upstream = seed.input_ports
    assert (documented.source, documented.associated_output_port, documented.data_set) == (None, "", "")
    assert upstream.associated_output_port == "JDBC-Port of DP Provider Directory"
    assert seed.service_level_indicators[0].service_level_name == seed.service_level_assets[0].name
    assert seed.agreements[0].description == "Instructions To access this data product"
    assert len(seed.components) == 9
    assert seed.components[0].properties == {}


def test_value_and_plain_form_are_the_same_product(seed: DataProduct, tmp_path: Path) -> None:
    text = SEED.read_text()
    plain = re.sub(r":\n +value: ", ": ", text)
    assert "value:" not in plain
    plain = plain.replace("spec:\ncomponents:", "spec:\n components:")  # the two places, too
    body, components = plain.split(" components:\n")
    indented = "".join(f" {line}\n" for line in components.splitlines())
    file = tmp_path / "product.yaml"
    file.write_text(f"{body} components:\n{indented}".replace("properties: ...", "properties: {}"))
    other = product_of(file)
    assert other == seed
    assert other.digest == seed.digest
    assert (other.file, other.folder) == (file, tmp_path)
    assert other.place != seed.place


def test_a_different_meaning_has_a_different_digest(seed: DataProduct, tmp_path: Path) -> None:
    file = tmp_path / "product.yaml"
    file.write_text(SEED.read_text().replace("jane.doe", "joe.doe"))
    assert product_of(file).digest != seed.digest


def test_parts_are_found_by_name_and_title(seed: DataProduct) -> None:
    assert seed.data_set("member_claims") is seed.data_set("Dataset of DP Member Claims")
    assert seed.output_port("jdbc-port-of-dp-member-claims") is seed.output_ports[0]
    with pytest.raises(NotFound, match=r"no data set 'member_claim'") as caught:
        seed.data_set("member_claim")
    assert caught.value.hint == "did you mean 'member_claims'?"


@pytest.mark.parametrize(
    ("text", "as_kebab", "as_snake"),
    [
        ("Files port of purchases", "files-port-of-purchases", "files_port_of_purchases"),
        ("  Größe & Maß  ", "grosse-mass", "grosse_mass"),
        ("Café/Crème", "cafe-creme", "cafe_creme"),
        ("数据", "", ""),
    ],
)
def test_machine_names(text: str, as_kebab: str, as_snake: str) -> None:
    assert kebab(text) == as_kebab
    assert snake(text) == as_snake
