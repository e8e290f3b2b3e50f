"""Whether a recorded history of concurrent operations could have happened one after the other.

A history is linearizable when each operation can be given one moment between its call and its return, so that
taken in the order of those moments all of them answered rightly. This is Wing and Gong's search with Lowe's
memory of what was tried: it takes as next any operation that was called before every other remaining one had
returned. Knows nothing of the lake but how `Branch` says what its operations do.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

Value = str | None


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: who did what to which key, from when to when, and what came of it."""

    who: str
    kind: str
    start: float
    end: float
    key: str = ""
    value: Any = None

    def __str__(self) -> str:
        return f"{self.start:.6f}–{self.end:.6f} {self.who}: {self.kind} {self.key} {self.value}"


class Model(Hashable, Protocol):
    """A state, and which state an operation leads to: None when it cannot have answered so."""

    def after(self, operation: Operation) -> Any: ...


M = TypeVar("M", bound=Model)


def unexplained(history: Sequence[Operation], initial: M) -> list[Operation] | None:
    """None when the history is linearizable; else the operations that no order explains, after the longest one that did."""
    operations = sorted(history, key=lambda operation: operation.start)
    everything = (1 << len(operations)) - 1
    tried: set[tuple[int, M]] = set()
    stack: list[tuple[int, M]] = [(0, initial)]
    furthest = 0
    while stack:
        done, state = stack.pop()
        if done == everything:
            return None
        if done.bit_count() > furthest.bit_count():
            furthest = done
        for number in reversed(_next(operations, done)):
            following = state.after(operations[number])
            if following is None:
                continue
            reached = (done | 1 << number, following)
            if reached not in tried:
                tried.add(reached)
                stack.append(reached)
    return [operation for number, operation in enumerate(operations) if not furthest >> number & 1]


def _next(operations: Sequence[Operation], done: int) -> list[int]:
    """Those that may come next: called before any remaining one had returned."""
    found: list[int] = []
    earliest = float("inf")
    first = (~done & done + 1).bit_length() - 1
    for number in range(first, len(operations)):
        operation = operations[number]
        if operation.start > earliest:
            break
        if not done >> number & 1:
            found.append(number)
            earliest = min(earliest, operation.end)
    return [number for number in found if operations[number].start <= earliest]


@dataclass(frozen=True)
class Branch:
    """A branch of the lake as readers may see it: the content staged entries included, and the head.

    put, delete    the content from now on has `value`, or nothing, at `key`
    put if absent  the same where nothing was; `value` None means that it was refused, so something was there
    put if match   put the second of `value` where the first was
    move           put what was at `key` under the first of `value`; it was the second
    get            told `value` at `key`
    not            told that at `key` is something else than `value`, or nothing
    exists         told that something is at `key`
    list           told the whole content
    head           told the commit the branch is on
    seal           a commit took what was the content; `key` is its id, `value` what it contains
    publish        the branch went from the parent to the commit: `key` its id, `value` the parent and what a
                   merge brought
    """

    content: Mapping[str, str] = field(default_factory=dict)
    head: str = ""
    sealed: frozenset[str] = frozenset()

    def __hash__(self) -> int:
        return hash((frozenset(self.content.items()), self.head, self.sealed))

    def after(self, operation: Operation) -> Branch | None:
        """The branch after an operation, None where it cannot have answered so."""
        if operation.kind in {"seal", "publish"}:
            return self._committed(operation)
        if operation.kind in {"get", "not", "exists", "list", "head"}:
            return self if self._shows(operation) else None
        return self._written(operation)

    def _shows(self, operation: Operation) -> bool:
        key, value = operation.key, operation.value
        match operation.kind:
            case "get":
                return self.content.get(key) == value
            case "not":
                return self.content.get(key) != value
            case "exists":
                return key in self.content
            case "list":
                return bool(dict(self.content) == value)
        return bool(self.head == value)

    def _written(self, operation: Operation) -> Branch | None:
        key, value = operation.key, operation.value
        at = self.content.get(key)
        others = {k: v for k, v in self.content.items() if k != key}
        match operation.kind:
            case "put":
                return replace(self, content={**others, key: value})
            case "delete":
                return replace(self, content=others)
            case "put if absent":
                if value is None:
                    return self if at is not None else None
                return replace(self, content={**others, key: value}) if at is None else None
            case "put if match":
                seen, new = value
                return replace(self, content={**others, key: new}) if at == seen else None
            case "move":
                to, moved = value
                return replace(self, content=others | {to: moved}) if at == moved else None
        raise AssertionError(operation.kind)

    def _committed(self, operation: Operation) -> Branch | None:
        key, value = operation.key, operation.value
        if operation.kind == "seal":
            return replace(self, sealed=self.sealed | {key}) if dict(self.content) == value else None
        parent, brought = value
        if self.head != parent or (not brought and key not in self.sealed):
            return None
        return replace(self, head=key, content={**self.content, **brought}, sealed=self.sealed - {key})


def told(operations: Iterable[Operation]) -> str:
    """Operations for a person to read, the first ones."""
    return "\n".join(str(operation) for operation in list(operations)[:20])
