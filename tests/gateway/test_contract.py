"""What applications may call by their owners' word alone: granted, changed, withdrawn, and refused by name."""

from __future__ import annotations

import pytest

from tulle.errors import Invalid, NotFound
from tulle.gateway import applications, contract
from tulle.gateway.policy import RateLimit
from tulle.state import log
from tulle.state.db import Database

FAST, SLOW = RateLimit.parse("50/1s"), RateLimit.parse("5/1m")


def kinds(database: Database) -> list[str]:
    return [entry.kind for entry in log.read(database)]


def test_granting_changing_and_withdrawing(database: Database) -> None:
    made = applications.register(database, "app-a")
    contract.grant(database, "app-a", "predict", FAST)
    contract.grant(database, "app-a", "predict", FAST)  # the same again is no change
    contract.grant(database, made.client_id, "predict", SLOW)
    contract.grant(database, "app-a", "lookup", FAST)
    assert [(c.service, c.limit) for c in applications.get(database, "app-a").contracts] == [
        ("lookup", FAST),
        ("predict", SLOW),
    ]
    contract.withdraw(database, "app-a", "predict")
    assert [c.service for c in applications.get(database, "app-a").contracts] == ["lookup"]
    changes = [(e.data["service"], e.data["before"], e.data["after"]) for e in log.read(database)[1:]]
    assert changes == [
        ("predict", None, "50/1s"),
        ("predict", "50/1s", "5/1m"),
        ("lookup", None, "50/1s"),
        ("predict", "5/1m", None),
    ]
    assert {e.subject for e in log.read(database)} == {"application:app-a"}
    assert log.verify(database) is None


def test_what_is_not_there_cannot_be_changed(database: Database) -> None:
    applications.register(database, "mobile-app", services={"predict": FAST})
    with pytest.raises(NotFound) as missing:
        contract.grant(database, "mobil-app", "predict", FAST)
    assert missing.value.hint == "did you mean 'mobile-app'?"
    with pytest.raises(NotFound, match="no contract for the service 'lookup'"):
        contract.withdraw(database, "mobile-app", "lookup")
    with pytest.raises(Invalid, match="service name"):
        contract.grant(database, "mobile-app", "Not A Service", FAST)
    assert kinds(database) == ["application.registered", "contract.changed"]
