"""What of `mesh.yaml` can be taken up while the mesh runs, and what of it differs from what is in force.

Pure: settings in, words out. Knows nothing of the file, and not who acts by what.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final, Literal

from tulle.config import TAKEN_UP, PolicySet, Settings
from tulle.gateway.versions.difference import policy_changes, setting_changes

_WHAT: Final[Mapping[str, str]] = {
    "policies": "set of policies",
    "tiers": "tier",
    "watches": "watch",
    "alerts": "channel",
}
_UNTOLD: Final = ("url",)  # of a channel: it may be a secret that should not be there


@dataclass(frozen=True, slots=True)
class SettingChange:
    """One thing in a setting that is not as it was; `name` is empty where the setting is one value."""

    setting: str
    name: str
    how: Literal["added", "removed", "changed"]
    details: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """As people read it."""
        what = f"{_WHAT[self.setting]} '{self.name}'" if self.name else f"setting '{self.setting}'"
        told = f": {'; '.join(self.details)}" if self.details else ""
        return f"{what} {self.how}{told}"


def changes(now: Settings, wanted: Settings) -> tuple[SettingChange, ...]:
    """What can be taken up and differs, setting by setting."""
    return tuple(one for setting in TAKEN_UP for one in _of(setting, now, wanted))


def at_next_start(now: Settings, wanted: Settings) -> tuple[str, ...]:
    """The names of the settings that differ and are read only when the mesh starts."""
    names = (one.name for one in fields(Settings) if one.name not in TAKEN_UP)
    return tuple(name for name in names if getattr(now, name) != getattr(wanted, name))


def taken_up(now: Settings, wanted: Settings) -> Settings:
    """What is in force once the changes are."""
    return replace(now, **{name: getattr(wanted, name) for name in TAKEN_UP})


def _of(setting: str, now: Settings, wanted: Settings) -> Iterator[SettingChange]:
    before, after = getattr(now, setting), getattr(wanted, setting)
    if setting not in _WHAT:
        if before != after:
            yield SettingChange(setting, "", "changed", tuple(_compared({setting: before}, {setting: after})))
        return
    old, new = _named(before), _named(after)
    for name in (*old, *(name for name in new if name not in old)):
        if name not in new:
            yield SettingChange(setting, name, "removed")
        elif name not in old:
            yield SettingChange(setting, name, "added", tuple(_first_words(new[name])))
        elif old[name] != new[name]:
            yield SettingChange(setting, name, "changed", tuple(_details(old[name], new[name])))
    # Sets hold in their order, and applicants are shown tiers in theirs.
    if setting in {"policies", "tiers"} and [n for n in old if n in new] != [n for n in new if n in old]:
        yield SettingChange(setting, "", "changed", (f"the order is now {', '.join(new)}",))


def _named(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {str(one.get("name")): one for one in value}


def _plain(one: Any) -> dict[str, Any]:
    return dict(one) if isinstance(one, Mapping) else asdict(one)


def _first_words(one: Any) -> Iterator[str]:
    if isinstance(one, PolicySet):
        yield "policies " + ", ".join(str(policy.get("policy")) for policy in one.policies)
        if one.mandatory:
            yield "mandatory"
    elif isinstance(one, Mapping) and isinstance(one.get("limits"), list):
        yield " and ".join(map(str, one["limits"]))


def _details(before: Any, after: Any) -> Iterator[str]:
    old, new = _plain(before), _plain(after)
    if isinstance(before, PolicySet):
        yield from policy_changes(old.pop("policies"), new.pop("policies"))
    yield from _compared(old, new)


def _compared(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Its lists in words that are alike however they were read."""
    untold = [key for key in _UNTOLD if old.get(key) != new.get(key)]
    yield from (f"{key} is another" for key in untold)
    one, other = ({k: v for k, v in side.items() if k not in untold} for side in (old, new))
    yield from setting_changes(one, other)
