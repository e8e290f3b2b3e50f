"""A decision function whose rules a test sets: the door must ask it, and obey."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, field

from tulle.errors import Denied
from tulle.lake.access import Decision


@dataclass(frozen=True, slots=True)
class Key:
    """An access key's owner and secret."""

    user: str
    secret: str


@dataclass
class Permits:
    """Access keys, what was asked, and what is refused: (action glob, resource glob) pairs."""

    secrets: dict[str, str]
    refused: list[tuple[str, str]] = field(default_factory=list)
    audited: list[tuple[str, str, str, str]] = field(default_factory=list)
    asked: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)

    def key(self, access_key_id: str) -> Key | None:
        """The key of an id."""
        secret = self.secrets.get(access_key_id)
        return None if secret is None else Key("ann", secret)

    def demand(self, user: str, action: str, *resources: str, client: str = "") -> None:
        """Denied where a rule refuses."""
        self.asked.append((action, resources))
        if not self.decide(user, action, *resources, client=client).allowed:
            raise Denied(f"user '{user}' may not {action} on {resources[0]}")

    def decide(self, user: str, action: str, *resources: str, client: str = "") -> Decision:
        """What `demand` would say, which is not an attempt at it."""
        for act, what in self.refused:
            if fnmatch.fnmatchcase(action, act) and any(
                fnmatch.fnmatchcase(name, what) for name in resources
            ):
                return Decision(False, "a rule of the test")
        return Decision(True, "nothing refuses it")

    def audit(self, actor: str, action: str, resource: str, outcome: str, **details: object) -> None:
        """Remember what was recorded."""
        self.audited.append((actor, action, resource, outcome))

    def resource_repository(self, repository: str) -> str:
        """The name of a repository."""
        return f"arn:lakefs:fs:::repository/{repository}"

    def resource_object(self, repository: str, branch: str, path: str) -> tuple[str, ...]:
        """The names of an object."""
        return (
            f"arn:lakefs:fs:::repository/{repository}/object/{path}",
            f"arn:lakefs:fs:::repository/{repository}/branch/{branch}/object/{path}",
        )
