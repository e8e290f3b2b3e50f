"""The `webhook` hook: the event is posted to a URL, and any answer but 2xx is a refusal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from tulle.errors import Denied, Invalid
from tulle.lake.hooks.kind import HookCall, HookKind, Outcome
from tulle.lake.hooks.outbound import Outbound
from tulle.lake.hooks.properties import WEBHOOK

TIMEOUT_SECONDS = 60.0


def webhook(outbound: Outbound) -> HookKind:
    """The type, sending where `outbound` allows."""

    def run(call: HookCall) -> Outcome:
        properties = call.properties
        url = str(properties["url"])
        if query := urlencode(list(_pairs(properties.get("query_params") or {}))):
            url += ("&" if "?" in url else "?") + query
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "Tulle",
            "Idempotency-Key": f"{call.run_id}/{call.hook_run_id}",
        }
        given = {name: _text(value) for name, value in (properties.get("headers") or {}).items()}
        taken = {name.lower() for name in given}
        headers = {name: value for name, value in headers.items() if name.lower() not in taken} | given
        try:
            answer = outbound.send(
                "POST",
                url,
                headers=headers,
                body=json.dumps(call.payload()).encode(),
                deadline=call.limit(TIMEOUT_SECONDS),
            )
        except (Denied, Invalid) as exc:
            return Outcome(False, f"POST {url}\n{exc.message}", final=True)
        body = answer.text + ("\n… (the answer goes on)" if answer.cut else "")
        return Outcome(200 <= answer.status < 300, f"POST {url}\nstatus {answer.status}\n\n{body}")

    return HookKind(run, WEBHOOK)


def _pairs(query: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in query.items():
        for item in value if isinstance(value, list) else [value]:
            yield name, _text(item)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
