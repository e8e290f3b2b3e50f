"""Redaction: fields of answers that not everybody may see are taken out, masked, hashed or replaced.

Who may see a field as it is, is said by client, tier or claim. What cannot be looked through is refused, unless the
policy lets other content pass. Where nothing is redacted an answer stays as it is, byte for byte; else all other
numbers stay as they are written, and all members in their order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgspec

from tulle.errors import Invalid
from tulle.gateway.processing.exchange import Answer, Call, Refusal
from tulle.gateway.processing.json_paths import REMOVE, Path, json_path
from tulle.gateway.processing.json_text import is_json, name_twice, other_charset
from tulle.gateway.processing.step import Step

_HASH_LETTERS: Final = 32
_HIDDEN: Final = "****"  # in place of an object or a list


@dataclass(frozen=True, slots=True)
class Seers:
    """Who sees a field as it is: any of these. Nobody, where all are empty."""

    clients: frozenset[str] = frozenset()
    tiers: frozenset[str] = frozenset()
    claims: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def has(self, call: Call) -> bool:
        """Whether the caller is one."""
        if self.clients and call.client in self.clients:
            return True
        if self.tiers and call.tier in self.tiers:
            return True
        return any(said(call.claims, name) & wanted for name, wanted in self.claims.items())


@dataclass(frozen=True, slots=True)
class Rule:
    """One path and what becomes of what is there."""

    path: Path
    act: Callable[[Any], Any]
    seers: Seers
    marks: tuple[bytes, ...]  # one of them is in every body in which the path finds something; none: unknown


class Redaction(Step):
    """The rules of one policy."""

    sees_answers = True

    def __init__(self, rules: tuple[Rule, ...], *, other: Literal["refuse", "pass"], most: int) -> None:
        self._rules = rules
        self._other = other
        self._most = most

    def head(self, call: Call, answer: Answer) -> bool:
        if answer.is_ours or answer.status in {204, 304}:
            return False
        rules = [rule for rule in self._rules if not rule.seers.has(call)]
        if not rules:
            return False
        call.notes[self.number] = rules
        return self._other == "refuse" or self._is_ours_to_read(answer)

    def body(self, call: Call, answer: Answer) -> None:
        body = answer.body
        if not body:
            return
        if not self._is_ours_to_read(answer):
            if self._other == "pass":
                return
            raise _unreadable(f"it is '{answer.content_type or 'of no type'}', not JSON")
        try:
            answer.unpack(self._most)
            body = answer.body
            rules = call.notes[self.number]
            if b"\\" not in body and b"\0" not in body:  # names may be written otherwise by escapes
                rules = [rule for rule in rules if not rule.marks or any(mark in body for mark in rule.marks)]
                if not rules:
                    return
            value, count = answer.json(), 0
            for rule in rules:
                value, found = rule.path.change(value, rule.act)
                count += found
            # who reads the first of two values would see one that nobody has looked at: the last alone is sent on
            is_changed = bool(count) or name_twice(body, value) is not None
        except (ValueError, RecursionError) as exc:
            raise _unreadable(
                "it is nested too deeply" if isinstance(exc, RecursionError) else str(exc)
            ) from None
        if is_changed:
            answer.set_json(value)

    @staticmethod
    def _is_ours_to_read(answer: Answer) -> bool:
        kind = answer.content_type
        return (not kind or is_json(kind)) and other_charset(answer.header(b"content-type")) is None


def redaction(settings: Mapping[str, Any], key: Callable[[str], bytes], most: int) -> Redaction:
    """The step of a policy's settings; `key` gives a secret key for a purpose. Invalid when they cannot be meant."""
    fields = settings.get("fields")
    if not isinstance(fields, list) or not fields:
        raise Invalid("redaction: 'fields' is missing or empty", hint="give a list of path and action")
    rules = tuple(_rule(one, key) for one in fields)
    other = settings.get("other_content", "refuse")
    if other not in {"refuse", "pass"}:
        raise Invalid(f"redaction: 'other_content' is {other!r}, expected refuse or pass")
    return Redaction(rules, other=other, most=most)


def _rule(one: Mapping[str, Any], key: Callable[[str], bytes]) -> Rule:
    path = json_path(one.get("path"))
    seers = one.get("except") or {}
    return Rule(
        path,
        _act(one, key),
        Seers(
            frozenset(seers.get("clients", ())),
            frozenset(seers.get("tiers", ())),
            {name: frozenset(map(str, values)) for name, values in seers.get("claims", {}).items()},
        ),
        tuple(msgspec.json.encode(name) for name in path.last_names),
    )


def _act(one: Mapping[str, Any], key: Callable[[str], bytes]) -> Callable[[Any], Any]:
    match one.get("action", "remove"):
        case "remove":
            return lambda _: REMOVE
        case "null":
            return lambda _: None
        case "constant":
            if "value" not in one:
                raise Invalid(
                    f"redaction of '{one['path']}': the constant has no 'value'",
                    hint="say what is to be there as `value`, or `action: remove`",
                )
            constant = msgspec.Raw(msgspec.json.encode(one["value"]))
            return lambda _: constant
        case "mask":
            keep = int(one.get("keep_last", 0))
            return lambda value: masked(value, keep)
        case "hash":
            secret = key(f"redaction {one.get('hash_group', '')}")
            return lambda value: hashed(value, secret)
        case other:
            raise Invalid(
                f"redaction of '{one.get('path')}': unknown action {other!r}",
                hint="remove, mask, hash, null or constant",
            )


def masked(value: Any, keep_last: int) -> Any:
    """Stars in place of all but the last characters; all of it where that would leave nothing hidden."""
    if value is None:
        return None
    if isinstance(value, dict | list):
        return _HIDDEN
    text = _text(value)
    kept = keep_last if 0 < keep_last < len(text) else 0
    return "*" * (len(text) - kept) + text[len(text) - kept :]


def hashed(value: Any, key: bytes) -> Any:
    """The same text for the same value, from which the value cannot be told or found by trying without the key."""
    if value is None:
        return None
    data = (
        b"s" + value.encode() if isinstance(value, str) else b"v" + msgspec.json.encode(value, order="sorted")
    )
    # BLAKE2 is made to be keyed, and takes a third of what HMAC does
    return hashlib.blake2b(data, digest_size=_HASH_LETTERS // 2, key=key).hexdigest()


def said(claims: Mapping[str, Any], name: str) -> frozenset[str]:
    """What a token says under a name, dots lead into objects: each of a list, each word of a text with spaces."""
    value: Any = claims
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if isinstance(value, list):
        return frozenset(str(one) for one in value if isinstance(one, str | int))
    if isinstance(value, str):
        return frozenset({value, *value.split(" ")})
    return frozenset({str(value)}) if isinstance(value, int) else frozenset()


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return bytes(value).decode() if isinstance(value, msgspec.Raw) else msgspec.json.encode(value).decode()


def _unreadable(why: str) -> Refusal:
    return Refusal(
        502,
        "UnreadableAnswer",
        f"The answer cannot be looked through for what is to be redacted: {why}",
        "Its API's policy lets only JSON pass",
    )
