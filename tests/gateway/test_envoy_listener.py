"""The script that makes one form of the credentials, and when it is passed over; run by the real LuaJIT in Envoy
through test_envoy, here by what its conditions say."""

from __future__ import annotations

import base64
import re
import secrets
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tulle.gateway.envoy_listener import listener
from tulle.gateway.envoy_values import Door
from tulle.gateway.secret import SECRET_BYTES

PAGE = (Path(__file__).parents[2] / "docs/reference/gateway.md").read_text()


def filters() -> dict[str, Any]:
    ((chain,),) = [c["filters"] for c in listener(Door(), None)["filter_chains"]]
    return {f["name"]: f for f in chain["typed_config"]["http_filters"]}


def skips_the_script(headers: dict[str, str]) -> bool:
    """What the matcher in front of the script says, evaluated here."""
    (field,) = filters()["normalise"]["typed_config"]["xds_matcher"]["matcher_list"]["matchers"]

    def holds(predicate: dict[str, Any]) -> bool:
        ((kind, inner),) = predicate.items()
        if kind == "not_matcher":
            return not holds(inner)
        if kind in {"and_matcher", "or_matcher"}:
            return (all if kind == "and_matcher" else any)(holds(p) for p in inner["predicate"])
        value = headers.get(inner["input"]["typed_config"]["header_name"])
        ((how, what),) = inner["value_match"].items()
        if value is None:
            return False
        assert how == "safe_regex"
        return re.fullmatch(what["regex"], value) is not None

    return holds(field["predicate"])


def basic(text: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(text.encode()).decode()}


@given(st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True), st.randoms(use_true_random=False))
def test_plain_basic_passes_by_the_script_and_nothing_else_does(client_id: str, random: Any) -> None:
    secret = random.randbytes(SECRET_BYTES).hex()
    assert skips_the_script(basic(f"{client_id}:{secret}"))
    assert not skips_the_script(basic(f"{client_id}.{secret}:"))  # the key as user name, whatever its length
    assert not skips_the_script({"authorization": f"Bearer {client_id}.{secret}"})
    assert not skips_the_script({"client_id": client_id, "client_secret": secret})
    assert not skips_the_script(basic(f"{client_id}:{secret}") | {"client_id": client_id})
    assert not skips_the_script({})


@given(st.text("ABOfgo46+=", max_size=8), st.sampled_from(["Basic ", "basic ", "Basic", "Bearer ", ""]))
def test_whatever_ends_as_an_empty_password_or_a_tilde_is_read_by_the_script(text: str, scheme: str) -> None:
    ends = text.endswith(("6", "o=", "Og==", "+", "4=", "fg=="))
    skipped = skips_the_script({"authorization": scheme + text})
    assert not (skipped and (ends or scheme != "Basic "))
    if scheme == "Basic " and not ends and text.rstrip("=") and len(text) - len(text.rstrip("=")) <= 2:
        assert skipped or text.endswith("g==")  # of which only whole base64 is certain


def test_the_order_of_the_filters_is_the_order_of_the_decisions() -> None:
    assert list(filters()) == [
        *("readable", "reader_cookie", "reader_set", "message_log", "header_limit", "policies_before"),
        "credentials_elsewhere",
        *("normalise", "guard", "auth", "one_name", "jwt", "unfit_tokens", "checks"),
        *("identity", "client", "contract"),
        "policies_known",
        *("retry_after", "limits", "spikes", "policies_after", "body"),
        *("dispatch_body", "dispatch", "router"),
    ]


def test_nobody_passes_where_no_route_says_who() -> None:
    rules = filters()["contract"]["typed_config"]["matcher"]
    assert rules == {"on_no_match": rules["on_no_match"]}
    assert rules["on_no_match"]["action"]["typed_config"]["action"] == "DENY"


def test_secrets_are_made_of_what_the_condition_relies_on() -> None:
    assert set(secrets.token_hex(SECRET_BYTES)) <= set("0123456789abcdef")


def test_the_reference_tells_every_field_of_the_access_log_and_no_other_one() -> None:
    ((chain,),) = [c["filters"] for c in listener(Door(), None)["filter_chains"]]
    (log,) = chain["typed_config"]["access_log"]
    section = PAGE.split("\n## Access log\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`[a-z_]+`(?:, `[a-z_]+`)*) \|", section, re.MULTILINE)
    told = [name for row in rows for name in re.findall(r"`([a-z_]+)`", row)]
    assert sorted(told) == sorted(log["typed_config"]["log_format"]["json_format"])
    assert f".tulle/{log['typed_config']['path']}" in section
