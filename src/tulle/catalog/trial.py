"""What came of sending one request to a service through the gateway, from a page. Knows nothing of how it was sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Credentials = tuple[str, str]  # client id and client secret


@dataclass(frozen=True, slots=True)
class TryAnswer:
    """The answer as it came; `milliseconds` from sending the request to having all of the answer."""

    status: int
    headers: Mapping[str, str]
    body: str
    milliseconds: float


@dataclass(frozen=True, slots=True)
class How:
    """What goes with a request; `environment` is empty for that of consumers, else its name."""

    environment: str = ""
    generation: str = ""  # that is forced
    key: str = ""  # by which requests are split
    steps: bool = False  # whether a composition tells of its steps

    def headers(self) -> dict[bytes, bytes]:
        """The headers that say so."""
        said = {"forced-generation": self.generation, "dispatch-key": self.key}
        said["tulle-steps"] = "true" if self.steps else ""
        return {name.encode(): value.encode() for name, value in said.items() if value}


# (service, endpoint, action, body, credentials or None for the portal's own, how) → the answer.
# Unavailable when the gateway does not answer.
Caller = Callable[[str, str, str, bytes, Credentials | None, How], TryAnswer]
