"""Addresses of APIs and of external services: which are taken."""

from __future__ import annotations

import pytest

from tulle.errors import Invalid
from tulle.gateway.front import Front, check_url


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("https://orders.example.com", ("orders.example.com", 443, "", True)),
        ("http://127.0.0.1:8080/base/", ("127.0.0.1", 8080, "/base", False)),
        ("https://[::1]:1/a/b", ("::1", 1, "/a/b", True)),
    ],
)
def test_the_parts_of_an_address(url: str, parts: tuple[str, int, str, bool]) -> None:
    found = check_url(url)
    assert (found.host, found.port, found.base, found.is_secure) == parts


@pytest.mark.parametrize(
    "url",
    [
        "",
        "orders.example.com",
        "ftp://orders.example.com",
        "https://",
        "https://user:secret@orders.example.com",
        "https://orders.example.com?a=b",
        "https://orders.example.com#a",
        "https://orders.example.com:0",
        "https://orders.example.com:99999",
        "https://orders_example.com",
        "https://[fe80::1%25eth0]",
        "https://a b.example",
        "https://orders.example.com/a//b",
        "https://orders.example.com/../a",
        "https://orders.example.com/a\\1",
        "https://orders.example.com/%2e",
        "https://" + "a" * 600,
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(Invalid):
        check_url(url)


@pytest.mark.parametrize("path", ["", "orders", "/orders/", "//orders", "/orders?x", "/a b", "/" + "a" * 65])
def test_what_is_no_path_of_an_api_is_refused(path: str) -> None:
    with pytest.raises(Invalid):
        Front("v1", path)


def test_hosts_are_names() -> None:
    assert Front("v1", "/", hosts=("a.example",)).is_unbound
    with pytest.raises(Invalid, match="needs hosts"):
        Front("v1", "/")
    for host in ("A.example", "a.example:80", "*.example", "-a"):
        with pytest.raises(Invalid, match="no host name"):
            Front("v1", "/a", hosts=(host,))
