"""The certificates of a connection: the file's certificates alone, read once, and told plainly when they cannot be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.gateway.external import Authority

from tulle.errors import Invalid
from tulle.pipeline.sources.address import made
from tulle.pipeline.sources.kept_certificates import with_certificates
from tulle.state.connections import Connection

SAID = {"auth": "oauth2", "client_id": "me", "token_url": "https://login.example.org/token"}


def naming(file: Path) -> Connection:
    options = {**SAID, "ca_file": str(file)}
    return made("shop", "prod", "http", "https://shop.example.org", options, {"client_secret": "s"})


def test_the_certificates_alone_are_taken_and_once(tmp_path: Path) -> None:
    ca = Authority(tmp_path).ca
    file = tmp_path / "both.pem"
    key = "-----BEGIN PRIVATE KEY-----\nbm8=\n-----END PRIVATE KEY-----\n"
    file.write_text(f"the authority of the shop, naïve\n{ca}{key}")
    found = with_certificates(naming(file))
    assert found.certificates.split() == ca.split()
    file.unlink()
    assert with_certificates(found) is found


def test_who_names_no_file_or_signs_in_otherwise_has_none(tmp_path: Path) -> None:
    plain = made("shop", "prod", "http", "https://shop.example.org", SAID, {"client_secret": "s"})
    assert with_certificates(plain) is plain
    other = made("r", "prod", "redis", "rediss://r.example.org/0", {"ca_file": str(tmp_path / "no")}, {})
    assert with_certificates(other) is other


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: None, "No such file"),
        (lambda path: path.mkdir(), "it is no file"),
        (lambda path: path.write_text("nothing"), "it has no certificates"),
        (lambda path: path.write_bytes(b"x" * 1_000_001), "it has more than 1,000,000 bytes"),
    ],
)
def test_what_cannot_be_read_is_told_with_what_to_do(
    tmp_path: Path, make: Callable[[Path], object], why: str
) -> None:
    file = tmp_path / "ca.pem"
    make(file)
    with pytest.raises(
        Invalid, match=f"'ca_file' of connection 'shop' cannot be read: .*ca.pem: {why}"
    ) as told:
        with_certificates(naming(file))
    assert "set the connection again" in told.value.hint
