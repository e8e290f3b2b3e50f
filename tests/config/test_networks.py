"""Proxies that are believed: networks, and what is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tulle.config import settings_from
from tulle.errors import Invalid


def test_proxies_are_networks(tmp_path: Path) -> None:
    said = ["127.0.0.1", "10.0.0.0/28", "2001:DB8::/64"]
    settings = settings_from(tmp_path, {"trusted_proxies": said}, {})
    assert settings.trusted_proxies == ("127.0.0.1/32", "10.0.0.0/28", "2001:db8::/64")
    with pytest.raises(Invalid) as refused:
        settings_from(tmp_path, {"trusted_proxies": ["10.0.0.5/8"]}, {})
    assert refused.value.hint == "the network of it is 10.0.0.0/8"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"trusted_proxies": "10.0.0.5"}, "'trusted_proxies' must be a list of texts"),
        (
            {"trusted_proxies": ["lb.internal"]},
            "'trusted_proxies' has 'lb.internal', which is no address",
        ),
        ({"trusted_proxies": ["10.0.0.5:80"]}, "'trusted_proxies' has '10.0.0.5:80'"),
        ({"trusted_proxies": ["10.0.0.5/8"]}, "'trusted_proxies' has '10.0.0.5/8'"),
        ({"trusted_proxies": ["0.0.0.0/0"]}, "'0.0.0.0/0', which is every address"),
        ({"trusted_proxies": ["::/0"]}, "'::/0', which is every address"),
        ({"trusted_proxies": ["fe80::1%eth0"]}, "'trusted_proxies' has 'fe80::1%eth0'"),
        ({"trusted_proxies": ["10.0.0.5"] * 101}, "'trusted_proxies' has 101 networks"),
    ],
)
def test_what_cannot_be_is_refused_by_name(tmp_path: Path, values: dict[str, object], said: str) -> None:
    with pytest.raises(Invalid) as refused:
        settings_from(tmp_path, values, {})
    assert said in refused.value.message
