"""Certificates for a gateway on one machine: a small authority that may sign its names alone, and what it signs.

Callers trust the authority once and need not hear of renewals. It is bound by its own certificate to the names it was
made for, so that its key, stolen, is of use for no other place. Pure but for the keys' randomness.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tulle.gateway.trust.certificate import SKEW_SECONDS, Pair, as_pair, key_usage

_LIFE_SECONDS: Final = 3650 * 86_400.0
# What the library says of certificates and keys that are damaged, locked, of another kind, or without our bounds.
_UNREADABLE: Final = (
    *(ValueError, TypeError, UnsupportedAlgorithm),
    *(x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType),
)


def make_authority(mesh: str, names: tuple[str, ...], at: float) -> Pair:
    """An authority for these names and addresses, and for no other ones."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, f"the mesh {mesh[:40]} on this machine, {int(at)}")]
    )
    made = (
        _builder(subject, subject, key.public_key(), at, at + _LIFE_SECONDS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(signs=True), critical=True)
        .add_extension(
            x509.NameConstraints([_bound(one) for one in names], excluded_subtrees=None), critical=True
        )
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    return as_pair(made.sign(key, hashes.SHA256()), key)


def covers(authority: Pair, names: tuple[str, ...], until: float) -> bool:
    """Whether an authority may sign for all these names until then; one that is damaged or not ours may not."""
    try:
        found = x509.load_pem_x509_certificate(authority.certificate.encode())
        bounds = found.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees or []
        is_own = _key(authority).public_key() == found.public_key()
    except _UNREADABLE:
        return False
    allowed = {str(one.value) for one in bounds}
    wanted = {str(_bound(one).value) for one in names}
    return is_own and wanted <= allowed and until < found.not_valid_after_utc.timestamp()


def issue(authority: Pair, names: tuple[str, ...], at: float, life: float) -> Pair:
    """A certificate for these names, with a key of its own, for so many seconds."""
    signer, signing_key = x509.load_pem_x509_certificate(authority.certificate.encode()), _key(authority)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    by = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key())
    made = (
        _builder(subject, signer.subject, key.public_key(), at, at + life)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_named(one) for one in names]), critical=False)
        .add_extension(by, critical=False)
    )
    return as_pair(made.sign(signing_key, hashes.SHA256()), key)


def ends_at(certificate: str) -> float:
    """When the first certificate of a PEM text ends, in seconds since the epoch."""
    return x509.load_pem_x509_certificates(certificate.encode())[0].not_valid_after_utc.timestamp()


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, begins: float, ends: float
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(dt.datetime.fromtimestamp(int(begins - SKEW_SECONDS), dt.UTC))
        .not_valid_after(dt.datetime.fromtimestamp(int(ends), dt.UTC))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _named(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _bound(name: str) -> x509.GeneralName:
    """What a name is bounded by: a name holds for those below it as well, an address for itself."""
    try:
        return x509.IPAddress(ipaddress.ip_network(name))
    except ValueError:
        return x509.DNSName(name.removeprefix("*."))


def _key(pair: Pair) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pair.key.encode(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("the authority's key is of another kind than we make")
    return key
