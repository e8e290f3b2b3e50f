"""What answers instances of APIs instead of what is declared: another service, a generation of one, a URL, or nothing.

The gateway follows with the next settling, which is at once where the mesh is up. Every function names the environment
by its name, None for that of consumers. Knows nothing of the lives of versions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tulle.control import deployment, release
from tulle.control.apis import instance_of, shown, version_of
from tulle.control.declared_apis import demand_reachable
from tulle.control.workspace import Workspace
from tulle.errors import Conflict, Invalid
from tulle.gateway.apis import records
from tulle.gateway.apis.declared import ApiVersion, Target
from tulle.gateway.apis.instance import Instance
from tulle.gateway.apis.misplaced import at_workers
from tulle.gateway.apis.records import Binding
from tulle.gateway.front import External, check_url
from tulle.gateway.policies.listed import written_of
from tulle.serving import generation

LONGEST_REASON = 500  # characters


def bind(
    workspace: Workspace,
    name: str,
    version: str,
    to: str | None,
    *,
    environment: str | None = None,
    actor: str = "",
) -> dict[str, Any]:
    """Let something else answer an instance from now on; None: what is declared.

    `to` is `service:<name>`, with `@<generation>` for one generation of it alone, or the URL of an external service,
    which is spoken to as the declared one is. The workload itself is left as it is.
    """
    api, chosen = version_of(workspace, name, version)
    place = deployment.place_of(workspace.settings, environment)
    found = instance_of(workspace, api, version, place)
    binding = None if to is None else Binding(_target(workspace, chosen, found, to, place))
    _demand_fitting(found, found.declared if binding is None else binding.target)
    records.bind(workspace.database, name, version, place, binding, actor=actor)
    return shown(workspace, name)


def unbind(
    workspace: Workspace,
    name: str,
    version: str,
    *,
    environment: str | None = None,
    reason: str = "",
    actor: str = "",
) -> dict[str, Any]:
    """Let nothing answer an instance: its callers get 503, and `reason` is shown to who looks at it."""
    api, _ = version_of(workspace, name, version)
    place = deployment.place_of(workspace.settings, environment)
    instance_of(workspace, api, version, place)
    if len(reason) > LONGEST_REASON:
        raise Invalid(f"the reason has {len(reason)} characters, at most {LONGEST_REASON} are kept")
    records.bind(workspace.database, name, version, place, Binding(Target(), reason), actor=actor)
    return shown(workspace, name)


def _target(workspace: Workspace, version: ApiVersion, found: Instance, to: str, place: str) -> Target:
    if not to.startswith("service:"):
        upstream = check_url(to)
        demand_reachable(workspace.settings, upstream)
        usual = found.declared.external or version.target.external or External(())
        return Target(external=replace(usual, upstreams=(upstream,), connection=""))
    name, _, chosen = to.removeprefix("service:").partition("@")
    declared = release.declared_service(workspace, name).service.name
    current = generation.find(workspace.database, declared, place)
    if current is None or current.active is None:
        where = deployment.name_of(workspace.settings, place)
        raise Conflict(
            f"service '{name}' does not answer in '{where}', so nothing can be bound to it",
            hint=f"deploy it first: `tulle service deploy {name}`",
        )
    if chosen and chosen not in current.active.mounted:
        known = ", ".join(current.active.mounted)
        raise Conflict(f"generation '{chosen}' of '{name}' does not run", hint=f"these do: {known}")
    return Target(declared, chosen)


def _demand_fitting(found: Instance, target: Target) -> None:
    """Refuse what answers where the version has policies that could not hold then. Conflict."""
    written = [one for one in written_of(found.policies) if one.is_in(found.place)]
    for one in at_workers(target.service, written) if target.service else ():
        hint = f"take it from the policies of {found.api.name} {found.version.version} first"
        raise Conflict(one.message, hint=hint)
