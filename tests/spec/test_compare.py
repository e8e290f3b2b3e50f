"""What changed between two versions of a product."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.spec.conftest import HEAD

from tulle.config import Settings
from tulle.spec.capability import builtin_registry, load_registry
from tulle.spec.compare import Change, compare
from tulle.spec.load import load_document
from tulle.spec.oam import read_product
from tulle.spec.product import DataProduct

DOCUMENT = (
    HEAD
    + """\
  - name: purchases
    type: data-set
    properties:
      description: One row a purchase
      columns:
      - {name: id, type: string, key: true, required: true}
      - {name: amount, type: 'decimal(10,2)', pii: none}
      - {name: note, type: string, tags: [free]}
  - {name: Log, type: input-port, properties: {description: x, source: {type: file, path: a.csv}, data_set: raw}}
  - {name: Files, type: output-port, properties: {description: x, protocol: files}}
  - {name: Daily, type: service-level-asset, properties: {description: x, dimension: Freshness}}
  - name: Daily measured
    type: service-level-indicator
    properties: {description: x, service_level_name: Daily, objective: 80, window_days: 20}
  - {name: Access, type: data-sharing-agreement, properties: {description: x, terms: t, expires: 2027-01-01}}
"""
)


def product(text: str) -> DataProduct:
    return read_product(load_document(text), builtin_registry())


def changes(old: str, new: str, text: str = DOCUMENT) -> list[Change]:
    assert old in text
    return list(compare(product(text), product(text.replace(old, new))))


def test_nothing_changed() -> None:
    assert compare(product(DOCUMENT), product("# a comment moves every line\n" + DOCUMENT)) == ()


def test_a_port_that_comes_to_its_end_is_told_in_words() -> None:
    ends = "protocol: files, deprecated: true, replaced_by: Other}"
    assert [c.sentence for c in changes("protocol: files}", ends)] == [
        "output-port files: it is deprecated",
        "output-port files: it is replaced by 'Other'",
    ]
    back = product(DOCUMENT.replace("protocol: files}", "protocol: files, deprecated: true}"))
    assert [c.sentence for c in compare(back, product(DOCUMENT))] == [
        "output-port files: it is not deprecated any more"
    ]


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("All purchases", "Every purchase", "product: the definition is reworded"),
        (
            "{definition:",
            "{data_product_owner: me, definition:",
            "product: the owner is 'me' (was not given)",
        ),
        ("{definition:", "{certified: 'Yes', definition:", "product: the certificate is yes (was no)"),
        ("{definition:", "{tags: [a, b], definition:", "product: the tags are a, b (were none)"),
        (
            "{definition:",
            "{classification: public, definition:",
            "product: the classification is 'public' (was 'internal')",
        ),
        ("name: sales", "name: trade", "product: the domain is 'trade' (was 'sales')"),
        (
            "tags: [free]",
            "tags: [free, text]",
            "data-set purchases: column note: the tags are free, text (were free)",
        ),
        ("path: a.csv", "path: b.csv", "input-port log: the source is changed"),
        ("source: {type: file, path: a.csv}, ", "", "input-port log: the source is removed"),
        (
            "dimension: Freshness",
            "dimension: Accuracy",
            "service-level-asset daily: the dimension is 'Accuracy' (was 'Freshness')",
        ),
        (
            "objective: 80",
            "objective: 90.5",
            "service-level-indicator daily-measured: the objective is 90.5 (was 80)",
        ),
        (
            "expires: 2027",
            "expires: 2028",
            "data-sharing-agreement access: the end is '2028-01-01' (was '2027-01-01')",
        ),
    ],
)
def test_changes_that_break_nobody(old: str, new: str, sentence: str) -> None:
    found = changes(old, new)
    assert sentence in [c.sentence for c in found]
    assert not any(c.breaking for c in found)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            "{definition:",
            "{classification: restricted, definition:",
            "product: the classification is 'restricted' (was 'internal')",
        ),
        (
            "type: 'decimal(10,2)'",
            "type: double",
            "data-set purchases: column amount: the type is 'double' (was 'decimal(10,2)')",
        ),
        (", required: true}", "}", "data-set purchases: column id now may be empty"),
        (
            "pii: none}",
            "required: true}",
            "data-set purchases: column amount now must have a value in every row",
        ),
        ("pii: none", "pii: direct", "data-set purchases: column amount: the pii is 'direct' (was 'none')"),
        ("name: amount", "name: total", "data-set purchases: column 'amount' is removed"),
        (", key: true", "", "data-set purchases: the key columns are none (were id)"),
        ("protocol: files", "protocol: sql", "output-port files: the protocol is 'sql' (was 'files')"),
        ("name: Files", "name: Other", "output-port 'files' is removed"),
        (
            "objective: 80",
            "objective: 70",
            "service-level-indicator daily-measured: the objective is 70 (was 80)",
        ),
        ("terms: t", "terms: u", "data-sharing-agreement access: the terms are reworded"),
        (
            "expires: 2027",
            "expires: 2026",
            "data-sharing-agreement access: the end is '2026-01-01' (was '2027-01-01')",
        ),
    ],
)
def test_breaking_changes(old: str, new: str, sentence: str) -> None:
    found = {c.sentence: c for c in changes(old, new)}
    assert found[sentence].breaking
    assert str(found[sentence]) == f"{sentence} (breaking)"


def test_added_parts_break_nobody() -> None:
    port = "  - {name: More, type: output-port, properties: {description: x}}\n"
    assert changes(DOCUMENT, DOCUMENT + port) == [
        Change("added", "output-port more", "output-port 'more' is added", breaking=False)
    ]
    column = "      - {name: note, type: string, tags: [free]}\n"
    (found,) = changes(column, column + "      - {name: more, type: date}\n")
    assert (found.kind, found.subject, found.breaking) == ("added", "data-set purchases: column more", False)


def test_a_removed_data_set_breaks() -> None:
    found = changes("name: purchases\n    type: data-set", "name: sold\n    type: data-set")
    assert [(c.kind, c.sentence, c.breaking) for c in found] == [
        ("removed", "data-set 'purchases' is removed", True),
        ("added", "data-set 'sold' is added", False),
        ("changed", "output-port files: the data_set is 'sold' (was 'purchases')", True),
    ]


@pytest.mark.parametrize("name", ["data_sets", "protocols", "formats"])
def test_what_a_port_no_longer_offers_breaks(name: str) -> None:
    before = product(DOCUMENT)

    def offering(*items: str) -> DataProduct:
        (port,) = before.output_ports
        return replace(before, output_ports=(replace(port, **{name: items}),))

    (fewer,) = compare(offering("a", "b"), offering("a"))
    assert (fewer.sentence, fewer.breaking) == (f"output-port files: the {name} are a (were a, b)", True)
    (more,) = compare(offering("a"), offering("b", "a"))
    assert (more.sentence, more.breaking) == (f"output-port files: the {name} are b, a (were a)", False)


def test_describing_columns_for_the_first_time_breaks_nobody() -> None:
    head, columns = DOCUMENT.split("      columns:\n")
    bare = product(head + columns[columns.index("  - {name: Log") :])
    described = product(DOCUMENT)
    assert not any(c.breaking for c in compare(bare, described))
    assert all(c.breaking for c in compare(described, bare) if c.kind == "removed")


def test_component_types_of_others(tmp_path: Path) -> None:
    folder = tmp_path / "capabilities"
    folder.mkdir()
    (folder / "jdbc.yaml").write_text(
        "capability: jdbc-port\nextends: output-port\ndescription: x\nproperties: {pool: {type: integer}}\n"
    )
    registry = load_registry(Settings(folder=tmp_path))
    text = HEAD + "  - {name: p, type: jdbc-port, properties: {description: x, pool: 5}}\n"
    old = read_product(load_document(text), registry)
    new = read_product(
        load_document(text.replace("5", "6").replace("{description: x", "{description: y")), registry
    )
    assert [c.sentence for c in compare(old, new)] == [
        "output-port p: the description is reworded",
        "jdbc-port p: 'pool' is changed",
    ]


AGREED = DOCUMENT.replace(
    "terms: t, expires: 2027-01-01}",
    "terms: t, expires: 2027-01-01, consumers: [ann, 'group:analysts', 'product:features'], notice_period: 3 months}",
)


def test_who_loses_an_agreement_is_told() -> None:
    without = AGREED[: AGREED.index("  - {name: Access")]
    (found,) = compare(product(AGREED), product(without))
    assert found == Change(
        "removed",
        "data-sharing-agreement access",
        "data-sharing-agreement 'access' is removed",
        breaking=True,
        agreed=("ann", "group:analysts", "product:features"),
    )
    assert found.agreement == "access"
    (ended,) = compare(product(AGREED), product(without), today="2027-01-02")
    assert not ended.breaking
    (ends_today,) = compare(product(AGREED), product(without), today="2027-01-01")
    assert ends_today.breaking


@pytest.mark.parametrize(
    ("new", "sentences", "agreed"),
    [
        (
            "consumers: ['product:features']",
            ["it is not made with ann, group:analysts any more"],
            ("ann", "group:analysts"),
        ),
        (
            "consumers: [bob, 'group:analysts', 'product:features']",
            ["it is not made with ann any more", "it is made with bob too"],
            ("ann",),
        ),
        (
            "tags_: x",
            ["the consumers are none (were ann, group:analysts, product:features)"],
            ("ann", "group:analysts", "product:features"),
        ),
    ],
)
def test_a_consumer_who_is_dropped_is_broken(new: str, sentences: list[str], agreed: tuple[str, ...]) -> None:
    old = "consumers: [ann, 'group:analysts', 'product:features']"
    text = AGREED.replace(old + ", ", "" if new == "tags_: x" else new + ", ")
    found = compare(product(AGREED), product(text))
    assert [c.sentence.removeprefix("data-sharing-agreement access: ") for c in found] == sentences
    assert found[0].breaking
    assert found[0].agreed == agreed
    assert not any(c.breaking for c in found[1:])
    assert not any(c.breaking for c in compare(product(text), product(AGREED)) if "too" in c.sentence)


@pytest.mark.parametrize(
    ("period", "breaking"),
    [("2 months", True), ("6 hours", True), ("", True), ("14 weeks", False), ("1 year", False)],
)
def test_a_shorter_notice_breaks(period: str, breaking: bool) -> None:
    text = AGREED.replace(", notice_period: 3 months", f", notice_period: {period}" if period else "")
    (found,) = compare(product(AGREED), product(text))
    assert found.sentence == (
        f"data-sharing-agreement access: the notice period is {repr(period) if period else 'not given'} (was '3 months')"
    )
    assert (found.breaking, found.agreed) == (breaking, ("ann", "group:analysts", "product:features"))
