"""Commands that take a product's name: a misspelt one is never taken for one that has nothing to show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.control.conftest import fill
from tests.pipeline.conftest import Mesh

from tulle.cli.main import cli
from tulle.errors import NotFound

Tulle = Callable[..., Result]


@pytest.fixture(scope="module")
def tulle(tmp_path_factory: pytest.TempPathFactory) -> Tulle:
    """A mesh whose two products are applied, and commands on it."""
    folder = fill(Mesh(tmp_path_factory.mktemp("names"))).folder

    def command(*words: str) -> Result:
        return CliRunner().invoke(cli, ["--mesh", str(folder), *words])

    assert command("apply").exit_code == 0
    return command


@pytest.mark.parametrize(
    "words",
    [
        "validate sails",
        "plan sails",
        "plan sales sails",
        "plans --product sails",
        "drift sails",
        "run sails",
        "run sails --dry-run",
        "runs sails",
        "runs --product sails",
        "test sails",
        "check sails",
        "checks --product sails",
        "release sails",
        "releases sails",
        "releases sails --verify 1.0.0",
        "promote sails 1.0.0 --to prod",
        "promotions sails",
        "preview list sails",
        "preview create sails x",
        "manifest sails",
        "deprecate sails --sunset 2030-01-01 --reason x",
        "retire sails",
        "schedule show sails",
        "schedule pause sails",
        "schedule resume sails",
        "backfill sails --from 2020-01-01 --to 2020-02-01",
        "grants sails",
        "destroy sails --yes",
    ],
)
def test_a_misspelt_product_is_named_and_the_nearest_told(tulle: Tulle, words: str) -> None:
    failed = tulle(*words.split())
    assert isinstance(failed.exception, NotFound), failed.output
    assert "product 'sails'" in failed.exception.message
    assert "did you mean 'sales'?" in str(failed.exception.hint)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("plan sales", "nothing to do for sales"),
        ("drift sales", "as it was applied (1 products)"),
        ("runs sales", "no runs yet"),
        ("releases sales", "no releases"),
        ("promotions sales", "nothing was promoted yet"),
        ("preview list sales", "no previews"),
    ],
)
def test_a_product_that_has_nothing_is_no_failure(tulle: Tulle, words: str, said: str) -> None:
    done = tulle(*words.split())
    assert done.exit_code == 0, done.output
    assert said in done.output


def test_a_schedule_that_is_not_there_is_not_told_as_a_misspelt_name(tulle: Tulle) -> None:
    failed = tulle("schedule", "show", "sales").exception
    assert isinstance(failed, NotFound)
    assert "product 'sales' has no schedule" in failed.message
    assert "did you mean" not in str(failed.hint)


def test_a_name_in_the_place_of_a_plan_file(tulle: Tulle) -> None:
    failed = tulle("apply", "sales").exception
    assert isinstance(failed, NotFound)
    assert failed.message == "there is no plan file 'sales'"
    assert "`tulle plan PRODUCT`" in str(failed.hint)


def test_a_plan_of_one_product_tells_of_the_others(tmp_path: Path) -> None:
    folder = fill(Mesh(tmp_path)).folder

    def plan(*words: str) -> Result:
        return CliRunner().invoke(cli, ["--mesh", str(folder), "plan", *words])

    one = plan("features")
    assert "register product 'features'" in one.output
    assert "register product 'sales'" not in one.output
    assert "and 3 step(s) of others, which `tulle plan` shows" in one.output
    assert plan("features", "--detailed-exitcode").exit_code == 2
    refused = plan("features", "--out", str(tmp_path / "plan.json"))
    assert refused.exit_code == 2
    assert "a plan is carried out as a whole" in refused.output
    assert not (tmp_path / "plan.json").exists()
