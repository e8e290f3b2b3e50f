"""A plan as a file: canonical JSON that is carried out later, elsewhere or by somebody else, exactly as it was shown.

Pure. The digest inside covers everything that counts, so a file somebody changed is found out, and what moved
since it was made can be told product by product.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tulle.control.plan import Plan, Step, digest_of
from tulle.errors import Invalid

KIND, FORMAT = "tulle-plan", 1
MAX_BYTES = 50_000_000


def document_of(plan: Plan, mesh: str) -> dict[str, Any]:
    """The plan as plain values."""
    return {
        "kind": KIND,
        "format": FORMAT,
        "mesh": mesh,
        "digest": plan.digest,
        "basis": {name: dict(sides) for name, sides in plan.basis.items()},
        "steps": [step_as_plain(step) for step in plan.steps],
        "refusals": [asdict(problem) for problem in plan.refusals],
    }


def step_as_plain(step: Step) -> dict[str, Any]:
    """One step as plain values; equal steps give equal values."""
    value: dict[str, Any] = json.loads(json.dumps(asdict(step)))
    return {**value, "breaking": step.breaking}


def canonical(document: Mapping[str, Any]) -> str:
    """The one text of a plan: the same plan is the same bytes."""
    return json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def read_plan(text: str, name: str) -> dict[str, Any]:
    """The plan in a file. Invalid when it is none, or was changed since it was made."""
    if len(text) > MAX_BYTES:
        raise Invalid(f"{name} is larger than {MAX_BYTES // 1_000_000} MB: no plan is", hint=_HINT)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as exc:
        where = f":{exc.lineno}:{exc.colno}" if isinstance(exc, json.JSONDecodeError) else ""
        raise Invalid(f"{name}{where} is not JSON", hint=_HINT) from None
    return checked(value, name)


def checked(value: Any, name: str) -> dict[str, Any]:
    """A plan from plain values, its digest verified. Invalid."""
    if not isinstance(value, dict) or value.get("kind") != KIND:
        raise Invalid(f"{name} is not a plan", hint=_HINT)
    if value.get("format") != FORMAT:
        told = str(value.get("format"))[:20]
        raise Invalid(f"{name} is a plan of format {told}, this version reads {FORMAT}", hint=_HINT)
    steps, basis, digest = value.get("steps"), value.get("basis"), value.get("digest")
    if not (isinstance(steps, list) and isinstance(basis, dict) and all(isinstance(s, dict) for s in steps)):
        raise Invalid(f"{name} is not a whole plan", hint=_HINT)
    bare = [{k: v for k, v in step.items() if k != "breaking"} for step in steps]
    if digest_of({"steps": bare, "basis": basis}) != digest:
        raise Invalid(
            f"{name} was changed after it was made: its digest does not fit", hint="make it again: " + _HINT
        )
    return value


_HINT = "`tulle plan --out plan.json` writes one"


def moved(document: Mapping[str, Any], now: Mapping[str, Mapping[str, str]], *, resuming: bool) -> list[str]:
    """What is no longer as it was when the plan was made, in sentences.

    `now` has both sides of every product, as in a plan's basis, also of products that are as they should be.
    When `resuming`, what the plan itself has applied already is as it should be.
    """
    found = []
    for name, was in sorted(document["basis"].items()):
        found += _moved(name, was, now.get(name, {}), resuming=resuming)
    for name, sides in sorted(now.items()):
        if name not in document["basis"] and _differs(sides):
            found.append(f"product '{name}' changed, which the plan does not have")
    return found


def _moved(name: str, was: Mapping[str, str], now: Mapping[str, str], *, resuming: bool) -> list[str]:
    found = []
    for part, words in (("document", "the document"), ("code", "the code")):
        before, after = was.get(part, ""), now.get(part, "")
        if before != after:
            told = "is new" if not before else "is gone" if not after else "changed"
            found.append(f"{words} of product '{name}' {told}")
    applied = [(side.get("applied_document", ""), side.get("applied_code", "")) for side in (was, now)]
    if "applied_code" not in was:  # it is retired, whatever its code was
        applied = [(document, "") for document, _ in applied]
    done = (was.get("document", ""), was.get("code", "")) == (
        now.get("applied_document", ""),
        now.get("applied_code", ""),
    )
    if applied[0] != applied[1] and not (resuming and done):
        found.append(f"product '{name}' was {'retired' if not applied[1][0] else 'applied'} meanwhile")
    return found


def _differs(sides: Mapping[str, str]) -> bool:
    same = sides.get("document") == sides.get("applied_document")
    return not (same and sides.get("code") == sides.get("applied_code") and sides.get("repository"))


def remaining(steps: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> list[int] | None:
    """The positions (from 1) in `steps` of what is still to do, or None when `now` has another step.

    Order counts: what is to do now must be found in the plan in the same order.
    """
    found, position = [], 0
    for step in now:
        while position < len(steps) and dict(steps[position]) != dict(step):
            position += 1
        if position == len(steps):
            return None
        position += 1
        found.append(position)
    return found
