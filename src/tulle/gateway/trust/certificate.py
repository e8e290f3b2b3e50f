"""Making and reading the certificates of a mesh: a root, an intermediate below it, and those of its parts.

Keys are EC P-256. Times are seconds since the epoch. Pure but for the keys' randomness: knows nothing of files, of the
database, and of when a certificate is to be made anew.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tulle.errors import Broken
from tulle.gateway.trust.identity import Identity

SKEW_SECONDS: Final = 600.0  # by which clocks may differ: a certificate holds as much earlier than it is made


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key, both PEM. Its text never has the key."""

    certificate: str
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a certificate says: whose it is (`uri`, empty of an authority's), from when to when, and who signed it."""

    uri: str
    host: str
    begins_at: float
    ends_at: float
    serial: str
    issuer: str

    def holds(self, at: float) -> bool:
        """Whether it is valid at a time."""
        return self.begins_at <= at < self.ends_at


def make_root(domain: str, name: str, at: float, life: float) -> Pair:
    """A root of the trust domain, called `name`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _named(domain, f"root {name}")
    return _signed(_authority(subject, key, at, life, depth=1), subject, key, key, key.public_key())


def make_intermediate(root: Pair, domain: str, name: str, at: float, life: float) -> Pair:
    """An intermediate that signs certificates of parts, and no authorities. It ends with its root at the latest."""
    signer, signing_key = _read(root)
    key = ec.generate_private_key(ec.SECP256R1())
    life = min(life, _seconds(signer.not_valid_after_utc) - at)
    made = _authority(_named(domain, f"intermediate {name}"), key, at, life, depth=0)
    return _signed(made, signer.subject, key, signing_key, signing_key.public_key())


def make_leaf(issuer: Pair, identity: Identity, at: float, life: float) -> Pair:
    """The certificate of one part, followed by its issuer's; it ends with its issuer at the latest."""
    signer, signing_key = _read(issuer)
    key = ec.generate_private_key(ec.SECP256R1())
    ends = min(at + life, _seconds(signer.not_valid_after_utc))
    usage = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    names = [x509.UniformResourceIdentifier(identity.uri), x509.DNSName(identity.host)]
    made = (
        # Who it is says the URI: a subject has at most 64 characters, and the standard leaves it empty then.
        _builder(x509.Name([]), key, at - SKEW_SECONDS, ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
    )
    leaf = _signed(made, signer.subject, key, signing_key, signing_key.public_key())
    return Pair(leaf.certificate + issuer.certificate, leaf.key)


def facts(pem: str) -> Facts:
    """What the first certificate of a PEM text says. Broken when there is none."""
    try:
        found = x509.load_pem_x509_certificates(pem.encode())[0]
    except (ValueError, IndexError) as exc:
        raise Broken(f"a certificate cannot be read: {exc}", hint="`tulle trust show` tells which") from None
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        hosts = names.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        uris, hosts = [], []
    return Facts(
        next(iter(uris), ""),
        next(iter(hosts), ""),
        _seconds(found.not_valid_before_utc),
        _seconds(found.not_valid_after_utc),
        f"{found.serial_number:x}",
        found.issuer.rfc4514_string(),
    )


def _named(domain: str, what: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, domain),
            x509.NameAttribute(NameOID.COMMON_NAME, what),
        ]
    )


def _authority(
    subject: x509.Name, key: ec.EllipticCurvePrivateKey, at: float, life: float, *, depth: int
) -> x509.CertificateBuilder:
    """One that signs, with at most `depth` authorities below it."""
    return (
        _builder(subject, key, at - SKEW_SECONDS, at + life)
        .add_extension(x509.BasicConstraints(ca=True, path_length=depth), critical=True)
        .add_extension(key_usage(signs=True), critical=True)
    )


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePrivateKey, begins: float, ends: float
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_moment(begins))
        .not_valid_after(_moment(ends))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _signed(
    made: x509.CertificateBuilder,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signing_key: ec.EllipticCurvePrivateKey,
    signing_public: ec.EllipticCurvePublicKey,
) -> Pair:
    by = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_public)
    certificate = (
        made.issuer_name(issuer).add_extension(by, critical=False).sign(signing_key, hashes.SHA256())
    )
    return as_pair(certificate, key)


def as_pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    """Both as PEM; whoever keeps the key encrypts it, or keeps it in a file of his own."""
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    private = key.private_bytes(encoding, form, serialization.NoEncryption())
    return Pair(certificate.public_bytes(encoding).decode(), private.decode())


def key_usage(*, signs: bool) -> x509.KeyUsage:
    """What the key of a certificate is for: signing certificates, or showing who one is."""
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _read(pair: Pair) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        certificate = x509.load_pem_x509_certificate(pair.certificate.encode())
        key = serialization.load_pem_private_key(pair.key.encode(), None)
    except (ValueError, TypeError) as exc:
        raise Broken(
            f"what is kept of the mesh's authority cannot be read: {exc}",
            hint="`tulle trust rotate --at-once` makes a new one",
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Broken("the key of the mesh's authority is not of the kind that we make")
    return certificate, key


def _moment(at: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(int(at), dt.UTC)


def _seconds(moment: dt.datetime) -> float:
    return moment.timestamp()
