"""Who may call a service: by which ways callers show who they are, as its file or its deployment says.

The ways may be mixed: applications with a contract, API keys of the service alone, signed tokens (JWT) of an
issuer, everybody. Pure but for reading a file of public keys. Knows nothing of the gateway that enforces it, and
not which applications and keys there are.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tulle.errors import Broken, Invalid, Problem
from tulle.spec.document import Document, refuse
from tulle.spec.load import Schema, load_document, validate
from tulle.spec.rate_limit import RATE_SCHEMA, RateLimit

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
LARGEST_KEYS: Final = 65_536  # bytes of a set of public keys
MOST_KEYS: Final = 100  # in a set: a token that names none is held against each
LEAST_RSA_BITS: Final = 2048


@dataclass(frozen=True, slots=True)
class Keys:
    """API keys of the service; `limit` is that of a key made without one, empty: the mesh's default."""

    limit: str = ""


@dataclass(frozen=True, slots=True)
class Public:
    """Everybody, without credentials; `limit` is for all of them together, or for each address."""

    limit: str
    by: Literal["all", "address"] = "all"


@dataclass(frozen=True, slots=True)
class Tokens:
    """Signed tokens (JWT) of one issuer, checked with its public keys: `jwks` (JSON) or those at `jwks_uri`.

    A token must be of `issuer`, for one of `audiences` when there are any, hold every one of `scopes` in the claim
    `scope_claim`, and name its client in `client_claim`; a dot leads to a claim inside another. `limit` is for each
    such client. `claims`: each of these must be there with one of its values, as text or in a list. With `contract` the
    client must be the id of an application that has a contract: the caller is that application, under its limits.
    `max_age`: seconds since `iat` after which a token opens nothing any more; 0: as long as its `exp` says.
    """

    issuer: str
    audiences: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    scope_claim: str = "scope"
    client_claim: str = "client_id"
    jwks: str = ""
    jwks_uri: str = ""
    timeout: float = 5.0  # seconds a fetch of the keys may take
    refresh: float = 300.0  # seconds after which they are fetched again
    limit: str = ""
    claims: tuple[tuple[str, tuple[str, ...]], ...] = ()
    contract: bool = False
    max_age: float = 0.0


@dataclass(frozen=True, slots=True)
class Access:
    """The ways by which a service may be called; without a word, by contract alone."""

    contracts: bool = True
    api_keys: Keys | None = None
    public: Public | None = None
    jwt: Tokens | None = None

    def ways(self) -> tuple[str, ...]:
        """The names of the ways, in the order of this class."""
        return tuple(name for name in ("contracts", "api_keys", "public", "jwt") if getattr(self, name))

    def as_plain(self) -> dict[str, Any]:
        """The form that a package and the database keep, and that `access_of` reads."""
        return {name: msgspec.to_builtins(getattr(self, name)) for name in self.ways()}


def access_of(plain: Mapping[str, Any]) -> Access:
    """What `Access.as_plain` gave, empty: the usual. Broken when it is damaged."""
    if not plain:
        return Access()
    try:
        return msgspec.convert({"contracts": False, **plain}, Access)
    except msgspec.ValidationError as exc:
        raise Broken(
            f"who may call a service cannot be read: {exc}", hint="build the package again"
        ) from None


def _object(properties: Mapping[str, Any], description: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "description": description,
        **more,
    }


_LIMIT = {**RATE_SCHEMA, "description": "requests/period, such as 50/1s"}
_CLAIM = {
    "type": "string",
    "pattern": r"^[A-Za-z0-9_:-]{1,100}(\.[A-Za-z0-9_:-]{1,100}){0,4}$",
    "x-expected": "the name of a claim, with dots between those that are in one another",
}
_TEXTS = {"type": "array", "minItems": 1, "items": {"type": "string", "pattern": r"^[\x21-\x7e]{1,500}$"}}
_SECONDS = {"type": "number", "maximum": 86_400}

ACCESS_SCHEMA: Final[Mapping[str, Any]] = _object(
    {
        "contracts": {"type": "boolean", "description": "applications that have a contract"},
        "api_keys": {
            **_object({"limit": _LIMIT}, "API keys of this service alone"),
            "type": ["object", "boolean"],
            "x-expected": "true, or {limit: 20/1s}",
        },
        "public": _object(
            {"limit": _LIMIT, "by": {"enum": ["all", "address"], "description": "whom the limit is for"}},
            "everybody, without credentials",
            required=["limit"],
        ),
        "jwt": _object(
            {
                "issuer": {
                    "type": "string",
                    "pattern": r"^[\x21-\x7e]{1,500}$",
                    "x-expected": "text without spaces",
                    "description": "who signs the tokens: their claim `iss`",
                },
                "audience": {
                    **_TEXTS,
                    "type": ["string", "array"],
                    "description": "what `aud` must have one of",
                },
                "scopes": {**_TEXTS, "description": "what a token must have all of"},
                "scope_claim": _CLAIM,
                "client_claim": _CLAIM,
                "claims": {
                    "type": "object",
                    "minProperties": 1,
                    "maxProperties": 20,
                    "propertyNames": {"pattern": _CLAIM["pattern"]},
                    "additionalProperties": {**_TEXTS, "type": ["string", "array"]},
                    "description": "claims that a token must have, each with one of these values",
                },
                "jwks": {"type": "object", "description": "the issuer's public keys: {keys: [...]}"},
                "jwks_file": {"type": "string", "description": "a file beside this one that holds them"},
                "jwks_uri": {"type": "string", "description": "where the gateway fetches them"},
                "timeout": {
                    **_SECONDS,
                    "minimum": 0.1,
                    "maximum": 60,
                    "description": "seconds for a fetch (5)",
                },
                "refresh": {**_SECONDS, "minimum": 10, "description": "seconds between fetches (300)"},
                "max_age": {
                    "type": "number",
                    "minimum": 1,
                    "maximum": 31_536_000,
                    "description": "seconds since `iat` after which a token opens nothing, whatever its `exp` says",
                },
                "limit": _LIMIT,
                "contract": {
                    "type": "boolean",
                    "description": "only applications with a contract, by client id; the caller is that one (false)",
                },
            },
            "signed tokens of an issuer",
            required=["issuer"],
        ),
    },
    "by which ways callers may call; without it, applications that have a contract",
    minProperties=1,
)
_SCHEMA = Schema(ACCESS_SCHEMA)


def parse_access(text: str, *, name: str = "access", is_recorded: bool = False) -> Access:
    """What is said apart from a services file, as YAML or JSON; Invalid with every problem and its place.

    `is_recorded`: it is not said now, so it may have more public keys than anybody may say.
    """
    document = load_document(text, name=name)
    problems = validate(document, _SCHEMA)
    if not problems:
        found, problems = read_access(document, (), None, is_recorded=is_recorded)
    refuse(name, problems)
    return found


def read_access(
    document: Document, path: tuple[str | int, ...], folder: Path | None, *, is_recorded: bool = False
) -> tuple[Access, list[Problem]]:
    """The part of `document` at `path`, which the schema found well-formed, and what is wrong with it.

    `folder` is where files of keys are; without one they are refused. `is_recorded` as `parse_access` says.
    """
    raw = document.at(path)
    problems: list[Problem] = []

    def wrong(message: str, *steps: str, hint: str | None = None) -> None:
        problems.append(document.problem(message, (*path, *steps), hint=hint))

    for way in ("api_keys", "public", "jwt"):
        limit = raw[way].get("limit") if isinstance(raw.get(way), dict) else None
        if limit is not None:
            try:
                RateLimit.parse(limit)
            except Invalid as exc:
                wrong(exc.message, way, "limit", hint=exc.hint)
    if not any(raw.values()):
        wrong("nobody may call the service", hint="let `contracts`, `api_keys`, `jwt` or `public` be true")
    keys = raw.get("api_keys")
    found = Access(
        contracts=bool(raw.get("contracts", False)),
        api_keys=Keys(**keys) if isinstance(keys, dict) else Keys() if keys else None,
        public=Public(**raw["public"]) if "public" in raw else None,
    )
    if "jwt" not in raw:
        return found, problems
    said = dict(raw["jwt"])
    if said.get("contract") and "limit" in said:
        wrong(
            "the tokens' clients have the limits of their contracts",
            "jwt",
            "limit",
            hint="leave out `limit`, or `contract`",
        )
    sources = [key for key in ("jwks", "jwks_file", "jwks_uri") if key in said]
    if len(sources) != 1:
        wrong(
            f"the issuer's public keys are {'said twice' if sources else 'not said'}",
            "jwt",
            hint="give one of `jwks_uri`, `jwks_file` and `jwks`",
        )
        return found, problems
    jwks = ""
    try:
        if sources == ["jwks_uri"]:
            check_uri(said["jwks_uri"])
        else:
            jwks = _key_set(said, folder, is_recorded)
    except Invalid as exc:
        wrong(exc.message, "jwt", sources[0], hint=exc.hint)
    audience = said.get("audience", ())
    more = {key: said[key] for key in _AS_SAID if key in said}
    tokens = Tokens(
        audiences=(audience,) if isinstance(audience, str) else tuple(audience),
        scopes=tuple(said.get("scopes", ())),
        claims=tuple(
            (name, (values,) if isinstance(values, str) else tuple(values))
            for name, values in sorted(said.get("claims", {}).items())
        ),
        jwks=jwks,
        **more,
    )
    return Access(found.contracts, found.api_keys, found.public, tokens), problems


_AS_SAID = (
    *("issuer", "scope_claim", "client_claim", "jwks_uri", "timeout", "refresh"),
    *("limit", "contract", "max_age"),
)


def check_uri(uri: str) -> None:
    """Invalid unless keys may be fetched there: https, or http of this machine, where nobody is in between.

    What the gateway would not take as an address is refused here, or it would refuse every other change as well.
    """
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port, parts = "", 0, urlsplit("")
    fine = _is_host(host) and port != 0 and not parts.username and _PLAIN.fullmatch(uri) is not None
    if not fine or not (parts.scheme == "https" or (parts.scheme == "http" and _is_here(host))):
        raise Invalid(
            f"'{uri}' is no address of public keys",
            hint="an https:// address, without user and password; http:// only of this machine",
        )


_PLAIN: Final = re.compile(r"[\x21-\x7e]{1,2000}")
_LABEL: Final = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_NAME: Final = re.compile(rf"{_LABEL}(\.{_LABEL})*")


def _is_host(host: str) -> bool:
    """Whether this is a host's name, or an address without a zone."""
    if _NAME.fullmatch(host) is not None:
        return len(host) <= 253
    try:
        return ipaddress.ip_address(host).version == 6 and "%" not in host
    except ValueError:
        return False


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def demand_few(keys: Sequence[Any]) -> None:
    """Refuse more public keys in a set than may be said. Invalid."""
    if len(keys) > MOST_KEYS:
        message = f"these are {len(keys)} public keys, at most {MOST_KEYS} are accepted"
        raise Invalid(message, hint="leave out those that nobody signs with any more")


def _key_set(said: Mapping[str, Any], folder: Path | None, is_recorded: bool = False) -> str:
    """The public keys as JSON; Invalid for what is no set of them, or must not be here."""
    found = said.get("jwks")
    if found is None:
        found = _from_file(said["jwks_file"], folder)
    keys = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(keys, list) or not keys:
        raise Invalid("this is no set of public keys", hint="a JWK set is {keys: [{kty: RSA, …}, …]}")
    if not is_recorded:
        demand_few(keys)
    for number, key in enumerate(keys, 1):
        _check_key(key, number)
    try:
        json.dumps(keys, ensure_ascii=False).encode()
        text = json.dumps({"keys": keys}, sort_keys=True, allow_nan=False)
    except (ValueError, TypeError, RecursionError):  # who checks with them reads no more than JSON has
        raise Invalid("the public keys hold something that JSON has no word for") from None
    if len(text) > LARGEST_KEYS:
        raise Invalid(f"the public keys are {len(text)} bytes, at most {LARGEST_KEYS} are accepted")
    return text


def _from_file(name: str, folder: Path | None) -> Any:
    if folder is None:
        raise Invalid("a file cannot be named here", hint="give the keys themselves as `jwks`")
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise Invalid(f"'{name}' is not beside the services file")
    try:
        if path.stat().st_size > LARGEST_KEYS:
            raise Invalid(f"'{name}' is larger than {LARGEST_KEYS} bytes")
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise Invalid(f"'{name}' cannot be read: {exc.strerror}") from None
    except (ValueError, RecursionError):
        raise Invalid(f"'{name}' is no JSON") from None


def _check_key(key: Any, number: int) -> None:
    kind = str(key.get("kty")) if isinstance(key, dict) else ""
    if kind == "oct":
        raise Invalid(
            f"key {number} is a shared secret", hint="tokens are signed with RSA, EC or Ed25519 keys"
        )
    if kind not in _PARTS:
        raise Invalid(f"key {number} is of no kind that is known", hint="kty is RSA, EC or OKP")
    if "d" in key:
        raise Invalid(f"key {number} is a private key", hint="give the public part alone, and make a new key")
    for part in _PARTS[kind]:
        if not isinstance(key.get(part), str):
            raise Invalid(f"key {number} lacks '{part}'")
    fitting = _algorithms_of(kind, key.get("crv"))
    if "alg" in key and key["alg"] not in fitting:
        raise Invalid(
            f"key {number} is for '{key['alg']}', which is not accepted",
            hint=", ".join(fitting or ALGORITHMS),
        )
    if not isinstance(key.get("kid", ""), str):
        raise Invalid(f"key {number} has a 'kid' that is no text")
    try:
        bits = _public_key(kind, {part: key[part] for part in _PARTS[kind]})
    except (ValueError, UnsupportedAlgorithm):
        raise Invalid(f"key {number} is no {kind} key that is known") from None
    if kind == "RSA" and bits < LEAST_RSA_BITS:
        raise Invalid(f"key {number} has {bits} bits, at least {LEAST_RSA_BITS} are needed")


_PARTS: Final[Mapping[str, Sequence[str]]] = {
    "RSA": ("n", "e"),
    "EC": ("crv", "x", "y"),
    "OKP": ("crv", "x"),
}
_CURVE_OF: Final[Mapping[str, str]] = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}
_CURVES: Final[Mapping[str, type[ec.EllipticCurve]]] = {
    "P-256": ec.SECP256R1,
    "P-384": ec.SECP384R1,
    "P-521": ec.SECP521R1,
}


def _algorithms_of(kind: str, curve: Any) -> Sequence[str]:
    """What a key of this kind can check."""
    if kind == "EC":
        return [name for name, of in _CURVE_OF.items() if of == curve]
    return [name for name in ALGORITHMS if name.startswith({"RSA": ("RS", "PS"), "OKP": ("Ed",)}[kind])]


def _public_key(kind: str, parts: Mapping[str, str]) -> int:
    """Read a key as who checks with it does, since one bad key must not stop the gateway; its bits. ValueError."""
    octets = {name: _octets(text) for name, text in parts.items() if name != "crv"}
    if kind == "OKP":
        if parts["crv"] != "Ed25519":
            raise ValueError
        ed25519.Ed25519PublicKey.from_public_bytes(octets["x"])
        return 256
    numbers = {name: int.from_bytes(value) for name, value in octets.items()}
    if kind == "RSA":
        return rsa.RSAPublicNumbers(numbers["e"], numbers["n"]).public_key().key_size
    if parts["crv"] not in _CURVES:
        raise ValueError
    curve = _CURVES[parts["crv"]]()
    return ec.EllipticCurvePublicNumbers(numbers["x"], numbers["y"], curve).public_key().key_size


def _octets(text: str) -> bytes:
    if "=" in text:  # as in any token, there is no padding
        raise ValueError
    return base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
