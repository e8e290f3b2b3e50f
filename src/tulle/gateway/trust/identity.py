"""Who a part of the mesh is to the others: a SPIFFE URI and a name of the mesh's own, both in its certificate.

Pure. Knows nothing of certificates, nor of who may call whom.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

SUFFIX: Final = (
    "mesh"  # the top of the names by which parts of a mesh know one another; no public name ends so
)
_LONGEST_DOMAIN: Final = 63


@dataclass(frozen=True, slots=True)
class Identity:
    """One part of the mesh in the trust domain `domain`: a service as deployed in an environment, or the gateway."""

    domain: str
    service: str = ""
    environment: str = ""

    @property
    def uri(self) -> str:
        """`spiffe://<domain>/env/<environment>/service/<name>`, or `spiffe://<domain>/gateway`."""
        if not self.service:
            return f"spiffe://{self.domain}/gateway"
        return f"spiffe://{self.domain}/env/{self.environment}/service/{self.service}"

    @property
    def host(self) -> str:
        """`<service>.<environment>.mesh`, or `gateway.mesh`: what a caller asks for, whatever address it is at."""
        return f"{self.service}.{self.environment}.{SUFFIX}" if self.service else f"gateway.{SUFFIX}"

    @property
    def file_name(self) -> str:
        """How the file of its certificate is called, without the ending."""
        return f"service-{self.service}@{self.environment}" if self.service else "gateway"


def identity_of(uri: str) -> Identity | None:
    """The part of a mesh that a URI names, None when it names none."""
    found = _URI.fullmatch(uri)
    return Identity(found["domain"], found["service"] or "", found["env"] or "") if found else None


def domain_of(mesh: str) -> str:
    """The trust domain of a mesh that is called so: what of its name may be in one."""
    kept = re.sub(r"[^a-z0-9]+", "-", mesh.lower())[:_LONGEST_DOMAIN].strip("-")
    return kept or SUFFIX


_URI: Final = re.compile(
    r"spiffe://(?P<domain>[a-z0-9._-]+)/(?:gateway|env/(?P<env>[a-z0-9_-]+)/service/(?P<service>[a-z0-9-]+))"
)
