"""Words of one standard for words of another: the small machine the translations of `odcs` and `odps` share.

A table pairs our property names with theirs. What of ours has no pair goes under their `customProperties` with the
vendor `tulle`; what of theirs has none is found by comparing (`overlay`) and kept with the product. Pure.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

from tulle.errors import Invalid, Place, Problem
from tulle.spec.capability import Registry
from tulle.spec.document import Document, Mark
from tulle.spec.document import Path as Steps
from tulle.spec.load import load_document
from tulle.spec.oam import read_product
from tulle.spec.product import DataProduct, kebab
from tulle.spec.write import dump

VENDOR = "tulle"
EDITS = "edits"  # where a document keeps what of ours its other words do not say
ORDER = "order"  # where it keeps the order of our components, if that is unusual
CUSTOM_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,99}")
Pairs = tuple[tuple[str, str], ...]
Plain = dict[str, Any]

SYNONYM: Pairs = (("synonym", "synonym"), ("locale", "locale"), ("description", "description"))
LINK: Pairs = (("url", "url"), ("type", "type"), ("description", "description"))
CONTACT: Pairs = (
    ("username", "username"),
    ("name", "name"),
    ("role", "role"),
    ("description", "description"),
    ("since", "dateIn"),
    ("until", "dateOut"),
    ("replaced_by", "replacedByUsername"),
)
SUPPORT: Pairs = (
    ("channel", "channel"),
    ("url", "url"),
    ("description", "description"),
    ("tool", "tool"),
    ("scope", "scope"),
    ("invitation_url", "invitationUrl"),
)


def taken(says: Mapping[str, Any], pairs: Pairs) -> Plain:
    """Ours as theirs, as far as the table goes."""
    return {theirs: says[ours] for ours, theirs in pairs if ours in says}


def given(says: Mapping[str, Any], pairs: Pairs) -> Plain:
    """Theirs as ours, as far as the table goes."""
    return {ours: says[theirs] for ours, theirs in pairs if theirs in says}


def rows_taken(entries: Any, pairs: Pairs, short: str = "") -> list[Plain]:
    """A list of ours as theirs; an entry that is no mapping is its property `short`."""
    listed = entries if isinstance(entries, list) else []
    return [taken(entry if isinstance(entry, Mapping) else {short: entry}, pairs) for entry in listed]


def rows_given(entries: Any, pairs: Pairs, short: str = "") -> list[Any]:
    """A list of theirs as ours; where only `short` is said, it stands alone."""
    made: list[Any] = []
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, Mapping):
            said = given(entry, pairs)
            made.append(said[short] if said.keys() == {short} else said)
    return made


# ── custom properties ────────────────────────────────────────


def custom_taken(custom: Any, own: Mapping[str, Any]) -> list[Plain]:
    """`custom` as their custom properties, and what only we have a word for under our vendor name."""
    said = custom if isinstance(custom, Mapping) else {}
    listed: list[Plain] = [{"property": name, "value": value} for name, value in said.items()]
    return listed + [{"property": name, "value": value, "vendor": VENDOR} for name, value in own.items()]


def custom_given(listed: Any) -> tuple[Plain, Plain]:
    """What is custom to their authors, and what is ours and travelled as custom."""
    custom: Plain = {}
    own: Plain = {}
    for entry in listed if isinstance(listed, list) else ():
        if (
            not isinstance(entry, Mapping)
            or not isinstance(entry.get("property"), str)
            or "value" not in entry
        ):
            continue
        if entry.get("vendor") == VENDOR:
            own.setdefault(entry["property"], entry["value"])
        elif CUSTOM_NAME.fullmatch(entry["property"]):
            custom.setdefault(entry["property"], entry["value"])
    return custom, own


def add_own(document: Plain, name: str, value: Any) -> None:
    """Add a custom property of ours to their document."""
    entry = {"property": name, "value": value, "vendor": VENDOR}
    document["customProperties"] = [*document.get("customProperties", ()), entry]


def without_edits(document: Mapping[str, Any]) -> tuple[Plain, list[Any], list[Any]]:
    """Their document without what we put in for ourselves, and that: edits, and the order of components."""
    plain = copy.deepcopy(dict(document))
    listed = plain.get("customProperties")
    found: dict[str, list[Any]] = {EDITS: [], ORDER: []}
    kept = []
    for entry in listed if isinstance(listed, list) else []:
        name = entry.get("property") if isinstance(entry, dict) and entry.get("vendor") == VENDOR else None
        if name in found and isinstance(entry.get("value"), list) and not found[name]:
            found[name] = entry["value"]
        else:
            kept.append(entry)
    if listed and not kept:
        del plain["customProperties"]
    elif listed:
        plain["customProperties"] = kept
    return plain, found[EDITS], found[ORDER]


def order_of(view: Mapping[str, Any]) -> list[list[str]]:
    """The types and names of a view's components, as they come."""
    return [[component["type"], component["name"]] for component in view["components"]]


def order(view: Plain, kept: list[Any]) -> None:
    """Put the components into an order once kept; those it does not name come last. `view` is changed."""
    rank = {tuple(map(str, entry)): at for at, entry in enumerate(kept) if isinstance(entry, list)}
    view["components"].sort(key=lambda c: rank.get((c["type"], c["name"]), len(rank)))


def filled(says: Mapping[str, Any]) -> Plain:
    """Without what is empty: no text, no entries, nothing."""
    return {key: value for key, value in says.items() if value not in ("", [], {}, None)}


def unused(name: str, used: set[str], gap: str = " ") -> str:
    """The name, with a number behind it where it (or what looks the same) is taken."""
    free, number = name, 2
    while (key := kebab(free) if gap == " " else free.casefold()) in used:
        free, number = f"{name}{gap}{number}", number + 1
    used.add(key)
    return free


# ── a document that holds ────────────────────────────────────────


def checked(view: Plain, registry: Registry, name: str) -> tuple[Plain, DataProduct]:
    """The view without what our rules refuse, and the product it makes; `view` is changed.

    Raises Invalid, naming what is wrong, where leaving something out does not help.
    """
    for _ in range(25):
        document = load_document(document_text(view), name=name)
        try:
            return view, read_product(document, registry)
        except Invalid as error:
            places = _places(document)
            for problem in error.problems:
                if not _left_out(view, places, problem):
                    raise
    raise Invalid(f"{name} cannot be told in our words", hint="please report it with the file")


def document_text(view: Mapping[str, Any]) -> str:
    """A view as the text of product.yaml."""
    head = {"apiVersion": "core.oam.dev/v1beta1", "kind": "DataProduct"}
    return dump({**head, "metadata": view.get("metadata", {}), "spec": {"components": view["components"]}})


def view_of(product: DataProduct) -> Plain:
    """The plain components of a product, with its machine name."""
    components = [
        {"name": c.name, "type": c.type, "properties": _plain(c.properties)} for c in product.components
    ]
    return {"metadata": {"name": product.name}, "components": components}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _places(document: Document) -> dict[Place, Steps]:
    """Which value stands at each place of a document."""
    found: dict[Place, Steps] = {}

    def walk(mark: Mark, path: Steps) -> None:
        found[Place(document.name, mark.line, mark.column)] = path
        for step, child in mark.children.items():
            if isinstance(step, str) and step in mark.keys:
                found[Place(document.name, *mark.keys[step])] = (*path, step)
            walk(child, (*path, step))

    walk(document.mark, ())
    return found


def _left_out(view: Plain, places: Mapping[Place, Steps], problem: Problem) -> bool:
    """Leave out the property a problem is about; whether there was one to leave out."""
    path = places.get(problem.place) if problem.place else None
    if path is None or path[:2] != ("spec", "components") or len(path) < 5 or path[3] != "properties":
        return False
    says, rest = view["components"][path[2]]["properties"], path[4:]
    if rest[0] == "columns":
        if len(rest) < 3 or rest[2] in {"name", "type"}:
            return False
        says, rest = says["columns"][rest[1]], rest[2:]
    value = says.get(rest[0])
    if len(rest) > 1 and isinstance(value, list) and isinstance(rest[1], int) and rest[1] < len(value) > 1:
        del value[rest[1]]  # the other entries are worth keeping
        return True
    return says.pop(rest[0], None) is not None
