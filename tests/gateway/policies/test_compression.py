"""`compression` on the real Envoy."""

from __future__ import annotations

import gzip
import json

import pytest
from tests.gateway.conftest import API, as_client
from tests.gateway.policies.conftest import Put

pytestmark = pytest.mark.system

A = as_client("app-a")


def test_who_accepts_it_has_a_smaller_answer(put: Put) -> None:
    mesh = put("- {policy: compression, min_bytes: 30}")
    sent = A | {"x-long": "a" * 5000}
    plain = mesh.ask(f"{API}first/x", sent)
    small = mesh.ask(f"{API}first/x", sent | {"accept-encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert small.headers["content-encoding"] == "gzip"
    assert "accept-encoding" in small.headers["vary"].lower()
    assert len(small.body) < len(plain.body) / 5
    assert json.loads(gzip.decompress(small.body))["headers"]["x-long"] == "a" * 5000


@pytest.mark.parametrize("form", ["br", "zstd", "gzip"])
def test_the_preferred_form_comes_first(put: Put, form: str) -> None:
    others = [one for one in ("br", "zstd", "gzip") if one != form]
    mesh = put(f"- {{policy: compression, forms: [{', '.join([form, *others])}], min_bytes: 30}}")
    every = {"accept-encoding": "gzip, br, zstd"}
    assert mesh.ask(f"{API}first/x", A | every).headers["content-encoding"] == form
    last = {"accept-encoding": others[1]}
    assert mesh.ask(f"{API}first/x", A | last).headers["content-encoding"] == others[1]


def test_what_is_small_or_of_another_type_stays_as_it_is(put: Put) -> None:
    accepts = A | {"accept-encoding": "gzip"}
    mesh = put("- {policy: compression, min_bytes: 100000}")
    assert "content-encoding" not in mesh.ask(f"{API}first/x", accepts).headers
    mesh = put("- {policy: compression, min_bytes: 30, types: [text/csv]}")
    assert "content-encoding" not in mesh.ask(f"{API}first/x", accepts).headers
