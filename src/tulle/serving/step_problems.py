"""What is wrong with the steps of a composition as they are declared: each thing with the place where it stands.

Pure: knows nothing of the endpoints that are called but their names.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tulle.errors import Place, Problem, did_you_mean
from tulle.serving.path_values import roots_of
from tulle.serving.step_form import (
    IDEMPOTENT,
    PATIENT,
    WAYS,
    Path,
    Said,
    every,
    method_of,
    seen,
    templates,
    within,
)

PlaceAt = Callable[[Path], Place | None]


@dataclass(slots=True)
class Known:
    """The names that have a value, and those of them that may have none."""

    names: set[str] = field(default_factory=set)
    maybe: set[str] = field(default_factory=set)

    def copy(self) -> Known:
        """The same, for what is known in one place alone."""
        return Known(set(self.names), set(self.maybe))

    def add(self, other: Known) -> None:
        """What is known elsewhere is known here too."""
        self.names |= other.names
        self.maybe |= other.maybe


@dataclass(frozen=True, slots=True)
class Checking:
    """Looking at the steps of one composition."""

    endpoints: Sequence[str]  # of its service, that it may call
    uses: Collection[str]  # other services that it may call
    place_at: PlaceAt  # of a part of the composition

    def in_turn(self, steps: Sequence[Said], path: Path, known: Known) -> Iterator[Problem]:
        """Of steps one after the other; what they give is `known` then."""
        for number, step in enumerate(steps):
            yield from self._one(step, (*path, number), known)

    def of_template(self, template: Any, known: Known, what: str, at: Path) -> Iterator[Problem]:
        """Of what is made of values: names that nobody gives, and what may be left out where it is needed."""
        try:
            for root in roots_of(template):
                if root not in known.names:
                    hint = did_you_mean(root, known.names)
                    yield self._problem(at, f"{what}: nothing before it gives '${root}'", hint)
            is_condition = at[-1] == "when" and not isinstance(
                template, str
            )  # on what is not there it does not hold
            needed = () if is_condition else dict.fromkeys(roots_of(template, certain=True))
            for root in needed:
                if root in known.maybe:
                    hint = f"write ${root}…? or $(default({root}, …))"
                    yield self._problem(at, f"{what} needs '${root}', which may be left out", hint)
        except ValueError as exc:
            yield self._problem(at, f"{what}: {exc}")

    def _one(self, step: Said, at: Path, known: Known) -> Iterator[Problem]:
        name, what = step["name"], f"step '{step['name']}'"
        if name in known.names:
            yield self._problem((*at, "name"), f"{what}: another value has that name")
        yield from self._form(step, at)
        yield from self._callee(step, at)
        inner = known.copy()
        if "map" in step:
            inner.names.add(step.get("as", "item"))
        for part, template in templates(step):
            yield from self.of_template(template, known if part == ("map",) else inner, what, (*at, *part))
        for part, some in within(step):
            if part == ("parallel",):
                yield from self._beside(step, (*at, *part), known, inner)
            else:
                yield from self.in_turn(some, (*at, *part), inner.copy())
        if step.get("on_failure") == "leave_out" and "map" not in step:
            known.maybe.add(name)
        known.names.add(name)

    def _beside(self, step: Said, path: Path, known: Known, inner: Known) -> Iterator[Problem]:
        beside = Known()
        for number, one in enumerate(step["parallel"]):
            own, at = inner.copy(), (*path, number)
            if one["name"] in beside.names:
                yield self._problem((*at, "name"), f"step '{one['name']}': another value has that name")
            yield from self._one(one, at, own)
            beside.add(own)
        if "map" not in step:
            known.add(beside)
            if "fallback" in step or step.get("on_failure") == "leave_out":
                known.maybe.update(
                    seen(step["parallel"])
                )  # what was not done when another failed is not there

    def _form(self, step: Said, at: Path) -> Iterator[Problem]:
        """What a step is as a whole: one thing to do, and nothing that does not go with it."""
        what = f"step '{step['name']}'"
        ways = [way for way in WAYS if way in step]
        if len(ways) != 1:
            said = f"both '{ways[0]}' and '{ways[1]}'" if ways else "nothing to do"
            where = (*at, ways[1]) if ways else at
            yield self._problem(where, f"{what} has {said}", f"give it one of {', '.join(WAYS)}")
        extra = sorted(name for name in PATIENT if name in step)
        if extra and ways == ["value"]:
            hint = "write $([… for entry in …])" if extra[0] == "map" else f"leave '{extra[0]}' out"
            yield self._problem((*at, extra[0]), f"{what} has '{extra[0]}' and calls nothing", hint)
        if step.get("on_failure") == "leave_out" and "fallback" in step:
            message = f"{what} has both 'fallback' and 'on_failure: leave_out'"
            yield self._problem((*at, "on_failure"), message, "choose one")
        once = self._once(step) if step.get("retry") and not {"call", "http"} & set(step) else ""
        if once:
            message = f"{what} has 'retry', and {once} within it may not be made twice"
            yield self._problem((*at, "retry"), message, "put 'retry' on the steps that may be")

    def _once(self, step: Said) -> str:
        """A request within a step that may not be made again after it was answered; nothing when there is none."""
        for _, one in every([step]):
            if "http" in one and (method := method_of(one["http"])) not in IDEMPOTENT:
                return f"the {method} of step '{one['name']}'"
        return ""

    def _callee(self, step: Said, at: Path) -> Iterator[Problem]:
        if "call" not in step:
            return
        what, where = f"step '{step['name']}' calls '{step['call']}'", (*at, "call")
        service, slash, endpoint = step["call"].partition("/")
        if not slash and service not in self.endpoints:
            yield self._problem(where, f"{what}, which it cannot", did_you_mean(service, self.endpoints))
        if slash and (service not in self.uses or not endpoint):
            hint = did_you_mean(service, self.uses) or f"declare it: `uses: [{service}]`, beside `service:`"
            yield self._problem(where, f"{what} of a service that is not in 'uses'", hint)

    def _problem(self, at: Path, message: str, hint: str | None = None) -> Problem:
        return Problem(message, self.place_at(at), hint)
