"""The registry of kinds: what may be added, by whom, and what is refused."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import pytest

from tulle.errors import AlreadyExists, Invalid, NotFound
from tulle.gateway.policies import kind as kinds
from tulle.gateway.policies.kind import Kind, Parts, Registry, Spot, built_in_kinds, known_kinds
from tulle.gateway.policies.listed import parse_policies


def a_kind(name: str = "stamp", **more: Any) -> Kind:
    usual: dict[str, Any] = {
        "summary": "Stamps.",
        "properties": {"text": {"type": "string"}},
        "phase": "known",
        "read": lambda settings: settings,
        "render": lambda _value, _spot: Parts(),
    }
    return Kind(name, **(usual | more))


def test_a_package_adds_kinds_by_an_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("stamps", "tests.gateway.policies.test_kind:add_stamp", kinds.GROUP)
    monkeypatch.setattr(kinds, "entry_points", lambda group: [entry] if group == kinds.GROUP else [])
    registry = known_kinds.__wrapped__()
    assert "stamp" in registry
    (found,) = parse_policies("- {policy: stamp, text: hello}", registry=registry)
    assert found.policy.settings == {"text": "hello"}


def add_stamp(registry: Registry) -> None:
    registry.add(a_kind(origin="stamps"))


def test_a_package_that_does_not_load_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("stamps", "tests.gateway.policies.test_kind:nowhere", kinds.GROUP)
    monkeypatch.setattr(kinds, "entry_points", lambda group: [entry])
    with pytest.raises(Invalid, match="package entry 'stamps'"):
        known_kinds.__wrapped__()


def test_what_cannot_be_a_kind_is_refused() -> None:
    registry = built_in_kinds()
    with pytest.raises(AlreadyExists, match="the policy 'cors' of built-in is already registered"):
        registry.add(a_kind("cors"))
    for wrong, said in (
        (a_kind("Stamp"), "no name"),
        (a_kind(render=None), "not carried out in one place"),
        (a_kind(step=lambda _: {}), "not carried out in one place"),
        (a_kind(phase="processor"), "not carried out in one place"),
        (a_kind(properties={"operations": {}}), "which every policy has"),
        (a_kind(properties={"text": {"type": "nonsense"}}), "not usable"),
    ):
        with pytest.raises(Invalid, match=said):
            registry.add(wrong)
    with pytest.raises(NotFound, match="no policy 'crs'") as told:
        registry.get("crs")
    assert "cors" in (told.value.hint or "")


def test_a_step_is_for_the_processor() -> None:
    assert a_kind(render=None, step=lambda _: {}, phase="processor").where == "processor"
    assert a_kind().where == "envoy"


def test_what_goes_wrong_in_a_kind_is_a_refusal_of_that_policy() -> None:
    registry = built_in_kinds()
    registry.add(a_kind(origin="stamps", read=lambda settings: settings["nothing"]))
    spot = Spot("first", 0)
    with pytest.raises(Invalid, match="the policy 'stamp' of stamps takes no such settings: KeyError"):
        registry.parts("stamp", {}, spot)
    with pytest.raises(Invalid, match="nothing here carries out the policy 'stmp'"):
        registry.value("stmp", {})
    with pytest.raises(Invalid, match="is no address"):
        registry.value("ip-deny", {"addresses": ["x"]})
    assert registry.step("ip-deny", {"addresses": ["::1"]}) is None
    assert registry.opening("ip-deny", {"addresses": ["::1"]}) is None
