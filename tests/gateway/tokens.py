"""An issuer of tokens: RSA and EC keys of a test's own, their public part, and tokens signed with them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

ISSUER = "https://issuer.example/"


def encoded(data: bytes | dict[str, Any]) -> str:
    """As tokens have it: base64url of bytes, or of JSON."""
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _octets(number: int, length: int = 0) -> str:
    return encoded(number.to_bytes(length or (number.bit_length() + 7) // 8))


@dataclass
class Issuer:
    """Signs with RSA unless told otherwise."""

    rsa_key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))
    ec_key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    ed_key: ed25519.Ed25519PrivateKey = field(default_factory=ed25519.Ed25519PrivateKey.generate)
    wide_key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP384R1())
    )

    def public_keys(self) -> dict[str, Any]:
        """The JWK set."""
        numbers = self.rsa_key.public_key().public_numbers()
        point = self.ec_key.public_key().public_numbers()
        wide = self.wide_key.public_key().public_numbers()
        return {
            "keys": [
                {"kty": "RSA", "kid": "r", "n": _octets(numbers.n), "e": _octets(numbers.e)},
                {
                    "kty": "EC",
                    "kid": "e",
                    "crv": "P-256",
                    "x": _octets(point.x, 32),
                    "y": _octets(point.y, 32),
                },
                {
                    "kty": "EC",
                    "kid": "w",
                    "crv": "P-384",
                    "x": _octets(wide.x, 48),
                    "y": _octets(wide.y, 48),
                },
                {
                    "kty": "OKP",
                    "kid": "d",
                    "crv": "Ed25519",
                    "x": encoded(self.ed_key.public_key().public_bytes_raw()),
                },
            ]
        }

    def token(self, alg: str = "RS256", *, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token that holds for a minute; a claim of None is left out. `header` is what else its head says."""
        said = {
            "iss": ISSUER,
            "aud": "services",
            "exp": int(time.time()) + 60,
            "client_id": "warehouse-app",
            "scope": "read predict",
        } | claims
        head = {"alg": alg, "kid": {"ES256": "e", "ES384": "w", "EdDSA": "d"}.get(alg, "r"), "typ": "JWT"}
        head |= header or {}
        text = f"{encoded(head)}.{encoded({k: v for k, v in said.items() if v is not None})}"
        return f"{text}.{encoded(self._signature(alg, text.encode()))}"

    def _signature(self, alg: str, data: bytes) -> bytes:
        if alg == "none":
            return b""
        if alg == "HS256":  # with what everybody knows: the modulus
            return hmac.digest(
                str(self.rsa_key.public_key().public_numbers().n).encode(), data, hashlib.sha256
            )
        if alg == "ES256":
            r, s = decode_dss_signature(self.ec_key.sign(data, ec.ECDSA(hashes.SHA256())))
            return r.to_bytes(32) + s.to_bytes(32)
        if alg == "ES384":
            r, s = decode_dss_signature(self.wide_key.sign(data, ec.ECDSA(hashes.SHA384())))
            return r.to_bytes(48) + s.to_bytes(48)
        if alg == "EdDSA":
            return self.ed_key.sign(data)
        if alg == "PS256":
            return self.rsa_key.sign(data, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
        digest = hashes.SHA512() if alg == "RS512" else hashes.SHA256()
        return self.rsa_key.sign(data, padding.PKCS1v15(), digest)


def bearer(token: str) -> dict[str, str]:
    """The header."""
    return {"authorization": f"Bearer {token}"}
