"""An addition of our own: the audit trail, and whether its chain holds."""

from __future__ import annotations

from tulle.lake.door import Outgoing
from tulle.lake.rest.call import Call, json_answer, page_of
from tulle.lake.rest.imports import time_form
from tulle.lake.rest.router import Route
from tulle.state import log

ACTION, RESOURCE = "auth:ReadAuditTrail", "arn:lakefs:auth:::audit"


def trail(call: Call) -> Outgoing:
    """What was changed or denied, newest first; `after` is the id of the last one of the page before."""
    call.demand(ACTION, RESOURCE)
    before = call.number("after", 0, 0, 2**62)
    subject, amount = call.query("subject") or None, call.amount()
    found = log.read(
        call.lake.database, before=before or None, subject=subject, limit=amount + 1, newest_first=True
    )
    results = [
        {
            "id": entry.id,
            "at": time_form(entry.at),
            "kind": entry.kind,
            "subject": entry.subject,
            "actor": entry.actor,
            "data": dict(entry.data),
        }
        for entry in found[:amount]
    ]
    offset = str(results[-1]["id"]) if results else ""
    return json_answer(page_of(results, has_more=len(found) > amount, next_offset=offset))


def verify(call: Call) -> Outgoing:
    """Whether nobody changed or removed an entry of the trail: the id of the first that does not fit, or none."""
    call.demand(ACTION, RESOURCE)
    broken = log.verify(call.lake.database)
    return json_answer({"holds": broken is None, **({} if broken is None else {"first_broken": broken})})


ROUTES = [
    Route("GET", "/audit", trail, "tulle.readAuditTrail"),
    Route("GET", "/audit/verify", verify, "tulle.verifyAuditTrail"),
]
