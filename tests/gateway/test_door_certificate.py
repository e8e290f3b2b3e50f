"""The certificate that callers are shown: made and renewed, or taken from files; what cannot be used changes nothing."""

from __future__ import annotations

import base64
import datetime as dt
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtensionOID, NameOID

from tulle.cli.mesh import _failing_door
from tulle.config import GatewayTls, Settings
from tulle.errors import Invalid, LimitExceeded
from tulle.gateway import door_certificate
from tulle.gateway.door_certificate import (
    AUTHORITY,
    DAY,
    SHOWN,
    DoorCertificate,
    not_for,
    read_pair,
    shown,
    usable,
)
from tulle.state.db import now


def made_by_mesh(folder: Path, *names: str) -> Settings:
    return replace(Settings(folder=folder), gateway_tls=GatewayTls(self_signed=True, names=names))


def test_one_is_made_for_this_machine_and_renewed_long_before_it_ends(tmp_path: Path) -> None:
    settings, at = made_by_mesh(tmp_path, "mesh.example.com"), now()
    assert DoorCertificate(settings).keep(at)
    first, told = read_pair(settings.state_folder), shown(settings)
    assert told is not None
    assert {"localhost", "127.0.0.1", "::1", "mesh.example.com"} <= set(told.names)
    assert (told.state(at), told.state(at + 80 * DAY), told.state(at + 91 * DAY)) == (
        "valid",
        "late",
        "ended",
    )
    authority = (settings.state_folder / AUTHORITY).read_text()
    assert not DoorCertificate(settings).keep(at + 59 * DAY)
    assert DoorCertificate(settings).keep(at + 61 * DAY)
    assert read_pair(settings.state_folder) != first
    assert (settings.state_folder / AUTHORITY).read_text() == authority


def test_another_name_makes_another_authority_and_a_name_less_does_not(tmp_path: Path) -> None:
    DoorCertificate(made_by_mesh(tmp_path)).keep()
    first = (tmp_path / ".tulle" / AUTHORITY).read_text()
    assert DoorCertificate(made_by_mesh(tmp_path, "mesh.example.com")).keep()
    second = (tmp_path / ".tulle" / AUTHORITY).read_text()
    assert DoorCertificate(made_by_mesh(tmp_path)).keep()
    assert first != second == (tmp_path / ".tulle" / AUTHORITY).read_text()


def test_what_callers_are_shown_is_written_again_where_it_was_lost(tmp_path: Path) -> None:
    settings = made_by_mesh(tmp_path)
    DoorCertificate(settings).keep()
    held = read_pair(settings.state_folder)
    assert held is not None
    (settings.state_folder / SHOWN).unlink()
    assert not DoorCertificate(settings).keep()  # what Envoy shows stays what it is
    assert (settings.state_folder / SHOWN).read_text() == held.certificate
    assert read_pair(settings.state_folder) == held


def _without_bounds(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """An authority for any name, as one makes oneself."""
    name, at = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "any")]), dt.datetime.now(dt.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(7).not_valid_before(at).not_valid_after(at + dt.timedelta(days=3650))
    return made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).sign(
        key, hashes.SHA256()
    )


@pytest.mark.parametrize("damage", ["no bounds", "locked key", "no certificate", "another key", "no text"])
def test_a_damaged_authority_is_made_anew(tmp_path: Path, damage: str) -> None:
    settings, at = made_by_mesh(tmp_path), now()
    DoorCertificate(settings).keep(at)
    authority, key_file = settings.state_folder / AUTHORITY, settings.state_folder / "tls/authority.key"
    before, key = authority.read_bytes(), ec.generate_private_key(ec.SECP256R1())
    plain, pkcs8, pem = (
        serialization.NoEncryption(),
        serialization.PrivateFormat.PKCS8,
        serialization.Encoding.PEM,
    )
    if damage == "no bounds":
        authority.write_bytes(_without_bounds(key).public_bytes(pem))
        key_file.write_bytes(key.private_bytes(pem, pkcs8, plain))
    elif damage == "locked key":
        key_file.write_bytes(key.private_bytes(pem, pkcs8, serialization.BestAvailableEncryption(b"word")))
    elif damage == "another key":
        key_file.write_bytes(ed25519.Ed25519PrivateKey.generate().private_bytes(pem, pkcs8, plain))
    else:
        authority.write_bytes(before[:200] if damage == "no certificate" else b"\xff\xfe")
    assert DoorCertificate(settings).keep(at + 70 * DAY)  # when the next one is to be signed
    held, made = read_pair(settings.state_folder), x509.load_pem_x509_certificate(authority.read_bytes())
    assert held is not None
    assert made.public_bytes(pem) != before
    x509.load_pem_x509_certificates(held.certificate.encode())[0].verify_directly_issued_by(made)


def test_without_tls_nothing_is_made_and_no_key_stays(tmp_path: Path) -> None:
    DoorCertificate(made_by_mesh(tmp_path)).keep()
    plain = Settings(folder=tmp_path)
    assert not DoorCertificate(plain).keep()
    DoorCertificate(plain).prepare()
    assert read_pair(plain.state_folder) is None
    assert shown(plain) is None


def given(
    folder: Path,
    *,
    key: object | None = None,
    names: tuple[str, ...] = ("mesh.example.com",),
    days: int = 30,
    more: x509.ExtensionType | None = None,
) -> Settings:
    """Files as somebody else makes them."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mesh.example.com")])
    at = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())  # type: ignore[attr-defined]
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - dt.timedelta(days=60))
        .not_valid_after(at + dt.timedelta(days=days))
    )
    if names:
        made = made.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), critical=False
        )
    if more is not None:
        made = made.add_extension(more, critical=False)
    is_edwards = isinstance(key, ed25519.Ed25519PrivateKey)
    signed = made.sign(key, None if is_edwards else hashes.SHA256())  # type: ignore[arg-type]
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "mesh.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / "mesh.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))  # type: ignore[attr-defined]
    (folder / "mesh.key").chmod(0o600)
    return replace(Settings(folder=folder), gateway_tls=GatewayTls(certificate="mesh.pem", key="mesh.key"))


@pytest.mark.parametrize("kind", ["curve", "rsa"])
def test_ones_own_is_taken_and_followed(tmp_path: Path, kind: str) -> None:
    settings = given(tmp_path, key=rsa.generate_private_key(65537, 2048) if kind == "rsa" else None)
    keeper, at = DoorCertificate(settings), now()
    assert keeper.keep(at)
    assert not keeper.keep(at + 5)
    told = shown(settings)
    assert told is not None
    assert (told.names, told.self_signed, told.trouble) == (("mesh.example.com",), False, "")
    given(tmp_path, names=("other.example.com",))
    assert keeper.keep(at + 10)
    told = shown(settings)
    assert told is not None
    assert told.names == ("other.example.com",)


def test_what_cannot_be_used_is_told_and_what_was_shown_stays(tmp_path: Path) -> None:
    settings = given(tmp_path)
    keeper, at = DoorCertificate(settings), now()
    keeper.keep(at)
    before = read_pair(settings.state_folder)
    (tmp_path / "mesh.key").write_text("nothing")
    with pytest.raises(Invalid, match=r"mesh\.key holds no key"):
        keeper.keep(at + 5)
    DoorCertificate(settings).prepare()  # the mesh starts with it all the same
    assert read_pair(settings.state_folder) == before
    told = shown(settings)
    assert told is not None
    assert "holds no key" in told.trouble


def test_without_one_from_before_a_mesh_does_not_start_with_a_bad_one(tmp_path: Path) -> None:
    settings = given(tmp_path, days=-1)
    with pytest.raises(Invalid, match=r"mesh\.pem has ended"):
        DoorCertificate(settings).prepare()


def unknown_key(folder: Path) -> None:
    """As of a kind that comes after the library that reads it."""
    made = ed25519.Ed25519PrivateKey.generate()
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    der = made.private_bytes(serialization.Encoding.DER, *form).replace(
        b"\x06\x03\x2b\x65\x70", b"\x06\x03\x2b\x65\x7e"
    )
    pem = f"-----BEGIN PRIVATE KEY-----\n{base64.b64encode(der).decode()}\n-----END PRIVATE KEY-----\n"
    (folder / "mesh.key").write_text(pem)


def malformed_names(folder: Path) -> None:
    given(folder, names=(), more=x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, b"\xff"))


BAD = {
    "no file": (lambda f: (f / "mesh.pem").unlink(), r"mesh\.pem cannot be read: No such file"),
    "no certificate": (lambda f: (f / "mesh.pem").write_text("x"), "holds no certificate"),
    "not even text": (lambda f: (f / "mesh.pem").write_bytes(b"\xff"), "it is no PEM text"),
    "a key for all": (lambda f: (f / "mesh.key").chmod(0o644), "may be read by everybody"),
    "a small key": (
        lambda f: given(f, key=rsa.generate_private_key(65537, 1024)),
        "of a kind that the gateway",
    ),
    "an odd key": (
        lambda f: given(f, key=ed25519.Ed25519PrivateKey.generate()),
        "of a kind that the gateway",
    ),
    "a key of a kind nobody knows": (unknown_key, "holds no key that can be read"),
    "no name": (lambda f: given(f, names=()), "is for no name"),
    "names that are none": (malformed_names, "is malformed"),
}


@pytest.mark.parametrize("what", BAD)
def test_files_that_envoy_or_callers_could_not_use(tmp_path: Path, what: str) -> None:
    given(tmp_path)
    spoil, told = BAD[what]
    spoil(tmp_path)  # type: ignore[no-untyped-call]
    with pytest.raises(Invalid, match=told):
        usable(tmp_path / "mesh.pem", tmp_path / "mesh.key", now())


def test_the_certificate_of_another_key(tmp_path: Path) -> None:
    given(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    given(other)
    with pytest.raises(Invalid, match="is not the certificate of the key"):
        usable(tmp_path / "mesh.pem", other / "mesh.key", now())


def test_a_full_disk_is_told_and_what_was_shown_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, at = made_by_mesh(tmp_path), now()
    DoorCertificate(settings).keep(at)
    before = read_pair(settings.state_folder)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(door_certificate, "replace_private", full)
    with pytest.raises(LimitExceeded, match="disk full"):
        DoorCertificate(settings).keep(at + 70 * DAY)
    assert read_pair(settings.state_folder) == before


def test_the_status_tells_of_one_that_ends_and_of_one_that_cannot_be_used(tmp_path: Path) -> None:
    settings = given(tmp_path, days=5)
    (told,) = _failing_door(settings)
    assert "has no certificate to show" in told
    DoorCertificate(settings).keep()
    (told,) = _failing_door(settings)
    assert "ends in 5.0 days" in told
    given(tmp_path, days=-1)
    told = _failing_door(settings)[0]
    assert "mesh.pem has ended; the gateway shows the one before" in told
    assert _failing_door(Settings(folder=tmp_path)) == []


def test_hosts_of_apis_below_its_names_are_in_it_and_of_others_it_is_told(tmp_path: Path) -> None:
    settings = made_by_mesh(tmp_path, "example.com", "*.wild.example.net")
    door = DoorCertificate(settings)
    door.keep()
    authority = (settings.state_folder / AUTHORITY).read_text()
    hosts = ["api.example.com", "a.b.example.com", "x.wild.example.net", "other.example.org", "x.127.0.0.1"]
    door.of_hosts(hosts)
    assert door.keep()  # at once
    found = shown(settings)
    assert found is not None
    assert {"example.com", "api.example.com", "a.b.example.com"} <= set(found.names)
    assert not {"x.wild.example.net", "other.example.org", "x.127.0.0.1"} & set(found.names)
    assert found.uncovered == ("other.example.org", "x.127.0.0.1")  # the star is for the one that is left
    (told,) = _failing_door(settings)
    assert "is not for other.example.org, x.127.0.0.1" in told
    assert "gateway_tls.names" in told
    assert "other.example.org, x.127.0.0.1: name it in gateway_tls.names" in not_for(settings, hosts)
    assert not_for(settings, hosts[:3]) == ""
    assert (settings.state_folder / AUTHORITY).read_text() == authority  # callers need not trust anew
    assert not DoorCertificate(settings).keep()  # another process knows the hosts
    door.of_hosts(hosts)
    assert not door.keep(now() + 10)
    door.of_hosts([])
    assert door.keep()
    found = shown(settings)
    assert found is not None
    assert ("api.example.com" in found.names, found.uncovered) == (False, ())


def test_of_ones_own_certificate_it_is_told_which_hosts_it_lacks(tmp_path: Path) -> None:
    settings = given(tmp_path)
    assert not_for(settings, ["api.example.com"]) == ""  # nothing is shown yet
    door = DoorCertificate(settings)
    door.of_hosts(["api.example.com"])
    door.keep()
    found = shown(settings)
    assert found is not None
    assert found.uncovered == ("api.example.com",)
    assert not_for(settings, found.names) == ""
    assert not_for(settings, ["api.example.com"]).endswith("put a certificate in place that is for it")
    assert not_for(replace(settings, gateway_tls=None), ["api.example.com"]) == ""
