"""The words by which APIs are called: those of the policies in force, and worked out anew when one of them is another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from tests.control.bazaar import Bazaar

from tulle.catalog import called_by
from tulle.catalog.called_by import CalledBy
from tulle.config import PolicySet, Settings
from tulle.gateway.apis import own_policies, records
from tulle.gateway.apis.instance import Instance
from tulle.gateway.in_force import InForce
from tulle.gateway.policies.automated import Target
from tulle.state import products


@pytest.fixture(scope="module")
def bazaar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bazaar]:
    made = Bazaar(tmp_path_factory.mktemp("bazaar") / "mesh")
    yield made
    made.close()


def words(bazaar: Bazaar, asked: CalledBy, settings: Settings | None = None) -> dict[str, tuple[str, ...]]:
    database = bazaar.workspace.database
    documents = {item.product.name: item.product for item in products.applied(database)}
    return dict(asked.words(settings or bazaar.workspace.settings, records.followed(database), documents))


def test_policies_say_by_which_ways(bazaar: Bazaar) -> None:
    assert words(bazaar, CalledBy(bazaar.workspace.database)) == {
        "orders": ("contract", "open to all", "password of the mesh"),
        "payroll": ("contract",),
    }


def test_sets_of_the_mesh_say_so_for_those_they_are_for(bazaar: Bazaar) -> None:
    settings = bazaar.workspace.settings
    shut = PolicySet(policies=({"policy": "basic-auth"},), services=("payroll",))
    elsewhere = PolicySet(policies=({"policy": "basic-auth"},), services=("payroll",), environments=("test",))
    asked = CalledBy(bazaar.workspace.database)
    for said, way in ((shut, "password of the mesh"), (elsewhere, "contract")):
        found = words(bazaar, asked, replace(settings, policies={"shut": said}))
        assert found["payroll"] == (way,)


def test_it_is_worked_out_anew_when_something_is_another(
    bazaar: Bazaar, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, asked = bazaar.workspace.database, CalledBy(bazaar.workspace.database)
    joined: list[str] = []
    worked = called_by.joined_with

    def noting(settings: Settings, one: Instance, target: Callable[[], Target]) -> InForce:
        joined.append(one.api.name)
        return worked(settings, one, target)

    monkeypatch.setattr(called_by, "joined_with", noting)
    documents = {item.product.name: item.product for item in products.applied(database)}
    settings = bazaar.workspace.settings

    def ask() -> tuple[str, ...]:
        joined.clear()
        return asked.words(settings, records.followed(database), documents)["payroll"]

    assert (ask(), sorted(joined)) == (("contract",), ["orders", "orders", "orders", "payroll"])
    assert (ask(), joined) == (("contract",), [])
    own_policies.set_policies(database, "payroll", "v1", "", [{"policy": "basic-auth"}])
    assert ask() == ("password of the mesh",)
    own_policies.set_policies(database, "payroll", "v1", "", [{"policy": "gone-kind"}])
    assert ask() == ("contract",)  # as its access says, where its policies cannot be carried out
    own_policies.set_policies(database, "payroll", "v1", "", None)
    assert ask() == ("contract",)
