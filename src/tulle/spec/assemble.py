"""Components that passed their schemas, put together into a DataProduct.

Here are the rules that a schema of one component cannot say: exactly one domain and data product, names that
must not repeat, references between components, types and dates that must make sense. Pure: a document in, a
product and problems out.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tulle.errors import Problem, did_you_mean
from tulle.spec.columns import parse_type
from tulle.spec.components import PRODUCT_TYPE_WORDS, YES_OR_NO
from tulle.spec.document import Document
from tulle.spec.document import Path as Steps
from tulle.spec.product import (
    Column,
    Component,
    DataProduct,
    DataSet,
    DataSharingAgreement,
    FileSource,
    InputPort,
    OutputPort,
    ServiceLevelAsset,
    ServiceLevelIndicator,
    SourceColumn,
    kebab,
    snake,
)

RESERVED_DATA_SETS = {"models": "trained models of the product lie there"}  # folders of the repository
_ENDINGS = {
    "csv": "csv",
    "tsv": "csv",
    "json": "json",
    "jsonl": "json",
    "ndjson": "json",
    "parquet": "parquet",
}


@dataclass(frozen=True, slots=True)
class Part:
    """One component of a document: where it is, and its properties in plain form."""

    path: Steps
    name: str
    type: str
    base: str  # the built-in type at the root of `type`
    properties: dict[str, Any]
    valid: bool  # whether its properties fit their schema


def assemble(document: Document, parts: list[Part], file: Path) -> tuple[DataProduct | None, list[Problem]]:
    """The product that `parts` make, or None, and what is wrong with how they fit together."""
    return _Assembly(document, parts, file).product()


class _Assembly:
    def __init__(self, document: Document, parts: list[Part], file: Path) -> None:
        self.document = document
        self.parts = parts
        self.file = file
        self.problems: list[Problem] = []

    def product(self) -> tuple[DataProduct | None, list[Problem]]:
        """All parts read, references checked."""
        self._check_repeated_names()
        domain, head = self._only("domain"), self._only("data-product")
        data_sets = self._read("data-set", self._data_set)
        self._refuse_repeats("data-set", "data set", self._data_set_name)
        for kind, what in (("input-port", "input port"), ("output-port", "output port")):
            self._refuse_repeats(kind, what, lambda part: kebab(part.name))
        ports_in = self._read("input-port", self._input_port)
        self._refuse_repeats("input-port", "data set of an input port", self._rows_of_input_port)
        ports_out = self._read("output-port", self._output_port)
        assets = self._read("service-level-asset", self._asset)
        indicators = self._read("service-level-indicator", self._indicator)
        agreements = self._read("data-sharing-agreement", self._agreement)
        domain_name = self._domain_name(domain)
        name = self._product_name(head)
        if self.problems or not (domain and head and domain.valid and head.valid):
            return None, self.problems
        says, about = head.properties, domain.properties
        product = DataProduct(
            name=name,
            title=head.name,
            domain=domain_name,
            description=says["definition"].strip(),
            domain_title=domain.name,
            domain_description=about.get("description", "").strip(),
            domain_owner=about.get("owner", ""),
            owner=says.get("data_product_owner", ""),
            product_type=PRODUCT_TYPE_WORDS.get(says.get("data_product_type", ""), ""),
            certified=YES_OR_NO[says.get("certified", False)],
            version=says.get("version", ""),
            purpose=says.get("purpose", ""),
            classification=says.get("classification", "internal"),
            tags=tuple(says.get("tags", ())),
            data_sets=data_sets,
            input_ports=ports_in,
            output_ports=ports_out,
            service_level_assets=assets,
            service_level_indicators=indicators,
            agreements=agreements,
            components=tuple(
                Component(p.name, p.type, p.properties, self.document.place(p.path)) for p in self.parts
            ),
            digest=_digest(name, self.parts),
            file=self.file,
            folder=self.file.parent,
            place=self.document.place(head.path),
        )
        return product, self.problems

    # ── rules over all components ────────────────────────────────────────

    def _problem(
        self, part: Part, message: str, *steps: str | int, hint: str | None = None, key: bool = False
    ) -> None:
        self.problems.append(self.document.problem(message, (*part.path, *steps), hint=hint, key=key))

    def _of(self, base: str) -> list[Part]:
        return [part for part in self.parts if part.base == base]

    def _read(self, base: str, build: Callable[[Part], Any]) -> tuple[Any, ...]:
        return tuple(build(part) for part in self._of(base) if part.valid)

    def _only(self, base: str) -> Part | None:
        """The one component of a type of which there must be exactly one."""
        found = self._of(base)
        if not found and self.parts:  # an empty document has been told so already
            root = self.parts[0].path[:-1]
            hint = f"see 'tulle capability show {base}' for an example"
            self.problems.append(
                self.document.problem(
                    f"the product has no component of type '{base}'", root, key=True, hint=hint
                )
            )
        for extra in found[1:]:
            first = self.document.place(found[0].path)
            message = (
                f"a second component of type '{base}': '{extra.name}'; the first is at line {first.line}"
            )
            self._problem(extra, message, "type", hint="a product has exactly one")
        return found[0] if found else None

    def _check_repeated_names(self) -> None:
        seen: dict[tuple[str, str], Part] = {}
        for part in self.parts:
            first = seen.setdefault((part.type, part.name), part)
            if first is not part and part.base not in {"domain", "data-product"}:
                line = self.document.place(first.path).line
                message = f"a second {part.type} named '{part.name}'; the first is at line {line}"
                self._problem(part, message, "name", hint="give each its own name")

    def _refuse_repeats(self, base: str, what: str, name_of: Callable[[Part], str]) -> None:
        """Different spellings that come to the same machine name."""
        seen: dict[str, Part] = {}
        for part in self._of(base):
            name = name_of(part)
            first = seen.setdefault(name, part) if name else part
            if first is not part and first.name != part.name:
                line = self.document.place(first.path).line
                message = f"'{part.name}' comes to the same {what} '{name}' as '{first.name}' at line {line}"
                self._problem(part, message, "name", hint="give each its own name")

    # ── names ────────────────────────────────────────

    def _product_name(self, head: Part | None) -> str:
        given = self.document.at(("metadata", "name"))
        if isinstance(given, str) or head is None:
            return str(given or "")
        name = kebab(head.name)
        if not 3 <= len(name) <= 63:
            message = f"no name can be made from '{head.name[:80]}': '{name[:80]}' is not 3 to 63 characters"
            self._problem(
                head, message, "name", hint="give one under metadata: {name: …}, such as customer-features"
            )
        return name

    def _domain_name(self, domain: Part | None) -> str:
        name = kebab(domain.name) if domain else ""
        if domain and not 1 <= len(name) <= 63:
            hint = "use 1 to 63 letters and digits, such as sales"
            self._problem(
                domain, f"no name can be made from the domain '{domain.name[:80]}'", "name", hint=hint
            )
        return name

    def _data_set_name(self, part: Part) -> str:
        table = part.properties.get("table_name")
        written = table.rsplit(".", 1)[-1] if isinstance(table, str) else part.name
        return snake(written)

    def _port_name(self, part: Part) -> str:
        name = kebab(part.name)
        if not name:
            self._problem(
                part, f"no name can be made from '{part.name[:80]}'", "name", hint="use letters and digits"
            )
        return name

    def _data_set_reference(self, part: Part, written: str, prop: str = "data_set") -> str:
        """The name of the data set that `written` (its name or its component's) means."""
        names = {self._data_set_name(p) for p in self._of("data-set")}
        by_title = {p.name: self._data_set_name(p) for p in self._of("data-set")}
        if written in names or written in by_title:
            return written if written in names else by_title[written]
        message = (
            f"{part.type} '{part.name}' refers to the data set '{written}', which the product does not have"
        )
        self._problem(
            part, message, "properties", prop, hint=did_you_mean(written, names) or "add a data-set component"
        )
        return written

    # ── one component each ────────────────────────────────────────

    def _text(self, part: Part, prop: str) -> str:
        return str(part.properties.get(prop, "")).strip()

    def _data_set(self, part: Part) -> DataSet:
        name = self._data_set_name(part)
        steps = ("properties", "table_name") if "table_name" in part.properties else ("name",)
        if not name or not name[0].isalpha() or len(name) > 63:
            hint = (
                "set table_name to a name in snake_case that starts with a letter, such as customer_features"
            )
            self._problem(part, f"'{name or part.name}' is no name for a data set", *steps, hint=hint)
        elif name in RESERVED_DATA_SETS:
            self._problem(part, f"a data set may not be named '{name}': {RESERVED_DATA_SETS[name]}", *steps)
        return DataSet(
            name=name,
            title=part.name,
            description=self._text(part, "description"),
            table=part.properties.get("table_name", name),
            table_domain=self._text(part, "table_domain"),
            columns=self._columns(part),
            tags=tuple(part.properties.get("tags", ())),
            classification=part.properties.get("classification", ""),
            place=self.document.place(part.path),
        )

    def _columns(self, part: Part) -> tuple[Column, ...]:
        written = part.properties.get("columns", ())
        self._check_columns(part, written, ("properties", "columns"))
        return tuple(
            Column(
                **{**column, "tags": tuple(column.get("tags", ()))},
                place=self.document.place((*part.path, "properties", "columns", position)),
            )
            for position, column in enumerate(written)
        )

    def _check_columns(self, part: Part, columns: Iterable[dict[str, Any]], steps: Steps) -> None:
        """Names that repeat (engines do not tell case apart) and decimals that cannot be."""
        seen: dict[str, int] = {}
        for position, column in enumerate(columns):
            name, kind = column["name"], column.get("type", "string")
            first = seen.setdefault(name.lower(), position)
            if first != position:
                line = self.document.place((*part.path, *steps, first)).line
                message = (
                    f"the column '{name}' is given twice in {part.type} '{part.name}'; first at line {line}"
                )
                self._problem(
                    part, message, *steps, position, "name", hint="upper and lower case count as the same"
                )
            if parse_type(kind) is None:
                message = f"the scale of '{kind}' is larger than its precision"
                self._problem(part, message, *steps, position, "type", hint="write decimal(precision,scale)")

    def _rows_of_input_port(self, part: Part) -> str:
        """The data set an input port fills, empty where that is not known yet."""
        given = part.properties.get("data_set")
        if isinstance(given, str):
            return given
        return snake(part.name) if "source" in part.properties else ""

    def _input_port(self, part: Part) -> InputPort:
        says = part.properties
        source, upstream = says.get("source"), says.get("associated_output_port", "")
        if source and (upstream or "product" in says):
            other = "associated_output_port" if upstream else "product"
            message = f"input-port '{part.name}' has both a source and '{other}'"
            self._problem(
                part,
                message,
                "properties",
                other,
                key=True,
                hint="a port takes one or the other: use two ports",
            )
        elif "product" in says and not upstream:
            hint = "name it: associated_output_port: …"
            self._problem(
                part,
                f"input-port '{part.name}' names a product but not its output port",
                "properties",
                "product",
                key=True,
                hint=hint,
            )
        return InputPort(
            name=self._port_name(part),
            title=part.name,
            description=self._text(part, "description"),
            data_set=self._rows_of_input_port(part),
            source=self._source(part) if source else None,
            product=says.get("product", ""),
            associated_output_port=upstream,
            place=self.document.place(part.path),
        )

    def _source(self, part: Part) -> FileSource:
        says = part.properties["source"]
        form = says.get("format") or self._format_of(part, says["path"])
        steps = ("properties", "source")
        columns = says.get("columns", ())
        self._check_columns(part, columns, (*steps, "columns"))
        header = says.get("header", True)
        if form in {"csv", "whitespace"} and not header and not columns:
            hint = "add columns: [{name: …, type: …}, …] in the order of the file"
            self._problem(
                part, f"a {form} file without a header needs its columns named", *steps, key=True, hint=hint
            )
        for prop in ("delimiter", "quote", "header") if form in {"json", "parquet"} else ():
            if prop in says:
                self._problem(part, f"'{prop}' has no meaning for a {form} file", *steps, prop, key=True)
        return FileSource(
            path=says["path"],
            format=form,
            delimiter=says.get("delimiter", ",").replace("\\t", "\t"),
            header=header,
            quote=says.get("quote", '"'),
            encoding=says.get("encoding", "utf-8"),
            columns=tuple(
                SourceColumn(**column, place=self.document.place((*part.path, *steps, "columns", position)))
                for position, column in enumerate(columns)
            ),
            place=self.document.place((*part.path, *steps)),
        )

    def _format_of(self, part: Part, path: str) -> str:
        ending = path.lower().removesuffix(".gz").rsplit(".", 1)[-1]
        if ending not in _ENDINGS:
            message = f"the ending of '{path[:80]}' does not tell how the file is written"
            self._problem(
                part,
                message,
                "properties",
                "source",
                "path",
                hint="add format: csv, whitespace, json or parquet",
            )
        return _ENDINGS.get(ending, "csv")

    def _output_port(self, part: Part) -> OutputPort:
        written = part.properties.get("data_set", "")
        known = self._of("data-set")
        if written:
            data_set = self._data_set_reference(part, written)
        else:
            data_set = self._data_set_name(known[0]) if len(known) == 1 else ""
        url = self._text(part, "url")
        return OutputPort(
            name=self._port_name(part),
            title=part.name,
            description=self._text(part, "description"),
            data_set=data_set,
            url=url,
            protocol=part.properties.get("protocol") or ("sql" if url.startswith("jdbc:") else "files"),
            place=self.document.place(part.path),
        )

    def _asset(self, part: Part) -> ServiceLevelAsset:
        return ServiceLevelAsset(
            name=self._port_name(part),
            title=part.name,
            description=self._text(part, "description"),
            dimension=self._text(part, "dimension"),
            dimension_domain=self._text(part, "dimension_domain"),
            place=self.document.place(part.path),
        )

    def _indicator(self, part: Part) -> ServiceLevelIndicator:
        written = self._text(part, "service_level_name")
        titles = [p.name for p in self._of("service-level-asset")]
        names = {kebab(title): title for title in titles}
        if written and kebab(written) not in names:
            message = (
                f"service-level-indicator '{part.name}' refers to the service level '{written}',"
                " which the product does not have"
            )
            hint = did_you_mean(written, titles) or "add a service-level-asset component of that name"
            self._problem(part, message, "properties", "service_level_name", hint=hint)
        objective, window = part.properties.get("objective"), part.properties.get("window_days")
        return ServiceLevelIndicator(
            name=self._port_name(part),
            title=part.name,
            description=self._text(part, "description"),
            service_level_name=kebab(written),
            objective=None if objective is None else float(objective),
            window_days=None if window is None else int(window),
            place=self.document.place(part.path),
        )

    def _agreement(self, part: Part) -> DataSharingAgreement:
        expires = self._text(part, "expires")
        try:
            dt.date.fromisoformat(expires or "2000-01-01")
        except ValueError:
            self._problem(
                part,
                f"there is no date '{expires}'",
                "properties",
                "expires",
                hint="write a date such as 2027-12-31",
            )
        return DataSharingAgreement(
            name=self._port_name(part),
            title=part.name,
            description=self._text(part, "description"),
            purpose=self._text(part, "purpose"),
            terms=self._text(part, "terms"),
            expires=expires,
            place=self.document.place(part.path),
        )


def _digest(name: str, parts: list[Part]) -> str:
    """Equal for documents that mean the same, however they are written."""
    meaning = {"name": name, "components": [[p.name, p.type, p.properties] for p in parts]}
    text = json.dumps(meaning, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
