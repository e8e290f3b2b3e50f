"""What changed between two versions of a product, told in sentences, and what of it breaks somebody.

A change is breaking when those who relied on the old version may fail or get less: consumers who read a port,
or the product's own runs whose rows no longer pass. Pure: two products in, changes out, in the order of the
document.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from tulle.spec.components import BUILT_IN_PROPERTIES
from tulle.spec.period import minutes_of
from tulle.spec.product import (
    CLASSIFICATIONS,
    PII_LEVELS,
    Column,
    DataProduct,
    DataSet,
    DataSharingAgreement,
    InputPort,
    OutputPort,
    ServiceLevelAsset,
    ServiceLevelIndicator,
)

_DATA_SET_PART = re.compile(r"data-set ([a-z][a-z0-9_]*)(?:: column (.+))?", re.DOTALL)
_AGREEMENT_PART = re.compile(r"data-sharing-agreement (.+)", re.DOTALL)
_PORT_PART = re.compile(r"output-port (.+)", re.DOTALL)
# What a value means changes with these, though its type does not.
_LONGEST_SAID = 60  # longer values are not repeated in a sentence
_MEANING = frozenset({"unit", "format", "operator", "timezone"})


@dataclass(frozen=True, slots=True)
class Change:
    """One difference: `kind` is added, removed or changed; `subject` names the part, as `data-set purchases`.

    `breaking`: who reads the new with what was made for the old may fail. `closes_old`: who reads the old (an
    earlier commit, a snapshot) with what is made for the new may fail. `agreed` are the consumers with whom the
    agreement that differs was made, as it names them. `withdrawn` are the data sets that the output port that differs
    no longer gives as it did.
    """

    kind: str
    subject: str
    sentence: str
    breaking: bool = False
    closes_old: bool = False
    agreed: tuple[str, ...] = ()
    withdrawn: tuple[str, ...] = ()

    @property
    def data_set(self) -> str:
        """The data set that differs, or whose column does; empty when it is another part."""
        found = _DATA_SET_PART.fullmatch(self.subject)
        return found[1] if found else ""

    @property
    def column(self) -> str:
        """The column that differs; empty when it is the data set as a whole, or another part."""
        found = _DATA_SET_PART.fullmatch(self.subject)
        return (found[2] or "") if found else ""

    @property
    def port(self) -> str:
        """The output port that differs; empty when it is another part."""
        found = _PORT_PART.fullmatch(self.subject)
        return found[1] if found else ""

    @property
    def agreement(self) -> str:
        """The data sharing agreement that differs; empty when it is another part."""
        found = _AGREEMENT_PART.fullmatch(self.subject)
        return found[1] if found else ""

    def __str__(self) -> str:
        """The sentence, marked when the change is breaking."""
        return f"{self.sentence} (breaking)" if self.breaking else self.sentence


def compare(old: DataProduct, new: DataProduct, *, today: str = "") -> tuple[Change, ...]:
    """Every change from `old` to `new`; empty when they mean the same.

    What happens to an agreement that ended before the day `today` breaks nobody; without it all are in force.
    """
    changes = [
        *_product(old, new),
        *_listed("data-set", old.data_sets, new.data_sets, _data_set, removal_breaks=True),
        *_listed("input-port", old.input_ports, new.input_ports, _input_port),
        *_offered(old.output_ports, new.output_ports),
        *_listed(
            "service-level-asset",
            old.service_level_assets,
            new.service_level_assets,
            _asset,
            removal_breaks=True,
        ),
        *_listed(
            "service-level-indicator",
            old.service_level_indicators,
            new.service_level_indicators,
            _indicator,
        ),
        *_agreements(old.agreements, new.agreements, today),
        *_listed("component", _others(old), _others(new), _component),
        *_extended(old, new),
    ]
    demanded = {
        f"data-set {d.name}: column {c.name}" for d in new.data_sets for c in d.columns if c.required or c.key
    }
    return tuple(
        replace(c, closes_old=True) if c.kind == "added" and c.subject in demanded else c for c in changes
    )


def _listed(
    what: str,
    old: Iterable[Any],
    new: Iterable[Any],
    differ: Callable[[str, Any, Any], Iterator[Change]],
    *,
    removal_breaks: bool = False,
) -> Iterator[Change]:
    """Compare two lists of parts by name."""
    before, after = {item.name: item for item in old}, {item.name: item for item in new}
    for name, item in before.items():
        subject = f"{what} {name}"
        if name not in after:
            yield Change("removed", subject, f"{what} '{name}' is removed", removal_breaks)
        else:
            yield from differ(subject, item, after[name])
    for name in after:
        if name not in before:
            yield Change("added", f"{what} {name}", f"{what} '{name}' is added")


def _field(
    subject: str, what: str, old: Any, new: Any, *, breaking: bool = False, long: bool = False
) -> Iterator[Change]:
    """One property that differs, or nothing; `long` texts are not repeated in the sentence."""
    if old == new:
        return
    is_, was = ("are", "were") if what.endswith("s") else ("is", "was")
    if long:
        sentence = f"the {what} {is_} reworded"
    else:
        say = _list if isinstance(old, tuple) else _said
        sentence = f"the {what} {is_} {say(new)} ({was} {say(old)})"
    yield Change("changed", subject, f"{subject}: {sentence}", breaking)


def _rest(subject: str, old: Any, new: Any, told: str) -> Iterator[Change]:
    """The properties that no sentence of their own is made for: all but those in `told`."""
    known = set(told.split())
    for item in fields(old):
        if item.name in known or not item.compare:
            continue
        before, after = getattr(old, item.name), getattr(new, item.name)
        if before == after:
            continue
        words = item.name.replace("_", " ")
        breaking = item.name in _MEANING and before not in {None, ""}
        simple = all(isinstance(v, str | int | float | bool) or v is None for v in (before, after))
        if isinstance(before, bool) and isinstance(after, bool):
            said = f"it is {words}" if after else f"it is not {words} any more"
            yield Change("changed", subject, f"{subject}: {said}", breaking)
        elif words.endswith(" by") and simple and after:
            yield Change("changed", subject, f"{subject}: it is {words} {_said(after)}", breaking)
        elif simple and max(len(str(before)), len(str(after))) <= _LONGEST_SAID:
            yield from _field(subject, words, before, after, breaking=breaking)
        else:
            yield Change("changed", subject, f"{subject}: the {words} changed", breaking)


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "not given" if value in {"", None} else f"'{value}'" if isinstance(value, str) else f"{value:g}"


def _list(values: tuple[str, ...]) -> str:
    return ", ".join(values) if values else "none"


def _rises(order: tuple[str, ...], old: str, new: str) -> bool:
    """Whether `new` is stricter than `old`; what is not in the order counts as least strict."""
    rank = {value: position for position, value in enumerate(order)}
    return rank.get(new, -1) > rank.get(old, -1)


def _product(old: DataProduct, new: DataProduct) -> Iterator[Change]:
    subject = "product"
    yield from _field(subject, "name", old.name, new.name, breaking=True)
    yield from _field(subject, "title", old.title, new.title)
    yield from _field(subject, "domain", old.domain, new.domain)
    yield from _field(subject, "definition", old.description, new.description, long=True)
    yield from _field(subject, "owner", old.owner, new.owner)
    yield from _field(subject, "type", old.product_type, new.product_type)
    yield from _field(subject, "certificate", old.certified, new.certified)
    yield from _field(subject, "version", old.version, new.version)
    yield from _field(subject, "purpose", old.purpose, new.purpose, long=True)
    yield from _classification(subject, old.classification, new.classification)
    yield from _field(subject, "tags", old.tags, new.tags)
    yield from _field("domain", "title", old.domain_title, new.domain_title)
    yield from _field("domain", "description", old.domain_description, new.domain_description, long=True)
    yield from _field("domain", "owner", old.domain_owner, new.domain_owner)
    told = """name title domain description owner product_type certified version purpose classification tags
        domain_title domain_description domain_owner data_sets input_ports output_ports service_level_assets
        service_level_indicators agreements components digest file folder place"""
    yield from _rest(subject, old, new, told)


def _classification(subject: str, old: str, new: str) -> Iterator[Change]:
    stricter = _rises(CLASSIFICATIONS, old, new)  # consumers may lose access
    yield from _field(subject, "classification", old, new, breaking=stricter)


def _data_set(subject: str, old: DataSet, new: DataSet) -> Iterator[Change]:
    yield from _field(subject, "title", old.title, new.title)
    yield from _field(subject, "description", old.description, new.description, long=True)
    yield from _field(subject, "table_name", old.table, new.table)
    yield from _field(subject, "table_domain", old.table_domain, new.table_domain)
    yield from _classification(subject, old.classification, new.classification)
    yield from _field(subject, "tags", old.tags, new.tags)
    yield from _listed(f"{subject}: column", old.columns, new.columns, _column, removal_breaks=True)
    if old.columns:  # a key that is declared for the first time takes nothing away
        yield from _field(subject, "key columns", old.key, new.key, breaking=bool(old.key))
    told = "name title description table table_domain classification tags columns place"
    yield from _rest(subject, old, new, told)


def _column(subject: str, old: Column, new: Column) -> Iterator[Change]:
    yield from _field(subject, "type", old.type, new.type, breaking=True)
    if old.required != new.required:
        told = "must have a value in every row" if new.required else "may be empty"
        # One way rows that passed are refused, the other way consumers meet nulls they never saw.
        yield Change("changed", subject, f"{subject} now {told}", breaking=True)
    yield from _field(subject, "pii", old.pii, new.pii, breaking=_rises(PII_LEVELS, old.pii, new.pii))
    yield from _field(subject, "description", old.description, new.description, long=True)
    yield from _field(subject, "semantics", old.semantics, new.semantics)
    yield from _field(subject, "tags", old.tags, new.tags)
    yield from _rest(subject, old, new, "name type required key pii description semantics tags place")


def _input_port(subject: str, old: InputPort, new: InputPort) -> Iterator[Change]:
    yield from _field(subject, "title", old.title, new.title)
    yield from _field(subject, "description", old.description, new.description, long=True)
    yield from _field(subject, "data_set", old.data_set, new.data_set)
    yield from _field(subject, "product", old.product, new.product)
    yield from _field(
        subject, "associated_output_port", old.associated_output_port, new.associated_output_port
    )
    if old.takes != new.takes:
        before, after = (f"'{port.takes}'" if port.takes else "its main data set" for port in (old, new))
        yield Change("changed", subject, f"{subject} now takes {after} of the output port, and took {before}")
    if old.version != new.version:
        before, after = (port.version and f"version {port.version}" for port in (old, new))
        told = f"reads {after or 'what is published last'}, and read {before or 'what was published last'}"
        yield Change("changed", subject, f"{subject} now {told}")
    if old.source != new.source:
        told = "is removed" if new.source is None else "is added" if old.source is None else "is changed"
        yield Change("changed", subject, f"{subject}: the source {told}")
    known = "name title description data_set product associated_output_port takes version source place"
    yield from _rest(subject, old, new, known)


def _offered(old: tuple[OutputPort, ...], new: tuple[OutputPort, ...]) -> Iterator[Change]:
    """What becomes of each output port, with the data sets of it that whoever reads them would miss."""
    before = {f"output-port {port.name}": port for port in old}
    for change in _listed("output-port", old, new, _output_port, removal_breaks=True):
        port = before.get(change.subject)
        withdrawn = change.withdrawn or (port.offers if port else ())
        yield replace(change, withdrawn=withdrawn) if change.breaking else change


def _output_port(subject: str, old: OutputPort, new: OutputPort) -> Iterator[Change]:
    yield from _field(subject, "title", old.title, new.title)
    yield from _field(subject, "description", old.description, new.description, long=True)
    for change in _field(subject, "data_set", old.data_set, new.data_set, breaking=bool(old.data_set)):
        yield replace(change, withdrawn=tuple(filter(None, (old.data_set,))))
    yield from _field(subject, "protocol", old.protocol, new.protocol, breaking=True)
    yield from _field(subject, "url", old.url, new.url, breaking=bool(old.url))
    for name in ("data_sets", "protocols", "formats"):
        before, after = getattr(old, name), getattr(new, name)
        kept = new.offers if name == "data_sets" else after
        gone = tuple(one for one in before if one not in kept)
        for change in _field(subject, name, before, after, breaking=bool(gone)):
            yield replace(change, withdrawn=gone) if name == "data_sets" else change
    told = "name title description data_set data_sets protocol protocols formats url place"
    yield from _rest(subject, old, new, told)


def _asset(subject: str, old: ServiceLevelAsset, new: ServiceLevelAsset) -> Iterator[Change]:
    yield from _field(subject, "title", old.title, new.title)
    yield from _field(subject, "description", old.description, new.description, long=True)
    yield from _field(subject, "dimension", old.dimension, new.dimension)
    yield from _field(subject, "dimension_domain", old.dimension_domain, new.dimension_domain)
    yield from _rest(subject, old, new, "name title description dimension dimension_domain place")


def _indicator(subject: str, old: ServiceLevelIndicator, new: ServiceLevelIndicator) -> Iterator[Change]:
    yield from _field(subject, "title", old.title, new.title)
    yield from _field(subject, "description", old.description, new.description, long=True)
    yield from _field(subject, "service_level_name", old.service_level_name, new.service_level_name)
    lower = old.objective is not None and (new.objective or 0) < old.objective  # less is promised
    yield from _field(subject, "objective", old.objective, new.objective, breaking=lower)
    yield from _field(subject, "window_days", old.window_days, new.window_days)
    told = "name title description service_level_name objective window_days place"
    yield from _rest(subject, old, new, told)


def _agreements(
    old: tuple[DataSharingAgreement, ...], new: tuple[DataSharingAgreement, ...], today: str
) -> Iterator[Change]:
    """What becomes of each agreement, with the consumers whom it was made with."""
    made = {f"data-sharing-agreement {agreement.name}": agreement for agreement in old}
    for change in _listed("data-sharing-agreement", old, new, _agreement, removal_breaks=True):
        before = made.get(change.subject)
        if before is None:
            yield change
            continue
        over = bool(before.expires) and before.expires < today
        yield replace(change, breaking=change.breaking and not over, agreed=change.agreed or before.consumers)


def _agreement(subject: str, old: DataSharingAgreement, new: DataSharingAgreement) -> Iterator[Change]:
    yield from _field(subject, "title", old.title, new.title)
    yield from _field(subject, "description", old.description, new.description, long=True)
    # Consumers agreed to the old ones.
    yield from _field(subject, "purpose", old.purpose, new.purpose, breaking=True, long=True)
    yield from _field(subject, "terms", old.terms, new.terms, breaking=True, long=True)
    sooner = bool(new.expires) and new.expires < (old.expires or "9999")
    yield from _field(subject, "end", old.expires, new.expires, breaking=sooner)
    dropped = tuple(one for one in old.consumers if one not in new.consumers)
    if dropped and new.consumers:
        told = f"it is not made with {', '.join(dropped)} any more"
        yield Change("changed", subject, f"{subject}: {told}", breaking=True, agreed=dropped)
    else:
        yield from _field(subject, "consumers", old.consumers, new.consumers, breaking=bool(dropped))
    if dropped and (added := tuple(one for one in new.consumers if one not in old.consumers)):
        yield Change("changed", subject, f"{subject}: it is made with {', '.join(added)} too")
    shorter = minutes_of(new.notice_period) < minutes_of(old.notice_period)
    yield from _field(subject, "notice period", old.notice_period, new.notice_period, breaking=shorter)
    told = "name title description purpose terms expires consumers notice_period place"
    yield from _rest(subject, old, new, told)


@dataclass(frozen=True, slots=True)
class _Other:
    name: str
    properties: dict[str, Any]


def _others(product: DataProduct) -> list[_Other]:
    """Components of types that platform teams added; what they mean is not known here."""
    return [
        _Other(f"{component.name} ({component.type})", dict(component.properties))
        for component in product.components
        if component.base not in BUILT_IN_PROPERTIES
    ]


def _extended(old: DataProduct, new: DataProduct) -> Iterator[Change]:
    """The extra properties of components whose type extends a built-in one; the rest was compared as that."""
    before = {(c.name, c.type): c for c in old.components if c.type != c.base}
    for component in new.components:
        first = before.get((component.name, component.type))
        known = BUILT_IN_PROPERTIES.get(component.base)
        if first is not None and known is not None:
            name = f"{component.type} {component.name}"
            extras = [
                _Other(name, {k: v for k, v in c.properties.items() if k not in known})
                for c in (first, component)
            ]
            yield from _component(name, extras[0], extras[1])


def _component(subject: str, old: _Other, new: _Other) -> Iterator[Change]:
    before, after = old.properties, new.properties
    for name in dict.fromkeys([*before, *after]):
        if before.get(name) != after.get(name):
            yield Change("changed", subject, f"{subject}: '{name}' is changed")
