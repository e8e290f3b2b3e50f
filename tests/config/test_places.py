"""Folders and environments outside the mesh: absolute, and not all of the disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from tulle.config import settings_from
from tulle.errors import Invalid


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"data_folders": ["relative"]}, "'data_folders' must be a list of absolute folders"),
        ({"hook_environments": ["/opt/x"]}, "'hook_environments' must map names"),
        ({"hook_environments": {"x": "opt/x"}}, "'hook_environments' has 'x': 'opt/x'"),
        ({"hook_environments": {"x": "/"}}, "'hook_environments' has 'x': '/'"),
        ({"hook_environments": {"x": "/opt/../etc"}}, "expected a name and an absolute folder"),
    ],
)
def test_what_cannot_be_is_refused_by_name(tmp_path: Path, values: dict[str, object], said: str) -> None:
    with pytest.raises(Invalid) as refused:
        settings_from(tmp_path, values, {})
    assert said in refused.value.message
