"""The collector of cycles in a process of ours."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from tulle.config import collector


def test_nothing_is_collected_while_modules_are_imported() -> None:
    before = gc.get_freeze_count()
    with collector.importing():
        assert not gc.isenabled()
        held: list[object] = [[]]
    assert gc.isenabled()
    assert gc.get_freeze_count() > before
    assert held not in gc.get_objects()
    gc.unfreeze()


def test_a_module_that_cannot_be_imported_leaves_it_as_it_was() -> None:
    before = gc.get_freeze_count()
    with pytest.raises(ImportError), collector.importing():
        raise ImportError("broken")
    assert gc.isenabled()
    assert gc.get_freeze_count() == before


PROCESS = """
import atexit, gc
from tulle.config import collector

atexit.register(lambda: print("left", gc.get_freeze_count() > 1000))
collector.leave_at_end()
atexit.register(lambda: print("done first", gc.get_freeze_count()))
"""


def test_at_the_end_all_that_is_to_be_done_is_done_first() -> None:
    done = subprocess.run([sys.executable, "-c", PROCESS], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["done first 0", "left True"]
