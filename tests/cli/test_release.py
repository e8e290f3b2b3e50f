"""What the command line says of releases."""

from __future__ import annotations

import pytest

from tulle.cli import release


def test_who_decided_is_not_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    asked = {
        "id": "20260301-101500-a1b2c3",
        "product": "sales",
        "version": "1.0.0",
        "environment": "prod",
        "status": "waiting",
        "requested_by": "ann",
        "credential": "ann",
        "approvers": ["ann", "bob", "eve"],
        "approvals": [{"approver": "bob", "approved": True}],
        "approvals_wanted": 2,
        "breaking": [],
        "message": "",
    }
    release._show(asked)
    assert "sales 1.0.0 in prod: waits for 1 of eve\n" in capsys.readouterr().out
