"""What is said about a repository beside its content: metadata, protection, retention, quota, read-only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tulle.errors import Invalid, PreconditionFailed
from tulle.lake import refs
from tulle.lake.entry import encode_metadata
from tulle.lake.handle import Handle

MOST = 2**62  # of what a quota counts
MOST_DAYS = 36_500


@dataclass(frozen=True, slots=True)
class Quota:
    """How much may be written into a repository, and how much was; None means without bound.

    Bytes and objects of data that lie in its own storage count, until they are collected.
    """

    max_bytes: int | None
    max_objects: int | None
    used_bytes: int
    used_objects: int


class Settings(Handle):
    """The settings of one repository."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """What was said about the repository."""
        return self.record.metadata

    @property
    def created_at(self) -> float:
        """When it was made, in seconds since the epoch."""
        return self.record.created_at

    @property
    def read_only(self) -> bool:
        """Whether nothing may be changed in it."""
        return self.record.read_only

    @property
    def settings(self) -> Mapping[str, Any]:
        """Protection, retention and quota as they are recorded."""
        return self.record.settings

    @property
    def storage_namespace(self) -> str:
        """The URL its objects are under."""
        url = self.reader.blobs.url(self.record.storage)
        return f"local://{url}" if url.startswith("/") else url

    def set_metadata(self, add: Mapping[str, str], remove: Sequence[str] = ()) -> None:
        """Say more about the repository, or less."""
        self._guard()
        with self._database.write() as cx:
            record = refs.read_repository(cx, self._id)
            kept = {key: value for key, value in record.metadata.items() if key not in remove}
            metadata = {**kept, **add}
            encode_metadata(metadata)
            refs.update_repository(cx, self._id, metadata=metadata)
        self._reload()

    def set_read_only(self, read_only: bool) -> None:
        """Let nothing change in the repository, or let it change again."""
        with self._database.write() as cx:
            refs.read_repository(cx, self._id)
            refs.update_repository(cx, self._id, read_only=read_only)
        self._reload()

    def protection(self) -> tuple[str, ...]:
        """Glob patterns of the branches that change by merges only."""
        return tuple(self._fresh().get("protected") or ())

    def protect(self, patterns: Sequence[str], *, expected: Sequence[str] | None = None) -> None:
        """Set which branches change by merges only. PreconditionFailed when the patterns are not `expected`."""
        for pattern in patterns:
            if not isinstance(pattern, str) or not pattern or len(pattern) > 255:
                raise Invalid(
                    f"'{pattern}' is no pattern of branch names", hint="for example main or release-*"
                )

        def change(settings: dict[str, Any]) -> None:
            if expected is not None and list(settings.get("protected") or ()) != list(expected):
                raise PreconditionFailed(
                    "the protection rules were changed by somebody else", hint="read them again"
                )
            settings["protected"] = list(dict.fromkeys(patterns))

        self._change(change)

    def retention(self) -> Mapping[str, Any] | None:
        """The rules of how long what branches held is kept; see `tulle.lake.collect`."""
        found: Mapping[str, Any] | None = self._fresh().get("retention")
        return found

    def set_retention(self, rules: Mapping[str, Any] | None) -> None:
        """Set or remove the rules: {"default_retention_days": n, "branches": [{"branch_id", "retention_days"}]}."""
        checked = None if rules is None else _checked_rules(rules)
        self._change(lambda settings: settings.update(retention=checked))

    def quota(self) -> Quota:
        """The bounds and what is used; counted only while there is a bound."""
        with self._database.read() as cx:
            record = refs.read_repository(cx, self._id, lock=False)
        bounds = record.settings.get("quota") or {}
        return Quota(
            bounds.get("max_bytes"), bounds.get("max_objects"), record.used_bytes, record.used_objects
        )

    def set_quota(self, *, max_bytes: int | None = None, max_objects: int | None = None) -> Quota:
        """Set the bounds (None: without) and count what is used now."""
        for value in (max_bytes, max_objects):
            if value is not None and not 0 <= value <= MOST:
                raise Invalid(f"a quota of {value} cannot be kept", hint=f"0 to {MOST}, or leave it out")
        bounds = {"max_bytes": max_bytes, "max_objects": max_objects}
        bounds = {key: value for key, value in bounds.items() if value is not None}
        self._change(lambda settings: settings.update(quota=bounds or None))
        if bounds:
            self.recount()
        return self.quota()

    def recount(self) -> None:
        """Count anew what lies in the repository's storage."""
        sizes = [blob.size for blob in self.reader.blobs.list(f"{self.record.storage}/data")]
        with self._database.write() as cx:
            refs.update_repository(cx, self._id, used_bytes=sum(sizes), used_objects=len(sizes))

    def _change(self, change: Callable[[dict[str, Any]], None]) -> None:
        with self._database.write() as cx:
            settings = dict(refs.read_repository(cx, self._id).settings)
            change(settings)
            refs.update_repository(cx, self._id, settings=settings)
        self._reload()

    def _fresh(self) -> Mapping[str, Any]:
        with self._database.read() as cx:
            return refs.read_repository(cx, self._id, lock=False).settings

    def _reload(self) -> None:
        with self._database.read() as cx:
            self.record = refs.read_repository(cx, self._id, lock=False)


def _checked_rules(rules: Mapping[str, Any]) -> dict[str, Any]:
    days = rules.get("default_retention_days")
    branches = rules.get("branches") or []
    if not _is_days(days):
        raise Invalid(f"default_retention_days is {days!r}", hint=f"a whole number of days, 1 to {MOST_DAYS}")
    checked = []
    for rule in branches:
        branch, own = rule.get("branch_id"), rule.get("retention_days")
        if not isinstance(branch, str) or not branch or not _is_days(own):
            raise Invalid(
                f"'{rule}' is no retention rule", hint=f"branch_id, and retention_days of 1 to {MOST_DAYS}"
            )
        checked.append({"branch_id": branch, "retention_days": own})
    return {"default_retention_days": days, "branches": checked}


def _is_days(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_DAYS
