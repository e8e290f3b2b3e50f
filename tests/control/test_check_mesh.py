"""What validate finds in a product's folder beside its documents and code: services, folders, files."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.control.released import Team

from tulle.control.check_mesh import Verdict, check_mesh, check_named
from tulle.errors import NotFound, Problem
from tulle.spec.picture import render

SERVICE = """
service: totals
endpoints:
- name: of-one
  type: lookup
  data_set: features
  key: customer
  columns: [total]
"""


@pytest.fixture
def team(tmp_path: Path) -> Team:
    made = Team(tmp_path)
    assert check_mesh(made.workspace) == Verdict(("sales", "features"), ())
    return made


def _problem(team: Team) -> Problem:
    (found,) = check_mesh(team.workspace).problems
    assert str(found.place) in render(found)
    return found


@pytest.mark.parametrize(
    ("right", "wrong", "said", "place", "hint"),
    [
        ("data_set: features", "data_set: feature", "no data set 'feature'", "5:13", "'features'"),
        ("key: customer", "key: custmer", "no column 'custmer'", "6:8", "'customer'"),
        ("key: customer", "key: [total, custmer]", "no column 'custmer'", "6:16", "'customer'"),
        ("[total]", "[total, rest]", "no column 'rest'", "7:20", "customer, total"),
        ("data_set: features", "{product: sale, data_set: sales}", "no product 'sale'", "5:13", "'sales'"),
        ("data_set: features", "{product: sales, data_set: sale}", "no data set 'sale'", "5:30", "'sales'"),
        ("data_set: features", "{product: sales, data_set: sales}", "no column 'total'", "8:13", "amount"),
    ],
)
def test_a_service_asks_for_what_there_is(
    team: Team, right: str, wrong: str, said: str, place: str, hint: str
) -> None:
    team.mesh.features("services/totals.yaml", SERVICE)
    assert check_mesh(team.workspace).problems == ()
    if wrong.startswith("{"):  # two lines where there was one
        wrong = wrong.strip("{}").replace(", ", "\n  ")
        place = {"5:13": "5:12", "5:30": "6:13"}.get(place, place)
    team.mesh.features("services/totals.yaml", SERVICE.replace(right, wrong))
    found = _problem(team)
    assert said in found.message
    assert f"services/totals.yaml:{place}" in str(found.place)
    assert hint in str(found.hint)
    assert found.source_line


def test_a_key_has_a_type_that_can_be_looked_up(team: Team) -> None:
    product = team.mesh.folder / "products/people/features/product.yaml"
    product.write_text(product.read_text().replace("'decimal(12,2)'", "double"))
    team.mesh.features(
        "transform/features.sql",
        "SELECT customer, sum(amount)::double AS total\nFROM sold GROUP BY customer\n",
    )
    team.mesh.features("services/totals.yaml", SERVICE.replace("key: customer", "key: total"))
    found = _problem(team)
    assert found.message == "column 'total' of 'features' is double, which cannot be a key"


def test_columns_of_a_model_that_no_document_declares_are_known(team: Team) -> None:
    team.mesh.features("transform/extra.sql", "SELECT customer AS who, total FROM features\n")
    service = SERVICE.replace("data_set: features", "data_set: extra")
    team.mesh.features("services/totals.yaml", service)
    assert "no column 'customer'" in _problem(team).message
    team.mesh.features("services/totals.yaml", service.replace("key: customer", "key: who"))
    assert check_mesh(team.workspace).problems == ()


def test_where_columns_are_not_known_nothing_is_said(team: Team) -> None:
    team.mesh.features(
        "transform/extra.py", 'inputs = ["features"]\n\n\ndef run(features):\n    return features\n'
    )
    service = SERVICE.replace("data_set: features", "data_set: extra").replace("customer", "anything")
    team.mesh.features("services/totals.yaml", service)
    assert not [p for p in check_mesh(team.workspace).problems if "no column" in p.message]


def test_enrichments_are_looked_at_too(team: Team) -> None:
    team.mesh.features(
        "services/predict.yaml",
        """
        service: predictor
        endpoints:
        - name: guess
          type: predict
          model: unknown_before_a_run
          enrich:
          - {data_set: features, key: customr}
        """,
    )
    found = _problem(team)
    assert found.message == "data set 'features' has no column 'customr'"
    assert str(found.place).endswith("services/predict.yaml:7:31")


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("transforms/more.sql", "transform"),
        ("Transform_/more.py", "transform"),
        ("models/more.sql", "transform"),
        ("check/more.yaml", "checks"),
        ("check/more.sql", "checks"),
        ("service/more.yml", "services"),
        ("test/more.yaml", "tests"),
        ("macro/more.sql", "macros"),
        ("seed/more.csv", "seeds"),
    ],
)
def test_a_folder_that_nobody_reads_is_told(team: Team, path: str, meant: str) -> None:
    team.mesh.sales(path, "")
    found = _problem(team)
    folder = path.partition("/")[0]
    assert found.message == f"the folder '{folder}' is not read, so '{path}' does nothing"
    assert str(found.place) == f"products/shop/sales/{folder}"
    assert found.hint == f"did you mean '{meant}'?"


@pytest.mark.parametrize(
    "path",
    ["docs/checks.yaml", "test/test_model.py", "transforms/notes.md", "_transform/old.sql", "seeding.csv"],
)
def test_other_folders_are_the_teams_own(team: Team, path: str) -> None:
    team.mesh.sales(path, "")
    assert check_mesh(team.workspace).problems == ()


def test_models_in_a_folder_of_their_own_are_told(team: Team) -> None:
    team.mesh.sales("transform/staging/more.sql", "SELECT 1")
    found = _problem(team)
    assert (
        found.message
        == "the folder 'transform/staging' is not read, so 'transform/staging/more.sql' does nothing"
    )
    assert str(found.place) == "products/shop/sales/transform/staging"


def test_a_folder_that_a_source_reads_is_no_misspelt_one(team: Team) -> None:
    product = team.mesh.folder / "products/shop/sales/product.yaml"
    (product.parent / "data").rename(product.parent / "seed")
    product.write_text(product.read_text().replace("data/sales.csv", "seed/sales.csv"))
    assert check_mesh(team.workspace) == Verdict(("sales", "features"), ())


@pytest.mark.parametrize(
    ("pattern", "said", "hint"),
    [
        ("data/sale.csv", "there is no file 'data/sale.csv' yet", "did you mean 'data/sales.csv'?"),
        ("data/sales-*.csv", "no file fits 'data/sales-*.csv' yet", "put the file there"),
        ("data", "a folder, not a file, is at 'data' yet", "put the file there"),
    ],
)
def test_a_source_without_a_file_is_a_warning_at_its_path(
    team: Team, pattern: str, said: str, hint: str
) -> None:
    product = team.mesh.folder / "products/shop/sales/product.yaml"
    product.write_text(
        product.read_text().replace("path: data/sales.csv", f"path: {pattern}\n        format: csv")
    )
    verdict = check_mesh(team.workspace)
    assert verdict.problems == ()
    (warning,) = verdict.warnings
    assert said in warning.message
    assert "input port 'till'" in warning.message
    assert hint in str(warning.hint)
    assert warning.place is not None
    assert warning.source_line is not None
    assert warning.source_line[warning.place.column - 1 :].startswith(pattern)


@pytest.mark.parametrize(
    ("old", "new", "said", "hint"),
    [
        (
            "data_set: sales}}",
            "data_set: sales, deprecated: true, sunset: '2099-06-30', replaced_by: receipts}}",
            "takes from output port 'sales files' of product 'sales', which ends on 2099-06-30",
            "'receipts' takes its place",
        ),
        (
            "data_set: sales}}",
            "data_set: sales, deprecated: true}}",
            "takes from output port 'sales files' of product 'sales', which is deprecated",
            "its owner knows what to take instead",
        ),
        (
            "definition: what was sold,",
            "definition: what was sold, sunset: '2099-06-30',",
            "takes from product 'sales', which ends on 2099-06-30",
            "its owner knows what to take instead",
        ),
    ],
)
def test_who_takes_from_what_ends_is_told(team: Team, old: str, new: str, said: str, hint: str) -> None:
    product = team.mesh.folder / "products/shop/sales/product.yaml"
    assert old in product.read_text()
    product.write_text(product.read_text().replace(old, new))
    verdict = check_mesh(team.workspace)
    assert verdict.problems == ()
    (warning,) = verdict.warnings
    assert said in warning.message
    assert warning.hint == hint
    assert warning.place is not None
    assert warning.place.file == "products/people/features/product.yaml"


def test_only_the_named_products_are_looked_at(team: Team) -> None:
    team.mesh.sales("check/more.yaml", "")
    team.mesh.features("check/more.yaml", "")
    assert len(check_named(team.workspace, ()).problems) == 2
    verdict = check_named(team.workspace, ["features"])
    assert verdict.products == ("features",)
    assert [str(p.place) for p in verdict.problems] == ["products/people/features/check"]
    with pytest.raises(NotFound, match="no product 'feature'") as caught:
        check_named(team.workspace, ["feature"])
    assert caught.value.hint == "did you mean 'features'?"
