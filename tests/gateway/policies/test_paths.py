"""Paths that lead around policies of operations, on the real Envoy: each has them, or is refused."""

from __future__ import annotations

import pytest
from tests.gateway.conftest import API, Mesh, Reply, as_client, check_error
from tests.gateway.policies.conftest import Put, policy_of

from tulle.gateway import envoy_paths
from tulle.gateway.envoy_policies import parts_of
from tulle.gateway.front import External, Front, Upstream
from tulle.gateway.policy import GatewayPolicy, ManagedService

pytestmark = pytest.mark.system
GUARDED = """
- {policy: ip-deny, addresses: [127.0.0.0/8], operations: [{path: '/a:b/do_it'}]}
- {policy: public, limit: 10000/1s, operations: [{path: '/{what}/open'}, {path: /open}]}
"""
# What may be meant: a percent sign, a dot or a blank in a name, letters of other languages, signs of four bytes.
FINE = (
    "/50%25",
    "/50%2515.txt",
    "/tags/c%23/posts",
    "/x%2520y",
    "/a.%20b/..c",
    "/%C5%BF",
    "/%E2%84%AA",
    "/%e0%a0%80/%f0%90%8d%88?x=%00%252e/../",
)


def say(mesh: Mesh, path: str, api: str = "first", *, shows: bool = True) -> Reply:
    """Ask with the path as it is written here."""
    shown = f"authorization: {as_client('app-a')['authorization']}\r\n" if shows else ""
    return mesh.say(f"GET {API}{api}{path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{shown}\r\n".encode())


@pytest.fixture
def guarded(put: Put) -> Mesh:
    return put(GUARDED)


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/a:b/do_it",
            "/a:b/do_it/",
            "/a:b//do_it",
            "//a:b/do_it",
            "/a:b/./do_it",
            "/x/../a:b/do_it",
            "/a:b/do_it?x",
        ),
        *(
            "/%61:b/do_it",
            "/a:b/do%5Fit",
            "/x/%2e%2e/a:b/do_it",
            "/a:b/%2E/do_it",
            "/a:b\\do_it",
            "/a:b/do_it//",
        ),
        *("/x/..;/a:b/do_it", "/a:b/do_it/.", "/a:b/%64o_it"),
    ],
)
def test_another_way_to_write_a_path_has_its_policies(guarded: Mesh, path: str) -> None:
    check_error(say(guarded, path), 403, "AddressNotAllowed")


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/a%3Ab/do_it",
            "/a%3ab/do_it",
            "/A:b/do_it",
            "/a:b/DO_IT",
            "/a:b;x=1/do_it",
            "/a:b/do_it;x",
            "/a:b/do_it%3Bx",
        ),
        *(
            "/a:b/;/do_it",
            "/%2e;/a:b/do_it",
            "/;/a:b/do_it",
            "/a%3Ab/do_it?x=1",
            "/OPEN",
            "/open;x",
            "/x/open;y",
        ),
        *(
            "/%2561:b/do_it",
            "/a:b%252fdo_it",
            "/a:b/do_it%20",
            "/a:b/do_it.",
            "/a:b/do_it%3f",
            "/a:b/do_it%23",
        ),
    ],
)
def test_what_some_servers_take_for_a_path_with_policies_is_refused(guarded: Mesh, path: str) -> None:
    check_error(say(guarded, path), 400, "AmbiguousPath")


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/x/%252e%252e/a:b/do_it",
            "/x/%252e./y",
            "/%c0%ae%c0%ae/a:b/do_it",
            "/x/%25C0%25AE/y",
            "/x/.%252e",
        ),
        *("/x%0d%0a", "/x%09/y", "/x%7F", "/x/%c1%a1", "/%f8%80", "/%E0%9F%80", "/%F0%8F%80%80"),
    ],
)
def test_where_operations_have_policies_what_nobody_means_is_refused(guarded: Mesh, path: str) -> None:
    check_error(say(guarded, path), 400, "AmbiguousPath")
    assert say(guarded, path, "second").status == 403  # it has no such policies: this is the missing contract


@pytest.mark.parametrize(
    "path",
    ["/a:b%2Fdo_it", "/a:b%5Cdo_it", "/a:b/do_it%00", "/a:b/do_it#x", "/a:b/do_it%2f", "/x/..%2fa:b/do_it"],
)
def test_what_nobody_writes_is_no_request(guarded: Mesh, path: str) -> None:
    check_error(say(guarded, path), 400, "InvalidRequest")


def test_a_query_is_no_way_into_an_operation(guarded: Mesh) -> None:
    assert say(guarded, "/x/open", shows=False).status == 200
    assert say(guarded, "/open?x", shows=False).status == 200
    for path in ("/secret?x=/open", "/secret?/open", "/secret%3F/x?/open"):
        check_error(say(guarded, path, shows=False), 401, "InvalidClient")


def test_other_paths_pass_as_they_are_written(guarded: Mesh) -> None:
    for path in ("/x/y;z=1", "/a%3Ab", "/a:b/do_it2", "/x%40y/%C3%A9", "/a:b/do_it/x", "/x/y%3Bz", *FINE):
        reply = say(guarded, path)
        assert (reply.status, reply.json()["target"]) == (200, f"{API}first{path}")
    assert say(guarded, "/A%3Ab/DO_IT", "second").status == 403  # no contract: it has no such policies


def test_nobody_else_takes_a_path_for_a_way_out_of_its_own(mesh: Mesh) -> None:
    external = External((Upstream("http://127.0.0.1:9/base"),))
    front = Front("v1", "/orders/v1", external=external)
    usual = policy_of("[]")
    api = ManagedService("orders", (), 1000, front=front)
    mesh.gateway.publish(
        GatewayPolicy(tuple(sorted((*usual.services, api), key=lambda s: s.path)), usual.clients)
    )

    def ask(path: str) -> Reply:
        return mesh.say(f"GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".encode())

    for path in ("%2e%2e;/secret", "x/.%2e;a=1/y", "x/..%3b/y", "%2e;/y", "..%3B"):
        check_error(ask(f"/orders/v1/{path}"), 400, "AmbiguousPath")
    for path in ("x", "x;y", "a..;b", "x?/..;/y"):
        check_error(ask(f"/orders/v1/{path}"), 401, "InvalidClient")


def test_only_operations_have_likenesses() -> None:
    (service,) = (one for one in policy_of(GUARDED).services if one.name == "first")
    found = list(envoy_paths.with_likenesses(service, parts_of(service)))
    assert [len(alike) for _, alike in found] == [1, 1, 2, 0]
    assert [part for parts, _ in found for part in parts] == list(parts_of(service))
    assert envoy_paths.ways_up(service) == []
