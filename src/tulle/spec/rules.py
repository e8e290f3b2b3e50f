"""The rules of a product document that the schema of one component cannot say.

Exactly one domain and one data product, names that must not repeat, references between components, types and
dates that must make sense. Works on whatever is there, also on components their schema has refused, so that a
reader sees everything that is wrong at once. Pure.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

from tulle.errors import Problem, did_you_mean
from tulle.spec.columns import TYPE_SHAPE, parse_type
from tulle.spec.detail_rules import detail_problems
from tulle.spec.document import Document, shown
from tulle.spec.document import Path as Steps
from tulle.spec.part import Part, data_set_name
from tulle.spec.product import kebab, snake
from tulle.spec.schedule import faults
from tulle.spec.source import broken_rules as source_rules

RESERVED_DATA_SETS = {"models": "trained models of the product lie in that folder"}
ONLY_ONCE = ("domain", "data-product")


# ── what things are called ────────────────────────────────────────


def product_name(document: Document, head: Part) -> str:
    """The product's machine name: `metadata.name`, or made from its data-product component."""
    given = document.at(("metadata", "name"))
    return given if isinstance(given, str) else kebab(head.name)


def rows_name(part: Part) -> str:
    """The data set an input port fills; empty where its upstream decides or nothing comes in."""
    return part.text("data_set") or (snake(part.name) if "source" in part.properties else "")


def broken_rules(document: Document, parts: list[Part]) -> list[Problem]:
    """What is wrong between and beyond the components of one document."""
    return _Rules(document, parts).broken()


class _Rules:
    def __init__(self, document: Document, parts: list[Part]) -> None:
        self.document = document
        self.parts = parts
        self.problems: list[Problem] = []
        self.data_sets = {data_set_name(part) for part in self._of("data-set")}
        self.levels = {kebab(part.name): part.name for part in self._of("service-level-asset")}

    def broken(self) -> list[Problem]:
        """Check every rule."""
        for base in ONLY_ONCE:
            self._only_one(base)
        self._names_differ()
        for part in self.parts:
            checks: dict[str, Callable[[Part], None]] = {
                "domain": self._domain,
                "data-product": self._data_product,
                "data-set": self._data_set,
                "input-port": self._input_port,
                "output-port": self._output_port,
                "service-level-asset": self._has_name,
                "service-level-indicator": self._indicator,
                "data-sharing-agreement": self._agreement,
            }
            if check := checks.get(part.base):
                check(part)
            self.problems += detail_problems(self.document, part, self.parts)
        return self.problems

    def _of(self, base: str) -> list[Part]:
        return [part for part in self.parts if part.base == base]

    def _report(
        self, part: Part, message: str, *steps: str | int, hint: str | None = None, key: bool = False
    ) -> None:
        self.problems.append(self.document.problem(message, (*part.path, *steps), hint=hint, key=key))

    def _line(self, part: Part, *steps: str | int) -> int:
        return self.document.place((*part.path, *steps)).line

    # ── over all components ────────────────────────────────────────

    def _only_one(self, base: str) -> None:
        found = self._of(base)
        if not found and self.parts:  # an empty document has been told so already
            message = f"the product has no component of type '{base}'"
            hint = f"see 'tulle capability show {base}' for an example"
            root = self.parts[0].path[:-1]
            self.problems.append(self.document.problem(message, root, key=True, hint=hint))
        for extra in found[1:]:
            message = f"a second component of type '{base}': '{extra.name}'"
            hint = f"a product has exactly one; the first is at line {self._line(found[0])}"
            self._report(extra, message, "type", hint=hint)

    def _names_differ(self) -> None:
        names: dict[str, tuple[str, Callable[[Part], str]]] = {
            "data-set": ("data set", data_set_name),
            "input-port": ("input port", lambda part: kebab(part.name)),
            "output-port": ("output port", lambda part: kebab(part.name)),
        }
        by_title: dict[tuple[str, str], Part] = {}
        by_name: dict[tuple[str, str], Part] = {}
        for part in self.parts:
            if part.base in ONLY_ONCE:
                continue
            first = by_title.setdefault((part.type, part.name), part)
            if first is not part:
                message = f"a second {part.type} named '{part.name}'"
                hint = f"give each its own name; the first is at line {self._line(first)}"
                self._report(part, message, "name", hint=hint)
                continue
            what, name_of = names.get(part.base, ("component", lambda part: kebab(part.name)))
            first = by_name.setdefault((part.base, name_of(part)), part)
            if first is not part and name_of(part):
                message = f"'{part.name}' makes the same {what} '{name_of(part)}' as '{first.name}'"
                hint = f"give each its own name; the first is at line {self._line(first)}"
                self._report(part, message, "name", hint=hint)
        self._rows_differ()

    def _rows_differ(self) -> None:
        seen: dict[str, Part] = {}
        for part in self._of("input-port"):
            rows = rows_name(part)
            first = seen.setdefault(rows, part)
            if rows and first is not part and first.name != part.name:
                message = (
                    f"input-port '{part.name}' fills the data set '{shown(rows)}', as '{first.name}' does"
                )
                hint = f"give its rows another name under data_set; the first is at line {self._line(first)}"
                self._report(part, message, "properties", "data_set", hint=hint)

    # ── one component each ────────────────────────────────────────

    def _has_name(self, part: Part) -> None:
        if not kebab(part.name):
            message = f"no name can be made from '{shown(part.name)}'"
            self._report(part, message, "name", hint="use at least one letter from a to z or a digit")

    def _domain(self, part: Part) -> None:
        self._has_name(part)
        if len(kebab(part.name)) > 63:
            self._report(part, "the domain's name is longer than 63 characters", "name", hint="shorten it")

    def _data_product(self, part: Part) -> None:
        name = product_name(self.document, part)
        if self.document.at(("metadata", "name")) is None and not 3 <= len(name) <= 63:
            message = f"the product's name '{shown(name)}', made from '{shown(part.name)}', is not 3 to 63 characters"
            hint = "give one under metadata: {name: …}, such as customer-features"
            self._report(part, message, "name", hint=hint)
        for fault in faults(part.properties.get("schedule")):
            self._report(part, fault.message, "properties", "schedule", *fault.steps, hint=fault.hint)

    def _data_set(self, part: Part) -> None:
        name = data_set_name(part)
        steps: Steps = ("properties", "table_name") if part.text("table_name") else ("name",)
        if not name or not name[0].isalpha() or len(name) > 63:
            message = f"'{shown(name or part.name)}' is no name for a data set"
            hint = "set table_name to a name that starts with a letter, such as customer_features"
            self._report(part, message, *steps, hint=hint)
        elif name in RESERVED_DATA_SETS:
            message = f"a data set may not be named '{name}': {RESERVED_DATA_SETS[name]}"
            self._report(part, message, *steps, hint="name it differently with table_name")
        self._columns(part, "columns")

    def _columns(self, part: Part, *steps: str) -> None:
        """Names that repeat (SQL does not tell case apart) and decimals that cannot be."""
        seen: dict[str, int] = {}
        for position, column in part.entries(*steps):
            path: Steps = ("properties", *steps, position)
            name, kind = column.get("name"), column.get("type")
            if isinstance(name, str) and (first := seen.setdefault(name.lower(), position)) != position:
                message = f"the column '{shown(name)}' is given twice in {part.type} '{part.name}'"
                line = self._line(part, "properties", *steps, first)
                hint = f"the first is at line {line}; upper and lower case count as the same"
                self._report(part, message, *path, "name", hint=hint)
            if isinstance(kind, str) and TYPE_SHAPE.fullmatch(kind) and parse_type(kind) is None:
                message = f"the scale of '{shown(kind)}' is larger than its precision"
                self._report(part, message, *path, "type", hint="write decimal(precision,scale)")

    def _input_port(self, part: Part) -> None:
        self._has_name(part)
        says = part.properties
        upstream = [prop for prop in ("associated_output_port", "product") if prop in says]
        if "source" in says:
            if upstream:
                message = f"input-port '{part.name}' has both a source and '{upstream[0]}'"
                hint = "a port takes one or the other: use two ports"
                self._report(part, message, "properties", upstream[0], key=True, hint=hint)
            if isinstance(says["source"], dict):
                self._source(part, says["source"])
        elif upstream == ["product"]:
            message = f"input-port '{part.name}' names a product but not its output port"
            hint = "name it too: associated_output_port: …"
            self._report(part, message, "properties", "product", key=True, hint=hint)
        for prop, told in (("version", "a version"), ("takes", "a data set to take")):
            if prop in says and "associated_output_port" not in says:
                message = f"input-port '{part.name}' names {told}, but no output port of another product"
                hint = "remove it, or name the port: associated_output_port: …"
                self._report(part, message, "properties", prop, key=True, hint=hint)

    def _source(self, part: Part, source: dict[str, Any]) -> None:
        for broken in source_rules(source):
            steps = (broken.at,) if broken.at else ()
            at: Steps = ("properties", "source", *steps)
            self._report(part, broken.message, *at, hint=broken.hint, key=broken.key)
        self._columns(part, "source", "columns")

    def _output_port(self, part: Part) -> None:
        self._has_name(part)
        written = part.text("data_set")
        if written and written not in self.data_sets:
            message = (
                f"output-port '{part.name}' offers '{shown(written)}', which is no data set of this product"
            )
            hint = did_you_mean(written, self.data_sets) or "add a component of type data-set"
            self._report(part, message, "properties", "data_set", hint=hint)

    def _indicator(self, part: Part) -> None:
        self._has_name(part)
        written = part.text("service_level_name")
        if written and kebab(written) not in self.levels:
            message = f"indicator '{part.name}' measures '{shown(written)}', which is no service level here"
            hint = (
                did_you_mean(written, self.levels.values()) or "add a component of type service-level-asset"
            )
            self._report(part, message, "properties", "service_level_name", hint=hint)

    def _agreement(self, part: Part) -> None:
        self._has_name(part)
        expires = part.text("expires")
        if len(expires) != 10:
            return  # missing, or not written as a date: its schema has spoken
        try:
            dt.date.fromisoformat(expires)
        except ValueError:
            hint = "write a date such as 2027-12-31"
            self._report(part, f"there is no day '{expires}'", "properties", "expires", hint=hint)
