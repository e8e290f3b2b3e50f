"""What has to happen to get from what is to what the documents say: ordered steps, readable as sentences.

Pure: values in, values out. The digest names exactly this plan: its steps, and the documents, the code and the
applied state they follow from; `apply` refuses any other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from tulle.control.declared_services import service_changes
from tulle.errors import Problem
from tulle.spec.compare import Change, compare
from tulle.spec.compatibility import refusal
from tulle.spec.product import DataProduct

Action = Literal["create", "change", "remove"]
Operation = Literal["create-repository", "provision", "register", "update", "grant", "retire"]
_MOST_FILES_NAMED = 12
_LEAST_DIGEST = 6


@dataclass(frozen=True, slots=True)
class Detail:
    """One thing a step changes, whether it may break a consumer, and sentences on whom it hits."""

    sentence: str
    breaking: bool = False
    hits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One step: `operation` is what apply does for `subject`."""

    operation: Operation
    action: Action
    subject: str
    sentence: str
    details: tuple[Detail, ...] = ()

    @property
    def breaking(self) -> bool:
        """Whether any detail may break a consumer."""
        return any(detail.breaking for detail in self.details)


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps in the order they are done.

    `basis` has what they follow from: by product, digests of what is desired and of what is applied. With
    `refusals` the plan may be looked at and not carried out.
    """

    steps: tuple[Step, ...]
    basis: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    refusals: tuple[Problem, ...] = ()

    @property
    def digest(self) -> str:
        """Names this plan."""
        return digest_of({"steps": [asdict(step) for step in self.steps], "basis": self.basis})


def digest_of(value: object) -> str:
    """The digest of plain values, whatever the order of their keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def is_named(digest: str, said: str) -> bool:
    """Whether what somebody said is that digest, or enough of its start to mean no other; nothing said means none."""
    return len(said) >= _LEAST_DIGEST and digest.startswith(said)


@dataclass(frozen=True, slots=True)
class Standing:
    """A product as it stands on one side: as its folder says, or as it was applied.

    `files` are None where they were not kept, `services` None where they were not looked at.
    """

    product: DataProduct
    code_digest: str = ""
    files: Mapping[str, str] | None = None
    services: Mapping[str, Any] | None = None


Hits = Callable[[Change, DataProduct, DataProduct | None], tuple[str, ...]]
Provision = Callable[[DataProduct, DataProduct | None], tuple[Detail, ...]]
Grants = Callable[[DataProduct], tuple[Detail, ...]]
Ending = Callable[[DataProduct], tuple[Detail, ...]]
Apis = Callable[[DataProduct], tuple[Detail, ...]]


def _nobody(_change: Change, _old: DataProduct, _new: DataProduct | None) -> tuple[str, ...]:
    return ()


def _nothing(_new: DataProduct, _old: DataProduct | None) -> tuple[Detail, ...]:
    return ()


def _none(_product: DataProduct) -> tuple[Detail, ...]:
    return ()


def make_plan(
    desired: Sequence[Standing],
    actual: Mapping[str, Standing],
    repositories: Collection[str],
    *,
    hits: Hits = _nobody,
    provision: Provision = _nothing,
    grants: Grants = _none,
    ending: Ending = _none,
    apis: Apis = _none,
    refusals: Sequence[Problem] = (),
    today: str = "",
) -> Plan:
    """The plan from `actual` to `desired` (in dependency order).

    `repositories` are the names that exist in the lake, `hits` tells whom a change hurts, `provision` what the
    capabilities of a product's components have to do, `grants` what its roles need, `ending` what else ends
    with one that is retired, `apis` what differs in those it declares. Agreements that
    ended before the day `today` bind nobody.
    """
    steps: list[Step] = []
    refused = list(refusals)
    for wanted in desired:
        product = wanted.product
        if product.name not in repositories:
            sentence = f"create repository '{product.name}' in the lake"
            steps.append(Step("create-repository", "create", product.name, sentence))
        now = actual.get(product.name)
        changes = _changes(now.product, product, today) if now else ()
        offered = apis(product)
        own = (
            [_registered(product, offered)] if now is None else _updated(wanted, now, changes, hits, offered)
        )
        if own and (details := provision(product, now.product if now else None)):
            count = _count(len(details), "thing")
            sentence = f"provision {count} for product '{product.name}'"
            steps.append(Step("provision", "change", product.name, sentence, details))
        steps += own
        if details := grants(product):
            sentence = f"grant the roles of product '{product.name}'"
            steps.append(Step("grant", "change" if now else "create", product.name, sentence, details))
        if now is not None and (problem := refusal(now.product, product, changes)):
            refused.append(problem)
    names = {wanted.product.name for wanted in desired}
    for name in sorted(set(actual) - names):
        steps.append(_retired(actual[name].product, hits, ending))
    concerned = {step.subject for step in steps}
    basis = basis_of(desired, actual, repositories)
    return Plan(tuple(steps), {n: sides for n, sides in basis.items() if n in concerned}, tuple(refused))


def basis_of(
    desired: Sequence[Standing], actual: Mapping[str, Standing], repositories: Collection[str]
) -> dict[str, dict[str, str]]:
    """By product what both sides are, as digests."""
    basis = {}
    for wanted in desired:
        name = wanted.product.name
        now = actual.get(name)
        basis[name] = {
            "document": wanted.product.digest,
            "code": _code(wanted),
            "applied_document": now.product.digest if now else "",
            "applied_code": _code(now) if now else "",
            "repository": "there" if name in repositories else "",
        }
    for name in set(actual) - set(basis):
        basis[name] = {"document": "", "code": "", "applied_document": actual[name].product.digest}
    return basis


def _code(standing: Standing) -> str:
    return standing.code_digest if standing.files is None else digest_of(dict(standing.files))


def _registered(product: DataProduct, offered: tuple[Detail, ...]) -> Step:
    has = [
        _count(len(product.input_ports), "input port"),
        _count(len(product.data_sets), "data set"),
        _count(len(product.output_ports), "output port"),
    ]
    sentence = f"register product '{product.name}' of domain '{product.domain}' with {', '.join(has)}"
    return Step("register", "create", product.name, sentence, offered)


def _retired(product: DataProduct, hits: Hits, ending: Ending) -> Step:
    gone = Change("removed", "product", f"product '{product.name}' is removed", breaking=True)
    details = [Detail(sentence, breaking=True) for sentence in hits(gone, product, None)]
    details += ending(product)
    sentence = f"retire product '{product.name}': it leaves the catalogue; its repository and data stay"
    return Step("retire", "remove", product.name, sentence, tuple(details))


def _changes(applied: DataProduct, product: DataProduct, today: str) -> Sequence[Change]:
    """What differs; equal documents differ at most in what their input ports were found to mean."""
    same = applied.digest == product.digest and applied.input_ports == product.input_ports
    return () if same else compare(applied, product, today=today)


def _updated(
    wanted: Standing, now: Standing, found: Sequence[Change], hits: Hits, offered: Sequence[Detail]
) -> list[Step]:
    product, applied = wanted.product, now.product
    changes = list(found)
    if now.services is not None and wanted.services is not None:
        changes += service_changes(now.services, wanted.services)
    details = [_detail(change, applied, product, hits) for change in changes]
    details += offered
    details += _code_details(wanted, now)
    if not details and applied.digest != product.digest:
        details.append(Detail("its document changed in wording"))
    if not details and applied.folder != product.folder:
        details.append(Detail(f"its folder is now {product.folder}"))
    if not details:
        return []
    version = f" to version {product.version}" if product.version != applied.version else ""
    sentence = f"update product '{product.name}'{version}"
    return [Step("update", "change", product.name, sentence, tuple(details))]


def _detail(change: Change, applied: DataProduct, product: DataProduct, hits: Hits) -> Detail:
    whom = hits(change, applied, product) if change.breaking else ()
    return Detail(change.sentence, change.breaking, whom)


def _code_details(wanted: Standing, now: Standing) -> list[Detail]:
    """Which files of the code changed, or that some did where it was not kept which there were."""
    if now.files is None or wanted.files is None:
        changed = now.code_digest != wanted.code_digest
        return [Detail("its transformations or checks changed")] if changed else []
    sentences = list(_file_changes(now.files, wanted.files))
    more = len(sentences) - _MOST_FILES_NAMED
    if more > 1:
        sentences = [*sentences[:_MOST_FILES_NAMED], f"{more} further files of its code changed"]
    return [Detail(sentence) for sentence in sentences]


def _file_changes(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    for path in sorted(old.keys() | new.keys()):
        if path not in new:
            yield f"{path} is removed"
        elif path not in old:
            yield f"{path} is added"
        elif old[path] != new[path]:
            yield f"{path} changed"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
