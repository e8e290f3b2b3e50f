"""The lines that the demo prints to be tried, where callers come by TLS."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

from tulle.cli.demo import _curl, _url
from tulle.config import GatewayTls, Settings

REQUEST = {"service": "calc", "endpoint": "who", "action": "run", "body": {}}
KEPT = {"client_id": "a", "client_secret": "b"}


def test_curl_is_told_what_to_trust_where_the_mesh_made_the_certificate(tmp_path: Path) -> None:
    plain = Settings(folder=tmp_path)
    assert "--cacert" not in _curl(plain, REQUEST, KEPT)
    safe = replace(plain, gateway_tls=GatewayTls(self_signed=True))
    words = shlex.split(_curl(safe, REQUEST, KEPT))
    assert words[words.index("--cacert") + 1] == str(tmp_path / ".tulle/tls/authority.pem")
    assert _url(safe, REQUEST) == "https://127.0.0.1:8000/public/api/v1/calc/who/run"
    own = replace(plain, gateway_tls=GatewayTls(certificate="c", key="k", host="mesh.example.com"))
    assert "--cacert" not in _curl(own, REQUEST, KEPT)
