"""Policies that a deployment says: kept as written, told, forgotten with the service."""

from __future__ import annotations

from pathlib import Path

from tulle.gateway import service_policies
from tulle.gateway.service_policies import said_at_deployment, set_policies
from tulle.state import log
from tulle.state.db import Database, open_database

LIST = [{"policy": "cors", "origins": ["*"]}, {"policy": "rate-limit", "limits": "5/1s"}]


def test_what_is_said_is_kept_told_and_taken_back(tmp_path: Path) -> None:
    database: Database = open_database(f"sqlite:///{tmp_path}/state.db")
    assert said_at_deployment(database) == {}
    set_policies(database, "sold", LIST, actor="ann")
    set_policies(database, "sold", LIST)  # nothing new
    set_policies(database, "sold", [], environment="dev")
    assert said_at_deployment(database) == {("sold", ""): tuple(LIST), ("sold", "dev"): ()}
    set_policies(database, "sold", None)
    assert said_at_deployment(database) == {("sold", "dev"): ()}
    told = [(event.actor, event.kind, event.data) for event in log.read(database)]
    kind = "service.policies_changed"
    assert told == [
        ("ann", kind, {"environment": "", "before": None, "after": ["cors", "rate-limit"]}),
        ("", kind, {"environment": "dev", "before": None, "after": []}),
        ("", kind, {"environment": "", "before": ["cors", "rate-limit"], "after": None}),
    ]
    set_policies(database, "others", LIST)
    service_policies.end_others(database, ["others"])
    assert set(said_at_deployment(database)) == {("others", "")}
    database.close()


def test_what_is_taken_back_is_as_it_was_said(tmp_path: Path) -> None:
    database: Database = open_database(f"sqlite:///{tmp_path}/state.db")
    assert set_policies(database, "sold", LIST) is None
    before = set_policies(database, "sold", [])
    service_policies.take_back(database, "sold", LIST, None)  # that is not said any more
    assert said_at_deployment(database) == {("sold", ""): ()}
    service_policies.take_back(database, "sold", [], before)
    assert said_at_deployment(database) == {("sold", ""): tuple(LIST)}
    events = len(log.read(database))
    service_policies.take_back(database, "sold", LIST, tuple(LIST))  # it was said before as well
    assert len(log.read(database)) == events
    service_policies.take_back(database, "sold", LIST, None)
    assert said_at_deployment(database) == {}
    database.close()
