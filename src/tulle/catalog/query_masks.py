"""Saved requests as a page without sign-in may show them: what would name a person, or is restricted, is masked.

They may have been made from data. The rules are those of the query log; where it cannot be known what a value is of,
requests that were made from data show none, and those that somebody wrote by hand are shown as they were written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tulle.catalog.log_masks import ProductOf, shown_of
from tulle.catalog.masking import is_masked
from tulle.serving.declared import rows_of
from tulle.serving.log_rows import MASK, Shown
from tulle.serving.package import Package
from tulle.serving.service import Service
from tulle.spec.openapi_document import METHODS
from tulle.spec.product import DataProduct

_KEYED = {"predict", "lookup"}
_FROM_DATA = re.compile(
    r"[a-z][a-z0-9_]* [1-9][0-9]*"
)  # how queries are called that are made from a data set


def rules_of(
    chosen: Package | None, declared: Service | None, own: DataProduct | None, product_of: ProductOf
) -> Mapping[str, Shown]:
    """The rule of each endpoint: of a package, else by the products that a declaration reads."""
    if chosen is not None:
        return shown_of(chosen.manifest, product_of)
    if declared is None:
        return {}
    found = {}
    for spec in declared.endpoints:
        read = [own, *(product_of(rows.product) for rows in rows_of(spec) if rows.product)]
        hidden = {
            c.name
            for one in read
            if one
            for data_set in one.data_sets
            for c in data_set.columns
            if is_masked(c)
        }
        found[spec.name] = Shown(masked=frozenset(hidden), closed=None in read)
    return found


def masked_body(kind: str, rule: Shown | None, query: str, body: Any) -> Any:
    """The body of the saved request `query` of an endpoint of a kind; without a rule nothing of it may be known."""
    if rule is None or rule.closed:
        is_hidden = kind in _KEYED or _FROM_DATA.fullmatch(query) is not None
        return _without(body, None) if is_hidden else body
    return _without(body, rule.masked | rule.left_out)


def masked_document(
    document: Mapping[str, Any], rules: Mapping[str, Shown], kinds: Mapping[str, str]
) -> Mapping[str, Any]:
    """An OpenAPI document whose examples of requests are masked; `kinds` are those of the endpoints by name."""
    paths = document.get("paths")
    if not isinstance(paths, Mapping):
        return document
    found = {}
    for path, item in paths.items():
        endpoint = str(path).strip("/").partition("/")[0]
        if isinstance(item, Mapping) and endpoint in kinds:
            kind, rule = kinds[endpoint], rules.get(endpoint)
            found[path] = {
                key: _examples(one, kind, rule) if key in METHODS else one for key, one in item.items()
            }
        else:
            found[path] = item
    return {**document, "paths": found}


def _examples(part: Any, kind: str, rule: Shown | None) -> Any:
    """An operation, or a part of it, whose `examples` hold masked values."""
    if isinstance(part, list):
        return [_examples(one, kind, rule) for one in part]
    if not isinstance(part, Mapping):
        return part
    found = {}
    for name, value in part.items():
        if name == "examples" and isinstance(value, Mapping):
            found[name] = {key: _example(str(key), one, kind, rule) for key, one in value.items()}
        else:
            found[name] = _examples(value, kind, rule)
    return found


def _example(name: str, example: Any, kind: str, rule: Shown | None) -> Any:
    if not isinstance(example, Mapping) or "value" not in example:
        return example
    return {**example, "value": masked_body(kind, rule, name, example["value"])}


def _without(value: Any, hidden: frozenset[str] | None, name: str = "") -> Any:
    """A value in which what has a hidden name is masked; None hides whatever is no part of its form."""
    is_hidden = hidden is None or name in hidden
    if isinstance(value, Mapping) and (hidden is None or not is_hidden):
        return {key: _without(one, hidden, str(key)) for key, one in value.items()}
    if isinstance(value, list) and (hidden is None or not is_hidden):
        return [_without(one, hidden, name) for one in value]
    if value is None or not is_hidden:
        return value
    return MASK
