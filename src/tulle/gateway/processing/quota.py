"""Quotas: how many requests a caller has in windows of time, fixed or sliding, that survive a restart.

The limits are those of the caller's contract or tier, or the policy's own. Whose requests are counted together is said
by a key: the client, tier or address, a header, a claim, a part of the body. Refusals are 429 with when to come again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

import msgspec

from tulle.errors import Invalid, did_you_mean
from tulle.gateway.envoy_values import QUOTA_PREFIX
from tulle.gateway.processing.exchange import Answer, Call, Refusal, not_json
from tulle.gateway.processing.json_paths import Path, json_path
from tulle.gateway.processing.redaction import said
from tulle.gateway.processing.step import Step
from tulle.gateway.processing.windows import Verdict, Window, Windows, whole_seconds
from tulle.spec.rate_limit import RateLimit

LONGEST_KEY: Final = 200  # characters of a key; longer ones are told apart by their digest
MOST_WINDOWS: Final = 10
_EXACT: Final = 2.0**53  # from here on doubles leave out whole numbers
_PREFIX: Final = QUOTA_PREFIX.encode()
KeyPart = Callable[[Call], str]
_PLAIN: Final[Mapping[str, KeyPart]] = {
    "client": lambda call: call.client,
    "tier": lambda call: call.tier,
    "address": lambda call: call.address,
    "path": lambda call: call.path.decode("latin-1"),
    "method": lambda call: call.method,
}


class Quota(Step):
    """The windows of one policy."""

    sees_answers = True

    def __init__(
        self,
        windows: Windows,
        usual: Sequence[Window],
        of_tiers: Mapping[str, Sequence[Window]],
        key: Sequence[KeyPart],
        *,
        tells: bool,
        of_contract: Callable[[Sequence[str]], Sequence[Window]] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._windows = windows
        self._usual = usual
        self._of_tiers = of_tiers
        self._key = key
        self._tells = tells
        self._of_contract = of_contract
        self._clock = clock

    def request(self, call: Call) -> None:
        limits = self._limits(call)
        if limits is None:
            return
        if not limits:  # a tier that is not named, or no contract, and no limits for all others: default deny
            by_contract = self._of_contract is not None
            message = f"The caller's {'contract' if by_contract else 'tier'} has no quota on this API"
            raise Refusal(403, "NoQuota", message, "Ask its owner for another tier")
        form = " ".join(f"{window.kind[0]}{window.period:g}" for window in limits)
        key = f"{form}|" + "\x1f".join([part(call) for part in self._key])
        if len(key) > LONGEST_KEY:
            key = f"{form}|#{_digest(key)}"
        verdict = self._windows.take(key, limits, self._clock())
        if not verdict.is_let_on:
            seconds = whole_seconds(verdict.seconds)
            later = b"%d" % max(seconds, 1)
            headers = [(b"retry-after", later), (_PREFIX + b"retry-after", later)]
            headers += _told(verdict) if self._tells else ()
            raise Refusal(
                429,
                "QuotaExceeded",
                "The caller's quota on this API is used up",
                "Try again after the seconds in retry-after",
                headers,
            )
        call.notes[self.number] = verdict

    def _limits(self, call: Call) -> Sequence[Window] | None:
        """Those of the caller; None where his contract bounds nothing that is counted here."""
        if self._of_contract is not None and (held := call.windows.get(call.client)) is not None:
            return self._of_contract(held) or None
        return self._of_tiers.get(call.tier, self._usual) if self._of_tiers else self._usual

    def head(self, call: Call, answer: Answer) -> bool:
        verdict = call.notes.get(self.number)
        if self._tells and verdict is not None:
            for name, value in _told(verdict):
                answer.set_header(name, value)
        return False


def quota(settings: Mapping[str, Any], windows: Windows) -> Quota:
    """The step of a policy's settings, counting in `windows`. Invalid when they cannot be meant."""
    usual = _limits(settings.get("limits", []), settings.get("window", "fixed"))
    of_tiers = {
        tier: _limits(limits, settings.get("window", "fixed"))
        for tier, limits in settings.get("tiers", {}).items()
    }
    by_contract = bool(settings.get("contract"))
    if not usual and not of_tiers and not by_contract:
        raise Invalid("quota: neither 'limits' nor 'tiers' is given", hint='for example limits: ["1000/1d"]')
    if of_tiers and by_contract:
        raise Invalid(
            "quota: 'tiers' is given, and 'contract', by which a tier's limits are those that it has",
            hint="leave out one of them",
        )
    parts = [key_part(text) for text in settings.get("key", ["client"])]
    return Quota(
        windows,
        usual,
        of_tiers,
        parts,
        tells=bool(settings.get("expose_headers", True)),
        of_contract=_of_contracts(settings.get("window", "fixed")) if by_contract else None,
    )


def _of_contracts(kind: str) -> Callable[[Sequence[str]], Sequence[Window]]:
    """What makes windows of limits as the plan has them; there are few, since tiers have them in common."""
    return lru_cache(maxsize=1000)(lambda given: _limits(given, kind))


def key_part(text: str) -> KeyPart:
    """What one part of a key is of a request; empty where a request has nothing of it. Invalid when it is unknown."""
    if text in _PLAIN:
        return _PLAIN[text]
    kind, _, name = text.partition(":")
    if not name:
        raise Invalid(
            f"key part '{text}' is not known",
            hint=did_you_mean(
                text, [*_PLAIN, "header:<name>", "query:<name>", "claim:<name>", "body:<JSON path>"]
            ),
        )
    match kind:
        case "header":
            header = name.strip().lower().encode()
            return lambda call: (call.header(header) or b"").decode("latin-1")
        case "query":
            return lambda call: "\x1e".join(value for known, value in call.query if known == name)
        case "claim":
            return lambda call: "\x1e".join(sorted(said(call.claims, name)))
        case "body":
            path = json_path(name)
            return lambda call: _of_body(call, path)
    raise Invalid(f"key part '{text}' is not known", hint="header:, query:, claim: or body:")


def _of_body(call: Call, path: Path) -> str:
    if not call.body:
        return ""
    if (name := call.name_twice()) is not None:
        raise Refusal(
            400,
            "InvalidRequest",
            f"An object of the body has the name '{name[:60]}' twice",
            "Send each name once: requests are counted by what the body says",
        )
    try:
        return msgspec.json.encode(by_value(call.found(path)), order="sorted").decode()
    except RecursionError as exc:
        raise not_json(exc) from None


def by_value(value: Any) -> Any:
    """A value of JSON with each number as all are that equal it, however they are written: 1 for 1.0 and for 10e-1.

    What differs by less than doubles do is the same, but not whole numbers, which name things: those stay exact.
    """
    match value:
        case list():
            return [by_value(one) for one in value]
        case dict():
            return {name: by_value(one) for name, one in value.items()}
        case msgspec.Raw():
            text = bytes(value).decode()
            number = float(text)
            if abs(number) < _EXACT:
                return int(number) if number.is_integer() else number
            exact = Decimal(text)
            return int(exact if exact == exact.to_integral_value() else number)
    return value


def _limits(given: str | Sequence[str], kind: str) -> tuple[Window, ...]:
    given = [given] if isinstance(given, str) else given
    if kind not in {"fixed", "sliding"}:
        raise Invalid(f"quota: 'window' is {kind!r}, expected fixed or sliding")
    if len(given) > MOST_WINDOWS:
        raise Invalid(f"quota: {len(given)} limits at once, at most {MOST_WINDOWS} are counted")
    return tuple(Window(RateLimit.parse(one), "sliding" if kind == "sliding" else "fixed") for one in given)


def _told(verdict: Verdict) -> list[tuple[bytes, bytes]]:
    """As callers read it, and once more for the gateway, which writes its own limit over these names."""
    told = [
        (b"x-ratelimit-limit", b"%d" % verdict.limit),
        (b"x-ratelimit-remaining", b"%d" % verdict.remaining),
        (b"x-ratelimit-reset", b"%d" % whole_seconds(verdict.seconds)),
    ]
    return [*told, *((_PREFIX + name, value) for name, value in told)]


def _digest(key: str) -> str:
    import hashlib  # noqa: PLC0415  long keys are few

    return hashlib.sha256(key.encode()).hexdigest()
