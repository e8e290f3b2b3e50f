"""What may be known of a mesh's trust, and the replacing of its authority.

Knows what is recorded and what lies in files; never a private key.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tulle.control.identities import application_of
from tulle.control.workspace import Workspace
from tulle.errors import Conflict
from tulle.gateway import applications
from tulle.gateway.trust.authority import Authority
from tulle.gateway.trust.held import certificates_of
from tulle.gateway.trust.identity import Identity
from tulle.gateway.trust.keeper import Keeper
from tulle.serving import generation
from tulle.spec.environment import production
from tulle.state.db import now


def view(workspace: Workspace) -> dict[str, Any]:
    """Authorities, certificates and who may call whom, as plain values; times in seconds since the epoch."""
    settings = workspace.settings
    keeper = Keeper(settings, workspace.database)
    at = now()
    known = keeper.authorities.known()
    signing = next((one.id for one in known if one.issues_from <= at), "")
    held = certificates_of(settings.state_folder) if settings.mutual_tls else ()
    return {
        "mutual_tls": settings.mutual_tls,
        "domain": known[0].domain if known else "",
        "authorities": [_authority(one, signing, at) for one in known],
        "certificates": [
            {
                "identity": one.facts.uri,
                "host": one.facts.host,
                "begins_at": one.facts.begins_at,
                "ends_at": one.facts.ends_at,
                "serial": one.facts.serial,
                "state": one.state(at),
            }
            for one in held
        ],
        "calls": list(_calls(workspace, known[0].domain)) if known else [],
    }


def rotate(workspace: Workspace, *, at_once: bool = False, actor: str = "") -> dict[str, Any]:
    """Replace the mesh's authority; the new one as plain values. Conflict where TLS is off or one is under way."""
    settings = workspace.settings
    if not settings.mutual_tls:
        raise Conflict(
            "hops inside this mesh are without TLS, so nothing is signed by an authority",
            hint="`mutual_tls: true` in mesh.yaml, then `tulle down` and `tulle up`",
        )
    keeper = Keeper(settings, workspace.database)
    keeper.authorities.keep(settings.name)
    made = keeper.authorities.rotate(at_once=at_once, actor=actor)
    return _authority(made, made.id if at_once else "", now())


def _calls(workspace: Workspace, domain: str) -> Iterator[dict[str, Any]]:
    """Which service may call which, so often, each where it is deployed: what contracts of services' own say."""
    usual = production(workspace.settings).name
    deployed = {(one.service, one.environment) for one in generation.everywhere(workspace.database)}
    own = {one.name: one for one in applications.applications(workspace.database) if one.revoked_at is None}
    for service, environment in sorted(deployed):
        holder = own.get(application_of(service, environment))
        for held in holder.contracts if holder is not None else ():
            if (held.service, environment) in deployed:
                yield {
                    "caller": Identity(domain, service, environment or usual).uri,
                    "callee": Identity(domain, held.service, environment or usual).uri,
                    "limit": str(held.limit),
                }


def _authority(one: Authority, signing: str, at: float) -> dict[str, Any]:
    return {
        "id": one.id,
        "created_at": one.created_at,
        "signs_from": one.issues_from,
        "signs": one.id == signing,
        "trusted_until": one.trusted_until,
        "root_ends_at": one.root_facts.ends_at,
        "intermediate_ends_at": one.intermediate_facts.ends_at,
        "is_trusted": one.trusted_until is None or at < one.trusted_until,
    }
