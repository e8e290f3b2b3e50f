"""`ip-allow` and `ip-deny` on the real Envoy."""

from __future__ import annotations

import pytest
from tests.gateway.conftest import API, as_client, check_error
from tests.gateway.policies.conftest import Put

pytestmark = pytest.mark.system

HERE, ELSEWHERE = "[127.0.0.0/8]", "[192.0.2.7, '2001:db8::/32']"


@pytest.mark.parametrize(
    ("listed", "passes"),
    [
        (f"- {{policy: ip-allow, addresses: {HERE}}}", True),
        (f"- {{policy: ip-allow, addresses: {ELSEWHERE}}}", False),
        (f"- {{policy: ip-deny, addresses: {HERE}}}", False),
        (f"- {{policy: ip-deny, addresses: {ELSEWHERE}}}", True),
    ],
)
def test_the_address_of_the_connection_decides(put: Put, listed: str, passes: bool) -> None:
    mesh = put(listed)
    pretended = {"x-forwarded-for": "192.0.2.7", "forwarded": "for=192.0.2.7", "x-real-ip": "192.0.2.7"}
    for headers in (as_client("app-a"), as_client("app-a") | pretended):
        reply = mesh.ask(f"{API}first/x", headers)
        if passes:
            assert reply.status == 200
        else:
            check_error(reply, 403, "AddressNotAllowed")
    assert mesh.ask(f"{API}second/x", as_client("app-b")).status == 200  # nobody else's matter


def test_the_list_says_whether_it_is_asked_before_credentials(put: Put) -> None:
    mesh = put(f"- {{policy: ip-deny, addresses: {HERE}}}")
    check_error(mesh.ask(f"{API}first/x"), 403, "AddressNotAllowed")
    mesh = put(f"- {{policy: rate-limit, limits: 1000/1s}}\n- {{policy: ip-deny, addresses: {HERE}}}")
    check_error(mesh.ask(f"{API}first/x"), 401, "InvalidClient")
    check_error(mesh.ask(f"{API}first/x", as_client("app-a")), 403, "AddressNotAllowed")
