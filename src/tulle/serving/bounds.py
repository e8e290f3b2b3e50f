"""How many processes run what users wrote, and what a request may take of them. A value, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

MOST_REPLY = (
    64 << 20
)  # bytes of one answer: the worker holds it whole, for as long as the caller takes to read it


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many processes there are and what a request may take of them."""

    floor: int = 1
    ceil: int = 4
    queue: int = 32  # requests that may wait for a process
    wait_seconds: float = 10.0
    seconds: float = 30.0  # of one request
    memory: int = 1 << 30  # bytes; of data, of one process
