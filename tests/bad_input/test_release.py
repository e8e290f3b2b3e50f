"""Releases, promotions and ends that cannot be: said with what to do, and nothing has changed."""

from __future__ import annotations

import pytest
from tests.bad_input.conftest import ORDERS, Built, tulle, written

from tulle.pipeline import promotion, release
from tulle.state.tables import deprecations

WORDS: dict[str, tuple[str, str, int]] = {
    "a product nobody has": ("release ordrs", "did you mean 'orders'?", 1),
    "what never ran": ("release orders", "product 'orders' never ran in 'dev'", 1),
    "an environment nobody has": ("release orders --environment nope", "there is no environment 'nope'", 1),
    "notes that are not there": ("release orders --notes-file nowhere", "File 'nowhere' does not exist", 2),
    "notes that are a folder": ("release orders --notes-file /", "is a directory", 2),
    "notes without end": (f"release orders --notes {'x' * 20_001}", "at most 20,000 are kept", 1),
    "releases of nobody": ("releases ordrs", "did you mean 'orders'?", 1),
    "to verify nothing": ("releases --verify 1.0.0", "--verify needs the product", 2),
    "a release nobody made": ("promote orders 1.0.0 --to prod", "product 'orders' has no release '1.0.0'", 1),
    "no version": ("promote orders ../../etc --to prod", "product 'orders' has no release '../../etc'", 1),
    "to nowhere": ("promote orders 1.0.0 --to nope", "known: dev, prod", 1),
    "a promotion nobody asked for": ("approve nope", "`tulle promotions` lists them", 1),
    "a key that is not there": ("approve nope --key nowhere", "File 'nowhere' does not exist", 2),
    "to withdraw nothing": ("withdraw nope", "there is no promotion 'nope'", 1),
    "back to what never was": ("rollback orders --to 1.0.0", "product 'orders' has no release '1.0.0'", 1),
    "an end that is no day": (
        "deprecate orders --sunset soon --reason x",
        "write the day of its end as 2030-12-31",
        1,
    ),
    "a day there is not": ("deprecate orders --sunset 2036-02-30 --reason x", "'2036-02-30' is no date", 1),
    "an end that is past": (
        "deprecate orders --sunset 2020-01-01 --reason x",
        "its consumers are told 30 days before",
        1,
    ),
    "an end without a reason": ("deprecate orders --sunset 2036-01-01", "does not end without a reason", 1),
    "itself for itself": (
        "deprecate orders --sunset 2036-01-01 --reason x --successor orders",
        "cannot be its own successor",
        1,
    ),
    "a successor nobody has": (
        "deprecate orders --sunset 2036-01-01 --reason x --successor ordrs",
        "did you mean 'orders'?",
        1,
    ),
    "an end taken back that was none": ("deprecate orders --undo", "product 'orders' is not deprecated", 1),
    "out without a word": (
        "retire orders",
        "`tulle deprecate orders --sunset DAY --reason …` tells its consumers",
        1,
    ),
    "a preview that is a path": ("preview create orders ../x", "'../x' is no name for a preview", 1),
    "a preview that is an environment": ("preview create orders dev", "'dev' is an environment", 1),
    "a preview of nobody": ("preview create ordrs x", "did you mean 'orders'?", 1),
    "a preview nobody made": ("preview remove orders nope", "product 'orders' has no preview 'nope'", 1),
    "an environment nobody wrote": ("env show nope", "there is no environment 'nope'", 1),
    "a key's file that is taken": ("user create zoe --key-file mesh.yaml", "mesh.yaml exists already", 1),
    "a group nobody made": ("user create zoe --group Nope", "there is no group 'Nope'", 1),
}


@pytest.mark.parametrize("kind", WORDS)
def test_words_that_cannot_be_meant(built: Built, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    words, said, code = WORDS[kind]
    monkeypatch.chdir(built.folder)
    tulle(built.folder, *words.split()).refuses(said, code=code)
    assert release.releases(built.workspace.database, "orders") == ()
    assert promotion.recent(built.workspace.database) == ()
    with built.workspace.database.read() as connection:
        assert connection.execute(deprecations.select()).all() == []
    assert "zoe" not in tulle(built.folder, "user", "list").text


@pytest.mark.parametrize(
    "content", ["", "credentials: 3\n", "credentials: {access_key_id: x}\n", b"\xff\xfe"]
)
def test_a_key_that_is_none(built: Built, content: str | bytes) -> None:
    with built.spoilt("key.yaml") as path:
        written(built.folder, "key.yaml", content)
        tulle(built.folder, "approve", "x", "--key", str(path)).refuses(
            "holds no access key", "`tulle user key NAME`"
        )


def test_a_key_of_nobody(built: Built) -> None:
    with built.spoilt("key.yaml") as path:
        path.write_text("credentials: {access_key_id: AKIAX, secret_access_key: hunter2}\n")
        said = tulle(built.folder, "approve", "x", "--key", str(path))
        said.refuses("error:")
        assert "hunter2" not in said.text


@pytest.mark.parametrize("version", ["one.two", "1.0", "1.0.0-rc1", "v1.0.0", "1.0.0.0"])
def test_a_version_that_is_none(built: Built, version: str) -> None:
    with built.spoilt(f"{ORDERS}/product.yaml") as document:
        document.write_text(document.read_text().replace("version: 0.1.0", f"version: '{version}'"))
        tulle(built.folder, "release", "orders").refuses(
            f"its version is '{version}', which is no version", f"{ORDERS}/product.yaml:25:16"
        )
