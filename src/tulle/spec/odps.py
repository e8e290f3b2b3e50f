"""A whole product in the Open Data Product Standard (ODPS) 1.1: an envelope, and an ODCS contract for each output port.

`bundle` writes both, `read_bundle` makes a product of them. Nothing is lost either way: what of ours the envelope has
no word for travels as custom properties of the vendor `tulle`; what of theirs we have no word for is kept with the
data product, under `custom: {odps: …}`, and that of a contract with its output port. Pure.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from tulle.spec import odcs
from tulle.spec.capability import Registry
from tulle.spec.components import PROTOCOLS
from tulle.spec.document import Document, refuse
from tulle.spec.odcs import base_of, contract_id, head_of, machine_name, owner_of
from tulle.spec.overlay import apply_edits, difference
from tulle.spec.product import DataProduct, kebab
from tulle.spec.translate import (
    CONTACT,
    EDITS,
    LINK,
    ORDER,
    SUPPORT,
    SYNONYM,
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

API_VERSION = "v1.1.0"
RESIDUE = "odps"  # where a product keeps what of its envelope we have no word for
ELSEWHERE = "elsewhere"  # what a port keeps whose contract was not there: it offers nothing of this product's

_HEAD: Pairs = (("tags", "tags"), ("status", "status"), ("tenant", "tenant"), ("version", "version"))
_DESCRIPTION: Pairs = (("purpose", "purpose"), ("usage", "usage"), ("limitations", "limitations"))
_PORT: Pairs = (
    ("description", "description"),
    ("version", "version"),
    ("contract_id", "contractId"),
    ("deprecated", "deprecated"),
    ("tags", "tags"),
)
_INPUT: Pairs = tuple(pair for pair in _PORT if pair[0] != "description")
_TYPES = {
    "Source Oriented": "sourceAligned",
    "Aggregate": "aggregate",
    "Consumer Aligned": "consumerAligned",
}
_OURS = {theirs: ours for ours, theirs in _TYPES.items()}
_HEAD_TOLD = {ours for ours, _ in (*_HEAD, *_DESCRIPTION)} | {
    *("support", "contacts", "links", "synonyms", "custom"),
}
_ELSEWHERE = {"domain", "data-product", "input-port", "output-port"}


@dataclass(frozen=True, slots=True)
class Bundle:
    """A product's envelope, and its contracts by the id the envelope knows them by."""

    product: Plain
    contracts: dict[str, Plain]


@cache
def product_schema() -> Schema:
    """The standard's own JSON Schema."""
    return Schema(
        json.loads((files("tulle.spec") / "published" / "odps-1.1.0.schema.json").read_text("utf-8"))
    )


def bundle(product: DataProduct, registry: Registry) -> Bundle:
    """The envelope of a product and the contract of each of its output ports."""
    return _bundle_of(view_of(product), registry)


def read_bundle(
    document: Document, contracts: Mapping[str, Document], registry: Registry, *, domain: str = ""
) -> tuple[Plain, DataProduct]:
    """The components that an envelope and its contracts (by id) make, and the product they are.

    Raises Invalid with every problem of the file that is read first and has some.
    """
    refuse(document.name, validate(document, product_schema()))
    for contract in contracts.values():
        refuse(contract.name, validate(contract, odcs.contract_schema()))
    found = Bundle(document.value, {name: dict(contract.value) for name, contract in contracts.items()})
    view = _view_from(found, registry, domain=domain, name=document.name)
    return checked(view, registry, document.name)


# ── both ways, without loss ────────────────────────────────────────


def _bundle_of(view: Plain, registry: Registry) -> Bundle:
    plain, residue = _without_residue(view, registry)
    envelope, _ = apply_edits(_write(plain, registry), residue)
    contracts = {
        _contract_id(view, port): odcs.translated(_part_of(plain, port, registry), registry)
        for port in _of(plain, "output-port", registry)
        if _data_sets_of(plain, port, registry) or _has_residue(port)
    }
    made = Bundle(envelope, contracts)
    again = _view_from(made, registry, name="product")
    if (wanted := order_of(view)) != order_of(again):
        add_own(envelope, ORDER, wanted)
        again = _view_from(made, registry, name="product")
    if edits := difference(again, view):
        add_own(envelope, EDITS, edits)
    return made


def _view_from(found: Bundle, registry: Registry, *, domain: str = "", name: str) -> Plain:
    plain, edits, kept_order = without_edits(found.product)
    view, _ = checked(_read(Bundle(plain, found.contracts), registry, domain=domain), registry, name)
    for port in _of(view, "output-port", registry):
        contract = found.contracts.get(_contract_id(view, port))
        if contract is not None:
            part = _part_of(view, port, registry)
            odcs.keep_residue(part, difference(odcs.write(part, registry), contract), registry)
            kept = next(
                c for c in part["components"] if c["name"] == port["name"] and c["type"] == port["type"]
            )
            port["properties"] = kept["properties"]
    head = _of(view, "data-product", registry)[0]
    without, _ = _without_residue(view, registry)
    if residue := difference(_write(without, registry), plain):
        head["properties"]["custom"] = {**head["properties"].get("custom", {}), RESIDUE: residue}
    order(view, kept_order)
    return copy.deepcopy(dict(apply_edits(view, edits)[0]))


def _of(view: Plain, base: str, registry: Registry) -> list[Plain]:
    return [c for c in view["components"] if base_of(registry, c["type"]) == base]


def _without_residue(view: Plain, registry: Registry) -> tuple[Plain, list[Any]]:
    twin = copy.deepcopy(view)
    says = _of(twin, "data-product", registry)[0]["properties"]
    custom = says.get("custom")
    residue = custom.pop(RESIDUE, None) if isinstance(custom, dict) else None
    if residue is not None and not custom:
        del says["custom"]
    return twin, residue if isinstance(residue, list) else []


def _has_residue(port: Plain) -> bool:
    return isinstance(port["properties"].get("custom", {}).get(odcs.RESIDUE), list)


def _contract_id(view: Plain, port: Plain) -> str:
    return str(port["properties"].get("contract_id") or contract_id(view["metadata"]["name"], port["name"]))


def _data_sets_of(view: Plain, port: Plain, registry: Registry) -> list[Plain]:
    """The data-set components a port offers; its product's only one where it does not say."""
    sets, says = _of(view, "data-set", registry), port["properties"]
    if says.get("custom", {}).get(odcs.RESIDUE) == ELSEWHERE:
        return []
    wanted = {says.get("data_set"), *says.get("data_sets", ())} - {None}
    if not wanted:
        return sets if len(sets) == 1 else []
    return [component for component in sets if odcs.data_set_of(component) in wanted]


def _part_of(view: Plain, port: Plain, registry: Registry) -> Plain:
    """What the contract of one port tells of."""
    mine = [id(component) for component in _data_sets_of(view, port, registry)]
    kept = []
    for component in view["components"]:
        base = base_of(registry, component["type"])
        if base == "data-set" and id(component) not in mine:
            continue
        if base == "output-port" and component is not port and component != port:
            continue
        if base != "input-port":
            kept.append(component)
    return odcs.part({**view, "components": kept}, registry)


# ── ours as theirs ────────────────────────────────────────


def _write(view: Plain, registry: Registry) -> Plain:
    domain, head = _of(view, "domain", registry)[0], _of(view, "data-product", registry)[0]
    says, name = head["properties"], view["metadata"]["name"]
    kind = _TYPES.get(str(says.get("data_product_type")))
    offered = {
        id(component)
        for port in _of(view, "output-port", registry)
        for component in _data_sets_of(view, port, registry)
    }
    own = {
        "domain": _typed(domain, domain["properties"], "domain"),
        "dataProduct": _typed(
            head,
            {
                k: v
                for k, v in says.items()
                if k not in _HEAD_TOLD and not (k == "data_product_type" and kind)
            },
            "data-product",
        ),
        "components": [
            component
            for component in view["components"]
            if base_of(registry, component["type"]) not in _ELSEWHERE and id(component) not in offered
        ],
    }
    return filled(
        {
            "apiVersion": API_VERSION,
            "kind": "DataProduct",
            "id": name,
            "name": head["name"],
            **taken(says, _HEAD),
            "domain": domain["name"],
            "type": kind,
            "description": taken(says, _DESCRIPTION),
            "synonyms": rows_taken(says.get("synonyms"), SYNONYM, "synonym"),
            "authoritativeDefinitions": rows_taken(says.get("links"), LINK),
            "inputPorts": [_port(port, _INPUT, "input-port") for port in _of(view, "input-port", registry)],
            "outputPorts": [
                {**_port(port, _PORT, "output-port"), **_agreed(view, port, registry)}
                for port in _of(view, "output-port", registry)
            ],
            "support": rows_taken(says.get("support"), SUPPORT),
            "team": filled({"members": rows_taken(says.get("contacts"), CONTACT)}),
            "customProperties": custom_taken(says.get("custom"), filled(own)),
        }
    )


def _typed(component: Plain, says: Mapping[str, Any], base: str) -> Plain:
    return {**says, "type": component["type"]} if component["type"] != base else dict(says)


def _agreed(view: Plain, port: Plain, registry: Registry) -> Plain:
    """Which contract a port has, and how it is read."""
    says = port["properties"]
    made: Plain = {"type": says["protocol"]} if "protocol" in says else {}
    if _data_sets_of(view, port, registry) or "contract_id" in port["properties"]:
        made["contractId"] = _contract_id(view, port)
    return made


def _port(component: Plain, pairs: Pairs, base: str) -> Plain:
    says = component["properties"]
    told = {ours for ours, _ in pairs} | {"links", "custom", "synonyms"}
    if base == "output-port":
        told.add("protocol")
    else:
        told.discard("synonyms")
    custom = {k: v for k, v in (says.get("custom") or {}).items() if k != odcs.RESIDUE}
    made = {
        "name": component["name"],
        **taken(says, pairs),
        "synonyms": rows_taken(says.get("synonyms"), SYNONYM, "synonym") if base == "output-port" else [],
        "authoritativeDefinitions": rows_taken(says.get("links"), LINK),
        "customProperties": custom_taken(
            custom, _typed(component, {k: v for k, v in says.items() if k not in told}, base)
        ),
    }
    return filled(made)


# ── theirs as ours ────────────────────────────────────────


def _read(found: Bundle, registry: Registry, *, domain: str = "") -> Plain:
    says = found.product
    custom, own = custom_given(says.get("customProperties"))
    told = {key: own[key] if isinstance(own.get(key), dict) else {} for key in ("domain", "dataProduct")}
    title = str(says.get("name") or says["id"])
    name = machine_name(says["id"] if told["dataProduct"] else title)
    head = {
        **head_of(says),
        "synonyms": rows_given(says.get("synonyms"), SYNONYM, "synonym"),
        "data_product_type": _OURS.get(str(says.get("type"))),
        **told["dataProduct"],
        "custom": custom,
    }
    head.setdefault("definition", head.get("purpose") or title)
    if "data_product_owner" not in head and (owner := owner_of(head.get("contacts", ()))):
        head["data_product_owner"] = owner
    domain_title = str(says.get("domain") or domain or odcs.UNNAMED_DOMAIN)
    ports, sets, others = _offers(found, name, registry)
    used: set[str] = set()
    inputs = [_component_of(entry, _INPUT, "input-port", used) for entry in says.get("inputPorts") or ()]
    ours = own.get("components")
    components = [
        _made(domain_title if kebab(domain_title) else odcs.UNNAMED_DOMAIN, "domain", told["domain"]),
        _made(title if kebab(title) else name, "data-product", head),
        *sets,
        *inputs,
        *ports,
        *(odcs.others_given(ours) if ours is not None else others),
    ]
    known = [c for c in components if c["type"] in registry]
    return {"metadata": {"name": name}, "components": known}


def _offers(found: Bundle, product: str, registry: Registry) -> tuple[list[Plain], list[Plain], list[Plain]]:
    """Output ports, the data sets of their contracts, and what else the contracts bring."""
    ports: list[Plain] = []
    sets: list[Plain] = []
    others: list[Plain] = []
    wanted: list[tuple[Plain, list[str]]] = []
    used: set[str] = set()
    for entry in found.product.get("outputPorts") or ():
        port = _component_of(entry, _PORT, "output-port", used)
        if (kind := entry.get("type")) in PROTOCOLS:
            port["properties"]["protocol"] = kind
        if port["properties"].get("contract_id") == contract_id(product, port["name"]):
            del port["properties"]["contract_id"]
        contract = found.contracts.get(str(entry.get("contractId")))
        if contract is not None:
            offered = _merged(contract, product, registry, sets, others)
            if offered:
                wanted.append((port["properties"], offered))
        ports.append(port)
    for port in ports if len(sets) == 1 else ():
        says = port["properties"]
        if "data_set" not in says and not any(says is mine for mine, _ in wanted):
            says["custom"] = {**says.get("custom", {}), odcs.RESIDUE: ELSEWHERE}
    for says, offered in wanted:
        if len(sets) > 1:  # the product's only one goes without saying
            says.setdefault("data_set", offered[0])
        if len(offered) > 1:
            says.setdefault("data_sets", offered)
    return ports, sets, others


def _merged(
    contract: Plain, product: str, registry: Registry, sets: list[Plain], others: list[Plain]
) -> list[str]:
    """Add what a contract brings, once; the machine names of its data sets."""
    offered = []
    for component in odcs.read(without_edits(contract)[0], registry)["components"]:
        base = base_of(registry, component["type"])
        if base == "data-set":
            for column in component["properties"].get("columns", ()):
                if column.get("foreign_key", {}).get("product") == product:
                    del column["foreign_key"]["product"]
            if component not in sets:
                _distinct(component, sets)
                sets.append(component)
            offered.append(odcs.data_set_of(component))
        elif base not in _ELSEWHERE and component not in others:
            component["name"] = unused(component["name"], {kebab(c["name"]) for c in others})
            others.append(component)
    return offered


def _distinct(component: Plain, sets: list[Plain]) -> None:
    """Give a data set a name of its own among others."""
    component["name"] = unused(component["name"], {kebab(c["name"]) for c in sets})
    tables = {odcs.data_set_of(c) for c in sets}
    if odcs.data_set_of(component) in tables:
        component["properties"]["table_name"] = unused(odcs.data_set_of(component), tables, "_")


def _component_of(entry: Mapping[str, Any], pairs: Pairs, base: str, used: set[str]) -> Plain:
    custom, own = custom_given(entry.get("customProperties"))
    kind = own.pop("type", base)
    name = unused(str(entry["name"]) if kebab(str(entry["name"])) else base.replace("-", " "), used)
    says = {
        **given(entry, pairs),
        "synonyms": rows_given(entry.get("synonyms"), SYNONYM, "synonym"),
        "links": rows_given(entry.get("authoritativeDefinitions"), LINK),
        "custom": custom,
        **own,
    }
    says.setdefault("description", name)
    return _made(name, kind if isinstance(kind, str) else base, says)


def _made(name: str, kind: str, says: Mapping[str, Any]) -> Plain:
    said = dict(says)
    written = said.pop("type", kind)
    return {"name": name, "type": written if isinstance(written, str) else kind, "properties": filled(said)}
