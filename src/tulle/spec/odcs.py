"""Data contracts in the Open Data Contract Standard (ODCS) 3.2: one for each output port, written and read.

`contract` tells of one output port and of all that its consumers rely on; `read_contract` makes the components of a
contract. Both ways nothing is lost: what of ours the standard has no word for travels as custom properties of the
vendor `tulle`; what of theirs we have no word for is kept with the output port, under `custom: {odcs: …}`, and put
back when the contract is written again. Pure.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from tulle.spec.capability import Registry
from tulle.spec.document import Document, refuse
from tulle.spec.odcs_tables import data_set, schema_object
from tulle.spec.overlay import apply_edits, difference
from tulle.spec.part import Part, data_set_name
from tulle.spec.product import DataProduct, kebab
from tulle.spec.translate import (
    CONTACT,
    EDITS,
    LINK,
    ORDER,
    SUPPORT,
    Pairs,
    Plain,
    add_own,
    checked,
    custom_given,
    custom_taken,
    filled,
    given,
    order,
    order_of,
    rows_given,
    rows_taken,
    taken,
    unused,
    view_of,
    without_edits,
)
from tulle.spec.validate import Schema, validate

API_VERSION = "v3.2.0"
RESIDUE = "odcs"  # where a port keeps what of its contract we have no word for
UNNAMED_DOMAIN = "imported"

_HEAD: Pairs = (("tags", "tags"), ("status", "status"), ("tenant", "tenant"), ("version", "version"))
_DESCRIPTION: Pairs = (("purpose", "purpose"), ("usage", "usage"), ("limitations", "limitations"))
_PRICE: Pairs = (("amount", "priceAmount"), ("currency", "priceCurrency"), ("per", "priceUnit"))
_LEVEL: Pairs = (
    ("unit", "unit"),
    ("element", "element"),
    ("driver", "driver"),
    ("description", "description"),
    ("schedule", "schedule"),
    ("scheduler", "scheduler"),
)
_HEAD_TOLD = {ours for ours, _ in (*_HEAD, *_DESCRIPTION)} | {"support", "contacts", "links"}
_LEVEL_TOLD = {ours for ours, _ in _LEVEL} | {"measure", "threshold", "links", "custom"}
_TOLD_TYPES = {"domain", "data-product", "data-set", "output-port", "service-level-asset"}


@cache
def contract_schema() -> Schema:
    """The standard's own JSON Schema."""
    return Schema(
        json.loads((files("tulle.spec") / "published" / "odcs-3.2.0.schema.json").read_text("utf-8"))
    )


def contract(product: DataProduct, port: str, registry: Registry) -> Plain:
    """The data contract of one output port. Raises NotFound with the nearest name."""
    return contract_of(view_for(product, product.output_port(port).title, registry), registry)


def read_contract(document: Document, registry: Registry, *, domain: str = "") -> tuple[Plain, DataProduct]:
    """The components a contract makes, and the product they are. Raises Invalid with every problem of the file."""
    refuse(document.name, validate(document, contract_schema()))
    view = view_from(document.value, registry, domain=domain, name=document.name)
    return checked(view, registry, document.name)


def base_of(registry: Registry, kind: str) -> str:
    """The built-in type at the root of a type; an unknown type is its own."""
    return registry.base(kind) if kind in registry else kind


def view_for(product: DataProduct, title: str, registry: Registry) -> Plain:
    """The components that the consumers of one output port rely on."""
    view = view_of(product)
    port = next(p for p in product.output_ports if p.title == title)
    kept = []
    for component in view["components"]:
        base = base_of(registry, component["type"])
        if base == "input-port" or (base == "output-port" and component["name"] != title):
            continue
        if base == "data-set" and data_set_of(component) not in port.offers:
            continue
        kept.append(component)
    return part({**view, "components": kept}, registry)


def part(view: Plain, registry: Registry) -> Plain:
    """A view that is a part of a product: what its columns refer to and is not in it is named with the product."""
    twin = copy.deepcopy(view)
    sets = [c for c in twin["components"] if base_of(registry, c["type"]) == "data-set"]
    known = {data_set_of(component) for component in sets}
    for component in sets:
        for column in component["properties"].get("columns", ()):
            key = column.get("foreign_key")
            if key and "product" not in key and key["data_set"] not in known:
                key["product"] = twin["metadata"]["name"]
    return twin


def data_set_of(component: Mapping[str, Any]) -> str:
    """The machine name of the data set a component describes."""
    return data_set_name(Part((), component["name"], component["type"], "data-set", component["properties"]))


# ── both ways, without loss ────────────────────────────────────────


def contract_of(view: Plain, registry: Registry) -> Plain:
    """The contract of a view with one output port."""
    written = translated(view, registry)
    again = view_from(written, registry, name="contract")
    if (wanted := order_of(view)) != order_of(again):
        add_own(written, ORDER, wanted)
        again = view_from(written, registry, name="contract")
    if edits := difference(again, view):
        add_own(written, EDITS, edits)
    return written


def translated(view: Plain, registry: Registry) -> Plain:
    """The contract of a view as far as words can be translated, with what was kept of the one it was read from."""
    plain, residue = without_residue(view, registry)
    return dict(apply_edits(write(plain, registry), residue)[0])


def view_from(contract: Mapping[str, Any], registry: Registry, *, domain: str = "", name: str) -> Plain:
    """The view of a contract, with what we have no word for in the port's `custom`."""
    plain, edits, kept = without_edits(contract)
    view, _ = checked(read(plain, registry, domain=domain), registry, name)
    keep_residue(view, difference(write(view, registry), plain), registry)
    order(view, kept)
    return copy.deepcopy(apply_edits(view, edits)[0])


def keep_residue(view: Plain, residue: list[Any], registry: Registry) -> None:
    """Keep with the output port what its contract says and we have no word for; `view` is changed."""
    port = next(c for c in view["components"] if base_of(registry, c["type"]) == "output-port")
    if residue:
        port["properties"]["custom"] = {**port["properties"].get("custom", {}), RESIDUE: residue}


def without_residue(view: Plain, registry: Registry) -> tuple[Plain, list[Any]]:
    """The view without what was kept, and what was kept."""
    twin = copy.deepcopy(view)
    for component in twin["components"]:
        custom = component["properties"].get("custom")
        if base_of(registry, component["type"]) != "output-port" or not isinstance(custom, dict):
            continue
        residue = custom.pop(RESIDUE, None)
        if not custom and residue is not None:
            del component["properties"]["custom"]
        return twin, residue if isinstance(residue, list) else []
    return twin, []


# ── ours as theirs ────────────────────────────────────────


def write(view: Plain, registry: Registry) -> Plain:
    """The contract as far as words can be translated."""
    of: dict[str, list[Plain]] = {}
    for component in view["components"]:
        of.setdefault(base_of(registry, component["type"]), []).append(component)
    domain, head, port = of["domain"][0], of["data-product"][0], of["output-port"][0]
    says, offered = head["properties"], port["properties"]
    name = view["metadata"]["name"]
    others = [c for kind, listed in of.items() if kind not in _TOLD_TYPES for c in listed]
    hidden = {"version", "status"} & offered.keys()  # the port's own is told in place of the product's
    own = {
        "product": name,
        "domain": _typed(domain, domain["properties"], "domain"),
        "dataProduct": _typed(
            head, {k: v for k, v in says.items() if k not in _HEAD_TOLD or k in hidden}, "data-product"
        ),
        "outputPort": _typed(
            port, {k: v for k, v in offered.items() if k not in {"contract_id", "custom"}}, "output-port"
        ),
        "components": others,
    }
    price: Plain = next((c["properties"]["price"] for c in others if "price" in c["properties"]), {})
    made = {
        "apiVersion": API_VERSION,
        "kind": "DataContract",
        "id": offered.get("contract_id") or contract_id(name, port["name"]),
        "name": port["name"],
        "version": "0.1.0",
        **taken(says, _HEAD),
        **{key: offered[key] for key in hidden},
        "domain": domain["name"],
        "dataProduct": head["name"],
        "description": taken(says, _DESCRIPTION),
        "servers": _servers(name, port, of.get("data-set", ())),
        "schema": [schema_object(component) for component in of.get("data-set", ())],
        "price": taken(price, _PRICE),
        "slaProperties": [_level(level, others) for level in of.get("service-level-asset", ())],
        "support": rows_taken(says.get("support"), SUPPORT),
        "team": filled({"members": rows_taken(says.get("contacts"), CONTACT)}),
        "authoritativeDefinitions": rows_taken(says.get("links"), LINK),
        "customProperties": custom_taken(offered.get("custom"), filled(own)),
    }
    return filled(made)


def contract_id(product: str, port: str) -> str:
    """The id of a contract that was not given one."""
    return f"{product}.{kebab(port)}"


def _typed(component: Plain, says: Mapping[str, Any], base: str) -> Plain:
    return {**says, "type": component["type"]} if component["type"] != base else dict(says)


def _servers(product: str, port: Plain, data_sets: Any) -> list[Plain]:
    """Where the rows of a port for files lie: in the lake, read with the S3 protocol."""
    if port["properties"].get("protocol", "files") != "files" or port["properties"].get("url"):
        return []
    return [
        {
            "server": f"lake-{data_set_of(component)}",
            "type": "s3",
            "location": f"s3://{product}/main/{data_set_of(component)}/*.parquet",
            "format": "parquet",
        }
        for component in data_sets
    ]


def _level(component: Plain, others: list[Plain]) -> Plain:
    says = component["properties"]
    rest = {k: v for k, v in says.items() if k not in _LEVEL_TOLD}
    if component["type"] != "service-level-asset":
        rest["type"] = component["type"]
    unit: Plain = {}
    value = says.get("threshold")
    if value is None:  # its indicator says how much, or else words do
        objectives = [
            other["properties"]["objective"]
            for other in others
            if kebab(str(other["properties"].get("service_level_name", ""))) == kebab(component["name"])
            and "objective" in other["properties"]
        ]
        value, unit = (
            (objectives[0], {"unit": "percent"}) if objectives else (says.get("description", "yes"), {})
        )
        rest["valueIs"] = "objective" if objectives else "description"
    own = {"name": component["name"], **rest}
    entry = {
        "property": says.get("measure") or kebab(component["name"]),
        **unit,
        **taken(says, _LEVEL),
        "authoritativeDefinitions": rows_taken(says.get("links"), LINK),
        "customProperties": custom_taken(says.get("custom"), own),
    }
    return {**filled(entry), "value": value}


# ── theirs as ours ────────────────────────────────────────


def read(contract: Mapping[str, Any], registry: Registry, *, domain: str = "") -> Plain:
    """The components of a contract as far as words can be translated."""
    custom, own = custom_given(contract.get("customProperties"))
    told = {key: own[key] if isinstance(own.get(key), dict) else {} for key in _OWN}
    title = str(contract.get("dataProduct") or contract.get("name") or contract["id"])
    name = str(own.get("product") or machine_name(title))
    port_title = str(contract.get("name") or f"Port of {title}")
    domain_title = str(contract.get("domain") or domain or UNNAMED_DOMAIN)
    tables: set[str] = set()
    names: set[str] = set()
    schema = contract.get("schema")
    sets = [data_set(entry, names, tables) for entry in (schema if isinstance(schema, list) else ())]
    head = {**head_of(contract), **told["dataProduct"]}
    head.setdefault("definition", head.get("purpose") or title)
    if "data_product_owner" not in head and (owner := owner_of(head.get("contacts", ()))):
        head["data_product_owner"] = owner
    offered = [data_set_of(component) for component in sets]
    port = {"description": f"Access to {title}", **told["outputPort"], "custom": custom}
    if len(offered) > 1:  # the product's only one goes without saying
        port.setdefault("data_set", offered[0])
        port.setdefault("data_sets", offered)
    if contract["id"] != contract_id(name, port_title):
        port["contract_id"] = contract["id"]
    components = [
        _component(domain_title if kebab(domain_title) else UNNAMED_DOMAIN, "domain", told["domain"]),
        _component(title if kebab(title) else name, "data-product", head),
        *sets,
        _component(port_title if kebab(port_title) else f"Port of {name}", "output-port", port),
        *_levels(contract.get("slaProperties")),
        *others_given(own.get("components")),
    ]
    if (price := contract.get("price")) and not any("price" in c["properties"] for c in components):
        says = {"description": "What use costs", "price": given(price, _PRICE)}
        components.append(_component("Price", "data-sharing-agreement", says))
    known = [c for c in components if c["type"] in registry]
    return {"metadata": {"name": name}, "components": known}


_OWN = ("domain", "dataProduct", "outputPort")


def head_of(says: Mapping[str, Any]) -> Plain:
    """What a contract or a product's envelope says of the product as a whole."""
    description, team = says.get("description"), says.get("team")
    members = team.get("members") if isinstance(team, Mapping) else team
    return filled(
        {
            **given(says, _HEAD),
            **(given(description, _DESCRIPTION) if isinstance(description, Mapping) else {}),
            "support": rows_given(says.get("support"), SUPPORT),
            "contacts": rows_given(members, CONTACT),
            "links": rows_given(says.get("authoritativeDefinitions"), LINK),
        }
    )


def owner_of(contacts: Any) -> str:
    """The member of a team whose role is that of an owner."""
    for contact in contacts:
        if isinstance(contact, Mapping) and "owner" in str(contact.get("role", "")).lower():
            return str(contact.get("username", ""))
    return ""


def machine_name(title: str) -> str:
    """A product's name made from a title; always a usable one."""
    name = kebab(title)[:63].strip("-")
    return name if len(name) >= 3 else f"product-{name}".strip("-")


def _component(name: str, kind: str, says: Mapping[str, Any]) -> Plain:
    said = dict(says)
    written = said.pop("type", kind)
    return {"name": name, "type": written if isinstance(written, str) else kind, "properties": filled(said)}


def _levels(entries: Any) -> list[Plain]:
    made, used = [], set[str]()
    for entry in entries if isinstance(entries, list) else ():
        custom, own = custom_given(entry.get("customProperties"))
        how = own.pop("valueIs", None)
        name = unused(str(own.pop("name", None) or entry["property"]), used)
        kind = own.pop("type", "service-level-asset")
        says = {
            **given(entry, _LEVEL),
            **own,
            "links": rows_given(entry.get("authoritativeDefinitions"), LINK),
            "custom": custom,
        }
        says.setdefault(
            "description", f"{entry['property']}: {entry['value']} {entry.get('unit', '')}".strip()
        )
        if how is None:
            says["threshold"] = entry["value"]
        elif how == "objective":
            says.pop("unit", None)
        if entry["property"] != kebab(name):
            says["measure"] = entry["property"]
        made.append(_component(name, "service-level-asset", {**filled(says), "type": kind}))
    return made


def others_given(listed: Any) -> list[Plain]:
    """The components that travelled whole, as far as they are some."""
    return [
        {"name": c["name"], "type": c["type"], "properties": c["properties"]}
        for c in (listed if isinstance(listed, list) else ())
        if isinstance(c, dict)
        and isinstance(c.get("name"), str)
        and isinstance(c.get("type"), str)
        and isinstance(c.get("properties"), dict)
    ]
