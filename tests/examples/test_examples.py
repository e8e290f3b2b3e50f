"""The example mesh as files: it validates, its data is what the documents say, nothing in src/ knows it."""

from __future__ import annotations

import gzip
import hashlib
import re
import subprocess
from pathlib import Path

from tests.examples.conftest import EXAMPLE

from tulle.pipeline.graph import load_code
from tulle.serving.service import load_services
from tulle.spec.load import load_document
from tulle.spec.mesh import MeshSpec, load_settings

ROOT = EXAMPLE.parents[1]
DATA = EXAMPLE / "products/sales/purchases/data/cdnow_master.txt.gz"


def test_the_three_products_validate_in_the_order_of_their_data(spec: MeshSpec) -> None:
    assert [p.name for p in spec.order()] == ["purchases", "customer-features", "high-value-customers"]
    assert {p.domain for p in spec.products} == {"sales", "customer", "marketing"}


def test_code_checks_and_services_have_no_problem(spec: MeshSpec) -> None:
    for product in spec.products:
        assert load_code(product, spec=spec).problems == ()
        load_services(product)


def test_the_data_is_the_one_that_third_party_names() -> None:
    text = gzip.decompress(DATA.read_bytes())
    assert hashlib.sha256(text).hexdigest() in (ROOT / "THIRD_PARTY.md").read_text()
    lines = [line.split() for line in text.decode("ascii").splitlines()[1:]]
    assert len(lines) == 69_659
    assert len({line[0] for line in lines}) == 23_570
    assert (min(line[1] for line in lines), max(line[1] for line in lines)) == ("19970101", "19980630")


def test_the_demo_script_names_what_exists(spec: MeshSpec) -> None:
    script = load_document(EXAMPLE / "demo.yaml").value
    declared = {s.name: {e.name for e in s.endpoints} for p in spec.products for s in load_services(p)}
    assert set(script["runs"]) == {p.name for p in spec.products}
    assert {item["service"] for item in script["services"]} == set(declared)
    for request in script["requests"]:
        assert request["endpoint"] in declared[request["service"]]
        assert set(request) >= {"title", "service", "endpoint", "action", "body"}


def test_the_settings_for_tls_hold_once_they_are_no_comments(tmp_path: Path) -> None:
    text = (EXAMPLE / "mesh.yaml").read_text()
    assert not load_settings(EXAMPLE, {}).mutual_tls
    (command,) = re.findall(r"\$ (sed -i .* mesh\.yaml)", (EXAMPLE / "README.md").read_text())
    (tmp_path / "mesh.yaml").write_text(text)
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True)
    settings = load_settings(tmp_path, {})
    assert settings.mutual_tls
    assert settings.gateway_tls is not None
    assert settings.gateway_url.startswith("https://")


def test_the_source_knows_nothing_of_the_example() -> None:
    words = re.compile(r"cdnow|recency_days|storefront|btyd|spending_summary|high-value", re.IGNORECASE)
    files = (ROOT / "src").rglob("*.py")
    found = [path.name for path in files if words.search(path.read_text())]
    assert found == []
