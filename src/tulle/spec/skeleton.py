"""The files of a new mesh and of a new product: valid at once, runnable, and written to teach.

Returns texts by relative path; whoever calls writes them. A new product of any kind brings a few rows of its
own, so that it runs before anything else exists; with an upstream product it takes that one's output port instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from string import Template

from tulle.config import Settings
from tulle.errors import AlreadyExists, Invalid, NotFound, did_you_mean
from tulle.spec.columns import ColumnType, parse_type
from tulle.spec.document import shown
from tulle.spec.load import load_document
from tulle.spec.mesh import PRODUCT_FILE, load_mesh
from tulle.spec.product import PRODUCT_NAME, PRODUCT_TYPES, DataProduct, DataSet, kebab, snake
from tulle.spec.rules import RESERVED_DATA_SETS
from tulle.spec.template_text import (
    CHECKS,
    FILE_PORT,
    GITIGNORE,
    MESH,
    ORDERS_CSV,
    ORDERS_SQL,
    PER_CUSTOMER_SQL,
    PRODUCT,
    README,
    SERVICE,
    UPSTREAM_PORT,
    UPSTREAM_SQL,
)

LONGEST_NAME = 63  # of a domain, as of a product
_WRITTEN_TYPES = {
    "source-aligned": "Source Oriented",
    "aggregate": "Aggregate",
    "consumer-aligned": "Consumer Aligned",
}
# What DuckDB reserves; anything else of letters, digits and underscores may stand without quotes.
_SQL_WORDS = frozenset(
    """all analyse analyze and any array as asc asymmetric both case cast check collate column constraint create
    default deferrable desc describe distinct do else end except false fetch for foreign from group having in
    initially intersect into lambda lateral leading limit not null offset on only or order pivot pivot_longer
    pivot_wider placing primary qualify references returning select show some summarize symmetric table then to
    trailing true union unique unpivot using variadic when where window with""".split()  # noqa: SIM905  ninety quotes would hide the words
)
_NO_KEY = {"double", "decimal", "binary"}  # types rows are not grouped by


def mesh_files(name: str) -> dict[str, str]:
    """The files of a new mesh, by path relative to its folder."""
    plain = re.sub(r"[^\w .-]", "", name).strip() or "mesh"
    words = {"name": plain}
    return {
        "mesh.yaml": Template(MESH).substitute(words),
        ".gitignore": GITIGNORE,
        "README.md": Template(README).substitute(words),
    }


def product_files(
    name: str,
    *,
    domain: str,
    kind: str = "source-aligned",
    upstream: str | None = None,
    settings: Settings | None = None,
    taken: bool = False,
) -> dict[str, str]:
    """The files of a new product, by path relative to its folder `products/<domain>/<name>`.

    `kind` is one of source-aligned, aggregate, consumer-aligned. `upstream` names the product of the mesh (whose
    `settings` are then needed) that it takes from. Raises Invalid for unusable names, AlreadyExists when the mesh
    has a product of that name (unless it is `taken` on purpose), NotFound when it has no `upstream`.
    """
    check_new(name, domain, kind, upstream)
    if settings is not None and not taken:
        check_free(name, settings)
    if upstream is None:
        return _standing_alone(name, domain, kind)
    assert settings is not None, "an upstream product is looked for in a mesh"
    return _taking(name, domain, kind, load_mesh(settings).product(upstream))


def check_new(name: str, domain: str, kind: str, upstream: str | None) -> None:
    """Refuse names and kinds no new product can have."""
    if not re.fullmatch(PRODUCT_NAME, name):
        hint = "use 3 to 63 lower-case letters, digits and hyphens"
        if re.fullmatch(PRODUCT_NAME, kebab(name)):
            hint += f", for example {kebab(name)}"
        raise Invalid(f"'{shown(name)}' is no name for a product", hint=hint)
    if not domain or domain != kebab(domain) or len(domain) > LONGEST_NAME:
        better = kebab(domain)[:LONGEST_NAME].rstrip("-") if domain != kebab(domain) else ""
        hint = (
            f"write '{better}'"
            if better
            else f"use 1 to {LONGEST_NAME} lower-case letters, digits and hyphens"
        )
        raise Invalid(f"'{shown(domain)}' is no name for a domain", hint=hint)
    if kind not in PRODUCT_TYPES:
        raise Invalid(f"there is no kind of product '{kind}'", hint=did_you_mean(kind, PRODUCT_TYPES))
    if upstream is not None and kind == "source-aligned":
        message = f"a source-aligned product takes its data from a source, not from the product '{upstream}'"
        raise Invalid(message, hint="use the kind aggregate or consumer-aligned")


def check_free(name: str, settings: Settings) -> None:
    """Refuse a taken name; by folder, so that a product that is broken right now does not stand in the way."""
    for file in settings.products_folder.glob(f"*/{name}/{PRODUCT_FILE}"):
        where = file.parent.relative_to(settings.folder)
        raise AlreadyExists(f"the mesh has a product '{name}' already: {where}", hint="choose another name")


# ── a product with rows of its own ────────────────────────────────────────


def _standing_alone(name: str, domain: str, kind: str) -> dict[str, str]:
    """A product that reads a small file of orders it brings with it."""
    data_set = _data_set_name(name)
    rows = "orders_raw" if data_set != "orders_raw" else "orders_file"
    words = _words(name, domain, kind, data_set, rows)
    source = kind == "source-aligned"
    port = Template(FILE_PORT).substitute(words, note=_SOURCE_NOTE if source else _STAND_IN_NOTE)
    columns = _ORDER_COLUMNS if source else _CUSTOMER_COLUMNS
    files = {
        PRODUCT_FILE: _document(words, port, columns, _STORIES[kind]),
        "data/orders.csv": ORDERS_CSV,
        f"transform/{data_set}.sql": Template(ORDERS_SQL if source else PER_CUSTOMER_SQL).substitute(words),
        f"checks/{data_set}.yaml": Template(CHECKS).substitute(
            words, check=_ORDER_CHECK if source else _CUSTOMER_CHECK
        ),
    }
    if kind == "consumer-aligned":
        query = "\n  test_queries:\n  - {name: a known customer, data: {customer_id: C-01}}"
        files[f"services/{name}.yaml"] = Template(SERVICE).substitute(words, key="customer_id", queries=query)
    return files


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    type: str
    description: str
    flags: str = ""

    def __str__(self) -> str:
        shown = f"'{self.type}'" if "," in self.type else self.type
        return f"- {{name: {_scalar(self.name)}, type: {shown}, description: {self.description}{self.flags}}}"


_KEY = ", required: true, key: true"
_REQUIRED = ", required: true"
_PERSON = ", pii: indirect"
_ORDER_COLUMNS = (
    _Column("order_id", "string", "The order's number", _KEY),
    _Column("customer_id", "string", "Who ordered", _REQUIRED + _PERSON),
    _Column("ordered_on", "date", "The day of the order", _REQUIRED),
    _Column("amount", "decimal(10,2)", "What was paid", _REQUIRED),
)
_CUSTOMER_COLUMNS = (
    _Column("customer_id", "string", "The customer", _KEY + _PERSON),
    _Column("orders", "integer", "How many orders there were", _REQUIRED),
    _Column("spent", "decimal(18,2)", "What was paid in all", _REQUIRED),
    _Column("last_order_on", "date", "The day of the latest order", _REQUIRED),
)
_ORDER_CHECK = "type: range, column: amount, min: 0, max: 10000"
_CUSTOMER_CHECK = "type: range, column: orders, min: 1"
_STORIES = {  # what the product offers, and what a row of it is
    "source-aligned": ("Every order once, cleaned and typed", "One row an order"),
    "aggregate": ("What each customer ordered, summed up", "One row a customer"),
    "consumer-aligned": ("What to know about a customer who calls", "One row a customer"),
}
_SOURCE_NOTE = "      # Put your own file in its place; name the columns as the file does."
_STAND_IN_NOTE = """\
      # A few rows to begin with. To take another product's output port, write in place of `source:`
      #     product: <its name>
      #     associated_output_port: <the port's name>"""


# ── a product that takes another one's output port ────────────────────────────────────────


def _taking(name: str, domain: str, kind: str, upstream: DataProduct) -> dict[str, str]:
    port = next((port for port in upstream.output_ports if port.data_set), None)
    if port is None:
        raise NotFound(
            f"the product '{upstream.name}' has no output port with a data set to take",
            hint="add a component of type output-port to it",
        )
    taken = upstream.data_set(port.data_set)
    data_set = _data_set_name(name)
    rows = taken.name if taken.name != data_set else f"{taken.name}_in"
    key = _group_column(taken)
    words = _words(name, domain, kind, data_set, rows)
    words |= {"upstream": upstream.name, "port": _quoted(port.title), "title_in": _quoted(taken.title)}
    columns: list[_Column] = [_Column("entries", "integer", "How many rows there were", _REQUIRED)]
    if key:
        columns.insert(0, key)
    select, group = "    count(*) AS entries", ""
    if key:
        grouped = identifier(key.name)
        select, group = f"    {grouped},\n{select}", f"\nGROUP BY {grouped}"
    sql = Template(UPSTREAM_SQL).substitute(words, select=select, group=group)
    story = ("How many rows there are in all", "A single row with the count")
    if key:
        story = (f"How often each {key.name} occurs in {taken.name}", f"One row for each {key.name}")
    files = {
        PRODUCT_FILE: _document(words, Template(UPSTREAM_PORT).substitute(words), tuple(columns), story),
        f"transform/{data_set}.sql": sql,
        f"checks/{data_set}.yaml": Template(CHECKS).substitute(
            words, check="type: range, column: entries, min: 1"
        ),
    }
    if kind == "consumer-aligned" and key:
        files[f"services/{name}.yaml"] = Template(SERVICE).substitute(
            words, key=_scalar(key.name), queries=""
        )
    return files


def _group_column(data_set: DataSet) -> _Column | None:
    """The column one would first group by: a key, else what is required, else any that can be grouped by."""
    usable = [c for c in data_set.columns if (parse_type(c.type) or ColumnType("binary")).name not in _NO_KEY]
    if not usable:
        return None
    found = min(usable, key=lambda column: (not column.key, not column.required))
    if not found.required and not found.key:
        return None  # it may be empty, and a key may not
    personal = f", pii: {found.pii}" if found.pii != "none" else ""
    return _Column(found.name, found.type, _quoted(found.description or found.name), _KEY + personal)


def _data_set_name(name: str) -> str:
    """A product's name as that of its data set, which must begin with a letter and may not be reserved."""
    plain = snake(name)
    usable = plain[0].isalpha() and plain not in RESERVED_DATA_SETS and _scalar(plain) == plain
    return plain if usable else f"data_{plain}"[:63]


def _words(name: str, domain: str, kind: str, data_set: str, rows: str) -> dict[str, str]:
    title = name.replace("-", " ")
    return {
        "name": name,
        "product": _scalar(name),
        "owning_domain": _scalar(domain),
        "title": _scalar(title[0].upper() + title[1:]),
        "domain": domain,
        "kind": kind,
        "written_kind": _WRITTEN_TYPES[kind],
        "data_set": data_set,
        "rows": rows,
        "rows_sql": identifier(rows),
    }


def _document(
    words: Mapping[str, str], port: str, columns: tuple[_Column, ...], story: tuple[str, str]
) -> str:
    listed = "\n".join(f"      {column}" for column in columns)
    definition, row = story
    told = {"definition": definition, "row": row, "columns": listed, "input_port": port.rstrip("\n")}
    return Template(PRODUCT).substitute(words, **told)


def _scalar(text: str) -> str:
    """A name as a YAML scalar: in quotes only where YAML would read something else."""
    return text if load_document(text).value == text else _quoted(text)


def identifier(name: str) -> str:
    """A name in SQL: in quotes only where SQL would read something else."""
    return f'"{name}"' if name.lower() in _SQL_WORDS else name


def _quoted(text: str) -> str:
    """Somebody's text as a YAML scalar on one line."""
    return "'" + " ".join(text.split()).replace("'", "''") + "'"
