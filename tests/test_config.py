"""Settings: defaults, files, the environment, and refusals that name the setting."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from tulle.config import Settings, Warehouse, settings_from
from tulle.errors import Invalid


def test_every_setting_says_what_it_is_for() -> None:
    for kind in (Settings, Warehouse):
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


def test_a_domain_has_its_own_bounds_or_the_common_ones(tmp_path: Path) -> None:
    settings = settings_from(
        tmp_path, {"warehouses": {"sales": {"threads": 1}}, "warehouse": {"memory": "3GB"}}, {}
    )
    assert settings.warehouse_of("sales") == Warehouse(threads=1)
    assert settings.warehouse_of("customer").memory == "3GB"


@pytest.mark.parametrize(
    ("values", "environment", "said"),
    [
        ({"gateway_prt": 1}, {}, "unknown setting 'gateway_prt'"),
        ({"gateway_port": "8000"}, {}, "'gateway_port' is '8000', expected a whole number"),
        ({"gateway_port": True}, {}, "'gateway_port' is True"),
        ({"gateway_port": 99999}, {}, "'gateway_port' is 99999"),
        ({"gateway_port": 8080}, {}, "'control_plane_port' and 'gateway_port' are the same"),
        ({"host": "0.0.0.0"}, {}, "only loopback addresses"),
        ({"warehouse": 3}, {}, "'warehouse' must be a mapping"),
        ({"warehouses": {"sales": {"thread": 3}}}, {}, "unknown setting 'thread' in 'warehouses.sales'"),
        ({"warehouse": {"threads": 0}}, {}, "'warehouse.threads' is 0"),
        ({"service_workers": 0}, {}, "'service_workers' is 0"),
        ({"gateway_concurrency": 0}, {}, "'gateway_concurrency' is 0"),
        ({"max_request_bytes": 0}, {}, "'max_request_bytes' is 0"),
        ({"storage": "s3://bucket/x"}, {}, "'storage' is 's3://bucket/x'"),
        ({"database": "foo"}, {}, "'database' is 'foo'"),
        ({"data_folders": ["relative"]}, {}, "'data_folders' must be a list of absolute folders"),
        ({"hook_run_days": 0}, {}, "'hook_run_days' is 0"),
        ({"check_result_days": 0}, {}, "'check_result_days' is 0"),
        ({"run_record_days": 0}, {}, "'run_record_days' is 0"),
        ({"stale_branch_days": -1}, {}, "'stale_branch_days' is -1"),
        ({"hook_environments": ["/opt/x"]}, {}, "'hook_environments' must map names"),
        ({"hook_environments": {"x": "opt/x"}}, {}, "'hook_environments' has 'x': 'opt/x'"),
        ({"hook_environments": {"x": "/"}}, {}, "'hook_environments' has 'x': '/'"),
        ({"hook_environments": {"x": "/opt/../etc"}}, {}, "expected a name and an absolute folder"),
        ({}, {"TULLE_GATEWAY_PORT": "many"}, "TULLE_GATEWAY_PORT is 'many'"),
        ({"mutual_tls": "yes"}, {}, "'mutual_tls' is 'yes', expected true or false"),
        ({"trusted_proxies": "10.0.0.5"}, {}, "'trusted_proxies' must be a list of texts"),
        (
            {"trusted_proxies": ["lb.internal"]},
            {},
            "'trusted_proxies' has 'lb.internal', which is no address",
        ),
        ({"trusted_proxies": ["10.0.0.5:80"]}, {}, "'trusted_proxies' has '10.0.0.5:80'"),
        ({"trusted_proxies": ["10.0.0.5/8"]}, {}, "'trusted_proxies' has '10.0.0.5/8'"),
        ({"trusted_proxies": ["0.0.0.0/0"]}, {}, "'0.0.0.0/0', which is every address"),
        ({"trusted_proxies": ["::/0"]}, {}, "'::/0', which is every address"),
        ({"trusted_proxies": ["fe80::1%eth0"]}, {}, "'trusted_proxies' has 'fe80::1%eth0'"),
        ({"trusted_proxies": ["10.0.0.5"] * 101}, {}, "'trusted_proxies' has 101 networks"),
        ({}, {"TULLE_MUTUAL_TLS": "maybe"}, "TULLE_MUTUAL_TLS is 'maybe', expected true or false"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    tmp_path: Path, values: dict[str, object], environment: dict[str, str], said: str
) -> None:
    with pytest.raises(Invalid) as refused:
        settings_from(tmp_path, values, environment)
    assert said in refused.value.message


def test_proxies_are_networks(tmp_path: Path) -> None:
    said = ["127.0.0.1", "10.0.0.0/28", "2001:DB8::/64"]
    settings = settings_from(tmp_path, {"trusted_proxies": said}, {})
    assert settings.trusted_proxies == ("127.0.0.1/32", "10.0.0.0/28", "2001:db8::/64")
    with pytest.raises(Invalid) as refused:
        settings_from(tmp_path, {"trusted_proxies": ["10.0.0.5/8"]}, {})
    assert refused.value.hint == "the network of it is 10.0.0.0/8"


def test_a_near_name_is_suggested(tmp_path: Path) -> None:
    with pytest.raises(Invalid) as refused:
        settings_from(tmp_path, {"gateway_prt": 1}, {})
    assert refused.value.hint == "did you mean 'gateway_port'?"


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
