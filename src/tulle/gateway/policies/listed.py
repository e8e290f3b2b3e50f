"""Lists of policies as people write them, read into values with every problem and its place.

The same list stands in a services file, in an API's file, in `mesh.yaml` and in a request. Which kinds there are is
the registry's matter; what the whole looks like to an editor is `list_schema`. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tulle.errors import Broken, Invalid, Problem, did_you_mean
from tulle.gateway.policies.entry import Operation, Policy, split
from tulle.gateway.policies.kind import RESERVED, Kind, Registry, Unfit, entry_schema, known_kinds
from tulle.gateway.policies.order import disorder
from tulle.spec.document import Document, Path, refuse
from tulle.spec.load import Schema, load_document, validate

MOST_POLICIES: Final = 50

_LIST: Final = Schema(
    {
        "type": "array",
        "maxItems": MOST_POLICIES,
        "x-expected": f"a list of up to {MOST_POLICIES} policies",
        "items": {
            "type": "object",
            "required": ["policy"],
            "properties": {"policy": {"type": "string", "description": "the kind of policy"}},
        },
    }
)


@dataclass(frozen=True, slots=True)
class Written:
    """A policy as it is written: it may be for some environments only; none: for all."""

    policy: Policy
    environments: tuple[str, ...] = ()

    def is_in(self, environment: str) -> bool:
        """Whether it is for this environment."""
        return not self.environments or environment in self.environments

    def as_plain(self) -> dict[str, Any]:
        """The form that is kept and that `written_of` reads."""
        said = self.policy.as_plain()
        return {**said, "environments": list(self.environments)} if self.environments else said


def list_schema(registry: Registry | None = None) -> dict[str, Any]:
    """The JSON Schema of a whole list, for editors and for whatever holds such a list."""
    kinds = list(registry or known_kinds())
    return {
        "type": "array",
        "maxItems": MOST_POLICIES,
        "description": "what the gateway does with requests, in this order",
        "items": {
            "type": "object",
            "required": ["policy"],
            "properties": {"policy": {"enum": [kind.name for kind in kinds]}},
            "allOf": [
                {"if": {"properties": {"policy": {"const": kind.name}}}, "then": entry_schema(kind)}
                for kind in kinds
            ],
        },
    }


def parse_policies(
    text: str, *, name: str = "policies", registry: Registry | None = None, is_recorded: bool = False
) -> tuple[Written, ...]:
    """A list on its own, as YAML or JSON; Invalid with every problem and its place.

    `is_recorded`: it is not said now, so what could be said once is taken.
    """
    document = load_document(text, name=name)
    found, problems = read_policies(document, (), registry, is_recorded=is_recorded)
    refuse(name, problems)
    return found


def read_policies(
    document: Document, path: Path, registry: Registry | None = None, *, is_recorded: bool = False
) -> tuple[tuple[Written, ...], list[Problem]]:
    """The list of `document` at `path`, and everything that is wrong with it; a list with problems is empty.

    `is_recorded` as `parse_policies` says.
    """
    known = registry or known_kinds()
    if problems := validate(document, _LIST, path, where="policies"):
        return (), problems
    found: list[Written] = []
    for number, raw in enumerate(document.at(path) or ()):
        at = (*path, number)
        if raw["policy"] not in known:
            message = f"there is no policy '{raw['policy']}'"
            hint = did_you_mean(raw["policy"], [kind.name for kind in known])
            problems.append(document.problem(message, (*at, "policy"), hint=hint))
            continue
        wrong = _without_settings(document, at, raw, known.carried_out(raw["policy"]))
        wrong = wrong or validate(
            document, known.schema(raw["policy"]), at, where=f"policy '{raw['policy']}'"
        )
        if not wrong:
            one, wrong = _read(document, at, raw, known, is_recorded)
            found += [one] if one is not None else []
        problems += wrong
    if not problems:
        problems = _together(document, path, found, known)
    return (() if problems else tuple(found)), problems


def _without_settings(document: Document, at: Path, raw: Mapping[str, Any], kind: Kind) -> list[Problem]:
    """What is wrong with a policy that needs some setting, whichever, and has none."""
    if "minProperties" not in kind.rules or raw.keys() - set(RESERVED):
        return []
    message, hint = f"policy '{kind.name}' says nothing", f"say some of: {', '.join(kind.properties)}"
    return [document.problem(message, (*at, "policy"), hint=hint)]


def _read(
    document: Document, at: Path, raw: Mapping[str, Any], known: Registry, is_recorded: bool
) -> tuple[Written | None, list[Problem]]:
    problems: list[Problem] = []
    settings = {key: value for key, value in raw.items() if key not in RESERVED}
    try:
        check = known.value if is_recorded else known.demand_sayable
        check(raw["policy"], settings)
    except Unfit as exc:
        problems.append(document.problem(exc.message, (*at, *exc.path), hint=exc.hint))
    except Invalid as exc:
        problems.append(document.problem(exc.message, at, hint=exc.hint))
    operations: list[Operation] = []
    for number, one in enumerate(raw.get("operations", ())):
        try:
            operations.append(Operation(**one))
        except Invalid as exc:
            problems.append(document.problem(exc.message, (*at, "operations", number), hint=exc.hint))
    if problems:
        return None, problems
    written = Written(Policy(raw["policy"], settings, tuple(operations)), tuple(raw.get("environments", ())))
    return written, []


def _together(document: Document, path: Path, found: Sequence[Written], known: Registry) -> list[Problem]:
    """What is wrong with policies that are fine each on its own, in any environment they are for."""
    problems: dict[tuple[int, str], Problem] = {}
    for numbers in _lists(found):
        policies = [found[n].policy for n in numbers]
        try:
            wrong = conflict(policies, known)
        except Invalid as exc:
            return [document.problem(exc.message, path, hint=exc.hint)]
        if wrong is not None:
            at, message, hint = wrong
            place = (*path, numbers[at], "policy")
            problems.setdefault((numbers[at], message), document.problem(message, place, hint=hint))
    return list(problems.values())


def _lists(found: Sequence[Written]) -> list[list[int]]:
    """The lists, as positions, that there are in the environments that are named and in one that is not."""
    named = sorted({name for one in found for name in one.environments})
    lists = [[n for n, one in enumerate(found) if one.is_in(name)] for name in named]
    return [*lists, [n for n, one in enumerate(found) if not one.environments]]


def conflict(policies: Sequence[Policy], registry: Registry | None = None) -> tuple[int, str, str] | None:
    """What is wrong with policies together: the position, why, and what to do; None when nothing is.

    Invalid when their operations overlap in too many ways.
    """
    known = registry or known_kinds()
    for _, held in split(policies):
        kinds = [known.carried_out(policies[n].kind) for n in held]
        wrong = disorder(kinds)
        if wrong is not None:
            return held[wrong.position], wrong.message, wrong.hint
        first: dict[str, int] = {}
        shown: dict[str, str] = {}
        for number, kind in zip(held, kinds, strict=True):
            if kind.shown_as and shown.setdefault(kind.shown_as, kind.name) != kind.name:
                return (
                    number,
                    f"'{kind.name}' and '{shown[kind.shown_as]}' read the same credentials of the same requests",
                    "choose one, or let each be for other operations",
                )
            if kind.once and kind.name in first:
                return (
                    number,
                    f"'{kind.name}' holds twice for the same requests",
                    "make one of both, or let each be for other operations",
                )
            first.setdefault(kind.name, number)
    hidden = {name for policy in policies for name in known.hidden(policy.kind, policy.settings)}
    for number, policy in enumerate(policies) if hidden else ():
        if both := hidden & set(known.told(policy.kind, policy.settings)):
            return (
                number,
                f"'{min(both).partition(':')[2]}' holds credentials of callers, and is not written down",
                "note what tells of it another way, such as an id",
            )
    return None


def written_of(plain: Iterable[Mapping[str, Any]]) -> tuple[Written, ...]:
    """What `Written.as_plain` gave, of a package or the database. Broken when it is damaged."""
    found = []
    try:
        for raw in plain:
            settings = {key: value for key, value in raw.items() if key not in RESERVED}
            operations = tuple(Operation(**one) for one in raw.get("operations", ()))
            policy = Policy(str(raw["policy"]), settings, operations)
            found.append(Written(policy, tuple(raw.get("environments", ()))))
    except (Invalid, KeyError, TypeError, AttributeError) as exc:
        raise Broken(
            f"the policies of a service cannot be read: {exc}",
            hint="build its package again, or say its policies anew",
        ) from None
    return tuple(found)


def policies_in(written: Iterable[Written], environment: str) -> tuple[Policy, ...]:
    """Those of a list that are for one environment, by its name."""
    return tuple(one.policy for one in written if one.is_in(environment))
