"""Later changes of a template are taken over; what both sides changed is marked and named."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from tulle.cli.main import cli
from tulle.errors import Invalid
from tulle.spec import skeleton
from tulle.spec.load import load_document
from tulle.spec.template_record import RECORD_FILE, Record, merge, read_record, recorded, updates

TEXTS = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "d\n"]), max_size=8).map("".join)


@given(TEXTS, TEXTS)
def test_what_one_side_changed_is_taken(base: str, changed: str) -> None:
    assert merge(base, changed, base) == (changed, ())
    assert merge(base, base, changed) == (changed, ())
    assert merge(base, changed, changed) == (changed, ())


@given(TEXTS, TEXTS, TEXTS)
def test_no_line_of_either_side_is_lost_where_both_changed(base: str, mine: str, theirs: str) -> None:
    merged, conflicts = merge(base, mine, theirs)
    if conflicts:
        lines = merged.splitlines()
        assert all(lines[line - 1].startswith("<<<<<<<") for line in conflicts)
        assert len(conflicts) == sum(line.startswith(">>>>>>>") for line in lines)


def test_changes_in_different_places_go_together() -> None:
    assert merge("1\n2\n3\n4\n5\n", "one\n2\n3\n4\n5\n", "1\n2\n3\n4\nfive\n") == ("one\n2\n3\n4\nfive\n", ())
    merged, conflicts = merge("1\n2\n3\n", "1\nmine\n3\n", "1\ntheirs\n3\n")
    assert merged == "1\n<<<<<<< yours\nmine\n=======\ntheirs\n>>>>>>> the template's\n3\n"
    assert conflicts == (2,)


def test_files_that_went_away_stay_away_and_data_is_left_alone() -> None:
    record = Record("x", {}, {"a": "1\n", "b": "1\n", "data/r.csv": "1\n"})
    found = list(
        updates(
            record,
            {"a": "1\n", "data/r.csv": "9\n"},
            {"a": "2\n", "b": "2\n", "c": "3\n", "data/r.csv": "2\n"},
        )
    )
    assert [(update.path, update.sentence) for update in found] == [("a", "is changed"), ("c", "is new")]


def test_a_record_comes_back_and_cannot_name_files_outside() -> None:
    files = {"product.yaml": "a: 1\n\n# x\n", "transform/a.sql": "SELECT 1"}
    record = read_record(load_document(recorded("aggregate", {"name": "a"}, files)))
    assert (record.template, record.answers, record.generated) == ("aggregate", {"name": "a"}, files)
    for path in ("../x", "/etc/x", "a/../../x", ".ssh/x"):
        with pytest.raises(Invalid):
            read_record(load_document(recorded("x", {}, {path: ""})))


def test_a_changed_template_reaches_a_product(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mesh.yaml").write_text("name: test\n")
    mesh = ["--mesh", str(tmp_path)]

    def tulle(*args: str, code: int = 0) -> str:
        result = CliRunner().invoke(cli, [*mesh, *args])
        assert result.exit_code == code, (result.output, result.exception)
        return f"{result.output}{result.exception or ''}"

    tulle("new", "product", "orders", "--domain", "sales")
    folder = tmp_path / "products" / "sales" / "orders"
    assert (folder / RECORD_FILE).exists()
    assert "nothing to take over" in tulle("product", "update-template", "orders")
    document = folder / "product.yaml"
    document.write_text(document.read_text().replace("Every order once", "Each order"))
    newer = skeleton.PRODUCT.replace("version: 0.1.0", "version: 0.2.0")
    monkeypatch.setattr(skeleton, "PRODUCT", newer)
    assert "product.yaml is changed" in tulle("product", "update-template", "orders")
    assert "version: 0.2.0" in document.read_text()
    assert "Each order" in document.read_text()
    document.write_text(document.read_text().replace("version: 0.2.0", "version: 7.0.0"))
    monkeypatch.setattr(skeleton, "PRODUCT", newer.replace("version: 0.2.0", "version: 0.3.0"))
    told = tulle("product", "update-template", "orders", code=1)
    assert "product.yaml:" in told
    assert "<<<<<<< yours\n      version: 7.0.0\n" in document.read_text()
    assert "unfinished" in tulle("product", "update-template", "orders", code=1)
