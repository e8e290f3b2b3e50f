"""What has to happen to get from what is to what the documents say: ordered steps, readable as sentences.

Pure: values in, values out. The digest names exactly this plan; `apply` refuses any other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from tulle.spec.compare import compare
from tulle.spec.product import DataProduct

Action = Literal["create", "change", "remove"]


@dataclass(frozen=True, slots=True)
class Detail:
    """One thing a step changes, and whether it may break a consumer."""

    sentence: str
    breaking: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One step: `operation` is what apply does for `subject`."""

    operation: Literal["create-repository", "register", "update", "retire"]
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
    """The steps in the order they are done."""

    steps: tuple[Step, ...]

    @property
    def digest(self) -> str:
        """Names this plan."""
        text = json.dumps([asdict(step) for step in self.steps], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Actual:
    """What is applied of one product."""

    product: DataProduct
    code_digest: str


def make_plan(
    desired: Sequence[DataProduct],
    code_digests: Mapping[str, str],
    actual: Mapping[str, Actual],
    repositories: Collection[str],
    consumers: Mapping[str, Sequence[str]],
) -> Plan:
    """The plan from `actual` to `desired` (in dependency order).

    `code_digests` are of the desired products' code, `repositories` the names that exist in the lake, `consumers`
    the products that read each product.
    """
    steps: list[Step] = []
    for product in desired:
        if product.name not in repositories:
            sentence = f"create repository '{product.name}' in the lake"
            steps.append(Step("create-repository", "create", product.name, sentence))
        steps += _product_steps(product, code_digests[product.name], actual.get(product.name), consumers)
    names = {product.name for product in desired}
    for name in sorted(set(actual) - names):
        readers = consumers.get(name, ())
        details = [Detail(f"product '{reader}' reads it", breaking=True) for reader in readers]
        sentence = f"retire product '{name}': it leaves the catalogue; its repository and data stay"
        steps.append(Step("retire", "remove", name, sentence, tuple(details)))
    return Plan(tuple(steps))


def _product_steps(
    product: DataProduct, code_digest: str, actual: Actual | None, consumers: Mapping[str, Sequence[str]]
) -> list[Step]:
    if actual is None:
        has = [
            _count(len(product.input_ports), "input port"),
            _count(len(product.data_sets), "data set"),
            _count(len(product.output_ports), "output port"),
        ]
        sentence = f"register product '{product.name}' of domain '{product.domain}' with {', '.join(has)}"
        return [Step("register", "create", product.name, sentence)]
    details = [Detail(change.sentence, change.breaking) for change in compare(actual.product, product)]
    if any(detail.breaking for detail in details):
        details += [Detail(f"product '{r}' reads it", breaking=True) for r in consumers.get(product.name, ())]
    if actual.code_digest != code_digest:
        details.append(Detail("its transformations or checks changed"))
    if not details and actual.product.digest != product.digest:
        details.append(Detail("its document changed in wording"))
    if not details and actual.product.folder != product.folder:
        details.append(Detail(f"its folder is now {product.folder}"))
    if not details:
        return []
    version = f" to version {product.version}" if product.version != actual.product.version else ""
    sentence = f"update product '{product.name}'{version}"
    return [Step("update", "change", product.name, sentence, tuple(details))]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
