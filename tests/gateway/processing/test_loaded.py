"""The plan in force: taken when its file is replaced, refused when it is damaged, left over a while."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tulle.errors import Invalid
from tulle.gateway.envoy_files import versioned
from tulle.gateway.processing import plan
from tulle.gateway.processing.kinds import Stores
from tulle.gateway.processing.loaded import LEAVING_SECONDS, Loaded
from tulle.gateway.processing.plan import ChainPlan, StepPlan, resources, step_plan

LIMITS = StepPlan("json-limits", "json-limits", {"max_depth": 3})
KEEPING = StepPlan("caching", "caching", {"ttl": 5})


def put(file: Path, *chains: ChainPlan) -> None:
    fresh = file.with_suffix(".fresh")
    fresh.write_bytes(msgspec.json.encode(versioned(resources(chains))))
    fresh.rename(file)


@pytest.fixture
def at() -> list[float]:
    return [0.0]


@pytest.fixture
def loaded(tmp_path: Path, at: list[float]) -> Loaded:
    return Loaded(tmp_path / "processing.json", Stores.passing(), clock=lambda: at[0])


def test_nothing_is_known_without_a_file(loaded: Loaded) -> None:
    loaded.look()
    assert (loaded.chain(b"a"), loaded.version, loaded.problem) == (None, "", "")


def test_steps_stay_as_they_are_while_others_change(loaded: Loaded, tmp_path: Path) -> None:
    one, other = ChainPlan("a", (KEEPING,)), ChainPlan("b", (LIMITS,))
    put(tmp_path / "processing.json", one)
    loaded.look()
    before = loaded.chain(one.key.encode())
    assert before is not None
    put(
        tmp_path / "processing.json",
        msgspec.structs.replace(one, tiers={"c": "gold"}, windows={"c": ("1/1d",)}),
        other,
    )
    loaded.look()
    after = loaded.chain(one.key.encode())
    assert after is not None
    assert after.steps[0] is before.steps[0]  # with all that it has kept
    assert (after.tiers, after.windows) == ({"c": "gold"}, {"c": ("1/1d",)})
    assert loaded.chain(other.key.encode()) is not None


def test_what_has_left_is_known_for_a_while(loaded: Loaded, tmp_path: Path, at: list[float]) -> None:
    old, new = ChainPlan("a", (LIMITS,)), ChainPlan("a", (KEEPING,))
    assert old.key != new.key
    for chain in (old, new):
        put(tmp_path / "processing.json", chain)
        loaded.look()
    assert loaded.chain(old.key.encode()) is not None
    at[0] = LEAVING_SECONDS - 1
    loaded.look()
    assert loaded.chain(old.key.encode()) is not None
    at[0] = LEAVING_SECONDS
    loaded.look()
    assert loaded.chain(old.key.encode()) is None
    assert loaded.chain(new.key.encode()) is not None


def test_what_cannot_be_carried_out_is_refused_and_the_last_good_one_stays(
    loaded: Loaded, tmp_path: Path
) -> None:
    good = ChainPlan("a", (LIMITS,))
    put(tmp_path / "processing.json", good)
    loaded.look()
    version = loaded.version
    put(tmp_path / "processing.json", ChainPlan("b", (StepPlan("x", "nothing", {}),)))
    loaded.look()
    assert (loaded.version, loaded.refused) == (version, 1)
    assert "b: the processor knows no step 'nothing'" in loaded.problem
    assert loaded.chain(good.key.encode()) is not None
    put(tmp_path / "processing.json", good)
    loaded.look()
    assert loaded.problem == ""


def test_a_key_is_of_the_steps_and_of_nothing_else() -> None:
    chain = ChainPlan("a", (LIMITS, KEEPING))
    assert chain.key == ChainPlan("a", (LIMITS, KEEPING), tiers={"x": "y"}).key
    assert len({chain.key, ChainPlan("a", (KEEPING, LIMITS)).key, ChainPlan("b", chain.steps).key}) == 3


def test_a_plan_whose_key_is_not_that_of_its_steps_is_damaged() -> None:
    (one,) = resources([ChainPlan("a", (LIMITS,))])
    wrong = msgspec.json.encode(versioned([{**one, "key": "a@0000000000000000"}]))
    with pytest.raises(Invalid, match="is not the key of its steps"):
        plan.read(wrong)
    with pytest.raises(Invalid, match="no step of the processor"):
        step_plan("x", {"kind": "x", "settings": 7})
