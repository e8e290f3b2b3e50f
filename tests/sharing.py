"""Which tests stay together when several processes share them: `pytest --numprocesses auto` (as `make test` does).

The tests of a file go to one process, in their order, as what a module sets up is for all of them; and those of some
folders, whose fixtures start servers or build a mesh. What takes longest begins first, so that nobody waits for it in
the end.
"""

from __future__ import annotations

import os

import psutil
import pytest
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

# These folders' tests share what takes seconds to make.
TOGETHER = ("tests/system/clients", "tests/gateway", "tests/examples")
# What takes longest, the longest first.
FIRST = (
    "tests/system/test_story.py",
    "tests/system/clients",
    "tests/control/test_promotion.py",
    "tests/spec/test_workflow.py",
    "tests/journey/",
    "tests/examples",
    "tests/model/",
    "tests/gateway",
    "tests/system/",
    "tests/pipeline/",
)
MEMORY = 2 << 30  # of a process of tests with all that its tests start


def processes() -> int:
    """How many processes are worth it: three for two cores, as tests wait for servers, as far as the memory goes."""
    return max(1, min(len(os.sched_getaffinity(0)) * 3 // 2, psutil.virtual_memory().available // MEMORY))


def unit(nodeid: str) -> str:
    """The unit of work a test belongs to: its folder or its file."""
    file = nodeid.partition("::")[0]
    return next((folder for folder in TOGETHER if file.startswith(f"{folder}/")), file)


def longest_first(items: list[pytest.Item]) -> None:
    """Put the tests in the order in which their units are handed out."""
    last = len(FIRST)
    items.sort(key=lambda item: next((i for i in range(last) if item.nodeid.startswith(FIRST[i])), last))


class Units(LoadScopeScheduling):
    """Hands out units of work in the order of the tests."""

    def schedule(self) -> None:
        self.config.option.loadscopereorder = False  # which would put the units of the most tests first
        super().schedule()

    def remove_node(self, node: WorkerController) -> str | None:
        """A process died: its test is named and not tried again, the rest of its units are."""
        for tests in self.assigned_work[node].values():
            for nodeid, ended in tests.items():
                if not ended:
                    tests[nodeid] = True
                    super().remove_node(node)
                    return nodeid
        return super().remove_node(node)

    def _split_scope(self, nodeid: str) -> str:
        return unit(nodeid)
