"""Packages: content-addressed, complete, checked when unpacked; what is missing is told with its place."""

from __future__ import annotations

import json
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from tests.serving.conftest import LOOKUPS, PREDICTOR, Mesh, customers, parquet

from tulle.errors import AlreadyExists, Broken, Invalid, NotFound
from tulle.events import PACKAGE_BUILT
from tulle.serving import package
from tulle.serving.manifest import read_manifest
from tulle.state import log


def archive(mesh: Mesh, built: package.Package) -> Path:
    return mesh.settings.state_folder / built.path


def test_a_package_holds_what_its_manifest_says(mesh: Mesh) -> None:
    built = mesh.build(PREDICTOR)
    assert (built.service, built.version, built.product) == (
        "high-value-predictor",
        "v1",
        "high-value-customers",
    )
    with tarfile.open(archive(mesh, built)) as tar:
        names = tar.getnames()
        assert names == sorted(names)
        assert all((m.mtime, m.uid, m.uname, m.mode) == (0, 0, "", 0o644) for m in tar)
    assert [n for n in names if not n.startswith("indexes/")] == [
        "manifest.json",
        "models/high_value/model.onnx",
        "models/high_value/signature.json",
        "openapi.json",
        "sbom.cdx.json",
        "signature.json",
    ]
    manifest = read_manifest(mesh.unpacked(built) / "manifest.json")
    assert manifest == built.manifest
    assert set(manifest.files) == set(names) - {"manifest.json", "signature.json"}
    assert manifest.commits == {
        name: mesh.lake.repository(name).resolve("main")
        for name in ("customer-features", "high-value-customers")
    }
    assert (manifest.ref, manifest.code_version) == ("main", "c0de")
    report = manifest.models["high_value"]
    assert report["conversion"]["form"] == "onnx"
    assert report["conversion"]["max_difference"] <= 1e-5
    assert report["metrics"] == {"roc_auc": 0.97}
    events = [e for e in log.read(mesh.database) if e.kind == PACKAGE_BUILT]
    assert [(e.subject, e.data["version"]) for e in events] == [("high-value-predictor", "v1")]


def test_equal_content_is_the_existing_version(mesh: Mesh) -> None:
    first = mesh.build(LOOKUPS)
    before = archive(mesh, first).read_bytes()
    features = mesh.lake.repository("customer-features")
    features.put("main", "elsewhere/readme.md", b"another commit, the same data")
    features.commit("main", "readme")
    assert mesh.build(LOOKUPS) == first
    assert archive(mesh, first).read_bytes() == before
    assert package.packages(mesh.database, "customer-features") == (first,)
    assert not list(archive(mesh, first).parent.glob(".build-*"))


def test_other_data_is_the_next_version(mesh: Mesh) -> None:
    first = mesh.build(LOOKUPS)
    features = mesh.lake.repository("customer-features")
    features.put("main", "customer_features/part-0001.parquet", parquet(customers().slice(130)))
    features.commit("main", "fewer customers")
    second = mesh.build(LOOKUPS)
    assert [p.version for p in package.packages(mesh.database, "customer-features")] == ["v1", "v2"]
    assert second.manifest.endpoints[0]["rows"]["rows"] == 190
    assert first.digest != second.digest
    assert package.get(mesh.database, "customer-features", "v1") == first
    with pytest.raises(NotFound, match="service 'customer-features' has no version 'v3'"):
        package.get(mesh.database, "customer-features", "v3")


def test_an_older_ref_gives_the_older_data(mesh: Mesh) -> None:
    features = mesh.lake.repository("customer-features")
    features.create_tag("before", "main")
    mesh.lake.repository("high-value-customers").create_tag("before", "main")
    features.put("main", "customer_features/part-0001.parquet", parquet(customers().slice(130)))
    features.commit("main", "fewer customers")
    assert mesh.build(LOOKUPS, ref="before").manifest.endpoints[0]["rows"]["rows"] == 200


def test_what_is_staged_but_not_committed_is_not_packaged(mesh: Mesh) -> None:
    features = mesh.lake.repository("customer-features")
    features.put("main", "customer_features/part-0001.parquet", parquet(customers().slice(130)))
    assert mesh.build(LOOKUPS).manifest.endpoints[0]["rows"]["rows"] == 200


def test_a_version_of_ones_own_never_changes(mesh: Mesh) -> None:
    assert mesh.build(LOOKUPS, version="summer").version == "summer"
    with pytest.raises(AlreadyExists, match="has a version 'summer' with other content"):
        mesh.build(LOOKUPS.replace("columns: [customer_id, vip]", "columns: [vip]"), version="summer")
    with pytest.raises(Invalid, match="is no version"):
        mesh.build(LOOKUPS, version="../x")
    assert mesh.build(LOOKUPS.replace("columns: [customer_id, vip]", "columns: [vip]")).version == "v1"


@pytest.mark.parametrize("damage", ["gone", "damaged"])
def test_a_tar_that_is_lost_is_written_again_byte_for_byte(mesh: Mesh, damage: str) -> None:
    built = mesh.build(PREDICTOR)
    path = archive(mesh, built)
    before = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(before[: len(before) // 2])
    assert mesh.build(PREDICTOR) == built
    assert path.read_bytes() == before


def test_missing_names_are_told_with_place_and_the_nearest_one(mesh: Mesh) -> None:
    text = """
service: broken-service
endpoints:
- name: one
  type: predict
  model: high_valu
- name: two
  type: predict
  model: high_value
  enrich: [{product: customer-feature, data_set: customer_features, key: customer_id}]
- name: three
  type: predict
  model: high_value
  enrich: [{product: customer-features, data_set: customer_feature, key: customer_id}]
- name: four
  type: predict
  model: high_value
  enrich: [{product: customer-features, data_set: customer_features, key: custmer_id}]
- name: five
  type: predict
  model: high_value
  enrich: [{product: customer-features, data_set: customer_features, key: customer_id, columns: [frequenzy]}]
- name: six
  type: predict
  model: high_value
  enrich: [{product: customer-features, data_set: customer_features, key: customer_id, columns: [note]}]
- {name: seven, type: lookup, product: customer-features, data_set: customer_features, key: score}
- {name: eight, type: lookup, product: customer-features, data_set: customer_features, key: vip}
- {name: nine, type: lookup, data_set: customer_features, key: vip}
- name: ten
  type: lookup
  product: customer-features
  data_set: customer_features
  key: customer_id
  test_queries: [{name: bad, data: {customer: '00003'}}]
"""
    with pytest.raises(Invalid) as caught:
        mesh.build(text)
    found = [(p.place.line if p.place else 0, p.message, p.hint) for p in caught.value.problems]
    assert [line for line, _, _ in found] == [6, 10, 14, 18, 22, 26, 27, 28, 29, 35]
    assert found[0][1:] == (
        "product 'high-value-customers' has no model 'high_valu'",
        "did you mean 'high_value'?",
    )
    assert found[1][1].startswith("product 'customer-feature' has nothing published")
    assert found[2][1:] == (
        "product 'customer-features' has no data set 'customer_feature'",
        "did you mean 'customer_features'?",
    )
    assert found[3][1] == "data set 'customer_features' has no column 'custmer_id'"
    assert found[4][2] == "did you mean 'frequency'?"
    assert found[5][1] == "'note' is no feature of model 'high_value'"
    assert found[6][1] == "column 'score' of 'customer_features' is double, which cannot be a key"
    assert "the key (vip) is not unique: False (100 rows), True (100 rows)" in found[7][1]
    assert found[8][1] == "product 'high-value-customers' has no data set 'customer_features'"
    assert found[9][1] == "test query 'bad': unknown key 'customer' (did you mean 'customer_id'?)"
    assert package.packages(mesh.database, "broken-service") == ()


def test_features_of_another_type_are_told(mesh: Mesh) -> None:
    table = customers()
    table = table.set_column(table.column_names.index("recency"), "recency", pa.array(["x"] * table.num_rows))
    features = mesh.lake.repository("customer-features")
    features.delete("main", "customer_features/part-0001.parquet")
    features.put("main", "customer_features/part-0000.parquet", parquet(table))
    features.commit("main", "recency is text")
    with pytest.raises(
        Invalid, match="column 'recency' of 'customer_features' is string, the model was trained"
    ):
        mesh.build(PREDICTOR)


def test_a_damaged_archive_is_told_with_the_name_of_the_file(mesh: Mesh, tmp_path: Path) -> None:
    built = mesh.build(PREDICTOR)
    path = archive(mesh, built)
    data = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        at = tar.getmember("models/high_value/model.onnx").offset_data
    data[at + 100] ^= 1
    (tmp_path / "bad.tar").write_bytes(data)
    with pytest.raises(Broken, match=r"the package's file 'models/high_value/model\.onnx' is damaged"):
        package.unpack(tmp_path / "bad.tar", tmp_path / "out", digest=built.digest)
    assert not (tmp_path / "out").exists()
    with pytest.raises(Broken, match="expected 000000"):
        package.unpack(path, tmp_path / "out", digest="0" * 64)
    with pytest.raises(Broken, match="is gone"):
        package.unpack(tmp_path / "no.tar", tmp_path / "out", digest=built.digest)
    (tmp_path / "text.tar").write_text("no archive")
    with pytest.raises(Broken, match=r"text\.tar cannot be read"):
        package.unpack(tmp_path / "text.tar", tmp_path / "out", digest=built.digest)
    assert list(tmp_path.glob(".out*")) == []


def test_an_archive_that_reaches_outside_is_refused(mesh: Mesh, tmp_path: Path) -> None:
    for name, kind in (("../evil", tarfile.REGTYPE), ("link", tarfile.SYMTYPE)):
        with tarfile.open(tmp_path / "evil.tar", "w") as tar:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc/passwd"
            tar.addfile(entry)
        with pytest.raises(Broken):
            package.unpack(tmp_path / "evil.tar", tmp_path / "deep" / "out", digest="0" * 64)
    assert not (tmp_path / "deep" / "evil").exists()


def _odd(file: Path, headers: dict[str, str]) -> None:
    with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as tar:
        entry = tarfile.TarInfo("x")
        entry.pax_headers = headers
        tar.addfile(entry)


def _header(kind: bytes, size: int) -> bytes:
    entry = tarfile.TarInfo("x")
    entry.type, entry.size = kind, size
    return entry.tobuf(tarfile.GNU_FORMAT)


def test_an_archive_that_breaks_the_reader_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd.tar"
    _odd(path, {"path": "a\0b"})
    with pytest.raises(Broken, match="null byte"):
        package.extract(path, tmp_path / "out")
    _odd(path, {"GNU.sparse.map": "x,y", "GNU.sparse.size": "1"})
    with pytest.raises(Broken, match="invalid literal"):
        package.extract(path, tmp_path / "out")
    path.write_bytes((_header(tarfile.GNUTYPE_LONGNAME, 5) + b"abcd".ljust(512, b"\0")) * 3000)
    with pytest.raises(Broken, match="recursion"):
        package.extract(path, tmp_path / "out")
    path.write_bytes(_header(tarfile.XHDTYPE, 8 << 30) + bytes(5120))
    with pytest.raises(Broken, match=r"a header of 8,589,93\d,\d+ bytes"):
        package.extract(path, tmp_path / "out")


def test_an_archive_of_countless_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "_MOST_FILES", 3)
    with tarfile.open(tmp_path / "many.tar", "w") as tar:
        for number in range(4):
            tar.addfile(tarfile.TarInfo(f"f{number}"))
    with pytest.raises(Broken, match="holds more than 3 files"):
        package.extract(tmp_path / "many.tar", tmp_path / "out")


def test_unpacking_again_mends_what_was_damaged_meanwhile(mesh: Mesh) -> None:
    built = mesh.build(PREDICTOR)
    folder = mesh.unpacked(built)
    before = (folder / "manifest.json").stat().st_ino
    assert mesh.unpacked(built) == folder
    assert (folder / "manifest.json").stat().st_ino == before
    (folder / "models/high_value/model.onnx").write_bytes(b"damaged")
    mesh.unpacked(built)
    assert len((folder / "models/high_value/model.onnx").read_bytes()) > 1000


def test_a_manifest_that_was_edited_is_refused(mesh: Mesh) -> None:
    folder = mesh.unpacked(mesh.build(LOOKUPS))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["endpoints"][0]["rows"]["columns"][0]["name"] = "other"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(Broken, match="damaged"):
        read_manifest(folder / "manifest.json")


def test_what_a_killed_build_left_is_removed(mesh: Mesh) -> None:
    home = mesh.settings.state_folder / "packages" / "customer-features"
    (home / ".build-999999999-x").mkdir(parents=True)
    (home / ".build-1-y").mkdir()
    mesh.build(LOOKUPS)
    assert sorted(path.name for path in home.iterdir()) == [".build-1-y", "v1.tar"]


def test_a_repository_may_lack_everything(mesh: Mesh) -> None:
    mesh.lake.create_repository("empty-product")
    text = LOOKUPS.replace("product: customer-features", "product: empty-product")
    with pytest.raises(Invalid) as caught:
        mesh.build(text)
    assert caught.value.problems[0].hint == "no run of 'empty-product' has published data yet"


def test_two_builds_at_once_do_not_disturb_each_other(mesh: Mesh) -> None:
    texts = [LOOKUPS, LOOKUPS.replace("columns: [customer_id, vip]", "columns: [vip]")] * 2
    with ThreadPoolExecutor(4) as pool:
        built = list(pool.map(mesh.build, texts))
    assert built[0] == built[2]
    assert built[1] == built[3]
    assert {p.version for p in built} == {"v1", "v2"}
    for one in built[:2]:
        assert read_manifest(mesh.unpacked(one) / "manifest.json") == one.manifest


def test_a_decimal_key_is_probed_with_every_digit(mesh: Mesh) -> None:
    text = LOOKUPS.partition("- name: by-day")[0].replace("key: [customer_id]", "key: [spend]")
    text = text.partition("  test_queries:")[0].replace("customer-features\nendpoints", "by-spend\nendpoints")
    (entry,) = mesh.build(text).manifest.endpoints
    assert isinstance(entry["probe"]["data"]["spend"], str)
