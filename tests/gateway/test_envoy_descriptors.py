"""The descriptors that are kept are those of the Envoy that is installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tulle.errors import Broken
from tulle.gateway.envoy_binary import binary
from tulle.gateway.envoy_descriptors import carried_by, kept


def test_what_is_kept_is_what_this_envoy_carries() -> None:
    assert carried_by(binary()) == kept(), "run: python -m tulle.gateway.envoy_descriptors"


def test_a_program_without_any_is_said_to_have_none() -> None:
    with pytest.raises(Broken, match="carries the descriptors of 0 files"):
        carried_by(Path(sys.executable).resolve())


def test_half_a_program_lacks_some(tmp_path: Path) -> None:
    one = kept().file[0].SerializeToString()
    needing = next(one for one in kept().file if one.dependency).SerializeToString()
    (tmp_path / "half").write_bytes(b"\0" * 100 + one + b"\0\0" + needing + b"\0")
    with pytest.raises(Broken, match=r"without [1-9]"):
        carried_by(tmp_path / "half")
