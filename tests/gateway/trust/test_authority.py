"""The mesh's authority: what it signs, how it is replaced, and what becomes of the one before. Time is a parameter."""

from __future__ import annotations

import datetime as dt
import sqlite3
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from tulle.errors import Broken, Conflict, Unavailable
from tulle.gateway.trust.authority import DAY, Authorities, Lives, issuer
from tulle.gateway.trust.certificate import SKEW_SECONDS, Pair, facts, make_leaf
from tulle.gateway.trust.identity import Identity, domain_of, identity_of
from tulle.state.db import open_database

AT = 1_800_000_000.0
OFFERS = Identity("shop", "offers", "prod")


@pytest.fixture
def authorities(tmp_path: Path) -> Authorities:
    return Authorities(open_database(f"sqlite:///{tmp_path}/state.db"), tmp_path / "secret.key")


def verified(chain: str, root: str, at: float) -> bool:
    """Whether a verifier that is not ours takes a chain as that of a client, at a time."""
    store = Store(x509.load_pem_x509_certificates(root.encode()))
    when = dt.datetime.fromtimestamp(at, dt.UTC)
    leaf, *others = x509.load_pem_x509_certificates(chain.encode())
    try:
        PolicyBuilder().store(store).time(when).build_client_verifier().verify(leaf, others)
    except VerificationError:
        return False
    return True


def test_identities_are_told_by_their_uris() -> None:
    assert OFFERS.uri == "spiffe://shop/env/prod/service/offers"
    assert OFFERS.host == "offers.prod.mesh"
    assert Identity("shop").uri == "spiffe://shop/gateway"
    for one in (OFFERS, Identity("shop"), Identity("a.b-c", "x-1", "qa_2")):
        assert identity_of(one.uri) == one
    for wrong in (
        "",
        "spiffe://shop",
        "spiffe://shop/gateway/x",
        "https://shop/gateway",
        "spiffe:///gateway",
    ):
        assert identity_of(wrong) is None
    assert [domain_of(name) for name in ("Shop & Co.", "---", "ümlaut", "x" * 99)] == [
        "shop-co",
        "mesh",
        "mlaut",
        "x" * 63,
    ]


def test_what_is_signed_holds_for_hours_and_for_one_part(authorities: Authorities) -> None:
    (one,) = authorities.keep("Shop", AT)
    pair = authorities.issue(OFFERS, AT)
    told = facts(pair.certificate)
    assert (told.uri, told.host) == (OFFERS.uri, OFFERS.host)
    assert told.ends_at - AT == DAY
    assert told.begins_at == AT - SKEW_SECONDS  # clocks may differ
    assert pair.certificate.endswith(one.intermediate)
    assert verified(pair.certificate, one.root, AT)
    assert not verified(pair.certificate, one.root, AT + DAY + 1)
    assert not verified(pair.certificate, one.root, AT - SKEW_SECONDS - 1)
    leaf = x509.load_pem_x509_certificates(pair.certificate.encode())[0]
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert "PRIVATE" not in repr(pair)


def test_a_part_cannot_sign_for_another_one(authorities: Authorities) -> None:
    (one,) = authorities.keep("shop", AT)
    own = authorities.issue(OFFERS, AT)
    first = own.certificate.split("-----END CERTIFICATE-----\n")[0] + "-----END CERTIFICATE-----\n"
    forged = make_leaf(Pair(first, own.key), Identity("shop"), AT, DAY)
    assert not verified(forged.certificate + one.intermediate, one.root, AT)


def test_keys_are_nowhere_in_clear(authorities: Authorities, tmp_path: Path) -> None:
    authorities.keep("shop", AT)
    with sqlite3.connect(tmp_path / "state.db") as connection:
        (row,) = connection.execute("SELECT * FROM authorities").fetchall()
    assert b"PRIVATE" not in b"".join(str(cell).encode() for cell in row)
    (tmp_path / "secret.key").unlink()
    with pytest.raises(Unavailable, match="key file"):
        authorities.issue(OFFERS, AT)
    (tmp_path / "secret.key").write_bytes(b"x" * 32)
    with pytest.raises(Broken, match="another key"):
        authorities.issue(OFFERS, AT)


def test_a_new_authority_is_trusted_before_it_signs_and_the_old_one_until_all_it_signed_has_ended(
    authorities: Authorities,
) -> None:
    (old,) = authorities.keep("shop", AT)
    new = authorities.rotate(actor="ann", at=AT)
    assert (new.domain, new.id != old.id) == (old.domain, True)
    wait = authorities.lives.spread
    assert {one.id for one in authorities.trusted(AT)} == {old.id, new.id}
    assert issuer(authorities.known(), AT + wait - 1).id == old.id
    with pytest.raises(Conflict, match="does not sign yet"):
        authorities.rotate(at=AT + 1)
    last = authorities.issue(OFFERS, AT + wait - 1)
    assert issuer(authorities.known(), AT + wait).id == new.id
    assert verified(authorities.issue(OFFERS, AT + wait).certificate, new.root, AT + wait)
    ends = facts(last.certificate).ends_at
    assert old.id in {one.id for one in authorities.trusted(ends)}
    assert [one.id for one in authorities.keep("shop", ends)] == [new.id, old.id]
    assert [one.id for one in authorities.keep("shop", AT + wait + authorities.lives.overlap)] == [new.id]


def test_at_once_nothing_else_is_trusted(authorities: Authorities) -> None:
    authorities.keep("shop", AT)
    authorities.rotate(at=AT)
    new = authorities.rotate(at_once=True, at=AT + 1)
    assert [one.id for one in authorities.trusted(AT + 1)] == [new.id]
    assert issuer(authorities.known(), AT + 1).id == new.id


def test_roots_and_intermediates_are_made_anew_by_themselves(tmp_path: Path) -> None:
    lives = Lives(root=100 * DAY, intermediate=9 * DAY)
    authorities = Authorities(open_database(f"sqlite:///{tmp_path}/s.db"), tmp_path / "key", lives)
    (one,) = authorities.keep("shop", AT)
    (same,) = authorities.keep("shop", AT + 5 * DAY)
    assert same.intermediate == one.intermediate
    (renewed,) = authorities.keep("shop", AT + 7 * DAY)
    assert (renewed.root, renewed.intermediate != one.intermediate) == (one.root, True)
    assert verified(authorities.issue(OFFERS, AT + 7 * DAY).certificate, one.root, AT + 7 * DAY)
    both = authorities.keep("shop", AT + 91 * DAY)
    assert [o.id == one.id for o in both] == [False, True]


def test_there_is_nothing_to_replace_before_there_is_one(authorities: Authorities) -> None:
    with pytest.raises(Conflict, match="no authority"):
        authorities.rotate(at=AT)
    with pytest.raises(Broken, match="no authority yet"):
        authorities.issue(OFFERS, AT)
