"""TLS of the gateway as mesh.yaml says it: what cannot be is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tulle.config import settings_from
from tulle.errors import Invalid


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (True, "'gateway_tls' must be a mapping"),
        ({}, "needs either both certificate and key, or self_signed: true"),
        ({"certificate": "a.pem"}, "needs either both certificate and key"),
        ({"self_signed": True, "certificate": "a.pem", "key": "a.key"}, "needs either both"),
        ({"self_signed": True, "name": "x"}, "unknown setting 'name' in 'gateway_tls'"),
        ({"self_signed": True, "names": ["Ann's"]}, "'gateway_tls.names' has 'Ann's', which is no host"),
        ({"self_signed": True, "host": "a:8000"}, "'gateway_tls.host' has 'a:8000'"),
        ({"self_signed": True, "plain": "hide"}, "'gateway_tls.plain' is 'hide', expected redirect or serve"),
        ({"self_signed": True, "plain_port": 70000}, "'gateway_tls.plain_port' is 70000"),
        (
            {"self_signed": True, "plain_port": 8000},
            "'gateway_port' and 'gateway_tls.plain_port' are the same",
        ),
        ({"self_signed": True, "hsts_seconds": 60}, "makes browsers refuse this host without TLS"),
        ({"certificate": "a", "key": "b", "hsts_seconds": -1}, "'gateway_tls.hsts_seconds' is -1"),
    ],
)
def test_tls_that_cannot_be_is_refused_by_name(tmp_path: Path, said: object, told: str) -> None:
    with pytest.raises(Invalid) as refused:
        settings_from(tmp_path, {"gateway_tls": said}, {})
    assert told in refused.value.message
