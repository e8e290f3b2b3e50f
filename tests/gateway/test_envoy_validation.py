"""What Envoy says of configurations that it only looks at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tulle.errors import Broken, Unavailable
from tulle.gateway import envoy_validation
from tulle.gateway.envoy_validation import TooSlow, validate


def look(folder: Path, config: Any) -> None:
    (folder / "config.json").write_text(json.dumps(config))
    validate(folder, "config.json")


def test_what_is_wrong_is_told_in_its_own_words(tmp_path: Path) -> None:
    look(tmp_path, {})
    with pytest.raises(Broken, match=r"Envoy refuses .*no_such_field"):
        look(tmp_path, {"no_such_field": 1})


def test_where_it_cannot_be_run_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envoy_validation, "binary", lambda: tmp_path / "nowhere")
    with pytest.raises(Unavailable, match="could not be run"):
        look(tmp_path, {})


def test_what_is_not_read_in_time_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envoy_validation, "VALIDATE_SECONDS", 0.001)
    with pytest.raises(TooSlow, match="did not validate"):
        look(tmp_path, {})
