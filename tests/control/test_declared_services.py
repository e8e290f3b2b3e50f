"""What a product's services declare: equal declarations are told alike, in whatever process."""

from __future__ import annotations

import os
import subprocess
import sys

from tulle.control.declared_services import service_changes

NAMES = [f"set_{number}" for number in range(8)]


def declared(*names: str) -> dict[str, object]:
    sources = [{"product": "sales", "data_set": name, "key": ["id"], "columns": None} for name in names]
    return {"prices": {"look": {"type": "lookup", "model": "", "sources": sources}}}


def sentences() -> list[str]:
    """What is told of sources that went and came."""
    changes = service_changes(declared(*NAMES[:4]), declared(*NAMES[4:]))
    return [change.sentence for change in changes]


def test_sources_that_go_and_come_are_told_in_one_order() -> None:
    found = sentences()
    assert [sentence.split("'")[-2] for sentence in found] == NAMES
    assert found[0] == "service prices: endpoint look: it no longer answers from data set 'set_0'"
    other = subprocess.run(
        [sys.executable, "-c", "from tests.control.test_declared_services import *; print(sentences())"],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stdout.strip() == str(found)  # the digest of a plan depends on it
