"""What a connection may say, by its kind, and what of it must never be shown.

A password written into an address is taken out of it and kept among the secrets. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from tulle.errors import Denied, Invalid, did_you_mean
from tulle.pipeline.sources import client_credentials
from tulle.pipeline.sources.client_credentials import OAUTH2, check_client_credentials
from tulle.pipeline.sources.hidden import looks_secret, parameters
from tulle.spec.source import CONNECTION_NAME, HTTP, LDAP, REDIS, SQL, STORE
from tulle.state.connections import Connection

KINDS = (SQL, STORE, HTTP, REDIS, LDAP)
PROD = "prod"
APIS = "apis"  # the option that lets APIs of these products lead to what is behind a connection
FILL = "fill"  # the option that opens a connection to what the lake fills
_SCHEMES = {
    SQL: ("postgresql", "mysql", "mariadb", "sqlite", "jdbc"),
    STORE: ("s3", "gs", "az", "https"),
    HTTP: ("http", "https"),
    REDIS: ("redis", "rediss"),
    LDAP: ("ldap", "ldaps"),
}
_EXAMPLES = {
    SQL: "postgresql://host:5432/shop, mysql://host:3306/shop, sqlite:////folder/shop.db or jdbc:…",
    STORE: "s3://bucket/prefix, gs://bucket/prefix or https://account.blob.core.windows.net/container",
    HTTP: "https://api.example.org/v1",
    REDIS: "redis://host:6379/0, or rediss://host:6379/0 for TLS",
    LDAP: "ldaps://directory.example.org, or ldap://directory.example.org, where TLS is begun by StartTLS",
}
SSL_MODES = ("disable", "prefer", "require", "verify-ca", "verify-full")
PRODUCT_NAME = r"[a-z0-9][a-z0-9-]{2,62}"
_MYSQL_PARAMETERS = ("unix_socket", "ssl_ca")
OPTIONS: Mapping[str, Mapping[str, str]] = {
    SQL: {
        "user": "whom to sign in as",
        "jar": "jdbc: the absolute path of the driver's jar; several apart by ':'",
        "driver": "jdbc: the driver's class; default: as its jar says",
        "sslmode": "postgresql and mysql: disable, prefer, require, verify-ca or verify-full",
        FILL: "postgresql: the products whose services may fill tables there, with commas; * for all",
    },
    STORE: {
        "access_key_id": "s3: the id of the access key",
        "region": "s3: the region of the bucket",
        "endpoint": "s3: the URL of a server that is not Amazon's",
        "account": "azure: the account's name, for az://",
    },
    HTTP: {
        "auth": "bearer, basic, header or oauth2; without it none",
        "user": "basic: the user's name",
        "header": "header: the name of the header that carries the token, such as X-Api-Key",
        **client_credentials.OPTIONS,
        APIS: "the products whose APIs may lead there, signed in, with commas; * for all",
    },
    REDIS: {
        "user": "whom to sign in as; without it the server's default user",
        "ca_file": "rediss: the absolute path of the certificates to trust, in place of the machine's",
        FILL: "the products whose services may fill keys there, with commas; * for all",
    },
    LDAP: {
        "user": "the distinguished name to sign in as; without it nobody's",
        "ca_file": "the absolute path of the certificates to trust, in place of the machine's",
        "tls": "ldap: none, for a directory of this machine that has no TLS",
    },
}
SECRETS: Mapping[str, Mapping[str, str]] = {
    SQL: {
        "password": "the password of the user; jdbc: any other secret of the driver by its name, such as sslpassword"
    },
    STORE: {
        "secret_access_key": "s3: the secret of the access key",
        "session_token": "s3: of temporary credentials",
        "service_account_key": "gs: the JSON of the service account's key",
        "account_key": "azure: the account's key",
        "sas_token": "azure: a shared access signature",
    },
    HTTP: {
        "token": "bearer and header: what is sent",
        "password": "basic: the password of the user",
        "client_secret": "oauth2: the secret of the client",
    },
    REDIS: {"password": "the password of the user"},
    LDAP: {"password": "the password of the user"},
}
_PROPERTY = re.compile(r"[A-Za-z_][\w.\-]{0,99}")  # the name of a property of a JDBC driver


def environment_of(branch: str) -> str:
    """The environment whose connections a branch uses."""
    return PROD if branch in {"", "main"} else branch


def made(
    name: str,
    environment: str,
    kind: str,
    address: str,
    options: Mapping[str, str],
    secrets: Mapping[str, str],
) -> Connection:
    """A connection that can be used. Invalid, naming what is wrong with it, never with a secret in the message."""
    for what, value in (("connection", name), ("environment", environment)):
        if not re.fullmatch(CONNECTION_NAME, value):
            hint = "lower-case letters, digits, '-' and '_', such as shop-db"
            raise Invalid(f"'{value[:80]}' is no name for a {what}", hint=hint)
    if kind not in KINDS:
        raise Invalid(f"there is no kind of connection '{kind[:80]}'", hint=did_you_mean(kind, KINDS))
    scheme = address.partition(":")[0].lower()
    for what, given, known in (("option", options, OPTIONS[kind]), ("secret", secrets, SECRETS[kind])):
        for key, text in given.items():
            is_property = scheme == "jdbc" and what == "secret" and _PROPERTY.fullmatch(key)
            if key not in known and not is_property:
                raise Invalid(
                    f"{_a(kind)} connection has no {what} '{key[:80]}'", hint=did_you_mean(key, known)
                )
            if any(ord(sign) < 32 for sign in text) and key != "service_account_key":
                raise Invalid(f"the {what} '{key}' has a line break or another control character in it")
    if scheme not in _SCHEMES[kind] or any(ord(sign) <= 32 for sign in address):
        raise Invalid(f"the address is none of {_a(kind)} connection", hint=f"write {_EXAMPLES[kind]}")
    plain, user, password = (address, None, None) if scheme == "jdbc" else _split(address)
    found = {**({"user": user} if user and "user" in OPTIONS[kind] else {}), **options}
    kept = {**({"password": password} if password and "password" in SECRETS[kind] else {}), **secrets}
    _check(scheme, plain, found)
    if kind in {REDIS, LDAP} and "user" in found and "password" not in kept:
        raise Invalid("a user is given, but no password", hint="add --secret password")
    if kind == HTTP:
        _check_auth(found, kept)
    return Connection(name, environment, kind, plain, found, kept)


def _a(kind: str) -> str:
    return f"an {kind}" if kind in {HTTP, SQL} else f"a {kind}"


def _split(address: str) -> tuple[str, str | None, str | None]:
    """An address without user and password, and these; a password among its parameters is taken out too."""
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        raise Invalid("the address cannot be read", hint="percent-encode special signs in it") from None
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    inner = next((value for key, value in pairs if key == "password"), None)
    for key, value in pairs:
        if key != "password" and looks_secret(key, value):
            raise Invalid(
                f"the address has '{key}' in it, which looks like a secret", hint="give it as --secret"
            )
    query = urlencode([(k, v) for k, v in pairs if k != "password"], quote_via=quote, safe="/")
    host = parts.netloc.rpartition("@")[2]
    plain = urlunsplit(parts._replace(netloc=host, query=query, fragment=""))
    if address.startswith(f"{parts.scheme}:///") and not host:  # urlunsplit drops an empty host
        plain = f"{parts.scheme}://{parts.path}" + (f"?{query}" if query else "")
    user = unquote(parts.username) if parts.username else None
    return plain, user, unquote(parts.password) if parts.password else inner


def _check(scheme: str, address: str, options: Mapping[str, str]) -> None:
    """What one kind of connection asks for beyond the others."""
    if FILL in options:
        _check_fill(scheme, options[FILL])
    if APIS in options:
        _check_products(APIS, options[APIS])
    if scheme == "jdbc":
        _check_jdbc(address, options)
    elif scheme in {"mysql", "mariadb"}:
        _check_mysql(address, options)
    elif scheme == "sqlite" and not address.startswith("sqlite:////"):
        hint = "write sqlite:////folder/shop.db, with four '/'"
        raise Invalid("the address names no absolute file", hint=hint)
    elif scheme in _SCHEMES[LDAP]:
        _check_ldap(address, options)
    elif scheme in _SCHEMES[REDIS]:
        _check_redis(address, options)


def _check_fill(scheme: str, said: str) -> None:
    if scheme not in {"postgresql", "redis", "rediss"}:
        raise Invalid(f"the lake fills no {scheme} database", hint="leave the option 'fill' out")
    _check_products(FILL, said)


def _check_products(option: str, said: str) -> None:
    names = names_in(said)
    if not names or not all(name == "*" or re.fullmatch(PRODUCT_NAME, name) for name in names):
        hint = f"--option {option}=orders,customers, or {option}='*'"
        raise Invalid(f"the option '{option}' names no products", hint=hint)


def names_in(said: str) -> tuple[str, ...]:
    """The names in a list with commas."""
    return tuple(name.strip() for name in said.split(",") if name.strip())


def demand_led_to(connection: Connection, product: str) -> None:
    """Refuse to have APIs of a product lead to what is behind a connection, unless it says that they may. Denied."""
    said = names_in(connection.options.get(APIS, ""))
    if "*" in said or product in said:
        return
    told = ",".join((*said, product))
    raise Denied(
        f"connection '{connection.name}' in environment '{connection.environment}' is not for APIs of product "
        f"'{product}'",
        hint=f"who owns it lets them: `tulle connection set {connection.name} … --option {APIS}={told}`",
    )


def demand_fillable(connection: Connection, product: str) -> None:
    """Refuse to have services of a product fill what a connection leads to, unless it says that they may. Denied."""
    said = names_in(connection.options.get(FILL, ""))
    if "*" in said or product in said:
        return
    told = ",".join((*said, product))
    raise Denied(
        f"connection '{connection.name}' in environment '{connection.environment}' may not be filled by services of "
        f"product '{product}'",
        hint=f"who owns it lets them: `tulle connection set {connection.name} … --option fill={told}`",
    )


def _check_ldap(address: str, options: Mapping[str, str]) -> None:
    parts = urlsplit(address)
    if not parts.hostname or parts.path.strip("/") or parts.query:
        raise Invalid("the address is not that of a host alone", hint=f"write {_EXAMPLES[LDAP]}")
    if "ca_file" in options and not options["ca_file"].startswith("/"):
        raise Invalid("ca_file is no absolute path", hint="--option ca_file=/etc/ssl/directory.pem")
    if "tls" in options:
        is_here = parts.hostname in {"localhost", "127.0.0.1", "::1"}
        if options["tls"] != "none" or parts.scheme == "ldaps" or not is_here:
            raise Invalid(
                "tls=none is for ldap:// of this machine alone: passwords are sent there",
                hint="leave the option out: TLS is begun by StartTLS, or write ldaps://",
            )


def _check_redis(address: str, options: Mapping[str, str]) -> None:
    parts = urlsplit(address)
    if not parts.hostname:
        raise Invalid("the address names no host", hint=f"write {_EXAMPLES[REDIS]}")
    if not re.fullmatch(r"(/[0-9]{0,5})?", parts.path) or parts.query:
        hint = "write redis://host:6379/0, with nothing behind the number"
        raise Invalid(
            "the address has more in it than a host, a port and the number of a database", hint=hint
        )
    if "ca_file" in options:
        if parts.scheme != "rediss":
            hint = "write rediss:// in place of redis://"
            raise Invalid("ca_file is given, but the address is without TLS", hint=hint)
        if not options["ca_file"].startswith("/"):
            raise Invalid("ca_file is no absolute path", hint="--option ca_file=/etc/ssl/redis.pem")


def _check_jdbc(address: str, options: Mapping[str, str]) -> None:
    if re.search(
        r"(password|pwd)\s*=|://[^/@]*:[^/@]*@|^jdbc:oracle:\w+:[^/@]+/[^@]*@", address, re.IGNORECASE
    ):
        raise Invalid("the address has a password in it", hint="give it as --secret password")
    for key, value in parameters(address):
        if looks_secret(key, value):
            hint = f"give it as --secret {key}: it is kept encrypted and handed to the driver"
            raise Invalid(f"the address has '{key[:40]}' in it, which looks like a secret", hint=hint)
    jars = options.get("jar", "").split(":")
    if not all(jar.startswith("/") for jar in jars):
        hint = "--option jar=/usr/share/java/postgresql.jar"
        raise Invalid("a jdbc connection needs the absolute path of the driver's jar", hint=hint)


def _check_mysql(address: str, options: Mapping[str, str]) -> None:
    for key, _value in parse_qsl(urlsplit(address).query, keep_blank_values=True):
        if key not in _MYSQL_PARAMETERS:
            hint = did_you_mean(key, _MYSQL_PARAMETERS)
            raise Invalid(f"the address has '{key[:40]}' in it, which means nothing here", hint=hint)
    mode = options.get("sslmode", "prefer")
    if mode not in SSL_MODES:
        raise Invalid(f"there is no sslmode '{mode[:40]}'", hint=did_you_mean(mode, SSL_MODES))


def _check_auth(options: Mapping[str, str], secrets: Mapping[str, str]) -> None:
    auth = options.get("auth", "")
    needs = {
        "": ((), ()),
        "bearer": ((), ("token",)),
        "basic": (("user",), ("password",)),
        "header": (("header",), ("token",)),
        OAUTH2: (("token_url", "client_id"), ("client_secret",)),
    }
    if auth not in needs:
        raise Invalid(
            f"there is no way '{auth[:40]}' to sign in", hint="write bearer, basic, header or oauth2"
        )
    for what, wanted, given in (("option", needs[auth][0], options), ("secret", needs[auth][1], secrets)):
        for key in wanted:
            if key not in given:
                raise Invalid(f"auth={auth} needs the {what} '{key}'", hint=f"add --{what} {key}")
    if not auth and secrets:
        raise Invalid("a secret is given, but not how to sign in with it", hint="add --option auth=bearer")
    if auth == OAUTH2:
        check_client_credentials(options, secrets)
    elif further := sorted(options.keys() & client_credentials.OPTIONS.keys()):
        raise Invalid(
            f"the option '{further[0]}' is for auth={OAUTH2} alone", hint=f"add --option auth={OAUTH2}"
        )
