"""`message-log` on the real Envoy."""

from __future__ import annotations

from typing import Any

import pytest
from tests.gateway.conftest import API, Mesh, Reply, as_client, wait_until
from tests.gateway.policies.conftest import Put

from tulle.errors import Invalid
from tulle.gateway.policies.listed import parse_policies

A = as_client("app-a")


def line_of(mesh: Mesh, reply: Reply) -> dict[str, Any]:
    def found() -> list[dict[str, Any]]:
        return [one for one in mesh.log_lines() if one["request_id"] == reply.headers["x-request-id"]]

    wait_until(lambda: bool(found()), "the line")
    return found()[0]


@pytest.mark.system
def test_what_is_named_is_in_the_line_of_the_request(put: Put) -> None:
    mesh = put(
        "- {policy: message-log, request: [X-Team, x-absent], response: [content-type], query: [page, q]}"
    )
    sent = {"x-team": "risk\xe9", "x-other": "no", **A}
    reply = mesh.ask(f"{API}first/x?page=2&token=secret&q=a%20b%0a{'c' * 300}", sent)
    assert reply.status == 200
    line = line_of(mesh, reply)
    assert line["message"]["request"] == {"x-team": "risk?"}
    assert line["message"]["response"] == {"content-type": "application/json"}
    assert line["message"]["query"]["page"] == "2"
    assert line["message"]["query"]["q"].startswith("a b?ccc")
    assert len(line["message"]["query"]["q"]) == 203
    assert "secret" not in str(line)
    assert (line["service"], line["client"], line["code"]) == ("first", "app-a", 200)


@pytest.mark.system
def test_a_request_that_is_refused_is_told_too_and_others_have_no_more(put: Put) -> None:
    mesh = put("- {policy: message-log, request: [x-team], operations: [{method: GET}]}")
    refused = mesh.ask(f"{API}first/x", {"x-team": "risk"})
    assert refused.status == 401
    assert line_of(mesh, refused)["message"]["request"] == {"x-team": "risk"}
    posted = mesh.ask(f"{API}first/x", {"x-team": "risk", **A}, method="POST", body=b"{}")
    assert line_of(mesh, posted)["message"] is None


@pytest.mark.parametrize(
    "name",
    [
        "authorization",
        "Cookie",
        "set-cookie",
        "client_secret",
        "x-api-key",
        "x-auth-token",
        "password",
        "code",
        "a b",
    ],
)
def test_what_may_hold_a_secret_cannot_be_named(name: str) -> None:
    for side in ("request", "response", "query"):
        with pytest.raises(Invalid) as told:
            parse_policies(f"- {{policy: message-log, {side}: [ok, '{name}']}}")
        assert f"'{name}'" in str(told.value.problems[0])


@pytest.mark.parametrize(
    "opening",
    [
        "{policy: api-key, header: x-ident, operations: [{path: /a}]}",
        "{policy: api-key, query: ident}",
        "{policy: client-id, query: true}",
    ],
)
def test_where_callers_show_who_they_are_is_not_written_down(opening: str) -> None:
    told = "client_id" if "client-id" in opening else "x-ident" if "header" in opening else "ident"
    side = "request" if "header" in opening else "query"
    with pytest.raises(Invalid) as raised:
        parse_policies(f"- {opening}\n- {{policy: message-log, {side}: [x-team, {told}]}}")
    assert f"'{told}' holds credentials" in str(raised.value.problems[0])


@pytest.mark.system
def test_a_line_is_never_longer_than_it_may_be_and_always_one(put: Put) -> None:
    mesh = put("- {policy: message-log, request: [x-team]}")
    odd = f'{API}first/x%0a%22%7d{{"a":1}}' + "y" * 20_000
    reply = mesh.ask(odd, {"x-team": '"}\t' + "z" * 5000, "user-agent": "\xff" * 100, **A})
    assert reply.status == 200
    line = line_of(mesh, reply)
    assert len(line["path"]) == 1000
    assert line["path"].startswith(f"{API}first/x%0a%22%7d")
    assert len(line["message"]["request"]["x-team"]) == 203
    assert len(str(line)) < 3000
