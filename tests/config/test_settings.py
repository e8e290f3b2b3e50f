"""Settings: defaults, files, the environment, and refusals that name the setting."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from tulle.config import (
    AlertChannel,
    Environment,
    GatewayTls,
    PolicySet,
    Settings,
    Warehouse,
    Watch,
    settings_from,
)
from tulle.errors import Invalid


def test_every_setting_says_what_it_is_for() -> None:
    for kind in (Settings, Warehouse, Environment, PolicySet, AlertChannel, Watch, GatewayTls):
        for field in fields(kind):
            assert field.metadata["help"], field.name


def test_values_and_environment_override_defaults_in_that_order(tmp_path: Path) -> None:
    settings = settings_from(tmp_path, {"gateway_port": 9000, "name": "shop"}, {"TULLE_GATEWAY_PORT": "9001"})
    assert (settings.name, settings.gateway_port, settings.control_plane_port) == ("shop", 9001, 8080)
    assert settings.state_folder == tmp_path / ".tulle"


def test_what_is_true_or_false_is_read_so_from_the_environment(tmp_path: Path) -> None:
    for said, meant in (("true", True), ("1", True), ("False", False), ("0", False)):
        assert (
            settings_from(tmp_path, {"mutual_tls": not meant}, {"TULLE_MUTUAL_TLS": said}).mutual_tls is meant
        )


@pytest.mark.parametrize(
    ("values", "environment", "said"),
    [
        ({"gateway_prt": 1}, {}, "unknown setting 'gateway_prt'"),
        ({"gateway_port": "8000"}, {}, "'gateway_port' is '8000', expected a whole number"),
        ({"gateway_port": True}, {}, "'gateway_port' is True"),
        ({"gateway_port": 99999}, {}, "'gateway_port' is 99999"),
        ({"gateway_port": 8080}, {}, "'control_plane_port' and 'gateway_port' are the same"),
        (
            {"proxy_protocol_port": 8000, "trusted_proxies": ["127.0.0.9"]},
            {},
            "'gateway_port' and 'proxy_protocol_port' are the same",
        ),
        ({"proxy_protocol_port": -1, "trusted_proxies": ["127.0.0.9"]}, {}, "'proxy_protocol_port' is -1"),
        ({"proxy_protocol_port": 8001}, {}, "without 'trusted_proxies': nobody could connect there"),
        ({"host": "0.0.0.0"}, {}, "only loopback addresses"),
        ({"service_workers": 0}, {}, "'service_workers' is 0"),
        ({"gateway_concurrency": 0}, {}, "'gateway_concurrency' is 0"),
        ({"max_request_bytes": 0}, {}, "'max_request_bytes' is 0"),
        ({"storage": "s3://bucket/x"}, {}, "'storage' is 's3://bucket/x'"),
        ({"database": "foo"}, {}, "'database' is 'foo'"),
        ({"hook_run_days": 0}, {}, "'hook_run_days' is 0"),
        ({"check_result_days": 0}, {}, "'check_result_days' is 0"),
        ({"run_record_days": 0}, {}, "'run_record_days' is 0"),
        ({"stale_branch_days": -1}, {}, "'stale_branch_days' is -1"),
        ({}, {"TULLE_GATEWAY_PORT": "many"}, "TULLE_GATEWAY_PORT is 'many'"),
        ({"mutual_tls": "yes"}, {}, "'mutual_tls' is 'yes', expected true or false"),
        ({}, {"TULLE_MUTUAL_TLS": "maybe"}, "TULLE_MUTUAL_TLS is 'maybe', expected true or false"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    tmp_path: Path, values: dict[str, object], environment: dict[str, str], said: str
) -> None:
    with pytest.raises(Invalid) as refused:
        settings_from(tmp_path, values, environment)
    assert said in refused.value.message


def test_a_near_name_is_suggested(tmp_path: Path) -> None:
    with pytest.raises(Invalid) as refused:
        settings_from(tmp_path, {"gateway_prt": 1}, {})
    assert refused.value.hint == "did you mean 'gateway_port'?"


def test_addresses_that_are_shown_follow_tls(tmp_path: Path) -> None:
    assert settings_from(tmp_path, {}, {}).gateway_url == "http://127.0.0.1:8000"
    safe = settings_from(tmp_path, {"gateway_tls": {"self_signed": True}}, {})
    assert (safe.gateway_url, safe.gateway_url_at("api.example.com")) == (
        "https://127.0.0.1:8000",
        "https://api.example.com:8000",
    )
    named = {"certificate": "c.pem", "key": "k.pem", "host": "mesh.example.com"}
    known = settings_from(tmp_path, {"gateway_tls": named, "gateway_port": 443}, {})
    assert known.gateway_url == "https://mesh.example.com"
    assert (safe.trusted_file, known.trusted_file) == (tmp_path / ".tulle/tls/authority.pem", None)
