"""Policies that the gateway does not take are not left standing; what was wrong before is not theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tulle.config import Settings
from tulle.control.refused_policies import Watch
from tulle.errors import Invalid
from tulle.gateway.faults import Fault, write_faults

BAD = Fault("books@v1", "", "there is no connection 'x'", 1.0, is_kept=True, hint="make it")
OTHER = Fault("books@v1", "", "the package cannot be read", 1.0, is_kept=True)


def test_what_is_not_taken_is_taken_back_and_told(tmp_path: Path) -> None:
    settings = Settings(folder=tmp_path)
    done: list[str] = []

    def settle() -> bool:
        done.append("settled")
        write_faults(settings, [] if "taken back" in done else [BAD])
        return True

    watch = Watch.of(settings, "books@v1", "")
    with pytest.raises(Invalid, match="does not take these policies: there is no connection 'x'") as told:
        watch.settled(settle, lambda: done.append("taken back"))
    assert told.value.hint == "make it; nothing was changed"
    assert done == ["settled", "taken back", "settled"]


@pytest.mark.parametrize("is_published", [True, False])
@pytest.mark.parametrize("after", [[], [OTHER], [Fault("books@v1", "dev", "bad", 1.0, is_kept=True)]])
def test_what_was_wrong_before_or_elsewhere_takes_nothing_back(
    tmp_path: Path, after: list[Fault], is_published: bool
) -> None:
    settings = Settings(folder=tmp_path)
    write_faults(settings, [OTHER])
    watch = Watch.of(settings, "books@v1", "")

    def settle() -> bool:
        write_faults(settings, after)
        return is_published

    assert watch.settled(settle, lambda: pytest.fail("it was taken back")) is is_published
