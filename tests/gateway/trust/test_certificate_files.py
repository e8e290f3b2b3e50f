"""Certificates in files: when they are made anew, what is trusted meanwhile, and what a full disk changes."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tulle.errors import LimitExceeded
from tulle.gateway import private_file
from tulle.gateway.trust import certificate_files
from tulle.gateway.trust.authority import DAY, Authorities, Lives
from tulle.gateway.trust.certificate_files import CertificateFiles
from tulle.gateway.trust.held import certificates_of
from tulle.gateway.trust.identity import Identity
from tulle.state.db import open_database

AT = 1_800_000_000.0
GATEWAY, OFFERS = Identity("shop"), Identity("shop", "offers", "prod")
BOTH = [GATEWAY, OFFERS]
NAMES = ("gateway", "service-offers@prod")


class Home:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authorities = Authorities(open_database(f"sqlite:///{folder}/state.db"), folder / "key")
        self.files = self.fresh()

    def fresh(self) -> CertificateFiles:
        """As another control plane would begin."""
        return CertificateFiles(self.folder, self.authorities)

    def roots(self) -> str:
        (secret,) = json.loads((self.folder / "run/trust/bundle.json").read_text())["resources"]
        return str(secret["validation_context"]["trusted_ca"]["inline_string"])

    def ends(self) -> dict[str, float]:
        return {held.name: held.facts.ends_at for held in certificates_of(self.folder)}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_they_are_made_once_and_anew_after_a_third_of_their_life(home: Home) -> None:
    assert home.files.keep("shop", BOTH, AT) == ("bundle", *NAMES)
    assert home.files.keep("shop", BOTH, AT + 60) == ()
    assert home.fresh().keep("shop", BOTH, AT + 7.9 * 3600) == ()
    assert home.files.keep("shop", BOTH, AT + 8 * 3600) == NAMES
    assert set(home.ends().values()) == {AT + 8 * 3600 + DAY}
    for file in (home.folder / "run/trust").iterdir():
        assert file.stat().st_mode & 0o777 == 0o600
    assert (home.folder / "run/trust").stat().st_mode & 0o777 == 0o700


def test_without_a_control_plane_they_hold_for_sixteen_hours_at_least(home: Home) -> None:
    home.files.keep("shop", BOTH, AT)
    nearly_due = AT + Lives().renewed_after - 1
    assert home.files.keep("shop", BOTH, nearly_due) == ()
    assert min(home.ends().values()) - nearly_due > 16 * 3600
    (held, _) = certificates_of(home.folder)
    assert [held.state(AT + hours * 3600) for hours in (0, 8, 13, 25)] == ["valid", "valid", "late", "ended"]
    assert home.fresh().keep("shop", BOTH, AT + 3 * DAY) == NAMES  # a mesh that was down for long


def test_a_clock_that_was_put_back_and_a_damaged_file(home: Home) -> None:
    home.files.keep("shop", BOTH, AT)
    assert home.files.keep("shop", BOTH, AT - DAY) == NAMES
    file = home.folder / "run/trust/gateway.json"
    file.write_bytes(file.read_bytes()[:100])
    assert home.fresh().keep("shop", BOTH, AT - DAY) == ("gateway",)
    other = home.folder / "run/trust/service-offers@prod.json"
    file.write_bytes(other.read_bytes())  # somebody else's certificate is none
    assert home.fresh().keep("shop", BOTH, AT - DAY) == ("gateway",)


def test_a_new_authority_is_known_to_all_before_anything_of_it_is_shown(home: Home) -> None:
    home.files.keep("shop", BOTH, AT)
    old = home.roots()
    new = home.authorities.rotate(at=AT)
    assert home.files.keep("shop", BOTH, AT) == ("bundle",)
    assert old in home.roots()
    assert new.root in home.roots()
    spread = home.authorities.lives.spread
    assert home.files.keep("shop", BOTH, AT + spread) == NAMES
    assert all(h.certificate.endswith(new.intermediate) for h in certificates_of(home.folder))
    over = AT + spread + home.authorities.lives.overlap
    assert "bundle" in home.files.keep("shop", BOTH, over)
    assert home.roots() == new.root


def test_nobody_was_there_while_it_was_to_be_spread(home: Home) -> None:
    home.files.keep("shop", BOTH, AT)
    home.authorities.rotate(at=AT)
    assert home.files.keep("shop", BOTH, AT + 60) == ("bundle",)
    assert home.files.keep("shop", BOTH, AT + 60.5) == ()
    assert home.files.keep("shop", BOTH, AT + 61) == NAMES


def test_at_once_is_at_once(home: Home) -> None:
    home.files.keep("shop", BOTH, AT)
    new = home.authorities.rotate(at_once=True, at=AT)
    assert home.files.keep("shop", BOTH, AT) == ("bundle", *NAMES)
    assert home.roots() == new.root


def test_a_full_disk_leaves_what_there_is(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.files.keep("shop", BOTH, AT)
    before = home.ends()

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    due = AT + 9 * 3600
    with monkeypatch.context() as patch:
        patch.setattr(private_file.os, "fsync", full)
        with pytest.raises(LimitExceeded, match="disk full"):
            home.files.keep("shop", BOTH, due)
        assert home.ends() == before
        assert not list((home.folder / "run/trust").glob(".*"))
    assert home.files.keep("shop", BOTH, due) == NAMES


def test_who_is_gone_has_no_certificate(home: Home) -> None:
    home.files.keep("shop", BOTH, AT)
    home.files.forget([GATEWAY])
    assert set(home.ends()) == {"gateway"}
    assert home.files.keep("shop", BOTH, AT + certificate_files.LOOK_SECONDS + 1) == (NAMES[1],)


def test_no_key_is_told(home: Home) -> None:
    home.files.keep("shop", BOTH, AT)
    told: Any = repr(certificates_of(home.folder))
    assert "PRIVATE" not in told
