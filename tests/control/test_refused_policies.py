"""Policies that the gateway does not take are not left standing; what was wrong before is not theirs."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import pytest

from tulle.config import Settings
from tulle.control.refused_policies import watching
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

    with (
        pytest.raises(Invalid, match="does not take these policies: there is no connection 'x'") as told,
        watching(settings, "books@v1", "") as watch,
    ):
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

    def settle() -> bool:
        write_faults(settings, after)
        return is_published

    with watching(settings, "books@v1", "") as watch:
        assert watch.settled(settle, lambda: pytest.fail("it was taken back")) is is_published


def test_of_two_at_once_each_is_told_of_its_own(tmp_path: Path) -> None:
    """The second sets the same bad list while the first is being taken back."""
    settings, recorded, told = Settings(folder=tmp_path), list[str](), list[str]()
    ready, go = threading.Event(), threading.Event()

    def settle() -> bool:
        write_faults(settings, [BAD] if recorded else [])
        ready.set()
        go.wait(0.2)
        return True

    def say() -> None:
        with contextlib.suppress(Invalid), watching(settings, "books@v1", "") as watch:
            recorded.append("bad")
            watch.settled(settle, recorded.pop)
            told.append("taken")

    callers = [threading.Thread(target=say) for _ in range(2)]
    callers[0].start()
    assert ready.wait(10)
    callers[1].start()
    for caller in callers:
        caller.join(10)
    assert (recorded, told) == ([], [])
