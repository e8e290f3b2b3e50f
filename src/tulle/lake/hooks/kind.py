"""What a type of hook is: something that is called with one hook of one event, and answers passed or failed.

Types are registered by name by whoever composes the mesh; `webhook`, `airflow` and `command` are here, `check`
comes from above. Knows nothing of runs and their records.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tulle.lake.hooks.event import Event
from tulle.lake.hooks.properties import seconds_of

if TYPE_CHECKING:
    from tulle.lake.repository import Repository


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one hook ended. `output` is what it has to say, before secrets are taken out of it.

    `final`: doing it again would end the same. `secrets` are texts that the output may not show.
    """

    passed: bool
    output: str
    final: bool = False
    secrets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HookCall:
    """One hook that is to run now.

    `properties` are its own, with variables put in. `at` is when the event was, in seconds since the epoch;
    `deadline` when the hook must have ended, by `time.monotonic`.
    """

    repository: Repository
    event: Event
    run_id: str
    hook_run_id: str
    action: str
    hook: str
    properties: Mapping[str, Any]
    at: float
    deadline: float

    @property
    def ref(self) -> str:
        """The ref whose content the hook is about: the commit, or the branch before there is one."""
        return self.event.commit.id if self.event.commit is not None else self.event.actions_ref

    @property
    def seconds_left(self) -> float:
        """How long it may still take; never less than nothing."""
        return max(0.0, self.deadline - time.monotonic())

    def limit(self, default: float) -> float:
        """By `time.monotonic`, when it must end by its own `timeout` (or the default of its type) and the run's."""
        own = self.properties.get("timeout")
        seconds = seconds_of(own) if own is not None else default
        return min(self.deadline, time.monotonic() + seconds)

    def payload(self) -> dict[str, Any]:
        """What lakeFS tells a hook of its event."""
        return {
            **about(self.event, self.repository.name, self.at),
            "action_name": self.action,
            "hook_id": self.hook,
        }


@dataclass(frozen=True, slots=True)
class HookKind:
    """A type of hook: how it runs, and the JSON Schema of its properties."""

    run: Callable[[HookCall], Outcome]
    properties: Mapping[str, Any]


def about(event: Event, repository: str, at: float) -> dict[str, Any]:
    """An event in lakeFS's words; what does not apply is left out."""
    commit, subject = event.commit, event.kind.partition("-")[2]
    source = event.source_ref or (event.branch if subject == "commit" else "")
    found = {
        "event_type": event.kind,
        "event_time": rfc3339(at),
        "repository_id": repository,
        "branch_id": event.branch,
        "source_ref": source,
        "tag_id": event.tag,
        "commit_id": commit.id if commit is not None else "",
        "commit_message": commit.message if commit is not None else "",
        "committer": commit.committer if commit is not None else event.actor,
        "commit_metadata": dict(commit.metadata) if commit is not None else {},
        "merge_source": event.source_ref if subject == "merge" else "",
    }
    return {name: value for name, value in found.items() if value}


def rfc3339(at: float) -> str:
    """Seconds since the epoch as RFC 3339 has them."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
