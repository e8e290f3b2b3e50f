"""A directory of a test's own: the real slapd on free loopback ports, with a certificate made for it."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

BASE = "dc=example,dc=com"
ADMIN, ADMIN_PASSWORD = f"cn=admin,{BASE}", "the secret of the mesh"
PASSWORDS = {"ann": "correct horse", "bob": "b*(b)\\", "o'neil,x": "comma, plus + and 1"}
_SCHEMA = Path("/etc/ldap/schema")


@dataclass
class Directory:
    """A server that runs; `ca` is the file by which it is trusted."""

    folder: Path
    port: int
    secure_port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def ca(self) -> str:
        return str(self.folder / "cert.pem")

    @property
    def secure(self) -> str:
        return f"ldaps://localhost:{self.secure_port}"

    @property
    def plain(self) -> str:
        return f"ldap://localhost:{self.port}"

    def start(self) -> None:
        listening = f"ldap://127.0.0.1:{self.port} ldaps://127.0.0.1:{self.secure_port}"
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [_program("slapd"), "-f", str(self.folder / "slapd.conf"), "-h", listening, "-d", "0"],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert self.process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def made(folder: Path, port: int, secure_port: int) -> Directory:
    """A directory with some people and groups, not started."""
    (folder / "data").mkdir()
    _certificate(folder)
    (folder / "slapd.conf").write_text(f"""
include {_SCHEMA}/core.schema
include {_SCHEMA}/cosine.schema
include {_SCHEMA}/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {folder}/slapd.pid
TLSCertificateFile {folder}/cert.pem
TLSCertificateKeyFile {folder}/key.pem
disallow bind_anon
database mdb
maxsize 10485760
suffix "{BASE}"
rootdn "{ADMIN}"
rootpw "{ADMIN_PASSWORD}"
directory {folder}/data
access to attrs=userPassword by anonymous auth by * none
access to * by * none
""")
    people = "".join(
        f"""
dn: cn={number},ou=people,{BASE}
objectClass: inetOrgPerson
cn: {number}
sn: {name}
uid: {name}
userPassword: {password}
"""
        for number, (name, password) in enumerate(PASSWORDS.items())
    )
    twice = "".join(
        f"\ndn: cn=twin{number},ou=people,{BASE}\nobjectClass: inetOrgPerson\ncn: t\nsn: t\nuid: twin\nuserPassword: twin twin\n"
        for number in range(2)
    )
    ldif = f"""
dn: {BASE}
objectClass: dcObject
objectClass: organization
o: Example

dn: ou=people,{BASE}
objectClass: organizationalUnit

dn: ou=groups,{BASE}
objectClass: organizationalUnit
{people}{twice}
dn: cn=Zoe,ou=people,{BASE}
objectClass: inetOrgPerson
cn: Zoe
sn: Z
uid: Zoe
userPassword: zoe zoe

dn: cn=analysts,ou=groups,{BASE}
objectClass: groupOfNames
member: cn=0,ou=people,{BASE}

dn: cn=all,ou=groups,{BASE}
objectClass: groupOfNames
member: cn=0,ou=people,{BASE}
member: cn=1,ou=people,{BASE}
"""
    (folder / "data.ldif").write_text(ldif)
    done = subprocess.run(
        [_program("slapadd"), "-f", str(folder / "slapd.conf"), "-l", str(folder / "data.ldif")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Directory(folder, port, secure_port)


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    assert found, f"{name} is missing: scripts/test-system-packages installs it"
    return found


def _certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(pem)
